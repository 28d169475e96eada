//! The transforms of a panel of sixteen tiles, and of sixteen rows of weights.

use super::filter::Filter;
use super::grid::{Grid, copy_padded};
use super::{Around, Shape};
use crate::pack::transpose;
use crate::shared::Shared;
use crate::simd::{BLOCK, Block, Vector};
use crate::stored::Value;

/// The longest side of an output tile.
const SIDE: usize = 4;
/// Values of a row that a panel's tiles cover, and their right neighbours'.
const LINE: usize = SIDE * BLOCK + SIDE;

/// `B^T d B`: the tiles of one channel in one panel.
#[inline(always)]
pub(super) fn input<V: Vector, F: Filter<M, A>, const M: usize, const A: usize>(
    grid: Grid,
    panel: usize,
    channel: usize,
    pixels: &[f32],
    out: &mut [[Block; A]; A],
) {
    let Shape {
        in_channels, width, ..
    } = grid.shape;
    let height = grid.shape.input_height();
    let above = match grid.shape.around {
        Around::Zeros => 1,
        Around::Rows => 0,
    };
    let mut across = [[Block::ZERO; A]; A];
    let (mut own_copy, mut next_copy) = ([0.0; LINE], [0.0; LINE]);
    for (r, across) in across.iter_mut().enumerate() {
        // A tile has M + 2 columns: its own M, and the first two of its right neighbour's.
        let (mut own, mut next) = (own_copy.as_slice(), next_copy.as_slice());
        for run in grid.runs(panel) {
            let y = run.row * M + r;
            let row = if y < above || y - above >= height {
                &[]
            } else {
                let plane = run.image * in_channels + channel;
                &pixels[(plane * height + y - above) * width..][..width]
            };
            let from = run.column * M;
            if run.len < BLOCK {
                let part = run.lane * M..(run.lane + run.len) * M;
                copy_padded(row, from, &mut own_copy[part.clone()]);
                copy_padded(row, from + M, &mut next_copy[part]);
                (own, next) = (&own_copy, &next_copy);
            } else if from > 0 && from - 1 + M + BLOCK * M <= row.len() {
                (own, next) = (&row[from - 1..], &row[from - 1 + M..]);
            } else {
                copy_padded(row, from, &mut own_copy[..M + BLOCK * M]);
                (own, next) = (&own_copy, &own_copy[M..]);
            }
        }
        for lane in (0..BLOCK).step_by(V::LANES) {
            let (own, next) = (
                columns::<V, M>(&own[lane * M..]),
                columns::<V, M>(&next[lane * M..]),
            );
            let d = std::array::from_fn(|x| if x < M { own[x] } else { next[x - M] });
            for (x, value) in F::input(d).into_iter().enumerate() {
                value.store(&mut across[x].0[lane..]);
            }
        }
    }
    for x in 0..A {
        for lane in (0..BLOCK).step_by(V::LANES) {
            let d = std::array::from_fn(|r| V::load(&across[r][x].0[lane..]));
            for (r, value) in F::input(d).into_iter().enumerate() {
                value.store(&mut out[r][x].0[lane..]);
            }
        }
    }
}

/// `A^T m A` and the bias, written into the pictures. `sums[r][x]`: of this channel and panel.
#[inline(always)]
pub(super) fn output<V: Vector, F: Filter<M, A>, const M: usize, const A: usize>(
    grid: Grid,
    panel: usize,
    channel: usize,
    sums: [[&Block; A]; A],
    bias: f32,
    pixels: Shared<'_, f32>,
) {
    let Shape {
        out_channels,
        height,
        width,
        ..
    } = grid.shape;
    let mut lines = [[0.0; SIDE * BLOCK]; M];
    for lane in (0..BLOCK).step_by(V::LANES) {
        let mut across = [[V::splat(0.0); M]; A];
        for (across, sums) in across.iter_mut().zip(sums) {
            *across = F::output(sums.map(|block| V::load(&block.0[lane..])));
        }
        let mut y = [[V::splat(bias); M]; M];
        for x in 0..M {
            let column = F::output(across.map(|row| row[x]));
            for (r, value) in column.into_iter().enumerate() {
                y[r][x] = value.add(y[r][x]);
            }
        }
        for (line, y) in lines.iter_mut().zip(y) {
            store_columns::<V, M>(y, &mut line[lane * M..]);
        }
    }
    for run in grid.runs(panel) {
        let (top, left) = (run.row * M, run.column * M);
        let count = (run.len * M).min(width - left);
        for (r, line) in lines.iter().enumerate().take(height - top) {
            let y = (run.image * out_channels + channel) * height + top + r;
            // SAFETY: these pixels are this tile's and this channel's alone, and no two pieces of
            // work have the same panel and channel.
            let out = unsafe { pixels.part(y * width + left, count) };
            out.copy_from_slice(&line[run.lane * M..][..count]);
        }
    }
}

/// Every `M`th value of a line, from each of its first `M` on.
#[inline(always)]
fn columns<V: Vector, const M: usize>(line: &[f32]) -> [V; M] {
    let load = |i: usize| V::load(&line[i * V::LANES..]);
    let mut found = [V::splat(0.0); M];
    let (low_even, low_odd) = load(0).unzip(load(1));
    if M == 2 {
        (found[0], found[1]) = (low_even, low_odd);
    } else {
        let (high_even, high_odd) = load(2).unzip(load(3));
        (found[0], found[2]) = low_even.unzip(high_even);
        (found[1], found[3]) = low_odd.unzip(high_odd);
    }
    found
}

/// Undoes [`columns`].
#[inline(always)]
fn store_columns<V: Vector, const M: usize>(columns: [V; M], line: &mut [f32]) {
    let mut store = |i: usize, value: V| value.store(&mut line[i * V::LANES..]);
    if M == 2 {
        let (low, high) = columns[0].zip(columns[1]);
        store(0, low);
        store(1, high);
    } else {
        let (low_even, high_even) = columns[0].zip(columns[2]);
        let (low_odd, high_odd) = columns[1].zip(columns[3]);
        let (first, second) = low_even.zip(low_odd);
        let (third, fourth) = high_even.zip(high_odd);
        store(0, first);
        store(1, second);
        store(2, third);
        store(3, fourth);
    }
}

/// `U = G g G^T` of sixteen rows of weights (or the few that there are; zeros for the rest).
///
/// `weight`: the rows' `[in_channels, 3, 3]`, one after the other; `channels`: which of them.
/// `out[product * stride + channel - channels.start]`: sixteen rows.
#[inline(always)]
pub(super) fn kernel<V: Vector, T: Value, F: Filter<M, A>, const M: usize, const A: usize>(
    weight: &[T],
    in_channels: usize,
    channels: std::ops::Range<usize>,
    taps: &mut [Block],
    out: &mut [Block],
    stride: usize,
) {
    let count = channels.len();
    let taps = &mut taps[..count * 9];
    let mut rows = [[].as_slice(); BLOCK];
    for (row, weight) in rows.iter_mut().zip(weight.chunks_exact(in_channels * 9)) {
        *row = &weight[channels.start * 9..channels.end * 9];
    }
    transpose::<V, T>(rows, taps.len(), taps, 1);
    for (c, taps) in taps.chunks_exact(9).enumerate() {
        for lane in (0..BLOCK).step_by(V::LANES) {
            let mut down = [[V::splat(0.0); A]; 3];
            for (x, down) in down.iter_mut().enumerate() {
                *down = F::kernel(std::array::from_fn(|r| V::load(&taps[r * 3 + x].0[lane..])));
            }
            for r in 0..A {
                let across = F::kernel(down.map(|column| column[r]));
                for (x, value) in across.into_iter().enumerate() {
                    value.store(&mut out[(r * A + x) * stride + c].0[lane..]);
                }
            }
        }
    }
}
