//! Matrices brought into the order in which they are multiplied.

use crate::simd::{BLOCK, Block, Vector};
use crate::stored::Value;

/// `to[column * step].0[row] = from[row][column]` for `columns` columns; rows that are empty are zeros.
#[inline(always)]
pub(crate) fn transpose<V: Vector, T: Value>(
    from: [&[T]; BLOCK],
    columns: usize,
    to: &mut [Block],
    step: usize,
) {
    let whole = columns - columns % V::LANES;
    for first_row in (0..BLOCK).step_by(V::LANES) {
        for first in (0..whole).step_by(V::LANES) {
            let mut square = [V::splat(0.0); BLOCK];
            for (i, vector) in square.iter_mut().enumerate().take(V::LANES) {
                let row = from[first_row + i];
                if !row.is_empty() {
                    *vector = T::load(&row[first..]);
                }
            }
            // After as many turns of zipping the first half with the second as the side has factors
            // of two, rows are columns.
            let mut side = 1;
            while side < V::LANES {
                let before = square;
                for i in 0..V::LANES / 2 {
                    (square[2 * i], square[2 * i + 1]) = before[i].zip(before[i + V::LANES / 2]);
                }
                side *= 2;
            }
            for (i, vector) in square.into_iter().enumerate().take(V::LANES) {
                vector.store(&mut to[(first + i) * step].0[first_row..]);
            }
        }
    }
    for column in whole..columns {
        for (to, row) in to[column * step].0.iter_mut().zip(from) {
            *to = row.get(column).map_or(0.0, |value| value.widen());
        }
    }
}

/// Values into consecutive lanes of a block; zeros after them.
#[inline(always)]
pub(crate) fn fill<V: Vector, T: Value>(from: &[T], to: &mut Block) {
    if from.len() >= BLOCK {
        for lane in (0..BLOCK).step_by(V::LANES) {
            T::load::<V>(&from[lane..]).store(&mut to.0[lane..]);
        }
        return;
    }
    to.0 = [0.0; BLOCK];
    for (to, from) in to.0.iter_mut().zip(from) {
        *to = from.widen();
    }
}

/// A row of values into as many blocks as it takes.
#[inline(always)]
pub(crate) fn widen<V: Vector, T: Value>(from: &[T], to: &mut [Block]) {
    for (from, to) in from.chunks(BLOCK).zip(to) {
        fill::<V, T>(from, to);
    }
}

/// The values of blocks, one after the other.
#[inline(always)]
pub(crate) fn flat(blocks: &[Block]) -> &[f32] {
    // SAFETY: a block is sixteen f32 and nothing else: its alignment is its size.
    unsafe { std::slice::from_raw_parts(blocks.as_ptr().cast(), blocks.len() * BLOCK) }
}
