//! Numbers as files hold them, in 32 or 16 bits. All arithmetic is in f32, which holds the values of
//! all of them exactly: what lies in 16 bits takes half the memory, and half the time to come from it.

use half::{bf16, f16};

use crate::simd::Vector;

/// Consecutive numbers.
#[derive(Clone, Copy, Debug)]
pub enum Stored<'a> {
    F32(&'a [f32]),
    F16(&'a [f16]),
    Bf16(&'a [bf16]),
}

impl Stored<'_> {
    /// How many numbers, whatever bytes each takes.
    pub fn len(&self) -> usize {
        match self {
            Self::F32(values) => values.len(),
            Self::F16(values) => values.len(),
            Self::Bf16(values) => values.len(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// `len` of them from `from` on. Panics where there are not as many.
    pub(crate) fn part(self, from: usize, len: usize) -> Self {
        match self {
            Self::F32(values) => Self::F32(&values[from..][..len]),
            Self::F16(values) => Self::F16(&values[from..][..len]),
            Self::Bf16(values) => Self::Bf16(&values[from..][..len]),
        }
    }
}

impl<'a> From<&'a [f32]> for Stored<'a> {
    fn from(values: &'a [f32]) -> Self {
        Self::F32(values)
    }
}

/// The same work on slices of each kind of number.
macro_rules! with_values {
    ($stored:expr, $values:ident => $work:expr) => {
        match $stored {
            $crate::stored::Stored::F32($values) => $work,
            $crate::stored::Stored::F16($values) => $work,
            $crate::stored::Stored::Bf16($values) => $work,
        }
    };
}
pub(crate) use with_values;

/// One kind of number.
pub(crate) trait Value: Copy {
    /// The first values of a slice that has as many as a vector has lanes.
    fn load<V: Vector>(from: &[Self]) -> V;
    fn widen(self) -> f32;
}

impl Value for f32 {
    #[inline(always)]
    fn load<V: Vector>(from: &[Self]) -> V {
        V::load(from)
    }

    #[inline(always)]
    fn widen(self) -> f32 {
        self
    }
}

impl Value for f16 {
    #[inline(always)]
    fn load<V: Vector>(from: &[Self]) -> V {
        V::load_f16(from)
    }

    #[inline(always)]
    fn widen(self) -> f32 {
        self.to_f32_const()
    }
}

impl Value for bf16 {
    #[inline(always)]
    fn load<V: Vector>(from: &[Self]) -> V {
        V::load_bf16(from)
    }

    #[inline(always)]
    fn widen(self) -> f32 {
        self.to_f32_const()
    }
}
