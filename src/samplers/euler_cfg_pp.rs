//! Euler CFG++: goes to the guided picture, and back up along the noise foreseen without the prompt.
//!
//! Guidance is an interpolation here: 1 to 2 takes the place of the usual 5 to 12.
//! Source: Chung et al., 2406.08070, algorithm 2; ComfyUI `comfy/k_diffusion/sampling.py`,
//! `sample_euler_cfg_pp` (diffusers has none).

use tch::Tensor;

use super::{Run, clamped};
use crate::error::Result;

pub(super) fn sample_euler_cfg_pp(mut run: Run<'_>, mut x: Tensor) -> Result<Tensor> {
    for (index, from, to) in run.schedule.steps() {
        let (guided, unguided) = run.denoiser.predict_both(&x, from)?;
        let denoised = clamped(guided.denoised(&x, from), run.schedule.settings.clamp);
        let slope = (&x - unguided.denoised(&x, from)) / from.sigma;
        x = &denoised + slope * to.sigma;
        run.report(index, &x, &denoised)?;
    }
    Ok(x)
}
