//! Attention against the matrix of all pairs in f64, over random sizes and every vector that this
//! processor has.
//!
//! The error is that of f32's rounding: measured at up to 1e-6 of the largest value.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use common::{error, values};
use easel_kernels::{Attention, Simd, Threads};
use proptest::prelude::*;

const TOLERANCE: f64 = 3e-6;

#[derive(Clone, Copy, Debug)]
struct Case {
    batch: usize,
    heads: usize,
    dim: usize,
    queries: usize,
    keys: usize,
    /// Products are up to the square of this.
    scale: f32,
    seed: u32,
}

/// Queries, keys, values.
type Numbers = [Vec<f32>; 3];

impl Case {
    fn numbers(&self) -> Numbers {
        let width = self.batch * self.heads * self.dim;
        let scaled = |count, seed, scale: f32| -> Vec<f32> {
            values(count, seed)
                .into_iter()
                .map(|value| value * scale)
                .collect()
        };
        [
            scaled(self.queries * width, self.seed, self.scale),
            scaled(self.keys * width, self.seed + 1, self.scale),
            scaled(self.keys * width, self.seed + 2, 1.0),
        ]
    }

    fn run(&self, [query, key, value]: &Numbers, simd: Simd, threads: usize) -> Vec<f32> {
        let mut out = vec![f32::NAN; query.len()];
        let (batch, heads, head_dim) = (self.batch, self.heads, self.dim);
        Attention {
            batch,
            heads,
            head_dim,
            query,
            key,
            value,
        }
        .run(&mut out, simd, Threads::new(threads));
        out
    }

    fn expected(&self, [query, key, value]: &Numbers) -> Vec<f64> {
        let mut out = Vec::new();
        let dim = self.dim;
        for (picture, token, head) in (0..self.batch).flat_map(|picture| {
            let tokens = 0..self.queries;
            tokens.flat_map(move |token| (0..self.heads).map(move |head| (picture, token, head)))
        }) {
            let at = |of: &[f32], tokens: usize, token: usize, d: usize| {
                f64::from(of[((picture * tokens + token) * self.heads + head) * dim + d])
            };
            let products: Vec<f64> = (0..self.keys)
                .map(|k| {
                    let pair = |d| at(query, self.queries, token, d) * at(key, self.keys, k, d);
                    (0..dim).map(pair).sum::<f64>() / (dim as f64).sqrt()
                })
                .collect();
            let largest = products.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let weights: Vec<f64> = products.iter().map(|p| (p - largest).exp()).collect();
            let whole: f64 = weights.iter().sum();
            for d in 0..dim {
                let seen = weights.iter().enumerate();
                let sum: f64 = seen
                    .map(|(k, weight)| weight * at(value, self.keys, k, d))
                    .sum();
                out.push(sum / whole);
            }
        }
        out
    }
}

fn cases() -> impl Strategy<Value = Case> {
    let sizes = (
        1..=3_usize,
        1..=3_usize,
        1..=50_usize,
        1..=150_usize,
        1..=300_usize,
    );
    (sizes, 0.1..8.0_f32, 0..1000_u32).prop_map(
        |((batch, heads, dim, queries, keys), scale, seed)| Case {
            batch,
            heads,
            dim,
            queries,
            keys,
            scale,
            seed,
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn any_sizes_are_looked_at_as_written(case in cases(), threads in 1..=3_usize) {
        let numbers = case.numbers();
        let first = case.run(&numbers, Simd::PORTABLE, 1);
        // Larger products round to larger errors of their powers.
        let tolerance = TOLERANCE * f64::from(case.scale.max(1.0)).powi(2);
        let error = error(&first, &case.expected(&numbers), 1.0);
        prop_assert!(error <= tolerance, "{case:?}: {error:e}");
        for simd in Simd::available() {
            prop_assert!(first == case.run(&numbers, simd, threads), "{case:?} {simd:?} {threads}");
        }
    }
}

#[test]
fn many_queries_are_shared_out_and_come_to_the_same() {
    let case = Case {
        batch: 1,
        heads: 2,
        dim: 40,
        queries: 1100,
        keys: 290,
        scale: 2.0,
        seed: 5,
    };
    let numbers = case.numbers();
    let alone = case.run(&numbers, Simd::detect(), 1);
    assert!(error(&alone, &case.expected(&numbers), 1.0) <= 1e-5);
    assert!(alone == case.run(&numbers, Simd::detect(), 5));
}

/// As a VAE's: its keys are brought near bit by bit.
#[test]
fn one_wide_head_of_many_keys_comes_to_the_same() {
    let case = Case {
        batch: 1,
        heads: 1,
        dim: 300,
        queries: 140,
        keys: 1000,
        scale: 1.0,
        seed: 7,
    };
    let numbers = case.numbers();
    let alone = case.run(&numbers, Simd::PORTABLE, 1);
    assert!(error(&alone, &case.expected(&numbers), 1.0) <= TOLERANCE);
    for simd in Simd::available() {
        assert!(alone == case.run(&numbers, simd, 3), "{simd:?}");
    }
}

#[test]
fn products_that_differ_widely_and_what_is_no_number_are_kept_apart() {
    let case = Case {
        batch: 1,
        heads: 1,
        dim: 16,
        queries: 40,
        keys: 200,
        scale: 60.0,
        seed: 9,
    };
    let mut numbers = case.numbers();
    let expected = case.expected(&numbers);
    for simd in Simd::available() {
        assert!(error(&case.run(&numbers, simd, 1), &expected, 1.0) <= 2e-3);
    }
    numbers[0][16 * 3] = f32::NAN;
    for simd in Simd::available() {
        for (query, seen) in case.run(&numbers, simd, 1).chunks(16).enumerate() {
            assert_eq!(
                seen.iter().all(|value| value.is_nan()),
                query == 3,
                "{simd:?} {query}"
            );
        }
    }
    // A key or a value that is no number is seen by every query.
    for which in [1, 2] {
        let mut numbers = case.numbers();
        numbers[which][16 * 150..16 * 151].fill(f32::NAN);
        for simd in Simd::available() {
            let seen = case.run(&numbers, simd, 1);
            assert!(seen.iter().all(|value| value.is_nan()), "{simd:?} {which}");
        }
    }
}
