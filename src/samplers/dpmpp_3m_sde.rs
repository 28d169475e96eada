//! DPM-Solver++ (3M) for the SDE: a parabola through the last three foreseen pictures, with fresh
//! noise in place of a share of the old.
//!
//! Source: k-diffusion `sampling.py`, `sample_dpmpp_3m_sde`. Not diffusers' `solver_order` 3 with
//! "sde-dpmsolver++", whose weight of the second difference does not vanish with the step: it has
//! `-0.5` where the integral has `+0.5`.

use tch::Tensor;

use super::Run;
use crate::error::Result;

pub(super) fn sample_dpmpp_3m_sde(mut run: Run<'_>, mut x: Tensor) -> Result<Tensor> {
    let (eta, s_noise) = (run.schedule.settings.eta, run.schedule.settings.s_noise);
    // Step lengths and what was foreseen at their beginnings, the newest last.
    let mut history: Vec<(f64, Tensor)> = Vec::with_capacity(3);
    for (index, from, to) in run.schedule.steps() {
        let denoised = run.denoise(&x, from)?;
        let h = (from.sigma / to.sigma).ln();
        if to.sigma > 0.0 {
            let h_eta = h * (eta + 1.0);
            x = &x * (-h_eta).exp() - &denoised * (-h_eta).exp_m1();
            if let Some(curve) = curve(&history, &denoised, h, h_eta) {
                x += curve;
            }
            if eta > 0.0 {
                let fresh = -(-2.0 * h * eta).exp_m1();
                let noise = run.noise.between(&x, from.sigma, to.sigma)?;
                x += noise * (to.sigma * fresh.sqrt() * s_noise);
            }
        } else {
            x = denoised.shallow_clone();
        }
        run.report(index, &x, &denoised)?;
        history.push((h, denoised));
        history.drain(..history.len().saturating_sub(2));
    }
    Ok(x)
}

/// What the change of the foreseen pictures adds to a step.
fn curve(history: &[(f64, Tensor)], denoised: &Tensor, h: f64, h_eta: f64) -> Option<Tensor> {
    let phi_2 = (-h_eta).exp_m1() / h_eta + 1.0;
    Some(match history {
        [] => return None,
        [(h_1, denoised_1)] => (denoised - denoised_1) / (h_1 / h) * phi_2,
        [(h_2, denoised_2), (h_1, denoised_1), ..] => {
            let (r0, r1) = (h_1 / h, h_2 / h);
            let d1_0 = (denoised - denoised_1) / r0;
            let d1_1 = (denoised_1 - denoised_2) / r1;
            let bend = &d1_0 - d1_1;
            let d1 = d1_0 + &bend * (r0 / (r0 + r1));
            let d2 = bend / (r0 + r1);
            let phi_3 = phi_2 / h_eta - 0.5;
            d1 * phi_2 - d2 * phi_3
        }
    })
}
