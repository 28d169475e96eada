//! The residual block that UNet and VAE share by definition, and the changes of size around it.
//!
//! Source: diffusers `models/resnet.py`, `downsampling.py`, `upsampling.py`, 0.42.1.

use tch::Tensor;

use super::{Activation, Conv2d, GroupNorm, Linear, Scope};
use crate::error::Result;

/// How the timestep enters a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimeScaleShift {
    /// Added before the second normalisation ("default").
    Add,
    /// Scales and shifts after it ("scale_shift").
    ScaleShift,
}

/// What the blocks of one network have in common.
#[derive(Clone, Copy, Debug)]
pub struct ResnetConfig {
    /// Width of the time embedding; `None` in a VAE.
    pub temb_channels: Option<i64>,
    pub groups: i64,
    pub eps: f64,
    pub activation: Activation,
    pub time_scale_shift: TimeScaleShift,
    /// The sum of both branches is divided by this.
    pub output_scale_factor: f64,
}

/// Normalise, activate, convolve, twice, beside a shortcut.
#[derive(Debug)]
pub struct ResnetBlock2D {
    norm1: GroupNorm,
    conv1: Conv2d,
    time_emb_proj: Option<Linear>,
    norm2: GroupNorm,
    conv2: Conv2d,
    /// Where the number of channels changes.
    conv_shortcut: Option<Conv2d>,
    config: ResnetConfig,
}

impl ResnetBlock2D {
    pub fn new(
        scope: &Scope,
        in_channels: i64,
        out_channels: i64,
        config: ResnetConfig,
    ) -> Result<Self> {
        let ResnetConfig { groups, eps, .. } = config;
        let time_channels = match config.time_scale_shift {
            TimeScaleShift::Add => out_channels,
            TimeScaleShift::ScaleShift => 2 * out_channels,
        };
        let time_emb_proj = config
            .temb_channels
            .map(|width| Linear::new(&scope.child("time_emb_proj"), width, time_channels))
            .transpose()?;
        let conv_shortcut = (in_channels != out_channels)
            .then(|| Conv2d::new(&scope.child("conv_shortcut"), in_channels, out_channels, 1))
            .transpose()?;
        Ok(Self {
            norm1: GroupNorm::new(&scope.child("norm1"), groups, in_channels, eps)?,
            conv1: Conv2d::new(&scope.child("conv1"), in_channels, out_channels, 3)?,
            time_emb_proj,
            norm2: GroupNorm::new(&scope.child("norm2"), groups, out_channels, eps)?,
            conv2: Conv2d::new(&scope.child("conv2"), out_channels, out_channels, 3)?,
            conv_shortcut,
            config,
        })
    }

    /// `x`: `[batch, in_channels, height, width]`; `temb`: `[batch or 1, temb_channels]`, already
    /// activated (the same for every block, so the network does it once). Returns
    /// `[batch, out_channels, height, width]`, a new tensor.
    pub fn forward(&self, x: &Tensor, temb: Option<&Tensor>) -> Tensor {
        let activation = self.config.activation;
        let mut hidden = self
            .conv1
            .forward(&activation.forward(self.norm1.forward(x)));
        let time = self
            .time_emb_proj
            .as_ref()
            .zip(temb)
            // [batch or 1, channels, 1, 1]
            .map(|(proj, temb)| proj.forward(temb).unsqueeze(-1).unsqueeze(-1));
        hidden = match (self.config.time_scale_shift, time) {
            (_, None) => self.norm2.forward(&hidden),
            (TimeScaleShift::Add, Some(time)) => self.norm2.forward(&hidden.g_add_(&time)),
            (TimeScaleShift::ScaleShift, Some(time)) => {
                let channels = time.size().get(1).copied().unwrap_or_default() / 2;
                let scale = time.narrow(1, 0, channels) + 1.0;
                let shift = time.narrow(1, channels, channels);
                self.norm2.forward(&hidden).g_mul_(&scale).g_add_(&shift)
            }
        };
        let mut hidden = self.conv2.forward(&activation.forward(hidden));
        hidden = match &self.conv_shortcut {
            Some(conv) => hidden.g_add_(&conv.forward(x)),
            None => hidden.g_add_(x),
        };
        match self.config.output_scale_factor {
            1.0 => hidden,
            factor => hidden.g_div_scalar_(factor),
        }
    }
}

/// Half the size: a convolution of stride 2.
#[derive(Debug)]
pub struct Downsample2D {
    conv: Conv2d,
    padding: i64,
}

impl Downsample2D {
    pub fn new(scope: &Scope, channels: i64, padding: i64) -> Result<Self> {
        let conv = Conv2d::new(&scope.child("conv"), channels, channels, 3)?;
        Ok(Self {
            conv: conv.with_stride(2, padding),
            padding,
        })
    }

    /// Padding 0 means one row and column of zeros below and to the right.
    pub fn forward(&self, x: &Tensor) -> Tensor {
        match self.padding {
            0 => self.conv.forward(&x.constant_pad_nd([0, 1, 0, 1])),
            _ => self.conv.forward(x),
        }
    }
}

/// Repeats pixels up to a size, then convolves.
#[derive(Debug)]
pub struct Upsample2D {
    conv: Conv2d,
}

impl Upsample2D {
    pub fn new(scope: &Scope, channels: i64) -> Result<Self> {
        let conv = Conv2d::new(&scope.child("conv"), channels, channels, 3)?;
        Ok(Self { conv })
    }

    /// `size`: height and width of the result.
    pub fn forward(&self, x: &Tensor, size: [i64; 2]) -> Tensor {
        self.conv.forward(&x.upsample_nearest2d(size, None, None))
    }
}
