//! Tensor names of single-file checkpoints, which keep those of the code the models were trained with
//! (CompVis' latent-diffusion, Stability AI's generative-models, OpenCLIP), told in diffusers' names.
//!
//! Pure functions from name to name; no tensor is touched here. Source: diffusers 0.42.1
//! `loaders/single_file_utils.py` (`convert_ldm_unet_checkpoint`, `convert_ldm_vae_checkpoint`,
//! `convert_ldm_clip_checkpoint`, `convert_open_clip_checkpoint`).

use crate::checkpoint::{Cut, Piece};
use crate::families::Part;

pub(super) const UNET: &str = "model.diffusion_model.";
pub(super) const VAE: &str = "first_stage_model.";
pub(super) const CLIP: &str = "cond_stage_model.transformer.";
pub(super) const OPEN_CLIP: &str = "cond_stage_model.model.";
/// SDXL's two, and its refiner's one.
pub(super) const XL_CLIP: &str = "conditioner.embedders.0.transformer.";
pub(super) const XL_OPEN_CLIP: &str = "conditioner.embedders.1.model.";
pub(super) const REFINER_OPEN_CLIP: &str = "conditioner.embedders.0.model.";

/// What stable-diffusion.cpp calls SDXL's second where it writes a model; the first is called as
/// Stable Diffusion 1's.
pub(super) const CPP_SECOND_CLIP: &str = "cond_stage_model.1.transformer.";
/// The same layer as [`OPEN_CLIP_LAST_LAYER`] under transformers' names.
pub(super) const UNHEARD_LAYER: &str = "text_model.encoder.layers.23.";

/// Stable Diffusion 2 was trained on the states before OpenCLIP's last layer, of 24: files have it,
/// diffusers leaves it out (`SD_2_TEXT_ENCODER_KEYS_TO_IGNORE`).
const OPEN_CLIP_LAST_LAYER: &str = "23";

/// What a tensor of a checkpoint is.
#[derive(Clone, Debug, PartialEq)]
pub enum Meaning {
    /// A tensor of a network, or several that are stored as one.
    Tensors(Part, Vec<Piece>),
    /// Known, and of no use for drawing.
    Unused,
    Unknown,
}

/// The two numbers that names depend on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LdmNames {
    /// Residual blocks of one size on the UNet's way down.
    layers_per_block: usize,
    /// Sizes of the VAE.
    vae_blocks: usize,
}

impl LdmNames {
    /// Reads them out of the names of all tensors.
    pub fn of<'a>(keys: impl Iterator<Item = &'a str> + Clone) -> Self {
        let input_blocks = || {
            let of_unet = keys.clone().filter_map(|key| key.strip_prefix(UNET));
            of_unet.filter_map(|key| key.strip_prefix("input_blocks."))
        };
        let number = |rest: &str| rest.split('.').next()?.parse::<usize>().ok();
        // Block 0 is the first convolution, and each size ends with a step down, named `op`.
        let first_step_down = input_blocks()
            .filter(|rest| rest.ends_with(".0.op.weight"))
            .filter_map(number)
            .min();
        let last_block = || input_blocks().filter_map(number).max();
        Self {
            layers_per_block: first_step_down
                .map(|block| block.saturating_sub(1))
                .or_else(last_block)
                .unwrap_or_default(),
            vae_blocks: vae_blocks(keys.filter_map(|key| key.strip_prefix(VAE))),
        }
    }

    /// What the tensor `key` of a checkpoint is.
    pub fn meaning(self, key: &str) -> Meaning {
        let whole = |part, name: Option<String>| match name {
            Some(name) => Meaning::Tensors(part, vec![Piece::whole(name)]),
            None => Meaning::Unknown,
        };
        if let Some(key) = key.strip_prefix(UNET) {
            whole(Part::Unet, self.unet_name(key))
        } else if let Some(key) = key.strip_prefix(VAE) {
            vae_meaning(key, self.vae_blocks)
        } else if let Some(key) = key.strip_prefix(CLIP).or_else(|| key.strip_prefix(XL_CLIP)) {
            clip_meaning(Part::TextEncoder, key)
        } else if let Some(key) = key.strip_prefix(CPP_SECOND_CLIP) {
            clip_meaning(Part::TextEncoder2, key)
        } else if let Some(key) = key.strip_prefix(OPEN_CLIP) {
            open_clip_meaning(Part::TextEncoder, key)
        } else if let Some(key) = key
            .strip_prefix(XL_OPEN_CLIP)
            .or_else(|| key.strip_prefix(REFINER_OPEN_CLIP))
        {
            open_clip_meaning(Part::TextEncoder2, key)
        } else if is_of_training(key) {
            Meaning::Unused
        } else {
            Meaning::Unknown
        }
    }

    /// `input_blocks.4.1.proj_in.weight` to `down_blocks.1.attentions.0.proj_in.weight`.
    fn unet_name(self, key: &str) -> Option<String> {
        let parts: Vec<&str> = key.split('.').collect();
        // Each size of the way down has one more block than layers, its step down; each of the way
        // up has one more layer.
        let place = |block: usize| {
            let blocks = self.layers_per_block + 1;
            (block / blocks, block % blocks)
        };
        Some(match parts.as_slice() {
            ["time_embed", "0", leaf] => format!("time_embedding.linear_1.{leaf}"),
            ["time_embed", "2", leaf] => format!("time_embedding.linear_2.{leaf}"),
            // LCM's: diffusers' script, which knows no such layer, leaves its name as it is.
            ["time_embed" | "time_embedding", "cond_proj", leaf] => {
                format!("time_embedding.cond_proj.{leaf}")
            }
            ["label_emb", "0", "0", leaf] => format!("add_embedding.linear_1.{leaf}"),
            ["label_emb", "0", "2", leaf] => format!("add_embedding.linear_2.{leaf}"),
            ["input_blocks", "0", "0", leaf] => format!("conv_in.{leaf}"),
            ["out", "0", leaf] => format!("conv_norm_out.{leaf}"),
            ["out", "2", leaf] => format!("conv_out.{leaf}"),
            ["input_blocks", number, "0", "op", leaf] => {
                let (block, _) = place(number.parse::<usize>().ok()?.checked_sub(1)?);
                format!("down_blocks.{block}.downsamplers.0.conv.{leaf}")
            }
            ["input_blocks", number, kind, rest @ ..] => {
                let (block, layer) = place(number.parse::<usize>().ok()?.checked_sub(1)?);
                unet_layer(&format!("down_blocks.{block}"), layer, kind, rest)?
            }
            ["middle_block", "0", rest @ ..] => unet_layer("mid_block", 0, "0", rest)?,
            ["middle_block", "1", rest @ ..] => unet_layer("mid_block", 0, "1", rest)?,
            ["middle_block", "2", rest @ ..] => unet_layer("mid_block", 1, "0", rest)?,
            ["output_blocks", number, _, "conv", leaf] => {
                let (block, _) = place(number.parse().ok()?);
                format!("up_blocks.{block}.upsamplers.0.conv.{leaf}")
            }
            ["output_blocks", number, kind, rest @ ..] => {
                let (block, layer) = place(number.parse().ok()?);
                unet_layer(&format!("up_blocks.{block}"), layer, kind, rest)?
            }
            _ => return None,
        })
    }
}

/// How many sizes a VAE has; `keys` without a prefix.
pub(super) fn vae_blocks<'a>(keys: impl Iterator<Item = &'a str>) -> usize {
    keys.filter_map(|key| key.strip_prefix("decoder.up."))
        .filter_map(|rest| rest.split('.').next()?.parse::<usize>().ok())
        .max()
        .map_or(0, |last| last.saturating_add(1))
}

/// `kind` 0 is a residual block, 1 a transformer, which has the same names in diffusers.
fn unet_layer(block: &str, layer: usize, kind: &str, rest: &[&str]) -> Option<String> {
    match kind {
        "0" => Some(format!("{block}.resnets.{layer}.{}", resnet_name(rest)?)),
        "1" => Some(format!("{block}.attentions.{layer}.{}", rest.join("."))),
        _ => None,
    }
}

fn resnet_name(rest: &[&str]) -> Option<String> {
    Some(match rest {
        ["in_layers", "0", leaf] => format!("norm1.{leaf}"),
        ["in_layers", "2", leaf] => format!("conv1.{leaf}"),
        ["out_layers", "0", leaf] => format!("norm2.{leaf}"),
        ["out_layers", "3", leaf] => format!("conv2.{leaf}"),
        ["emb_layers", "1", leaf] => format!("time_emb_proj.{leaf}"),
        ["skip_connection", leaf] => format!("conv_shortcut.{leaf}"),
        _ => return None,
    })
}

/// `key` without a prefix: also the names of a VAE that is a file of its own.
pub(super) fn vae_meaning(key: &str, blocks: usize) -> Meaning {
    // What the VAE was trained against.
    if key.starts_with("loss.") || key.starts_with("model_ema.") {
        return Meaning::Unused;
    }
    match vae_name(key, blocks) {
        Some(name) => Meaning::Tensors(Part::Vae, vec![Piece::whole(name)]),
        None => Meaning::Unknown,
    }
}

/// `decoder.up.3.block.0.conv1.weight` to `decoder.up_blocks.0.resnets.0.conv1.weight`.
fn vae_name(key: &str, blocks: usize) -> Option<String> {
    let parts: Vec<&str> = key.split('.').collect();
    // diffusers counts the way up from the smallest size, latent-diffusion from the largest.
    let up = |number: &str| blocks.checked_sub(1)?.checked_sub(number.parse().ok()?);
    Some(match parts.as_slice() {
        ["quant_conv" | "post_quant_conv", _] => key.to_owned(),
        ["encoder" | "decoder", "conv_in" | "conv_out", _] => key.to_owned(),
        [half @ ("encoder" | "decoder"), "norm_out", leaf] => {
            format!("{half}.conv_norm_out.{leaf}")
        }
        ["encoder", "down", block, "block", layer, rest @ ..] => {
            format!(
                "encoder.down_blocks.{block}.resnets.{layer}.{}",
                vae_resnet(rest)
            )
        }
        ["encoder", "down", block, "downsample", "conv", leaf] => {
            format!("encoder.down_blocks.{block}.downsamplers.0.conv.{leaf}")
        }
        ["decoder", "up", block, "block", layer, rest @ ..] => {
            format!(
                "decoder.up_blocks.{}.resnets.{layer}.{}",
                up(block)?,
                vae_resnet(rest)
            )
        }
        ["decoder", "up", block, "upsample", "conv", leaf] => {
            format!("decoder.up_blocks.{}.upsamplers.0.conv.{leaf}", up(block)?)
        }
        [half, "mid", "block_1", rest @ ..] => {
            format!("{half}.mid_block.resnets.0.{}", vae_resnet(rest))
        }
        [half, "mid", "block_2", rest @ ..] => {
            format!("{half}.mid_block.resnets.1.{}", vae_resnet(rest))
        }
        [half, "mid", "attn_1", layer, leaf] => {
            let layer = match *layer {
                "norm" => "group_norm",
                "q" => "to_q",
                "k" => "to_k",
                "v" => "to_v",
                "proj_out" => "to_out.0",
                _ => return None,
            };
            format!("{half}.mid_block.attentions.0.{layer}.{leaf}")
        }
        _ => return None,
    })
}

fn vae_resnet(rest: &[&str]) -> String {
    rest.join(".").replace("nin_shortcut", "conv_shortcut")
}

/// The same names as in transformers; files of 2022 lack the first part of them.
fn clip_name(key: &str) -> String {
    if key.starts_with("text_model.") {
        key.to_owned()
    } else {
        format!("text_model.{key}")
    }
}

/// As [`clip_name`]; stable-diffusion.cpp keeps some of OpenCLIP's tensors as they were under such names.
fn clip_meaning(part: Part, key: &str) -> Meaning {
    let name = clip_name(key);
    if let Some((layer, leaf)) = name.split_once(".self_attn.in_proj.") {
        return Meaning::Tensors(part, packed(layer, leaf));
    }
    let piece = match (name.as_str(), part) {
        ("text_model.text_projection", Part::TextEncoder2) => Piece {
            name: "text_projection.weight".to_owned(),
            cut: Cut::Transposed,
        },
        ("text_model.text_projection" | "text_model.logit_scale", _) => return Meaning::Unused,
        _ => Piece::whole(name),
    };
    Meaning::Tensors(part, vec![piece])
}

/// `part` says which model's it is: Stable Diffusion 2's only one, or SDXL's second, which is whole.
fn open_clip_meaning(part: Part, key: &str) -> Meaning {
    let parts: Vec<&str> = key.split('.').collect();
    let pieces = match parts.as_slice() {
        ["transformer", "resblocks", OPEN_CLIP_LAST_LAYER, ..] | ["text_projection"]
            if part == Part::TextEncoder =>
        {
            return Meaning::Unused;
        }
        ["logit_scale" | "attn_mask"] => return Meaning::Unused,
        // Multiplied from the other side there.
        ["text_projection"] => vec![Piece {
            name: "text_projection.weight".to_owned(),
            cut: Cut::Transposed,
        }],
        ["positional_embedding"] => vec![Piece::whole(
            "text_model.embeddings.position_embedding.weight",
        )],
        ["token_embedding", "weight"] => {
            vec![Piece::whole("text_model.embeddings.token_embedding.weight")]
        }
        ["ln_final", leaf] => vec![Piece::whole(format!("text_model.final_layer_norm.{leaf}"))],
        ["transformer", "resblocks", layer, rest @ ..] => {
            let layer = format!("text_model.encoder.layers.{layer}");
            match rest {
                ["ln_1", leaf] => vec![Piece::whole(format!("{layer}.layer_norm1.{leaf}"))],
                ["ln_2", leaf] => vec![Piece::whole(format!("{layer}.layer_norm2.{leaf}"))],
                ["mlp", "c_fc", leaf] => vec![Piece::whole(format!("{layer}.mlp.fc1.{leaf}"))],
                ["mlp", "c_proj", leaf] => vec![Piece::whole(format!("{layer}.mlp.fc2.{leaf}"))],
                ["attn", "out_proj", leaf] => {
                    vec![Piece::whole(format!("{layer}.self_attn.out_proj.{leaf}"))]
                }
                ["attn", "in_proj_weight"] => packed(&layer, "weight"),
                ["attn", "in_proj_bias"] => packed(&layer, "bias"),
                _ => return Meaning::Unknown,
            }
        }
        _ => return Meaning::Unknown,
    };
    Meaning::Tensors(part, pieces)
}

/// Query, key and value, which torch's own attention keeps in one tensor.
fn packed(layer: &str, leaf: &str) -> Vec<Piece> {
    let names = ["q_proj", "k_proj", "v_proj"].into_iter().zip(0..);
    names
        .map(|(name, third)| Piece {
            name: format!("{layer}.self_attn.{name}.{leaf}"),
            cut: Cut::Third(third),
        })
        .collect()
}

/// The noise table, the running average, counters.
fn is_of_training(key: &str) -> bool {
    const TABLES: [&str; 14] = [
        "alphas_cumprod",
        "alphas_cumprod_prev",
        "betas",
        "global_step",
        "log_one_minus_alphas_cumprod",
        "logvar",
        "posterior_log_variance_clipped",
        "posterior_mean_coef1",
        "posterior_mean_coef2",
        "posterior_variance",
        "sqrt_alphas_cumprod",
        "sqrt_one_minus_alphas_cumprod",
        "sqrt_recip_alphas_cumprod",
        "sqrt_recipm1_alphas_cumprod",
    ];
    // Markers that other programs read.
    const MARKERS: [&str; 4] = ["v_pred", "ztsnr", "lvlb_weights", "denoiser.sigmas"];
    key.starts_with("model_ema.")
        || key == "cond_stage_model.logit_scale"
        || TABLES.contains(&key)
        || MARKERS.contains(&key)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAMES: LdmNames = LdmNames {
        layers_per_block: 2,
        vae_blocks: 4,
    };

    fn name(key: &str) -> String {
        match NAMES.meaning(key) {
            Meaning::Tensors(_, pieces) => pieces.into_iter().map(|piece| piece.name).collect(),
            other => format!("{other:?}"),
        }
    }

    #[test]
    fn names_are_told_in_diffusers() {
        for (key, expected) in [
            (
                "model.diffusion_model.input_blocks.0.0.weight",
                "conv_in.weight",
            ),
            (
                "model.diffusion_model.input_blocks.3.0.op.bias",
                "down_blocks.0.downsamplers.0.conv.bias",
            ),
            (
                "model.diffusion_model.input_blocks.5.1.transformer_blocks.0.attn2.to_k.weight",
                "down_blocks.1.attentions.1.transformer_blocks.0.attn2.to_k.weight",
            ),
            (
                "model.diffusion_model.middle_block.2.out_layers.3.weight",
                "mid_block.resnets.1.conv2.weight",
            ),
            (
                "model.diffusion_model.output_blocks.2.1.conv.weight",
                "up_blocks.0.upsamplers.0.conv.weight",
            ),
            (
                "model.diffusion_model.output_blocks.11.0.skip_connection.weight",
                "up_blocks.3.resnets.2.conv_shortcut.weight",
            ),
            (
                "first_stage_model.decoder.up.3.upsample.conv.weight",
                "decoder.up_blocks.0.upsamplers.0.conv.weight",
            ),
            (
                "first_stage_model.encoder.down.1.block.0.nin_shortcut.bias",
                "encoder.down_blocks.1.resnets.0.conv_shortcut.bias",
            ),
            (
                "first_stage_model.decoder.mid.attn_1.proj_out.weight",
                "decoder.mid_block.attentions.0.to_out.0.weight",
            ),
            (
                "cond_stage_model.transformer.embeddings.position_ids",
                "text_model.embeddings.position_ids",
            ),
            (
                "conditioner.embedders.1.model.transformer.resblocks.23.ln_1.weight",
                "text_model.encoder.layers.23.layer_norm1.weight",
            ),
            (
                "model.diffusion_model.label_emb.0.2.bias",
                "add_embedding.linear_2.bias",
            ),
        ] {
            assert_eq!(name(key), expected, "{key}");
        }
    }

    #[test]
    fn nonsense_is_unknown_and_training_is_unused() {
        for key in [
            "model.diffusion_model.input_blocks.x.0.op.weight",
            "model.diffusion_model.label_emb.weight",
            "model.diffusion_model.input_blocks.0.0.in_layers.0.weight",
            "first_stage_model.decoder.up.4.block.0.conv1.weight",
            "cond_stage_model.model.visual.proj",
            "lora_unet.alpha",
            "",
        ] {
            assert_eq!(NAMES.meaning(key), Meaning::Unknown, "{key}");
        }
        for key in [
            "model_ema.diffusion_modelinput_blocks00weight",
            "alphas_cumprod",
            "cond_stage_model.model.transformer.resblocks.23.ln_1.bias",
            "first_stage_model.loss.discriminator.main.0.weight",
        ] {
            assert_eq!(NAMES.meaning(key), Meaning::Unused, "{key}");
        }
    }

    #[test]
    fn the_numbers_come_from_the_names() {
        let keys = [
            "model.diffusion_model.input_blocks.6.0.op.weight",
            "model.diffusion_model.input_blocks.3.0.op.weight",
            "model.diffusion_model.input_blocks.8.0.in_layers.0.weight",
            "first_stage_model.decoder.up.3.block.0.conv1.weight",
        ];
        assert_eq!(LdmNames::of(keys.into_iter()), NAMES);
        let one_size = ["model.diffusion_model.input_blocks.2.0.in_layers.0.weight"];
        assert_eq!(LdmNames::of(one_size.into_iter()).layers_per_block, 2);
    }
}
