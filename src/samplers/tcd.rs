//! TCD: jumps below the next level, and back up to it with fresh noise.
//!
//! Source: Zheng et al., 2402.19159, algorithm 4 (where eta is called gamma); diffusers 0.42.1
//! `scheduling_tcd.py`, `step`.

use tch::Tensor;

use super::Run;
use crate::error::Result;

pub(super) fn sample_tcd(mut run: Run<'_>, mut x: Tensor) -> Result<Tensor> {
    let (eta, s_noise) = (run.schedule.settings.eta, run.schedule.settings.s_noise);
    let last = run.schedule.step_count().saturating_sub(1);
    for (index, from, to) in run.schedule.steps() {
        let prediction = run.denoiser.predict(&x, from)?;
        let denoised = prediction.denoised(&x, from);
        let below = match index == last {
            true => to,
            false => run
                .schedule
                .trained_level(((1.0 - eta) * to.timestep).floor()),
        };
        x = &denoised * below.alpha + prediction.epsilon(&x, from) * below.sigma;
        if eta > 0.0 && index != last {
            let kept = to.alpha / below.alpha;
            let fresh = (1.0 - kept.powi(2)).max(0.0).sqrt();
            x = x * kept + run.noise.sample(&denoised)? * (fresh * s_noise);
        }
        run.report(index, &x, &denoised)?;
    }
    Ok(x)
}
