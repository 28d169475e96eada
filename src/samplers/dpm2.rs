//! DPM2: goes by the slope in the middle of the step (in the logarithm of sigma).
//!
//! Source: k-diffusion `sampling.py`, `sample_dpm_2`; diffusers 0.42.1
//! `scheduling_k_dpm_2_discrete.py`, `step` (two calls of which are one step here).

use tch::Tensor;

use super::Run;
use crate::error::Result;

pub(super) fn sample_dpm2(mut run: Run<'_>, mut x: Tensor) -> Result<Tensor> {
    for (index, from, to) in run.schedule.steps() {
        let (hat, from) = run.churned(x, from)?;
        let (mut derivative, mut denoised) = run.slope(&hat, from)?;
        if to.sigma > 0.0 {
            let half_way = run.schedule.level_at((from.sigma * to.sigma).sqrt());
            let ahead = &hat + &derivative * (half_way.sigma - from.sigma);
            (derivative, denoised) = run.slope(&ahead, half_way)?;
        }
        x = &hat + derivative * (to.sigma - from.sigma);
        run.report(index, &x, &denoised)?;
    }
    Ok(x)
}
