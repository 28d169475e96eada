//! Where the tiles of a convolution lie, sixteen to a panel, and how their rows of pixels come in and
//! go out.

use super::Shape;
use crate::simd::BLOCK;

/// The tiles of all pictures of a batch, in reading order.
#[derive(Clone, Copy, Debug)]
pub(super) struct Grid {
    pub shape: Shape,
    /// Tiles in a column and in a row of one picture.
    pub rows: usize,
    pub columns: usize,
}

/// Tiles of a panel that are neighbours in one row of one picture.
#[derive(Clone, Copy, Debug)]
pub(super) struct Run {
    pub image: usize,
    /// In tiles.
    pub row: usize,
    pub column: usize,
    /// Its first tile's place in the panel.
    pub lane: usize,
    pub len: usize,
}

impl Grid {
    /// `side`: rows and columns of pixels that a tile makes.
    pub fn new(shape: Shape, side: usize) -> Self {
        Self {
            shape,
            rows: shape.height.div_ceil(side),
            columns: shape.width.div_ceil(side),
        }
    }

    pub fn tiles(self) -> usize {
        self.shape.batch * self.rows * self.columns
    }

    pub fn panels(self) -> usize {
        self.tiles().div_ceil(BLOCK)
    }

    /// The tiles of a panel; the last panel may have fewer than sixteen.
    #[inline(always)]
    pub fn runs(self, panel: usize) -> Runs {
        let first = panel * BLOCK;
        Runs {
            grid: self,
            first,
            tile: first,
            end: self.tiles().min(first + BLOCK),
        }
    }
}

/// See [`Grid::runs`].
#[derive(Clone, Copy, Debug)]
pub(super) struct Runs {
    grid: Grid,
    first: usize,
    tile: usize,
    end: usize,
}

impl Iterator for Runs {
    type Item = Run;

    #[inline(always)]
    fn next(&mut self) -> Option<Run> {
        if self.tile >= self.end {
            return None;
        }
        let (row, column) = (self.tile / self.grid.columns, self.tile % self.grid.columns);
        let run = Run {
            image: row / self.grid.rows,
            row: row % self.grid.rows,
            column,
            lane: self.tile - self.first,
            len: (self.grid.columns - column).min(self.end - self.tile),
        };
        self.tile += run.len;
        Some(run)
    }
}

/// Copies a row's values from the place `from - 1` on; zeros stand before its first and after its last.
#[inline(always)]
pub(super) fn copy_padded(row: &[f32], from: usize, to: &mut [f32]) {
    let before = usize::from(from == 0).min(to.len());
    let (zeros, to) = to.split_at_mut(before);
    zeros.fill(0.0);
    let there = row.get(from.saturating_sub(1)..).unwrap_or_default();
    let count = there.len().min(to.len());
    let (inside, after) = to.split_at_mut(count);
    inside.copy_from_slice(&there[..count]);
    after.fill(0.0);
}
