//! Products of matrices, with what follows them in a network done on the way out: linear layers, and
//! convolutions with a kernel of one.
//!
//! Panels of 32 columns of the right matrix are brought into the order in which they are multiplied
//! (`many`), or, where the left one has few rows, those (`few`). libtorch's product (MKL's) brings
//! everything into its own order, and its vectors are narrower on processors that are not Intel's.
//!
//! A sum is taken in the order of `k`, 512 of them at a time: the same on every processor,
//! whatever the threads.

mod few;
mod finish;
mod many;
mod matrix;

use std::cell::RefCell;

pub use matrix::Matrix;

use crate::shared::Shared;
use crate::simd::{BLOCK, Block, Simd};
use crate::threads::Threads;

/// Blocks of columns that are multiplied at once.
const WIDTH: usize = 2;

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
            Finish::Gate => self.right.columns() / 2,
            Finish::Nothing | Finish::Add(_) => self.right.columns(),
        }
    }

    /// `out`: `[m, n]`, or `[m, n / 2]` where it is gated; all of it is written, row by row.
    ///
    /// Panics where sizes do not fit each other.
    pub fn run(&self, out: &mut [f32], simd: Simd, threads: Threads) {
        self.check(out.len());
        if out.is_empty() {
            return;
        }
        let out = Shared::new(out);
        match few::fits(self) {
            true => few::run(self, out, simd, threads),
            false => many::run(self, out, simd, threads),
        }
    }

    fn panels(&self) -> usize {
        self.columns().div_ceil(self.panel_columns())
    }

    /// Columns of the output that come out of one panel.
    fn panel_columns(&self) -> usize {
        match self.finish {
            Finish::Gate => BLOCK,
            Finish::Nothing | Finish::Add(_) => WIDTH * BLOCK,
        }
    }

    fn check(&self, out: usize) {
        let (rows, columns) = (self.left.rows(), self.right.columns());
        assert_eq!(
            self.left.columns(),
            self.right.rows(),
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
}
