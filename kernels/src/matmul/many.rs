//! Products with many rows: panels of the right matrix are brought in order, a few at a time so that
//! they stay in the cache, and all rows of the left one pass by them.

use std::ops::Range;

use super::{Product, ROOM, Room, WIDTH};
use crate::product::tile;
use crate::shared::Shared;
use crate::simd::{BLOCK, Block, Simd, Vector, Work};
use crate::threads::Threads;

/// Bytes of a panel's columns that a thread works with at once.
const GROUP_BYTES: usize = 512 << 10;
/// Panels that a thread works with at once.
const GROUP_PANELS: usize = 8;
/// Pieces of work for each thread, so that all end at about the same time.
const PIECES: usize = 4;
/// Rows that a piece of work has at least: as many use a panel that was brought in order.
const PIECE_ROWS: usize = 64;
/// A multiple of the rows that are multiplied at once.
const PIECE_STEP: usize = 24;
/// Rows of the left matrix that are brought in order at once where they are not yet.
const LEFT_ROWS: usize = 48;

pub(super) fn run(job: &Product<'_>, out: Shared<'_, f32>, simd: Simd, threads: Threads) {
    let rows = job.left.rows();
    let panels = job.panels();
    let group = (GROUP_BYTES / (job.left.columns() * size_of::<[Block; WIDTH]>()).max(1))
        .clamp(1, GROUP_PANELS)
        .min(panels);
    let groups = panels.div_ceil(group);
    let most = rows.div_ceil(PIECE_ROWS);
    let pieces = match threads.count() {
        1 => 1,
        count => (count * PIECES).div_ceil(groups).clamp(1, most),
    };
    let piece = rows.div_ceil(pieces).next_multiple_of(PIECE_STEP);
    threads.for_each(groups * pieces, |task| {
        let (first, from) = (task / pieces * group, task % pieces * piece);
        ROOM.with_borrow_mut(|room| {
            simd.run(Part {
                job,
                panels: first..panels.min(first + group),
                rows: from.min(rows)..rows.min(from + piece),
                room,
                out,
            });
        });
    });
}

/// Some panels of columns for some rows.
struct Part<'a> {
    job: &'a Product<'a>,
    panels: Range<usize>,
    rows: Range<usize>,
    room: &'a mut Room,
    out: Shared<'a, f32>,
}

impl Work for Part<'_> {
    #[inline(always)]
    fn run<V: Vector>(self) {
        let Room { left, right } = self.room;
        let depth = self.job.left.columns();
        let count = self.panels.len() * depth;
        if right.len() < count {
            right.resize(count, [Block::ZERO; WIDTH]);
        }
        for (panel, to) in self
            .panels
            .clone()
            .zip(right.chunks_exact_mut(depth.max(1)))
        {
            let blocks = self.job.blocks(panel);
            self.job.right.bring_columns::<V>(blocks, to);
        }
        let stripe = match self.job.left.lies_in_rows() {
            true => self.rows.len(),
            false => LEFT_ROWS,
        };
        let mut first = self.rows.start;
        while first < self.rows.end {
            let rows = first..self.rows.end.min(first + stripe);
            let (values, stride) = self.job.left.bring_rows::<V>(&rows, left);
            let work = Stripe {
                job: self.job,
                left: values,
                stride,
                right,
                panels: &self.panels,
                rows: &rows,
                out: self.out,
            };
            work.multiply::<V>();
            first = rows.end;
        }
    }
}

/// Rows of the left matrix and panels of the right one, both in order.
struct Stripe<'a> {
    job: &'a Product<'a>,
    left: &'a [f32],
    stride: usize,
    right: &'a [[Block; WIDTH]],
    panels: &'a Range<usize>,
    rows: &'a Range<usize>,
    out: Shared<'a, f32>,
}

impl Stripe<'_> {
    #[inline(always)]
    fn multiply<V: Vector>(&self) {
        let count = self.rows.len();
        let mut first = 0;
        while first < count {
            let left = count - first;
            first += match V::LANES {
                BLOCK if left >= 8 => self.tiles::<V, 8>(first),
                BLOCK if left >= 4 => self.tiles::<V, 4>(first),
                lanes if lanes < BLOCK && left >= 6 => self.tiles::<V, 6>(first),
                _ => self.tiles::<V, 1>(first),
            };
        }
    }

    /// `R` rows from `first` on; returns `R`.
    #[inline(always)]
    fn tiles<V: Vector, const R: usize>(&self, first: usize) -> usize {
        let depth = self.job.left.columns();
        let rows = std::array::from_fn(|r| &self.left[(first + r) * self.stride..][..depth]);
        let right = self.right.chunks_exact(depth.max(1));
        let mut sums = [[Block::ZERO; WIDTH]; R];
        for (panel, right) in self.panels.clone().zip(right) {
            tile::<V, R, WIDTH>(rows, right, &mut sums, true);
            let row = self.rows.start + first;
            self.job.finish::<V>(row, panel, &mut sums, self.out);
        }
        R
    }
}
