//! `AutoencoderKL`: pictures to latents and back; and its small stand-in, [`AutoencoderTiny`].
//!
//! Source: diffusers `models/autoencoders/autoencoder_kl.py` and `vae.py`, 0.42.1; Rombach et al., 2022.

mod config;
mod halves;
mod tiny;

use tch::{Device, Kind, Tensor};

pub use self::config::VaeConfig;
use self::halves::{Decoder, Encoder};
pub use self::tiny::{AutoencoderTiny, TinyConfig};
use crate::error::{Error, Result};
use crate::models::layers::{Conv2d, Weights, profile};

/// The network; see the module.
#[derive(Debug)]
pub struct AutoencoderKL {
    config: VaeConfig,
    encoder: Encoder,
    quant_conv: Option<Conv2d>,
    post_quant_conv: Option<Conv2d>,
    decoder: Decoder,
}

/// What the encoder says of a picture: a Gaussian for each value of the latents.
#[derive(Debug)]
pub struct LatentDistribution {
    /// `[batch, latent_channels, height, width]`
    pub mean: Tensor,
    /// The same shape; between -30 and 20.
    pub logvar: Tensor,
}

impl LatentDistribution {
    /// Latents for this noise (standard normal, the shape of `mean`), not yet scaled.
    pub fn sample(&self, noise: &Tensor) -> Tensor {
        &self.mean + (&self.logvar * 0.5).exp() * noise
    }
}

impl AutoencoderKL {
    /// Errors: [`Error::Model`] for tensors that are missing or of another shape than `config` says.
    pub fn new(config: VaeConfig, weights: &Weights) -> Result<Self> {
        let root = weights.root();
        let latent = config.latent_channels;
        let quant = |name: &str, used: bool, channels| {
            used.then(|| Conv2d::new(&root.child(name), channels, channels, 1))
                .transpose()
        };
        let model = Self {
            encoder: Encoder::new(&root.child("encoder"), &config)?,
            quant_conv: quant("quant_conv", config.use_quant_conv, 2 * latent)?,
            post_quant_conv: quant("post_quant_conv", config.use_post_quant_conv, latent)?,
            decoder: Decoder::new(&root.child("decoder"), &config)?,
            config,
        };
        weights.check_complete()?;
        Ok(model)
    }

    pub fn config(&self) -> &VaeConfig {
        &self.config
    }

    /// The weights' dtype: that of every input and output.
    pub fn kind(&self) -> Kind {
        self.decoder.kind()
    }

    pub fn device(&self) -> Device {
        self.decoder.device()
    }

    /// `image`: `[batch, in_channels, height, width]` in `[-1, 1]`, both sizes multiples of
    /// [`VaeConfig::factor`]. The latents are not yet multiplied by `scaling_factor`.
    ///
    /// Errors: [`Error::Shape`].
    pub fn encode(&self, image: &Tensor) -> Result<LatentDistribution> {
        let factor = self.config.factor();
        check_shape("The VAE's picture", image, self.config.in_channels, factor)?;
        let mut moments = self.encoder.forward(image);
        if let Some(conv) = &self.quant_conv {
            moments = conv.forward(&moments);
        }
        let latent = self.config.latent_channels;
        Ok(LatentDistribution {
            mean: moments.narrow(1, 0, latent),
            logvar: moments.narrow(1, latent, latent).clamp(-30.0, 20.0),
        })
    }

    /// `latents`: `[batch, latent_channels, height, width]`, already divided by `scaling_factor` (and
    /// shifted). Returns `[batch, out_channels, height * factor, width * factor]`, about `[-1, 1]`.
    ///
    /// Errors: [`Error::Shape`].
    pub fn decode(&self, latents: &Tensor) -> Result<Tensor> {
        check_shape("The VAE's latents", latents, self.config.latent_channels, 1)?;
        Ok(profile::part("VAE", || match &self.post_quant_conv {
            Some(conv) => self.decoder.forward(&conv.forward(latents)),
            None => self.decoder.forward(latents),
        }))
    }
}

fn check_shape(what: &'static str, x: &Tensor, channels: i64, factor: i64) -> Result<()> {
    let got = x.size();
    match got.as_slice() {
        &[_, c, height, width]
            if c == channels
                && height > 0
                && width > 0
                && height % factor == 0
                && width % factor == 0 =>
        {
            Ok(())
        }
        _ => Err(Error::Shape {
            what,
            got,
            expected: format!("[batch, {channels}, height, width] in multiples of {factor}"),
        }),
    }
}
