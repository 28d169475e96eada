//! The tensors of a 3x3 convolution on their way to the kernel that computes it with fewer products.

use std::sync::OnceLock;

use easel_kernels::{Around, Convolution, Kernel, Shape, Simd, Stored, Tile, Transformed};
use tch::{Kind, Tensor};

use super::Adapters;
use super::convolution_plan::{Method, choose};
use super::plain::{all_plain, count, empty, stored, threads, values, values_mut};
use super::weights::Budget;

/// What one layer keeps for it.
#[derive(Debug, Default)]
pub(super) struct Winograd {
    /// The transformed weights by size of tiles; one picture may want the one and the next the other.
    two: OnceLock<Transformed>,
    four: OnceLock<Transformed>,
    budget: Budget,
}

impl Winograd {
    /// `budget`: the network's.
    pub fn new(budget: Budget) -> Self {
        Self {
            budget,
            ..Self::default()
        }
    }

    /// The convolution of `x` with what the layer computes with; `None` where the direct way is the better
    /// or the only one.
    ///
    /// `padding`: rows and columns of zeros around `x`.
    pub fn forward(&self, x: &Tensor, layer: &Adapters, padding: [i64; 2]) -> Option<Tensor> {
        let patched = layer.patched();
        let may_keep = match patched {
            Some(_) => 0,
            None => self.may_keep(),
        };
        let parameters = patched.unwrap_or_else(|| layer.as_stored());
        let shape = shape(x, &parameters.weight, padding)?;
        let weight = stored(&parameters.weight).filter(|_| all_plain([x]))?;
        let (tile, kept) = match choose(&shape, may_keep) {
            Method::Direct => return None,
            Method::Winograd(tile) => (tile, None),
            Method::WinogradKept(tile) => (tile, self.kept(&shape, weight, tile)),
        };
        let x = x.contiguous();
        let none = || Tensor::zeros([shape.out_channels as i64], (Kind::Float, x.device()));
        let bias = parameters
            .bias
            .as_ref()
            .map_or_else(none, Tensor::contiguous);
        let size = [shape.batch, shape.out_channels, shape.height, shape.width];
        let mut y = empty(&size.map(|side| side as i64));
        Convolution {
            shape,
            tile,
            input: values(&x),
            kernel: kept.map_or(Kernel::Plain(weight), Kernel::Transformed),
            bias: values(&bias),
        }
        .run(values_mut(&mut y), Simd::detect(), threads());
        Some(y)
    }

    /// What is left to be kept; everything where weights are kept already.
    fn may_keep(&self) -> usize {
        match (self.two.get(), self.four.get()) {
            (None, None) => self.budget.left(),
            _ => usize::MAX,
        }
    }

    /// The transformed weights, made when they are first asked for; `None` where there is no room.
    fn kept(&self, shape: &Shape, weight: Stored<'_>, tile: Tile) -> Option<&Transformed> {
        let place = match tile {
            Tile::Two => &self.two,
            Tile::Four => &self.four,
        };
        let (c, k) = (shape.in_channels, shape.out_channels);
        if place.get().is_none() && !self.budget.take(Transformed::bytes(c, k, tile)) {
            return None;
        }
        Some(place.get_or_init(|| Transformed::new(weight, c, k, tile, Simd::detect())))
    }
}

/// The sizes, where it is a convolution that the kernel knows.
fn shape(x: &Tensor, weight: &Tensor, padding: [i64; 2]) -> Option<Shape> {
    let (&[batch, _, rows, width], &[k, c, 3, 3]) = (x.size().as_slice(), weight.size().as_slice())
    else {
        return None;
    };
    let (around, height) = match padding {
        [1, 1] => (Around::Zeros, rows),
        [0, 1] => (Around::Rows, rows - 2),
        _ => return None,
    };
    let [batch, in_channels, out_channels, height, width] = [batch, c, k, height, width].map(count);
    (x.size().get(1) == Some(&c) && batch * height * width > 0).then_some(Shape {
        batch,
        in_channels,
        out_channels,
        height,
        width,
        around,
    })
}

#[cfg(test)]
mod tests {
    use tch::Device;

    use super::super::{Conv2d, Exactly, Weights};
    use super::*;

    fn ramp(shape: &[i64], scale: f64) -> Tensor {
        let count: i64 = shape.iter().product();
        let at = Tensor::arange(count, (Kind::Double, Device::Cpu));
        ((&at * &at * 0.37).sin() * scale)
            .to_kind(Kind::Float)
            .view(shape)
    }

    fn layer() -> Conv2d {
        let named = [
            ("weight".to_owned(), ramp(&[48, 33, 3, 3], 0.1)),
            ("bias".to_owned(), ramp(&[48], 1.0)),
        ];
        let weights = Weights::new("test", named.into());
        Conv2d::new(&weights.root(), 33, 48, 3).unwrap()
    }

    #[test]
    fn a_layer_computes_the_same_both_ways_and_to_the_last_bit_where_it_is_asked_to() {
        let conv = layer();
        let _no_grad = tch::no_grad_guard();
        let x = ramp(&[2, 33, 30, 21], 1.0);
        for run in [Conv2d::forward, Conv2d::forward_rows] {
            // Twice: the second time with weights that were kept.
            let fast = [run(&conv, &x), run(&conv, &x)];
            let exact = {
                let _exactly = Exactly::when(true);
                run(&conv, &x)
            };
            assert!(fast[0].equal(&fast[1]));
            let error = (&fast[0] - &exact).abs().max() / exact.abs().max();
            let error = error.double_value(&[]);
            assert!(error < 1e-5, "{error:e}");
            let is_fast = Simd::detect() != Simd::PORTABLE;
            assert_eq!(fast[0].equal(&exact), !is_fast, "which way was taken");
        }
    }

    #[test]
    fn what_lies_in_another_order_is_convolved_as_it_is_meant() {
        let conv = layer();
        let x = ramp(&[2, 21, 33, 30], 1.0).permute([0, 2, 3, 1]);
        assert!(!x.is_contiguous());
        let same = conv.forward(&x) - conv.forward(&x.contiguous());
        assert_eq!(same.abs().max().double_value(&[]), 0.0);
    }

    #[test]
    fn where_a_gradient_is_wanted_libtorch_computes() {
        let conv = layer();
        let x = ramp(&[1, 33, 16, 16], 1.0).set_requires_grad(true);
        conv.forward(&x).sum(Kind::Float).backward();
        assert!(x.grad().abs().max().double_value(&[]) > 0.0);
    }
}
