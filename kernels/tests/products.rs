//! Products of matrices and what follows them against the same in f64, over random sizes, both orders of
//! both matrices, and every vector that this processor has.
//!
//! The error is that of f32's rounding in a sum of up to a few thousand values: measured at up to 6e-7 of
//! the usual size of such a sum.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use common::{Short, error, values};
use easel_kernels::{Bias, Finish, Matrix, Product, Simd, Stored, Threads};
use proptest::prelude::*;

const TOLERANCE: f64 = 2e-6;

#[derive(Clone, Copy, Debug)]
struct Case {
    /// Rows, what is summed, columns.
    size: [usize; 3],
    /// Whether the matrices lie row by row.
    orders: [bool; 2],
    bias: Option<bool>,
    finish: usize,
    seed: u32,
}

/// The case's numbers.
struct Numbers {
    left: Vec<f32>,
    right: Vec<f32>,
    row_bias: Vec<f32>,
    column_bias: Vec<f32>,
    added: Vec<f32>,
}

impl Case {
    fn numbers(&self) -> Numbers {
        let [m, k, n] = self.size;
        Numbers {
            left: values(m * k, self.seed),
            right: values(k * n, self.seed + 1),
            row_bias: values(m, self.seed + 2),
            column_bias: values(n, self.seed + 3),
            added: values(m * n, self.seed + 4),
        }
    }

    fn columns(&self) -> usize {
        match self.finish {
            2 => self.size[2] / 2,
            _ => self.size[2],
        }
    }

    fn run(&self, of: &Numbers, simd: Simd, threads: usize) -> Vec<f32> {
        let matrices = [of.left.as_slice().into(), of.right.as_slice().into()];
        self.run_on(matrices, of, simd, threads)
    }

    fn run_on(
        &self,
        [left, right]: [Stored<'_>; 2],
        of: &Numbers,
        simd: Simd,
        threads: usize,
    ) -> Vec<f32> {
        let [m, k, n] = self.size;
        let matrix = |by_row, values, rows, columns| match by_row {
            true => Matrix::row_by_row(values, rows, columns),
            false => Matrix::column_by_column(values, rows, columns),
        };
        let product = Product {
            left: matrix(self.orders[0], left, m, k),
            right: matrix(self.orders[1], right, k, n),
            bias: match self.bias {
                None => Bias::Nothing,
                Some(true) => Bias::Rows(&of.row_bias),
                Some(false) => Bias::Columns(&of.column_bias),
            },
            finish: match self.finish {
                0 => Finish::Nothing,
                1 => Finish::Add(&of.added),
                _ => Finish::Gate,
            },
        };
        let mut out = vec![f32::NAN; m * self.columns()];
        product.run(&mut out, simd, Threads::new(threads));
        out
    }

    fn expected(&self, of: &Numbers) -> Vec<f64> {
        let [m, k, n] = self.size;
        let left = |i, c| of.left[if self.orders[0] { i * k + c } else { c * m + i }];
        let right = |c, j| of.right[if self.orders[1] { c * n + j } else { j * k + c }];
        let plain = |i: usize, j: usize| {
            let sum: f64 = (0..k)
                .map(|c| f64::from(left(i, c)) * f64::from(right(c, j)))
                .sum();
            sum + match self.bias {
                None => 0.0,
                Some(true) => f64::from(of.row_bias[i]),
                Some(false) => f64::from(of.column_bias[j]),
            }
        };
        let places = (0..m).flat_map(|i| (0..self.columns()).map(move |j| (i, j)));
        places
            .map(|(i, j)| match self.finish {
                0 => plain(i, j),
                1 => plain(i, j) + f64::from(of.added[i * n + j]),
                _ => {
                    let gate = plain(i, j + n / 2);
                    plain(i, j) * gate * 0.5 * (1.0 + erf(gate / std::f64::consts::SQRT_2))
                }
            })
            .collect()
    }

    /// The usual size of an output.
    fn usual(&self) -> f64 {
        let sum = (self.size[1] as f64).sqrt() + 1.0;
        if self.finish == 2 { sum * sum } else { sum }
    }
}

/// The error function by Simpson's rule, within 1e-7.
fn erf(x: f64) -> f64 {
    const STEPS: u32 = 400;
    if x.abs() > 4.0 {
        return x.signum();
    }
    let step = x / f64::from(STEPS);
    let weight = |i| match i {
        0 | STEPS => 1.0,
        _ => f64::from(2 + 2 * (i % 2)),
    };
    let sum: f64 = (0..=STEPS)
        .map(|i| weight(i) * (-(step * f64::from(i)).powi(2)).exp())
        .sum();
    sum * step / 3.0 * 2.0 / std::f64::consts::PI.sqrt()
}

fn cases() -> impl Strategy<Value = Case> {
    let size = (1..=90_usize, 1..=90_usize, 1..=90_usize);
    let orders = [any::<bool>(), any::<bool>()];
    (size, orders, any::<Option<bool>>(), 0..3_usize, 0..1000_u32).prop_map(
        |((m, k, n), orders, bias, finish, seed)| Case {
            size: [m, k, if finish == 2 { 2 * n } else { n }],
            orders,
            bias,
            finish,
            seed,
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn any_sizes_are_multiplied_as_written(case in cases(), threads in 1..=3_usize) {
        let numbers = case.numbers();
        let expected = case.expected(&numbers);
        let first = case.run(&numbers, Simd::PORTABLE, 1);
        let error = error(&first, &expected, case.usual());
        prop_assert!(error <= TOLERANCE, "{case:?}: {error:e}");
        for simd in Simd::available() {
            prop_assert!(first == case.run(&numbers, simd, threads), "{case:?} {simd:?} {threads}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn what_lies_in_16_bits_is_multiplied_as_the_same_in_32(case in cases()) {
        let mut numbers = case.numbers();
        let [left, right] = [Short::of(&numbers.left), Short::of(&numbers.right)];
        for (left, right) in left.each().into_iter().zip(right.each()) {
            (numbers.left, numbers.right) = (left.1, right.1);
            for simd in Simd::available() {
                let wide = case.run(&numbers, simd, 1);
                let short = case.run_on([left.0, right.0], &numbers, simd, 1);
                prop_assert!(wide == short, "{case:?} {simd:?}");
            }
        }
    }
}

/// Few rows take another way than many.
#[test]
fn a_row_is_multiplied_the_same_alone_and_among_many() {
    let case = |rows, finish| Case {
        size: [rows, 1300, 70],
        orders: [true, false],
        bias: Some(false),
        finish,
        seed: 11,
    };
    for finish in 0..3 {
        let many = case(300, finish);
        let mut numbers = many.numbers();
        let all = many.run(&numbers, Simd::detect(), 2);
        for rows in [1, 33, 128] {
            numbers.left.truncate(rows * 1300);
            numbers.added.truncate(rows * 70);
            let few = case(rows, finish).run(&numbers, Simd::detect(), 2);
            assert!(few == all[..few.len()], "{finish} {rows}");
            numbers = many.numbers();
        }
    }
}

#[test]
fn long_sums_and_many_panels_are_multiplied_as_written() {
    for (finish, orders) in [(0, [true, false]), (1, [false, true]), (2, [true, false])] {
        let case = Case {
            size: [150, 1300, 620],
            orders,
            bias: Some(false),
            finish,
            seed: 3,
        };
        let numbers = case.numbers();
        let got = case.run(&numbers, Simd::detect(), 4);
        let error = error(&got, &case.expected(&numbers), case.usual());
        assert!(error <= TOLERANCE, "{case:?}: {error:e}");
        assert!(got == case.run(&numbers, Simd::PORTABLE, 1), "{case:?}");
    }
}

#[test]
fn what_is_no_number_stays_none() {
    let case = Case {
        size: [20, 16, 40],
        orders: [true, false],
        bias: None,
        finish: 2,
        seed: 1,
    };
    let mut numbers = case.numbers();
    numbers.left[16 * 3 + 5] = f32::NAN;
    for simd in Simd::available() {
        let got = case.run(&numbers, simd, 1);
        for (row, values) in got.chunks(20).enumerate() {
            assert_eq!(
                values.iter().all(|value| value.is_nan()),
                row == 3,
                "{simd:?} {row}"
            );
        }
    }
}
