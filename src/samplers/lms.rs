//! LMS: integrates the curve through the slopes of the last four steps.
//!
//! Source: k-diffusion `sampling.py`, `sample_lms`; diffusers 0.42.1 `scheduling_lms_discrete.py`,
//! `step` and `get_lms_coefficient`.

use tch::Tensor;

use super::Run;
use crate::error::Result;

const ORDER: usize = 4;
/// Gauss's points and weights on -1..1, exact for the products of three differences.
const GAUSS: [(f64, f64); 2] = [
    (-0.577_350_269_189_625_8, 1.0),
    (0.577_350_269_189_625_8, 1.0),
];

pub(super) fn sample_lms(mut run: Run<'_>, mut x: Tensor) -> Result<Tensor> {
    // Sigmas and slopes, the newest last.
    let mut history: Vec<(f64, Tensor)> = Vec::with_capacity(ORDER + 1);
    for (index, from, to) in run.schedule.steps() {
        let (derivative, denoised) = run.slope(&x, from)?;
        history.push((from.sigma, derivative));
        history.drain(..history.len().saturating_sub(ORDER));
        let sigmas: Vec<f64> = history.iter().map(|(sigma, _)| *sigma).collect();
        x = history
            .iter()
            .enumerate()
            .fold(x, |x, (which, (_, derivative))| {
                x + derivative * coefficient(&sigmas, which, to.sigma)
            });
        run.report(index, &x, &denoised)?;
    }
    Ok(x)
}

/// The integral, from the last of `sigmas` to `to`, of Lagrange's polynomial that is 1 at the
/// `which`th of them and 0 at the others.
fn coefficient(sigmas: &[f64], which: usize, to: f64) -> f64 {
    let from = sigmas.last().copied().unwrap_or(to);
    let own = sigmas.get(which).copied().unwrap_or(from);
    let others = sigmas.iter().enumerate().filter(|(k, _)| *k != which);
    let polynomial = |at: f64| -> f64 {
        let factors = others
            .clone()
            .map(|(_, sigma)| (at - sigma) / (own - sigma));
        factors.product()
    };
    let (middle, half) = (0.5 * (from + to), 0.5 * (to - from));
    let values = GAUSS
        .iter()
        .map(|(at, weight)| weight * polynomial(middle + half * at));
    half * values.sum::<f64>()
}
