//! Normalisations built from named tensors.

use tch::Tensor;

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
