//! The picture while it forms: which steps are shown, so that looking never slows the drawing much.

use std::time::{Duration, Instant};

use tch::Tensor;

use super::picture::pixels_from_tensor;
use crate::error::{Error, Result};
use crate::families::{PreviewBy, StableDiffusion};
use crate::request::Pixels;

/// A preview is made only while previews together take less than this share of the drawing ...
const SHARE: f64 = 0.15;
/// ... or where one takes less than this anyway.
const CHEAP: Duration = Duration::from_millis(40);
/// Longer latents are averaged down to this side before the model's own VAE decodes them.
const VAE_SIDE: i64 = 32;

/// See the module.
pub(super) struct Previews {
    wanted: bool,
    started: Instant,
    spent: Duration,
    last: Duration,
}

impl Previews {
    pub fn start(wanted: bool) -> Self {
        Self {
            wanted,
            started: Instant::now(),
            spent: Duration::ZERO,
            last: Duration::ZERO,
        }
    }

    /// What `denoised` will look like, where it is time to look.
    pub fn show(
        &mut self,
        model: &StableDiffusion,
        denoised: &Tensor,
    ) -> Result<Option<Vec<Pixels>>> {
        let share = self.started.elapsed().as_secs_f64() * SHARE;
        let affordable = self.last < CHEAP || (self.spent + self.last).as_secs_f64() < share;
        if !self.wanted || !affordable {
            return Ok(None);
        }
        let before = Instant::now();
        let pictures = match preview(model, denoised) {
            Ok(pictures) => pixels_from_tensor(&pictures)?,
            // The finished picture may still come out: this is said where it does not.
            Err(Error::NotANumber { .. }) => {
                self.wanted = false;
                return Ok(None);
            }
            Err(error) => return Err(error),
        };
        self.last = before.elapsed();
        self.spent += self.last;
        Ok(Some(pictures))
    }
}

/// f32 `[batch, 3, ...]` in `[0, 1]`.
fn preview(model: &StableDiffusion, denoised: &Tensor) -> Result<Tensor> {
    match model.decoder.preview_by() {
        PreviewBy::Vae => model.decoder.preview(&small(denoised)?),
        PreviewBy::TinyVae => model.decoder.preview(denoised),
        PreviewBy::Glance => {
            let factor = i64::from(model.card.latent_factor.max(1));
            let glance = model.decoder.preview(denoised)?;
            let (_, _, height, width) = glance.size4()?;
            let size = [height * factor, width * factor];
            let large = glance.f_upsample_bicubic2d(size, false, None, None)?;
            Ok(large.f_clamp(0.0, 1.0)?)
        }
    }
}

/// Latents averaged down to at most [`VAE_SIDE`], the proportions kept.
fn small(latents: &Tensor) -> Result<Tensor> {
    let (_, _, height, width) = latents.size4()?;
    let factor = (height.max(width) + VAE_SIDE - 1) / VAE_SIDE;
    if factor <= 1 {
        return Ok(latents.shallow_clone());
    }
    let size = [(height / factor).max(1), (width / factor).max(1)];
    Ok(latents.f_adaptive_avg_pool2d(size)?)
}
