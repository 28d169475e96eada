//! DPM-Solver++ (2S) ancestral: goes by what is foreseen half-way along the step, further down than
//! asked, and adds fresh noise up to the level asked.
//!
//! Source: Lu et al., 2211.01095, algorithm 1; k-diffusion `sampling.py`,
//! `sample_dpmpp_2s_ancestral` (diffusers has none).

use tch::Tensor;

use super::{Run, ancestral_step};
use crate::error::Result;

pub(super) fn sample_dpmpp_2s_ancestral(mut run: Run<'_>, mut x: Tensor) -> Result<Tensor> {
    let (eta, s_noise) = (run.schedule.settings.eta, run.schedule.settings.s_noise);
    for (index, from, to) in run.schedule.steps() {
        let mut denoised = run.denoise(&x, from)?;
        let (down, up) = ancestral_step(from.sigma, to.sigma, eta);
        // Sigma decays by this share towards the picture.
        let towards = |x: &Tensor, denoised: &Tensor, sigma: f64| {
            let share = sigma / from.sigma;
            x * share + denoised * (1.0 - share)
        };
        if down > 0.0 {
            let half_way = run.schedule.level_at((from.sigma * down).sqrt());
            let ahead = towards(&x, &denoised, half_way.sigma);
            denoised = run.denoise(&ahead, half_way)?;
        }
        x = towards(&x, &denoised, down);
        if to.sigma > 0.0 {
            x += run.noise.sample(&x)? * (up * s_noise);
        }
        run.report(index, &x, &denoised)?;
    }
    Ok(x)
}
