//! The Brownian motion that k-diffusion's SDE samplers walk along, number by number: torchsde's.
//!
//! A tree of halves over sigma as its time: what a half moves follows from the whole's movement and
//! noise whose seed follows from the picture's seed and the half's place. Only for pictures that are to
//! equal another program's; Easel's own motion ([`super::brownian`]) does not depend on the schedule's
//! ends. Source: torchsde 0.2.6 `_brownian/brownian_interval.py` (`halfway_tree`, tolerance 1e-6, no
//! Levy area), as k-diffusion `sampling.py`, `BrownianTreeNoiseSampler`, uses it; the seeds are those
//! of NumPy's `SeedSequence` (O'Neill, "Developing a seed_seq alternative", 2015).

use super::philox::Philox;
use super::torch::Stream;

/// Words in which `BrownianTree` mixes its seeds.
const POOL: usize = 24;

/// Who draws the noise of a half.
#[derive(Clone, Copy, Debug)]
pub(super) enum HalfNoise {
    /// torch on the CPU, one tensor of which this is the part after so many pictures.
    Torch {
        pictures_before: usize,
    },
    Card,
}

/// The motion of one picture.
#[derive(Clone, Debug)]
pub(super) struct TorchSdeTree {
    seed: u64,
    noise: HalfNoise,
    /// The smallest sigma above 0 and the largest of the schedule.
    ends: (f64, f64),
}

/// One interval of the tree and how far the motion goes in it.
struct Interval {
    start: f64,
    end: f64,
    /// Its number among those of its depth, and its depth.
    place: (u64, u32),
    way: Vec<f32>,
}

impl TorchSdeTree {
    pub(super) fn new(seed: u64, noise: HalfNoise, (min, max): (f64, f64)) -> Self {
        // The programs hold sigmas in f32.
        let ends = (f64::from(min as f32), f64::from(max as f32));
        Self { seed, noise, ends }
    }

    /// The way from one sigma down (or up) to another, scaled to unit variance: `count` values.
    pub(super) fn between(&self, from: f64, to: f64, count: usize) -> Vec<f32> {
        let (from, to) = (from as f32, to as f32);
        let (low, high, sign) = match from < to {
            true => (from, to, 1.0),
            false => (to, from, -1.0),
        };
        let (min, max) = (rounded(self.ends.0), rounded(self.ends.1));
        let within = |time: f32| rounded(f64::from(time).clamp(min, max));
        let (low, high) = (within(low), within(high));
        let mut way = vec![0.0; count];
        if low < high {
            self.add(self.whole(count), (low, high), &mut way);
        }
        let scale = sign / (to - from).abs().sqrt();
        way.iter_mut().for_each(|value| *value *= scale);
        way
    }

    fn whole(&self, count: usize) -> Interval {
        let (min, max) = self.ends;
        let length = (max - min).sqrt() as f32;
        let mut way = self.draw(seed_word(self.seed, None), count);
        way.iter_mut().for_each(|value| *value *= length);
        Interval {
            start: rounded(min),
            end: rounded(max),
            place: (0, 0),
            way,
        }
    }

    /// Adds what the motion does from `low` to `high`, within `interval`.
    fn add(&self, interval: Interval, (low, high): (f64, f64), sum: &mut [f32]) {
        if low <= interval.start && high >= interval.end {
            for (sum, way) in sum.iter_mut().zip(&interval.way) {
                *sum += way;
            }
            return;
        }
        let middle = rounded(0.5 * (interval.end + interval.start));
        // No millionth is left between the ends.
        if middle <= interval.start || middle >= interval.end {
            return;
        }
        let (left, right) = self.halves(interval, middle);
        if low < middle {
            self.add(left, (low, high.min(middle)), sum);
        }
        if high > middle {
            self.add(right, (low.max(middle), high), sum);
        }
    }

    fn halves(&self, whole: Interval, middle: f64) -> (Interval, Interval) {
        let Interval {
            start,
            end,
            place,
            way,
        } = whole;
        let share = (middle - start) as f32;
        let inverse = (1.0 / (end - start)) as f32;
        let spread = ((middle - start) * (end - middle) / (end - start)).sqrt() as f32;
        let noise = self.draw(seed_word(self.seed, Some(place)), way.len());
        let left: Vec<f32> = way
            .iter()
            .zip(noise)
            .map(|(way, noise)| share * way * inverse + spread * noise)
            .collect();
        let right = way.iter().zip(&left).map(|(way, left)| way - left);
        let (number, depth) = place;
        let right = Interval {
            start: middle,
            end,
            place: (2 * number + 1, depth + 1),
            way: right.collect(),
        };
        let left = Interval {
            start,
            end: middle,
            place: (2 * number, depth + 1),
            way: left,
        };
        (left, right)
    }

    fn draw(&self, seed: u32, count: usize) -> Vec<f32> {
        match self.noise {
            HalfNoise::Card => Philox::new(seed.into()).randn(0, count),
            HalfNoise::Torch { pictures_before } => {
                Stream::new(seed.into()).randn_end(pictures_before * count, count)
            }
        }
    }
}

/// To a millionth, as Python rounds.
fn rounded(time: f64) -> f64 {
    format!("{time:.6}").parse().unwrap_or(time)
}

/// `SeedSequence(seed, spawn_key=place, pool_size=24).generate_state(1)`.
fn seed_word(seed: u64, place: Option<(u64, u32)>) -> u32 {
    let mut entropy = words(seed);
    if let Some((number, depth)) = place {
        entropy.resize(POOL, 0);
        entropy.extend(words(number));
        entropy.push(depth);
    }
    let mut hash = 0x43b0_d7e5_u32;
    let mut hashed = |value: u32| {
        let value = value ^ hash;
        hash = hash.wrapping_mul(0x931e_8875);
        shifted(value.wrapping_mul(hash))
    };
    let mut pool: Vec<u32> = (0..POOL)
        .map(|index| hashed(entropy.get(index).copied().unwrap_or(0)))
        .collect();
    for from in 0..POOL {
        for to in (0..POOL).filter(|to| *to != from) {
            pool[to] = mixed(pool[to], hashed(pool[from]));
        }
    }
    for value in entropy.into_iter().skip(POOL) {
        for word in &mut pool {
            *word = mixed(*word, hashed(value));
        }
    }
    let first = 0x8b51_f9dd_u32;
    shifted((pool[0] ^ first).wrapping_mul(first.wrapping_mul(0x58f3_8ded)))
}

/// A number's 32-bit words, the lowest first, without leading zeros.
fn words(number: u64) -> Vec<u32> {
    match number >> 32 {
        0 => vec![number as u32],
        high => vec![number as u32, high as u32],
    }
}

fn mixed(a: u32, b: u32) -> u32 {
    let product = 0xca01_f9dd_u32.wrapping_mul(a);
    shifted(product.wrapping_sub(0x4973_f715_u32.wrapping_mul(b)))
}

fn shifted(value: u32) -> u32 {
    value ^ (value >> 16)
}
