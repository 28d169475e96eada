//! Winograd's convolution against the direct one in f64, over random shapes: any height and width,
//! one channel and odd numbers of them, batches of 1 to 4, every vector that this processor has.
//!
//! The error is that of rounding f32 values that are a few times larger than the outputs, as Lavin and
//! Gray describe it: measured at up to 4e-7 of the largest output for F(2, 3), 4e-6 for F(4, 3).

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use common::{Short, values};
use easel_kernels::{Around, Convolution, Kernel, Shape, Simd, Stored, Threads, Tile, Transformed};
use proptest::prelude::*;

/// Largest error, as a share of the largest output.
fn tolerance(tile: Tile) -> f64 {
    match tile {
        Tile::Two => 2e-6,
        Tile::Four => 1e-5,
    }
}

struct Case {
    shape: Shape,
    input: Vec<f32>,
    weight: Vec<f32>,
    bias: Vec<f32>,
}

impl Case {
    fn new(shape: Shape, seed: u32) -> Self {
        let pixels = shape.batch * shape.input_height() * shape.width;
        Self {
            shape,
            input: values(pixels * shape.in_channels, seed),
            weight: values(shape.out_channels * shape.in_channels * 9, seed + 1),
            bias: values(shape.out_channels, seed + 2),
        }
    }

    fn run(&self, tile: Tile, simd: Simd, threads: usize, kept: bool) -> Vec<f32> {
        self.run_on(self.weight.as_slice().into(), tile, simd, threads, kept)
    }

    fn run_on(
        &self,
        weight: Stored<'_>,
        tile: Tile,
        simd: Simd,
        threads: usize,
        kept: bool,
    ) -> Vec<f32> {
        let (c, k) = (self.shape.in_channels, self.shape.out_channels);
        let transformed = Transformed::new(weight, c, k, tile, simd);
        let convolution = Convolution {
            shape: self.shape,
            tile,
            input: &self.input,
            kernel: if kept {
                Kernel::Transformed(&transformed)
            } else {
                Kernel::Plain(weight)
            },
            bias: &self.bias,
        };
        let pixels = self.shape.batch * self.shape.height * self.shape.width;
        let mut output = vec![f32::NAN; pixels * k];
        convolution.run(&mut output, simd, Threads::new(threads));
        output
    }

    fn direct(&self) -> Vec<f64> {
        let Shape {
            batch,
            in_channels,
            out_channels,
            height,
            width,
            around,
        } = self.shape;
        let (rows, above) = match around {
            Around::Zeros => (height, 1),
            Around::Rows => (height + 2, 0),
        };
        let mut output = Vec::new();
        let pixel = |n: usize, c: usize, y: usize, x: usize| {
            let inside = (above..rows + above).contains(&y) && (1..=width).contains(&x);
            if inside {
                let row = (n * in_channels + c) * rows + y - above;
                f64::from(self.input[row * width + x - 1])
            } else {
                0.0
            }
        };
        for n in 0..batch {
            for k in 0..out_channels {
                for (y, x) in (0..height).flat_map(|y| (0..width).map(move |x| (y, x))) {
                    let mut sum = f64::from(self.bias[k]);
                    for c in 0..in_channels {
                        for (i, j) in (0..3).flat_map(|i| (0..3).map(move |j| (i, j))) {
                            let weight = self.weight[((k * in_channels + c) * 3 + i) * 3 + j];
                            sum += f64::from(weight) * pixel(n, c, y + i, x + j);
                        }
                    }
                    output.push(sum);
                }
            }
        }
        output
    }
}

/// The largest difference as a share of the largest value, or of the usual size of a sum of that many
/// channels where only few and small ones came out.
fn error(case: &Case, got: &[f32], expected: &[f64]) -> f64 {
    let usual = (case.shape.in_channels as f64).sqrt();
    let largest = expected.iter().fold(usual, |a, b| a.max(b.abs()));
    common::error(got, expected, largest)
}

fn shapes() -> impl Strategy<Value = Shape> {
    let (batch, side, width) = (1..=4_usize, 1..=40_usize, 1..=150_usize);
    (
        batch,
        side.clone(),
        side.clone(),
        side,
        width,
        any::<bool>(),
    )
        .prop_map(
            |(batch, in_channels, out_channels, height, width, zeros)| Shape {
                batch,
                in_channels: in_channels.min(2000 / width + 1),
                out_channels: out_channels.min(2000 / width + 1),
                height,
                width,
                around: if zeros { Around::Zeros } else { Around::Rows },
            },
        )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn any_shape_is_convolved_as_the_direct_way_does_it(
        shape in shapes(),
        seed in 0..1000_u32,
        threads in 1..=3_usize,
        kept: bool,
    ) {
        let case = Case::new(shape, seed);
        let direct = case.direct();
        for tile in [Tile::Two, Tile::Four] {
            let got = case.run(tile, Simd::detect(), threads, kept);
            let error = error(&case, &got, &direct);
            prop_assert!(error <= tolerance(tile), "{tile:?} {shape:?}: {error:e}");
        }
    }

    #[test]
    fn the_numbers_are_the_same_by_all_vectors_threads_and_kinds_of_weights(
        shape in shapes(),
        seed in 0..1000_u32,
    ) {
        let shape = Shape { batch: 1, height: shape.height.min(20), ..shape };
        let case = Case::new(shape, seed);
        for tile in [Tile::Two, Tile::Four] {
            let first = case.run(tile, Simd::PORTABLE, 1, false);
            for simd in Simd::available() {
                for (threads, kept) in [(1, true), (3, false)] {
                    let same = first == case.run(tile, simd, threads, kept);
                    prop_assert!(same, "{tile:?} {simd:?} {shape:?} {threads} {kept}");
                }
            }
        }
    }
}

#[test]
fn weights_in_16_bits_give_what_the_same_give_in_32() {
    let shape = Shape {
        batch: 2,
        in_channels: 21,
        out_channels: 37,
        height: 9,
        width: 11,
        around: Around::Zeros,
    };
    let mut case = Case::new(shape, 5);
    let short = Short::of(&case.weight);
    for (stored, wide) in short.each() {
        case.weight = wide;
        for tile in [Tile::Two, Tile::Four] {
            for kept in [true, false] {
                let expected = case.run(tile, Simd::detect(), 1, kept);
                let got = case.run_on(stored, tile, Simd::detect(), 1, kept);
                assert!(got == expected, "{stored:?} {tile:?} {kept}");
            }
        }
    }
}

/// Half a panel of tiles takes another way than whole ones.
#[test]
fn a_picture_is_convolved_the_same_alone_and_among_others() {
    for (side, out_channels) in [(4, 40), (8, 16), (12, 7)] {
        let shape = |batch| Shape {
            batch,
            in_channels: 600,
            out_channels,
            height: side,
            width: side,
            around: Around::Zeros,
        };
        let all = Case::new(shape(5), 9);
        for tile in [Tile::Two, Tile::Four] {
            let together = all.run(tile, Simd::detect(), 2, false);
            for batch in 1..5 {
                let mut few = Case::new(shape(batch), 9);
                few.weight.clone_from(&all.weight);
                few.bias.clone_from(&all.bias);
                few.input = all.input[..few.input.len()].to_vec();
                let alone = few.run(tile, Simd::detect(), 2, false);
                assert!(alone == together[..alone.len()], "{tile:?} {side} {batch}");
            }
        }
    }
}

#[test]
fn more_channels_than_fit_the_cache_and_more_tiles_than_a_strip_are_summed_the_same() {
    let shape = Shape {
        batch: 1,
        in_channels: 1100,
        out_channels: 17,
        height: 50,
        width: 50,
        around: Around::Zeros,
    };
    let case = Case::new(shape, 7);
    assert!(
        shape.strips(Tile::Four) > 1,
        "the shape is too small to see it"
    );
    for tile in [Tile::Two, Tile::Four] {
        let got = case.run(tile, Simd::detect(), 2, false);
        let error = error(&case, &got, &case.direct());
        assert!(error <= tolerance(tile), "{tile:?}: {error:e}");
    }
}
