//! The noise levels of the schedules that are computed from their ends or from the model's table.
//!
//! Sources: diffusers 0.42.1 `scheduling_euler_discrete.py` (Karras, exponential, beta); k-diffusion
//! 0.1.1 `sampling.py` (`get_sigmas_*`); AUTOMATIC1111 1.10 `modules/sd_schedulers.py` (the others);
//! ComfyUI `comfy/samplers.py` (`linear_quadratic_schedule`).

use super::noise_table::NoiseTable;
use super::numpy::linspace;

/// How sigmas are spread between the noisiest and the cleanest.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Sigmas {
    /// Those of the visited training steps.
    OfTimesteps,
    Karras,
    Exponential,
    /// Even in lambda (2206.00927); the numbers of `Exponential`, but DPM-Solver rounds its timesteps.
    Lu,
    Beta,
    Polyexponential,
    SgmUniform,
    Simple,
    Normal,
    DdimUniform,
    AlignYourSteps(&'static [f64; 11]),
    KlOptimal,
    LinearQuadratic,
}

/// Sabour et al., 2404.14507, tables of the authors' howto page.
pub(super) const AYS_SD1: [f64; 11] = [
    14.615, 6.475, 3.861, 2.697, 1.886, 1.396, 0.963, 0.652, 0.399, 0.152, 0.029,
];
pub(super) const AYS_SDXL: [f64; 11] = [
    14.615, 6.315, 3.771, 2.181, 1.342, 0.862, 0.555, 0.380, 0.234, 0.113, 0.029,
];

impl Sigmas {
    /// Whether diffusers' classes over sigmas have a key for it.
    pub(super) fn is_in_diffusers(self) -> bool {
        matches!(
            self,
            Self::OfTimesteps | Self::Karras | Self::Exponential | Self::Lu | Self::Beta
        )
    }

    /// `steps` sigmas, noisiest first. `max` and `min`: the ends, where the schedule has a say in
    /// them. `None`: they follow from the timesteps.
    pub(super) fn between(
        self,
        max: f64,
        min: f64,
        steps: usize,
        table: &NoiseTable,
        rho: Option<f64>,
    ) -> Option<Vec<f64>> {
        Some(match self {
            Self::OfTimesteps => return None,
            Self::Karras => karras(max, min, steps, rho.unwrap_or(7.0)),
            Self::Exponential | Self::Lu => exponential(max, min, steps),
            Self::Beta => beta(max, min, steps),
            Self::Polyexponential => polyexponential(max, min, steps, rho.unwrap_or(1.0)),
            Self::SgmUniform => even_timesteps(max, min, steps + 1, table, steps),
            Self::Normal => even_timesteps(max, min, steps, table, steps),
            Self::Simple => simple(steps, table),
            Self::DdimUniform => ddim_uniform(steps, table),
            Self::AlignYourSteps(tuned) => align_your_steps(tuned, steps),
            Self::KlOptimal => kl_optimal(max, min, steps),
            Self::LinearQuadratic => linear_quadratic(max, steps),
        })
    }
}

/// Denser where they are small (Karras et al., 2206.00364, equation 5).
fn karras(max: f64, min: f64, steps: usize, rho: f64) -> Vec<f64> {
    let (max_inv_rho, min_inv_rho) = (max.powf(1.0 / rho), min.powf(1.0 / rho));
    linspace(0.0, 1.0, steps)
        .map(|ramp| (max_inv_rho + ramp * (min_inv_rho - max_inv_rho)).powf(rho))
        .collect()
}

/// Each the same share of the one before.
fn exponential(max: f64, min: f64, steps: usize) -> Vec<f64> {
    linspace(max.ln(), min.ln(), steps).map(f64::exp).collect()
}

/// A power of the ramp between the logarithms.
fn polyexponential(max: f64, min: f64, steps: usize, rho: f64) -> Vec<f64> {
    linspace(1.0, 0.0, steps)
        .map(|ramp| (ramp.powf(rho) * (max.ln() - min.ln()) + min.ln()).exp())
        .collect()
}

/// Quantiles of the beta distribution with both parameters 0.6 (Lee et al., 2407.12173).
fn beta(max: f64, min: f64, steps: usize) -> Vec<f64> {
    linspace(0.0, 1.0, steps)
        .map(|ramp| min + beta_quantile(1.0 - ramp) * (max - min))
        .collect()
}

/// `scipy.stats.beta.ppf(share, 0.6, 0.6)`.
fn beta_quantile(share: f64) -> f64 {
    if share > 0.5 {
        return 1.0 - beta_quantile(1.0 - share);
    }
    let (mut low, mut high) = (0.0, 0.5);
    // Until no number lies between.
    loop {
        let middle = 0.5 * (low + high);
        if middle <= low || middle >= high {
            return middle;
        }
        match beta_share(middle) < share {
            true => low = middle,
            false => high = middle,
        }
        if high < 1e-15 {
            return 0.0;
        }
    }
}

/// The share of the distribution below `x`, at most a half: its power series around 0.
fn beta_share(x: f64) -> f64 {
    const A: f64 = 0.6;
    /// `gamma(0.6)^2 / gamma(1.2)`.
    const WHOLE: f64 = 2.415_344_208_002_471_4;
    let mut power = 1.0;
    let mut sum = 0.0;
    for n in 0..60 {
        let n = f64::from(n);
        sum += power / (A + n);
        power *= x * (n + 1.0 - A) / (n + 1.0);
    }
    sum * x.powf(A) / WHOLE
}

/// The first `steps` of `points` evenly spread timesteps. Between two training steps k-diffusion
/// interpolates logarithms, where diffusers interpolates sigmas.
fn even_timesteps(max: f64, min: f64, points: usize, table: &NoiseTable, steps: usize) -> Vec<f64> {
    linspace(table.timestep_of(max), table.timestep_of(min), points)
        .take(steps)
        .map(|timestep| table.sigma_between_logs(timestep))
        .collect()
}

/// Every so many of the table, from its end.
fn simple(steps: usize, table: &NoiseTable) -> Vec<f64> {
    let stride = table.sigmas.len() as f64 / steps as f64;
    let skipped = (0..steps).map(|i| (i as f64 * stride) as usize);
    skipped
        .filter_map(|skipped| table.sigmas.iter().rev().nth(skipped))
        .map(|sigma| f64::from(*sigma))
        .collect()
}

/// Every so many of the table, from its second.
///
/// Differs from A1111, which for step counts that do not divide the table draws more steps than
/// asked: the noisiest of those are left out here.
fn ddim_uniform(steps: usize, table: &NoiseTable) -> Vec<f64> {
    let stride = (table.sigmas.len() / steps).max(1);
    let visited = (0..steps).rev().map(|i| 1 + i * stride);
    visited
        .filter_map(|index| table.sigmas.get(index))
        .map(|sigma| f64::from(*sigma))
        .collect()
}

/// The tuned levels, or between their logarithms.
fn align_your_steps(tuned: &[f64; 11], steps: usize) -> Vec<f64> {
    let last = (tuned.len() - 1) as f64;
    // One step begins at pure noise (A1111 would begin at the cleanest level).
    linspace(0.0, last, steps)
        .map(|at| {
            let low = (at.floor() as usize).min(tuned.len() - 2);
            let fraction = at - low as f64;
            (tuned[low].ln() * (1.0 - fraction) + tuned[low + 1].ln() * fraction).exp()
        })
        .collect()
}

/// Even in the arc tangent (Sabour et al., 2404.14507, equation 13). It goes on to `min`, not to 0.
fn kl_optimal(max: f64, min: f64, steps: usize) -> Vec<f64> {
    (0..steps)
        .map(|i| i as f64 / steps as f64)
        .map(|share| (share * min.atan() + (1.0 - share) * max.atan()).tan())
        .collect()
}

/// First half: even steps over the noisiest fortieth. Second half: a parabola.
fn linear_quadratic(max: f64, steps: usize) -> Vec<f64> {
    const THRESHOLD: f64 = 0.025;
    if steps == 1 {
        return vec![max];
    }
    let (all, linear) = (steps as f64, (steps / 2) as f64);
    let rest = all - linear;
    let left = linear - THRESHOLD * all;
    let square = left / (linear * rest.powi(2));
    let slope = THRESHOLD / linear - 2.0 * left / rest.powi(2);
    (0..steps)
        .map(|i| i as f64)
        .map(|i| match i < linear {
            true => i * THRESHOLD / linear,
            false => square * i.powi(2) + slope * i + square * linear.powi(2),
        })
        .map(|done| (1.0 - done) * max)
        .collect()
}
