//! Linear maps and embeddings built from named tensors.

use tch::{Device, Kind, Tensor};

use super::{Adapters, Scope, profile};
use crate::error::Result;

/// `weight`: `[out_features, in_features]`, `bias`: `[out_features]` or none.
#[derive(Debug)]
pub struct Linear {
    adapters: Adapters,
}

impl Linear {
    pub fn new(scope: &Scope, in_features: i64, out_features: i64) -> Result<Self> {
        let weight = weight(scope, in_features, out_features)?;
        let bias = scope.tensor("bias", &[out_features])?;
        Ok(Self {
            adapters: scope.adapters(&weight, Some(&bias)),
        })
    }

    pub fn without_bias(scope: &Scope, in_features: i64, out_features: i64) -> Result<Self> {
        let weight = weight(scope, in_features, out_features)?;
        Ok(Self {
            adapters: scope.adapters(&weight, None),
        })
    }

    /// `[..., in_features]` to `[..., out_features]`.
    pub fn forward(&self, x: &Tensor) -> Tensor {
        let own = self.adapters.current();
        let y = profile::layer("linear", || x.linear(&own.weight, own.bias.as_ref()));
        self.adapters.add_linear(x, y)
    }
}

/// A convolution with a kernel of one is a linear map over channels: files have it either way.
fn weight(scope: &Scope, in_features: i64, out_features: i64) -> Result<Tensor> {
    let linear = [out_features, in_features];
    match scope.shape("weight").as_deref() {
        Some([_, _, 1, 1]) => {
            let weight = scope.stored("weight", &[out_features, in_features, 1, 1])?;
            Ok(weight.f_view(linear)?)
        }
        _ => scope.stored("weight", &linear),
    }
}

/// `weight`: `[count, features]`.
#[derive(Debug)]
pub struct Embedding {
    /// As it is stored: a text looks at a few rows of many.
    weight: Tensor,
    kind: Kind,
}

impl Embedding {
    pub fn new(scope: &Scope, count: i64, features: i64) -> Result<Self> {
        Ok(Self {
            weight: scope.stored("weight", &[count, features])?,
            kind: scope.kind("weight"),
        })
    }

    /// `indices`: i64 `[batch, n]`, each below `count`. Returns `[batch, n, features]`.
    pub fn forward(&self, indices: &Tensor) -> Tensor {
        Tensor::embedding(&self.weight, indices, -1, false, false).to_kind(self.kind)
    }

    /// The first `count`: `[count, features]`.
    pub fn first(&self, count: i64) -> Tensor {
        self.weight.narrow(0, 0, count).to_kind(self.kind)
    }

    pub fn kind(&self) -> Kind {
        self.kind
    }

    pub fn device(&self) -> Device {
        self.weight.device()
    }
}
