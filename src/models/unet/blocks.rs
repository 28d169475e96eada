//! The UNet's blocks: down, middle, up, each with or without attention to the text.
//!
//! Source: diffusers `unets/unet_2d_blocks.py`, 0.42.1: one struct a direction, as the blocks with
//! cross-attention are the plain ones with a transformer after each residual block.

use tch::Tensor;

use super::config::{BlockSpec, MidSpec, UNetConfig};
use super::text::Text;
use super::transformer::Transformer2DModel;
use crate::error::{Error, Result};
use crate::models::layers::{Downsample2D, ResnetBlock2D, ResnetConfig, Scope, Upsample2D};

/// A residual block and what may follow it.
#[derive(Debug)]
struct Layer {
    resnet: ResnetBlock2D,
    attention: Option<Transformer2DModel>,
}

impl Layer {
    fn new(
        scope: &Scope,
        index: usize,
        in_channels: i64,
        spec: &BlockSpec,
        resnet: ResnetConfig,
    ) -> Result<Self> {
        let attentions = scope.child("attentions").index(index);
        let attention = spec
            .transformers
            .get(index)
            .map(|t| Transformer2DModel::new(&attentions, spec.channels, resnet.groups, *t))
            .transpose()?;
        let resnets = scope.child("resnets").index(index);
        Ok(Self {
            resnet: ResnetBlock2D::new(&resnets, in_channels, spec.channels, resnet)?,
            attention,
        })
    }

    fn forward(&self, x: &Tensor, temb: &Tensor, text: Text<'_>) -> Tensor {
        let x = self.resnet.forward(x, Some(temb));
        match &self.attention {
            Some(attention) => attention.forward(&x, text),
            None => x,
        }
    }
}

/// A block of the way down: every state is kept for the way up.
#[derive(Debug)]
pub(super) struct DownBlock {
    layers: Vec<Layer>,
    downsampler: Option<Downsample2D>,
}

impl DownBlock {
    /// Every block of the way down. Each halves the size, but the last.
    pub fn all(scope: &Scope, config: &UNetConfig, resnet: ResnetConfig) -> Result<Vec<Self>> {
        let mut in_channels = config.first_channels;
        let mut blocks = Vec::new();
        for (index, spec) in config.down_blocks.iter().enumerate() {
            let scope = scope.index(index);
            let mut layers = Vec::new();
            for layer in 0..spec.layers as usize {
                layers.push(Layer::new(&scope, layer, in_channels, spec, resnet)?);
                in_channels = spec.channels;
            }
            let sampler = scope.child("downsamplers").index(0);
            let downsampler = (index + 1 < config.down_blocks.len())
                .then(|| Downsample2D::new(&sampler, spec.channels, config.downsample_padding))
                .transpose()?;
            blocks.push(Self {
                layers,
                downsampler,
            });
        }
        Ok(blocks)
    }

    pub fn forward(
        &self,
        mut x: Tensor,
        temb: &Tensor,
        text: Text<'_>,
        skips: &mut Vec<Tensor>,
    ) -> Tensor {
        for layer in &self.layers {
            x = layer.forward(&x, temb, text);
            skips.push(x.shallow_clone());
        }
        if let Some(downsampler) = &self.downsampler {
            x = downsampler.forward(&x);
            skips.push(x.shallow_clone());
        }
        x
    }
}

/// The block at the smallest size.
#[derive(Debug)]
pub(super) struct MidBlock {
    first: ResnetBlock2D,
    rest: Option<(Transformer2DModel, ResnetBlock2D)>,
}

impl MidBlock {
    /// `None` where the config has no middle block.
    pub fn new(
        scope: &Scope,
        spec: MidSpec,
        channels: i64,
        resnet: ResnetConfig,
    ) -> Result<Option<Self>> {
        let resnets = scope.child("resnets");
        let block = |index| ResnetBlock2D::new(&resnets.index(index), channels, channels, resnet);
        let rest = match spec {
            MidSpec::Absent => return Ok(None),
            MidSpec::Resnet => None,
            MidSpec::CrossAttention(spec) => {
                let scope = scope.child("attentions").index(0);
                let attention = Transformer2DModel::new(&scope, channels, resnet.groups, spec)?;
                Some((attention, block(1)?))
            }
        };
        let first = block(0)?;
        Ok(Some(Self { first, rest }))
    }

    pub fn forward(&self, x: &Tensor, temb: &Tensor, text: Text<'_>) -> Tensor {
        let x = self.first.forward(x, Some(temb));
        match &self.rest {
            None => x,
            Some((attention, resnet)) => resnet.forward(&attention.forward(&x, text), Some(temb)),
        }
    }
}

/// A block of the way up: each residual block sees a state of the way down beside its input.
#[derive(Debug)]
pub(super) struct UpBlock {
    layers: Vec<Layer>,
    upsampler: Option<Upsample2D>,
}

impl UpBlock {
    /// Every block of the way up. Each doubles the size, but the last.
    pub fn all(scope: &Scope, config: &UNetConfig, resnet: ResnetConfig) -> Result<Vec<Self>> {
        let mut skip_channels = skip_channels(config);
        let mut in_channels = config.last_channels;
        let mut blocks = Vec::new();
        for (index, spec) in config.up_blocks.iter().enumerate() {
            let scope = scope.index(index);
            let mut layers = Vec::new();
            for layer in 0..spec.layers as usize {
                let skip = skip_channels.pop().unwrap_or_default();
                layers.push(Layer::new(&scope, layer, in_channels + skip, spec, resnet)?);
                in_channels = spec.channels;
            }
            let upsampler = (index + 1 < config.up_blocks.len())
                .then(|| Upsample2D::new(&scope.child("upsamplers").index(0), spec.channels))
                .transpose()?;
            blocks.push(Self { layers, upsampler });
        }
        Ok(blocks)
    }

    pub fn forward(
        &self,
        mut x: Tensor,
        temb: &Tensor,
        text: Text<'_>,
        skips: &mut Vec<Tensor>,
    ) -> Result<Tensor> {
        for layer in &self.layers {
            let skip = skips.pop().ok_or_else(no_skip)?;
            x = layer.forward(&Tensor::cat(&[x, skip], 1), temb, text);
        }
        if let Some(upsampler) = &self.upsampler {
            // The size that the state of the way down has: odd sizes come back as they went.
            let (_, _, height, width) = skips.last().ok_or_else(no_skip)?.size4()?;
            x = upsampler.forward(&x, [height, width]);
        }
        Ok(x)
    }
}

/// The channels of the states that the way down leaves, in its order.
fn skip_channels(config: &UNetConfig) -> Vec<i64> {
    let mut channels = vec![config.first_channels];
    for (index, spec) in config.down_blocks.iter().enumerate() {
        let downsampler = i64::from(index + 1 < config.down_blocks.len());
        channels.extend((0..spec.layers + downsampler).map(|_| spec.channels));
    }
    channels
}

/// Both ways have as many states: `UNetConfig` makes each block of the way up one longer.
fn no_skip() -> Error {
    Error::Panic {
        details: "the UNet's way up is longer than its way down".to_owned(),
    }
}
