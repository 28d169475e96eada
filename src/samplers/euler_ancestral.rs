//! Euler ancestral: steps further down than asked, and adds fresh noise up to the level asked.
//!
//! Source: k-diffusion `sampling.py`, `sample_euler_ancestral`; diffusers 0.42.1
//! `scheduling_euler_ancestral_discrete.py`, `step`.

use tch::Tensor;

use super::Run;
use crate::error::Result;

pub(super) fn sample_euler_ancestral(mut run: Run<'_>, mut x: Tensor) -> Result<Tensor> {
    for (index, from, to) in run.schedule.steps() {
        let denoised = run.denoise(&x, from)?;
        let (from, to) = (from.sigma, to.sigma);
        let sigma_up = (to.powi(2) * (from.powi(2) - to.powi(2)) / from.powi(2)).sqrt();
        let sigma_down = (to.powi(2) - sigma_up.powi(2)).sqrt();
        let derivative = (&x - &denoised) / from;
        x = &x + derivative * (sigma_down - from);
        // Drawn on the last step too, though multiplied by 0: as in diffusers, unlike k-diffusion.
        x += run.noise.sample(&x)? * sigma_up;
        run.report(index, &x, &denoised)?;
    }
    Ok(x)
}
