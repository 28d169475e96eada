//! The noise levels a model was trained on: betas, their products, and sigmas.
//!
//! Computed in f32 where torch does: `1 - alphas_cumprod` loses four digits near the finished
//! picture, so other roundings would be other noise levels.
//! Source: diffusers 0.42.1, `__init__` of its scheduler classes.

use std::f64::consts::FRAC_PI_2;

use crate::error::{Error, Result};
use crate::request::SamplerId;

use super::config::{BetaSchedule, ClassDefaults, SchedulerConfig};
use super::numpy::torch_linspace;

/// One entry a training step, the cleanest first.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct NoiseTable {
    /// `alpha^2` of the variance-preserving space. With zero terminal SNR the last one is 0.
    pub alphas_cumprod: Vec<f32>,
    /// `sigma / alpha`: sigma of the space where alpha is 1. Always finite.
    pub sigmas: Vec<f32>,
    log_sigmas: Vec<f32>,
}

impl NoiseTable {
    /// Errors: [`Error::Model`] for betas that are not between 0 and 1.
    pub(super) fn new(config: &SchedulerConfig, sampler: SamplerId) -> Result<Self> {
        let mut betas = betas(config, sampler);
        if let Some(beta) = betas.iter().find(|beta| !(0.0 < **beta && **beta < 1.0)) {
            let why = format!("its betas must lie between 0 and 1, but one is {beta}");
            return Err(Error::model("scheduler_config.json", why));
        }
        if zero_snr(config, sampler) {
            betas = rescale_zero_terminal_snr(&betas);
        }
        let alphas_cumprod = cumprod(&betas);
        let mut capped = alphas_cumprod.clone();
        if zero_snr(config, sampler)
            && let Some(last) = capped.last_mut()
        {
            // Pure noise has an infinite sigma; diffusers' classes over sigmas stop at 4096.
            *last = 2f32.powi(-24);
        }
        let sigmas: Vec<f32> = capped.iter().map(|a| ((1.0 - a) / a).sqrt()).collect();
        Ok(Self {
            log_sigmas: sigmas.iter().map(|sigma| sigma.ln()).collect(),
            alphas_cumprod,
            sigmas,
        })
    }

    /// Sigma at a fractional training step (`np.interp`, clamped at both ends).
    pub(super) fn sigma_at(&self, timestep: f64) -> f64 {
        let last = self.sigmas.len().saturating_sub(1);
        let low = (timestep.max(0.0).floor() as usize).min(last);
        let high = (low + 1).min(last);
        let (from, to) = (f64::from(self.sigmas[low]), f64::from(self.sigmas[high]));
        let fraction = (timestep - low as f64).clamp(0.0, 1.0);
        (to - from) * fraction + from
    }

    /// The same, as k-diffusion interpolates: between the logarithms (`external.py`,
    /// `DiscreteSchedule.t_to_sigma`).
    pub(super) fn sigma_between_logs(&self, timestep: f64) -> f64 {
        let last = self.log_sigmas.len().saturating_sub(1);
        let low = (timestep.max(0.0).floor() as usize).min(last);
        let high = (low + 1).min(last);
        let (from, to) = (self.log_sigmas[low], self.log_sigmas[high]);
        let fraction = (timestep - low as f64).clamp(0.0, 1.0);
        ((1.0 - fraction) * f64::from(from) + fraction * f64::from(to)).exp()
    }

    /// The fractional training step whose sigma this is (diffusers' `_sigma_to_t`).
    pub(super) fn timestep_of(&self, sigma: f64) -> f64 {
        let log_sigma = sigma.max(1e-10).ln();
        let count = self.log_sigmas.len();
        let not_above = self
            .log_sigmas
            .partition_point(|&log| f64::from(log) <= log_sigma);
        let low = not_above.saturating_sub(1).min(count.saturating_sub(2));
        let (from, to) = (self.log_sigmas[low], self.log_sigmas[low + 1]);
        // The lower difference is f32 in numpy, where both ends come from an f32 array.
        let fraction = ((f64::from(from) - log_sigma) / f64::from(from - to)).clamp(0.0, 1.0);
        (1.0 - fraction) * low as f64 + fraction * (low + 1) as f64
    }
}

/// Whether the class of this sampler moves its last noise level to pure noise.
///
/// The others have no such key and draw on from the levels as they are; [`super::schedule`] says so
/// in the log.
pub(super) fn zero_snr(config: &SchedulerConfig, sampler: SamplerId) -> bool {
    config.rescale_betas_zero_snr && knows_zero_snr(sampler)
}

pub(super) fn knows_zero_snr(sampler: SamplerId) -> bool {
    !matches!(
        sampler,
        SamplerId::Heun
            | SamplerId::Dpm2
            | SamplerId::Dpm2A
            | SamplerId::DpmPpSde
            | SamplerId::Lms
            | SamplerId::Pndm
            | SamplerId::Deis
            | SamplerId::SaSolver
    )
}

fn betas(config: &SchedulerConfig, sampler: SamplerId) -> Vec<f32> {
    let defaults = ClassDefaults::of(sampler);
    let count = config.num_train_timesteps();
    let start = config.beta_start.unwrap_or(defaults.beta_start);
    let end = config.beta_end.unwrap_or(defaults.beta_end);
    if let Some(trained) = &config.trained_betas {
        return trained.iter().map(|&beta| beta as f32).collect();
    }
    match config.beta_schedule.unwrap_or(defaults.beta_schedule) {
        BetaSchedule::Linear => torch_linspace(start, end, count),
        BetaSchedule::ScaledLinear => torch_linspace(start.sqrt(), end.sqrt(), count)
            .into_iter()
            .map(|root| root * root)
            .collect(),
        BetaSchedule::SquaredcosCapV2 => (0..count)
            .map(|i| {
                let (from, to) = (i as f64 / count as f64, (i + 1) as f64 / count as f64);
                (1.0 - cosine_alpha_bar(to) / cosine_alpha_bar(from)).min(0.999) as f32
            })
            .collect(),
    }
}

fn cosine_alpha_bar(time: f64) -> f64 {
    ((time + 0.008) / 1.008 * FRAC_PI_2).cos().powi(2)
}

/// Products of `1 - beta`, accumulated in f64 as torch's CPU `cumprod` does.
fn cumprod(betas: &[f32]) -> Vec<f32> {
    betas
        .iter()
        .scan(1.0, |product, beta| {
            *product *= f64::from(1.0 - beta);
            Some(*product as f32)
        })
        .collect()
}

/// Stretches the schedule so that its last level is pure noise (2305.08891, algorithm 1).
fn rescale_zero_terminal_snr(betas: &[f32]) -> Vec<f32> {
    let roots: Vec<f32> = cumprod(betas).iter().map(|a| a.sqrt()).collect();
    let (Some(&first), Some(&last)) = (roots.first(), roots.last()) else {
        return Vec::new();
    };
    let stretch = first / (first - last);
    let alphas_bar: Vec<f32> = roots
        .iter()
        .map(|root| (root - last) * stretch)
        .map(|root| root * root)
        .collect();
    let later = alphas_bar.windows(2).map(|pair| pair[1] / pair[0]);
    alphas_bar
        .iter()
        .take(1)
        .copied()
        .chain(later)
        .map(|alpha| 1.0 - alpha)
        .collect()
}
