//! From latents to pictures: a model's VAE, or the small one in its place, and what shows a drawing while
//! it forms.

use std::path::PathBuf;

use tch::{Device, Kind, Tensor};

use super::{LatentSpace, ModelFiles, SafeVae, is_finite, load_tiny_vae};
use crate::error::{Error, Result};
use crate::files::Print;
use crate::models::layers::Weights;
use crate::models::vae::{AutoencoderTiny, VaeConfig};

/// See the module.
pub struct Decoder {
    /// Of the model's own VAE, or of another large one: what its latents mean.
    config: VaeConfig,
    vae: Vae,
    /// For previews, where it was found, and how its file was then.
    preview_vae: Option<(PathBuf, Option<Print>, AutoencoderTiny)>,
    device: Device,
    kind: Kind,
}

/// What turns latents into pictures.
enum Vae {
    Kl(Box<SafeVae>),
    Tiny(AutoencoderTiny),
}

impl Vae {
    fn new(files: &ModelFiles, weights: &Weights, device: Device, kind: Kind) -> Result<Self> {
        match files.tiny_vae() {
            Some(config) => AutoencoderTiny::new(config.clone(), weights).map(Self::Tiny),
            None => {
                let vae = SafeVae::new(files, weights, device, kind)?;
                Ok(Self::Kl(Box::new(vae)))
            }
        }
    }

    /// Channels at the picture's full size.
    fn first_channels(&self) -> i64 {
        let widths = match self {
            Self::Kl(vae) => vae.config().block_out_channels.first(),
            Self::Tiny(vae) => vae.config().block_out_channels.last(),
        };
        widths.copied().unwrap_or(1)
    }
}

/// What shows a picture while it forms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PreviewBy {
    /// The model's VAE.
    Vae,
    /// A small VAE, at full size.
    TinyVae,
    /// A pixel for each value of the latents.
    Glance,
}

/// A VAE with as many channels at full size takes about as long as the UNet, on a processor.
const DEAR_VAE_CHANNELS: i64 = 96;

impl Decoder {
    /// Errors: as the networks'.
    pub(super) fn new(
        files: &ModelFiles,
        weights: &Weights,
        device: Device,
        kind: Kind,
    ) -> Result<Self> {
        Ok(Self {
            config: files.vae.clone(),
            vae: Vae::new(files, weights, device, kind)?,
            preview_vae: None,
            device,
            kind,
        })
    }

    /// What the VAE of `files` computes in, in a model that computes in `kind`.
    pub(super) fn kind(files: &ModelFiles, kind: Kind) -> Kind {
        match files.tiny_vae() {
            Some(_) => kind,
            None => SafeVae::kind(files, kind),
        }
    }

    /// What is to be told after a drawing.
    pub fn note_of_overflow(&self) -> Option<String> {
        match &self.vae {
            Vae::Kl(vae) => vae.overflowed_into().map(|kind| match kind {
                Kind::BFloat16 => {
                    "Its VAE overflows in f16, and there is no room for f32: pictures of this size are \
                     decoded in bf16, which is coarser"
                        .to_owned()
                }
                _ => {
                    "Its VAE overflows in f16: pictures are decoded in f32, which takes more memory"
                        .to_owned()
                }
            }),
            Vae::Tiny(_) => None,
        }
    }

    /// What the latents mean.
    pub fn config(&self) -> &VaeConfig {
        &self.config
    }

    /// Channels at the picture's full size, which decide what memory decoding takes.
    pub fn first_channels(&self) -> i64 {
        self.vae.first_channels()
    }

    /// Decodes latents to pictures.
    ///
    /// `latents`: `[batch, channels, height / factor, width / factor]`, as the sampler ends.
    /// Returns f32 `[batch, 3, height, width]` in `[0, 1]` on the model's device.
    /// Errors: [`Error::NotANumber`] where the decoder overflows in f32 too.
    pub fn decode(&self, latents: &Tensor) -> Result<Tensor> {
        let decoded = match &self.vae {
            Vae::Kl(vae) => vae.decode(&self.unscaled(latents)?)?,
            Vae::Tiny(vae) => self.tiny_decoded(vae, latents)?,
        };
        let decoded = decoded.f_to_kind(Kind::Float)?;
        if !is_finite(&decoded)? {
            return Err(Error::NotANumber {
                when: "the picture was decoded".to_owned(),
                kind: match &self.vae {
                    Vae::Kl(vae) => vae.kind_now(),
                    Vae::Tiny(_) => self.kind,
                },
            });
        }
        Ok((decoded / 2.0 + 0.5).f_clamp_(0.0, 1.0)?)
    }

    fn tiny_decoded(&self, vae: &AutoencoderTiny, latents: &Tensor) -> Result<Tensor> {
        let latents = latents / vae.config().scaling_factor;
        vae.decode(&latents.f_to_kind(self.kind)?)
    }

    /// What the small VAE for this model's latents is called, where there is one.
    pub fn preview_vae_name(&self) -> Option<&'static str> {
        LatentSpace::of(&self.config).map(LatentSpace::tiny_name)
    }

    /// Shows drawings while they form with this small VAE. A broken one is said in the log: nothing
    /// depends on it.
    pub fn set_preview_vae(&mut self, path: Option<PathBuf>) {
        let Some(path) = path else {
            self.preview_vae = None;
            return;
        };
        let print = Print::of(&path).ok();
        if let Some((known, of_known, _)) = &self.preview_vae
            && (known, of_known) == (&path, &print)
        {
            return;
        }
        let loaded = load_tiny_vae(&path, self.device, self.kind);
        let fits = |vae: &AutoencoderTiny| {
            let config = vae.config();
            config.latent_channels == self.config.latent_channels
                && config.factor() == self.config.factor()
        };
        self.preview_vae = match loaded {
            Ok(vae) => vae.filter(fits).map(|vae| (path, print, vae)),
            Err(error) => {
                log::warn!("No previews with it: {error}");
                None
            }
        };
    }

    /// What [`Self::preview`] shows latents with.
    pub fn preview_by(&self) -> PreviewBy {
        let dear = !self.device.is_cuda() && self.vae.first_channels() >= DEAR_VAE_CHANNELS;
        match (&self.vae, &self.preview_vae) {
            (Vae::Tiny(_), _) => PreviewBy::Vae,
            (_, Some(_)) => PreviewBy::TinyVae,
            _ if dear && LatentSpace::of(&self.config).is_some() => PreviewBy::Glance,
            _ => PreviewBy::Vae,
        }
    }

    /// Pictures that are good enough to watch a drawing form; as [`Self::decode`], but for
    /// [`PreviewBy::Glance`] of the latents' size.
    pub fn preview(&self, latents: &Tensor) -> Result<Tensor> {
        match (self.preview_by(), &self.preview_vae) {
            (PreviewBy::TinyVae, Some((.., vae))) => {
                let decoded = self.tiny_decoded(vae, latents)?.f_to_kind(Kind::Float)?;
                Ok((decoded / 2.0 + 0.5).f_clamp_(0.0, 1.0)?)
            }
            (PreviewBy::Glance, _) => match LatentSpace::of(&self.config) {
                Some(space) => space.glance(latents),
                None => self.decode(latents),
            },
            _ => self.decode(latents),
        }
    }

    /// From the UNet's latents to the VAE's (diffusers' pipelines: scaling in all, shift, mean and
    /// deviation in the later ones).
    fn unscaled(&self, latents: &Tensor) -> Result<Tensor> {
        let config = &self.config;
        let by_channel = |values: &[f64]| -> Result<Tensor> {
            Ok(Tensor::f_from_slice(values)?
                .f_view([1, -1, 1, 1])?
                .f_to_kind(Kind::Float)?
                .f_to_device(self.device)?)
        };
        if let (Some(mean), Some(std)) = (&config.latents_mean, &config.latents_std) {
            let scaled = latents * (by_channel(std)? / config.scaling_factor);
            return Ok(scaled + by_channel(mean)?);
        }
        let scaled = latents / config.scaling_factor;
        Ok(match config.shift_factor {
            Some(shift) => scaled + shift,
            None => scaled,
        })
    }
}
