//! The inner loop of every product of matrices here: a few rows times one or two blocks of columns,
//! summed in registers.

use crate::simd::{BLOCK, Block, Vector};

/// Adds to `sums[p][k][t]` the sum over `c` of `left[c][k] * right[p][c][t]`, in the order of `c`, for
/// 16 rows `k` or, where `rows` says so, for the first few of them only. `fresh`: `sums` begin at zero.
#[inline(always)]
pub(crate) fn multiply<V: Vector, const P: usize>(
    left: &[Block],
    right: [&[Block]; P],
    sums: [&mut [Block]; P],
    rows: usize,
    fresh: bool,
) {
    // As many sums as leave registers for the factors: of 32 with AVX-512 and NEON, 16 with AVX2.
    match V::LANES {
        16 => {
            let mut sums = sums;
            for first in (0..rows).step_by(8) {
                part::<V, 8, P, 1>(left, first, right, &mut sums, fresh);
            }
        }
        lanes => {
            for (right, sums) in right.into_iter().zip(sums) {
                for first in (0..rows).step_by(4) {
                    let (right, sums) = ([right], &mut [&mut *sums]);
                    match lanes {
                        8 => part::<V, 4, 1, 2>(left, first, right, sums, fresh),
                        4 => part::<V, 4, 1, 4>(left, first, right, sums, fresh),
                        _ => part::<V, 4, 1, BLOCK>(left, first, right, sums, fresh),
                    }
                }
            }
        }
    }
}

/// `R` rows from `first` on, `P` blocks of `N` registers.
// The indices name registers, the same one in several arrays.
#[allow(clippy::needless_range_loop)]
#[inline(always)]
fn part<V: Vector, const R: usize, const P: usize, const N: usize>(
    left: &[Block],
    first: usize,
    right: [&[Block]; P],
    out: &mut [&mut [Block]; P],
    fresh: bool,
) {
    let mut sums = [[[V::splat(0.0); N]; P]; R];
    let right = right.map(|blocks| &blocks[..left.len()]);
    for (c, left) in left.iter().enumerate() {
        let mut columns = [[V::splat(0.0); N]; P];
        for p in 0..P {
            for n in 0..N {
                columns[p][n] = V::load(&right[p][c].0[n * V::LANES..]);
            }
        }
        for r in 0..R {
            let left = V::splat(left.0[first + r]);
            for p in 0..P {
                for n in 0..N {
                    sums[r][p][n] = left.mul_add(columns[p][n], sums[r][p][n]);
                }
            }
        }
    }
    for r in 0..R {
        for p in 0..P {
            for n in 0..N {
                let place = &mut out[p][first + r].0[n * V::LANES..];
                let sum = sums[r][p][n];
                let sum = if fresh { sum } else { V::load(place).add(sum) };
                sum.store(place);
            }
        }
    }
}
