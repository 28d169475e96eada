//! How a model's 3x3 convolutions are computed at a size on a processor, told from its headers alone:
//! `easel inspect --plan`.
//!
//! The sizes follow from the layers' names: the UNet halves its maps from level to level, the VAE's
//! decoder doubles them (diffusers `unet_2d_condition.py`, `vae.py`, 0.42.1).

use super::ModelFiles;
use crate::checkpoint::TensorHeader;
use crate::error::Result;
use crate::families::Part;
use crate::models::layers::ConvolutionPlanner;

/// One layer, at the size that it works at.
#[derive(Clone, Debug, PartialEq)]
pub struct PlannedConvolution {
    /// `unet` or `vae`.
    pub part: &'static str,
    pub layer: String,
    pub in_channels: i64,
    pub out_channels: i64,
    pub batch: i64,
    /// Of what it makes.
    pub height: i64,
    pub width: i64,
    /// `direct`, `Winograd F(4,3)`, ...
    pub method: String,
}

impl ModelFiles {
    /// The convolutions of a drawing of this size: the UNet's for both halves of guidance, and the
    /// VAE's as if the picture were decoded whole. Large pictures are decoded in strips of rows, for
    /// which the same way is the best in nearly all cases.
    ///
    /// Errors: [`crate::error::Error::Model`] naming a weights file that is missing or broken.
    pub fn convolutions(&self, width_px: u32, height_px: u32) -> Result<Vec<PlannedConvolution>> {
        let factor = self.vae.factor();
        let latents = [height_px, width_px].map(|side| i64::from(side) / factor);
        let mut planned = Vec::new();
        for (part, batch) in [(Part::Unet, 2), (Part::Vae, 1)] {
            let headers = self.headers(part)?;
            let levels = levels(&headers);
            let planner = ConvolutionPlanner::default();
            for header in &headers {
                let (Some(layer), &[out_channels, in_channels, 3, 3]) =
                    (header.name.strip_suffix(".weight"), header.shape.as_slice())
                else {
                    continue;
                };
                let Some(size) = size_at(part, layer, levels, latents) else {
                    continue;
                };
                let [height, width] = size;
                let method = planner.plan([in_channels, out_channels], batch, size);
                planned.push(PlannedConvolution {
                    part: part.name(),
                    layer: layer.to_owned(),
                    in_channels,
                    out_channels,
                    batch,
                    height,
                    width,
                    method: method.to_string(),
                });
            }
        }
        Ok(planned)
    }
}

/// How many sizes of maps a network has.
fn levels(headers: &[TensorHeader]) -> u32 {
    let blocks = headers
        .iter()
        .filter_map(|header| number_after(&header.name, "up_blocks."));
    blocks.max().map_or(1, |last| last + 1)
}

/// The number behind a word in a layer's name.
fn number_after(name: &str, word: &str) -> Option<u32> {
    let (_, rest) = name.split_once(word)?;
    rest.split('.').next()?.parse().ok()
}

/// Height and width of what a layer makes; `None` for those that a drawing does not use and those of
/// another stride than 1.
fn size_at(part: Part, layer: &str, levels: u32, latents: [i64; 2]) -> Option<[i64; 2]> {
    let up = number_after(layer, "up_blocks.");
    let enlarges = u32::from(layer.contains("upsamplers"));
    if layer.contains("downsamplers") {
        return None;
    }
    if part == Part::Vae {
        let decoder = layer.strip_prefix("decoder.")?;
        let doublings = match up {
            Some(block) => block + enlarges,
            None if decoder.starts_with("conv_out") => levels - 1,
            None => 0,
        };
        return Some(latents.map(|side| side << doublings.min(16)));
    }
    let halvings = match (number_after(layer, "down_blocks."), up) {
        (Some(block), _) => block,
        (None, Some(block)) => levels.saturating_sub(1 + block + enlarges),
        _ if layer.starts_with("mid_block") => levels - 1,
        _ => 0,
    };
    // A convolution of stride 2 rounds up.
    Some(latents.map(|side| (0..halvings.min(16)).fold(side, |side, _| (side + 1) / 2)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_layers_size_follows_from_its_name() {
        let unet = |layer| size_at(Part::Unet, layer, 4, [64, 96]);
        let vae = |layer| size_at(Part::Vae, layer, 4, [64, 96]);
        for (got, expected) in [
            (unet("conv_in"), Some([64, 96])),
            (unet("down_blocks.1.resnets.0.conv1"), Some([32, 48])),
            (unet("down_blocks.0.downsamplers.0.conv"), None),
            (unet("mid_block.resnets.1.conv2"), Some([8, 12])),
            (unet("up_blocks.0.resnets.2.conv1"), Some([8, 12])),
            (unet("up_blocks.0.upsamplers.0.conv"), Some([16, 24])),
            (unet("up_blocks.3.resnets.0.conv1"), Some([64, 96])),
            (unet("conv_out"), Some([64, 96])),
            (vae("decoder.mid_block.resnets.0.conv1"), Some([64, 96])),
            (
                vae("decoder.up_blocks.0.upsamplers.0.conv"),
                Some([128, 192]),
            ),
            (vae("decoder.up_blocks.3.resnets.0.conv1"), Some([512, 768])),
            (vae("decoder.conv_out"), Some([512, 768])),
            (vae("encoder.conv_in"), None),
        ] {
            assert_eq!(got, expected);
        }
        assert_eq!(
            size_at(Part::Unet, "mid_block.resnets.0.conv1", 4, [65, 9]),
            Some([9, 2])
        );
    }
}
