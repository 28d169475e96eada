//! What a model file or folder is, from its configs and headers alone.

use std::path::{Path, PathBuf};

use super::library::lora_notes;
use crate::checkpoint::{self, TensorHeader};
use crate::error::{Error, Result};
use crate::families::{FileKind, Inspection, ModelFiles, PlannedConvolution, vae_class};
use crate::request::LoraNotes;

/// What lies at a path.
#[derive(Clone, Debug)]
pub enum Inspected {
    /// A model that Easel draws with.
    Model(Inspection),
    /// A file or a folder of tensors that is no whole model.
    File {
        /// What it is and what it is for, in a sentence.
        about: String,
        /// Why it is no model by itself.
        why: String,
        /// `Real-ESRGAN compact`, `AutoencoderKL`, ... where it is one.
        network: Option<&'static str>,
        /// Of a LoRA, how it is used.
        notes: LoraNotes,
        parameters: u64,
        bytes: u64,
        tensors: Vec<TensorHeader>,
    },
}

/// Looks at a model folder, a checkpoint or another file of tensors; reads no weights.
///
/// Errors: [`Error::Model`] naming the file and what is wrong with it.
pub fn inspect(path: &Path) -> Result<Inspected> {
    let opened = ModelFiles::open(path).and_then(|files| files.inspect(false));
    let (why, files) = match (opened, weights(path)) {
        (Ok(inspection), _) => return Ok(Inspected::Model(inspection)),
        (Err(Error::Model { why, .. }), Some(files)) => (why, files),
        (Err(error), _) => return Err(error),
    };
    let tensors = checkpoint::headers(&files)?;
    let kind = FileKind::of(&tensors);
    Ok(Inspected::File {
        about: about(kind, &tensors, &why),
        why,
        network: network(kind, path),
        notes: match kind {
            FileKind::Lora(_) => lora_notes(path),
            _ => LoraNotes::default(),
        },
        parameters: tensors.iter().map(TensorHeader::elements).sum(),
        bytes: tensors.iter().map(|tensor| tensor.bytes).sum(),
        tensors,
    })
}

/// How a model's 3x3 convolutions are computed on this processor at a size; `None`: the model's own.
///
/// Errors: [`Error::Model`] naming the file and what is wrong with it.
pub fn convolutions(path: &Path, size: Option<[u32; 2]>) -> Result<Vec<PlannedConvolution>> {
    let files = ModelFiles::open(path)?;
    let defaults = files.card(false)?.defaults;
    let [width, height] = size.unwrap_or([defaults.width_px, defaults.height_px]);
    files.convolutions(width, height)
}

/// The files of one network: one file, or those of a part's folder (`unet/`). `None`: a folder that is or
/// should be a whole model.
fn weights(path: &Path) -> Option<Vec<PathBuf>> {
    if path.is_file() {
        return Some(vec![path.to_path_buf()]);
    }
    let is_model = path.join("model_index.json").exists();
    let mut stems = ["diffusion_pytorch_model", "model"].into_iter();
    let found = || stems.find_map(|stem| checkpoint::find_weights(path, stem).ok());
    (!is_model).then(found).flatten()
}

fn network(kind: FileKind, path: &Path) -> Option<&'static str> {
    match kind {
        FileKind::Unet => Some("UNet2DConditionModel"),
        FileKind::Vae | FileKind::TinyVae => vae_class(path),
        FileKind::TextEncoder => Some("CLIPTextModel"),
        FileKind::Lora(name) => Some(name),
        FileKind::Embedding => Some("textual inversion"),
        FileKind::Upscaler => Some("Real-ESRGAN compact"),
        FileKind::Checkpoint | FileKind::Other(_) | FileKind::Unknown => None,
    }
}

fn about(kind: FileKind, tensors: &[TensorHeader], why: &str) -> String {
    let made_for = made_for(tensors);
    match kind {
        FileKind::Unet => format!(
            "UNet2DConditionModel: a UNet alone{made_for}, for use in place of a model's own (--unet)"
        ),
        FileKind::Vae => {
            "AutoencoderKL: a VAE, for use in place of a model's own (--vae)".to_owned()
        }
        FileKind::TinyVae => "AutoencoderTiny: a small VAE (TAESD), a VAE for use in place of a \
                              model's own (--vae) and for previews"
            .to_owned(),
        FileKind::TextEncoder => {
            "A text encoder alone, which Easel does not draw with by itself".to_owned()
        }
        FileKind::Lora(name) => format!(
            "{name}: changes to a model's layers{made_for}, named in a prompt (<lora:NAME:1>) or by --lora"
        ),
        FileKind::Embedding => format!("A textual inversion{made_for}: a word for prompts"),
        FileKind::Upscaler => {
            "Real-ESRGAN compact: a network that enlarges pictures (--upscale)".to_owned()
        }
        FileKind::Other(name) => format!("It is {name}, which Easel does not draw with yet"),
        FileKind::Checkpoint | FileKind::Unknown => {
            format!("A file of tensors that is no model for Easel by itself: {why}")
        }
    }
}

/// For which family, told by the width of the text's state that something is added to or reads.
fn made_for(tensors: &[TensorHeader]) -> &'static str {
    // The key projections of cross-attention, whole or their half of a LoRA, by either spelling.
    let reads_text = |name: &str| {
        let of_layer = name.contains("attn2.to_k") || name.contains("attn2_to_k");
        let whole = name.ends_with("attn2.to_k.weight");
        let half = [
            ".lora_down.",
            ".lora_A.",
            "lora.down.",
            ".hada_w1_b",
            ".hada_w2_b",
        ];
        of_layer && (whole || half.iter().any(|part| name.contains(part)))
    };
    let of_embedding = FileKind::of(tensors) == FileKind::Embedding;
    let mut widths = tensors
        .iter()
        .filter(|tensor| of_embedding || reads_text(&tensor.name))
        .filter_map(|tensor| tensor.shape.get(1).or_else(|| tensor.shape.first()));
    let pair = tensors.iter().any(|tensor| tensor.name == "clip_g");
    match widths.next() {
        _ if pair => " for Stable Diffusion XL",
        Some(768) => " for Stable Diffusion 1",
        Some(1024) => " for Stable Diffusion 2",
        Some(2048) => " for Stable Diffusion XL",
        Some(1280) => " for Stable Diffusion XL's refiner",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(name: &str, shape: &[i64]) -> TensorHeader {
        TensorHeader {
            name: name.to_owned(),
            shape: shape.to_vec(),
            dtype: checkpoint::Dtype::F16.into(),
            bytes: 0,
        }
    }

    #[test]
    fn a_file_says_for_which_family_it_was_made() {
        let kohya =
            "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k.lora_down.weight";
        let peft = "unet.down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k.lora_A.weight";
        let ldm = "input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight";
        for (tensors, expected) in [
            (vec![header(kohya, &[8, 768])], " for Stable Diffusion 1"),
            (vec![header(peft, &[8, 2048])], " for Stable Diffusion XL"),
            (vec![header(ldm, &[320, 1024])], " for Stable Diffusion 2"),
            (
                vec![header("emb_params", &[2, 768])],
                " for Stable Diffusion 1",
            ),
            (
                vec![header("clip_l", &[2, 768]), header("clip_g", &[2, 1280])],
                " for Stable Diffusion XL",
            ),
            (vec![header("body.0.weight", &[64, 3, 3, 3])], ""),
        ] {
            assert_eq!(made_for(&tensors), expected, "{tensors:?}");
        }
    }
}
