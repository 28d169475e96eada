//! A large feature map as strips of rows, so that a layer at a time needs little beside it.
//!
//! The VAE's last layers hold hundreds of channels at the picture's full size, and a residual block
//! wants several such maps at once. Convolutions only look one row up and down and normalisation is one
//! number a channel once its statistics are known, so both go strip by strip, each strip freed as soon
//! as its neighbour below is done: nothing is approximated and there are no seams. (diffusers'
//! `enable_tiling` decodes overlapping tiles, each with statistics of its own, and blends them.)

use std::collections::VecDeque;

use tch::Tensor;

use super::{Activation, Conv2d, GroupNorm};

/// Consecutive rows of `[batch, channels, height, width]`, from the top.
#[derive(Debug)]
pub struct Strips(VecDeque<Tensor>);

impl Strips {
    pub fn whole(x: Tensor) -> Self {
        Self(VecDeque::from([x]))
    }

    /// Cuts strips until `channels` of them, of 2-byte or 4-byte values as they are, take no more than
    /// `bytes`; one row is never cut.
    pub fn limited(self, channels: i64, bytes: i64) -> Self {
        let cut = |strip: Tensor| {
            let size = strip.size();
            let [batch, _, rows, width] = size.as_slice() else {
                return vec![strip];
            };
            let value = strip.kind().elt_size_in_bytes() as i64;
            let most = (bytes / (batch * channels * width * value).max(1)).max(1);
            if *rows <= most {
                return vec![strip];
            }
            let count = rows.div_euclid(most) + i64::from(rows % most > 0);
            strip.chunk(count, 2)
        };
        Self(self.0.into_iter().flat_map(cut).collect())
    }

    /// How to normalise rows of this map with the statistics of all of it.
    pub fn normalizer<'a>(&self, norm: &'a GroupNorm) -> Normalizer<'a> {
        match self.0.len() {
            0 | 1 => Normalizer::Whole(norm),
            _ => {
                let (scale, shift) = norm.scale_and_shift(&self.0);
                Normalizer::Known { scale, shift }
            }
        }
    }

    /// Each strip with a row of its neighbours, from the top, freed on the way.
    pub fn windows(self) -> Windows {
        Windows {
            above: None,
            strips: self.0,
        }
    }

    pub fn joined(self) -> Tensor {
        let mut strips = self.0;
        match (strips.pop_front(), strips.is_empty()) {
            (Some(only), true) => only,
            (first, _) => Tensor::cat(&first.into_iter().chain(strips).collect::<Vec<_>>(), 2),
        }
    }
}

impl FromIterator<Tensor> for Strips {
    fn from_iter<I: IntoIterator<Item = Tensor>>(strips: I) -> Self {
        Self(strips.into_iter().collect())
    }
}

/// A normalisation whose statistics are those of the whole map.
pub enum Normalizer<'a> {
    /// The map is one strip: libtorch's own kernel takes them on the way.
    Whole(&'a GroupNorm),
    /// `[batch, channels, 1, 1]` each.
    Known { scale: Tensor, shift: Tensor },
}

impl Normalizer<'_> {
    /// Normalised and activated, a new tensor.
    pub fn forward_activated(&self, rows: &Tensor, activation: Activation) -> Tensor {
        match self {
            Self::Whole(norm) => norm.forward_activated(rows, activation),
            Self::Known { scale, shift } => activation.forward((rows * scale).g_add_(shift)),
        }
    }
}

/// See [`Strips::windows`].
pub struct Windows {
    /// The row above the next strip.
    above: Option<Tensor>,
    strips: VecDeque<Tensor>,
}

impl Iterator for Windows {
    type Item = Window;

    fn next(&mut self) -> Option<Window> {
        let strip = self.strips.pop_front()?;
        let below = self.strips.front().map(|next| next.narrow(2, 0, 1));
        let last = strip.size().get(2).map_or(0, |rows| rows - 1);
        let above = match self.strips.is_empty() {
            true => self.above.take(),
            // A copy: a view would keep the strip alive.
            false => self.above.replace(strip.narrow(2, last, 1).copy()),
        };
        Some(Window {
            above,
            strip,
            below,
        })
    }
}

/// A strip and the rows beside it.
pub struct Window {
    above: Option<Tensor>,
    pub strip: Tensor,
    below: Option<Tensor>,
}

impl Window {
    /// The strip's rows of `conv(prepare(map))`, for a 3x3 convolution that is padded by 1. `prepare`
    /// must look at no neighbours; it may repeat rows, `factor` times.
    pub fn convolved(
        &self,
        conv: &Conv2d,
        factor: i64,
        prepare: impl FnOnce(&Tensor) -> Tensor,
    ) -> Tensor {
        let (above, below) = match (&self.above, &self.below) {
            (None, None) => return conv.forward(&prepare(&self.strip)),
            (above, below) => (above.as_ref(), below.as_ref()),
        };
        let parts: Vec<_> = above
            .into_iter()
            .chain([&self.strip])
            .chain(below)
            .collect();
        let prepared = prepare(&Tensor::cat(&parts, 2));
        // One row of each neighbour is looked at, or the zeros that pad the map.
        let beside = |neighbour: Option<&Tensor>| neighbour.map_or(1, |_| 1 - factor);
        match (beside(above), beside(below)) {
            (0, 0) => conv.forward_rows(&prepared),
            (top, bottom) => conv.forward_rows(&prepared.constant_pad_nd([0, 0, top, bottom])),
        }
    }
}

#[cfg(test)]
mod tests {
    use tch::{Device, Kind};

    use super::*;
    use crate::models::layers::Weights;

    fn noise(shape: &[i64]) -> Tensor {
        Tensor::randn(shape, (Kind::Float, Device::Cpu))
    }

    fn largest_difference(a: &Tensor, b: &Tensor) -> f64 {
        assert_eq!(a.size(), b.size());
        (a - b).abs().max().double_value(&[])
    }

    /// A normalisation of 4 channels in 2 groups and a convolution to 6.
    fn layers() -> (GroupNorm, Conv2d) {
        let tensors = [
            ("norm.weight", noise(&[4])),
            ("norm.bias", noise(&[4])),
            ("conv.weight", noise(&[6, 4, 3, 3])),
            ("conv.bias", noise(&[6])),
        ];
        let named = tensors.map(|(name, tensor)| (name.to_owned(), tensor));
        let weights = Weights::new("test", named.into_iter().collect());
        let root = weights.root();
        (
            GroupNorm::new(&root.child("norm"), 2, 4, 1e-6).unwrap(),
            Conv2d::new(&root.child("conv"), 4, 6, 3).unwrap(),
        )
    }

    #[test]
    fn strips_give_what_the_whole_gives() {
        tch::manual_seed(3);
        let (norm, conv) = layers();
        for rows in [1, 2, 7, 16] {
            let x = noise(&[2, 4, rows, 5]) * 3.0 + 10.0;
            let wanted = conv.forward(&Activation::Silu.forward(norm.forward(&x)));
            let enlarged = conv.forward(&x.upsample_nearest2d([2 * rows, 10], None, None));
            for rows_a_strip in [1, 3, 100] {
                let bytes = rows_a_strip * 2 * 4 * 5 * 4;
                let strips = || Strips::whole(x.shallow_clone()).limited(4, bytes);
                assert_eq!(
                    strips().0.len() as i64,
                    (rows + rows_a_strip - 1) / rows_a_strip
                );
                let norm = strips().normalizer(&norm);
                let got: Strips = strips()
                    .windows()
                    .map(|w| w.convolved(&conv, 1, |x| norm.forward_activated(x, Activation::Silu)))
                    .collect();
                assert!(largest_difference(&got.joined(), &wanted) < 1e-4);
                let twice = |x: &Tensor| {
                    let (_, _, rows, width) = x.size4().unwrap();
                    x.upsample_nearest2d([2 * rows, 2 * width], None, None)
                };
                let got: Strips = strips()
                    .windows()
                    .map(|w| w.convolved(&conv, 2, twice))
                    .collect();
                assert!(largest_difference(&got.joined(), &enlarged) < 1e-4);
            }
        }
    }
}
