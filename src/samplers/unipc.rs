//! UniPC: a multistep predictor, and a corrector that uses the same network call as the next step.
//!
//! Source: Zhao et al., 2302.04867, algorithms 5 and 6 (UniP and UniC, data prediction); diffusers
//! 0.42.1 `scheduling_unipc_multistep.py`, `step`, `multistep_uni_p_bh_update` and
//! `multistep_uni_c_bh_update`.

use tch::Tensor;

use super::Run;
use crate::error::Result;
use crate::schedule::{NoiseLevel, SolverType};

pub(super) fn sample_unipc(mut run: Run<'_>, mut x: Tensor) -> Result<Tensor> {
    let settings = &run.schedule.settings;
    let (most, solver) = (settings.solver_order, settings.solver_type);
    let count = run.schedule.step_count();
    // Levels and foreseen pictures, the newest last.
    let mut history: Vec<(NoiseLevel, Tensor)> = Vec::with_capacity(most + 1);
    let mut last_x: Option<Tensor> = None;
    let mut order = 0;
    for (index, from, to) in run.schedule.steps() {
        let denoised = run.denoise(&x, from)?;
        if let Some(last_x) = &last_x
            && !settings.disable_corrector.contains(&(index - 1))
        {
            x = update(last_x, &history, from, Some(&denoised), order, solver);
        }
        history.push((from, denoised.shallow_clone()));
        history.drain(..history.len().saturating_sub(most));
        order = match settings.lower_order_final {
            true => most.min(count - index).min(history.len()),
            // lambda has no finite distance to the finished picture (diffusers gives NaN here).
            false if to.sigma == 0.0 => 1,
            false => history.len(),
        };
        let next = update(&x, &history, to, None, order, solver);
        last_x = Some(std::mem::replace(&mut x, next));
        run.report(index, &x, &denoised)?;
    }
    Ok(x)
}

/// Moves `x` from the newest level of `history` to `to`. With `foreseen`, the picture that was
/// foreseen at `to`, it corrects (UniC); without, it predicts (UniP).
fn update(
    x: &Tensor,
    history: &[(NoiseLevel, Tensor)],
    to: NoiseLevel,
    foreseen: Option<&Tensor>,
    order: usize,
    solver: SolverType,
) -> Tensor {
    let Some(((from, m0), older)) = history.split_last() else {
        return x.shallow_clone();
    };
    let h = to.lambda() - from.lambda();
    let h_phi_1 = (-h).exp_m1();
    let b_h = match solver {
        SolverType::Bh1 => -h,
        _ => h_phi_1,
    };
    let moved = x * (to.sigma / from.sigma) - m0 * (to.alpha * h_phi_1);
    let older = older.iter().rev().take(order - 1);
    let (mut rks, mut differences): (Vec<f64>, Vec<Tensor>) = older
        .map(|(level, mi)| {
            let rk = (level.lambda() - from.lambda()) / h;
            (rk, (mi - m0) / rk)
        })
        .unzip();
    if let Some(foreseen) = foreseen {
        rks.push(1.0);
        differences.push(foreseen - m0);
    }
    rhos(&rks, -h, b_h)
        .iter()
        .zip(&differences)
        .fold(moved, |x, (rho, difference)| {
            x - difference * (to.alpha * b_h * rho)
        })
}

/// The weights of the differences: solves `sum_k rks[k]^i rho[k] = b[i]` for every `i`.
fn rhos(rks: &[f64], hh: f64, b_h: f64) -> Vec<f64> {
    // Of order two at most: the authors' choice for any h.
    if rks.len() == 1 {
        return vec![0.5];
    }
    let mut factorial = 1.0;
    let mut h_phi_k = hh.exp_m1() / hh - 1.0;
    let mut rows = Vec::with_capacity(rks.len());
    for i in 0..rks.len() {
        let mut row: Vec<f64> = rks.iter().map(|rk| rk.powi(i as i32)).collect();
        row.push(h_phi_k * factorial / b_h);
        rows.push(row);
        factorial *= (i + 2) as f64;
        h_phi_k = h_phi_k / hh - 1.0 / factorial;
    }
    solve(rows)
}

/// Solves a small linear system, each row with its right-hand side last (Gauss-Jordan).
fn solve(mut rows: Vec<Vec<f64>>) -> Vec<f64> {
    let size = rows.len();
    for pivot in 0..size {
        let best = (pivot..size).max_by(|&a, &b| {
            let (a, b) = (rows[a][pivot].abs(), rows[b][pivot].abs());
            a.total_cmp(&b)
        });
        rows.swap(pivot, best.unwrap_or(pivot));
        let divisor = rows[pivot][pivot];
        rows[pivot].iter_mut().for_each(|value| *value /= divisor);
        let pivot_row = rows[pivot].clone();
        for (index, row) in rows.iter_mut().enumerate() {
            let factor = if index == pivot { 0.0 } else { row[pivot] };
            for (value, above) in row.iter_mut().zip(&pivot_row) {
                *value -= factor * above;
            }
        }
    }
    rows.iter().filter_map(|row| row.last().copied()).collect()
}
