//! The noise that an NVIDIA card draws, on the CPU: the numbers do not depend on where they are drawn.
//!
//! Philox4x32-10: Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", 2011. How torch uses it
//! for `randn(..., device="cuda")`: one counter a value, the call's number beside it, and of each four
//! words the first two, by Box and Muller. The rounding is that of AUTOMATIC1111 1.10
//! `modules/rng_philox.py` (`RNG: NV`), which the web interface itself uses where there is no card;
//! a card's own logarithm and sine are a few units in the last place off.

const MULTIPLIERS: [u32; 2] = [0xd251_1f53, 0xcd9e_8d57];
const WEYL: [u32; 2] = [0x9e37_79b9, 0xbb67_ae85];
const ROUNDS: usize = 10;
/// 2^-32, and 2 pi of it, as f32 holds them.
const INVERSE: f64 = 2.328_306_4e-10_f32 as f64;
const INVERSE_2PI: f64 = (2.328_306_4e-10 * 6.283_185_5) as f32 as f64;

/// One `torch.Generator("cuda")`.
#[derive(Clone, Debug)]
pub(super) struct Philox {
    seed: u64,
    /// How often it was asked.
    calls: u32,
}

impl Philox {
    pub(super) fn new(seed: u64) -> Self {
        Self { seed, calls: 0 }
    }

    /// `torch.randn` of `count` values from the `first` on of a longer tensor.
    ///
    /// A card draws a second value from the same four words where a tensor has more values than the
    /// card runs threads (100,000 and more); then its values, unlike these, depend on the card.
    pub(super) fn randn(&mut self, first: u64, count: usize) -> Vec<f32> {
        let calls = self.calls;
        self.calls = self.calls.wrapping_add(1);
        (first..)
            .take(count)
            .map(|index| {
                let counter = [calls, 0, index as u32, (index >> 32) as u32];
                box_muller(words(counter, self.seed))
            })
            .collect()
    }
}

fn words(mut counter: [u32; 4], seed: u64) -> [u32; 4] {
    let mut key = [seed as u32, (seed >> 32) as u32];
    for _ in 0..ROUNDS {
        let [a, b, c, d] = counter;
        let (low_0, high_0) = wide_product(MULTIPLIERS[0], a);
        let (low_1, high_1) = wide_product(MULTIPLIERS[1], c);
        counter = [high_1 ^ b ^ key[0], low_1, high_0 ^ d ^ key[1], low_0];
        key = [key[0].wrapping_add(WEYL[0]), key[1].wrapping_add(WEYL[1])];
    }
    counter
}

/// Low and high half.
fn wide_product(a: u32, b: u32) -> (u32, u32) {
    let product = u64::from(a) * u64::from(b);
    (product as u32, (product >> 32) as u32)
}

fn box_muller([x, y, _, _]: [u32; 4]) -> f32 {
    let u = f64::from(x) * INVERSE + INVERSE / 2.0;
    let v = f64::from(y) * INVERSE_2PI + INVERSE_2PI / 2.0;
    ((-2.0 * u.ln()).sqrt() * v.sin()) as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Known answers of the authors' Random123 1.09, `kat_vectors`, philox4x32 of 10 rounds.
    #[test]
    fn the_words_are_those_of_the_authors() {
        assert_eq!(
            words([0; 4], 0),
            [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]
        );
        assert_eq!(
            words([u32::MAX; 4], u64::MAX),
            [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]
        );
        assert_eq!(
            words(
                [0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344],
                0x299f_31d0_a409_3822
            ),
            [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1]
        );
    }

    /// The values that A1111's `modules/rng_philox.py` documents for seed 0.
    #[test]
    fn seed_0_begins_as_a_card_begins() {
        let want = [
            -0.924_662_6,
            -0.425_344_15,
            -2.643_845_7,
            0.145_183_88,
            -0.120_866_47,
            -0.579_725_6,
            -0.622_851_2,
            -0.328_387_1,
            -1.074_542_3,
            -0.363_144_07,
            -1.671_050_7,
            2.265_505,
        ];
        let got = Philox::new(0).randn(0, want.len());
        for (got, want) in got.iter().zip(want) {
            assert!((got - want).abs() < 1e-6, "{got} {want}");
        }
    }

    #[test]
    fn a_part_of_a_tensor_is_the_same_as_drawn_whole() {
        let whole = Philox::new(1 << 40).randn(0, 30);
        assert_eq!(Philox::new(1 << 40).randn(10, 20), whole[10..]);
        let mut again = Philox::new(1 << 40);
        assert_eq!(again.randn(0, 30), whole);
        assert_ne!(again.randn(0, 30), whole);
    }
}
