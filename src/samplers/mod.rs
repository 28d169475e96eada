//! Samplers: how noise becomes latents. One algorithm a file.
//!
//! A sampler is a function of a denoiser, noise levels, a noise source and a callback (the shape of
//! k-diffusion's `sampling.py`), with the arithmetic of diffusers. It keeps no state between
//! pictures; a multistep history is a local variable. What the network predicts (epsilon, v, the
//! sample), its input scaling, guidance and cancellation are the [`Denoiser`]'s business.

use tch::Tensor;

use crate::error::Result;
use crate::schedule::{NoiseLevel, Schedule};

/// What the network says of `x`, in one of the three forms networks are trained for.
/// f32, the shape of `x`.
#[derive(Debug)]
pub enum Prediction {
    Epsilon(Tensor),
    V(Tensor),
    Sample(Tensor),
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
