//! Euler ancestral: steps further down than asked, and adds fresh noise up to the level asked.
//!
//! Source: k-diffusion `sampling.py`, `sample_euler_ancestral`; diffusers 0.42.1
//! `scheduling_euler_ancestral_discrete.py`, `step`.

use tch::Tensor;

use super::{Run, ancestral_step};
use crate::error::Result;

pub(super) fn sample_euler_ancestral(mut run: Run<'_>, mut x: Tensor) -> Result<Tensor> {
    let (eta, s_noise) = (run.schedule.settings.eta, run.schedule.settings.s_noise);
    for (index, from, to) in run.schedule.steps() {
        let (derivative, denoised) = run.slope(&x, from)?;
        let (sigma_down, sigma_up) = ancestral_step(from.sigma, to.sigma, eta);
        x = &x + derivative * (sigma_down - from.sigma);
        // Drawn on the last step too, though multiplied by 0: as in diffusers, unlike k-diffusion.
        x += run.noise.sample(&x)? * (sigma_up * s_noise);
        run.report(index, &x, &denoised)?;
    }
    Ok(x)
}
