//! iPNDM: Euler's step with a mean of the slopes of the last four steps, from the first step on.
//!
//! Source: Zhang and Chen, 2204.13902, appendix (iPNDM); ComfyUI `comfy/k_diffusion/sampling.py`,
//! `sample_ipndm`, after diff-sampler's `solvers.py`: the step that ends at 0 goes to the denoised picture.
//! The weights are those of diffusers 0.42.1 `scheduling_ipndm.py`, which has a grid for models of audio
//! only.

use tch::Tensor;

use super::{Run, adams_bashforth};
use crate::error::Result;

pub(super) fn sample_ipndm(mut run: Run<'_>, mut x: Tensor) -> Result<Tensor> {
    let mut history: Vec<Tensor> = Vec::with_capacity(4);
    for (index, from, to) in run.schedule.steps() {
        let (derivative, denoised) = run.slope(&x, from)?;
        history.push(derivative);
        history.drain(..history.len().saturating_sub(4));
        if to.sigma == 0.0 {
            x = denoised.shallow_clone();
        } else if let Some(mean) = adams_bashforth(&history) {
            x = &x + mean * (to.sigma - from.sigma);
        }
        run.report(index, &x, &denoised)?;
    }
    Ok(x)
}
