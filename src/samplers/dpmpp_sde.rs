//! DPM-Solver++ for the SDE, single step: looks half-way along the step, and adds fresh noise twice.
//!
//! Source: k-diffusion `sampling.py`, `sample_dpmpp_sde`; diffusers 0.42.1
//! `scheduling_dpmsolver_sde.py`, `step` (two calls of which are one step here). The noise is that of
//! our own Brownian motion, torchsde's there.

use tch::Tensor;

use super::{Run, ancestral_step};
use crate::error::Result;

pub(super) fn sample_dpmpp_sde(mut run: Run<'_>, mut x: Tensor) -> Result<Tensor> {
    for (index, from, to) in run.schedule.steps() {
        let mut denoised = run.denoise(&x, from)?;
        if to.sigma > 0.0 {
            let half_way = run.schedule.level_at((from.sigma * to.sigma).sqrt());
            let ahead = with_noise(&mut run, &x, &denoised, from.sigma, half_way.sigma)?;
            denoised = run.denoise(&ahead, half_way)?;
            x = with_noise(&mut run, &x, &denoised, from.sigma, to.sigma)?;
        } else {
            let derivative = (&x - &denoised) / from.sigma;
            x = &x + derivative * (to.sigma - from.sigma);
        }
        run.report(index, &x, &denoised)?;
    }
    Ok(x)
}

/// Goes from one sigma to another towards `denoised`, with fresh noise.
fn with_noise(
    run: &mut Run<'_>,
    x: &Tensor,
    denoised: &Tensor,
    from: f64,
    to: f64,
) -> Result<Tensor> {
    let settings = &run.schedule.settings;
    let (down, up) = ancestral_step(from, to, settings.eta);
    let moved = x * (down / from) + denoised * (1.0 - down / from);
    let noise = run.noise.between(x, from, to)?;
    Ok(moved + noise * (up * settings.s_noise))
}
