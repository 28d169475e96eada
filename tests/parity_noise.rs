//! The noise of a picture against `torch.randn` with a CPU generator (torch 2.13.0).
//!
//! Compared: every value of 1 to 40 and of 1024 and 16384 at a time, drawn in sequence from one
//! generator, for small, large and 64-bit seeds. The uniforms are the same bits; the tolerance is for
//! torch's vector logarithm, sine and cosine, which are a few units in the last place off, times values
//! of up to 5. Not compared: other dtypes (Easel draws f32 only).
//!
//! And the noise of A1111 and ComfyUI against what their own source draws (`programs_noise.py`): the
//! first noise with every option, two more, and torchsde's Brownian motion over four pairs of sigmas.
//! Tolerances: for the mixing of two seeds ten times that of torch's noise, since it divides by sines;
//! for the motion 1e-5, since its values are sums and differences of twenty halves, scaled.

#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

#[path = "common/numbers.rs"]
mod numbers;

use easel::request::Seeding;
use easel::samplers::{NoiseSource, PictureNoise, Seeds, noise_source};
use numbers::{compare, reference, reference_values, values};
use serde::Deserialize;
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
        let mut noise = PictureNoise::new(&[seed]);
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
    let drawn = PictureNoise::new(&[3]).sample(&blank(&[1, 4, 64, 64]));
    let want = &reference["large"];
    compare("seed 3", &values(&drawn.unwrap()), want, TOLERANCE);
}

#[test]
fn a_picture_has_the_same_noise_in_any_batch() {
    let mut both = PictureNoise::new(&[5, 6]);
    let (mut first, mut second) = (PictureNoise::new(&[5]), PictureNoise::new(&[6]));
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
    let error = PictureNoise::new(&[1, 2])
        .sample(&blank(&[3, 4, 8, 8]))
        .unwrap_err();
    assert!(error.to_string().contains("batch of 2"), "{error}");
}

#[derive(Deserialize)]
struct Programs {
    sigmas: Vec<f64>,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    key: String,
    /// `[channels, height, width]`
    shape: [i64; 3],
    /// As the program counts them.
    seeds: Vec<u64>,
    /// Of the first picture.
    seeding: Seeding,
}

impl Case {
    fn pictures(&self) -> Vec<(u64, Seeding)> {
        let plain = |(index, seed): (usize, &u64)| {
            let (counted, seeding) = self.seeding.of_picture(self.seeds[0], index as u32);
            assert_eq!(counted, *seed, "{}", self.key);
            (counted, seeding)
        };
        self.seeds.iter().enumerate().map(plain).collect()
    }

    /// What the script draws, in its order: three noises and four ways of the motion.
    fn draw(&self, pictures: &[(u64, Seeding)], sigmas: &[f64]) -> Vec<Tensor> {
        let mut noise = noise_source(Seeds {
            pictures,
            latent_factor: 8,
            sigmas: (sigmas[3], sigmas[0]),
        });
        let [c, h, w] = self.shape;
        let like = blank(&[pictures.len() as i64, c, h, w]);
        let mut drawn: Vec<Tensor> = (0..3).map(|_| noise.sample(&like).unwrap()).collect();
        for (from, to) in [(0, 1), (1, 2), (0, 2), (2, 3)] {
            let (from, to) = (sigmas[from], sigmas[to]);
            let way = noise.between(&like, from, to).unwrap();
            // DPM++ 2M SDE asks for the same.
            assert_eq!(noise.of_multistep(&like, from, to).unwrap(), way);
            drawn.push(way);
        }
        drawn
    }
}

fn programs() -> Programs {
    let text = std::fs::read(reference("programs_noise.json")).unwrap();
    serde_json::from_slice(&text).unwrap()
}

#[test]
fn a1111_and_comfyui_draw_the_same_noise() {
    let want = reference_values("programs_noise.safetensors");
    let Programs { sigmas, cases } = programs();
    for case in &cases {
        let drawn = case.draw(&case.pictures(), &sigmas);
        let count = values(&drawn[0]).len();
        let mixed = if case.seeding.varies() { 10.0 } else { 1.0 };
        for (index, drawn) in drawn.iter().enumerate() {
            let tolerance = match index {
                0 => mixed * TOLERANCE,
                1 | 2 => TOLERANCE,
                _ => 1e-5,
            };
            let want = &want[&case.key][index * count..][..count];
            let name = format!("{}, noise {index}", case.key);
            compare(&name, &values(drawn), want, tolerance);
        }
    }
}

#[test]
fn a_picture_of_another_program_s_batch_has_the_same_noise_alone() {
    let Programs { sigmas, cases } = programs();
    for case in &cases {
        let together = case.draw(&case.pictures(), &sigmas);
        for (index, picture) in case.pictures().into_iter().enumerate() {
            let alone = case.draw(&[picture], &sigmas);
            for (together, alone) in together.iter().zip(&alone) {
                assert_eq!(together.narrow(0, index as i64, 1), *alone, "{}", case.key);
            }
        }
    }
}
