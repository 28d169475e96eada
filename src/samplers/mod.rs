//! Samplers: how noise becomes latents. One algorithm a file.
//!
//! A sampler is a function of a denoiser, noise levels, a noise source and a callback (the shape of
//! k-diffusion's `sampling.py`), with the arithmetic of diffusers. It keeps no state between
//! pictures; a multistep history is a local variable. What the network predicts (epsilon, v, the
//! sample), its input scaling, guidance and cancellation are the [`Denoiser`]'s business.

mod ddim;
mod ddim_cfg_pp;
mod ddpm;
mod deis;
mod dpm2;
mod dpm2_ancestral;
mod dpmpp_2m;
mod dpmpp_2m_sde;
mod dpmpp_2s_ancestral;
mod dpmpp_3m_sde;
mod dpmpp_sde;
mod euler;
mod euler_ancestral;
mod euler_cfg_pp;
mod heun;
mod ipndm;
mod lcm;
mod lms;
mod noise;
mod pndm;
mod restart;
mod sa_solver;
mod tcd;
mod unipc;

use std::f64::consts::SQRT_2;

use tch::Tensor;

use crate::error::Result;
use crate::request::SamplerId;
use crate::schedule::{Clamp, NoiseLevel, Schedule};

pub use noise::{BatchNoise, PictureNoise, Seeds, noise_source};

/// What the network says of `x`, in one of the three forms networks are trained for.
/// f32, the shape of `x`.
#[derive(Debug)]
pub enum Prediction {
    Epsilon(Tensor),
    V(Tensor),
    Sample(Tensor),
}

impl Prediction {
    /// The finished latents that the network foresees, `x0`, where `x = alpha * x0 + sigma * noise`.
    ///
    /// The network sees `x` divided by `sqrt(alpha^2 + sigma^2)`, so a v of any state space is a v of
    /// the variance-preserving one (Karras et al., 2206.00364, table 1, and diffusers'
    /// `EulerDiscreteScheduler.step`).
    pub fn denoised(&self, x: &Tensor, at: NoiseLevel) -> Tensor {
        let NoiseLevel { alpha, sigma, .. } = at;
        match self {
            Self::Epsilon(epsilon) => (x - epsilon * sigma) / alpha,
            Self::V(v) => x * (alpha / variance(at)) - v * (sigma / variance(at).sqrt()),
            Self::Sample(sample) => sample.shallow_clone(),
        }
    }

    /// What the network said.
    fn values(&self) -> &Tensor {
        match self {
            Self::Epsilon(values) | Self::V(values) | Self::Sample(values) => values,
        }
    }

    /// Other values of the same form.
    fn with(&self, values: Tensor) -> Self {
        match self {
            Self::Epsilon(_) => Self::Epsilon(values),
            Self::V(_) => Self::V(values),
            Self::Sample(_) => Self::Sample(values),
        }
    }

    /// The noise in `x` as the network sees it.
    pub fn epsilon(&self, x: &Tensor, at: NoiseLevel) -> Tensor {
        let NoiseLevel { alpha, sigma, .. } = at;
        match self {
            Self::Epsilon(epsilon) => epsilon.shallow_clone(),
            Self::V(v) => v * (alpha / variance(at).sqrt()) + x * (sigma / variance(at)),
            Self::Sample(sample) => (x - sample * alpha) / sigma,
        }
    }
}

/// `alpha^2 + sigma^2`: 1 in the variance-preserving space.
fn variance(at: NoiseLevel) -> f64 {
    at.alpha * at.alpha + at.sigma * at.sigma
}

/// The network with everything around it: input scaling, guidance, cancellation.
pub trait Denoiser {
    /// `x`: f32 latents `[batch, channels, height, width]` with
    /// `x = at.alpha * x0 + at.sigma * noise`. The network itself receives `x` divided by
    /// `sqrt(alpha^2 + sigma^2)`.
    ///
    /// Errors: [`crate::error::Error::Cancelled`] when the person asked to stop, `NotANumber` for a broken result.
    fn predict(&mut self, x: &Tensor, at: NoiseLevel) -> Result<Prediction>;

    /// [`Self::predict`], and what the network says without the prompt, for the samplers that need
    /// both ([`SamplerId::needs_unguided`]). One and the same where nothing guides.
    fn predict_both(&mut self, x: &Tensor, at: NoiseLevel) -> Result<(Prediction, Prediction)> {
        let guided = self.predict(x, at)?;
        let unguided = guided.with(guided.values().shallow_clone());
        Ok((guided, unguided))
    }
}

/// Gaussian noise, one independent stream a picture of the batch.
pub trait NoiseSource {
    /// f32 standard normal noise of the shape and on the device of `like` (`[batch, ...]`).
    fn sample(&mut self, like: &Tensor) -> Result<Tensor>;

    /// The same kind of noise, as a step of a motion from one sigma to another: two half steps are
    /// the whole one, so that the noise does not depend on the step count. Fresh noise where a source
    /// has no such motion.
    fn between(&mut self, like: &Tensor, _from: f64, _to: f64) -> Result<Tensor> {
        self.sample(like)
    }

    /// The noise of DPM++ 2M SDE: plain in diffusers, a motion's in k-diffusion ([`Self::between`]).
    fn of_multistep(&mut self, like: &Tensor, _from: f64, _to: f64) -> Result<Tensor> {
        self.sample(like)
    }
}

/// One step of a sampler, for the window.
#[derive(Debug)]
pub struct Step<'a> {
    /// From 0.
    pub index: usize,
    pub count: usize,
    /// The latents after this step.
    pub x: &'a Tensor,
    /// The finished latents as this step foresees them.
    pub denoised: &'a Tensor,
}

/// All that a sampler needs beside the latents.
pub struct Run<'a> {
    pub denoiser: &'a mut dyn Denoiser,
    pub schedule: &'a Schedule,
    pub noise: &'a mut dyn NoiseSource,
    pub on_step: &'a mut dyn FnMut(Step<'_>) -> Result<()>,
}

/// Draws: walks `x` down the schedule that was made for this sampler.
///
/// `x`: f32 noise `[batch, channels, height, width]`, already multiplied by
/// `schedule.init_noise_sigma`. Returns the finished latents, of the same shape.
/// No tensor that was handed in or out is written to afterwards, so a callback may keep them.
/// Errors: whatever the denoiser, the noise source or the callback reports, at once.
pub fn sample(id: SamplerId, run: Run<'_>, x: Tensor) -> Result<Tensor> {
    match id {
        SamplerId::Ddim => ddim::sample_ddim(run, x),
        SamplerId::Euler => euler::sample_euler(run, x),
        SamplerId::EulerA => euler_ancestral::sample_euler_ancestral(run, x),
        SamplerId::Heun => heun::sample_heun(run, x),
        SamplerId::DpmPp2m => dpmpp_2m::sample_dpmpp_2m(run, x),
        SamplerId::DpmPp2mSde | SamplerId::DpmPp2mSdeHeun => {
            dpmpp_2m_sde::sample_dpmpp_2m_sde(run, x)
        }
        SamplerId::UniPc | SamplerId::UniPcBh2 => unipc::sample_unipc(run, x),
        SamplerId::Lcm => lcm::sample_lcm(run, x),
        SamplerId::DpmPpSde => dpmpp_sde::sample_dpmpp_sde(run, x),
        SamplerId::Dpm2 => dpm2::sample_dpm2(run, x),
        SamplerId::Dpm2A => dpm2_ancestral::sample_dpm2_ancestral(run, x),
        SamplerId::DpmPp3mSde => dpmpp_3m_sde::sample_dpmpp_3m_sde(run, x),
        SamplerId::Lms => lms::sample_lms(run, x),
        SamplerId::Pndm => pndm::sample_pndm(run, x),
        SamplerId::Ddpm => ddpm::sample_ddpm(run, x),
        SamplerId::Deis => deis::sample_deis(run, x),
        SamplerId::DpmPp2sA => dpmpp_2s_ancestral::sample_dpmpp_2s_ancestral(run, x),
        SamplerId::Tcd => tcd::sample_tcd(run, x),
        SamplerId::Restart => restart::sample_restart(run, x),
        SamplerId::Ipndm => ipndm::sample_ipndm(run, x),
        SamplerId::EulerCfgPp => euler_cfg_pp::sample_euler_cfg_pp(run, x),
        SamplerId::DdimCfgPp => ddim_cfg_pp::sample_ddim_cfg_pp(run, x),
        SamplerId::SaSolver => sa_solver::sample_sa_solver(run, x),
    }
}

impl Run<'_> {
    /// What the network foresees of `x`, kept in the range that the model's config asks for.
    fn denoise(&mut self, x: &Tensor, at: NoiseLevel) -> Result<Tensor> {
        let denoised = self.denoiser.predict(x, at)?.denoised(x, at);
        Ok(clamped(denoised, self.schedule.settings.clamp))
    }

    /// `to_d`: the slope of `x` over sigma, in the space where alpha is 1.
    fn slope(&mut self, x: &Tensor, at: NoiseLevel) -> Result<(Tensor, Tensor)> {
        let denoised = self.denoise(x, at)?;
        Ok(((x - &denoised) / at.sigma, denoised))
    }

    /// Adds a little noise before a step, where the person asks for it (`s_churn`); the latents and
    /// the level to go on from. Source: k-diffusion `sampling.py`, `sample_euler`. (diffusers' Euler
    /// adds it after the network was asked; none of its pipelines can ask for it.)
    fn churned(&mut self, x: Tensor, from: NoiseLevel) -> Result<(Tensor, NoiseLevel)> {
        let settings = &self.schedule.settings;
        let gamma = (settings.s_churn / self.schedule.step_count() as f64).min(SQRT_2 - 1.0);
        if gamma <= 0.0 {
            return Ok((x, from));
        }
        let raised = self.schedule.level_at(from.sigma * (1.0 + gamma));
        let share = (raised.sigma.powi(2) - from.sigma.powi(2)).sqrt() * settings.s_noise;
        let noise = self.noise.sample(&x)?;
        Ok((x + noise * share, raised))
    }

    fn report(&mut self, index: usize, x: &Tensor, denoised: &Tensor) -> Result<()> {
        (self.on_step)(Step {
            index,
            count: self.schedule.step_count(),
            x,
            denoised,
        })
    }
}

/// How far down a step with fresh noise goes, and how much noise leads back up to where it was to
/// end (k-diffusion `sampling.py`, `get_ancestral_step`).
fn ancestral_step(from: f64, to: f64, eta: f64) -> (f64, f64) {
    let up = eta * (to.powi(2) * (from.powi(2) - to.powi(2)) / from.powi(2)).sqrt();
    let up = up.min(to);
    ((to.powi(2) - up.powi(2)).sqrt(), up)
}

/// What a linear multistep method goes by: the newest value and up to three before it, the newest
/// last (Adams and Bashforth; Liu et al., 2202.09778, equation 9).
fn adams_bashforth(history: &[Tensor]) -> Option<Tensor> {
    let newest_first: Vec<&Tensor> = history.iter().rev().take(4).collect();
    Some(match newest_first.as_slice() {
        [] => return None,
        [a] => a.shallow_clone(),
        [a, b] => (*a * 3.0 - *b) / 2.0,
        [a, b, c] => (*a * 23.0 - *b * 16.0 + *c * 5.0) / 12.0,
        [a, b, c, d, ..] => (*a * 55.0 - *b * 59.0 + *c * 37.0 - *d * 9.0) / 24.0,
    })
}

/// Keeps foreseen latents in range (diffusers' `clip_sample` and `_threshold_sample`).
fn clamped(denoised: Tensor, clamp: Clamp) -> Tensor {
    match clamp {
        Clamp::None => denoised,
        Clamp::Range(range) => denoised.clamp(-range, range),
        Clamp::Dynamic { ratio, max } => {
            let flat = denoised.flatten(1, -1);
            let limit = flat
                .abs()
                .quantile_scalar(ratio, 1, true, "linear")
                .clamp(1.0, max);
            let kept = flat.clamp_tensor(Some(&-&limit), Some(&limit)) / &limit;
            kept.view_as(&denoised)
        }
    }
}
