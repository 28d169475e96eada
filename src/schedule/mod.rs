//! Noise schedules: betas, timesteps and noise levels. Numbers only, no tensors.
//!
//! [`schedule`] turns a model's `scheduler_config.json` ([`SchedulerConfig`]), a sampler and a step
//! count into the noise levels that the sampler walks down. The levels are those of the sampler's
//! class in diffusers 0.42.1, and each class has a grid of its own: "linspace" is N fractional points
//! for Euler, N rounded ones for DDIM, and N + 1 without the last for DPM-Solver and UniPC.

mod config;
mod noise_table;
mod numpy;

pub use config::{
    AlgorithmType, BetaSchedule, CLASSES, FinalSigmas, PredictionType, SchedulerConfig, SolverType,
    TimestepSpacing,
};

use config::ClassDefaults;
use noise_table::{NoiseTable, exponential, karras};
use numpy::Grid;

use crate::error::{Error, Result};
use crate::request::{SamplerId, ScheduleId};

/// One noise level: `x = alpha * x0 + sigma * noise`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct NoiseLevel {
    pub alpha: f64,
    pub sigma: f64,
    /// What the model receives.
    pub timestep: f64,
}

impl NoiseLevel {
    /// What `x` is divided by before the network sees it (diffusers' `scale_model_input`): 1 in the
    /// variance-preserving space, up to rounding.
    pub fn input_scale(self) -> f64 {
        self.alpha.hypot(self.sigma)
    }

    /// Half the logarithm of the signal-to-noise ratio; infinite for the finished picture.
    pub fn lambda(self) -> f64 {
        self.alpha.ln() - self.sigma.ln()
    }

    /// A level of the space that Euler works in, `x0 + sigma * noise`.
    fn with_alpha_one(sigma: f64, timestep: f64) -> Self {
        Self {
            alpha: 1.0,
            // The f32 values that torch holds.
            sigma: f64::from(sigma as f32),
            timestep: f64::from(timestep as f32),
        }
    }

    /// A level with `alpha^2 + sigma^2 = 1`, from the ratio of the two.
    fn variance_preserving(sigma_over_alpha: f64, timestep: f64) -> Self {
        let ratio = f64::from(sigma_over_alpha as f32);
        let alpha = 1.0 / ratio.hypot(1.0);
        Self {
            alpha,
            sigma: ratio * alpha,
            timestep,
        }
    }

    /// A level with `alpha^2 + sigma^2 = 1`, from the product of the training alphas.
    fn from_alpha_cumprod(alpha_cumprod: f32, timestep: f64) -> Self {
        Self {
            alpha: f64::from(alpha_cumprod).sqrt(),
            sigma: f64::from(1.0 - alpha_cumprod).sqrt(),
            timestep,
        }
    }
}

/// The noise levels of one drawing, and how its sampler is set up.
#[derive(Clone, Debug, PartialEq)]
pub struct Schedule {
    /// Noisiest first; the last one is the finished picture (its sigma is 0 for most schedules).
    pub levels: Vec<NoiseLevel>,
    /// Where each step ends by the sampler's own reckoning; one fewer than `levels`. The next level,
    /// except for DDIM: it goes down by `num_train_timesteps / steps` whole training steps, which
    /// need not be where the grid goes on.
    pub landings: Vec<NoiseLevel>,
    /// What standard normal noise is multiplied by to begin.
    pub init_noise_sigma: f64,
    pub settings: SamplerSettings,
}

impl Schedule {
    /// Every step as its index, the level it begins at and the one it ends at.
    pub fn steps(&self) -> impl Iterator<Item = (usize, NoiseLevel, NoiseLevel)> {
        let pairs = self.levels.iter().zip(&self.landings);
        pairs
            .enumerate()
            .map(|(index, (from, to))| (index, *from, *to))
    }

    /// How many steps there are.
    pub fn step_count(&self) -> usize {
        self.landings.len()
    }
}

/// What of a scheduler config the samplers themselves read, with the defaults of their classes.
#[derive(Clone, Debug, PartialEq)]
pub struct SamplerSettings {
    /// What is done to the foreseen picture before it is used.
    pub clamp: Clamp,
    /// Order of the multistep solvers.
    pub solver_order: usize,
    pub solver_type: SolverType,
    /// Lower the order at the end: DPM-Solver for fewer than 15 steps, UniPC always.
    pub lower_order_final: bool,
    /// DPM-Solver: take the last step as plain Euler would.
    pub euler_at_final: bool,
    /// UniPC: the steps after which nothing is corrected.
    pub disable_corrector: Vec<usize>,
    /// LCM: how fast its boundary condition fades.
    pub timestep_scaling: f64,
}

/// How a foreseen picture is kept in range. Meant for models over pixels.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Clamp {
    None,
    /// Cut to `-range..range` (`clip_sample`).
    Range(f64),
    /// Imagen's dynamic thresholding (2205.11487, section 2.3): each picture is cut at this quantile
    /// of its magnitudes, where that is between 1 and `max`, and divided by it.
    Dynamic {
        ratio: f64,
        max: f64,
    },
}

/// The noise levels that `sampler` visits in `steps` steps, for a model with this config.
///
/// Errors: [`Error::Request`] if there are too many steps for the schedule (or none), or if the model
/// predicts noise and the schedule begins where there is nothing else; [`Error::Model`] if the config
/// asks this sampler for something that is not supported.
pub fn schedule(
    config: &SchedulerConfig,
    sampler: SamplerId,
    schedule: ScheduleId,
    steps: usize,
) -> Result<Schedule> {
    let most = config.num_train_timesteps();
    if !(1..=most).contains(&steps) {
        return Err(Error::Request(format!(
            "{steps} steps cannot be drawn: this model takes 1 to {most}"
        )));
    }
    let walk = Walk {
        table: NoiseTable::new(config, sampler)?,
        spread: Spread::new(config, sampler, schedule)?,
        config,
        sampler,
        schedule,
        steps,
    };
    let (levels, landings) = match sampler {
        SamplerId::Euler | SamplerId::EulerA | SamplerId::Heun => walk.with_alpha_one(),
        SamplerId::DpmPp2m | SamplerId::DpmPp2mSde | SamplerId::UniPc => walk.multistep(),
        SamplerId::Ddim => walk.ddim(),
        SamplerId::Lcm => walk.lcm(),
    }?;
    walk.check(&levels)?;
    walk.warn();
    Ok(Schedule {
        init_noise_sigma: walk.init_noise_sigma(&levels),
        settings: sampler_settings(config, sampler)?,
        levels,
        landings,
    })
}

/// How sigmas are spread between the noisiest and the cleanest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sigmas {
    /// Those of the visited training steps.
    OfTimesteps,
    Karras,
    Exponential,
    /// Even in lambda (2206.00927); the numbers of `Exponential`, but DPM-Solver rounds its timesteps.
    Lu,
}

/// How the steps are spread: the timesteps, and the sigmas if they do not follow from those.
#[derive(Clone, Copy, Debug)]
struct Spread {
    spacing: TimestepSpacing,
    sigmas: Sigmas,
}

impl Spread {
    fn new(config: &SchedulerConfig, sampler: SamplerId, schedule: ScheduleId) -> Result<Self> {
        let own = config
            .timestep_spacing
            .unwrap_or(ClassDefaults::of(sampler).timestep_spacing);
        let (spacing, sigmas) = match schedule {
            ScheduleId::Model => (own, Self::own_sigmas(config, sampler)?),
            ScheduleId::Karras => (own, Sigmas::Karras),
            ScheduleId::Exponential => (own, Sigmas::Exponential),
            ScheduleId::Trailing => (TimestepSpacing::Trailing, Sigmas::OfTimesteps),
            ScheduleId::Leading => (TimestepSpacing::Leading, Sigmas::OfTimesteps),
            ScheduleId::Linspace => (TimestepSpacing::Linspace, Sigmas::OfTimesteps),
        };
        Ok(Self { spacing, sigmas })
    }

    /// What the `use_*_sigmas` keys say, for the classes that have them.
    fn own_sigmas(config: &SchedulerConfig, sampler: SamplerId) -> Result<Sigmas> {
        match sampler {
            SamplerId::Ddim | SamplerId::Lcm | SamplerId::EulerA => return Ok(Sigmas::OfTimesteps),
            SamplerId::Euler
            | SamplerId::Heun
            | SamplerId::DpmPp2m
            | SamplerId::DpmPp2mSde
            | SamplerId::UniPc => {}
        }
        let dpm_solver = matches!(sampler, SamplerId::DpmPp2m | SamplerId::DpmPp2mSde);
        let lu = config.use_lu_lambdas && dpm_solver;
        match (config.use_karras_sigmas, config.use_exponential_sigmas) {
            _ if config.use_beta_sigmas => Err(unsupported(
                "use_beta_sigmas is true: choose another schedule for this model",
            )),
            (true, true) => Err(unsupported(
                "use_karras_sigmas and use_exponential_sigmas are both true: choose a schedule",
            )),
            (true, false) => Ok(Sigmas::Karras),
            (false, _) if lu => Ok(Sigmas::Lu),
            (false, true) => Ok(Sigmas::Exponential),
            (false, false) => Ok(Sigmas::OfTimesteps),
        }
    }
}

fn unsupported(why: &str) -> Error {
    Error::model("scheduler_config.json", why)
}

/// Levels, and where each step lands.
type Levels = (Vec<NoiseLevel>, Vec<NoiseLevel>);

/// Everything that decides the levels of one drawing.
struct Walk<'a> {
    config: &'a SchedulerConfig,
    table: NoiseTable,
    spread: Spread,
    sampler: SamplerId,
    schedule: ScheduleId,
    steps: usize,
}

impl Walk<'_> {
    fn grid(&self) -> Grid {
        Grid {
            spacing: self.spread.spacing,
            train_steps: self.config.num_train_timesteps(),
            steps_offset: self.config.steps_offset,
        }
    }

    /// Sigmas between `max` and `min` (unless the config says other ends) with their timesteps.
    /// `None`: they follow from the timesteps.
    fn spread_sigmas(&self, max: f64, min: f64) -> Option<Vec<(f64, f64)>> {
        let max = self.config.sigma_max.unwrap_or(max);
        let min = self.config.sigma_min.unwrap_or(min);
        let sigmas = match self.spread.sigmas {
            Sigmas::OfTimesteps => return None,
            Sigmas::Karras => karras(max, min, self.steps),
            Sigmas::Exponential | Sigmas::Lu => exponential(max, min, self.steps),
        };
        let with_timestep = |sigma| (sigma, self.table.timestep_of(sigma));
        Some(sigmas.into_iter().map(with_timestep).collect())
    }

    /// The ends of the whole table of sigmas, noisiest first.
    fn sigma_range(&self) -> (f64, f64) {
        let sigma_of = |sigma: Option<&f32>| sigma.copied().map_or(0.0, f64::from);
        (
            sigma_of(self.table.sigmas.last()),
            sigma_of(self.table.sigmas.first()),
        )
    }

    /// Euler, Euler a and Heun: fractional timesteps; Karras and exponential run between the first
    /// and the last sigma of the grid. EulerAncestralDiscreteScheduler knows neither of those two;
    /// k-diffusion's formulas are the same as Euler's, and used for it too.
    fn with_alpha_one(&self) -> Result<Levels> {
        let timesteps = self.grid().fractional(self.steps);
        let sigmas_at = |timestep: &f64| (self.table.sigma_at(*timestep), *timestep);
        let of_grid: Vec<(f64, f64)> = timesteps.iter().map(sigmas_at).collect();
        let end = |pair: Option<&(f64, f64)>| pair.map_or(0.0, |pair| pair.0);
        let pairs = self
            .spread_sigmas(end(of_grid.first()), end(of_grid.last()))
            .unwrap_or(of_grid);
        // Euler a and Heun always end at zero.
        let sigma_last = match (self.sampler, self.config.final_sigmas_type) {
            (SamplerId::Euler, FinalSigmas::SigmaMin) => self.sigma_range().1,
            _ => 0.0,
        };
        let levels = pairs.iter().copied().chain([(sigma_last, 0.0)]);
        Ok(consecutive(levels.map(|(sigma, timestep)| {
            NoiseLevel::with_alpha_one(sigma, timestep)
        })))
    }

    /// DPM-Solver and UniPC: whole timesteps, sigmas over the whole table.
    fn multistep(&self) -> Result<Levels> {
        let unipc = self.sampler == SamplerId::UniPc;
        let (max, min) = self.sigma_range();
        let spread = self.spread_sigmas(max, min);
        // UniPC ends a spread of its own at its last sigma again, DPM-Solver at the table's first.
        let sigma_min = match &spread {
            Some(pairs) if unipc => pairs.last().map_or(min, |pair| pair.0),
            _ => min,
        };
        let cosine = self.config.beta_schedule == Some(BetaSchedule::SquaredcosCapV2);
        let pairs = match spread {
            Some(pairs) => {
                // Both round the timesteps of Karras sigmas, DPM-Solver not under a cosine schedule;
                // what is not rounded is cut down to a whole number.
                let round = self.spread.sigmas != Sigmas::Exponential && (unipc || !cosine);
                let whole = |t: f64| {
                    if round {
                        t.round_ties_even()
                    } else {
                        t.trunc()
                    }
                };
                pairs.iter().map(|(sigma, t)| (*sigma, whole(*t))).collect()
            }
            None => {
                let highest = if unipc {
                    self.table.sigmas.len()
                } else {
                    self.highest_timestep()
                };
                let timesteps = self.grid().without_end(self.steps, highest);
                let pair = |timestep| (self.table.sigma_at(timestep), timestep);
                timesteps.into_iter().map(pair).collect::<Vec<_>>()
            }
        };
        let sigma_last = match self.config.final_sigmas_type {
            FinalSigmas::SigmaMin => sigma_min,
            FinalSigmas::Zero => 0.0,
        };
        let levels = pairs.into_iter().chain([(sigma_last, 0.0)]);
        Ok(consecutive(levels.map(|(sigma, timestep)| {
            NoiseLevel::variance_preserving(sigma, timestep)
        })))
    }

    /// How many training steps have a lambda of at least `lambda_min_clipped`.
    fn highest_timestep(&self) -> usize {
        let Some(clip) = self.config.lambda_min_clipped else {
            return self.table.sigmas.len();
        };
        let kept = |sigma: &&f32| -f64::from(sigma.ln()) >= clip;
        self.table.sigmas.iter().filter(kept).count()
    }

    /// DDIM: every step goes down by the same whole number of training steps.
    fn ddim(&self) -> Result<Levels> {
        if let Some(levels) = self.without_class() {
            return Ok(levels);
        }
        let stride = (self.config.num_train_timesteps() / self.steps) as f64;
        let timesteps = self.grid().whole(self.steps);
        let mut levels = Vec::with_capacity(self.steps + 1);
        let mut landings = Vec::with_capacity(self.steps);
        for timestep in timesteps {
            levels.push(self.trained_level(timestep)?);
            landings.push(match timestep - stride {
                previous if previous >= 0.0 => self.trained_level(previous)?,
                _ => self.final_level(),
            });
        }
        levels.extend(landings.last().copied());
        Ok((levels, landings))
    }

    /// LCM: N of the `original_inference_steps` timesteps that it was distilled on.
    ///
    /// LCMScheduler knows no other spacing; those asked for by name are DDIM's.
    fn lcm(&self) -> Result<Levels> {
        if let Some(levels) = self.without_class() {
            return Ok(levels);
        }
        let timesteps = match self.schedule {
            ScheduleId::Model | ScheduleId::Karras | ScheduleId::Exponential => {
                self.lcm_timesteps()?
            }
            ScheduleId::Trailing | ScheduleId::Leading | ScheduleId::Linspace => {
                self.grid().whole(self.steps)
            }
        };
        let mut levels = Vec::with_capacity(self.steps + 1);
        for timestep in timesteps {
            levels.push(self.trained_level(timestep)?);
        }
        levels.push(NoiseLevel::variance_preserving(0.0, 0.0));
        Ok(consecutive(levels.into_iter()))
    }

    fn lcm_timesteps(&self) -> Result<Vec<f64>> {
        let original = self.config.original_inference_steps.unwrap_or(50);
        let train_steps = self.config.num_train_timesteps();
        if !(1..=train_steps).contains(&original) {
            return Err(unsupported(&format!(
                "original_inference_steps is {original}: it must be 1 to {train_steps}"
            )));
        }
        if self.steps > original {
            return Err(Error::Request(format!(
                "LCM draws this model in at most {original} steps, not {}",
                self.steps
            )));
        }
        let stride = train_steps / original;
        let share = original as f64 / self.steps as f64;
        Ok((0..self.steps)
            .map(|i| (i as f64 * share).floor() as usize)
            .map(|skipped| ((original - skipped) * stride - 1) as f64)
            .collect())
    }

    /// Karras and exponential for DDIM and LCM, whose classes have neither: k-diffusion's
    /// `get_sigmas_karras` and `get_sigmas_exponential` over the whole table, with the fractional
    /// timestep of each sigma.
    fn without_class(&self) -> Option<Levels> {
        let (max, min) = self.sigma_range();
        let pairs = self.spread_sigmas(max, min)?;
        let levels = pairs
            .into_iter()
            .map(|(sigma, timestep)| NoiseLevel::variance_preserving(sigma, timestep))
            .chain([NoiseLevel::variance_preserving(0.0, 0.0)]);
        Some(consecutive(levels))
    }

    /// The level of one whole training step.
    fn trained_level(&self, timestep: f64) -> Result<NoiseLevel> {
        let alpha_cumprod = self.table.alphas_cumprod.get(timestep as usize);
        let level = alpha_cumprod.map(|a| NoiseLevel::from_alpha_cumprod(*a, timestep));
        level.ok_or_else(|| self.too_many_steps())
    }

    /// Where DDIM's last step ends when it goes below the first training step.
    fn final_level(&self) -> NoiseLevel {
        let first = self.table.alphas_cumprod.first().copied().unwrap_or(1.0);
        match self.config.set_alpha_to_one {
            None | Some(true) => NoiseLevel::from_alpha_cumprod(1.0, 0.0),
            Some(false) => NoiseLevel::from_alpha_cumprod(first, 0.0),
        }
    }

    /// What pure noise is multiplied by. In the space where alpha is 1, diffusers adds the share of
    /// the picture that "leading" never removes from its first level.
    fn init_noise_sigma(&self, levels: &[NoiseLevel]) -> f64 {
        let sigma = levels.first().map_or(1.0, |level| level.sigma);
        match self.sampler {
            SamplerId::Euler | SamplerId::EulerA | SamplerId::Heun => match self.spread.spacing {
                TimestepSpacing::Linspace | TimestepSpacing::Trailing => sigma,
                TimestepSpacing::Leading => sigma.hypot(1.0),
            },
            SamplerId::Ddim
            | SamplerId::DpmPp2m
            | SamplerId::DpmPp2mSde
            | SamplerId::UniPc
            | SamplerId::Lcm => 1.0,
        }
    }

    fn too_many_steps(&self) -> Error {
        Error::Request(format!(
            "{} steps are too many for the {} schedule of this model",
            self.steps,
            self.schedule.info().label
        ))
    }

    /// Says in the log where diffusers' class, and so Easel, leaves aside what the model's file asks.
    fn warn(&self) {
        let label = self.sampler.info().label;
        if self.sampler == SamplerId::Heun && self.config.rescale_betas_zero_snr {
            log::warn!("{label} does not know rescale_betas_zero_snr, which this model asks for");
        }
        let dpm_solver = matches!(self.sampler, SamplerId::DpmPp2m | SamplerId::DpmPp2mSde);
        if dpm_solver && self.config.solver_order > Some(2) {
            log::warn!("{label} is of order 2; this model's scheduler_config.json asks for 3");
        }
    }

    /// Every step must remove noise, except the last, which may have none left to remove
    /// (`final_sigmas_type` "sigma_min").
    fn check(&self, levels: &[NoiseLevel]) -> Result<()> {
        let ratio = |level: &NoiseLevel| level.sigma / level.alpha;
        let visited = &levels[..levels.len().saturating_sub(1)];
        if visited
            .windows(2)
            .any(|pair| ratio(&pair[0]) <= ratio(&pair[1]))
        {
            return Err(self.too_many_steps());
        }
        let pure_noise = visited.first().is_some_and(|level| level.alpha == 0.0);
        if pure_noise && self.config.prediction_type == PredictionType::Epsilon {
            return Err(Error::Request(format!(
                "{} cannot draw this model from pure noise (it predicts noise): choose another \
                 sampler, or the schedule {}",
                self.sampler.info().label,
                ScheduleId::Leading.info().label
            )));
        }
        Ok(())
    }
}

/// Steps that end where the next begins.
fn consecutive(levels: impl Iterator<Item = NoiseLevel>) -> Levels {
    let levels: Vec<NoiseLevel> = levels.collect();
    let landings = levels.iter().skip(1).copied().collect();
    (levels, landings)
}

fn sampler_settings(config: &SchedulerConfig, sampler: SamplerId) -> Result<SamplerSettings> {
    if sampler == SamplerId::UniPc && config.predict_x0 == Some(false) {
        return Err(unsupported("predict_x0 is false: choose another sampler"));
    }
    if sampler == SamplerId::Euler {
        let continuous = config.timestep_type.as_deref() == Some("continuous");
        if continuous && config.prediction_type == PredictionType::VPrediction {
            return Err(unsupported(
                "timestep_type is continuous: choose another sampler",
            ));
        }
        if let Some(kind) = config.interpolation_type.as_deref()
            && kind != "linear"
        {
            return Err(unsupported(&format!(
                "interpolation_type is {kind}: choose another sampler"
            )));
        }
    }
    Ok(SamplerSettings {
        clamp: clamp(config, sampler),
        solver_order: solver_order(config, sampler),
        solver_type: solver_type(config, sampler),
        lower_order_final: config.lower_order_final.unwrap_or(true),
        euler_at_final: config.euler_at_final,
        disable_corrector: config.disable_corrector.clone(),
        timestep_scaling: config.timestep_scaling.unwrap_or(10.0),
    })
}

/// Which of `thresholding` and `clip_sample` diffusers' class of the sampler knows.
fn clamp(config: &SchedulerConfig, sampler: SamplerId) -> Clamp {
    let clips = config
        .clip_sample
        .unwrap_or(ClassDefaults::of(sampler).clip_sample);
    let range = Clamp::Range(config.clip_sample_range.unwrap_or(1.0));
    let dynamic = Clamp::Dynamic {
        ratio: config.dynamic_thresholding_ratio.unwrap_or(0.995),
        max: config.sample_max_value.unwrap_or(1.0),
    };
    match sampler {
        SamplerId::Ddim | SamplerId::Lcm if config.thresholding => dynamic,
        SamplerId::Ddim | SamplerId::Lcm | SamplerId::Heun if clips => range,
        SamplerId::DpmPp2m | SamplerId::DpmPp2mSde | SamplerId::UniPc if config.thresholding => {
            dynamic
        }
        _ => Clamp::None,
    }
}

/// "2M" is of order two by its name: a config that asks DPM-Solver for three gets two.
fn solver_order(config: &SchedulerConfig, sampler: SamplerId) -> usize {
    let order = config.solver_order.unwrap_or(2);
    match sampler {
        SamplerId::DpmPp2m | SamplerId::DpmPp2mSde => order.min(2),
        _ => order,
    }
}

/// The solver's variant; the names of other solvers' variants mean the class's own default.
fn solver_type(config: &SchedulerConfig, sampler: SamplerId) -> SolverType {
    match (sampler, config.solver_type) {
        (SamplerId::UniPc, Some(SolverType::Bh1)) => SolverType::Bh1,
        (SamplerId::UniPc, _) => SolverType::Bh2,
        (_, Some(SolverType::Heun)) => SolverType::Heun,
        _ => SolverType::Midpoint,
    }
}
