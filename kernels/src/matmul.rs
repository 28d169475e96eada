//! Products of matrices, with what follows them in a network done on the way out: linear layers, and
//! convolutions with a kernel of one.
//!
//! Panels of 32 columns of the right matrix are brought into the order in which they are multiplied, a
//! few at a time so that they stay in the cache, and all rows of the left one pass by them. libtorch's
//! product (MKL's) brings everything into its own order, and its vectors are narrower on processors
//! that are not Intel's.
//!
//! A sum is taken in the order of `k`, 512 of them at a time: the same on every processor,
//! whatever the threads.

use std::cell::RefCell;
use std::ops::Range;

use crate::functions::gelu;
use crate::pack::{fill, flat, transpose};
use crate::product::tile;
use crate::shared::Shared;
use crate::simd::{BLOCK, Block, Simd, Vector, Work};
use crate::threads::Threads;

/// Blocks of columns that are multiplied at once.
const WIDTH: usize = 2;
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
/// Rows that are brought in order at once where the left matrix lies column by column.
const LEFT_ROWS: usize = 48;

/// A matrix of `rows` and `columns`, in one order or the other.
#[derive(Clone, Copy, Debug)]
pub struct Matrix<'a> {
    values: &'a [f32],
    rows: usize,
    columns: usize,
    order: Order,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    RowByRow,
    ColumnByColumn,
}

impl<'a> Matrix<'a> {
    /// One row after the other. Panics where the values are not `rows * columns`.
    pub fn row_by_row(values: &'a [f32], rows: usize, columns: usize) -> Self {
        Self::new(values, rows, columns, Order::RowByRow)
    }

    /// One column after the other. Panics where the values are not `rows * columns`.
    pub fn column_by_column(values: &'a [f32], rows: usize, columns: usize) -> Self {
        Self::new(values, rows, columns, Order::ColumnByColumn)
    }

    pub fn rows(&self) -> usize {
        self.rows
    }

    pub fn columns(&self) -> usize {
        self.columns
    }

    fn new(values: &'a [f32], rows: usize, columns: usize, order: Order) -> Self {
        assert_eq!(values.len(), rows * columns, "a matrix of another size");
        Self {
            values,
            rows,
            columns,
            order,
        }
    }
}

/// What is added to the product.
#[derive(Clone, Copy, Debug)]
pub enum Bias<'a> {
    Nothing,
    /// A value for each row.
    Rows(&'a [f32]),
    /// A value for each column.
    Columns(&'a [f32]),
}

/// What is done with the product and its bias.
#[derive(Clone, Copy, Debug)]
pub enum Finish<'a> {
    Nothing,
    /// This is added, of the output's size.
    Add(&'a [f32]),
    /// The first half of the columns, each times the GELU of its fellow in the second half (GEGLU, Shazeer
    /// 2020): half as many come out.
    Gate,
}

/// `left * right`, then the bias, then the rest.
#[derive(Clone, Copy, Debug)]
pub struct Product<'a> {
    /// `[m, k]`
    pub left: Matrix<'a>,
    /// `[k, n]`
    pub right: Matrix<'a>,
    pub bias: Bias<'a>,
    pub finish: Finish<'a>,
}

thread_local! {
    /// What a thread works in.
    static ROOM: RefCell<Room> = const {
        RefCell::new(Room {
            left: Vec::new(),
            right: Vec::new(),
        })
    };
}

/// Memory that a thread uses again and again.
struct Room {
    left: Vec<Block>,
    right: Vec<[Block; WIDTH]>,
}

impl Product<'_> {
    /// Columns of the output.
    pub fn columns(&self) -> usize {
        match self.finish {
            Finish::Gate => self.right.columns / 2,
            Finish::Nothing | Finish::Add(_) => self.right.columns,
        }
    }

    /// `out`: `[m, n]`, or `[m, n / 2]` where it is gated; all of it is written, row by row.
    ///
    /// Panics where sizes do not fit each other.
    pub fn run(&self, out: &mut [f32], simd: Simd, threads: Threads) {
        let (rows, columns) = (self.left.rows, self.columns());
        self.check(out.len());
        if out.is_empty() {
            return;
        }
        let panels = columns.div_ceil(self.panel_columns());
        let group = (GROUP_BYTES / (self.left.columns * size_of::<[Block; WIDTH]>()).max(1))
            .clamp(1, GROUP_PANELS)
            .min(panels);
        let groups = panels.div_ceil(group);
        let most = rows.div_ceil(PIECE_ROWS);
        let pieces = match threads.count() {
            1 => 1,
            count => (count * PIECES).div_ceil(groups).clamp(1, most),
        };
        let piece = rows.div_ceil(pieces).next_multiple_of(PIECE_STEP);
        let out = Shared::new(out);
        threads.for_each(groups * pieces, |task| {
            let (first, from) = (task / pieces * group, task % pieces * piece);
            ROOM.with_borrow_mut(|room| {
                simd.run(Part {
                    job: self,
                    panels: first..panels.min(first + group),
                    rows: from.min(rows)..rows.min(from + piece),
                    room,
                    out,
                });
            });
        });
    }

    /// Columns of the output that come out of one panel.
    fn panel_columns(&self) -> usize {
        match self.finish {
            Finish::Gate => BLOCK,
            Finish::Nothing | Finish::Add(_) => WIDTH * BLOCK,
        }
    }

    fn check(&self, out: usize) {
        let (rows, columns) = (self.left.rows, self.right.columns);
        assert_eq!(
            self.left.columns, self.right.rows,
            "matrices that do not fit"
        );
        assert_eq!(out, rows * self.columns(), "an output of another size");
        match self.bias {
            Bias::Nothing => {}
            Bias::Rows(bias) => assert_eq!(bias.len(), rows, "a bias of another size"),
            Bias::Columns(bias) => assert_eq!(bias.len(), columns, "a bias of another size"),
        }
        match self.finish {
            Finish::Nothing => {}
            Finish::Add(other) => assert_eq!(other.len(), out, "an addend of another size"),
            Finish::Gate => assert_eq!(columns % 2, 0, "no two halves"),
        }
    }
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
        let depth = self.job.left.columns;
        let count = self.panels.len() * depth;
        if right.len() < count {
            right.resize(count, [Block::ZERO; WIDTH]);
        }
        for (panel, to) in self
            .panels
            .clone()
            .zip(right.chunks_exact_mut(depth.max(1)))
        {
            self.job.bring_panel::<V>(panel, to);
        }
        let stripe = match self.job.left.order {
            Order::RowByRow => self.rows.len(),
            Order::ColumnByColumn => LEFT_ROWS,
        };
        let mut first = self.rows.start;
        while first < self.rows.end {
            let rows = first..self.rows.end.min(first + stripe);
            let (values, stride) = self.job.bring_left::<V>(&rows, left);
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

impl Product<'_> {
    /// Where the columns of this panel's blocks begin, and how many there are of each.
    fn blocks(&self, panel: usize) -> [(usize, usize); WIDTH] {
        let columns = self.columns();
        let (starts, end) = match self.finish {
            Finish::Gate => {
                let first = panel * BLOCK;
                ([first, columns + first], [columns, 2 * columns])
            }
            Finish::Nothing | Finish::Add(_) => {
                let first = panel * WIDTH * BLOCK;
                ([first, first + BLOCK], [columns, columns])
            }
        };
        std::array::from_fn(|i| (starts[i], end[i].saturating_sub(starts[i]).min(BLOCK)))
    }

    /// `to`: `[k]`
    #[inline(always)]
    fn bring_panel<V: Vector>(&self, panel: usize, to: &mut [[Block; WIDTH]]) {
        let Matrix {
            values,
            rows,
            columns,
            order,
        } = self.right;
        for (place, (first, count)) in self.blocks(panel).into_iter().enumerate() {
            match order {
                Order::RowByRow => {
                    for (k, to) in to.iter_mut().enumerate() {
                        let row = &values[k * columns..][..columns];
                        let from = row.get(first..first + count).unwrap_or_default();
                        fill(from, &mut to[place]);
                    }
                }
                Order::ColumnByColumn => {
                    let mut lines = [[].as_slice(); BLOCK];
                    for (i, line) in lines.iter_mut().enumerate().take(count) {
                        *line = &values[(first + i) * rows..][..rows];
                    }
                    let to = &mut to.as_flattened_mut()[place..];
                    transpose::<V>(lines, rows, to, WIDTH);
                }
            }
        }
    }

    /// The left matrix' rows, one after the other, and the distance between two.
    #[inline(always)]
    fn bring_left<'r, V: Vector>(
        &'r self,
        rows: &Range<usize>,
        room: &'r mut Vec<Block>,
    ) -> (&'r [f32], usize) {
        let Matrix {
            values,
            rows: height,
            columns: depth,
            order,
        } = self.left;
        if order == Order::RowByRow {
            return (&values[rows.start * depth..], depth);
        }
        let stride = depth.div_ceil(BLOCK);
        let count = rows.len() * stride;
        if room.len() < count {
            room.resize(count, Block::ZERO);
        }
        for block in 0..stride {
            let mut lines = [[].as_slice(); BLOCK];
            for (i, line) in lines.iter_mut().enumerate() {
                let k = block * BLOCK + i;
                if k < depth {
                    *line = &values[k * height..][rows.clone()];
                }
            }
            transpose::<V>(lines, rows.len(), &mut room[block..], stride);
        }
        (flat(&room[..count]), stride * BLOCK)
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
        let depth = self.job.left.columns;
        let rows = std::array::from_fn(|r| &self.left[(first + r) * self.stride..][..depth]);
        let right = self.right.chunks_exact(depth.max(1));
        let mut sums = [[Block::ZERO; WIDTH]; R];
        for (panel, right) in self.panels.clone().zip(right) {
            tile::<V, R, WIDTH>(rows, right, &mut sums, true);
            self.finish::<V, R>(self.rows.start + first, panel, &mut sums);
        }
        R
    }

    #[inline(always)]
    fn finish<V: Vector, const R: usize>(
        &self,
        row: usize,
        panel: usize,
        sums: &mut [[Block; WIDTH]; R],
    ) {
        let blocks = self.job.blocks(panel);
        match self.job.bias {
            Bias::Nothing => {}
            Bias::Rows(bias) => {
                for (sums, bias) in sums.iter_mut().zip(&bias[row..row + R]) {
                    let bias = Block([*bias; BLOCK]);
                    sums.iter_mut().for_each(|sum| add::<V>(sum, &bias));
                }
            }
            Bias::Columns(bias) => {
                let mut padded = [Block::ZERO; WIDTH];
                for (padded, (first, count)) in padded.iter_mut().zip(blocks) {
                    fill(bias.get(first..first + count).unwrap_or_default(), padded);
                }
                for sums in sums.iter_mut() {
                    for (sum, bias) in sums.iter_mut().zip(&padded) {
                        add::<V>(sum, bias);
                    }
                }
            }
        }
        if let Finish::Gate = self.job.finish {
            for [value, gate] in sums.iter_mut() {
                for lane in (0..BLOCK).step_by(V::LANES) {
                    let gated = V::load(&value.0[lane..]).mul(gelu(V::load(&gate.0[lane..])));
                    gated.store(&mut value.0[lane..]);
                }
            }
        }
        let outputs = self.job.panel_columns() / BLOCK;
        for (place, (first, count)) in blocks.into_iter().enumerate().take(outputs) {
            if count > 0 {
                for (r, sums) in sums.iter_mut().enumerate() {
                    self.store::<V>(row + r, first, count, &mut sums[place]);
                }
            }
        }
    }

    /// The first `count` values to this row, from this column on.
    #[inline(always)]
    fn store<V: Vector>(&self, row: usize, column: usize, count: usize, sums: &mut Block) {
        let place = row * self.job.columns() + column;
        // SAFETY: no other piece of work has this row and this column's panel.
        let out = unsafe { self.out.part(place, count) };
        if let Finish::Add(other) = self.job.finish {
            let mut addend = Block::ZERO;
            fill(&other[place..place + count], &mut addend);
            add::<V>(sums, &addend);
        }
        match out.first_chunk_mut::<BLOCK>() {
            Some(all) => *all = sums.0,
            None => out.copy_from_slice(&sums.0[..count]),
        }
    }
}

#[inline(always)]
fn add<V: Vector>(sums: &mut Block, other: &Block) {
    for lane in (0..BLOCK).step_by(V::LANES) {
        let sum = V::load(&sums.0[lane..]).add(V::load(&other.0[lane..]));
        sum.store(&mut sums.0[lane..]);
    }
}
