//! What LoRA files call the layers of a model.
//!
//! Names as kohya-ss/sd-scripts `networks/lora.py`, peft, ComfyUI and diffusers 0.42.1
//! (`loaders/lora_conversion_utils.py`) write them. Those made for Stable Diffusion XL mostly name the
//! UNet's layers as the code does that it was trained with (`input_blocks_4_1_...`).

use crate::families::Part;

/// The names that files use for the layer `name` of `part`.
pub(super) fn aliases(part: Part, name: &str, unet: UnetShape) -> Vec<String> {
    match part {
        Part::Unet => {
            let mut aliases = vec![name.to_owned(), format!("unet.{name}")];
            let ldm = unet.ldm_name(name);
            aliases.extend(ldm.iter().map(|name| format!("diffusion_model.{name}")));
            for name in ldm.iter().map(String::as_str).chain([name]) {
                let flat = name.replace('.', "_");
                aliases.extend(["lora_unet", "lycoris"].map(|root| format!("{root}_{flat}")));
            }
            aliases
        }
        Part::TextEncoder => text_aliases(name, &["lora_te", "lora_te1"], "text_encoder", "clip_l"),
        Part::TextEncoder2 => text_aliases(name, &["lora_te2"], "text_encoder_2", "clip_g"),
        Part::Vae => Vec::new(),
    }
}

/// `flat`: what kohya's names begin with; `dotted`: diffusers'; `comfy`: ComfyUI's.
fn text_aliases(name: &str, flat: &[&str], dotted: &str, comfy: &str) -> Vec<String> {
    let bare = name.strip_prefix("text_model.").unwrap_or(name);
    // The projection stands beside the model.
    let name = match bare {
        "text_projection" => bare.to_owned(),
        _ => format!("text_model.{bare}"),
    };
    let underscored = name.replace('.', "_");
    let flat = flat.iter().map(|root| format!("{root}_{underscored}"));
    let dotted = [
        format!("{dotted}.{name}"),
        format!("{dotted}.{bare}"),
        format!("text_encoders.{comfy}.transformer.{name}"),
    ];
    flat.chain(dotted).collect()
}

/// What the names of a UNet's layers depend on in latent-diffusion's spelling.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct UnetShape {
    /// Residual blocks of one size on the way down.
    layers_per_block: usize,
    /// Bit `i`: block `i` of the way up has transformers.
    attentions_up: u64,
}

impl UnetShape {
    /// Reads it out of the names of all layers, in diffusers' spelling.
    pub(super) fn of<'a>(names: impl Iterator<Item = &'a str>) -> Self {
        let mut shape = Self {
            layers_per_block: 0,
            attentions_up: 0,
        };
        for name in names {
            match name.split('.').collect::<Vec<_>>().as_slice() {
                ["down_blocks", "0", "resnets", layer, ..] => {
                    let count = layer.parse::<usize>().map_or(0, |layer| layer + 1);
                    shape.layers_per_block = shape.layers_per_block.max(count);
                }
                ["up_blocks", block, "attentions", ..] => {
                    let block = block.parse().unwrap_or(u32::MAX);
                    shape.attentions_up |= 1u64.checked_shl(block).unwrap_or_default();
                }
                _ => {}
            }
        }
        shape
    }

    /// `down_blocks.1.attentions.0.proj_in` to `input_blocks.4.1.proj_in`: the other way round than
    /// diffusers' `_maybe_map_sgm_blocks_to_diffusers`, for layers instead of tensors.
    fn ldm_name(self, name: &str) -> Option<String> {
        let parts: Vec<&str> = name.split('.').collect();
        // Each size has one more block than layers on the way down: its step down.
        let blocks = self.layers_per_block + 1;
        let place = |block: &str, layer: usize| {
            let block: usize = block.parse().ok()?;
            block.checked_mul(blocks)?.checked_add(layer)
        };
        Some(match parts.as_slice() {
            ["conv_in"] => "input_blocks.0.0".to_owned(),
            ["conv_norm_out"] => "out.0".to_owned(),
            ["conv_out"] => "out.2".to_owned(),
            ["time_embedding", "linear_1"] => "time_embed.0".to_owned(),
            ["time_embedding", "linear_2"] => "time_embed.2".to_owned(),
            ["add_embedding", "linear_1"] => "label_emb.0.0".to_owned(),
            ["add_embedding", "linear_2"] => "label_emb.0.2".to_owned(),
            ["down_blocks", block, "downsamplers", "0", "conv"] => {
                format!("input_blocks.{}.0.op", place(block, blocks)?)
            }
            ["down_blocks", block, kind, layer, rest @ ..] => {
                let block = place(block, layer.parse::<usize>().ok()?.checked_add(1)?)?;
                format!("input_blocks.{block}.{}", of_block(kind, rest)?)
            }
            ["mid_block", "resnets", layer, rest @ ..] => {
                let block = if *layer == "0" { 0 } else { 2 };
                format!("middle_block.{block}.{}", resnet_name(rest)?)
            }
            ["mid_block", "attentions", "0", rest @ ..] => {
                format!("middle_block.1.{}", rest.join("."))
            }
            ["up_blocks", block, "upsamplers", "0", "conv"] => {
                let attention = self.attentions_up >> block.parse::<u32>().ok()?.min(63) & 1;
                let last = place(block, self.layers_per_block)?;
                format!("output_blocks.{last}.{}.conv", 1 + attention)
            }
            ["up_blocks", block, kind, layer, rest @ ..] => {
                let block = place(block, layer.parse().ok()?)?;
                format!("output_blocks.{block}.{}", of_block(kind, rest)?)
            }
            _ => return None,
        })
    }
}

fn of_block(kind: &str, rest: &[&str]) -> Option<String> {
    match kind {
        "resnets" => Some(format!("0.{}", resnet_name(rest)?)),
        "attentions" => Some(format!("1.{}", rest.join("."))),
        _ => None,
    }
}

fn resnet_name(rest: &[&str]) -> Option<&'static str> {
    Some(match rest {
        ["norm1"] => "in_layers.0",
        ["conv1"] => "in_layers.2",
        ["norm2"] => "out_layers.0",
        ["conv2"] => "out_layers.3",
        ["time_emb_proj"] => "emb_layers.1",
        ["conv_shortcut"] => "skip_connection",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Stable Diffusion XL: three sizes, the last two with transformers on the way down, the first two
    /// on the way up.
    const XL: UnetShape = UnetShape {
        layers_per_block: 2,
        attentions_up: 0b011,
    };

    #[test]
    fn the_shape_is_read_out_of_the_names() {
        let names = [
            "down_blocks.0.resnets.0.conv1",
            "down_blocks.0.resnets.1.conv1",
            "up_blocks.0.attentions.2.proj_in",
            "up_blocks.1.attentions.0.proj_in",
            "up_blocks.2.resnets.0.conv1",
            "down_blocks.1.attentions.0.proj_in",
        ];
        assert_eq!(UnetShape::of(names.into_iter()), XL);
    }

    /// Where diffusers puts each layer of kohya's files for SDXL (`tests/reference/lora_kinds.py`).
    #[test]
    fn layers_have_the_names_of_the_code_that_the_model_was_trained_with() {
        let file = std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("tests/reference/data/lora/names.json");
        let text = std::fs::read(file).unwrap();
        let names: std::collections::BTreeMap<String, String> =
            serde_json::from_slice(&text).unwrap();
        assert_eq!(UnetShape::of(names.keys().map(String::as_str)), XL);
        assert!(names.len() > 200, "{}", names.len());
        for (name, kohya) in names {
            let aliases = aliases(Part::Unet, &name, XL);
            assert!(aliases.contains(&kohya), "{kohya} is not in {aliases:?}");
        }
        // Norms, which diffusers leaves out.
        for (name, ldm) in [
            (
                "down_blocks.1.resnets.0.norm1",
                "input_blocks.4.0.in_layers.0",
            ),
            ("mid_block.resnets.1.norm2", "middle_block.2.out_layers.0"),
            ("up_blocks.0.attentions.2.norm", "output_blocks.2.1.norm"),
            ("conv_norm_out", "out.0"),
        ] {
            assert_eq!(XL.ldm_name(name).as_deref(), Some(ldm));
        }
    }

    #[test]
    fn a_block_without_transformers_steps_up_after_its_residual_block() {
        let plain = UnetShape {
            attentions_up: 0b1110,
            ..XL
        };
        let name = |block| plain.ldm_name(&format!("up_blocks.{block}.upsamplers.0.conv"));
        assert_eq!(name(0).as_deref(), Some("output_blocks.2.1.conv"));
        assert_eq!(name(1).as_deref(), Some("output_blocks.5.2.conv"));
    }
}
