//! DEIS: integrates the curve through the noise of the last steps, over the logarithm of
//! `rho = sigma / alpha`.
//!
//! Source: Zhang and Chen, 2204.13902, section 4 (tAB-DEIS in log rho); diffusers 0.42.1
//! `scheduling_deis_multistep.py`, `step`.

use tch::Tensor;

use super::Run;
use crate::error::Result;
use crate::schedule::{NoiseLevel, Schedule};

pub(super) fn sample_deis(mut run: Run<'_>, mut x: Tensor) -> Result<Tensor> {
    // Levels and the noise at them, the newest first.
    let mut history: Vec<(f64, Tensor)> = Vec::with_capacity(4);
    for (index, from, to) in run.schedule.steps() {
        let denoised = run.denoise(&x, from)?;
        let epsilon = (&x - &denoised * from.alpha) / from.sigma;
        history.insert(0, (rho(from), epsilon));
        history.truncate(order(run.schedule, index, to).max(1));
        let rhos: Vec<f64> = history.iter().map(|(rho, _)| *rho).collect();
        let start = &x / from.alpha;
        let moved = history
            .iter()
            .zip(weights(&rhos, rho(to)))
            .fold(start, |x, ((_, epsilon), weight)| x + epsilon * weight);
        x = moved * to.alpha;
        run.report(index, &x, &denoised)?;
    }
    Ok(x)
}

fn rho(level: NoiseLevel) -> f64 {
    level.sigma / level.alpha
}

/// How many noises a step may use: fewer at the end of a short drawing, one where it ends at the
/// finished picture, whose rho has no logarithm.
fn order(schedule: &Schedule, index: usize, to: NoiseLevel) -> usize {
    let settings = &schedule.settings;
    let left = schedule.step_count() - index;
    let most = match settings.lower_order_final && schedule.step_count() < 15 {
        true => settings.solver_order.min(left),
        false => settings.solver_order,
    };
    if to.sigma == 0.0 { 1 } else { most }
}

/// The integral, from the first of `rhos` to `to`, of Lagrange's polynomials in `log rho`.
fn weights(rhos: &[f64], to: f64) -> Vec<f64> {
    match *rhos {
        [a, b] => vec![
            line(to, a, b) - line(a, a, b),
            line(to, b, a) - line(a, b, a),
        ],
        [a, b, c] => vec![
            parabola(to, a, b, c) - parabola(a, a, b, c),
            parabola(to, b, c, a) - parabola(a, b, c, a),
            parabola(to, c, a, b) - parabola(a, c, a, b),
        ],
        _ => rhos.iter().take(1).map(|a| to - a).collect(),
    }
}

/// The integral of `(log t - log c) / (log b - log c)`.
fn line(t: f64, b: f64, c: f64) -> f64 {
    t * (t.ln() - c.ln() - 1.0) / (b.ln() - c.ln())
}

/// The integral of `(log t - log c) (log t - log d) / ((log b - log c) (log b - log d))`.
fn parabola(t: f64, b: f64, c: f64, d: f64) -> f64 {
    let (t_log, b, c, d) = (t.ln(), b.ln(), c.ln(), d.ln());
    let integral = c * (d - t_log + 1.0) - d * t_log + d + t_log.powi(2) - 2.0 * t_log + 2.0;
    t * integral / ((b - c) * (b - d))
}
