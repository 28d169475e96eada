//! `AutoencoderTiny`, TAESD: a small network that decodes the latents of a larger VAE, a little less
//! exactly and many times as fast. Its decoder only: Easel makes no latents of pictures with it.
//!
//! Source: diffusers `models/autoencoders/autoencoder_tiny.py`, `vae.py` (`DecoderTiny`) and
//! `unets/unet_2d_blocks.py` (`AutoencoderTinyBlock`), 0.42.1; github.com/madebyollin/taesd.

use std::path::Path;

use serde_json::json;
use tch::{Device, Kind, Tensor};

use super::check_shape;
use crate::error::Result;
use crate::models::layers::{Activation, Conv2d, Fields, Scope, Weights};

/// Latents are squeezed into this range.
const MAGNITUDE: f64 = 3.0;

/// All that changes the decoder's arithmetic, and how its latents are scaled.
#[derive(Clone, Debug, PartialEq)]
pub struct TinyConfig {
    pub out_channels: i64,
    pub latent_channels: i64,
    /// One a stage; all but the last stage double the size.
    pub block_out_channels: Vec<i64>,
    pub num_blocks: Vec<usize>,
    pub activation: Activation,
    /// The diffusion model's latents are these times the network's: 1 in all that are known.
    pub scaling_factor: f64,
}

impl TinyConfig {
    /// Reads `config.json`. Errors: [`crate::error::Error::Model`] names the field and its value.
    pub fn read(path: &Path) -> Result<Self> {
        let mut fields = Fields::read(path)?;
        let f = &mut fields;
        f.only("_class_name", json!("AutoencoderTiny"))?;
        f.only("upsampling_scaling_factor", json!(2))?;
        f.only("upsample_fn", json!("nearest"))?;
        // diffusers' pipelines read it of no tiny VAE whose value is another.
        f.only("shift_factor", json!(0.0))?;
        // The encoder's, and what only quantised latents need.
        f.harmless(&[
            "in_channels",
            "encoder_block_out_channels",
            "num_encoder_blocks",
            "block_out_channels",
            "latent_magnitude",
            "latent_shift",
            "force_upcast",
        ]);
        let counts = "a list of numbers of blocks was expected";
        let num_blocks: Vec<usize> = f.take("num_decoder_blocks", vec![3, 3, 3, 1], counts)?;
        let block_out_channels = f.size_list("decoder_block_out_channels", &[64; 4])?;
        let stages = num_blocks.len();
        let sensible = num_blocks.iter().all(|count| *count <= MAX_BLOCKS);
        if stages != block_out_channels.len() || stages > MAX_STAGES || !sensible {
            let why = "one small number of blocks a stage was expected";
            return Err(f.refuse("num_decoder_blocks", format!("{num_blocks:?}"), why));
        }
        let act: String = f.take("act_fn", "relu".to_owned(), "a name was expected")?;
        let activation = Activation::from_diffusers(&act)
            .ok_or_else(|| f.refuse("act_fn", &act, "only silu, swish, mish, gelu and relu are"))?;
        let config = Self {
            out_channels: f.size("out_channels", 3)?,
            latent_channels: f.size("latent_channels", 4)?,
            block_out_channels,
            num_blocks,
            activation,
            scaling_factor: f.take("scaling_factor", 1.0, "a number was expected")?,
        };
        if config.scaling_factor == 0.0 {
            return Err(f.refuse("scaling_factor", 0, "latents are divided by it"));
        }
        fields.finish()?;
        Ok(config)
    }

    /// What the shapes of a decoder's tensors say, under diffusers' names (`layers.0.weight`); `None`
    /// where they are not those of one. `shape`: the shape of a tensor.
    pub fn from_shapes(shape: &dyn Fn(&str) -> Option<Vec<i64>>) -> Option<Self> {
        let conv = |index: usize| shape(&format!("layers.{index}.weight"));
        let is_block = |index: usize| shape(&format!("layers.{index}.conv.0.weight")).is_some();
        let latent_channels = *conv(0)?.get(1)?;
        let (mut block_out_channels, mut num_blocks) = (Vec::new(), Vec::new());
        // Behind the first convolution and its activation.
        let mut index = 2;
        let out_channels = loop {
            let first = index;
            while index - first <= MAX_BLOCKS && is_block(index) {
                index += 1;
            }
            if index - first > MAX_BLOCKS || num_blocks.len() == MAX_STAGES {
                return None;
            }
            num_blocks.push(index - first);
            // Between stages the size doubles, in a layer without weights.
            let last = conv(index);
            let convolution = last.clone().or_else(|| conv(index + 1))?;
            block_out_channels.push(*convolution.get(1)?);
            if last.is_some() {
                break *convolution.first()?;
            }
            index += 2;
        };
        Some(Self {
            out_channels,
            latent_channels,
            block_out_channels,
            num_blocks,
            activation: Activation::Relu,
            scaling_factor: 1.0,
        })
    }

    /// How many pixels high and wide one value of the latents is.
    pub fn factor(&self) -> i64 {
        1 << self.num_blocks.len().saturating_sub(1)
    }
}

const MAX_STAGES: usize = 16;
const MAX_BLOCKS: usize = 64;

/// The decoder; see the module.
#[derive(Debug)]
pub struct AutoencoderTiny {
    config: TinyConfig,
    conv_in: Conv2d,
    stages: Vec<Stage>,
}

/// Blocks of one size, and the convolution behind them.
#[derive(Debug)]
struct Stage {
    blocks: Vec<Block>,
    conv: Conv2d,
    doubles: bool,
}

/// Three convolutions beside a shortcut.
#[derive(Debug)]
struct Block {
    convs: [Conv2d; 3],
    activation: Activation,
}

impl AutoencoderTiny {
    /// Takes the tensors below `decoder.layers.`.
    ///
    /// Errors: [`crate::error::Error::Model`] for tensors that are missing or of another shape than
    /// `config` says.
    pub fn new(config: TinyConfig, weights: &Weights) -> Result<Self> {
        let layers = weights.root().child("decoder").child("layers");
        let widths = &config.block_out_channels;
        let first = widths.first().copied().unwrap_or_default();
        let conv_in = Conv2d::new(&layers.index(0), config.latent_channels, first, 3)?;
        let mut index = 2;
        let mut stages = Vec::with_capacity(widths.len());
        for (stage, (count, width)) in config.num_blocks.iter().zip(widths).enumerate() {
            let blocks = (index..index + count)
                .map(|index| Block::new(&layers.index(index), *width, config.activation))
                .collect::<Result<Vec<_>>>()?;
            index += count;
            let doubles = stage + 1 < widths.len();
            let conv = match doubles {
                true => Conv2d::unbiased(&layers.index(index + 1), *width, *width, 3)?,
                false => Conv2d::new(&layers.index(index), *width, config.out_channels, 3)?,
            };
            index += 2;
            stages.push(Stage {
                blocks,
                conv,
                doubles,
            });
        }
        weights.check_complete()?;
        Ok(Self {
            config,
            conv_in,
            stages,
        })
    }

    pub fn config(&self) -> &TinyConfig {
        &self.config
    }

    pub fn kind(&self) -> Kind {
        self.conv_in.kind()
    }

    pub fn device(&self) -> Device {
        self.conv_in.device()
    }

    /// `latents`: `[batch, latent_channels, height, width]`, already divided by `scaling_factor`.
    /// Returns `[batch, out_channels, height * factor, width * factor]`, about `[-1, 1]`.
    ///
    /// Errors: [`crate::error::Error::Shape`].
    pub fn decode(&self, latents: &Tensor) -> Result<Tensor> {
        check_shape(
            "The small VAE's latents",
            latents,
            self.config.latent_channels,
            1,
        )?;
        let squeezed = (latents / MAGNITUDE).tanh() * MAGNITUDE;
        let mut x = self
            .config
            .activation
            .forward(self.conv_in.forward(&squeezed));
        for stage in &self.stages {
            for block in &stage.blocks {
                x = block.forward(&x);
            }
            if stage.doubles {
                let (_, _, height, width) = x.size4()?;
                x = x.upsample_nearest2d([2 * height, 2 * width], None, None);
            }
            x = stage.conv.forward(&x);
        }
        Ok(x * 2.0 - 1.0)
    }
}

impl Block {
    fn new(scope: &Scope, channels: i64, activation: Activation) -> Result<Self> {
        let scope = scope.child("conv");
        let conv = |index| Conv2d::new(&scope.index(index), channels, channels, 3);
        Ok(Self {
            convs: [conv(0)?, conv(2)?, conv(4)?],
            activation,
        })
    }

    fn forward(&self, x: &Tensor) -> Tensor {
        let [first, second, third] = &self.convs;
        let hidden = self.activation.forward(first.forward(x));
        let hidden = self.activation.forward(second.forward(&hidden));
        third.forward(&hidden).g_add_(x).relu_()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shapes_say_how_many_stages_and_blocks_there_are() {
        let shapes = |name: &str| -> Option<Vec<i64>> {
            Some(match name {
                "layers.0.weight" => vec![8, 16, 3, 3],
                "layers.2.conv.0.weight" | "layers.3.conv.0.weight" | "layers.6.conv.0.weight" => {
                    vec![8, 8, 3, 3]
                }
                "layers.5.weight" => vec![8, 8, 3, 3],
                "layers.7.weight" => vec![3, 8, 3, 3],
                _ => return None,
            })
        };
        let config = TinyConfig::from_shapes(&shapes).unwrap();
        assert_eq!(config.latent_channels, 16);
        assert_eq!(config.num_blocks, [2, 1]);
        assert_eq!(config.block_out_channels, [8, 8]);
        assert_eq!((config.out_channels, config.factor()), (3, 2));
        assert_eq!(TinyConfig::from_shapes(&|_| None), None);
        // A file that never comes to its last convolution.
        let endless = |_: &str| Some(vec![8, 8, 3, 3]);
        assert!(TinyConfig::from_shapes(&endless).is_none());
    }
}
