//! LCM: jumps to the foreseen picture, and back up to the next level with fresh noise.
//!
//! Source: Luo et al., 2310.04378, algorithm 3; diffusers 0.42.1 `scheduling_lcm.py`, `step`.

use tch::Tensor;

use super::Run;
use crate::error::Result;

/// Standard deviation of the training latents, by the authors' assumption.
const SIGMA_DATA: f64 = 0.5;

pub(super) fn sample_lcm(mut run: Run<'_>, mut x: Tensor) -> Result<Tensor> {
    let last = run.schedule.step_count().saturating_sub(1);
    let s_noise = run.schedule.settings.s_noise;
    for (index, from, to) in run.schedule.steps() {
        let foreseen = run.denoise(&x, from)?;
        // The boundary condition: at timestep 0 the consistency function is the identity.
        let time = from.timestep * run.schedule.settings.timestep_scaling;
        let c_skip = SIGMA_DATA.powi(2) / (time.powi(2) + SIGMA_DATA.powi(2));
        let c_out = time / time.hypot(SIGMA_DATA);
        let denoised = foreseen * c_out + &x * c_skip;
        x = match index == last {
            true => denoised.shallow_clone(),
            false => &denoised * to.alpha + run.noise.sample(&x)? * (to.sigma * s_noise),
        };
        run.report(index, &x, &denoised)?;
    }
    Ok(x)
}
