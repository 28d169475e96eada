//! The noise of a picture: what grows from its seed, in Easel's own way or another program's.
//!
//! One stream a picture, with no global state: neither the device nor the batch changes a picture.
//! [`PictureNoise`] is diffusers' (`torch.randn(..., generator=torch.Generator("cpu"))`) and, with an
//! NVIDIA card's numbers and torchsde's motion, AUTOMATIC1111's; [`BatchNoise`] is ComfyUI's.

mod batch;
mod brownian;
mod philox;
mod picture;
mod torch;
mod torchsde;
mod variation;

use tch::Tensor;

pub use self::batch::BatchNoise;
pub use self::picture::PictureNoise;
use super::NoiseSource;
use crate::error::{Error, Result};
use crate::request::{SeedMode, Seeding};

/// What the noise of pictures that are drawn together grows from.
#[derive(Clone, Copy, Debug)]
pub struct Seeds<'a> {
    /// Each picture's seed and seeding; all of one mode.
    pub pictures: &'a [(u64, Seeding)],
    /// Pixels a side of one value of the latents.
    pub latent_factor: u32,
    /// The smallest sigma above 0 and the largest that the drawing visits, as `x0 + sigma * noise`.
    pub sigmas: (f64, f64),
}

/// The noise that `seeds` asks for.
pub fn noise_source(seeds: Seeds<'_>) -> Box<dyn NoiseSource> {
    match seeds.pictures.first() {
        Some((_, seeding)) if seeding.mode == SeedMode::ComfyUi => Box::new(BatchNoise::new(seeds)),
        _ => Box::new(PictureNoise::of(seeds)),
    }
}

/// How many values each picture of `like` has.
///
/// Errors: [`Error::Shape`] unless the batch has as many pictures as there are seeds.
fn values_each(like: &Tensor, pictures: usize) -> Result<usize> {
    let size = like.size();
    if size.first() != Some(&(pictures as i64)) {
        return Err(Error::Shape {
            what: "The latents",
            got: size,
            expected: format!("a batch of {pictures}"),
        });
    }
    Ok(size.iter().skip(1).product::<i64>() as usize)
}

/// A tensor of the shape and on the device of `like`.
fn tensor_like(values: &[f32], like: &Tensor) -> Result<Tensor> {
    let noise = Tensor::f_from_slice(values)?.f_view(like.size().as_slice())?;
    Ok(noise.f_to_device(like.device())?)
}
