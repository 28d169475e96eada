//! DPM-Solver++ (2M): follows the line through the last two foreseen pictures.
//!
//! Source: Lu et al., 2211.01095, algorithm 2; diffusers 0.42.1
//! `scheduling_dpmsolver_multistep.py`, `step` with `algorithm_type` "dpmsolver++".

use tch::Tensor;

use super::Run;
use crate::error::Result;
use crate::schedule::{NoiseLevel, Schedule, SolverType};

pub(super) fn sample_dpmpp_2m(mut run: Run<'_>, mut x: Tensor) -> Result<Tensor> {
    let mut previous: Option<(NoiseLevel, Tensor)> = None;
    for (index, from, to) in run.schedule.steps() {
        let denoised = run.denoise(&x, from)?;
        let h = to.lambda() - from.lambda();
        let gain = -to.alpha * (-h).exp_m1();
        x = &x * (to.sigma / from.sigma) + &denoised * gain;
        if let Some((before, denoised_before)) = &previous
            && !is_first_order(run.schedule, index)
        {
            let r0 = (from.lambda() - before.lambda()) / h;
            let slope = (&denoised - denoised_before) / r0;
            x += slope * slope_gain(run.schedule.settings.solver_type, to, gain, -h);
        }
        run.report(index, &x, &denoised)?;
        previous = Some((from, denoised));
    }
    Ok(x)
}

/// Whether a step must do without history: where the config says so, and where the step ends at the
/// finished picture, to which lambda has no finite distance.
pub(super) fn is_first_order(schedule: &Schedule, index: usize) -> bool {
    let settings = &schedule.settings;
    let count = schedule.step_count();
    let ends_at_zero = schedule
        .landings
        .get(index)
        .is_some_and(|to| to.sigma == 0.0);
    let lowered = settings.euler_at_final || (settings.lower_order_final && count < 15);
    settings.solver_order == 1 || ends_at_zero || (index + 1 == count && lowered)
}

/// What the slope is weighted by, given the weight of the picture itself and the exponent of its
/// decay (`-h`, or `-2h` with fresh noise).
pub(super) fn slope_gain(solver: SolverType, to: NoiseLevel, gain: f64, exponent: f64) -> f64 {
    match solver {
        // A step of no length: the limit of the quotient below.
        SolverType::Heun if exponent == 0.0 => 0.0,
        SolverType::Heun => to.alpha * (1.0 - exponent.exp_m1() / exponent),
        _ => 0.5 * gain,
    }
}
