//! What follows a product in a network, done on the way out.

use super::{Bias, Finish, Product, WIDTH};
use crate::functions::gelu;
use crate::pack::fill;
use crate::shared::Shared;
use crate::simd::{BLOCK, Block, Vector};

impl Product<'_> {
    /// Bias and the rest, for the sums of consecutive rows and a panel, which are written.
    #[inline(always)]
    pub(super) fn finish<V: Vector>(
        &self,
        row: usize,
        panel: usize,
        sums: &mut [[Block; WIDTH]],
        out: Shared<'_, f32>,
    ) {
        let blocks = self.blocks(panel);
        match self.bias {
            Bias::Nothing => {}
            Bias::Rows(bias) => {
                for (sums, bias) in sums.iter_mut().zip(&bias[row..]) {
                    let bias = Block([*bias; BLOCK]);
                    sums.iter_mut().for_each(|sum| add::<V>(sum, &bias));
                }
            }
            Bias::Columns(bias) => {
                let mut padded = [Block::ZERO; WIDTH];
                for (padded, (first, count)) in padded.iter_mut().zip(blocks) {
                    let bias = bias.get(first..first + count).unwrap_or_default();
                    fill::<V, f32>(bias, padded);
                }
                for sums in sums.iter_mut() {
                    for (sum, bias) in sums.iter_mut().zip(&padded) {
                        add::<V>(sum, bias);
                    }
                }
            }
        }
        if let Finish::Gate = self.finish {
            for [value, gate] in sums.iter_mut() {
                for lane in (0..BLOCK).step_by(V::LANES) {
                    let gated = V::load(&value.0[lane..]).mul(gelu(V::load(&gate.0[lane..])));
                    gated.store(&mut value.0[lane..]);
                }
            }
        }
        let outputs = self.panel_columns() / BLOCK;
        for (place, (first, count)) in blocks.into_iter().enumerate().take(outputs) {
            if count > 0 {
                for (r, sums) in sums.iter_mut().enumerate() {
                    self.store::<V>(row + r, first, count, &mut sums[place], out);
                }
            }
        }
    }

    /// The first `count` values to this row, from this column on.
    #[inline(always)]
    fn store<V: Vector>(
        &self,
        row: usize,
        column: usize,
        count: usize,
        sums: &mut Block,
        out: Shared<'_, f32>,
    ) {
        let place = row * self.columns() + column;
        // SAFETY: no other piece of work has this row and this column's panel.
        let out = unsafe { out.part(place, count) };
        if let Finish::Add(other) = self.finish {
            let mut addend = Block::ZERO;
            fill::<V, f32>(&other[place..place + count], &mut addend);
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
