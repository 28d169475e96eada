//! What the tests of the kernels share: numbers that look random, and how far others are from them.

#![allow(dead_code)] // Each test binary uses its own part.

use easel_kernels::Stored;
use half::{bf16, f16};

/// Values in [-1, 1) that look random.
pub fn values(count: usize, seed: u32) -> Vec<f32> {
    let mut state = seed.wrapping_mul(2_654_435_761) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        (f64::from(state) / f64::from(u32::MAX) * 2.0 - 1.0) as f32
    };
    (0..count).map(|_| next()).collect()
}

/// Numbers in 16 bits.
pub struct Short {
    f16: Vec<f16>,
    bf16: Vec<bf16>,
}

impl Short {
    pub fn of(values: &[f32]) -> Self {
        Self {
            f16: values.iter().map(|value| f16::from_f32(*value)).collect(),
            bf16: values.iter().map(|value| bf16::from_f32(*value)).collect(),
        }
    }

    /// Each kind, and the same in f32.
    pub fn each(&self) -> [(Stored<'_>, Vec<f32>); 2] {
        let wide = |stored| match stored {
            Stored::F32(values) => values.to_vec(),
            Stored::F16(values) => values.iter().map(|value| value.to_f32()).collect(),
            Stored::Bf16(values) => values.iter().map(|value| value.to_f32()).collect(),
        };
        let kinds = [Stored::F16(&self.f16), Stored::Bf16(&self.bf16)];
        kinds.map(|stored| (stored, wide(stored)))
    }
}

/// The largest difference, as a share of `scale`; infinite where a value is no number.
pub fn error(got: &[f32], expected: &[f64], scale: f64) -> f64 {
    assert_eq!(got.len(), expected.len());
    let difference = |(got, expected): (&f32, &f64)| (f64::from(*got) - expected).abs();
    let differences = got.iter().zip(expected).map(difference);
    differences.fold(0.0, |a, b| {
        if b <= a {
            a
        } else if b.is_nan() {
            f64::INFINITY
        } else {
            b
        }
    }) / scale
}
