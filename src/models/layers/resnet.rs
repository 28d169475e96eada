//! The residual block that UNet and VAE share by definition, and the changes of size around it.
//!
//! Source: diffusers `models/resnet.py`, `downsampling.py`, `upsampling.py`, 0.42.1.

use tch::Tensor;

use super::{Activation, Conv2d, GroupNorm, Linear, Scope, Strips};
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
            .forward(&self.norm1.forward_activated(x, activation));
        let time = self
            .time_emb_proj
            .as_ref()
            .zip(temb)
            // [batch or 1, channels, 1, 1]
            .map(|(proj, temb)| proj.forward(temb).unsqueeze(-1).unsqueeze(-1));
        let hidden = match (self.config.time_scale_shift, time) {
            (_, None) => self.norm2.forward_activated(&hidden, activation),
            (TimeScaleShift::Add, Some(time)) => self
                .norm2
                .forward_activated(&hidden.g_add_(&time), activation),
            (TimeScaleShift::ScaleShift, Some(time)) => {
                let channels = time.size().get(1).copied().unwrap_or_default() / 2;
                let scale = time.narrow(1, 0, channels) + 1.0;
                let shift = time.narrow(1, channels, channels);
                let mut hidden = self.norm2.forward(&hidden);
                activation.forward(hidden.g_mul_(&scale).g_add_(&shift))
            }
        };
        let mut hidden = match &self.conv_shortcut {
            Some(conv) => conv.forward_added(x, &self.conv2.forward(&hidden)),
            None => self.conv2.forward_added(&hidden, x),
        };
        match self.config.output_scale_factor {
            1.0 => hidden,
            factor => hidden.g_div_scalar_(factor),
        }
    }

    /// The same for a block without a timestep on a map in strips of at most `bytes`.
    pub fn forward_strips(&self, x: Strips, bytes: i64) -> Strips {
        let activation = self.config.activation;
        let (out_channels, in_channels) = self.conv1.channels();
        let x = x.limited(in_channels.max(out_channels), bytes);
        let norm = x.normalizer(&self.norm1);
        let (hidden, shortcuts): (Vec<_>, Vec<_>) = x
            .windows()
            .map(|window| {
                let normed = |rows: &Tensor| norm.forward_activated(rows, activation);
                let hidden = window.convolved(&self.conv1, 1, normed);
                let shortcut = match &self.conv_shortcut {
                    Some(conv) => conv.forward(&window.strip),
                    None => window.strip,
                };
                (hidden, shortcut)
            })
            .unzip();
        let hidden = Strips::from_iter(hidden);
        let norm = hidden.normalizer(&self.norm2);
        hidden
            .windows()
            .zip(shortcuts)
            .map(|(window, shortcut)| {
                let normed = |rows: &Tensor| norm.forward_activated(rows, activation);
                let mut out = window.convolved(&self.conv2, 1, normed).g_add_(&shortcut);
                match self.config.output_scale_factor {
                    1.0 => out,
                    factor => out.g_div_scalar_(factor),
                }
            })
            .collect()
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

    /// Twice the size, of a map in strips, in strips of at most `bytes`.
    pub fn forward_strips(&self, x: Strips, bytes: i64) -> Strips {
        let (out_channels, in_channels) = self.conv.channels();
        let twice = |rows: &Tensor| {
            let size = rows.size();
            let side = |dim: usize| 2 * size.get(dim).copied().unwrap_or_default();
            rows.upsample_nearest2d([side(2), side(3)], None, None)
        };
        x.limited(4 * in_channels.max(out_channels), bytes)
            .windows()
            .map(|window| window.convolved(&self.conv, 2, twice))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use tch::{Device, Kind};

    use super::*;
    use crate::models::layers::Weights;

    const CONFIG: ResnetConfig = ResnetConfig {
        temb_channels: None,
        groups: 2,
        eps: 1e-6,
        activation: Activation::Silu,
        time_scale_shift: TimeScaleShift::Add,
        output_scale_factor: 2.0,
    };

    fn weights(tensors: &[(&str, &[i64])]) -> Weights {
        let random = |shape: &[i64]| Tensor::randn(shape, (Kind::Float, Device::Cpu));
        let named = tensors
            .iter()
            .map(|(name, shape)| ((*name).to_owned(), random(shape)));
        Weights::new("test", named.collect())
    }

    fn largest_difference(strips: Strips, whole: &Tensor) -> f64 {
        let joined = strips.joined();
        assert_eq!(joined.size(), whole.size());
        (joined - whole).abs().max().double_value(&[]) / whole.abs().max().double_value(&[])
    }

    #[test]
    fn a_map_in_strips_of_one_or_a_few_rows_comes_to_the_same() {
        tch::manual_seed(5);
        let x = || Tensor::randn([1, 4, 9, 6], (Kind::Float, Device::Cpu)) + 3.0;
        for out in [4i64, 6] {
            let mut tensors: Vec<(&str, Vec<i64>)> = vec![
                ("norm1.weight", vec![4]),
                ("norm1.bias", vec![4]),
                ("conv1.weight", vec![out, 4, 3, 3]),
                ("conv1.bias", vec![out]),
                ("norm2.weight", vec![out]),
                ("norm2.bias", vec![out]),
                ("conv2.weight", vec![out, out, 3, 3]),
                ("conv2.bias", vec![out]),
            ];
            if out != 4 {
                tensors.push(("conv_shortcut.weight", vec![out, 4, 1, 1]));
                tensors.push(("conv_shortcut.bias", vec![out]));
            }
            let tensors: Vec<_> = tensors.iter().map(|(n, s)| (*n, s.as_slice())).collect();
            let weights = weights(&tensors);
            let block = ResnetBlock2D::new(&weights.root(), 4, out, CONFIG).unwrap();
            for rows in [1, 4, 9] {
                let (x, bytes) = (x(), rows * 4 * 6 * 4);
                let whole = block.forward(&x, None);
                let strips = block.forward_strips(Strips::whole(x), bytes);
                assert!(largest_difference(strips, &whole) < 2e-6);
            }
        }
    }

    #[test]
    fn a_map_is_enlarged_in_strips_as_it_is_whole() {
        tch::manual_seed(6);
        let weights = weights(&[("conv.weight", &[4, 4, 3, 3]), ("conv.bias", &[4])]);
        let upsample = Upsample2D::new(&weights.root(), 4).unwrap();
        let x = Tensor::randn([2, 4, 7, 5], (Kind::Float, Device::Cpu));
        let whole = upsample.forward(&x, [14, 10]);
        for rows in [1, 3, 7] {
            let strips = Strips::whole(x.shallow_clone());
            let strips = upsample.forward_strips(strips, rows * 2 * 16 * 5 * 4);
            assert!(largest_difference(strips, &whole) < 2e-6);
        }
    }
}
