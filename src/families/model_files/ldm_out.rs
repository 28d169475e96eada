//! The way back: a network's tensors, by diffusers' names, told in the names and shapes of single-file
//! checkpoints.
//!
//! Source: diffusers 0.42.1 `scripts/convert_diffusers_to_original_stable_diffusion.py` and
//! `convert_diffusers_to_original_sdxl.py`; the tests hold it to [`super::ldm`], which reads such files.

use super::ldm;
use super::single_file::Generation;
use crate::checkpoint::TensorHeader;
use crate::families::Part;

/// A tensor of a single file, and what it is made of.
#[derive(Clone, Debug, PartialEq)]
pub struct Assembled {
    pub name: String,
    pub shape: Vec<i64>,
    /// Diffusers' names, in order.
    pub from: Vec<String>,
    pub how: How,
}

/// How the tensors of [`Assembled`] become one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// One, of which at most the shape is written differently.
    Same,
    /// One, rows and columns swapped.
    Transposed,
    /// One below the other.
    Rows,
}

/// A network's tensors as a single file holds them. `headers`: all of the network's, by diffusers'
/// names.
///
/// Errors: the name of a tensor that has none in such files.
pub fn assembled(
    generation: Generation,
    part: Part,
    headers: &[TensorHeader],
) -> Result<Vec<Assembled>, String> {
    let layers = headers
        .iter()
        .filter_map(|header| number_after(&header.name, "down_blocks.0.resnets."))
        .max()
        .map_or(1, |last| last + 1);
    let blocks = headers
        .iter()
        .filter_map(|header| number_after(&header.name, "decoder.up_blocks."))
        .max()
        .map_or(1, |last| last + 1);
    let mut all = Vec::new();
    for header in headers {
        let name = header.name.as_str();
        let one = match part {
            Part::Unet => {
                let has_attention = |block: &str| {
                    let attention = format!("{block}.attentions.");
                    headers.iter().any(|it| it.name.starts_with(&attention))
                };
                unet(name, layers, &has_attention).map(|name| same(ldm::UNET, name, header))
            }
            Part::Vae => vae(name, blocks).map(|name| same(ldm::VAE, name, header)),
            Part::TextEncoder | Part::TextEncoder2 => {
                match text_encoder(generation, part, header) {
                    Encoder::Tensor(assembled) => Some(assembled),
                    // With the first of the three.
                    Encoder::Elsewhere => continue,
                    Encoder::Unknown => None,
                }
            }
        };
        all.push(one.ok_or_else(|| name.to_owned())?);
    }
    Ok(all)
}

/// Attention of the VAE is made of convolutions there.
fn same(prefix: &str, name: String, header: &TensorHeader) -> Assembled {
    let is_convolution = prefix == ldm::VAE && name.contains(".attn_1.");
    let shape = match header.shape.as_slice() {
        [out, into] if is_convolution => vec![*out, *into, 1, 1],
        shape => shape.to_vec(),
    };
    Assembled {
        name: format!("{prefix}{name}"),
        shape,
        from: vec![header.name.clone()],
        how: How::Same,
    }
}

fn number_after(name: &str, prefix: &str) -> Option<usize> {
    name.strip_prefix(prefix)?.split('.').next()?.parse().ok()
}

/// `down_blocks.1.attentions.0.proj_in.weight` to `input_blocks.4.1.proj_in.weight`.
fn unet(name: &str, layers: usize, has_attention: &dyn Fn(&str) -> bool) -> Option<String> {
    let parts: Vec<&str> = name.split('.').collect();
    // Each size of the way down ends with a step down; each of the way up has one more layer.
    let size = layers + 1;
    let number = |text: &str| text.parse::<usize>().ok();
    let down = |block: &str, layer: &str| Some(1 + number(block)? * size + number(layer)?);
    let up = |block: &str, layer: &str| Some(number(block)? * size + number(layer)?);
    Some(match parts.as_slice() {
        ["time_embedding", "linear_1", leaf] => format!("time_embed.0.{leaf}"),
        ["time_embedding", "linear_2", leaf] => format!("time_embed.2.{leaf}"),
        ["time_embedding", "cond_proj", _] => name.to_owned(),
        ["add_embedding", "linear_1", leaf] => format!("label_emb.0.0.{leaf}"),
        ["add_embedding", "linear_2", leaf] => format!("label_emb.0.2.{leaf}"),
        ["conv_in", leaf] => format!("input_blocks.0.0.{leaf}"),
        ["conv_norm_out", leaf] => format!("out.0.{leaf}"),
        ["conv_out", leaf] => format!("out.2.{leaf}"),
        ["down_blocks", block, "downsamplers", "0", "conv", leaf] => {
            format!("input_blocks.{}.0.op.{leaf}", (number(block)? + 1) * size)
        }
        ["down_blocks", block, "resnets", layer, rest @ ..] => {
            format!("input_blocks.{}.0.{}", down(block, layer)?, resnet(rest)?)
        }
        ["down_blocks", block, "attentions", layer, rest @ ..] => {
            format!("input_blocks.{}.1.{}", down(block, layer)?, rest.join("."))
        }
        ["mid_block", "resnets", "0", rest @ ..] => format!("middle_block.0.{}", resnet(rest)?),
        ["mid_block", "attentions", "0", rest @ ..] => {
            format!("middle_block.1.{}", rest.join("."))
        }
        ["mid_block", "resnets", "1", rest @ ..] => format!("middle_block.2.{}", resnet(rest)?),
        ["up_blocks", block, "upsamplers", "0", "conv", leaf] => {
            // After the transformer, where there is one.
            let place = if has_attention(&format!("up_blocks.{block}")) {
                2
            } else {
                1
            };
            let last = (number(block)? + 1) * size - 1;
            format!("output_blocks.{last}.{place}.conv.{leaf}")
        }
        ["up_blocks", block, "resnets", layer, rest @ ..] => {
            format!("output_blocks.{}.0.{}", up(block, layer)?, resnet(rest)?)
        }
        ["up_blocks", block, "attentions", layer, rest @ ..] => {
            format!("output_blocks.{}.1.{}", up(block, layer)?, rest.join("."))
        }
        _ => return None,
    })
}

fn resnet(rest: &[&str]) -> Option<String> {
    Some(match rest {
        ["norm1", leaf] => format!("in_layers.0.{leaf}"),
        ["conv1", leaf] => format!("in_layers.2.{leaf}"),
        ["norm2", leaf] => format!("out_layers.0.{leaf}"),
        ["conv2", leaf] => format!("out_layers.3.{leaf}"),
        ["time_emb_proj", leaf] => format!("emb_layers.1.{leaf}"),
        ["conv_shortcut", leaf] => format!("skip_connection.{leaf}"),
        _ => return None,
    })
}

/// `decoder.up_blocks.0.resnets.0.conv1.weight` to `decoder.up.3.block.0.conv1.weight`.
fn vae(name: &str, blocks: usize) -> Option<String> {
    let parts: Vec<&str> = name.split('.').collect();
    // latent-diffusion counts the way up from the largest size, diffusers from the smallest.
    let up = |number: &str| blocks.checked_sub(1)?.checked_sub(number.parse().ok()?);
    let resnet = |rest: &[&str]| rest.join(".").replace("conv_shortcut", "nin_shortcut");
    Some(match parts.as_slice() {
        ["quant_conv" | "post_quant_conv", _] => name.to_owned(),
        ["encoder" | "decoder", "conv_in" | "conv_out", _] => name.to_owned(),
        [half, "conv_norm_out", leaf] => format!("{half}.norm_out.{leaf}"),
        ["encoder", "down_blocks", block, "resnets", layer, rest @ ..] => {
            format!("encoder.down.{block}.block.{layer}.{}", resnet(rest))
        }
        [
            "encoder",
            "down_blocks",
            block,
            "downsamplers",
            "0",
            "conv",
            leaf,
        ] => {
            format!("encoder.down.{block}.downsample.conv.{leaf}")
        }
        ["decoder", "up_blocks", block, "resnets", layer, rest @ ..] => {
            format!("decoder.up.{}.block.{layer}.{}", up(block)?, resnet(rest))
        }
        [
            "decoder",
            "up_blocks",
            block,
            "upsamplers",
            "0",
            "conv",
            leaf,
        ] => {
            format!("decoder.up.{}.upsample.conv.{leaf}", up(block)?)
        }
        [
            half,
            "mid_block",
            "resnets",
            number @ ("0" | "1"),
            rest @ ..,
        ] => {
            let number = if *number == "0" { 1 } else { 2 };
            format!("{half}.mid.block_{number}.{}", resnet(rest))
        }
        [half, "mid_block", "attentions", "0", rest @ .., leaf] => {
            // The second names are those of files of 2022.
            let layer = match rest {
                ["group_norm"] => "norm",
                ["to_q"] | ["query"] => "q",
                ["to_k"] | ["key"] => "k",
                ["to_v"] | ["value"] => "v",
                ["to_out", "0"] | ["proj_attn"] => "proj_out",
                _ => return None,
            };
            format!("{half}.mid.attn_1.{layer}.{leaf}")
        }
        _ => return None,
    })
}

enum Encoder {
    Tensor(Assembled),
    Elsewhere,
    Unknown,
}

fn text_encoder(generation: Generation, part: Part, header: &TensorHeader) -> Encoder {
    let name = header
        .name
        .strip_prefix("text_model.")
        .unwrap_or(&header.name);
    // Counts from 0; some files have it, nobody needs it.
    if name == "embeddings.position_ids" {
        return Encoder::Elsewhere;
    }
    match (generation, part) {
        (Generation::One, _) => clip(ldm::CLIP, name, header),
        (Generation::Two, _) => open_clip(ldm::OPEN_CLIP, name, header),
        (Generation::Xl, Part::TextEncoder2) => open_clip(ldm::XL_OPEN_CLIP, name, header),
        (Generation::Xl, _) => clip(ldm::XL_CLIP, name, header),
        (Generation::XlRefiner, _) => open_clip(ldm::REFINER_OPEN_CLIP, name, header),
    }
}

fn clip(prefix: &str, name: &str, header: &TensorHeader) -> Encoder {
    let of_clip = ["embeddings.", "encoder.layers.", "final_layer_norm."];
    if !of_clip.iter().any(|begin| name.starts_with(begin)) {
        return Encoder::Unknown;
    }
    Encoder::Tensor(same(prefix, format!("text_model.{name}"), header))
}

fn open_clip(prefix: &str, name: &str, header: &TensorHeader) -> Encoder {
    let parts: Vec<&str> = name.split('.').collect();
    let name = match parts.as_slice() {
        ["embeddings", "position_embedding", "weight"] => "positional_embedding".to_owned(),
        ["embeddings", "token_embedding", "weight"] => "token_embedding.weight".to_owned(),
        ["final_layer_norm", leaf] => format!("ln_final.{leaf}"),
        ["text_projection", "weight"] => {
            return Encoder::Tensor(Assembled {
                name: format!("{prefix}text_projection"),
                shape: header.shape.iter().rev().copied().collect(),
                from: vec![header.name.clone()],
                how: How::Transposed,
            });
        }
        ["encoder", "layers", layer, rest @ ..] => {
            let layer = format!("transformer.resblocks.{layer}");
            match rest {
                ["layer_norm1", leaf] => format!("{layer}.ln_1.{leaf}"),
                ["layer_norm2", leaf] => format!("{layer}.ln_2.{leaf}"),
                ["mlp", "fc1", leaf] => format!("{layer}.mlp.c_fc.{leaf}"),
                ["mlp", "fc2", leaf] => format!("{layer}.mlp.c_proj.{leaf}"),
                ["self_attn", "out_proj", leaf] => format!("{layer}.attn.out_proj.{leaf}"),
                ["self_attn", "q_proj", leaf] => {
                    return packed(&format!("{prefix}{layer}.attn.in_proj_{leaf}"), header);
                }
                ["self_attn", "k_proj" | "v_proj", _] => return Encoder::Elsewhere,
                _ => return Encoder::Unknown,
            }
        }
        _ => return Encoder::Unknown,
    };
    Encoder::Tensor(same(prefix, name, header))
}

/// Query, key and value in one, as torch's own attention keeps them.
fn packed(name: &str, query: &TensorHeader) -> Encoder {
    let mut shape = query.shape.clone();
    if let Some(rows) = shape.first_mut() {
        *rows *= 3;
    }
    Encoder::Tensor(Assembled {
        name: name.to_owned(),
        shape,
        from: ["q_proj", "k_proj", "v_proj"]
            .map(|third| query.name.replace("q_proj", third))
            .to_vec(),
        how: How::Rows,
    })
}
