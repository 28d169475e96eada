//! From a timestep to the vector that tells every residual block how noisy its input is.
//!
//! Source: diffusers `models/embeddings.py` (`get_timestep_embedding`, `TimestepEmbedding`), 0.42.1.

use tch::{Device, Kind, Tensor};

use super::{Activation, Linear, Scope};
use crate::error::Result;

/// Sines and cosines of a timestep. Computed in f32 whatever the network's dtype, as in diffusers.
#[derive(Debug)]
pub struct Timesteps {
    /// f32 `[channels / 2]`
    frequencies: Tensor,
    flip_sin_to_cos: bool,
    /// An odd number of channels ends in a zero.
    padding: i64,
}

impl Timesteps {
    pub fn new(
        channels: i64,
        flip_sin_to_cos: bool,
        freq_shift: f64,
        device: Device,
    ) -> Result<Self> {
        let half = channels / 2;
        let exponent = Tensor::f_arange(half, (Kind::Float, device))?
            .f_mul_scalar(-10000f64.ln())?
            .f_div_scalar(half as f64 - freq_shift)?;
        Ok(Self {
            frequencies: exponent.f_exp()?,
            flip_sin_to_cos,
            padding: channels % 2,
        })
    }

    /// f32 `[1, channels]`: one timestep for the whole batch.
    pub fn forward(&self, timestep: f64) -> Tensor {
        self.embed(&(&self.frequencies * timestep).unsqueeze(0))
    }

    /// f32 `[n, channels]` of f32 `[n]`.
    pub fn forward_each(&self, numbers: &Tensor) -> Tensor {
        self.embed(&(numbers.unsqueeze(-1) * self.frequencies.unsqueeze(0)))
    }

    /// `angles`: f32 `[n, channels / 2]`.
    fn embed(&self, angles: &Tensor) -> Tensor {
        let (sin, cos) = (angles.sin(), angles.cos());
        let both = if self.flip_sin_to_cos {
            Tensor::cat(&[cos, sin], 1)
        } else {
            Tensor::cat(&[sin, cos], 1)
        };
        match self.padding {
            0 => both,
            zeros => both.constant_pad_nd([0, zeros]),
        }
    }
}

/// Two linear maps with an activation between.
#[derive(Debug)]
pub struct TimestepEmbedding {
    /// Of what a distilled network is told beside the timestep.
    cond_proj: Option<Linear>,
    linear_1: Linear,
    linear_2: Linear,
    activation: Activation,
}

impl TimestepEmbedding {
    pub fn new(
        scope: &Scope,
        in_channels: i64,
        time_embed_dim: i64,
        activation: Activation,
    ) -> Result<Self> {
        Ok(Self {
            cond_proj: None,
            linear_1: Linear::new(&scope.child("linear_1"), in_channels, time_embed_dim)?,
            linear_2: Linear::new(&scope.child("linear_2"), time_embed_dim, time_embed_dim)?,
            activation,
        })
    }

    /// The same, with a second input of this width that is projected and added to the first.
    pub fn with_condition(
        self,
        scope: &Scope,
        in_channels: i64,
        cond_proj_dim: Option<i64>,
    ) -> Result<Self> {
        let proj = |width| Linear::without_bias(&scope.child("cond_proj"), width, in_channels);
        Ok(Self {
            cond_proj: cond_proj_dim.map(proj).transpose()?,
            ..self
        })
    }

    /// `[batch, in_channels]` and, where there is one, `[batch or 1, cond_proj_dim]` to
    /// `[batch, time_embed_dim]`, a new tensor.
    pub fn forward(&self, sample: &Tensor, condition: Option<&Tensor>) -> Tensor {
        let hidden = match self.cond_proj.as_ref().zip(condition) {
            Some((proj, condition)) => self.linear_1.forward(&(sample + proj.forward(condition))),
            None => self.linear_1.forward(sample),
        };
        self.linear_2.forward(&self.activation.forward(hidden))
    }
}

/// The guidance scale as networks with distilled guidance take it: f32 `[1, dim]`.
///
/// Source: diffusers `pipeline_latent_consistency_text2img.py` (`get_guidance_scale_embedding`),
/// 0.42.1; its steps in f32 are kept, as the angles are up to thousands.
pub fn embed_guidance_scale(scale: f64, dim: i64, device: Device) -> Result<Tensor> {
    let half = dim / 2;
    let rate = Tensor::from(10000f32).f_log()?.f_div_scalar(half - 1)?;
    let frequencies = Tensor::f_arange(half, (Kind::Float, Device::Cpu))?.f_mul(&rate.f_neg()?)?;
    // The scale as diffusers counts it is one more than the paper's (Meng et al., 2210.03142).
    let angles = frequencies.f_exp()?.f_unsqueeze(0)? * f64::from((scale - 1.0) as f32 * 1000.0);
    let both = Tensor::f_cat(&[angles.f_sin()?, angles.f_cos()?], 1)?;
    Ok(both.f_constant_pad_nd([0, dim % 2])?.f_to_device(device)?)
}
