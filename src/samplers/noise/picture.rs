//! Noise with one stream a picture: diffusers' and AUTOMATIC1111's.
//!
//! Sources: diffusers `utils/torch_utils.py`, `randn_tensor` with a list of CPU generators;
//! AUTOMATIC1111 1.10 `modules/rng.py` (`ImageRNG`) and `modules/sd_samplers_common.py` (the noise of
//! k-diffusion's samplers, `TorchHijack`, `create_noise_sampler`).

use tch::Tensor;

use super::brownian::BrownianTree;
use super::philox::Philox;
use super::torch::Stream;
use super::torchsde::{HalfNoise, TorchSdeTree};
use super::variation::{slerp, with_centre};
use super::{NoiseSource, Seeds, tensor_like, values_each};
use crate::error::Result;
use crate::request::{SeedMode, Seeding};

/// One generator and one Brownian motion a picture.
#[derive(Clone, Debug)]
pub struct PictureNoise {
    pictures: Vec<Picture>,
    latent_factor: u32,
    /// Whether the noise that the drawing begins with was drawn.
    begun: bool,
}

#[derive(Clone, Debug)]
struct Picture {
    seed: u64,
    seeding: Seeding,
    generator: Generator,
    motion: Motion,
}

/// Whose numbers.
#[derive(Clone, Debug)]
enum Generator {
    Torch(Box<Stream>),
    Card(Philox),
}

#[derive(Clone, Debug)]
enum Motion {
    /// Easel's own; DPM++ 2M SDE has plain noise beside it, as in diffusers.
    Own(BrownianTree),
    /// k-diffusion's, for every SDE sampler.
    TorchSde(TorchSdeTree),
}

impl Generator {
    fn new(mode: SeedMode, seed: u64) -> Self {
        match mode {
            SeedMode::A1111 => Self::Card(Philox::new(seed)),
            SeedMode::Diffusers | SeedMode::A1111Cpu | SeedMode::ComfyUi => {
                Self::Torch(Box::new(Stream::new(seed)))
            }
        }
    }

    fn randn(&mut self, count: usize) -> Vec<f32> {
        match self {
            Self::Torch(stream) => stream.randn(count),
            Self::Card(philox) => philox.randn(0, count),
        }
    }
}

impl PictureNoise {
    /// diffusers' noise for these seeds.
    pub fn new(seeds: &[u64]) -> Self {
        let plain = |seed: &u64| (*seed, Seeding::default());
        let pictures: Vec<_> = seeds.iter().map(plain).collect();
        Self::of(Seeds {
            pictures: &pictures,
            latent_factor: 1,
            sigmas: (0.0, 0.0),
        })
    }

    pub(super) fn of(seeds: Seeds<'_>) -> Self {
        let picture = |&(seed, seeding): &(u64, Seeding)| {
            let tree = |noise| Motion::TorchSde(TorchSdeTree::new(seed, noise, seeds.sigmas));
            Picture {
                seed,
                seeding,
                generator: Generator::new(seeding.mode, seed),
                motion: match seeding.mode {
                    SeedMode::A1111 => tree(HalfNoise::Card),
                    SeedMode::A1111Cpu => tree(HalfNoise::Torch { pictures_before: 0 }),
                    SeedMode::Diffusers | SeedMode::ComfyUi => Motion::Own(BrownianTree::new(seed)),
                },
            }
        };
        Self {
            pictures: seeds.pictures.iter().map(picture).collect(),
            latent_factor: seeds.latent_factor.max(1),
            begun: false,
        }
    }
}

impl Picture {
    /// What the drawing begins with: `size` is `[channels, height, width]`.
    fn first(&mut self, size: [i64; 3], latent_factor: u32) -> Result<Tensor> {
        let [channels, height, width] = size;
        let Seeding { mode, .. } = self.seeding;
        let latents = |px: u32| i64::from(px / latent_factor);
        let from = match self.seeding.resize_from {
            Some([from_width, from_height]) => {
                [channels, latents(from_height), latents(from_width)]
            }
            None => size,
        };
        let drawn = |generator: &mut Generator, size: [i64; 3]| -> Result<Tensor> {
            let values = generator.randn(size.iter().product::<i64>() as usize);
            Ok(Tensor::f_from_slice(&values)?.f_view(size)?)
        };
        let mut noise = match from == size {
            true => drawn(&mut self.generator, size)?,
            false => drawn(&mut Generator::new(mode, self.seed), from)?,
        };
        if let (Some(seed), true) = (self.seeding.variation_seed, self.seeding.varies()) {
            let other = drawn(&mut Generator::new(mode, seed), from)?;
            let strength = self.seeding.variation_strength.unwrap_or_default();
            noise = slerp(strength, &noise, &other)?;
        }
        if from != size {
            let around = drawn(&mut self.generator, [channels, height, width])?;
            noise = with_centre(around, &noise)?;
        }
        if let Some(delta) = self.seeding.ensd.filter(|delta| *delta != 0) {
            self.generator = Generator::new(mode, self.seed.wrapping_add_signed(delta));
        }
        Ok(noise)
    }
}

impl NoiseSource for PictureNoise {
    /// Drawn on the CPU, then moved to the device of `like`: the same picture on every device. The
    /// first is the noise that the drawing begins with, mixed as the seeding asks.
    ///
    /// Errors: [`crate::error::Error::Shape`] unless the batch has as many pictures as there were seeds.
    fn sample(&mut self, like: &Tensor) -> Result<Tensor> {
        let count = values_each(like, self.pictures.len())?;
        if !self.begun {
            self.begun = true;
            if let [_, channels, height, width] = *like.size() {
                let size = [channels, height, width];
                let factor = self.latent_factor;
                let noise = self
                    .pictures
                    .iter_mut()
                    .map(|picture| picture.first(size, factor));
                let noise = Tensor::f_stack(&noise.collect::<Result<Vec<_>>>()?, 0)?;
                return Ok(noise.f_to_device(like.device())?);
            }
        }
        let values = |picture: &mut Picture| picture.generator.randn(count);
        let values: Vec<f32> = self.pictures.iter_mut().flat_map(values).collect();
        tensor_like(&values, like)
    }

    /// One Brownian motion a picture, which takes nothing from the streams.
    ///
    /// Errors: [`crate::error::Error::Shape`] unless the batch has as many pictures as there were seeds.
    fn between(&mut self, like: &Tensor, from: f64, to: f64) -> Result<Tensor> {
        let count = values_each(like, self.pictures.len())?;
        let way = |picture: &mut Picture| match &mut picture.motion {
            Motion::Own(tree) => tree.between(from, to, count),
            Motion::TorchSde(tree) => tree.between(from, to, count),
        };
        let values: Vec<f32> = self.pictures.iter_mut().flat_map(way).collect();
        tensor_like(&values, like)
    }

    fn of_multistep(&mut self, like: &Tensor, from: f64, to: f64) -> Result<Tensor> {
        match self.pictures.first().map(|picture| &picture.motion) {
            Some(Motion::TorchSde(_)) => self.between(like, from, to),
            _ => self.sample(like),
        }
    }
}
