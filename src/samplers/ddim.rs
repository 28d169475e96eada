//! DDIM: removes the foreseen noise and puts back as much of it as the next level has.
//!
//! Source: Song et al., 2010.02502, equation 12; diffusers 0.42.1 `scheduling_ddim.py`, `step`.

use tch::Tensor;

use super::{Run, clamped};
use crate::error::Result;

pub(super) fn sample_ddim(mut run: Run<'_>, mut x: Tensor) -> Result<Tensor> {
    // How much of the noise is fresh: 0 is DDIM, 1 is DDPM.
    let (eta, s_noise) = (run.schedule.settings.eta, run.schedule.settings.s_noise);
    for (index, from, to) in run.schedule.steps() {
        let prediction = run.denoiser.predict(&x, from)?;
        // Epsilon is that of the picture before it was clamped (`use_clipped_model_output` false).
        let epsilon = prediction.epsilon(&x, from);
        let denoised = clamped(prediction.denoised(&x, from), run.schedule.settings.clamp);
        let fresh = eta * to.sigma / from.sigma * (1.0 - (from.alpha / to.alpha).powi(2)).sqrt();
        let kept = (to.sigma.powi(2) - fresh.powi(2)).sqrt();
        x = &denoised * to.alpha + epsilon * kept;
        if fresh > 0.0 {
            x += run.noise.sample(&x)? * (fresh * s_noise);
        }
        run.report(index, &x, &denoised)?;
    }
    Ok(x)
}
