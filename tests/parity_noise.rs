//! The noise of a picture against `torch.randn` with a CPU generator (torch 2.13.0).
//!
//! Compared: every value of 1 to 40 and of 1024 and 16384 at a time, drawn in sequence from one
//! generator, for small, large and 64-bit seeds. The uniforms are the same bits; the tolerance is for
//! torch's vector logarithm, sine and cosine, which are a few units in the last place off, times values
//! of up to 5. Not compared: other dtypes (Easel draws f32 only) and other devices' generators.

#![allow(clippy::unwrap_used)]

#[path = "common/numbers.rs"]
mod numbers;

use easel::samplers::{NoiseSource, TorchNoise};
use numbers::{compare, reference_values, values};
use tch::{Device, Kind, Tensor};

const TOLERANCE: f64 = 1e-6;

fn blank(size: &[i64]) -> Tensor {
    Tensor::zeros(size, (Kind::Float, Device::Cpu))
}

#[test]
fn every_size_in_sequence_is_what_torch_draws() {
    let reference = reference_values("noise.safetensors");
    let seeds = [0, 1, 42, (1 << 32) + 42, u64::MAX];
    for seed in seeds {
        let sizes = &reference[&format!("{seed}.sizes")];
        let mut noise = TorchNoise::new(&[seed]);
        let drawn: Vec<f64> = sizes
            .iter()
            .flat_map(|&size| values(&noise.sample(&blank(&[1, 1, 1, size as i64])).unwrap()))
            .collect();
        let want = &reference[&format!("{seed}.values")];
        compare(&format!("seed {seed}"), &drawn, want, TOLERANCE);
    }
}

#[test]
fn the_noise_of_a_whole_picture_is_what_torch_draws() {
    let reference = reference_values("noise.safetensors");
    let drawn = TorchNoise::new(&[3]).sample(&blank(&[1, 4, 64, 64]));
    let want = &reference["large"];
    compare("seed 3", &values(&drawn.unwrap()), want, TOLERANCE);
}

#[test]
fn a_picture_has_the_same_noise_in_any_batch() {
    let mut both = TorchNoise::new(&[5, 6]);
    let (mut first, mut second) = (TorchNoise::new(&[5]), TorchNoise::new(&[6]));
    for size in [[1, 3, 3], [4, 8, 8], [4, 5, 5]] {
        let [c, h, w] = size;
        let together = both.sample(&blank(&[2, c, h, w])).unwrap();
        let apart =
            [&mut first, &mut second].map(|noise| noise.sample(&blank(&[1, c, h, w])).unwrap());
        assert_eq!(together, Tensor::cat(&apart, 0));
    }
}

#[test]
fn a_batch_of_another_size_than_the_seeds_is_an_error() {
    let error = TorchNoise::new(&[1, 2])
        .sample(&blank(&[3, 4, 8, 8]))
        .unwrap_err();
    assert!(error.to_string().contains("batch of 2"), "{error}");
}
