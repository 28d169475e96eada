//! Euler: one straight line a step.
//!
//! Source: Karras et al., 2206.00364, algorithm 2, without churn unless asked for; diffusers 0.42.1
//! `scheduling_euler_discrete.py`, `step`.

use tch::Tensor;

use super::Run;
use crate::error::Result;

pub(super) fn sample_euler(mut run: Run<'_>, mut x: Tensor) -> Result<Tensor> {
    for (index, from, to) in run.schedule.steps() {
        let (hat, from) = run.churned(x, from)?;
        let (derivative, denoised) = run.slope(&hat, from)?;
        x = &hat + derivative * (to.sigma - from.sigma);
        run.report(index, &x, &denoised)?;
    }
    Ok(x)
}
