//! Products with few rows, as a network's small maps have them. The right matrix, a layer's weights, is
//! as large as ever and each of its values is used a few times only: bringing it in order would take
//! about as long. So the rows are brought in order instead, once, and the weights pass by as they lie;
//! what comes out is turned.
//!
//! The sums are those of `many`, value by value.

use std::cell::RefCell;
use std::ops::Range;

use super::matrix::Order;
use super::{Product, ROOM, Room, WIDTH};
use crate::pack::transpose;
use crate::product::multiply_rows;
use crate::shared::Shared;
use crate::simd::{BLOCK, Block, Simd, Vector, Work};
use crate::threads::Threads;

/// As many rows are few.
const ROWS: usize = 128;
/// Rows that are brought in order together.
const PANEL: usize = WIDTH * BLOCK;
/// Pieces of work for each thread.
const PIECES: usize = 4;

thread_local! {
    /// The rows in order; the thread that asked for the product lends them to all.
    static ROWS_IN_ORDER: RefCell<Vec<[Block; WIDTH]>> = const { RefCell::new(Vec::new()) };
}

/// Whether it is a product for [`run`].
pub(super) fn fits(job: &Product<'_>) -> bool {
    job.left.rows() <= ROWS && job.right.order() == Order::ColumnByColumn
}

pub(super) fn run(job: &Product<'_>, out: Shared<'_, f32>, simd: Simd, threads: Threads) {
    let depth = job.left.columns();
    let rows = job.left.rows().div_ceil(PANEL);
    ROWS_IN_ORDER.with_borrow_mut(|in_order| {
        if in_order.len() < rows * depth {
            in_order.resize(rows * depth, [Block::ZERO; WIDTH]);
        }
        let in_order = &mut in_order[..rows * depth];
        simd.run(BringRows { job, to: in_order });
        let in_order = &*in_order;
        let panels = job.panels();
        let piece = panels.div_ceil(threads.count() * PIECES).max(1);
        threads.for_each(panels.div_ceil(piece), |task| {
            let first = task * piece;
            ROOM.with_borrow_mut(|room| {
                simd.run(Part {
                    job,
                    panels: first..panels.min(first + piece),
                    rows: in_order,
                    room,
                    out,
                });
            });
        });
    });
}

struct BringRows<'a> {
    job: &'a Product<'a>,
    /// `[rows / 32, depth]`
    to: &'a mut [[Block; WIDTH]],
}

impl Work for BringRows<'_> {
    #[inline(always)]
    fn run<V: Vector>(self) {
        let left = self.job.left.transposed();
        let panels = self.to.chunks_exact_mut(left.rows().max(1));
        for (first, to) in (0..left.columns()).step_by(PANEL).zip(panels) {
            let blocks = [first, first + BLOCK]
                .map(|first| (first, left.columns().saturating_sub(first).min(BLOCK)));
            left.bring_columns::<V>(blocks, to);
        }
    }
}

/// Some panels of columns for all rows.
struct Part<'a> {
    job: &'a Product<'a>,
    panels: Range<usize>,
    /// See [`BringRows`].
    rows: &'a [[Block; WIDTH]],
    room: &'a mut Room,
    out: Shared<'a, f32>,
}

impl Work for Part<'_> {
    #[inline(always)]
    fn run<V: Vector>(self) {
        let (depth, count) = (self.job.left.columns(), self.job.left.rows());
        let weights = self.job.right.transposed();
        let room = &mut self.room.left;
        for panel in self.panels {
            let mut sums = [[[Block::ZERO; WIDTH]; PANEL]; ROWS / PANEL];
            for (place, (first, columns)) in self.job.blocks(panel).into_iter().enumerate() {
                if columns == 0 {
                    continue;
                }
                let (lines, stride) = weights.bring_rows::<V>(&(first..first + columns), room);
                let line = |r: usize| &lines[r * stride..][..depth];
                for (rows, sums) in self.rows.chunks_exact(depth.max(1)).zip(&mut sums) {
                    // [columns], rows side by side
                    let mut turned = [[Block::ZERO; WIDTH]; BLOCK];
                    multiply_rows::<V, WIDTH>(line, rows, &mut turned[..columns], true);
                    for (block, sums) in sums.chunks_exact_mut(BLOCK).enumerate() {
                        let lines = std::array::from_fn(|r| turned[r][block].0.as_slice());
                        let to = &mut sums.as_flattened_mut()[place..];
                        transpose::<V, f32>(lines, BLOCK, to, WIDTH);
                    }
                }
            }
            let sums = &mut sums.as_flattened_mut()[..count];
            self.job.finish::<V>(0, panel, sums, self.out);
        }
    }
}
