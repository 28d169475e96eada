//! Vectors of f32 as wide as the processor has them, found at run time.
//!
//! Every operation is exactly rounded and a multiply-add rounds once, whatever the width: the same
//! work gives the same numbers on every processor.

#[cfg(target_arch = "aarch64")]
use std::arch::aarch64 as arch;
#[cfg(target_arch = "x86_64")]
use std::arch::x86_64 as arch;

use half::{bf16, f16};

/// Values that a [`Block`] holds.
pub(crate) const BLOCK: usize = 16;

/// Values that are worked on together, one cache line: a register of AVX-512, two of AVX2, four of
/// NEON.
#[derive(Clone, Copy, Debug)]
#[repr(align(64))]
pub(crate) struct Block(pub [f32; BLOCK]);

impl Block {
    pub const ZERO: Self = Self([0.0; BLOCK]);
}

/// Some lanes of f32 in one register.
pub(crate) trait Vector: Copy {
    /// Divides [`BLOCK`].
    const LANES: usize;

    fn splat(value: f32) -> Self;
    /// The first [`Self::LANES`] values of a slice that has as many.
    fn load(from: &[f32]) -> Self;
    /// The same of values with fewer bits, which f32 holds exactly.
    fn load_f16(from: &[f16]) -> Self;
    fn load_bf16(from: &[bf16]) -> Self;
    fn store(self, to: &mut [f32]);
    fn add(self, other: Self) -> Self;
    fn sub(self, other: Self) -> Self;
    fn mul(self, other: Self) -> Self;
    fn div(self, other: Self) -> Self;
    /// `self` where it is the larger, else `other`: also where either is no number.
    fn max(self, other: Self) -> Self;
    /// `self` where it is the smaller, else `other`: also where either is no number.
    fn min(self, other: Self) -> Self;
    /// `self * factor + addend`, rounded once.
    fn mul_add(self, factor: Self, addend: Self) -> Self;
    /// Both in turns, `a0 b0 a1 b1 ..`: the first half and the second.
    fn zip(self, other: Self) -> (Self, Self);
    /// Undoes [`Self::zip`]: every second value of both, from the first on and from the second on.
    fn unzip(self, other: Self) -> (Self, Self);
    /// Does the work in a function of its own, so that its loops have all registers.
    fn apart(work: impl Work);
    /// Its bits as an integer's, 23 to the left: what stood in the mantissa's last places becomes the
    /// exponent.
    fn mantissa_to_exponent(self) -> Self;
}

/// A piece of work that is compiled once for each kind of vector.
pub(crate) trait Work {
    /// `#[inline(always)]` in every implementation, so that it is compiled for the vectors it gets.
    fn run<V: Vector>(self);
}

/// Vectors that this processor has: nobody makes one by hand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Simd(Set);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Set {
    #[cfg(target_arch = "x86_64")]
    Avx512,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    #[cfg(target_arch = "aarch64")]
    Neon,
    Portable,
}

/// The widest first.
const SETS: &[Set] = &[
    #[cfg(target_arch = "x86_64")]
    Set::Avx512,
    #[cfg(target_arch = "x86_64")]
    Set::Avx2,
    #[cfg(target_arch = "aarch64")]
    Set::Neon,
    Set::Portable,
];

impl Set {
    /// Whether this processor has it.
    fn is_there(self) -> bool {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => is_x86_feature_detected!("avx512f"),
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => {
                is_x86_feature_detected!("avx2")
                    && is_x86_feature_detected!("fma")
                    && is_x86_feature_detected!("f16c")
            }
            #[cfg(target_arch = "aarch64")]
            Self::Neon => true,
            Self::Portable => true,
        }
    }
}

impl Simd {
    /// One value at a time, by whatever the processor has: right everywhere, fast nowhere.
    pub const PORTABLE: Self = Self(Set::Portable);

    /// The widest that this processor has.
    pub fn detect() -> Self {
        Self::all().next().unwrap_or(Self::PORTABLE)
    }

    /// All that this processor has, the widest first.
    pub fn available() -> Vec<Self> {
        Self::all().collect()
    }

    fn all() -> impl Iterator<Item = Self> {
        SETS.iter()
            .filter(|set| set.is_there())
            .map(|set| Self(*set))
    }

    /// Runs the work with these vectors.
    pub(crate) fn run(self, work: impl Work) {
        match self.0 {
            // SAFETY: `all` alone makes one of these, and asked the processor for exactly these
            // features.
            #[cfg(target_arch = "x86_64")]
            Set::Avx512 => unsafe { avx512(work) },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            Set::Avx2 => unsafe { avx2(work) },
            #[cfg(target_arch = "aarch64")]
            Set::Neon => work.run::<Neon>(),
            Set::Portable => work.run::<Portable>(),
        }
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
fn avx512(work: impl Work) {
    work.run::<Avx512>();
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma,f16c")]
fn avx2(work: impl Work) {
    work.run::<Avx2>();
}

/// Implements [`Vector`] by the operations of one instruction set.
macro_rules! vector {
    (
        $name:ident, $register:ty, $lanes:literal, $set:literal, $features:literal, $splat:ident, $load:ident, $store:ident,
        $add:ident, $sub:ident, $mul:ident, $div:ident, |$a:ident, $b:ident, $c:ident| $mul_add:expr, $zip:expr,
        $unzip:expr, $max:expr, $min:expr, $shift:expr, |$from:ident| $f16:expr, $bf16:expr
    ) => {
        #[doc = concat!("A register of ", $set, ". Only [`Simd::run`] hands it out, on processors that have it.")]
        #[derive(Clone, Copy)]
        struct $name($register);

        // SAFETY, for all operations: `Simd::run` is the only place that makes work with this type,
        // after the processor was found to have the instructions. Loads and stores go to slices
        // that were cut to the register's length.
        impl Vector for $name {
            const LANES: usize = $lanes;

            #[inline(always)]
            fn splat(value: f32) -> Self {
                // SAFETY: as above.
                Self(unsafe { arch::$splat(value) })
            }

            #[inline(always)]
            fn load(from: &[f32]) -> Self {
                // SAFETY: as above.
                Self(unsafe { arch::$load(from[..$lanes].as_ptr()) })
            }

            #[inline(always)]
            fn load_f16(from: &[f16]) -> Self {
                let $from = from[..$lanes].as_ptr();
                // SAFETY: as above.
                Self(unsafe { $f16 })
            }

            #[inline(always)]
            fn load_bf16(from: &[bf16]) -> Self {
                let $from = from[..$lanes].as_ptr();
                // SAFETY: as above.
                Self(unsafe { $bf16 })
            }

            #[inline(always)]
            fn store(self, to: &mut [f32]) {
                // SAFETY: as above.
                unsafe { arch::$store(to[..$lanes].as_mut_ptr(), self.0) }
            }

            #[inline(always)]
            fn add(self, other: Self) -> Self {
                // SAFETY: as above.
                Self(unsafe { arch::$add(self.0, other.0) })
            }

            #[inline(always)]
            fn sub(self, other: Self) -> Self {
                // SAFETY: as above.
                Self(unsafe { arch::$sub(self.0, other.0) })
            }

            #[inline(always)]
            fn mul(self, other: Self) -> Self {
                // SAFETY: as above.
                Self(unsafe { arch::$mul(self.0, other.0) })
            }

            #[inline(always)]
            fn div(self, other: Self) -> Self {
                // SAFETY: as above.
                Self(unsafe { arch::$div(self.0, other.0) })
            }

            #[inline(always)]
            fn max(self, other: Self) -> Self {
                let ($a, $b) = (self.0, other.0);
                // SAFETY: as above.
                Self(unsafe { $max })
            }

            #[inline(always)]
            fn min(self, other: Self) -> Self {
                let ($a, $b) = (self.0, other.0);
                // SAFETY: as above.
                Self(unsafe { $min })
            }

            #[inline(always)]
            fn mul_add(self, factor: Self, addend: Self) -> Self {
                let ($a, $b, $c) = (self.0, factor.0, addend.0);
                // SAFETY: as above.
                Self(unsafe { $mul_add })
            }

            #[inline(always)]
            fn zip(self, other: Self) -> (Self, Self) {
                let ($a, $b) = (self.0, other.0);
                // SAFETY: as above.
                let (low, high) = unsafe { $zip };
                (Self(low), Self(high))
            }

            #[inline(always)]
            fn unzip(self, other: Self) -> (Self, Self) {
                let ($a, $b) = (self.0, other.0);
                // SAFETY: as above.
                let (even, odd) = unsafe { $unzip };
                (Self(even), Self(odd))
            }

            #[inline(always)]
            fn apart(work: impl Work) {
                #[target_feature(enable = $features)]
                #[inline(never)]
                fn run(work: impl Work) {
                    work.run::<$name>();
                }
                // SAFETY: as above.
                unsafe { run(work) }
            }

            #[inline(always)]
            fn mantissa_to_exponent(self) -> Self {
                let $a = self.0;
                // SAFETY: as above.
                Self(unsafe { $shift })
            }
        }
    };
}

#[cfg(target_arch = "x86_64")]
vector!(
    Avx512,
    arch::__m512,
    16,
    "AVX-512",
    "avx512f",
    _mm512_set1_ps,
    _mm512_loadu_ps,
    _mm512_storeu_ps,
    _mm512_add_ps,
    _mm512_sub_ps,
    _mm512_mul_ps,
    _mm512_div_ps,
    |a, b, c| arch::_mm512_fmadd_ps(a, b, c),
    {
        let low = arch::_mm512_setr_epi32(0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
        let high = arch::_mm512_add_epi32(low, arch::_mm512_set1_epi32(8));
        (
            arch::_mm512_permutex2var_ps(a, low, b),
            arch::_mm512_permutex2var_ps(a, high, b),
        )
    },
    {
        let even =
            arch::_mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
        let odd = arch::_mm512_add_epi32(even, arch::_mm512_set1_epi32(1));
        (
            arch::_mm512_permutex2var_ps(a, even, b),
            arch::_mm512_permutex2var_ps(a, odd, b),
        )
    },
    arch::_mm512_max_ps(a, b),
    arch::_mm512_min_ps(a, b),
    arch::_mm512_castsi512_ps(arch::_mm512_slli_epi32::<23>(arch::_mm512_castps_si512(a))),
    |from| arch::_mm512_cvtph_ps(arch::_mm256_loadu_si256(from.cast())),
    {
        let wide = arch::_mm512_cvtepu16_epi32(arch::_mm256_loadu_si256(from.cast()));
        arch::_mm512_castsi512_ps(arch::_mm512_slli_epi32::<16>(wide))
    }
);
#[cfg(target_arch = "x86_64")]
vector!(
    Avx2,
    arch::__m256,
    8,
    "AVX2",
    "avx2,fma,f16c",
    _mm256_set1_ps,
    _mm256_loadu_ps,
    _mm256_storeu_ps,
    _mm256_add_ps,
    _mm256_sub_ps,
    _mm256_mul_ps,
    _mm256_div_ps,
    |a, b, c| arch::_mm256_fmadd_ps(a, b, c),
    {
        let (low, high) = (
            arch::_mm256_unpacklo_ps(a, b),
            arch::_mm256_unpackhi_ps(a, b),
        );
        (
            arch::_mm256_permute2f128_ps::<0x20>(low, high),
            arch::_mm256_permute2f128_ps::<0x31>(low, high),
        )
    },
    {
        let low = arch::_mm256_permute2f128_ps::<0x20>(a, b);
        let high = arch::_mm256_permute2f128_ps::<0x31>(a, b);
        (
            arch::_mm256_shuffle_ps::<0x88>(low, high),
            arch::_mm256_shuffle_ps::<0xdd>(low, high),
        )
    },
    arch::_mm256_max_ps(a, b),
    arch::_mm256_min_ps(a, b),
    arch::_mm256_castsi256_ps(arch::_mm256_slli_epi32::<23>(arch::_mm256_castps_si256(a))),
    |from| arch::_mm256_cvtph_ps(arch::_mm_loadu_si128(from.cast())),
    {
        let wide = arch::_mm256_cvtepu16_epi32(arch::_mm_loadu_si128(from.cast()));
        arch::_mm256_castsi256_ps(arch::_mm256_slli_epi32::<16>(wide))
    }
);
#[cfg(target_arch = "aarch64")]
vector!(
    Neon,
    arch::float32x4_t,
    4,
    "NEON",
    "neon",
    vdupq_n_f32,
    vld1q_f32,
    vst1q_f32,
    vaddq_f32,
    vsubq_f32,
    vmulq_f32,
    vdivq_f32,
    |a, b, c| arch::vfmaq_f32(c, a, b),
    (arch::vzip1q_f32(a, b), arch::vzip2q_f32(a, b)),
    (arch::vuzp1q_f32(a, b), arch::vuzp2q_f32(a, b)),
    // NEON's own maximum of something that is no number is no number.
    arch::vbslq_f32(arch::vcgtq_f32(a, b), a, b),
    arch::vbslq_f32(arch::vcltq_f32(a, b), a, b),
    arch::vreinterpretq_f32_s32(arch::vshlq_n_s32::<23>(arch::vreinterpretq_s32_f32(a))),
    // Rust has no stable name for the instruction yet.
    |from| arch::vld1q_f32((*from.cast::<[f16; 4]>()).map(widen).as_ptr()),
    arch::vreinterpretq_f32_u32(arch::vshll_n_u16::<16>(arch::vld1_u16(from.cast())))
);

/// As f32, in steps that several values can take at once (`f16::to_f32` asks the processor each time).
#[inline(always)]
fn widen(value: f16) -> f32 {
    const EXPONENT: u32 = 0x7c00 << 13;
    /// What the exponents of 1 differ by.
    const BIAS: u32 = (127 - 15) << 23;
    let bits = u32::from(value.to_bits());
    let (sign, rest) = ((bits & 0x8000) << 16, (bits & 0x7fff) << 13);
    let magnitude = match rest & EXPONENT {
        EXPONENT => f32::from_bits(rest + 2 * BIAS),
        // Too small for an exponent: as if there was the smallest one, and that taken away again.
        0 => f32::from_bits(rest + BIAS + (1 << 23)) - f32::from_bits(BIAS + (1 << 23)),
        _ => f32::from_bits(rest + BIAS),
    };
    f32::from_bits(magnitude.to_bits() | sign)
}

/// One value.
#[derive(Clone, Copy)]
struct Portable(f32);

impl Vector for Portable {
    const LANES: usize = 1;

    #[inline(always)]
    fn splat(value: f32) -> Self {
        Self(value)
    }

    #[inline(always)]
    fn load(from: &[f32]) -> Self {
        Self(from[0])
    }

    #[inline(always)]
    fn load_f16(from: &[f16]) -> Self {
        Self(widen(from[0]))
    }

    #[inline(always)]
    fn load_bf16(from: &[bf16]) -> Self {
        Self(from[0].to_f32())
    }

    #[inline(always)]
    fn store(self, to: &mut [f32]) {
        to[0] = self.0;
    }

    #[inline(always)]
    fn add(self, other: Self) -> Self {
        Self(self.0 + other.0)
    }

    #[inline(always)]
    fn sub(self, other: Self) -> Self {
        Self(self.0 - other.0)
    }

    #[inline(always)]
    fn mul(self, other: Self) -> Self {
        Self(self.0 * other.0)
    }

    #[inline(always)]
    fn div(self, other: Self) -> Self {
        Self(self.0 / other.0)
    }

    #[inline(always)]
    fn max(self, other: Self) -> Self {
        if self.0 > other.0 { self } else { other }
    }

    #[inline(always)]
    fn min(self, other: Self) -> Self {
        if self.0 < other.0 { self } else { other }
    }

    #[inline(always)]
    fn mul_add(self, factor: Self, addend: Self) -> Self {
        Self(self.0.mul_add(factor.0, addend.0))
    }

    #[inline(always)]
    fn zip(self, other: Self) -> (Self, Self) {
        (self, other)
    }

    #[inline(always)]
    fn unzip(self, other: Self) -> (Self, Self) {
        (self, other)
    }

    #[inline(always)]
    fn apart(work: impl Work) {
        work.run::<Self>();
    }

    #[inline(always)]
    fn mantissa_to_exponent(self) -> Self {
        Self(f32::from_bits(self.0.to_bits() << 23))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Loads each value of 16 bits by these vectors.
    struct All<'a>(&'a mut Vec<[f32; 2]>);

    impl Work for All<'_> {
        fn run<V: Vector>(self) {
            for first in (0..=u16::MAX).step_by(V::LANES) {
                let bits: Vec<u16> = (0..V::LANES as u16).map(|i| first + i).collect();
                let half: Vec<f16> = bits.iter().map(|bits| f16::from_bits(*bits)).collect();
                let brain: Vec<bf16> = bits.iter().map(|bits| bf16::from_bits(*bits)).collect();
                let (mut a, mut b) = ([0.0; BLOCK], [0.0; BLOCK]);
                V::load_f16(&half).store(&mut a);
                V::load_bf16(&brain).store(&mut b);
                self.0.extend((0..V::LANES).map(|i| [a[i], b[i]]));
            }
        }
    }

    #[test]
    fn every_value_of_16_bits_is_widened_exactly() {
        for simd in Simd::available() {
            let mut found = Vec::new();
            simd.run(All(&mut found));
            for (bits, [half, brain]) in (0..=u16::MAX).zip(found) {
                let expected = [
                    f16::from_bits(bits).to_f32_const(),
                    bf16::from_bits(bits).to_f32_const(),
                ];
                for (got, expected) in [half, brain].into_iter().zip(expected) {
                    let same = got.to_bits() == expected.to_bits();
                    assert!(
                        same || got.is_nan() && expected.is_nan(),
                        "{simd:?} {bits:x}"
                    );
                }
            }
        }
    }
}
