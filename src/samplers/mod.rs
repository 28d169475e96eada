//! Samplers: how noise becomes latents. One algorithm a file.
//!
//! A sampler is a function of a denoiser, noise levels, a noise source and a callback (the shape of
//! k-diffusion's `sampling.py`), with the arithmetic of diffusers. It keeps no state between
//! pictures; a multistep history is a local variable. What the network predicts (epsilon, v, the
//! sample), its input scaling, guidance and cancellation are the [`Denoiser`]'s business.

mod ddim;
mod dpmpp_2m;
mod dpmpp_2m_sde;
mod euler;
mod euler_ancestral;
mod heun;
mod lcm;
mod noise;
mod unipc;

use tch::Tensor;

use crate::error::Result;
use crate::request::SamplerId;
use crate::schedule::{Clamp, NoiseLevel, Schedule};

pub use noise::TorchNoise;

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
}

/// Gaussian noise, one independent stream a picture of the batch.
pub trait NoiseSource {
    /// f32 standard normal noise of the shape and on the device of `like` (`[batch, ...]`).
    fn sample(&mut self, like: &Tensor) -> Result<Tensor>;
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
        SamplerId::DpmPp2mSde => dpmpp_2m_sde::sample_dpmpp_2m_sde(run, x),
        SamplerId::UniPc => unipc::sample_unipc(run, x),
        SamplerId::Lcm => lcm::sample_lcm(run, x),
    }
}

impl Run<'_> {
    /// What the network foresees of `x`, kept in the range that the model's config asks for.
    fn denoise(&mut self, x: &Tensor, at: NoiseLevel) -> Result<Tensor> {
        let denoised = self.denoiser.predict(x, at)?.denoised(x, at);
        Ok(clamped(denoised, self.schedule.settings.clamp))
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
