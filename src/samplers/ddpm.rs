//! DDPM: the mean of the step before, given the foreseen picture, and fresh noise.
//!
//! Source: Ho et al., 2006.11239, equations 6 and 7; diffusers 0.42.1 `scheduling_ddpm.py`, `step`
//! with `variance_type` "fixed_small".

use tch::Tensor;

use super::Run;
use crate::error::Result;

pub(super) fn sample_ddpm(mut run: Run<'_>, mut x: Tensor) -> Result<Tensor> {
    let s_noise = run.schedule.settings.s_noise;
    for (index, from, to) in run.schedule.steps() {
        let denoised = run.denoise(&x, from)?;
        let kept = (from.alpha / to.alpha).powi(2);
        let beta = 1.0 - kept;
        let variance = from.sigma.powi(2);
        let of_picture = to.alpha * beta / variance;
        let of_x = kept.sqrt() * to.sigma.powi(2) / variance;
        let deviation = to.sigma * (beta / variance).sqrt();
        x = &denoised * of_picture + &x * of_x;
        if deviation > 0.0 {
            x += run.noise.sample(&x)? * (deviation * s_noise);
        }
        run.report(index, &x, &denoised)?;
    }
    Ok(x)
}
