//! DDIM CFG++: puts back the noise that is foreseen without the prompt, not the guided one.
//!
//! Guidance is an interpolation here: 1 to 2 takes the place of the usual 5 to 12.
//! Source: Chung et al., 2406.08070, algorithm 2; AUTOMATIC1111 1.10
//! `modules/sd_samplers_timesteps_impl.py`, `ddim_cfgpp` (diffusers has none).

use tch::Tensor;

use super::{Run, clamped};
use crate::error::Result;

pub(super) fn sample_ddim_cfg_pp(mut run: Run<'_>, mut x: Tensor) -> Result<Tensor> {
    for (index, from, to) in run.schedule.steps() {
        let (guided, unguided) = run.denoiser.predict_both(&x, from)?;
        let denoised = clamped(guided.denoised(&x, from), run.schedule.settings.clamp);
        x = &denoised * to.alpha + unguided.epsilon(&x, from) * to.sigma;
        run.report(index, &x, &denoised)?;
    }
    Ok(x)
}
