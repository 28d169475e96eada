//! Normalisation of groups of channels, with the activation that follows it done on the way.
//!
//! Means and variances of parts that stay in the nearest cache are put together in f64 as by Chan, Golub
//! and LeVeque, 1979. Source: Wu and He, "Group Normalization", arXiv 1803.08494.

use crate::functions::silu;
use crate::shared::Shared;
use crate::simd::{BLOCK, Simd, Vector, Work};
use crate::threads::Threads;

/// Values whose mean and variance are taken at once, a multiple of a block.
const PART: usize = 2048;

/// `[batch, channels, pixels]`, each group of channels to mean 0 and variance 1, then each channel times
/// its weight plus its bias.
#[derive(Clone, Copy, Debug)]
pub struct GroupNorm<'a> {
    pub groups: usize,
    pub eps: f64,
    /// `[channels]`
    pub weight: &'a [f32],
    /// `[channels]`
    pub bias: &'a [f32],
    /// Whether `x / (1 + e^-x)` follows.
    pub silu: bool,
}

impl GroupNorm<'_> {
    /// `x`, `out`: `[batch, channels, pixels]`.
    ///
    /// Panics where sizes do not fit each other.
    pub fn run(&self, batch: usize, x: &[f32], out: &mut [f32], simd: Simd, threads: Threads) {
        let channels = self.weight.len();
        assert_eq!(x.len(), out.len(), "an output of another size");
        assert_eq!(self.bias.len(), channels, "a bias of another size");
        let sets = batch * self.groups;
        if x.is_empty() {
            return;
        }
        let fits = channels.is_multiple_of(self.groups) && x.len().is_multiple_of(batch * channels);
        assert!(fits, "groups that do not fit");
        let length = x.len() / sets;
        let out = Shared::new(out);
        threads.for_each(sets, |set| {
            let from = set * length;
            // SAFETY: no other piece of work has this picture and group.
            let out = unsafe { out.part(from, length) };
            simd.run(Group {
                norm: self,
                first: set % self.groups * (channels / self.groups),
                x: &x[from..from + length],
                out,
            });
        });
    }
}

/// One group of one picture.
struct Group<'a> {
    norm: &'a GroupNorm<'a>,
    /// Its first channel.
    first: usize,
    x: &'a [f32],
    out: &'a mut [f32],
}

impl Work for Group<'_> {
    #[inline(always)]
    fn run<V: Vector>(self) {
        let (mean, variance) = moments::<V>(self.x);
        let deviation = (variance + self.norm.eps).sqrt();
        let channels = self.norm.weight.len() / self.norm.groups;
        let pixels = self.x.len() / channels;
        let parts = self
            .x
            .chunks_exact(pixels)
            .zip(self.out.chunks_exact_mut(pixels));
        for (channel, (x, out)) in (self.first..).zip(parts) {
            let scale = f64::from(self.norm.weight[channel]) / deviation;
            let shift = f64::from(self.norm.bias[channel]) - mean * scale;
            let (scale, shift) = (V::splat(scale as f32), V::splat(shift as f32));
            let done = |x: V| {
                let y = x.mul_add(scale, shift);
                if self.norm.silu { silu(y) } else { y }
            };
            let whole = pixels - pixels % V::LANES;
            for at in (0..whole).step_by(V::LANES) {
                done(V::load(&x[at..])).store(&mut out[at..]);
            }
            let mut rest = [0.0; BLOCK];
            rest[..pixels - whole].copy_from_slice(&x[whole..]);
            let y = done(V::load(&rest));
            y.store(&mut rest);
            out[whole..].copy_from_slice(&rest[..pixels - whole]);
        }
    }
}

/// Mean and variance.
#[inline(always)]
fn moments<V: Vector>(x: &[f32]) -> (f64, f64) {
    let (mut count, mut mean, mut squares) = (0.0, 0.0, 0.0);
    for part in x.chunks(PART) {
        let size = part.len() as f64;
        let part_mean = sum::<V>(part, |x| x) / size;
        let middle = V::splat(part_mean as f32);
        let away = |x: V| x.sub(middle);
        // What the rounded middle is off by is put right by the sum of what is left.
        let left = sum::<V>(part, away) / size;
        let part_squares = sum::<V>(part, |x| away(x).mul(away(x))) - left * left * size;
        let part_mean = f64::from(part_mean as f32) + left;
        let (total, off) = (count + size, part_mean - mean);
        squares += part_squares + off * off * count * size / total;
        mean += off * size / total;
        count = total;
    }
    (mean, (squares / count).max(0.0))
}

/// The sum of `of` over all values, in an order that does not depend on the vectors.
#[inline(always)]
fn sum<V: Vector>(values: &[f32], of: impl Fn(V) -> V) -> f64 {
    let (blocks, rest) = values.as_chunks::<BLOCK>();
    let mut sums = [0.0f32; BLOCK];
    for lane in (0..BLOCK).step_by(V::LANES) {
        // Four sums in turns: one alone would wait for itself.
        let mut turns = [V::splat(0.0); 4];
        for four in blocks.chunks(4) {
            for (turn, block) in turns.iter_mut().zip(four) {
                *turn = turn.add(of(V::load(&block[lane..])));
            }
        }
        let [a, b, c, d] = turns;
        a.add(b).add(c.add(d)).store(&mut sums[lane..]);
    }
    let mut last = [0.0; BLOCK];
    for (last, value) in last.iter_mut().zip(rest) {
        let mut one = [0.0; BLOCK];
        of(V::splat(*value)).store(&mut one);
        *last = one[0];
    }
    sums.into_iter().chain(last).map(f64::from).sum()
}
