//! Normalisation of groups against the same in f64, over random sizes and every vector that this
//! processor has.
//!
//! The error is that of f32's rounding at the last step: measured at up to 3e-7 of the largest value,
//! also where the mean is a thousand times the deviation.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use common::{error, values};
use easel_kernels::{GroupNorm, Simd, Threads};
use proptest::prelude::*;

const EPS: f64 = 1e-6;

fn expected(norm: &GroupNorm<'_>, batch: usize, x: &[f32]) -> Vec<f64> {
    let channels = norm.weight.len();
    let (length, pixels) = (
        x.len() / (batch * norm.groups),
        x.len() / (batch * channels),
    );
    let mut out = Vec::new();
    for (set, group) in x.chunks(length).enumerate() {
        let count = length as f64;
        let mean = group.iter().map(|x| f64::from(*x)).sum::<f64>() / count;
        let variance = group
            .iter()
            .map(|x| (f64::from(*x) - mean).powi(2))
            .sum::<f64>()
            / count;
        for (at, x) in group.iter().enumerate() {
            let channel = set % norm.groups * (channels / norm.groups) + at / pixels;
            let normed = (f64::from(*x) - mean) / (variance + EPS).sqrt();
            let y = normed * f64::from(norm.weight[channel]) + f64::from(norm.bias[channel]);
            out.push(if norm.silu { y / (1.0 + (-y).exp()) } else { y });
        }
    }
    out
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn any_groups_are_normalised_as_written(
        (batch, groups, each, pixels) in (1..=3_usize, 1..=4_usize, 1..=5_usize, 1..=1500_usize),
        mean in -30.0..30.0_f32,
        silu: bool,
        seed in 0..1000_u32,
        threads in 1..=3_usize,
    ) {
        let channels = groups * each;
        let x = values(batch * channels * pixels, seed);
        let x: Vec<f32> = x.into_iter().map(|x| x + mean).collect();
        let (weight, bias) = (values(channels, seed + 1), values(channels, seed + 2));
        let norm = GroupNorm { groups, eps: EPS, weight: &weight, bias: &bias, silu };
        let run = |simd, threads| {
            let mut out = vec![f32::NAN; x.len()];
            norm.run(batch, &x, &mut out, simd, Threads::new(threads));
            out
        };
        let first = run(Simd::PORTABLE, 1);
        // Values far from zero are rounded more coarsely than what is left of them.
        let tolerance = 1e-6 * f64::from(1.0 + mean.abs());
        let largest = expected(&norm, batch, &x);
        let error = error(&first, &largest, 1.0);
        prop_assert!(error <= tolerance, "{error:e}");
        for simd in Simd::available() {
            prop_assert!(first == run(simd, threads), "{simd:?}");
        }
    }
}
