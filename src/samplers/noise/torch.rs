//! The numbers that torch draws on the CPU for the same seed, with no global state.
//!
//! tch reaches torch's global generator only. Source: libtorch 2.13, `ATen/core/MT19937RNGEngine.h`,
//! `ATen/core/DistributionsHelper.h` and `ATen/native/cpu/DistributionTemplates.h`.

use std::f64::consts::PI;

use rand_mt::Mt;

/// One `torch.Generator("cpu")`. It uses the low 32 bits of a seed, and so does this.
#[derive(Clone, Debug)]
pub(super) struct Stream {
    engine: Mt,
    /// The second value of the last pair that was drawn one by one.
    next_normal: Option<f64>,
}

impl Stream {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            engine: Mt::new(seed as u32),
            next_normal: None,
        }
    }

    /// `torch.randn(count)`: in blocks if there are enough values for one, else one by one.
    pub(super) fn randn(&mut self, count: usize) -> Vec<f32> {
        if count < BLOCK {
            return (0..count).map(|_| self.normal() as f32).collect();
        }
        let mut values: Vec<f32> = (0..count).map(|_| self.uniform()).collect();
        values.chunks_exact_mut(BLOCK).for_each(box_muller);
        if !count.is_multiple_of(BLOCK) {
            // The last block overlaps the one before it, and is drawn anew.
            let tail = &mut values[count - BLOCK..];
            tail.fill_with(|| self.uniform());
            box_muller(tail);
        }
        values
    }

    /// Goes on as [`Self::randn`] of so many values would, without working them out.
    pub(super) fn skip(&mut self, count: usize) {
        if count < BLOCK {
            self.randn(count);
            return;
        }
        let tail = if count.is_multiple_of(BLOCK) {
            0
        } else {
            BLOCK
        };
        for _ in 0..count + tail {
            self.engine.next_u32();
        }
    }

    /// The last `count` values of `torch.randn(before + count)`.
    pub(super) fn randn_end(&mut self, before: usize, count: usize) -> Vec<f32> {
        let in_blocks = before.is_multiple_of(BLOCK) && count.is_multiple_of(BLOCK);
        if in_blocks && count > 0 {
            self.skip(before);
            return self.randn(count);
        }
        self.randn(before + count).split_off(before)
    }

    /// 24 bits, in `0..1`.
    fn uniform(&mut self) -> f32 {
        (self.engine.next_u32() & ((1 << 24) - 1)) as f32 / (1 << 24) as f32
    }

    /// 53 bits, in `0..1`.
    fn uniform_f64(&mut self) -> f64 {
        let high = u64::from(self.engine.next_u32());
        let bits = high << 32 | u64::from(self.engine.next_u32());
        (bits & ((1 << 53) - 1)) as f64 / (1u64 << 53) as f64
    }

    fn normal(&mut self) -> f64 {
        if let Some(normal) = self.next_normal.take() {
            return normal;
        }
        let (u1, u2) = (self.uniform_f64(), self.uniform_f64());
        let radius = (-2.0 * (-u2).ln_1p()).sqrt();
        let theta = 2.0 * PI * u1;
        self.next_normal = Some(radius * theta.sin());
        radius * theta.cos()
    }
}

/// Values of one block: eight cosines, then the eight sines of the same angles.
const BLOCK: usize = 16;

/// Turns the 16 uniform values of a block into normal ones.
///
/// torch rounds to f32 at every operation, and so does this; its vector logarithm and sine differ from
/// the exact ones used here in the last bit.
fn box_muller(block: &mut [f32]) {
    let (radii, angles) = block.split_at_mut(BLOCK / 2);
    for (first, second) in radii.iter_mut().zip(angles) {
        let log = f64::from(1.0 - *first).ln() as f32;
        let radius = (-2.0 * log).sqrt();
        let theta = f64::from((2.0 * PI) as f32 * *second);
        *first = radius * theta.cos() as f32;
        *second = radius * theta.sin() as f32;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn skipping_goes_on_where_drawing_would() {
        for count in [0, 1, 7, 16, 31, 32, 100] {
            let (mut drawn, mut skipped) = (Stream::new(9), Stream::new(9));
            drawn.randn(count);
            skipped.skip(count);
            assert_eq!(drawn.randn(40), skipped.randn(40), "{count}");
        }
    }

    #[test]
    fn the_end_of_a_tensor_is_the_same_as_drawn_whole() {
        for (before, count) in [(0, 16), (16, 48), (20, 12), (3, 4), (64, 17), (32, 0)] {
            let whole = Stream::new(4).randn(before + count);
            let end = Stream::new(4).randn_end(before, count);
            assert_eq!(end, whole[before..], "{before} {count}");
        }
    }
}
