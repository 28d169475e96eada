//! `UNet2DConditionModel`: what the noise in the latents is, given a text and a noise level.
//!
//! Stable Diffusion 1.x, 2.x and XL and everything of that shape; sizes come from `config.json`.
//! Source: diffusers `models/unets/unet_2d_condition.py` and `unet_2d_blocks.py`, 0.42.1.

mod added;
mod blocks;
mod config;
mod text;
mod transformer;

use tch::{Device, Kind, Tensor};

use self::added::AddedEmbedding;
pub use self::added::{Added, Conditioning};
use self::blocks::{DownBlock, MidBlock, UpBlock};
pub use self::config::{AddedSpec, BlockSpec, MidSpec, TransformerSpec, UNetConfig};
pub use self::text::KeyValues;
use self::text::Text;
use crate::error::{Error, Result};
use crate::models::layers::{
    Conv2d, GroupNorm, ResnetConfig, TimestepEmbedding, Timesteps, Weights, embed_guidance_scale,
    profile,
};

/// The network; see the module.
#[derive(Debug)]
pub struct UNet2DConditionModel {
    config: UNetConfig,
    conv_in: Conv2d,
    time_proj: Timesteps,
    time_embedding: TimestepEmbedding,
    added: Option<AddedEmbedding>,
    down_blocks: Vec<DownBlock>,
    mid_block: Option<MidBlock>,
    up_blocks: Vec<UpBlock>,
    conv_norm_out: GroupNorm,
    conv_out: Conv2d,
}

impl UNet2DConditionModel {
    /// Errors: [`Error::Model`] for tensors that are missing or of another shape than `config` says.
    pub fn new(config: UNetConfig, weights: &Weights) -> Result<Self> {
        let root = weights.root();
        let c = &config;
        let (first, last) = (c.first_channels, c.last_channels);
        let conv_in = Conv2d::new(
            &root.child("conv_in"),
            c.in_channels,
            first,
            c.conv_in_kernel,
        )?;
        let device = conv_in.device();
        let resnet = ResnetConfig {
            temb_channels: Some(c.time_embed_dim),
            groups: c.norm_num_groups,
            eps: c.norm_eps,
            activation: c.activation,
            time_scale_shift: c.time_scale_shift,
            output_scale_factor: 1.0,
        };
        let resnet_mid = ResnetConfig {
            output_scale_factor: c.mid_block_scale_factor,
            ..resnet
        };
        let model = Self {
            time_proj: Timesteps::new(first, c.flip_sin_to_cos, c.freq_shift, device)?,
            time_embedding: TimestepEmbedding::new(
                &root.child("time_embedding"),
                first,
                c.time_embed_dim,
                c.activation,
            )?
            .with_condition(
                &root.child("time_embedding"),
                first,
                c.time_cond_proj_dim,
            )?,
            added: c
                .added
                .map(|spec| AddedEmbedding::new(&root, spec, c, device))
                .transpose()?,
            down_blocks: DownBlock::all(&root.child("down_blocks"), c, resnet)?,
            mid_block: MidBlock::new(&root.child("mid_block"), c.mid_block, last, resnet_mid)?,
            up_blocks: UpBlock::all(&root.child("up_blocks"), c, resnet)?,
            conv_norm_out: GroupNorm::new(
                &root.child("conv_norm_out"),
                c.norm_num_groups,
                first,
                c.norm_eps,
            )?,
            conv_out: Conv2d::new(
                &root.child("conv_out"),
                first,
                c.out_channels,
                c.conv_out_kernel,
            )?,
            conv_in,
            config,
        };
        weights.check_complete()?;
        Ok(model)
    }

    pub fn config(&self) -> &UNetConfig {
        &self.config
    }

    /// The weights' dtype: that of every input and of the output.
    pub fn kind(&self) -> Kind {
        self.conv_in.kind()
    }

    pub fn device(&self) -> Device {
        self.conv_in.device()
    }

    /// What the network predicts (epsilon, v or the sample: the scheduler's config knows).
    ///
    /// `sample`: `[batch, in_channels, height, width]`, any height and width; `timestep`: one for the
    /// batch, may be fractional; `conditioning`: the text's state alone, or more. All in
    /// [`Self::kind`] on [`Self::device`]. Returns `[batch, out_channels, height, width]`.
    ///
    /// Errors: [`Error::Shape`], also where the network wants [`Added`] and there is none.
    pub fn forward<'c>(
        &self,
        sample: &Tensor,
        timestep: f64,
        conditioning: impl Into<Conditioning<'c>>,
    ) -> Result<Tensor> {
        let conditioning = conditioning.into();
        self.check_shapes(sample, conditioning.encoder_hidden_states)?;
        profile::part("UNet", || self.predict(sample, timestep, &conditioning))
    }

    fn predict(
        &self,
        sample: &Tensor,
        timestep: f64,
        conditioning: &Conditioning<'_>,
    ) -> Result<Tensor> {
        let text = Text {
            states: conditioning.encoder_hidden_states,
            kept: conditioning.key_values,
        };
        let activation = self.config.activation;
        // Every block begins with the activation of this: once is enough.
        let temb = activation.forward(self.time_embedding(timestep, conditioning)?);

        let mut x = if self.config.center_input_sample {
            self.conv_in.forward(&(sample * 2.0 - 1.0))
        } else {
            self.conv_in.forward(sample)
        };
        let mut skips = vec![x.shallow_clone()];
        for block in &self.down_blocks {
            x = block.forward(x, &temb, text, &mut skips);
        }
        if let Some(block) = &self.mid_block {
            x = block.forward(&x, &temb, text);
        }
        for block in &self.up_blocks {
            x = block.forward(x, &temb, text, &mut skips)?;
        }
        let x = self.conv_norm_out.forward_activated(&x, activation);
        Ok(self.conv_out.forward(&x))
    }

    /// `[batch or 1, time_embed_dim]`, of everything that is not the picture nor the text's state.
    fn time_embedding(&self, timestep: f64, conditioning: &Conditioning<'_>) -> Result<Tensor> {
        let kind = self.kind();
        let timestep = self.time_proj.forward(timestep).to_kind(kind);
        let guidance = match (self.config.time_cond_proj_dim, conditioning.guidance_scale) {
            (Some(dim), Some(scale)) => {
                let embedded = embed_guidance_scale(scale, dim, self.device())?;
                Some(embedded.to_kind(kind))
            }
            _ => None,
        };
        let temb = self.time_embedding.forward(&timestep, guidance.as_ref());
        match &self.added {
            None => Ok(temb),
            Some(added) => Ok(temb + added.forward(conditioning.added.as_ref())?),
        }
    }

    fn check_shapes(&self, sample: &Tensor, encoder_hidden_states: &Tensor) -> Result<()> {
        let channels = self.config.in_channels;
        let got = sample.size();
        let batch = match got.as_slice() {
            &[batch, c, height, width] if c == channels && height > 0 && width > 0 => batch,
            _ => {
                return Err(Error::Shape {
                    what: "The UNet's input",
                    got,
                    expected: format!("[batch, {channels}, height, width]"),
                });
            }
        };
        let features = self.config.cross_attention_dim;
        let got = encoder_hidden_states.size();
        match got.as_slice() {
            &[b, tokens, f] if b == batch && tokens > 0 && f == features => Ok(()),
            _ => Err(Error::Shape {
                what: "The text's state for the UNet",
                got,
                expected: format!("[{batch}, tokens, {features}]"),
            }),
        }
    }
}
