//! What the parity tests share: reference tensors, and a comparison that says where it fails.
//!
//! Source of the tensors: `tests/reference/README.md`.
#![allow(dead_code)] // Each test binary uses its own part.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use tch::{Device, Kind, Tensor};

use easel::checkpoint;
use easel::models::layers::Exactly;

/// A file or folder of `tests/reference/data`.
pub fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/reference/data")
        .join(name)
}

/// Reference tensors by name, floats as f32.
pub struct Reference(BTreeMap<String, Tensor>);

impl Reference {
    pub fn read(path: &Path) -> Self {
        let files = [path.to_path_buf()];
        let loaded = checkpoint::load(&files, Device::Cpu, Kind::Float, &mut |_| {})
            .unwrap_or_else(|error| panic!("{error}"));
        Self(loaded.tensors)
    }

    pub fn find(&self, name: &str) -> Option<&Tensor> {
        self.0.get(name)
    }

    pub fn get(&self, name: &str) -> &Tensor {
        self.find(name)
            .unwrap_or_else(|| panic!("the reference has no tensor {name}"))
    }

    /// The tensors whose names begin with `prefix` and a dot, without both.
    pub fn part(&self, prefix: &str) -> Self {
        let part = self.0.iter().filter_map(|(name, tensor)| {
            let rest = name.strip_prefix(prefix)?.strip_prefix('.')?;
            Some((rest.to_owned(), tensor.shallow_clone()))
        });
        Self(part.collect())
    }
}

/// Both arithmetics, in turns: the fast one, whose convolutions take fewer products and whose sums are
/// taken in another order, and libtorch's own.
pub fn both_ways(mut check: impl FnMut()) {
    check();
    let _exactly = Exactly::when(true);
    check();
}

/// How far from the reference a result may be, as a share of the reference's largest value.
#[derive(Clone, Copy)]
pub struct Tolerance {
    /// By the fast arithmetic.
    pub fast: f64,
    /// By libtorch's own.
    pub exact: f64,
}

/// One call of a network in f32. Exact: both sides run libtorch's kernels, most often to the same bit;
/// sums are taken in another order on another processor, by another number of threads, and where a 1x1
/// convolution is a linear map here (measured: 9e-7). Fast: sums have an order of their own, and
/// Winograd's tiles round values that are a few times larger than the outputs (measured: 3e-6).
pub const NETWORK: Tolerance = Tolerance {
    fast: 1e-5,
    exact: 5e-6,
};

/// Latents and pictures after up to 20 steps, which add up the rounding of [`NETWORK`] and which guidance
/// multiplies (measured: exact 6e-6, fast 1.1e-5).
pub const DRAWING: Tolerance = Tolerance {
    fast: 1e-4,
    exact: 3e-5,
};

/// The same for both.
impl From<f64> for Tolerance {
    fn from(both: f64) -> Self {
        Self {
            fast: both,
            exact: both,
        }
    }
}

/// Fails where `got` differs from `want` by more than the tolerance of this thread's arithmetic, or is
/// not a number, and says at which index first. Says the largest difference in any case, which
/// `-- --nocapture` shows.
#[track_caller]
pub fn compare(name: &str, got: &Tensor, want: &Tensor, tolerance: impl Into<Tolerance>) {
    let tolerance = tolerance.into();
    let (way, tolerance) = match Exactly::holds() {
        true => ("exact", tolerance.exact),
        false => ("fast", tolerance.fast),
    };
    let name = format!("{name}, {way}");
    assert_eq!(got.size(), want.size(), "{name}: another shape");
    let flat = |x: &Tensor| -> Vec<f64> {
        let x = x.to_device(Device::Cpu).to_kind(Kind::Double).contiguous();
        Vec::try_from(x.view([-1])).expect("values")
    };
    let (got_values, want_values) = (flat(got), flat(want));
    let largest = want_values.iter().fold(0f64, |max, x| max.max(x.abs()));
    let limit = tolerance * largest;
    let bad = |(got, want): (&f64, &f64)| {
        let difference = (got - want).abs();
        difference.is_nan() || difference > limit
    };
    let pairs = || got_values.iter().zip(&want_values);
    let worst = pairs().fold(0f64, |max, (got, want)| max.max((got - want).abs()));
    println!("{name}: {:.1e} of {tolerance:e}", worst / largest);
    if let Some(first) = pairs().position(bad) {
        panic!(
            "{name}: {} of {} values differ by more than {limit:e} ({tolerance:e} of the largest, \
             {largest}); the first at {:?}: {} instead of {}; the worst by {worst:e}",
            pairs().filter(|pair| bad(*pair)).count(),
            want_values.len(),
            index_of(first, &want.size()),
            got_values[first],
            want_values[first],
        );
    }
}

/// The place of the `flat`th value of a tensor.
fn index_of(flat: usize, shape: &[i64]) -> Vec<i64> {
    let mut rest = flat as i64;
    let mut index: Vec<i64> = Vec::new();
    for size in shape.iter().rev() {
        index.insert(0, rest % size);
        rest /= size;
    }
    index
}
