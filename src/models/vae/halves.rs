//! Encoder and decoder of the VAE, and the attention in the middle of both.
//!
//! Source: diffusers `autoencoders/vae.py`, `unets/unet_2d_blocks.py` (`UNetMidBlock2D`,
//! `DownEncoderBlock2D`, `UpDecoderBlock2D`), 0.42.1.

use tch::{Device, Kind, Tensor};

use super::config::VaeConfig;
use crate::error::Result;
use crate::models::layers::{
    Activation, Conv2d, Downsample2D, Exactly, GroupNorm, Linear, Mask, ResnetBlock2D,
    ResnetConfig, Scope, Strips, TimeScaleShift, Upsample2D, attention,
};

/// Fixed in diffusers' VAE.
const EPS: f64 = 1e-6;
/// The decoder's maps beyond this are worked on in strips of rows, unless every bit is to be libtorch's.
const STRIP_BYTES: i64 = 16 << 20;

fn resnet_config(config: &VaeConfig) -> ResnetConfig {
    ResnetConfig {
        temb_channels: None,
        groups: config.norm_num_groups,
        eps: EPS,
        activation: config.activation,
        time_scale_shift: TimeScaleShift::Add,
        output_scale_factor: 1.0,
    }
}

/// Residual blocks of one size.
fn resnets(
    scope: &Scope,
    count: i64,
    in_channels: i64,
    channels: i64,
    config: ResnetConfig,
) -> Result<Vec<ResnetBlock2D>> {
    let scope = scope.child("resnets");
    (0..count as usize)
        .map(|index| {
            let input = if index == 0 { in_channels } else { channels };
            ResnetBlock2D::new(&scope.index(index), input, channels, config)
        })
        .collect()
}

/// Picture to moments.
#[derive(Debug)]
pub(super) struct Encoder {
    conv_in: Conv2d,
    down_blocks: Vec<(Vec<ResnetBlock2D>, Option<Downsample2D>)>,
    mid_block: MidBlock,
    conv_norm_out: GroupNorm,
    conv_out: Conv2d,
}

impl Encoder {
    pub fn new(scope: &Scope, config: &VaeConfig) -> Result<Self> {
        let channels = &config.block_out_channels;
        let first = channels.first().copied().unwrap_or_default();
        let conv_in = Conv2d::new(&scope.child("conv_in"), config.in_channels, first, 3)?;
        let mut down_blocks = Vec::new();
        let mut last = first;
        for (index, &out) in channels.iter().enumerate() {
            let scope = scope.child("down_blocks").index(index);
            let layers = config.layers_per_block;
            let resnets = resnets(&scope, layers, last, out, resnet_config(config))?;
            let downsampler = (index + 1 < channels.len())
                .then(|| Downsample2D::new(&scope.child("downsamplers").index(0), out, 0))
                .transpose()?;
            down_blocks.push((resnets, downsampler));
            last = out;
        }
        let norm_out = scope.child("conv_norm_out");
        let moments = 2 * config.latent_channels;
        Ok(Self {
            conv_in,
            down_blocks,
            mid_block: MidBlock::new(&scope.child("mid_block"), last, config)?,
            conv_norm_out: GroupNorm::new(&norm_out, config.norm_num_groups, last, EPS)?,
            conv_out: Conv2d::new(&scope.child("conv_out"), last, moments, 3)?,
        })
    }

    pub fn forward(&self, image: &Tensor) -> Tensor {
        let mut x = self.conv_in.forward(image);
        for (resnets, downsampler) in &self.down_blocks {
            for resnet in resnets {
                x = resnet.forward(&x, None);
            }
            if let Some(downsampler) = downsampler {
                x = downsampler.forward(&x);
            }
        }
        x = self.mid_block.forward(&x);
        let x = self.conv_norm_out.forward_activated(&x, Activation::Silu);
        self.conv_out.forward(&x)
    }
}

/// Latents to picture.
#[derive(Debug)]
pub(super) struct Decoder {
    conv_in: Conv2d,
    mid_block: MidBlock,
    up_blocks: Vec<(Vec<ResnetBlock2D>, Option<Upsample2D>)>,
    conv_norm_out: GroupNorm,
    conv_out: Conv2d,
}

impl Decoder {
    pub fn new(scope: &Scope, config: &VaeConfig) -> Result<Self> {
        let channels = &config.block_out_channels;
        let mut last = channels.last().copied().unwrap_or_default();
        let conv_in = Conv2d::new(&scope.child("conv_in"), config.latent_channels, last, 3)?;
        let mid_block = MidBlock::new(&scope.child("mid_block"), last, config)?;
        let mut up_blocks = Vec::new();
        for (index, &out) in channels.iter().rev().enumerate() {
            let scope = scope.child("up_blocks").index(index);
            let layers = config.layers_per_block + 1;
            let resnets = resnets(&scope, layers, last, out, resnet_config(config))?;
            let upsampler = (index + 1 < channels.len())
                .then(|| Upsample2D::new(&scope.child("upsamplers").index(0), out))
                .transpose()?;
            up_blocks.push((resnets, upsampler));
            last = out;
        }
        let norm_out = scope.child("conv_norm_out");
        Ok(Self {
            conv_in,
            mid_block,
            up_blocks,
            conv_norm_out: GroupNorm::new(&norm_out, config.norm_num_groups, last, EPS)?,
            conv_out: Conv2d::new(&scope.child("conv_out"), last, config.out_channels, 3)?,
        })
    }

    pub fn kind(&self) -> Kind {
        self.conv_in.kind()
    }

    pub fn device(&self) -> Device {
        self.conv_in.device()
    }

    pub fn forward(&self, latents: &Tensor) -> Tensor {
        let x = self.mid_block.forward(&self.conv_in.forward(latents));
        let mut x = Strips::whole(x);
        let bytes = if Exactly::holds() {
            i64::MAX
        } else {
            STRIP_BYTES
        };
        for (resnets, upsampler) in &self.up_blocks {
            for resnet in resnets {
                x = resnet.forward_strips(x, bytes);
            }
            if let Some(upsampler) = upsampler {
                x = upsampler.forward_strips(x, bytes);
            }
        }
        let norm = x.normalizer(&self.conv_norm_out);
        let normed = |rows: &Tensor| norm.forward_activated(rows, Activation::Silu);
        let picture: Strips = x
            .windows()
            .map(|window| window.convolved(&self.conv_out, 1, normed))
            .collect();
        picture.joined()
    }
}

/// Two residual blocks, with or without attention between.
#[derive(Debug)]
struct MidBlock {
    first: ResnetBlock2D,
    attention: Option<MidAttention>,
    second: ResnetBlock2D,
}

impl MidBlock {
    fn new(scope: &Scope, channels: i64, config: &VaeConfig) -> Result<Self> {
        let resnet = |index| {
            let scope = scope.child("resnets").index(index);
            ResnetBlock2D::new(&scope, channels, channels, resnet_config(config))
        };
        let attention = config
            .mid_block_add_attention
            .then(|| {
                let scope = scope.child("attentions").index(0);
                MidAttention::new(&scope, channels, config.norm_num_groups)
            })
            .transpose()?;
        Ok(Self {
            first: resnet(0)?,
            attention,
            second: resnet(1)?,
        })
    }

    fn forward(&self, x: &Tensor) -> Tensor {
        let mut x = self.first.forward(x, None);
        if let Some(attention) = &self.attention {
            x = attention.forward(&x);
        }
        self.second.forward(&x, None)
    }
}

/// Every value of the latents looks at every other, with one head.
#[derive(Debug)]
struct MidAttention {
    group_norm: GroupNorm,
    to_q: Linear,
    to_k: Linear,
    to_v: Linear,
    to_out: Linear,
}

impl MidAttention {
    /// Takes the names of before 2023 too (`query`, `key`, `value`, `proj_attn`).
    fn new(scope: &Scope, channels: i64, groups: i64) -> Result<Self> {
        let linear = |names| Linear::new(&scope.child_of(names), channels, channels);
        Ok(Self {
            group_norm: GroupNorm::new(&scope.child("group_norm"), groups, channels, EPS)?,
            to_q: linear(["to_q", "query"])?,
            to_k: linear(["to_k", "key"])?,
            to_v: linear(["to_v", "value"])?,
            to_out: linear(["to_out.0", "proj_attn"])?,
        })
    }

    fn forward(&self, x: &Tensor) -> Tensor {
        // [batch, height * width, channels]
        let tokens = self.group_norm.forward(x).flatten(2, 3).transpose(1, 2);
        let query = self.to_q.forward(&tokens);
        let (key, value) = (self.to_k.forward(&tokens), self.to_v.forward(&tokens));
        let mixed = attention(&query, &key, &value, 1, Mask::Nothing);
        self.to_out.forward_pixels(&mixed, x)
    }
}
