//! Restart: Heun's steps that, near the end, go back up with fresh noise and down again, so that the
//! network mends what it got wrong.
//!
//! Source: Xu et al., 2306.14878, algorithm 1; AUTOMATIC1111 1.10 `modules/sd_samplers_extra.py`,
//! `restart_sampler`, whose choice of steps this is: below 20 steps there is no restart.

use tch::Tensor;

use super::Run;
use crate::error::Result;

/// Where a restart begins, and where it goes back to.
const LOW: f64 = 0.1;
const HIGH: f64 = 2.0;

pub(super) fn sample_restart(mut run: Run<'_>, mut x: Tensor) -> Result<Tensor> {
    let s_noise = run.schedule.settings.s_noise;
    let sigmas: Vec<f64> = run
        .schedule
        .levels
        .iter()
        .map(|level| level.sigma)
        .collect();
    let mut last = f64::INFINITY;
    for (index, (from, to)) in steps(&sigmas).into_iter().enumerate() {
        if from > last {
            let up = (from.powi(2) - last.powi(2)).sqrt();
            x = &x + run.noise.sample(&x)? * (up * s_noise);
        }
        let (mut derivative, mut denoised) = run.slope(&x, run.schedule.level_at(from))?;
        if to > 0.0 {
            let ahead = &x + &derivative * (to - from);
            let derivative_ahead;
            (derivative_ahead, denoised) = run.slope(&ahead, run.schedule.level_at(to))?;
            derivative = (derivative + derivative_ahead) / 2.0;
        }
        x = &x + derivative * (to - from);
        last = to;
        run.report(index, &x, &denoised)?;
    }
    Ok(x)
}

/// Every step's begin and end. As many as the schedule has: a restart takes its steps from the way
/// down, which is then Karras's.
fn steps(sigmas: &[f64]) -> Vec<(f64, f64)> {
    let pairs = |sigmas: &[f64]| -> Vec<(f64, f64)> {
        sigmas.windows(2).map(|pair| (pair[0], pair[1])).collect()
    };
    let count = sigmas.len().saturating_sub(1);
    let (restart_steps, times) = match count {
        0..20 => return pairs(sigmas),
        20..36 => (9, 1),
        _ => (count / 4, 2),
    };
    let mut down = karras(sigmas[0], sigmas[count - 1], count - restart_steps * times);
    down.push(0.0);
    let (low, high) = (nearest(&down, LOW), nearest(&down, HIGH));
    if high >= low || low == 0 {
        return pairs(sigmas);
    }
    let again = karras(down[high], down[low], restart_steps + 1);
    let mut all = pairs(&down[..=low]);
    for _ in 0..times {
        all.extend(pairs(&again));
    }
    all.extend(pairs(&down[low..]));
    all
}

fn nearest(sigmas: &[f64], wanted: f64) -> usize {
    let distance = |index: &usize| (sigmas[*index] - wanted).abs();
    (0..sigmas.len())
        .min_by(|a, b| distance(a).total_cmp(&distance(b)))
        .unwrap_or(0)
}

/// k-diffusion's `get_sigmas_karras`, without its end at 0.
fn karras(max: f64, min: f64, steps: usize) -> Vec<f64> {
    let (max, min) = (max.powf(1.0 / 7.0), min.powf(1.0 / 7.0));
    let last = steps.saturating_sub(1).max(1) as f64;
    (0..steps)
        .map(|i| (max + i as f64 / last * (min - max)).powi(7))
        .collect()
}
