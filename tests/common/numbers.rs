//! For the parity tests of numbers: stored references, and a comparison that names the first bad index.

#![allow(clippy::unwrap_used)]

use std::collections::HashMap;
use std::path::PathBuf;

use tch::{Kind, Tensor};

/// A file of `tests/reference/data/samplers`.
pub fn reference(file: &str) -> PathBuf {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    root.join("tests/reference/data/samplers").join(file)
}

/// Every tensor of a reference file, by name, as f64 values.
pub fn reference_values(file: &str) -> HashMap<String, Vec<f64>> {
    let tensors = Tensor::read_safetensors(reference(file)).unwrap();
    let named = tensors.into_iter();
    named
        .map(|(name, tensor)| (name, values(&tensor)))
        .collect()
}

/// A tensor's values as f64, row by row.
pub fn values(tensor: &Tensor) -> Vec<f64> {
    Vec::try_from(tensor.to_kind(Kind::Double).flatten(0, -1)).unwrap()
}

/// The largest difference; panics with the first index that is further than `tolerance` away.
pub fn compare(name: &str, got: &[f64], want: &[f64], tolerance: f64) -> f64 {
    assert_eq!(got.len(), want.len(), "{name}: another count of values");
    let mut worst = 0.0f64;
    for (index, (got, want)) in got.iter().zip(want).enumerate() {
        let difference = (got - want).abs();
        assert!(
            difference <= tolerance,
            "{name}: at index {index} got {got}, want {want}, {difference:e} apart, more than {tolerance:e}"
        );
        worst = worst.max(difference);
    }
    worst
}
