//! Normalisations built from named tensors.

use tch::{Kind, Tensor};

use super::Scope;
use crate::error::Result;

/// Wu and He, 2018. `weight`, `bias`: `[channels]`.
#[derive(Debug)]
pub struct GroupNorm {
    weight: Tensor,
    bias: Tensor,
    groups: i64,
    eps: f64,
}

impl GroupNorm {
    /// Errors: `groups` does not divide `channels`.
    pub fn new(scope: &Scope, groups: i64, channels: i64, eps: f64) -> Result<Self> {
        if channels % groups != 0 {
            let why = format!("{channels} channels cannot be normalised in {groups} groups");
            return Err(scope.error(why));
        }
        Ok(Self {
            weight: scope.tensor("weight", &[channels])?,
            bias: scope.tensor("bias", &[channels])?,
            groups,
            eps,
        })
    }

    /// `[batch, channels, ...]`, a new tensor.
    pub fn forward(&self, x: &Tensor) -> Tensor {
        let (weight, bias) = (Some(&self.weight), Some(&self.bias));
        x.group_norm(self.groups, weight, bias, self.eps, true)
    }
}

impl GroupNorm {
    /// What this comes to for a map that lies in strips of rows, `[batch, channels, rows, width]` each:
    /// `map * scale + shift`, both `[batch, channels, 1, 1]` of the map's kind.
    ///
    /// The strips' means and variances are put together as by Chan, Golub and LeVeque, 1979, in f64.
    pub fn scale_and_shift<'a>(
        &self,
        strips: impl IntoIterator<Item = &'a Tensor>,
    ) -> (Tensor, Tensor) {
        let channels = self.weight.size().first().copied().unwrap_or(1);
        let (mut count, mut mean, mut squares) = (0.0, Tensor::from(0.0), Tensor::from(0.0));
        for strip in strips {
            let batch = strip.size().first().copied().unwrap_or(1);
            let values = strip.numel() as i64 / (batch * channels);
            // libtorch's fastest way to the moments, f32 `[batch, groups]` each.
            let (_, strip_mean, rstd) = strip.contiguous().native_group_norm(
                None::<&Tensor>,
                None,
                batch,
                channels,
                values,
                self.groups,
                self.eps,
            );
            let values = (values * channels / self.groups) as f64;
            let variance = rstd.to_kind(Kind::Double).pow_tensor_scalar(-2) - self.eps;
            let away = strip_mean.to_kind(Kind::Double) - &mean;
            let total = count + values;
            squares = squares + variance * values + &away * &away * (count * values / total);
            mean = &mean + away * (values / total);
            count = total;
        }
        let rstd = (squares / count + self.eps).rsqrt();
        let a_channel = |x: Tensor| x.repeat_interleave_self_int(channels / self.groups, 1, None);
        let scale = a_channel(rstd) * &self.weight;
        let shift = &self.bias - a_channel(mean) * &scale;
        let like = |x: Tensor| x.to_kind(self.weight.kind()).unsqueeze(-1).unsqueeze(-1);
        (like(scale), like(shift))
    }
}

/// Ba et al., 2016, over the last dimension. `weight`, `bias`: `[features]`.
#[derive(Debug)]
pub struct LayerNorm {
    weight: Tensor,
    bias: Tensor,
    features: i64,
    eps: f64,
}

impl LayerNorm {
    pub fn new(scope: &Scope, features: i64, eps: f64) -> Result<Self> {
        Ok(Self {
            weight: scope.tensor("weight", &[features])?,
            bias: scope.tensor("bias", &[features])?,
            features,
            eps,
        })
    }

    /// `[..., features]`, a new tensor.
    pub fn forward(&self, x: &Tensor) -> Tensor {
        let (weight, bias) = (Some(&self.weight), Some(&self.bias));
        x.layer_norm([self.features], weight, bias, self.eps, true)
    }
}
