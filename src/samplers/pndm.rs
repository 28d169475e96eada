//! PNDM in its linear multistep form (PLMS): DDIM's step with a mean of the last four predictions.
//!
//! The first step looks twice. Source: Liu et al., 2202.09778, equations 9 to 12; diffusers 0.42.1
//! `scheduling_pndm.py`, `step_plms` with `skip_prk_steps`, as every Stable Diffusion has it (without
//! that key diffusers begins with Runge and Kutta's steps, and Easel does not). Where the second
//! timestep is not one stride below the first ("linspace"), diffusers repeats the first step from one
//! stride above the second; here it is repeated from where it began.

use tch::Tensor;

use super::{Prediction, Run, adams_bashforth};
use crate::error::Result;
use crate::schedule::NoiseLevel;

pub(super) fn sample_pndm(mut run: Run<'_>, mut x: Tensor) -> Result<Tensor> {
    let mut history: Vec<Tensor> = Vec::with_capacity(4);
    for (index, from, to) in run.schedule.steps() {
        let first = run.denoiser.predict(&x, from)?;
        history.push(first.values().shallow_clone());
        history.drain(..history.len().saturating_sub(4));
        let mut guide = match adams_bashforth(&history) {
            Some(mean) => first.with(mean),
            None => first,
        };
        let mut end = to;
        if index == 0
            && let Some(next) = run
                .schedule
                .levels
                .get(1)
                .filter(|_| run.schedule.step_count() > 1)
        {
            let ahead = step(&x, &guide, from, to);
            let second = run.denoiser.predict(&ahead, *next)?;
            let mean = (guide.values() + second.values()) / 2.0;
            guide = guide.with(mean);
            end = *next;
        }
        let denoised = guide.denoised(&x, from);
        x = step(&x, &guide, from, end);
        run.report(index, &x, &denoised)?;
    }
    Ok(x)
}

fn step(x: &Tensor, guide: &Prediction, from: NoiseLevel, to: NoiseLevel) -> Tensor {
    guide.denoised(x, from) * to.alpha + guide.epsilon(x, from) * to.sigma
}
