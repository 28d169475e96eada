//! The inner loop of every product of matrices here: a few rows times one or two blocks of columns,
//! summed in registers.

use crate::simd::{BLOCK, Block, Vector, Work};

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

/// Values that are summed up before they are added to the others: sums of sums are more exact than one
/// long sum.
pub(crate) const CHUNK: usize = 512;

/// Adds to `sums[r][p]` the sum over `k` of `rows[r][k] * right[k][p]`, of `R` rows and `P` blocks of
/// columns. The rows have as many values as `right`. `fresh`: `sums` begin at zero.
///
/// With AVX-512 up to eight rows and three blocks fit its registers, with others six rows.
#[inline(always)]
pub(crate) fn tile<V: Vector, const R: usize, const P: usize>(
    rows: [&[f32]; R],
    right: &[[Block; P]],
    sums: &mut [[Block; P]; R],
    mut fresh: bool,
) {
    let mut first = 0;
    while fresh || first < right.len() {
        let right = &right[first..right.len().min(first + CHUNK)];
        V::apart(Tile {
            rows: rows.map(|row| &row[first..][..right.len()]),
            right,
            sums,
            fresh,
        });
        fresh = false;
        first += CHUNK;
    }
}

/// The same for any number of rows.
#[inline(always)]
pub(crate) fn multiply_rows<'a, V: Vector, const P: usize>(
    row: impl Fn(usize) -> &'a [f32],
    right: &[[Block; P]],
    sums: &mut [[Block; P]],
    fresh: bool,
) {
    let count = sums.len();
    let mut first = 0;
    while first < count {
        let (row, sums) = (|r| row(first + r), &mut sums[first..]);
        first += match V::LANES {
            BLOCK if count - first >= 8 => tile_of::<V, 8, P>(row, right, sums, fresh),
            lanes if lanes < BLOCK && count - first >= 6 => {
                tile_of::<V, 6, P>(row, right, sums, fresh)
            }
            _ if count - first >= 4 => tile_of::<V, 4, P>(row, right, sums, fresh),
            _ => tile_of::<V, 1, P>(row, right, sums, fresh),
        };
    }
}

/// The first `R` rows; returns `R`.
#[inline(always)]
fn tile_of<'a, V: Vector, const R: usize, const P: usize>(
    row: impl Fn(usize) -> &'a [f32],
    right: &[[Block; P]],
    sums: &mut [[Block; P]],
    fresh: bool,
) -> usize {
    if let Some(sums) = sums.first_chunk_mut::<R>() {
        tile::<V, R, P>(std::array::from_fn(row), right, sums, fresh);
    }
    R
}

/// See [`tile`], of at most [`CHUNK`] values.
struct Tile<'a, const R: usize, const P: usize> {
    rows: [&'a [f32]; R],
    right: &'a [[Block; P]],
    sums: &'a mut [[Block; P]; R],
    fresh: bool,
}

impl<const R: usize, const P: usize> Work for Tile<'_, R, P> {
    #[inline(always)]
    fn run<V: Vector>(mut self) {
        if V::LANES == BLOCK {
            return self.blocks::<V, P, 1>(0);
        }
        for block in 0..P {
            match V::LANES {
                8 => self.blocks::<V, 1, 2>(block),
                4 => self.blocks::<V, 1, 4>(block),
                _ => self.blocks::<V, 1, BLOCK>(block),
            }
        }
    }
}

impl<const R: usize, const P: usize> Tile<'_, R, P> {
    /// `B` blocks from `first` on, each in `N` registers.
    // The indices name registers, the same one in several arrays.
    #[allow(clippy::needless_range_loop)]
    #[inline(always)]
    fn blocks<V: Vector, const B: usize, const N: usize>(&mut self, first: usize) {
        let mut sums = [[[V::splat(0.0); N]; B]; R];
        let rows = self.rows.map(|row| &row[..self.right.len()]);
        for (k, right) in self.right.iter().enumerate() {
            let mut columns = [[V::splat(0.0); N]; B];
            for b in 0..B {
                for n in 0..N {
                    columns[b][n] = V::load(&right[first + b].0[n * V::LANES..]);
                }
            }
            for r in 0..R {
                let left = V::splat(rows[r][k]);
                for b in 0..B {
                    for n in 0..N {
                        sums[r][b][n] = left.mul_add(columns[b][n], sums[r][b][n]);
                    }
                }
            }
        }
        for r in 0..R {
            for b in 0..B {
                for n in 0..N {
                    let place = &mut self.sums[r][first + b].0[n * V::LANES..];
                    let sum = sums[r][b][n];
                    let sum = if self.fresh {
                        sum
                    } else {
                        V::load(place).add(sum)
                    };
                    sum.store(place);
                }
            }
        }
    }
}
