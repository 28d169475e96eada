//! Noise schedules: betas, timesteps and noise levels. Numbers only, no tensors.
//!
//! [`schedule`] turns a model's `scheduler_config.json` ([`SchedulerConfig`]), a sampler and a step
//! count into the noise levels that the sampler walks down. The levels are those of the sampler's
//! class in diffusers 0.42.1, and each class has a grid of its own: "linspace" is N fractional points
//! for Euler, N rounded ones for DDIM, and N + 1 without the last for DPM-Solver and UniPC.

mod config;
mod levels;
mod noise_table;
mod numpy;
mod settings;
mod sigmas;

pub use config::{
    AlgorithmType, BetaSchedule, CLASSES, FinalSigmas, PredictionType, SchedulerConfig, SolverType,
    TimestepSpacing,
};

pub use settings::{Clamp, SamplerSettings};

use levels::{Spread, Walk};
use noise_table::NoiseTable;
use settings::sampler_settings;

use crate::error::{Error, Result};
use crate::request::{KNOBS, SamplerId, ScheduleId, Tuning};

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
    table: NoiseTable,
}

impl Schedule {
    /// A level between the levels, of the space where alpha is 1.
    pub fn level_at(&self, sigma: f64) -> NoiseLevel {
        NoiseLevel::with_alpha_one(sigma, self.table.timestep_of(sigma))
    }

    /// The variance-preserving level of a whole training step, the last one at most.
    pub fn trained_level(&self, timestep: f64) -> NoiseLevel {
        let last = self.table.alphas_cumprod.len().saturating_sub(1);
        let alpha_cumprod = self.table.alphas_cumprod.get((timestep as usize).min(last));
        NoiseLevel::from_alpha_cumprod(alpha_cumprod.copied().unwrap_or(1.0), timestep)
    }

    /// Every step as its index, the level it begins at and the one it ends at.
    pub fn steps(&self) -> impl Iterator<Item = (usize, NoiseLevel, NoiseLevel)> {
        let pairs = self.levels.iter().zip(&self.landings);
        pairs
            .enumerate()
            .map(|(index, (from, to))| (index, *from, *to))
    }

    /// The smallest sigma above 0 and the largest, in the space where alpha is 1; of levels without a
    /// picture in them (alpha 0) the largest that there is.
    pub fn sigma_ends(&self) -> (f64, f64) {
        let sigmas = self.levels.iter().map(|level| level.sigma / level.alpha);
        let sigmas = sigmas.filter(|sigma| *sigma > 0.0 && sigma.is_finite());
        let (min, max) = sigmas.fold((f64::INFINITY, 0.0_f64), |(min, max), sigma| {
            (min.min(sigma), max.max(sigma))
        });
        (min.min(max), max)
    }

    /// How many steps there are.
    pub fn step_count(&self) -> usize {
        self.landings.len()
    }
}

/// [`tuned_schedule`] with nothing tuned.
pub fn schedule(
    config: &SchedulerConfig,
    sampler: SamplerId,
    schedule: ScheduleId,
    steps: usize,
) -> Result<Schedule> {
    tuned_schedule(config, sampler, schedule, steps, &Tuning::default())
}

/// The noise levels that `sampler` visits in `steps` steps, for a model with this config.
///
/// Errors: [`Error::Request`] if there are too many steps for the schedule (or none), if a setting is
/// out of range, or if the model predicts noise and the schedule begins where there is nothing else;
/// [`Error::Model`] if the config asks this sampler for something that is not supported.
pub fn tuned_schedule(
    config: &SchedulerConfig,
    sampler: SamplerId,
    schedule: ScheduleId,
    steps: usize,
    tuning: &Tuning,
) -> Result<Schedule> {
    let most = config.num_train_timesteps();
    if !(1..=most).contains(&steps) {
        return Err(Error::Request(format!(
            "{steps} steps cannot be drawn: this model takes 1 to {most}"
        )));
    }
    check(tuning)?;
    let walk = Walk {
        table: NoiseTable::new(config, sampler)?,
        spread: Spread::new(config, sampler, schedule)?,
        config,
        sampler,
        schedule,
        steps,
        tuning,
    };
    let (levels, landings) = walk.levels()?;
    walk.check(&levels)?;
    walk.warn();
    Ok(Schedule {
        init_noise_sigma: walk.init_noise_sigma(&levels),
        settings: sampler_settings(config, sampler, tuning)?,
        levels,
        landings,
        table: walk.table,
    })
}

/// Errors: [`Error::Request`] for a setting outside what the formulas stand.
fn check(tuning: &Tuning) -> Result<()> {
    for info in KNOBS {
        let (name, least, most) = (info.name, info.least, info.most);
        if let Some(value) = info.knob.said(tuning)
            && !(least..=most).contains(&value)
        {
            return Err(Error::Request(format!(
                "{name} must be from {least} to {most}; {value} was asked for"
            )));
        }
    }
    if let (Some(min), Some(max)) = (tuning.sigma_min, tuning.sigma_max)
        && min >= max
    {
        return Err(Error::Request(format!(
            "The smallest sigma ({min}) must be below the largest ({max})"
        )));
    }
    Ok(())
}

/// What a model's file asks for, and this sampler cannot do.
fn unsupported(why: &str) -> Error {
    Error::model("scheduler_config.json", why)
}
