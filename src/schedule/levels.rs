//! Which noise levels a sampler visits: the grids of diffusers' classes, one function a class.
//! Source: diffusers 0.42.1, `set_timesteps` of its schedulers.

use super::config::{
    BetaSchedule, ClassDefaults, FinalSigmas, PredictionType, SchedulerConfig, TimestepSpacing,
};
use super::noise_table::{NoiseTable, exponential, karras};
use super::numpy::Grid;
use super::{NoiseLevel, unsupported};
use crate::error::{Error, Result};
use crate::request::{SamplerId, ScheduleId};

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
pub(super) struct Spread {
    spacing: TimestepSpacing,
    sigmas: Sigmas,
}

impl Spread {
    pub(super) fn new(
        config: &SchedulerConfig,
        sampler: SamplerId,
        schedule: ScheduleId,
    ) -> Result<Self> {
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

/// Levels, and where each step lands.
pub(super) type Levels = (Vec<NoiseLevel>, Vec<NoiseLevel>);

/// Everything that decides the levels of one drawing.
pub(super) struct Walk<'a> {
    pub config: &'a SchedulerConfig,
    pub table: NoiseTable,
    pub spread: Spread,
    pub sampler: SamplerId,
    pub schedule: ScheduleId,
    pub steps: usize,
}

impl Walk<'_> {
    /// The levels, and where each step lands.
    pub(super) fn levels(&self) -> Result<Levels> {
        match self.sampler {
            SamplerId::Euler | SamplerId::EulerA | SamplerId::Heun => Ok(self.with_alpha_one()),
            SamplerId::DpmPp2m | SamplerId::DpmPp2mSde | SamplerId::UniPc => Ok(self.multistep()),
            SamplerId::Ddim => self.ddim(),
            SamplerId::Lcm => self.lcm(),
        }
    }

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
    fn with_alpha_one(&self) -> Levels {
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
        consecutive(levels.map(|(sigma, timestep)| NoiseLevel::with_alpha_one(sigma, timestep)))
    }

    /// DPM-Solver and UniPC: whole timesteps, sigmas over the whole table.
    fn multistep(&self) -> Levels {
        let unipc = self.sampler == SamplerId::UniPc;
        let (max, min) = self.sigma_range();
        let (pairs, sigma_min) = match self.spread_sigmas(max, min) {
            Some(pairs) => {
                let whole = |(sigma, timestep)| (sigma, self.whole_timestep(timestep));
                let pairs: Vec<(f64, f64)> = pairs.into_iter().map(whole).collect();
                // DPM-Solver ends at the table's first sigma, UniPC at its last one once more.
                let last = pairs.last().map_or(min, |pair| pair.0);
                (pairs, if unipc { last } else { min })
            }
            None => {
                let timesteps = self.grid().without_end(self.steps, self.highest_timestep());
                let pair = |timestep| (self.table.sigma_at(timestep), timestep);
                (timesteps.into_iter().map(pair).collect(), min)
            }
        };
        let sigma_last = match self.config.final_sigmas_type {
            FinalSigmas::SigmaMin => sigma_min,
            FinalSigmas::Zero => 0.0,
        };
        let levels = pairs.into_iter().chain([(sigma_last, 0.0)]);
        consecutive(
            levels.map(|(sigma, timestep)| NoiseLevel::variance_preserving(sigma, timestep)),
        )
    }

    /// The whole timestep that DPM-Solver and UniPC give a sigma of their own. Both round Karras's,
    /// DPM-Solver not under a cosine schedule; what is not rounded loses its fraction.
    fn whole_timestep(&self, timestep: f64) -> f64 {
        let unipc = self.sampler == SamplerId::UniPc;
        let cosine = self.config.beta_schedule == Some(BetaSchedule::SquaredcosCapV2);
        match self.spread.sigmas {
            Sigmas::Karras | Sigmas::Lu if unipc || !cosine => timestep.round_ties_even(),
            _ => timestep.trunc(),
        }
    }

    /// How many training steps have a lambda of at least `lambda_min_clipped`, a key of DPM-Solver's.
    fn highest_timestep(&self) -> usize {
        let all = self.table.sigmas.len();
        let clip = match (self.sampler, self.config.lambda_min_clipped) {
            (SamplerId::UniPc, _) | (_, None) => return all,
            (_, Some(clip)) => clip,
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
    pub(super) fn init_noise_sigma(&self, levels: &[NoiseLevel]) -> f64 {
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
    pub(super) fn warn(&self) {
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
    pub(super) fn check(&self, levels: &[NoiseLevel]) -> Result<()> {
        let ratio = |level: &NoiseLevel| level.sigma / level.alpha;
        let visited = &levels[..levels.len().saturating_sub(1)];
        if visited.is_empty()
            || visited
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
