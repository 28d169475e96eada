//! Activation functions by the names configs have for them.
//!
//! Source: diffusers `models/activations.py` (`ACT2CLS`) and transformers `activations.py`.

use tch::Tensor;

use super::profile;

/// An elementwise function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    Silu,
    Mish,
    Gelu,
    Relu,
    /// `x * sigmoid(1.702 x)`: OpenAI's CLIP.
    QuickGelu,
}

impl Activation {
    /// diffusers' `act_fn`.
    pub fn from_diffusers(name: &str) -> Option<Self> {
        match name.to_lowercase().as_str() {
            "swish" | "silu" => Some(Self::Silu),
            "mish" => Some(Self::Mish),
            "gelu" => Some(Self::Gelu),
            "relu" => Some(Self::Relu),
            _ => None,
        }
    }

    /// transformers' `hidden_act`.
    pub fn from_transformers(name: &str) -> Option<Self> {
        match name {
            "quick_gelu" => Some(Self::QuickGelu),
            "gelu" => Some(Self::Gelu),
            "silu" | "swish" => Some(Self::Silu),
            "relu" => Some(Self::Relu),
            _ => None,
        }
    }

    /// Works in place: hand over only a tensor that nobody else holds.
    pub fn forward(self, x: Tensor) -> Tensor {
        profile::layer("activation", || self.apply(x))
    }

    fn apply(self, mut x: Tensor) -> Tensor {
        match self {
            Self::Silu => x.silu_(),
            Self::Mish => x.mish_(),
            Self::Gelu => x.gelu_("none"),
            Self::Relu => x.relu_(),
            Self::QuickGelu => {
                let gate = (&x * 1.702).sigmoid_();
                x.g_mul_(&gate)
            }
        }
    }
}
