//! The noise of the SDE samplers: steps of one Brownian motion a picture, over sigma as its time.
//!
//! However many steps a drawing takes, it walks along the same motion, so that more steps refine the
//! picture instead of replacing it. The motion is a virtual tree: a value is found from the two ends
//! by going down Brownian bridges whose noise follows from the seed and the place alone.
//!
//! Source: Li et al., 2001.01328, section 4 (the virtual Brownian tree); used as k-diffusion's
//! `BrownianTreeNoiseSampler` (`sampling.py`) uses torchsde's. The numbers are our own: torchsde's
//! follow from how often it was asked before.

use super::torch::Stream;

/// The times of the tree's ends: below and above every sigma of a schedule.
const FIRST: f64 = 1.0 / 65536.0;
const LAST: f64 = 65536.0;
/// Halvings, in the logarithm of time: a thousand leaves an octave is finer than a thousand steps.
const DEPTH: u32 = 15;
/// Values that are asked for again: a step's begin, and its end, where the next one begins.
const KEPT: usize = 4;

/// The motion of one picture.
#[derive(Clone, Debug)]
pub(super) struct BrownianTree {
    seed: u64,
    /// Times with their values, the latest last.
    known: Vec<(f64, Vec<f64>)>,
}

impl BrownianTree {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            seed,
            known: Vec::new(),
        }
    }

    /// The way from one time to another, scaled to unit variance: `count` normal values.
    pub(super) fn between(&mut self, from: f64, to: f64, count: usize) -> Vec<f32> {
        let (from, to) = (from.clamp(FIRST, LAST), to.clamp(FIRST, LAST));
        let scale = (to - from).abs().max(f64::MIN_POSITIVE).sqrt();
        let (at_from, at_to) = (self.at(from, count), self.at(to, count));
        let way = at_from.iter().zip(&at_to);
        way.map(|(from, to)| ((to - from) / scale) as f32).collect()
    }

    fn at(&mut self, time: f64, count: usize) -> Vec<f64> {
        let known = self.known.iter().find(|(known, _)| *known == time);
        if let Some((_, values)) = known.filter(|(_, values)| values.len() == count) {
            return values.clone();
        }
        let values = self.descend(time, count);
        self.known.push((time, values.clone()));
        self.known.drain(..self.known.len().saturating_sub(KEPT));
        values
    }

    fn descend(&self, time: f64, count: usize) -> Vec<f64> {
        let (mut first, mut last) = (FIRST, LAST);
        let mut at_first = vec![0.0; count];
        let mut at_last = self.noise(0, count);
        let whole = (LAST - FIRST).sqrt();
        at_last.iter_mut().for_each(|value| *value *= whole);
        let mut node = 1;
        for _ in 0..DEPTH {
            let middle = (first * last).sqrt();
            let at_middle = self.bridge(node, middle, (first, &at_first), (last, &at_last));
            if time < middle {
                (last, at_last) = (middle, at_middle);
                node *= 2;
            } else {
                (first, at_first) = (middle, at_middle);
                node = 2 * node + 1;
            }
        }
        self.bridge(node, time, (first, &at_first), (last, &at_last))
    }

    /// The values at `time`, given those at both ends.
    fn bridge(
        &self,
        node: u64,
        time: f64,
        (first, at_first): (f64, &[f64]),
        (last, at_last): (f64, &[f64]),
    ) -> Vec<f64> {
        let share = (time - first) / (last - first);
        let spread = (share * (last - time)).max(0.0).sqrt();
        let noise = self.noise(node, at_first.len());
        let ends = at_first.iter().zip(at_last);
        ends.zip(noise)
            .map(|((a, b), noise)| a + share * (b - a) + spread * noise)
            .collect()
    }

    fn noise(&self, node: u64, count: usize) -> Vec<f64> {
        let mut stream = Stream::new(mixed(self.seed ^ mixed(node)));
        stream.randn(count).into_iter().map(f64::from).collect()
    }
}

/// splitmix64's output function (Steele et al., 2014): every bit depends on every bit.
fn mixed(value: u64) -> u64 {
    let value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    const COUNT: usize = 20_000;

    fn moments(values: &[f32]) -> (f64, f64) {
        let count = values.len() as f64;
        let mean = values.iter().map(|&v| f64::from(v)).sum::<f64>() / count;
        let square = values.iter().map(|&v| f64::from(v).powi(2)).sum::<f64>() / count;
        (mean, square)
    }

    fn product(a: &[f32], b: &[f32]) -> f64 {
        let both = a.iter().zip(b).map(|(a, b)| f64::from(a * b));
        both.sum::<f64>() / a.len() as f64
    }

    #[test]
    fn every_step_is_standard_normal_and_independent_of_the_others() {
        let mut tree = BrownianTree::new(5);
        let times = [4096.0, 14.6, 9.0, 8.99, 1.0, 0.5, 0.031, 0.0292];
        let steps: Vec<_> = times
            .windows(2)
            .map(|pair| tree.between(pair[0], pair[1], COUNT))
            .collect();
        // Five standard errors of 20000 values.
        let tolerance = 5.0 * (2.0 / COUNT as f64).sqrt();
        for (i, step) in steps.iter().enumerate() {
            let (mean, square) = moments(step);
            assert!(mean.abs() < tolerance, "{i}: mean {mean}");
            assert!((square - 1.0).abs() < tolerance, "{i}: variance {square}");
            for other in &steps[..i] {
                let product = product(step, other);
                assert!(product.abs() < tolerance, "{i}: correlation {product}");
            }
        }
    }

    #[test]
    fn two_half_steps_are_the_whole_one_in_any_order() {
        let (mut once, mut twice) = (BrownianTree::new(9), BrownianTree::new(9));
        let whole = once.between(10.0, 2.0, 64);
        let second = twice.between(4.0, 2.0, 64);
        let first = twice.between(10.0, 4.0, 64);
        for (whole, (first, second)) in whole.iter().zip(first.iter().zip(&second)) {
            let way = f64::from(*first) * 6f64.sqrt() + f64::from(*second) * 2f64.sqrt();
            assert!((f64::from(*whole) * 8f64.sqrt() - way).abs() < 1e-5);
        }
    }

    #[test]
    fn another_seed_is_another_motion() {
        let a = BrownianTree::new(1).between(10.0, 2.0, COUNT);
        let b = BrownianTree::new(2).between(10.0, 2.0, COUNT);
        let c = BrownianTree::new(1 << 40).between(10.0, 2.0, COUNT);
        for (a, b) in [(&a, &b), (&a, &c), (&b, &c)] {
            assert!(product(a, b).abs() < 0.05);
        }
    }
}
