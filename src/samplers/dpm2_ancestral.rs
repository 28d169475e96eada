//! DPM2 ancestral: DPM2 further down than asked, and fresh noise up to the level asked.
//!
//! Source: k-diffusion `sampling.py`, `sample_dpm_2_ancestral`; diffusers 0.42.1
//! `scheduling_k_dpm_2_ancestral_discrete.py`, `step` (two calls of which are one step here).

use tch::Tensor;

use super::{Run, ancestral_step};
use crate::error::Result;

pub(super) fn sample_dpm2_ancestral(mut run: Run<'_>, mut x: Tensor) -> Result<Tensor> {
    let (eta, s_noise) = (run.schedule.settings.eta, run.schedule.settings.s_noise);
    for (index, from, to) in run.schedule.steps() {
        let (mut derivative, mut denoised) = run.slope(&x, from)?;
        let (down, up) = ancestral_step(from.sigma, to.sigma, eta);
        if down > 0.0 {
            let half_way = run.schedule.level_at((from.sigma * down).sqrt());
            let ahead = &x + &derivative * (half_way.sigma - from.sigma);
            (derivative, denoised) = run.slope(&ahead, half_way)?;
        }
        x = &x + derivative * (down - from.sigma);
        if down > 0.0 {
            x += run.noise.sample(&x)? * (up * s_noise);
        }
        run.report(index, &x, &denoised)?;
    }
    Ok(x)
}
