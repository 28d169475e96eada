//! Matrices as they lie in memory, and parts of them brought into the order in which they are
//! multiplied.

use std::ops::Range;

use super::WIDTH;
use crate::pack::{fill, flat, transpose, widen};
use crate::simd::{BLOCK, Block, Vector};
use crate::stored::{Stored, with_values};

/// A matrix of `rows` and `columns`, in one order or the other.
#[derive(Clone, Copy, Debug)]
pub struct Matrix<'a> {
    values: Stored<'a>,
    rows: usize,
    columns: usize,
    order: Order,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    RowByRow,
    ColumnByColumn,
}

impl<'a> Matrix<'a> {
    /// One row after the other. Panics where the values are not `rows * columns`.
    pub fn row_by_row(values: impl Into<Stored<'a>>, rows: usize, columns: usize) -> Self {
        Self::new(values.into(), rows, columns, Order::RowByRow)
    }

    /// One column after the other. Panics where the values are not `rows * columns`.
    pub fn column_by_column(values: impl Into<Stored<'a>>, rows: usize, columns: usize) -> Self {
        Self::new(values.into(), rows, columns, Order::ColumnByColumn)
    }

    pub fn rows(&self) -> usize {
        self.rows
    }

    pub fn columns(&self) -> usize {
        self.columns
    }

    pub(super) fn order(&self) -> Order {
        self.order
    }

    fn new(values: Stored<'a>, rows: usize, columns: usize, order: Order) -> Self {
        assert_eq!(values.len(), rows * columns, "a matrix of another size");
        Self {
            values,
            rows,
            columns,
            order,
        }
    }

    /// Rows for columns: the same values.
    pub(super) fn transposed(self) -> Self {
        Self {
            rows: self.columns,
            columns: self.rows,
            order: match self.order {
                Order::RowByRow => Order::ColumnByColumn,
                Order::ColumnByColumn => Order::RowByRow,
            },
            ..self
        }
    }

    /// Some columns side by side: `to[k]` gets the `k`th value of each. `blocks`: the first column of
    /// each block, and how many there are of it; zeros after them.
    #[inline(always)]
    pub(super) fn bring_columns<V: Vector>(
        &self,
        blocks: [(usize, usize); WIDTH],
        to: &mut [[Block; WIDTH]],
    ) {
        with_values!(self.values, values => {
            for (place, (first, count)) in blocks.into_iter().enumerate() {
                match self.order {
                    Order::RowByRow => {
                        for (k, to) in to.iter_mut().enumerate() {
                            let row = &values[k * self.columns..][..self.columns];
                            let from = row.get(first..first + count).unwrap_or_default();
                            fill::<V, _>(from, &mut to[place]);
                        }
                    }
                    Order::ColumnByColumn => {
                        let mut lines = [[].as_slice(); BLOCK];
                        for (i, line) in lines.iter_mut().enumerate().take(count) {
                            *line = &values[(first + i) * self.rows..][..self.rows];
                        }
                        let to = &mut to.as_flattened_mut()[place..];
                        transpose::<V, _>(lines, self.rows, to, WIDTH);
                    }
                }
            }
        });
    }

    /// Some rows, one after the other, and the distance between two.
    #[inline(always)]
    pub(super) fn bring_rows<'r, V: Vector>(
        &'r self,
        rows: &Range<usize>,
        room: &'r mut Vec<Block>,
    ) -> (&'r [f32], usize) {
        if let (Stored::F32(values), Order::RowByRow) = (self.values, self.order) {
            return (&values[rows.start * self.columns..], self.columns);
        }
        let stride = self.columns.div_ceil(BLOCK);
        let count = rows.len() * stride;
        if room.len() < count {
            room.resize(count, Block::ZERO);
        }
        let room = &mut room[..count];
        with_values!(self.values, values => match self.order {
            Order::RowByRow => {
                let lines = values[rows.start * self.columns..].chunks(self.columns.max(1));
                for (line, to) in lines.zip(room.chunks_mut(stride.max(1))) {
                    widen::<V, _>(line, to);
                }
            }
            Order::ColumnByColumn => {
                for block in 0..stride {
                    let mut lines = [[].as_slice(); BLOCK];
                    for (i, line) in lines.iter_mut().enumerate() {
                        let k = block * BLOCK + i;
                        if k < self.columns {
                            *line = &values[k * self.rows..][rows.clone()];
                        }
                    }
                    transpose::<V, _>(lines, rows.len(), &mut room[block..], stride);
                }
            }
        });
        (flat(room), stride * BLOCK)
    }

    /// Whether [`Self::bring_rows`] copies nothing.
    pub(super) fn lies_in_rows(&self) -> bool {
        matches!(self.values, Stored::F32(_)) && self.order == Order::RowByRow
    }
}
