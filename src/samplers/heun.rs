//! Heun: tries Euler's step, looks again from where it ends, and goes by the mean of both slopes.
//!
//! Source: Karras et al., 2206.00364, algorithm 1; diffusers 0.42.1 `scheduling_heun_discrete.py`,
//! `step` (two calls of which are one step here).

use tch::Tensor;

use super::Run;
use crate::error::Result;

pub(super) fn sample_heun(mut run: Run<'_>, mut x: Tensor) -> Result<Tensor> {
    for (index, from, to) in run.schedule.steps() {
        let (hat, from) = run.churned(x, from)?;
        let (mut derivative, mut denoised) = run.slope(&hat, from)?;
        let dt = to.sigma - from.sigma;
        // The finished picture has no slope to look at.
        if to.sigma > 0.0 {
            let ahead = &hat + &derivative * dt;
            let derivative_ahead;
            (derivative_ahead, denoised) = run.slope(&ahead, to)?;
            derivative = (derivative + derivative_ahead) / 2.0;
        }
        x = &hat + derivative * dt;
        run.report(index, &x, &denoised)?;
    }
    Ok(x)
}
