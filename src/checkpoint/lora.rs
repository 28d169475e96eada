//! LoRA files: pairs of low-rank tensors, by the names that the file gives the layers.
//!
//! Three spellings are in use: kohya's (`lora_unet_down_blocks_0_..._to_q.lora_down.weight`, with
//! `.alpha`), peft's (`unet.down_blocks.0....to_q.lora_A.weight`) and older diffusers' ones
//! (`....processor.to_q_lora.down.weight`, `....q_proj.lora_linear_layer.down.weight`). Which layer a
//! name means is decided in `families/lora.rs`.

use std::collections::BTreeMap;
use std::path::Path;

use tch::{Device, Kind, Tensor};

use super::load::load;
use crate::error::{Error, Result};

/// What the tensors of one layer are called, after the layer's name.
const SUFFIXES: &[(&str, Part)] = &[
    (".lora_down.weight", Part::Down),
    (".lora_up.weight", Part::Up),
    (".lora_mid.weight", Part::Mid),
    (".alpha", Part::Alpha),
    (".lora_A.weight", Part::Down),
    (".lora_B.weight", Part::Up),
    (".lora_A.default.weight", Part::Down),
    (".lora_B.default.weight", Part::Up),
    (".lora_linear_layer.down.weight", Part::Down),
    (".lora_linear_layer.up.weight", Part::Up),
    (".lora.down.weight", Part::Down),
    (".lora.up.weight", Part::Up),
    ("_lora.down.weight", Part::Down),
    ("_lora.up.weight", Part::Up),
];

#[derive(Clone, Copy, Debug)]
enum Part {
    Down,
    Up,
    Mid,
    Alpha,
}

/// One layer's pair.
#[derive(Debug)]
pub struct LowRank {
    /// `[rank, in]` or `[rank, in, k, k]`.
    pub down: Tensor,
    /// `[rank, rank, k, k]`, in convolutions that are split in three.
    pub mid: Option<Tensor>,
    /// `[out, rank]` or `[out, rank, 1, 1]`.
    pub up: Tensor,
    /// `alpha / rank`; 1 where the file has no alpha.
    pub scale: f64,
}

#[derive(Default)]
struct Parts {
    down: Option<Tensor>,
    up: Option<Tensor>,
    mid: Option<Tensor>,
    alpha: Option<f64>,
}

/// Reads a LoRA file: the pairs, by the layers' names as the file has them.
///
/// Errors: [`Error::Model`] naming the file and the tensor that is not a LoRA's (LoHa, LoKr and DoRA
/// are not read), or the layer that lacks its other half.
pub fn load_lora(path: &Path, device: Device, kind: Kind) -> Result<BTreeMap<String, LowRank>> {
    if !path.is_file() {
        return Err(Error::model(path, "there is no such LoRA file"));
    }
    let named = load(&[path.to_path_buf()], device, kind, &mut |_| ())?;
    let mut layers: BTreeMap<String, Parts> = BTreeMap::new();
    for (name, tensor) in named.tensors {
        let Some((layer, part)) = split(&name) else {
            return Err(Error::model(
                path,
                format!("its tensor {name} is not a LoRA's (LoHa, LoKr and DoRA are not read)"),
            ));
        };
        let parts = layers.entry(layer.to_owned()).or_default();
        match part {
            Part::Down => parts.down = Some(tensor),
            Part::Up => parts.up = Some(tensor),
            Part::Mid => parts.mid = Some(tensor),
            Part::Alpha if tensor.numel() == 1 => {
                parts.alpha = Some(tensor.f_view([1])?.f_double_value(&[0])?);
            }
            Part::Alpha => {
                let why = format!("its {name} is not one number");
                return Err(Error::model(path, why));
            }
        }
    }
    layers
        .into_iter()
        .map(|(layer, parts)| match complete(parts) {
            Some(pair) => Ok((layer, pair)),
            None => Err(Error::model(
                path,
                format!("its layer {layer} lacks one half of its pair"),
            )),
        })
        .collect()
}

fn split(name: &str) -> Option<(&str, Part)> {
    SUFFIXES
        .iter()
        .find_map(|(suffix, part)| Some((name.strip_suffix(suffix)?, *part)))
}

fn complete(parts: Parts) -> Option<LowRank> {
    let (down, up) = (parts.down?, parts.up?);
    let rank = *down.size().first()? as f64;
    Some(LowRank {
        scale: parts.alpha.map_or(1.0, |alpha| alpha / rank),
        down,
        mid: parts.mid,
        up,
    })
}
