//! SA-Solver: a multistep predictor and a corrector of order two, with fresh noise in the middle of
//! the way.
//!
//! Source: Xue et al., 2309.05019, algorithm 1 (data prediction); diffusers 0.42.1
//! `scheduling_sasolver.py`, `step`, whose coefficients of order two, with the term of third order that
//! it adds to them, come to those below.

use tch::Tensor;

use super::Run;
use crate::error::Result;
use crate::schedule::NoiseLevel;

/// The timesteps between which fresh noise is added (diffusers' `tau_func`).
const NOISY: std::ops::RangeInclusive<f64> = 200.0..=800.0;

pub(super) fn sample_sa_solver(mut run: Run<'_>, mut x: Tensor) -> Result<Tensor> {
    let (eta, s_noise) = (run.schedule.settings.eta, run.schedule.settings.s_noise);
    let count = run.schedule.step_count();
    let mut last: Option<Last> = None;
    for (index, from, to) in run.schedule.steps() {
        let foreseen = run.denoise(&x, from)?;
        if let Some(last) = &last {
            // The corrector: the slope between both ends of the step before.
            let change = (&foreseen - &last.foreseen) * 0.5;
            x = last.step(from, &change);
        }
        let here = Last {
            noise: run.noise.sample(&x)? * s_noise,
            tau: if NOISY.contains(&from.timestep) {
                eta
            } else {
                0.0
            },
            level: from,
            foreseen,
            x,
        };
        let lowered = run.schedule.settings.lower_order_final && index + 1 == count;
        let change = match &last {
            // The predictor: the slope over the step before.
            Some(last) if !lowered && to.sigma > 0.0 => {
                let h = to.lambda() - from.lambda();
                let share = 0.5 * h / (from.lambda() - last.level.lambda());
                (&here.foreseen - &last.foreseen) * share
            }
            _ => here.foreseen.zeros_like(),
        };
        x = here.step(to, &change);
        run.report(index, &x, &here.foreseen)?;
        last = Some(here);
    }
    Ok(x)
}

/// Where a step begins.
struct Last {
    level: NoiseLevel,
    x: Tensor,
    foreseen: Tensor,
    noise: Tensor,
    tau: f64,
}

impl Last {
    /// Goes to `to` by the picture foreseen here; `change`: how that changes half a step on.
    fn step(&self, to: NoiseLevel, change: &Tensor) -> Tensor {
        let h = to.lambda() - self.level.lambda();
        let square = self.tau.powi(2);
        let tau_h = if self.tau > 0.0 { square * h } else { 0.0 };
        let moved = &self.x * ((-tau_h).exp() * to.sigma / self.level.sigma)
            - &self.foreseen * (to.alpha * (-h - tau_h).exp_m1());
        let fresh = to.sigma * (-(-2.0 * tau_h).exp_m1()).sqrt();
        let moved = moved + &self.noise * fresh;
        match h.is_finite() {
            true => moved + change * (to.alpha * (1.0 + square) * h),
            false => moved,
        }
    }
}
