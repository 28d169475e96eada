//! What every network is made of: named weights, config fields, and the layers on top of them.
//!
//! Layers use libtorch's plain operators inside `forward` (a failure panics and the engine turns it
//! into an error) and check their weights' names and shapes when they are built.

mod activation;
mod adapter;
mod attention;
mod config;
mod conv;
mod conversions;
mod convolution_plan;
mod linear;
mod norm;
mod plain;
mod product;
pub mod profile;
mod resnet;
mod strips;
mod time;
mod weights;
mod winograd;

pub use activation::Activation;
pub use adapter::{Adapters, Branch, Parameters};
pub use attention::{Mask, attention};
pub use config::{Fields, PerBlock};
pub use conv::Conv2d;
pub use conversions::KeepConverted;
pub use convolution_plan::{ConvolutionPlanner, Exactly, Method};
pub use linear::{Embedding, Linear};
pub use norm::{GroupNorm, LayerNorm};
pub use resnet::{Downsample2D, ResnetBlock2D, ResnetConfig, TimeScaleShift, Upsample2D};
pub use strips::Strips;
pub use time::{TimestepEmbedding, Timesteps, embed_guidance_scale};
pub use weights::{Budget, Scope, Weights};
