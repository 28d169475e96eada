//! A two-dimensional convolution built from named tensors.

use tch::Tensor;

use super::{Adapters, Scope};
use crate::error::Result;

/// `weight`: `[out_channels, in_channels, kernel, kernel]`, `bias`: `[out_channels]`.
#[derive(Debug)]
pub struct Conv2d {
    weight: Tensor,
    bias: Tensor,
    stride: i64,
    padding: i64,
    adapters: Adapters,
}

impl Conv2d {
    /// Stride 1, padded so that an odd kernel keeps the size.
    pub fn new(scope: &Scope, in_channels: i64, out_channels: i64, kernel: i64) -> Result<Self> {
        Ok(Self {
            weight: scope.tensor("weight", &[out_channels, in_channels, kernel, kernel])?,
            bias: scope.tensor("bias", &[out_channels])?,
            adapters: scope.adapters(&[out_channels, in_channels, kernel, kernel]),
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
        let y = x.conv2d(
            &self.weight,
            Some(&self.bias),
            [self.stride; 2],
            [self.padding; 2],
            [1, 1],
            1,
        );
        self.adapters.add_conv(x, y, self.stride, self.padding)
    }

    /// What the network computes in, and where.
    pub fn weight(&self) -> &Tensor {
        &self.weight
    }
}
