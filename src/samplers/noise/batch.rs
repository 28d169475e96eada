//! Noise of a whole batch from one seed: ComfyUI's.
//!
//! The noise that a drawing begins with is drawn on the CPU, as one tensor of the whole batch; each
//! picture is taken for its last one, which only counts where torch draws that tensor's end anew; what samplers add on the way is drawn where ComfyUI computes, here as on an NVIDIA
//! card. Either way a picture's part follows from its place in the batch, and the others need not be
//! drawn. Source: ComfyUI 0.3 `comfy/sample.py` (`prepare_noise`), `comfy/k_diffusion/sampling.py`
//! (`default_noise_sampler`, `BrownianTreeNoiseSampler` with `cpu=True`).

use tch::Tensor;

use super::philox::Philox;
use super::torch::Stream;
use super::torchsde::{HalfNoise, TorchSdeTree};
use super::{NoiseSource, Seeds, tensor_like, values_each};
use crate::error::Result;
use crate::request::Seeding;

/// See the module.
#[derive(Clone, Debug)]
pub struct BatchNoise {
    pictures: Vec<Picture>,
    begun: bool,
}

#[derive(Clone, Debug)]
struct Picture {
    seed: u64,
    /// Its place in the batch.
    index: usize,
    card: Philox,
    tree: TorchSdeTree,
}

impl BatchNoise {
    pub(super) fn new(seeds: Seeds<'_>) -> Self {
        let picture = |&(seed, seeding): &(u64, Seeding)| {
            let index = seeding.batch_index.unwrap_or(0) as usize;
            let half = HalfNoise::Torch {
                pictures_before: index,
            };
            Picture {
                seed,
                index,
                card: Philox::new(seed),
                tree: TorchSdeTree::new(seed, half, seeds.sigmas),
            }
        };
        Self {
            pictures: seeds.pictures.iter().map(picture).collect(),
            begun: false,
        }
    }
}

impl Picture {
    fn first(&self, count: usize) -> Vec<f32> {
        Stream::new(self.seed).randn_end(self.index * count, count)
    }

    fn later(&mut self, count: usize) -> Vec<f32> {
        self.card.randn((self.index * count) as u64, count)
    }
}

impl NoiseSource for BatchNoise {
    /// Errors: [`crate::error::Error::Shape`] unless the batch has as many pictures as there were seeds.
    fn sample(&mut self, like: &Tensor) -> Result<Tensor> {
        let count = values_each(like, self.pictures.len())?;
        let first = !std::mem::replace(&mut self.begun, true);
        let values = |picture: &mut Picture| match first {
            true => picture.first(count),
            false => picture.later(count),
        };
        let values: Vec<f32> = self.pictures.iter_mut().flat_map(values).collect();
        tensor_like(&values, like)
    }

    /// Errors: [`crate::error::Error::Shape`] unless the batch has as many pictures as there were seeds.
    fn between(&mut self, like: &Tensor, from: f64, to: f64) -> Result<Tensor> {
        let count = values_each(like, self.pictures.len())?;
        let trees = self.pictures.iter().map(|picture| &picture.tree);
        let values: Vec<f32> = trees
            .flat_map(|tree| tree.between(from, to, count))
            .collect();
        tensor_like(&values, like)
    }

    fn of_multistep(&mut self, like: &Tensor, from: f64, to: f64) -> Result<Tensor> {
        self.between(like, from, to)
    }
}
