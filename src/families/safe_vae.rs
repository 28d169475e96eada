//! A VAE that finds a way out of half precision.
//!
//! SDXL's VAE overflows in f16 (its config's `force_upcast`), so it computes in f32 from the start, as in
//! diffusers 0.42.1 (`pipeline_stable_diffusion_xl.py`, `upcast_vae`). Another one that overflows is read
//! again in f32 when it happens. A picture that finds no room in f32 is decoded in bf16, which has f32's
//! range; the next one is tried in f32 again.

use std::cell::{Cell, OnceCell};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

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
    /// In f32, and in bf16.
    wide: [OnceCell<AutoencoderKL>; 2],
    /// What the last picture was decoded in, once one did overflow.
    overflowed_into: Cell<Option<Kind>>,
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
            wide: Default::default(),
            overflowed_into: Cell::new(None),
        })
    }

    pub fn config(&self) -> &VaeConfig {
        self.vae.config()
    }

    /// What it had to go on in, where it had to.
    pub fn overflowed_into(&self) -> Option<Kind> {
        self.overflowed_into.get()
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
        if self.overflowed_into().is_none() {
            let decoded = self.vae.decode(&latents.f_to_kind(self.kind)?)?;
            if self.files.is_none() || is_finite(&decoded)? {
                return Ok(decoded.f_to_kind(Kind::Float)?);
            }
            log::warn!("the VAE overflows in f16: it is read again");
        }
        let free = available_bytes().filter(|_| !self.device.is_cuda());
        let first = wide_kind(self.config(), latents, free);
        let (kind, decoded) = decode_wide(first, &|kind| {
            let vae = self.wide(kind)?;
            let decoded = vae.decode(&latents.f_to_kind(kind)?)?;
            Ok(decoded.f_to_kind(Kind::Float)?)
        })?;
        self.overflowed_into.set(Some(kind));
        Ok(decoded)
    }

    /// The VAE in `kind`, read when it is asked for first.
    fn wide(&self, kind: Kind) -> Result<&AutoencoderKL> {
        let [float, bfloat] = &self.wide;
        let wide = if kind == Kind::Float { float } else { bfloat };
        if let (None, Some(files)) = (wide.get(), &self.files) {
            let weights = files.load(Part::Vae, self.device, kind, &mut |_| ())?;
            let vae = AutoencoderKL::new(files.vae.clone(), &weights)?;
            return Ok(wide.get_or_init(|| vae));
        }
        Ok(wide.get().unwrap_or(&self.vae))
    }
}

/// What `decode` gives in the `first` kind, or in bf16 where f32 finds no room; and in which.
fn decode_wide<T>(first: Kind, decode: &dyn Fn(Kind) -> Result<T>) -> Result<(Kind, T)> {
    if first == Kind::Float {
        // The networks' operators panic.
        let tried = catch_unwind(AssertUnwindSafe(|| decode(first)));
        match tried {
            Err(panic) if !is_out_of_memory(&Error::from_panic(&*panic)) => resume_unwind(panic),
            Ok(Err(error)) if is_out_of_memory(&error) => {}
            Err(_) => {}
            Ok(decoded) => return Ok((first, decoded?)),
        }
        log::warn!("no room to decode in f32: it goes on in bf16");
    }
    Ok((Kind::BFloat16, decode(Kind::BFloat16)?))
}

fn is_out_of_memory(error: &Error) -> bool {
    matches!(error, Error::OutOfMemory { .. })
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

    #[test]
    fn only_what_runs_out_of_memory_in_f32_is_decoded_in_bf16() {
        let full = || Error::OutOfMemory {
            details: String::new(),
        };
        let told = |kind| match kind {
            Kind::Float => Err(full()),
            kind => Ok(kind),
        };
        let panics = |kind| match kind {
            Kind::Float => panic!("CUDA out of memory. Tried to allocate 2.00 GiB"),
            kind => Ok(kind),
        };
        let bf16 = (Kind::BFloat16, Kind::BFloat16);
        assert_eq!(decode_wide(Kind::Float, &told).unwrap(), bf16);
        assert_eq!(decode_wide(Kind::Float, &panics).unwrap(), bf16);
        assert_eq!(decode_wide(Kind::BFloat16, &told).unwrap(), bf16);
        assert_eq!(
            decode_wide(Kind::Float, &Ok).unwrap(),
            (Kind::Float, Kind::Float)
        );
        let other = |_| Err::<(), _>(Error::Cancelled);
        assert!(matches!(
            decode_wide(Kind::Float, &other),
            Err(Error::Cancelled)
        ));
        assert!(decode_wide(Kind::Float, &|_| Err::<(), _>(full())).is_err());
    }
}
