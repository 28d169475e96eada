//! Checkpoints whose values follow from their names' places, as `tests/reference/checkpoints.py` makes them.

#![allow(dead_code)] // Each test uses its own part.

use std::collections::BTreeMap;
use std::sync::Mutex;

use tch::{Device, Kind, Tensor};

/// Every tensor of a checkpoint, by the names and shapes that the script stored.
pub fn tensors(stored: &BTreeMap<String, Vec<i64>>) -> Vec<(String, Tensor)> {
    let numbered = stored.iter().enumerate();
    numbered
        .map(|(index, (name, shape))| (name.clone(), value(index as u64, name, shape)))
        .collect()
}

/// `value` of the script.
pub fn value(index: u64, name: &str, shape: &[i64]) -> Tensor {
    /// libtorch has one generator for all tests.
    static GENERATOR: Mutex<()> = Mutex::new(());
    let noise = {
        let _alone = GENERATOR.lock();
        tch::manual_seed(index as i64);
        Tensor::randn(shape, (Kind::Float, Device::Cpu))
    };
    let spread = if shape.len() >= 2 {
        let fan_in: i64 = shape[1..].iter().product();
        noise / f64::from(1 << (bit_length(fan_in) / 2))
    } else if name.ends_with("weight") {
        noise * 0.25 + 1.0
    } else {
        noise * 0.25
    };
    spread.to_kind(Kind::Half)
}

fn bit_length(number: i64) -> u32 {
    i64::BITS - number.leading_zeros()
}

/// Of every tensor: the sum of its values, each times its place.
pub fn fingerprint(tensor: &Tensor) -> f64 {
    let flat = tensor.to_kind(Kind::Double).flatten(0, -1);
    let places = Tensor::arange_start(1, flat.numel() as i64 + 1, (Kind::Double, Device::Cpu));
    (flat * places).sum(Kind::Double).double_value(&[])
}
