//! DPM-Solver++ (2M) for the SDE: the same line through the last two foreseen pictures, with fresh
//! noise in place of a share of the old.
//!
//! Source: Lu et al., 2211.01095, appendix; diffusers 0.42.1 `scheduling_dpmsolver_multistep.py`,
//! `step` with `algorithm_type` "sde-dpmsolver++"; the share of fresh noise `eta` as in k-diffusion
//! `sampling.py`, `sample_dpmpp_2m_sde`. The noise is plain, as diffusers' is, where no
//! other program's is asked for.

use tch::Tensor;

use super::Run;
use super::dpmpp_2m::{is_first_order, slope_gain};
use crate::error::Result;
use crate::schedule::NoiseLevel;

pub(super) fn sample_dpmpp_2m_sde(mut run: Run<'_>, mut x: Tensor) -> Result<Tensor> {
    let mut previous: Option<(NoiseLevel, Tensor)> = None;
    let (eta, s_noise) = (run.schedule.settings.eta, run.schedule.settings.s_noise);
    for (index, from, to) in run.schedule.steps() {
        let denoised = run.denoise(&x, from)?;
        let ratio = |level: NoiseLevel| level.sigma / level.alpha;
        let noise = run.noise.of_multistep(&x, ratio(from), ratio(to))?;
        let h = to.lambda() - from.lambda();
        let eta_h = if eta > 0.0 { eta * h } else { 0.0 };
        let gain = -to.alpha * (-h - eta_h).exp_m1();
        x = &x * (to.sigma / from.sigma * (-eta_h).exp()) + &denoised * gain;
        if let Some((before, denoised_before)) = &previous
            && !is_first_order(run.schedule, index)
        {
            let r0 = (from.lambda() - before.lambda()) / h;
            let slope = (&denoised - denoised_before) / r0;
            x += slope * slope_gain(run.schedule.settings.solver_type, to, gain, -h - eta_h);
        }
        let fresh = -(-2.0 * eta_h).exp_m1();
        x += noise * (to.sigma * fresh.sqrt() * s_noise);
        run.report(index, &x, &denoised)?;
        previous = Some((from, denoised));
    }
    Ok(x)
}
