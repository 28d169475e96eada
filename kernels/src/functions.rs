//! Functions of single values, computed on whole registers: the same on every processor, and within a
//! few units in the last place of the true ones.

use crate::simd::Vector;

/// `2^x`, within 2e-7 of itself for `x` in [-126, 127] and as at these ends beyond. What is no number
/// stays none.
#[inline(always)]
pub(crate) fn exp2<V: Vector>(x: V) -> V {
    let x = V::splat(127.0).min(V::splat(-126.0).max(x));
    // Between 2^23 and 2^24 there are whole numbers only.
    let round = V::splat(1.5 * 8_388_608.0);
    let whole = x.add(round).sub(round);
    let rest = x.sub(whole); // [-1/2, 1/2]
    // Chebyshev's interpolation of 2^rest, 3e-9 of itself.
    let mut power = V::splat(1.546_144_5e-4);
    for coefficient in [
        1.340_042_8e-3,
        9.618_057e-3,
        5.550_327e-2,
        0.240_226_5,
        std::f32::consts::LN_2,
        1.0,
    ] {
        power = power.mul_add(rest, V::splat(coefficient));
    }
    // The last bits of 2^23 + 127 + whole are the exponent of 2^whole.
    let scale = whole
        .add(V::splat(8_388_608.0 + 127.0))
        .mantissa_to_exponent();
    power.mul(scale)
}

/// The error function, within 4e-7. Source: the rational function of XLA and Eigen (`erf` of f32).
#[inline(always)]
fn erf<V: Vector>(x: V) -> V {
    let x = V::splat(4.0).min(V::splat(-4.0).max(x));
    let square = x.mul(x);
    let polynomial = |coefficients: &[f32]| {
        let mut sum = V::splat(0.0);
        for coefficient in coefficients {
            sum = sum.mul_add(square, V::splat(*coefficient));
        }
        sum
    };
    let above = polynomial(&[
        -2.726_142_3e-10,
        2.770_681_5e-8,
        -2.101_024e-6,
        -5.692_506_4e-5,
        -7.349_906_3e-4,
        -2.954_6e-3,
        -1.609_603_3e-2,
    ]);
    let below = polynomial(&[
        -1.456_607_2e-5,
        -2.133_740_6e-4,
        -1.682_827e-3,
        -7.373_329e-3,
        -1.426_473_9e-2,
    ]);
    x.mul(above).div(below)
}

/// `x` times the share of a normal distribution below it (Hendrycks and Gimpel, 2016; not the
/// approximation by a hyperbolic tangent).
#[inline(always)]
pub(crate) fn gelu<V: Vector>(x: V) -> V {
    let half = V::splat(0.5);
    let share = erf(x.mul(V::splat(std::f32::consts::FRAC_1_SQRT_2)));
    x.mul(half.mul_add(share, half))
}

/// `x / (1 + e^-x)`
#[inline(always)]
pub(crate) fn silu<V: Vector>(x: V) -> V {
    let power = exp2(x.mul(V::splat(-std::f32::consts::LOG2_E)));
    x.div(V::splat(1.0).add(power))
}
