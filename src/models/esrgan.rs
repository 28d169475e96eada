//! Real-ESRGAN's compact network: a picture, larger and crisp.
//!
//! Plain convolutions at the small size, then pixels are shuffled out of channels and added to the
//! picture as it is. Its size follows from its tensors: there is no config.
//! Source: Real-ESRGAN `realesrgan/archs/srvgg_arch.py` (`SRVGGNetCompact`, PReLU), v0.3.0.

use tch::{Device, Kind, Tensor};

use crate::error::{Error, Result};
use crate::models::layers::{Conv2d, Scope, Weights, profile};

/// Deeper than any compact network; a file of that many tensors is something else.
const MAX_LAYERS: usize = 256;

/// The network; see the module.
#[derive(Debug)]
pub struct RealEsrganCompact {
    /// How many times higher and wider the picture becomes.
    pub scale: i64,
    /// Convolutions, each but the last with the slopes of the PReLU after it.
    body: Vec<(Conv2d, Tensor)>,
    last: Conv2d,
}

impl RealEsrganCompact {
    /// Errors: [`Error::Model`] if the tensors are not those of such a network.
    pub fn new(weights: &Weights) -> Result<Self> {
        let scope = weights.root().child("body");
        let channels = out_channels(&scope, 0)?;
        let mut body = Vec::new();
        let mut in_channels = 3;
        let mut index = 0;
        // body.0 convolution, body.1 PReLU, body.2 convolution, ..., body.n the last convolution.
        while scope.index(index + 1).has("weight") {
            if index > MAX_LAYERS {
                return Err(scope.error("it has too many layers"));
            }
            let conv = Conv2d::new(&scope.index(index), in_channels, channels, 3)?;
            let slopes = scope.index(index + 1).tensor("weight", &[channels])?;
            body.push((conv, slopes));
            in_channels = channels;
            index += 2;
        }
        let out = out_channels(&scope, index)?;
        let scale = (1..=8)
            .find(|scale| 3 * scale * scale == out)
            .ok_or_else(|| scope.error(format!("{out} channels at its end make no picture")))?;
        let last = Conv2d::new(&scope.index(index), in_channels, out, 3)?;
        weights.check_complete()?;
        Ok(Self { scale, body, last })
    }

    /// How many pixels around it a pixel of the picture reaches: one for each 3x3 convolution.
    pub fn radius(&self) -> i64 {
        self.body.len() as i64 + 1
    }

    pub fn kind(&self) -> Kind {
        self.last.kind()
    }

    pub fn device(&self) -> Device {
        self.last.device()
    }

    /// `image`: `[batch, 3, height, width]` in `[0, 1]`, in [`Self::kind`] on [`Self::device`]. Returns
    /// `[batch, 3, scale * height, scale * width]`, about `[0, 1]`: not clamped. Not tiled.
    ///
    /// Errors: [`Error::Shape`].
    pub fn forward(&self, image: &Tensor) -> Result<Tensor> {
        let got = image.size();
        let (height, width) = match got.as_slice() {
            &[_, 3, height, width] if height > 0 && width > 0 => (height, width),
            _ => {
                return Err(Error::Shape {
                    what: "The upscaler's picture",
                    got,
                    expected: "[batch, 3, height, width]".to_owned(),
                });
            }
        };
        Ok(profile::part("upscaler", || {
            self.enlarged(image, [self.scale * height, self.scale * width])
        }))
    }

    fn enlarged(&self, image: &Tensor, large: [i64; 2]) -> Tensor {
        let mut x = image.shallow_clone();
        for (conv, slopes) in &self.body {
            x = conv.forward(&x).prelu(slopes);
        }
        let base = image.upsample_nearest2d(large, None, None);
        self.last
            .forward(&x)
            .pixel_shuffle(self.scale)
            .g_add_(&base)
    }
}

/// How many channels the convolution `body.index` makes.
fn out_channels(scope: &Scope, index: usize) -> Result<i64> {
    let shape = scope.index(index).shape("weight").unwrap_or_default();
    match shape.as_slice() {
        &[out, _, 3, 3] if out > 0 => Ok(out),
        _ => Err(scope.error(format!(
            "no convolution is at {index}: this is not a compact Real-ESRGAN network"
        ))),
    }
}
