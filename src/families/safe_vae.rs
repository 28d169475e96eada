//! A VAE that finds a way out of half precision.
//!
//! SDXL's VAE overflows in f16 (its config's `force_upcast`), so it computes in f32 from the start, as in
//! diffusers 0.42.1 (`pipeline_stable_diffusion_xl.py`, `upcast_vae`). Another one that overflows is read
//! again in f32 when it happens, or in bf16, which has f32's range, where f32 finds no room.

use std::cell::OnceCell;

use tch::{Device, Kind, Tensor};

use super::{ModelFiles, Part, available_bytes, decoder_values};
use crate::error::{Error, Result};
use crate::models::layers::Weights;
use crate::models::vae::{AutoencoderKL, VaeConfig};

/// See the module.
pub(super) struct SafeVae {
    vae: AutoencoderKL,
    kind: Kind,
    device: Device,
    /// Where it is read from once more; none where it computes in f32 already.
    files: Option<ModelFiles>,
    /// With the range of f32.
    wide: OnceCell<(Kind, AutoencoderKL)>,
}

impl SafeVae {
    /// What the VAE of `files` computes in, in a model that computes in `kind`.
    pub fn kind(files: &ModelFiles, kind: Kind) -> Kind {
        match kind {
            Kind::Half if files.family.is_xl() && files.vae.force_upcast => Kind::Float,
            kind => kind,
        }
    }

    /// `weights`: of [`Self::kind`].
    ///
    /// Errors: as [`AutoencoderKL::new`].
    pub fn new(files: &ModelFiles, weights: &Weights, device: Device, kind: Kind) -> Result<Self> {
        let kind = Self::kind(files, kind);
        Ok(Self {
            vae: AutoencoderKL::new(files.vae.clone(), weights)?,
            kind,
            device,
            files: (kind == Kind::Half).then(|| files.clone()),
            wide: OnceCell::new(),
        })
    }

    pub fn config(&self) -> &VaeConfig {
        self.vae.config()
    }

    /// What it had to go on in, where it had to.
    pub fn overflowed_into(&self) -> Option<Kind> {
        self.wide.get().map(|(kind, _)| *kind)
    }

    /// What it computes in by now.
    pub fn kind_now(&self) -> Kind {
        self.overflowed_into().unwrap_or(self.kind)
    }

    /// `latents`: f32 `[batch, channels, h, w]`, as the VAE's own. Returns f32, finite unless f32 does
    /// not help either.
    ///
    /// Errors: those of reading the VAE again.
    pub fn decode(&self, latents: &Tensor) -> Result<Tensor> {
        if let Some((kind, vae)) = self.wide.get() {
            return Ok(vae
                .decode(&latents.f_to_kind(*kind)?)?
                .f_to_kind(Kind::Float)?);
        }
        let decoded = self.vae.decode(&latents.f_to_kind(self.kind)?)?;
        match &self.files {
            Some(files) if !is_finite(&decoded)? => {
                let wide = self.read_again(files, latents)?;
                log::warn!("the VAE overflows in f16: it is read again in {:?}", wide.0);
                self.wide.get_or_init(|| wide);
                self.decode(latents)
            }
            _ => Ok(decoded.f_to_kind(Kind::Float)?),
        }
    }

    fn read_again(&self, files: &ModelFiles, latents: &Tensor) -> Result<(Kind, AutoencoderKL)> {
        let read = |kind| -> Result<(Kind, AutoencoderKL)> {
            let weights = files.load(Part::Vae, self.device, kind, &mut |_| ())?;
            Ok((kind, AutoencoderKL::new(files.vae.clone(), &weights)?))
        };
        let free = available_bytes().filter(|_| !self.device.is_cuda());
        match read(wide_kind(self.config(), latents, free)) {
            Err(Error::OutOfMemory { .. }) => read(Kind::BFloat16),
            read => read,
        }
    }
}

/// f32 where decoding fits into what is `free`, as far as that is known.
fn wide_kind(config: &VaeConfig, latents: &Tensor, free: Option<u64>) -> Kind {
    let side = |dim: i64| {
        latents
            .size()
            .iter()
            .rev()
            .nth(dim as usize)
            .copied()
            .unwrap_or(1)
    };
    let pixels = side(0) * side(1) * config.factor() * config.factor();
    let channels = config.block_out_channels.first().copied().unwrap_or(1);
    let bytes = decoder_values(pixels.unsigned_abs(), channels.unsigned_abs()).saturating_mul(4);
    match free {
        Some(free) if bytes > free => Kind::BFloat16,
        _ => Kind::Float,
    }
}

/// Whether every value is a number.
pub(super) fn is_finite(values: &Tensor) -> Result<bool> {
    Ok(values.f_isfinite()?.f_all()?.f_int64_value(&[])? != 0)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn what_finds_no_room_in_f32_goes_on_in_bf16() {
        let text = br#"{"block_out_channels": [128, 256, 512, 512],
            "down_block_types": ["DownEncoderBlock2D", "DownEncoderBlock2D", "DownEncoderBlock2D", "DownEncoderBlock2D"],
            "up_block_types": ["UpDecoderBlock2D", "UpDecoderBlock2D", "UpDecoderBlock2D", "UpDecoderBlock2D"]}"#;
        let config = VaeConfig::parse(Path::new("config.json"), text).unwrap();
        let latents = Tensor::zeros([1, 4, 128, 64], (Kind::Float, Device::Cpu));
        let needed = 1024 * 512 * 128 * 3 * 4;
        let kind = |free| wide_kind(&config, &latents, free);
        assert_eq!(kind(Some(needed)), Kind::Float);
        assert_eq!(kind(Some(needed - 1)), Kind::BFloat16);
        assert_eq!(kind(None), Kind::Float);
    }
}
