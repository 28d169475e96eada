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
        let angles = (&self.frequencies * timestep).unsqueeze(0);
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
            linear_1: Linear::new(&scope.child("linear_1"), in_channels, time_embed_dim)?,
            linear_2: Linear::new(&scope.child("linear_2"), time_embed_dim, time_embed_dim)?,
            activation,
        })
    }

    /// `[batch, in_channels]` to `[batch, time_embed_dim]`, a new tensor.
    pub fn forward(&self, sample: &Tensor) -> Tensor {
        let hidden = self.activation.forward(self.linear_1.forward(sample));
        self.linear_2.forward(&hidden)
    }
}
