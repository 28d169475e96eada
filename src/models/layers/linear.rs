//! Linear maps and embeddings built from named tensors.

use tch::{Device, Kind, Tensor};

use super::product::{After, pixels, tokens};
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

    /// `[..., in_features]` to `[..., out_features]`, a new tensor.
    pub fn forward(&self, x: &Tensor) -> Tensor {
        let y = profile::layer("linear", || {
            tokens(x, &self.adapters.as_stored(), After::Nothing)
                .unwrap_or_else(|| self.libtorch(x))
        });
        self.adapters.add_linear(x, y)
    }

    /// [`Self::forward`] plus `other`, of the shape of the output.
    pub fn forward_added(&self, x: &Tensor, other: &Tensor) -> Tensor {
        if self.adapters.has_branches() {
            return self.forward(x).g_add_(other);
        }
        profile::layer("linear", || {
            tokens(x, &self.adapters.as_stored(), After::Add(other))
                .unwrap_or_else(|| self.libtorch(x).g_add_(other))
        })
    }

    /// The first half of what [`Self::forward`] gives, each feature times the GELU of its fellow in the
    /// second half: `[..., out_features / 2]`. Source: Shazeer, "GLU Variants", arXiv 2002.05202.
    pub fn forward_gated(&self, x: &Tensor) -> Tensor {
        let gated = || tokens(x, &self.adapters.as_stored(), After::Gate);
        let fast = match self.adapters.has_branches() {
            true => None,
            false => profile::layer("linear", gated),
        };
        fast.unwrap_or_else(|| {
            let both = self.forward(x);
            let half = both.size().last().copied().unwrap_or_default() / 2;
            profile::layer("activation", || {
                both.narrow(-1, 0, half) * both.narrow(-1, half, half).gelu("none")
            })
        })
    }

    /// From tokens back to the picture that they are the pixels of, added to what it was:
    /// `[batch, height * width, in_features]` and `[batch, out_features, height, width]` to the latter.
    pub fn forward_pixels(&self, x: &Tensor, picture: &Tensor) -> Tensor {
        let before = picture.flatten(2, 3);
        let added = || pixels(x, &self.adapters.as_stored(), After::Add(&before));
        let fast = match self.adapters.has_branches() {
            true => None,
            false => profile::layer("linear", added),
        };
        match fast {
            Some(y) => y.view_as(picture),
            // In this order the sum has the memory layout of `picture`.
            None => picture + self.forward(x).transpose(1, 2).view_as(picture),
        }
    }

    fn libtorch(&self, x: &Tensor) -> Tensor {
        let own = self.adapters.current();
        x.linear(&own.weight, own.bias.as_ref())
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
