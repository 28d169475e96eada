//! Which noise levels a sampler visits: the grids of diffusers' classes, one function a class.
//! Source: diffusers 0.42.1, `set_timesteps` of its schedulers.

use super::config::{
    BetaSchedule, ClassDefaults, FinalSigmas, Kind, PredictionType, SchedulerConfig,
    TimestepSpacing, is_dpm_solver,
};
use super::noise_table::{NoiseTable, knows_zero_snr};
use super::numpy::Grid;
use super::sigmas::{self, Sigmas};
use super::{NoiseLevel, unsupported};
use crate::error::{Error, Result};
use crate::request::{SamplerId, ScheduleId, Tuning};

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
            ScheduleId::Model | ScheduleId::Automatic => (own, Self::own_sigmas(config, sampler)?),
            ScheduleId::Trailing => (TimestepSpacing::Trailing, Sigmas::OfTimesteps),
            ScheduleId::Leading => (TimestepSpacing::Leading, Sigmas::OfTimesteps),
            ScheduleId::Linspace => (TimestepSpacing::Linspace, Sigmas::OfTimesteps),
            ScheduleId::Karras => (own, Sigmas::Karras),
            ScheduleId::Exponential => (own, Sigmas::Exponential),
            ScheduleId::Beta => (own, Sigmas::Beta),
            ScheduleId::Polyexponential => (own, Sigmas::Polyexponential),
            ScheduleId::SgmUniform => (own, Sigmas::SgmUniform),
            ScheduleId::Simple => (own, Sigmas::Simple),
            ScheduleId::Normal => (own, Sigmas::Normal),
            ScheduleId::DdimUniform => (own, Sigmas::DdimUniform),
            ScheduleId::AlignYourSteps => (own, Sigmas::AlignYourSteps(&sigmas::AYS_SD1)),
            ScheduleId::AlignYourStepsXl => (own, Sigmas::AlignYourSteps(&sigmas::AYS_SDXL)),
            ScheduleId::KlOptimal => (own, Sigmas::KlOptimal),
            ScheduleId::LinearQuadratic => (own, Sigmas::LinearQuadratic),
        };
        Ok(Self { spacing, sigmas })
    }

    /// What the `use_*_sigmas` keys say, for the classes that have them.
    fn own_sigmas(config: &SchedulerConfig, sampler: SamplerId) -> Result<Sigmas> {
        let without = matches!(Kind::of(sampler), Kind::Trained | Kind::Distilled);
        if without || sampler == SamplerId::EulerA {
            return Ok(Sigmas::OfTimesteps);
        }
        let lu = config.use_lu_lambdas && is_dpm_solver(sampler);
        let named = [
            (config.use_karras_sigmas, Sigmas::Karras),
            (lu, Sigmas::Lu),
            (config.use_exponential_sigmas, Sigmas::Exponential),
            (config.use_beta_sigmas, Sigmas::Beta),
        ];
        let asked = [
            config.use_karras_sigmas,
            config.use_exponential_sigmas,
            config.use_beta_sigmas,
        ];
        if asked.into_iter().filter(|asked| *asked).count() > 1 {
            return Err(unsupported(
                "more than one of use_karras_sigmas, use_exponential_sigmas and use_beta_sigmas is \
                 true: choose a schedule",
            ));
        }
        let found = named.into_iter().find(|(asked, _)| *asked);
        Ok(found.map_or(Sigmas::OfTimesteps, |(_, sigmas)| sigmas))
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
    pub tuning: &'a Tuning,
}

impl Walk<'_> {
    /// The levels, and where each step lands.
    pub(super) fn levels(&self) -> Result<Levels> {
        if let Some(levels) = self.without_class() {
            return Ok(levels);
        }
        match Kind::of(self.sampler) {
            Kind::AlphaOne => Ok(self.with_alpha_one()),
            Kind::Multistep => Ok(self.multistep()),
            Kind::Trained if self.sampler == SamplerId::Ddpm => self.trained(self.whole_grid()),
            Kind::Trained => self.ddim(),
            Kind::Distilled => self.distilled(),
        }
    }

    fn grid(&self) -> Grid {
        Grid {
            spacing: self.spread.spacing,
            train_steps: self.config.num_train_timesteps(),
            steps_offset: self.config.steps_offset,
        }
    }

    fn whole_grid(&self) -> Vec<f64> {
        self.grid().whole(self.steps)
    }

    /// Sigmas between `max` and `min` (unless the config or the person says other ends) with their
    /// timesteps. `None`: they follow from the timesteps.
    fn spread_sigmas(&self, max: f64, min: f64) -> Option<Vec<(f64, f64)>> {
        let (max, min) = self.ends(max, min);
        let sigmas =
            self.spread
                .sigmas
                .between(max, min, self.steps, &self.table, self.tuning.rho)?;
        let with_timestep = |sigma| (sigma, self.table.timestep_of(sigma));
        Some(sigmas.into_iter().map(with_timestep).collect())
    }

    fn ends(&self, max: f64, min: f64) -> (f64, f64) {
        let said = |said: Option<f64>, config: Option<f64>| said.or(config);
        (
            said(self.tuning.sigma_max, self.config.sigma_max).unwrap_or(max),
            said(self.tuning.sigma_min, self.config.sigma_min).unwrap_or(min),
        )
    }

    /// The ends of the whole table of sigmas, noisiest first.
    fn sigma_range(&self) -> (f64, f64) {
        let sigma_of = |sigma: Option<&f32>| sigma.copied().map_or(0.0, f64::from);
        (
            sigma_of(self.table.sigmas.last()),
            sigma_of(self.table.sigmas.first()),
        )
    }

    /// Fractional timesteps; Karras and its like run between the first and the last sigma of the
    /// grid. EulerAncestralDiscreteScheduler knows none of those; k-diffusion's formulas are the same as
    /// Euler's, and used for it too.
    fn with_alpha_one(&self) -> Levels {
        let timesteps = self.grid().fractional(self.steps);
        let sigmas_at = |timestep: &f64| (self.table.sigma_at(*timestep), *timestep);
        let of_grid: Vec<(f64, f64)> = timesteps.iter().map(sigmas_at).collect();
        let end = |pair: Option<&(f64, f64)>| pair.map_or(0.0, |pair| pair.0);
        let pairs = self
            .spread_sigmas(end(of_grid.first()), end(of_grid.last()))
            .unwrap_or(of_grid);
        let rounds = matches!(self.sampler, SamplerId::Dpm2 | SamplerId::Dpm2A)
            && self.spread.sigmas == Sigmas::Karras;
        let whole = |timestep: f64| match rounds {
            true => timestep.round_ties_even(),
            false => timestep,
        };
        // The others always end at zero.
        let sigma_last = match (self.sampler, self.config.final_sigmas_type) {
            (SamplerId::Euler, FinalSigmas::SigmaMin) => self.sigma_range().1,
            _ => 0.0,
        };
        let levels = pairs.iter().copied().chain([(sigma_last, 0.0)]);
        consecutive(
            levels.map(|(sigma, timestep)| NoiseLevel::with_alpha_one(sigma, whole(timestep))),
        )
    }

    /// DPM-Solver, UniPC, DEIS and SA-Solver: whole timesteps, sigmas over the whole table. The
    /// latter two always end at the table's first sigma.
    fn multistep(&self) -> Levels {
        let dpm_solver = is_dpm_solver(self.sampler);
        let (max, min) = self.sigma_range();
        let (pairs, sigma_min) = match self.spread_sigmas(max, min) {
            Some(pairs) => {
                let whole = |(sigma, timestep)| (sigma, self.whole_timestep(timestep));
                let pairs: Vec<(f64, f64)> = pairs.into_iter().map(whole).collect();
                // DPM-Solver ends at the table's first sigma, the others at their last once more.
                let last = pairs.last().map_or(min, |pair| pair.0);
                (pairs, if dpm_solver { min } else { last })
            }
            None => {
                let timesteps = self.grid().without_end(self.steps, self.highest_timestep());
                let pair = |timestep| (self.table.sigma_at(timestep), timestep);
                (timesteps.into_iter().map(pair).collect(), min)
            }
        };
        let sigma_last = match (self.sampler, self.config.final_sigmas_type) {
            (SamplerId::Deis | SamplerId::SaSolver, _) | (_, FinalSigmas::SigmaMin) => sigma_min,
            (_, FinalSigmas::Zero) => 0.0,
        };
        let levels = pairs.into_iter().chain([(sigma_last, 0.0)]);
        consecutive(
            levels.map(|(sigma, timestep)| NoiseLevel::variance_preserving(sigma, timestep)),
        )
    }

    /// The whole timestep that the solvers give a sigma of their own. All round Karras's, DPM-Solver
    /// not under a cosine schedule; what is not rounded loses its fraction.
    fn whole_timestep(&self, timestep: f64) -> f64 {
        let others = !is_dpm_solver(self.sampler);
        let cosine = self.config.beta_schedule == Some(BetaSchedule::SquaredcosCapV2);
        match self.spread.sigmas {
            Sigmas::Karras | Sigmas::Lu if others || !cosine => timestep.round_ties_even(),
            _ => timestep.trunc(),
        }
    }

    /// How many training steps have a lambda of at least `lambda_min_clipped`, a key of DPM-Solver's
    /// and SA-Solver's.
    fn highest_timestep(&self) -> usize {
        let all = self.table.sigmas.len();
        let clip = match (self.sampler, self.config.lambda_min_clipped) {
            (SamplerId::UniPc | SamplerId::UniPcBh2 | SamplerId::Deis, _) | (_, None) => {
                return all;
            }
            (_, Some(clip)) => clip,
        };
        let kept = |sigma: &&f32| -f64::from(sigma.ln()) >= clip;
        self.table.sigmas.iter().filter(kept).count()
    }

    /// DDIM and PNDM: every step goes down by the same whole number of training steps.
    fn ddim(&self) -> Result<Levels> {
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

    /// LCM and TCD: N of the `original_inference_steps` timesteps that the model was distilled on.
    ///
    /// Their classes know no other spacing; those asked for by name are DDIM's.
    fn distilled(&self) -> Result<Levels> {
        match self.schedule {
            ScheduleId::Trailing | ScheduleId::Leading | ScheduleId::Linspace => {
                self.trained(self.whole_grid())
            }
            _ => self.trained(self.distilled_timesteps()?),
        }
    }

    /// Training steps, and at the end the finished picture: for TCD, the first training step.
    fn trained(&self, timesteps: Vec<f64>) -> Result<Levels> {
        let mut levels = Vec::with_capacity(self.steps + 1);
        for timestep in timesteps {
            levels.push(self.trained_level(timestep)?);
        }
        levels.push(match self.sampler {
            SamplerId::Tcd => self.trained_level(0.0)?,
            _ => NoiseLevel::variance_preserving(0.0, 0.0),
        });
        Ok(consecutive(levels.into_iter()))
    }

    fn distilled_timesteps(&self) -> Result<Vec<f64>> {
        let original = self.config.original_inference_steps.unwrap_or(50);
        let train_steps = self.config.num_train_timesteps();
        if !(1..=train_steps).contains(&original) {
            return Err(unsupported(&format!(
                "original_inference_steps is {original}: it must be 1 to {train_steps}"
            )));
        }
        if self.steps > original {
            return Err(Error::Request(format!(
                "{} draws this model in at most {original} steps, not {}",
                self.sampler.info().label,
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

    /// The schedules that the sampler's class does not have: k-diffusion's and A1111's formulas over
    /// the whole table, with the fractional timestep of each sigma.
    fn without_class(&self) -> Option<Levels> {
        let kind = Kind::of(self.sampler);
        let of_sigmas = matches!(kind, Kind::AlphaOne | Kind::Multistep);
        if of_sigmas && self.spread.sigmas.is_in_diffusers() {
            return None;
        }
        let (max, min) = self.sigma_range();
        let pairs = self.spread_sigmas(max, min)?;
        let last = match self.spread.sigmas {
            Sigmas::KlOptimal => self.ends(max, min).1,
            _ => 0.0,
        };
        let levels = pairs.into_iter().chain([(last, 0.0)]);
        Some(consecutive(levels.map(|(sigma, timestep)| match kind {
            Kind::AlphaOne => NoiseLevel::with_alpha_one(sigma, timestep),
            _ => NoiseLevel::variance_preserving(sigma, timestep),
        })))
    }

    /// The level of one whole training step.
    fn trained_level(&self, timestep: f64) -> Result<NoiseLevel> {
        let alpha_cumprod = self.table.alphas_cumprod.get(timestep as usize);
        let level = alpha_cumprod.map(|a| NoiseLevel::from_alpha_cumprod(*a, timestep));
        level.ok_or_else(|| self.too_many_steps())
    }

    /// Where DDIM's and PNDM's last step ends when it goes below the first training step.
    fn final_level(&self) -> NoiseLevel {
        let first = self.table.alphas_cumprod.first().copied().unwrap_or(1.0);
        let class = ClassDefaults::of(self.sampler).set_alpha_to_one;
        match self.config.set_alpha_to_one.unwrap_or(class) {
            true => NoiseLevel::from_alpha_cumprod(1.0, 0.0),
            false => NoiseLevel::from_alpha_cumprod(first, 0.0),
        }
    }

    /// What pure noise is multiplied by. In the space where alpha is 1, diffusers adds the share of
    /// the picture that "leading" never removes from its first level.
    pub(super) fn init_noise_sigma(&self, levels: &[NoiseLevel]) -> f64 {
        let sigma = levels.first().map_or(1.0, |level| level.sigma);
        match (Kind::of(self.sampler), self.spread.spacing) {
            (Kind::AlphaOne, TimestepSpacing::Leading) => sigma.hypot(1.0),
            (Kind::AlphaOne, _) => sigma,
            _ => 1.0,
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
        if self.config.rescale_betas_zero_snr && !knows_zero_snr(self.sampler) {
            log::warn!("{label} does not know rescale_betas_zero_snr, which this model asks for");
        }
        if is_dpm_solver(self.sampler) && self.config.solver_order > Some(2) {
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
