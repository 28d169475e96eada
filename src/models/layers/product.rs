//! The tensors of linear layers and of convolutions with a kernel of one on their way to the kernel
//! that multiplies them and does on the way out what follows.

use easel_kernels::{Bias, Finish, Matrix, Product, Simd};
use tch::Tensor;

use super::Parameters;
use super::plain::{all_plain, count, empty, stored, threads, values, values_mut};

/// What follows the product and its bias.
#[derive(Clone, Copy, Debug)]
pub(super) enum After<'a> {
    Nothing,
    /// This is added, of the output's shape.
    Add(&'a Tensor),
    /// The first half of the features, each times the GELU of its fellow in the second half.
    Gate,
}

/// `[..., in]` to `[..., out]` (half of it where it is gated); `None` where libtorch is to compute it.
pub(super) fn tokens(x: &Tensor, layer: &Parameters, after: After<'_>) -> Option<Tensor> {
    let (out, into) = features(layer)?;
    let mut size = x.size();
    if size.pop() != Some(into) {
        return None;
    }
    if !fits(x, layer, after) {
        return None;
    }
    // A picture's pixels, as tokens, lie feature by feature.
    let pixels = (size.len() == 2 && !x.is_contiguous()).then(|| x.transpose(1, 2));
    let pixels = pixels.filter(Tensor::is_contiguous);
    let [pictures, rows] = match (pixels.is_some(), size.as_slice()) {
        (true, &[pictures, rows]) => [pictures, rows],
        _ => [1, size.iter().product()],
    };
    let x = pixels
        .as_ref()
        .map_or_else(|| x.contiguous(), Tensor::shallow_clone);
    size.push(match after {
        After::Gate => out / 2,
        After::Nothing | After::Add(_) => out,
    });
    let [rows, into, out] = [rows, into, out].map(count);
    let weight = Matrix::column_by_column(stored(&layer.weight)?, into, out);
    let left = |x| match pixels {
        Some(_) => Matrix::column_by_column(x, rows, into),
        None => Matrix::row_by_row(x, rows, into),
    };
    let pairs = parts(&x, pictures).map(|x| (left(x), weight));
    let bias = layer.bias.as_ref().map(Tensor::contiguous);
    let bias = bias
        .as_ref()
        .map_or(Bias::Nothing, |bias| Bias::Columns(values(bias)));
    products(&size, pairs, bias, after)
}

/// Tokens `[batch, pixels, in]`, or a picture `[batch, in, height, width]`, to `[batch, out, pixels]` or
/// `[batch, out, height, width]`; `None` where libtorch is to compute it.
pub(super) fn pixels(x: &Tensor, layer: &Parameters, after: After<'_>) -> Option<Tensor> {
    let (out, into) = features(layer)?;
    let (size, rows) = match *x.size().as_slice() {
        [batch, rows, width] if width == into => (vec![batch, out, rows], rows),
        [batch, width, h, w] if width == into => (vec![batch, out, h, w], h * w),
        _ => return None,
    };
    if !fits(x, layer, after) {
        return None;
    }
    let x = x.contiguous();
    let [rows, into, out] = [rows, into, out].map(count);
    let weight = Matrix::row_by_row(stored(&layer.weight)?, out, into);
    let right = |x| match size.len() {
        3 => Matrix::column_by_column(x, into, rows),
        _ => Matrix::row_by_row(x, into, rows),
    };
    let pairs = parts(&x, *size.first()?).map(|x| (weight, right(x)));
    let bias = layer.bias.as_ref().map(Tensor::contiguous);
    let bias = bias
        .as_ref()
        .map_or(Bias::Nothing, |bias| Bias::Rows(values(bias)));
    products(&size, pairs, bias, after)
}

/// Out and in, of a matrix or a convolution with a kernel of one.
fn features(layer: &Parameters) -> Option<(i64, i64)> {
    match layer.weight.size().as_slice() {
        &[out, into] | &[out, into, 1, 1] => Some((out, into)),
        _ => None,
    }
}

/// Whether the kernel can read all of it and has vectors to be faster by.
fn fits(x: &Tensor, layer: &Parameters, after: After<'_>) -> bool {
    let added = match after {
        After::Add(other) => Some(other),
        After::Nothing | After::Gate => None,
    };
    let all = [x].into_iter().chain(&layer.bias).chain(added);
    Simd::detect() != Simd::PORTABLE && stored(&layer.weight).is_some() && all_plain(all)
}

/// Equal parts of the values, one after the other.
fn parts(x: &Tensor, count: i64) -> impl Iterator<Item = &[f32]> {
    let length = x.numel() / self::count(count).max(1);
    values(x).chunks_exact(length.max(1))
}

/// A tensor of this size, part by part the products of these pairs.
fn products<'a>(
    size: &[i64],
    pairs: impl Iterator<Item = (Matrix<'a>, Matrix<'a>)>,
    bias: Bias<'a>,
    after: After<'_>,
) -> Option<Tensor> {
    let added = match after {
        After::Add(other) if other.size() != size => return None,
        After::Add(other) => Some(other.contiguous()),
        After::Nothing | After::Gate => None,
    };
    let mut y = empty(size);
    let mut rest = values_mut(&mut y);
    let mut added = added.as_ref().map(values);
    for (left, right) in pairs {
        let length =
            left.rows() * right.columns() / if matches!(after, After::Gate) { 2 } else { 1 };
        let (part, others) = rest.split_at_mut(length);
        let finish = match (after, added) {
            (After::Gate, _) => Finish::Gate,
            (_, Some(all)) => {
                let (here, others) = all.split_at(length);
                added = Some(others);
                Finish::Add(here)
            }
            (_, None) => Finish::Nothing,
        };
        let product = Product {
            left,
            right,
            bias,
            finish,
        };
        product.run(part, Simd::detect(), threads());
        rest = others;
    }
    Some(y)
}

#[cfg(test)]
mod tests {
    use tch::Kind;

    use super::super::plain::both_ways::{ramp, same_both_ways};
    use super::super::{Branch, Budget, Conv2d, Exactly, Linear, Weights};
    use super::*;

    fn weights() -> Weights {
        let named = [
            ("linear.weight", ramp(&[48, 700], 0.3)),
            ("linear.bias", ramp(&[48], 1.0)),
            ("conv.weight", ramp(&[48, 700, 1, 1], 0.3)),
            ("conv.bias", ramp(&[48], 1.0)),
        ];
        let named = named.map(|(name, tensor)| (name.to_owned(), tensor));
        Weights::new("test", named.into())
    }

    #[test]
    fn layers_compute_the_same_by_the_kernel_and_by_libtorch() {
        let weights = weights();
        let linear = Linear::new(&weights.root().child("linear"), 700, 48).unwrap();
        let conv = Conv2d::new(&weights.root().child("conv"), 700, 48, 1).unwrap();
        let tokens = ramp(&[2, 30, 700], 1.0);
        let picture = ramp(&[2, 700, 5, 6], 1.0);
        let before = ramp(&[2, 48, 5, 6], 1.0);
        same_both_ways(|| linear.forward(&tokens));
        same_both_ways(|| linear.forward(&picture.flatten(2, 3).transpose(1, 2)));
        same_both_ways(|| linear.forward(&ramp(&[2, 700, 30, 3], 1.0).transpose(1, 3)));
        same_both_ways(|| linear.forward_added(&tokens, &ramp(&[2, 30, 48], 1.0)));
        same_both_ways(|| linear.forward_gated(&tokens));
        same_both_ways(|| linear.forward_pixels(&tokens, &before));
        same_both_ways(|| conv.forward(&picture));
        same_both_ways(|| conv.forward_added(&picture, &before));
    }

    #[test]
    fn weights_stored_in_16_bits_are_read_as_they_lie() {
        let named = [
            ("linear.weight", ramp(&[48, 700], 0.3)),
            ("conv.weight", ramp(&[48, 700, 1, 1], 0.3)),
            ("wide.weight", ramp(&[48, 700, 3, 3], 0.3)),
        ];
        let layers = |kind: Kind, room: &Budget| {
            let stored = named.each_ref().map(|(name, tensor)| {
                let short = tensor.to_kind(kind);
                ((*name).to_owned(), short)
            });
            let weights =
                Weights::new("test", stored.into()).computing_in(Kind::Float, room.clone());
            let root = weights.root();
            let linear = Linear::without_bias(&root.child("linear"), 700, 48).unwrap();
            let conv = Conv2d::unbiased(&root.child("conv"), 700, 48, 1).unwrap();
            let wide = Conv2d::unbiased(&root.child("wide"), 700, 48, 3).unwrap();
            let picture = ramp(&[2, 700, 9, 8], 1.0);
            [
                linear.forward(&ramp(&[2, 30, 700], 1.0)),
                linear.forward(&ramp(&[2, 200, 700], 1.0)),
                conv.forward(&picture),
                wide.forward(&picture),
            ]
        };
        let _no_grad = tch::no_grad_guard();
        for kind in [Kind::Half, Kind::BFloat16] {
            let room = Budget::of(1 << 30);
            let fast = layers(kind, &room);
            let made = (1 << 30) - room.left();
            let exact = {
                let _exactly = Exactly::when(true);
                layers(kind, &room)
            };
            for (fast, exact) in fast.iter().zip(exact) {
                let error = ((fast - &exact).abs().max() / exact.abs().max()).double_value(&[]);
                assert!(error < 1e-5, "{kind:?} {error:e}");
            }
            if Simd::detect() != Simd::PORTABLE {
                assert_eq!(made, 0, "{kind:?}: weights were converted");
            }
        }
    }

    #[test]
    fn a_loras_branch_takes_part_in_all_of_them() {
        let weights = weights();
        let linear = Linear::new(&weights.root().child("linear"), 700, 48).unwrap();
        let (tokens, before) = (ramp(&[2, 30, 700], 1.0), ramp(&[2, 48, 5, 6], 1.0));
        let without = linear.forward_gated(&tokens);
        let branch = Branch {
            down: ramp(&[4, 700], 0.5),
            mid: None,
            up: ramp(&[48, 4], 0.5),
            scale: 1.0,
        };
        weights.adapters()["linear"].attach(branch).unwrap();
        assert!(
            !linear
                .forward_gated(&tokens)
                .allclose(&without, 1e-3, 1e-3, false)
        );
        same_both_ways(|| linear.forward_added(&tokens, &ramp(&[2, 30, 48], 1.0)));
        same_both_ways(|| linear.forward_gated(&tokens));
        same_both_ways(|| linear.forward_pixels(&tokens, &before));
        // The change belongs to the layer; what is added comes after it, to the last bit.
        let _exactly = Exactly::when(true);
        let other = ramp(&[2, 30, 48], 300.0);
        let added = linear.forward(&tokens) + &other;
        assert!(linear.forward_added(&tokens, &other).equal(&added));
    }

    #[test]
    fn the_numbers_of_a_picture_do_not_depend_on_how_many_are_drawn_at_once() {
        let linear = Linear::new(&weights().root().child("linear"), 700, 48).unwrap();
        for tokens in [1, 9, 40] {
            let x = ramp(&[16, tokens, 700], 1.0);
            let (all, one) = (linear.forward(&x), linear.forward(&x.narrow(0, 0, 1)));
            assert!(one.equal(&all.narrow(0, 0, 1)), "{tokens}");
        }
    }

    #[test]
    fn where_a_gradient_is_wanted_libtorch_multiplies() {
        let linear = Linear::new(&weights().root().child("linear"), 700, 48).unwrap();
        let x = ramp(&[2, 30, 700], 1.0).set_requires_grad(true);
        linear.forward_gated(&x).sum(Kind::Float).backward();
        assert!(x.grad().abs().max().double_value(&[]) > 0.0);
    }
}
