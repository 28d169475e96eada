//! The noise of a picture: the numbers that torch draws for the same seed, with no global state.
//!
//! tch reaches torch's global generator only, and a batch needs one a picture: the noise of a picture
//! must not depend on its neighbours. Source: libtorch 2.13, `ATen/core/MT19937RNGEngine.h`,
//! `ATen/core/DistributionsHelper.h` and `ATen/native/cpu/DistributionTemplates.h`.

use std::f64::consts::PI;

use rand_mt::Mt;
use tch::Tensor;

use super::NoiseSource;
use super::brownian::BrownianTree;
use crate::error::{Error, Result};

/// One stream a picture, each equal to `torch.randn(..., generator=torch.Generator("cpu"))` after
/// `manual_seed(seed)`, called for one picture `[1, channels, height, width]` at a time.
#[derive(Clone, Debug)]
pub struct TorchNoise {
    streams: Vec<Stream>,
    trees: Vec<BrownianTree>,
}

impl TorchNoise {
    /// One stream a seed. torch's CPU generator uses the low 32 bits of a seed, and so does this.
    pub fn new(seeds: &[u64]) -> Self {
        Self {
            streams: seeds.iter().map(|&seed| Stream::new(seed)).collect(),
            trees: seeds.iter().map(|&seed| BrownianTree::new(seed)).collect(),
        }
    }

    /// How many values each picture of `like` has.
    ///
    /// Errors: [`Error::Shape`] unless the batch has as many pictures as there were seeds.
    fn values_each(&self, like: &Tensor) -> Result<usize> {
        let size = like.size();
        if size.first() != Some(&(self.streams.len() as i64)) {
            return Err(Error::Shape {
                what: "The latents",
                got: size,
                expected: format!("a batch of {}", self.streams.len()),
            });
        }
        Ok(size.iter().skip(1).product::<i64>() as usize)
    }
}

/// A tensor of the shape and on the device of `like`.
fn tensor_like(values: &[f32], like: &Tensor) -> Result<Tensor> {
    let noise = Tensor::f_from_slice(values)?.f_view(like.size().as_slice())?;
    Ok(noise.f_to_device(like.device())?)
}

impl NoiseSource for TorchNoise {
    /// Drawn on the CPU, then moved to the device of `like`: the same picture on every device.
    ///
    /// Errors: [`Error::Shape`] unless the batch has as many pictures as there were seeds.
    fn sample(&mut self, like: &Tensor) -> Result<Tensor> {
        let values_each = self.values_each(like)?;
        let values: Vec<f32> = self
            .streams
            .iter_mut()
            .flat_map(|stream| stream.randn(values_each))
            .collect();
        tensor_like(&values, like)
    }

    /// One Brownian motion a picture, which takes nothing from the streams.
    ///
    /// Errors: [`Error::Shape`] unless the batch has as many pictures as there were seeds.
    fn between(&mut self, like: &Tensor, from: f64, to: f64) -> Result<Tensor> {
        let values_each = self.values_each(like)?;
        let values: Vec<f32> = self
            .trees
            .iter_mut()
            .flat_map(|tree| tree.between(from, to, values_each))
            .collect();
        tensor_like(&values, like)
    }
}

/// One `torch.Generator("cpu")`.
#[derive(Clone, Debug)]
pub(super) struct Stream {
    engine: Mt,
    /// The second value of the last pair that was drawn one by one.
    next_normal: Option<f64>,
}

impl Stream {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            engine: Mt::new(seed as u32),
            next_normal: None,
        }
    }

    /// `torch.randn(count)`: in blocks if there are enough values for one, else one by one.
    pub(super) fn randn(&mut self, count: usize) -> Vec<f32> {
        if count < BLOCK {
            return (0..count).map(|_| self.normal() as f32).collect();
        }
        let mut values: Vec<f32> = (0..count).map(|_| self.uniform()).collect();
        values.chunks_exact_mut(BLOCK).for_each(box_muller);
        if !count.is_multiple_of(BLOCK) {
            // The last block overlaps the one before it, and is drawn anew.
            let tail = &mut values[count - BLOCK..];
            tail.fill_with(|| self.uniform());
            box_muller(tail);
        }
        values
    }

    /// 24 bits, in `0..1`.
    fn uniform(&mut self) -> f32 {
        (self.engine.next_u32() & ((1 << 24) - 1)) as f32 / (1 << 24) as f32
    }

    /// 53 bits, in `0..1`.
    fn uniform_f64(&mut self) -> f64 {
        let high = u64::from(self.engine.next_u32());
        let bits = high << 32 | u64::from(self.engine.next_u32());
        (bits & ((1 << 53) - 1)) as f64 / (1u64 << 53) as f64
    }

    fn normal(&mut self) -> f64 {
        if let Some(normal) = self.next_normal.take() {
            return normal;
        }
        let (u1, u2) = (self.uniform_f64(), self.uniform_f64());
        let radius = (-2.0 * (-u2).ln_1p()).sqrt();
        let theta = 2.0 * PI * u1;
        self.next_normal = Some(radius * theta.sin());
        radius * theta.cos()
    }
}

/// Values of one block: eight cosines, then the eight sines of the same angles.
const BLOCK: usize = 16;

/// Turns the 16 uniform values of a block into normal ones.
///
/// torch rounds to f32 at every operation, and so does this; its vector logarithm and sine differ from
/// the exact ones used here in the last bit.
fn box_muller(block: &mut [f32]) {
    let (radii, angles) = block.split_at_mut(BLOCK / 2);
    for (first, second) in radii.iter_mut().zip(angles) {
        let log = f64::from(1.0 - *first).ln() as f32;
        let radius = (-2.0 * log).sqrt();
        let theta = f64::from((2.0 * PI) as f32 * *second);
        *first = radius * theta.cos() as f32;
        *second = radius * theta.sin() as f32;
    }
}
