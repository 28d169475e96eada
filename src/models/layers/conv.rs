//! A two-dimensional convolution built from named tensors.

use tch::{Device, Kind, Tensor};

use super::product::{After, pixels};
use super::winograd::Winograd;
use super::{Adapters, Scope, profile};
use crate::error::Result;

/// `weight`: `[out_channels, in_channels, kernel, kernel]`, `bias`: `[out_channels]`.
#[derive(Debug)]
pub struct Conv2d {
    stride: i64,
    padding: i64,
    adapters: Adapters,
    winograd: Winograd,
}

impl Conv2d {
    /// Stride 1, padded so that an odd kernel keeps the size.
    pub fn new(scope: &Scope, in_channels: i64, out_channels: i64, kernel: i64) -> Result<Self> {
        let weight = scope.stored("weight", &[out_channels, in_channels, kernel, kernel])?;
        let bias = scope.tensor("bias", &[out_channels])?;
        Ok(Self {
            adapters: scope.adapters(&weight, Some(&bias)),
            winograd: Winograd::new(scope.budget()),
            stride: 1,
            padding: (kernel - 1) / 2,
        })
    }

    /// As [`Self::new`], of a layer that has no bias.
    pub fn unbiased(
        scope: &Scope,
        in_channels: i64,
        out_channels: i64,
        kernel: i64,
    ) -> Result<Self> {
        let weight = scope.stored("weight", &[out_channels, in_channels, kernel, kernel])?;
        Ok(Self {
            adapters: scope.adapters(&weight, None),
            winograd: Winograd::new(scope.budget()),
            stride: 1,
            padding: (kernel - 1) / 2,
        })
    }

    pub fn with_stride(self, stride: i64, padding: i64) -> Self {
        Self {
            stride,
            padding,
            ..self
        }
    }

    /// `[batch, in_channels, height, width]` to `[batch, out_channels, height', width']`.
    pub fn forward(&self, x: &Tensor) -> Tensor {
        self.padded(x, [self.padding; 2], After::Nothing)
    }

    /// [`Self::forward`] plus `other`, of the shape of the output.
    pub fn forward_added(&self, x: &Tensor, other: &Tensor) -> Tensor {
        self.padded(x, [self.padding; 2], After::Add(other))
    }

    /// The same for rows out of a larger map: the rows above and below that the kernel looks at are
    /// part of `x`, and only the columns are padded.
    pub fn forward_rows(&self, x: &Tensor) -> Tensor {
        self.padded(x, [0, self.padding], After::Nothing)
    }

    fn padded(&self, x: &Tensor, padding: [i64; 2], after: After<'_>) -> Tensor {
        // A LoRA's change belongs to the layer, what is added comes after it.
        if self.adapters.has_branches() && !matches!(after, After::Nothing) {
            return plus(self.padded(x, padding, After::Nothing), after);
        }
        let y = profile::layer(self.name(), || {
            match (self.stride, padding, self.kernel()) {
                (1, [0, 0], Some(1)) => pixels(x, &self.adapters.as_stored(), after),
                (1, ..) => self
                    .winograd
                    .forward(x, &self.adapters, padding)
                    .map(|y| plus(y, after)),
                _ => None,
            }
            .unwrap_or_else(|| {
                let own = self.adapters.current();
                let (weight, bias) = (&own.weight, own.bias.as_ref());
                let y = x.conv2d(weight, bias, [self.stride; 2], padding, [1, 1], 1);
                plus(y, after)
            })
        });
        self.adapters.add_conv(x, y, self.stride, padding)
    }

    /// Rows of its window.
    fn kernel(&self) -> Option<i64> {
        self.adapters.shape().last().copied()
    }

    /// What a profile calls it.
    fn name(&self) -> &'static str {
        match (self.kernel(), self.stride) {
            (Some(1), _) => "convolution 1x1",
            (Some(3), 1) => "convolution 3x3",
            _ => "convolution, other",
        }
    }

    /// Out and in.
    pub fn channels(&self) -> (i64, i64) {
        let size = self.adapters.shape();
        let channels = |dim: usize| size.get(dim).copied().unwrap_or_default();
        (channels(0), channels(1))
    }

    /// What the network computes in.
    pub fn kind(&self) -> Kind {
        self.adapters.kind()
    }

    pub fn device(&self) -> Device {
        self.adapters.device()
    }
}

/// `y`, a new tensor, with what follows a convolution.
fn plus(mut y: Tensor, after: After<'_>) -> Tensor {
    match after {
        After::Add(other) => y.g_add_(other),
        After::Nothing | After::Gate => y,
    }
}
