//! A VAE that finds a way out of half precision.
//!
//! SDXL's VAE overflows in f16 (its config's `force_upcast`), so it computes in f32 from the start, as in
//! diffusers 0.42.1 (`pipeline_stable_diffusion_xl.py`, `upcast_vae`). Another one that overflows is read
//! again in f32 when it happens.

use std::cell::OnceCell;

use tch::{Device, Kind, Tensor};

use super::{ModelFiles, Part};
use crate::error::Result;
use crate::models::layers::Weights;
use crate::models::vae::{AutoencoderKL, VaeConfig};

/// See the module.
pub(super) struct SafeVae {
    vae: AutoencoderKL,
    kind: Kind,
    device: Device,
    /// Where it is read from once more; none where it computes in f32 already.
    files: Option<ModelFiles>,
    in_f32: OnceCell<AutoencoderKL>,
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
            in_f32: OnceCell::new(),
        })
    }

    pub fn config(&self) -> &VaeConfig {
        self.vae.config()
    }

    /// Whether it had to go on in f32.
    pub fn has_overflowed(&self) -> bool {
        self.in_f32.get().is_some()
    }

    /// What it computes in by now.
    pub fn kind_now(&self) -> Kind {
        match self.in_f32.get() {
            Some(_) => Kind::Float,
            None => self.kind,
        }
    }

    /// `latents`: f32 `[batch, channels, h, w]`, as the VAE's own. Returns f32, finite unless f32 does
    /// not help either.
    ///
    /// Errors: those of reading the VAE again.
    pub fn decode(&self, latents: &Tensor) -> Result<Tensor> {
        if let Some(vae) = self.in_f32.get() {
            return vae.decode(latents);
        }
        let decoded = self.vae.decode(&latents.f_to_kind(self.kind)?)?;
        match &self.files {
            Some(files) if !is_finite(&decoded)? => {
                log::warn!("the VAE overflows in f16: it is read again in f32");
                let weights = files.load(Part::Vae, self.device, Kind::Float, &mut |_| ())?;
                let vae = AutoencoderKL::new(files.vae.clone(), &weights)?;
                self.in_f32.get_or_init(|| vae).decode(latents)
            }
            _ => Ok(decoded.f_to_kind(Kind::Float)?),
        }
    }
}

/// Whether every value is a number.
pub(super) fn is_finite(values: &Tensor) -> Result<bool> {
    Ok(values.f_isfinite()?.f_all()?.f_int64_value(&[])? != 0)
}
