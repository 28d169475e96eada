//! Python's `random.Random`, as far as wildcards need it: the same seed makes the same choices as in
//! sd-dynamic-prompts.
//!
//! Source: CPython 3.11 `Lib/random.py` and `Modules/_randommodule.c`.

use rand_mt::Mt;

/// A Mersenne twister that is seeded and read as Python does.
#[derive(Debug)]
pub(super) struct PythonRandom(Mt);

impl PythonRandom {
    /// `random.Random(seed)`.
    pub(super) fn new(seed: u64) -> Self {
        let (low, high) = (seed as u32, (seed >> 32) as u32);
        let words = if high == 0 {
            vec![low]
        } else {
            vec![low, high]
        };
        Self(Mt::new_with_key(words))
    }

    /// `random()`: 53 bits in `[0, 1)`.
    pub(super) fn random(&mut self) -> f64 {
        let (a, b) = (self.0.next_u32() >> 5, self.0.next_u32() >> 6);
        (f64::from(a) * 67_108_864.0 + f64::from(b)) / 9_007_199_254_740_992.0
    }

    /// `_randbelow(count)`: `0..count`. `count` is at least 1.
    pub(super) fn below(&mut self, count: usize) -> usize {
        let count = u32::try_from(count).unwrap_or(u32::MAX).max(1);
        let bits = u32::BITS - count.leading_zeros();
        loop {
            let drawn = self.0.next_u32() >> (u32::BITS - bits);
            if drawn < count {
                return drawn as usize;
            }
        }
    }

    /// `choices(range(len(weights)), weights)[0]`; evenly where the weights add up to nothing.
    pub(super) fn weighted(&mut self, weights: &[f64]) -> usize {
        let total: f64 = weights.iter().sum();
        if total.is_nan() || total <= 0.0 {
            return self.below(weights.len());
        }
        let drawn = self.random() * total;
        let mut reached = 0.0;
        let found = weights.iter().position(|weight| {
            reached += weight;
            drawn < reached
        });
        found.unwrap_or(weights.len().saturating_sub(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_numbers_are_pythons() {
        let mut random = PythonRandom::new(7);
        assert_eq!(random.random(), 0.323_832_764_833_162_37);
        assert_eq!(random.random(), 0.150_849_173_924_501_92);
        let drawn: Vec<usize> = (0..6).map(|_| random.below(10)).collect();
        assert_eq!(drawn, [0, 1, 8, 1, 5, 9]);
        assert_eq!([random.below(1), random.below(1)], [0, 0]);
        assert_eq!(random.random(), 0.037_495_658_441_984_88);
        let mut long = PythonRandom::new((1 << 40) + 5);
        assert_eq!(long.random(), 0.504_380_297_041_844_3);
        assert_eq!(PythonRandom::new(0).random(), 0.844_421_851_525_048_1);
    }
}
