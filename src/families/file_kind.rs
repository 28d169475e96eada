//! What a single file of tensors is, told by the names and shapes in it, never by its own name.
//!
//! Sources of the names: kohya's sd-scripts `networks/`, LyCORIS `modules/`, peft; A1111
//! `modules/textual_inversion`; madebyollin's TAESD; Real-ESRGAN `archs/srvgg_arch.py`, ESRGAN
//! `RRDBNet_arch.py`; diffusers 0.42.1 `loaders/single_file_utils.py` (`CHECKPOINT_KEY_NAMES`).

use crate::checkpoint::TensorHeader;

/// What a file of tensors is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileKind {
    /// A UNet with at least one more part, in latent-diffusion's layout.
    Checkpoint,
    /// The UNet of a Stable Diffusion model alone.
    Unet,
    Vae,
    /// TAESD, the small VAE for previews.
    TinyVae,
    TextEncoder,
    /// With the kind's name: `LoRA`, `LoHa`, ...
    Lora(&'static str),
    /// A textual inversion.
    Embedding,
    /// Real-ESRGAN's compact network, which Easel enlarges with.
    Upscaler,
    /// Known by name, of no use for Easel yet.
    Other(&'static str),
    Unknown,
}

/// Files of weights for layers of another model: what their names contain.
const LORAS: [(&str, &str); 12] = [
    (".hada_w1_a", "LoHa"),
    (".lokr_w", "LoKr"),
    (".oft_", "OFT"),
    (".dora_scale", "DoRA"),
    (".lora_magnitude_vector", "DoRA"),
    ("lora_down.", "LoRA"),
    (".lora_A.", "LoRA"),
    ("lora.down.", "LoRA"),
    ("lora_linear_layer.down.", "LoRA"),
    (".on_input", "IA3"),
    (".w_norm", "differences"),
    (".diff_b", "differences"),
];

/// Other networks: what a name begins with.
const OTHERS: [(&str, &str); 15] = [
    ("model.diffusion_model.joint_blocks.", "Stable Diffusion 3"),
    ("joint_blocks.", "the network of Stable Diffusion 3"),
    ("model.diffusion_model.double_blocks.", "Flux"),
    ("double_blocks.", "the network of Flux"),
    (
        "transformer_blocks.0.norm1_context.",
        "a transformer of Stable Diffusion 3 or Flux",
    ),
    ("control_model.", "a ControlNet"),
    ("controlnet_cond_embedding.", "a ControlNet"),
    ("adapter.body.", "a T2I-Adapter"),
    ("image_proj.", "an IP-Adapter"),
    (
        "encoder.block.0.layer.0.SelfAttention.",
        "a T5 text encoder",
    ),
    ("vision_model.", "a CLIP image encoder"),
    ("visual.", "a whole CLIP model"),
    ("body.0.rdb1.", "an ESRGAN (RRDB) upscaler"),
    ("model.1.sub.0.RDB1.", "an ESRGAN (RRDB) upscaler"),
    ("layers.0.residual_group.", "a SwinIR upscaler"),
];

/// One name begins with this, and another with that.
const NETWORKS: [(&str, &str, FileKind); 9] = [
    (
        "model.diffusion_model.",
        "first_stage_model.",
        FileKind::Checkpoint,
    ),
    (
        "model.diffusion_model.",
        "cond_stage_model.",
        FileKind::Checkpoint,
    ),
    (
        "model.diffusion_model.",
        "conditioner.embedders.",
        FileKind::Checkpoint,
    ),
    ("model.diffusion_model.", "", FileKind::Unet),
    ("input_blocks.0.0.", "output_blocks.0.0.", FileKind::Unet),
    ("down_blocks.0.", "time_embedding.linear_1.", FileKind::Unet),
    ("first_stage_model.", "", FileKind::Vae),
    ("encoder.down", "decoder.conv_in.", FileKind::Vae),
    ("body.0.", "body.1.", FileKind::Upscaler),
];

const TEXT_ENCODERS: [&str; 6] = [
    "text_model.",
    // transformers 5
    "embeddings.token_embedding.",
    "cond_stage_model.",
    "conditioner.embedders.",
    "transformer.resblocks.",
    "transformer.text_model.",
];

impl FileKind {
    /// What a file with these tensors is.
    pub fn of(headers: &[TensorHeader]) -> Self {
        let names = || headers.iter().map(|header| header.name.as_str());
        let begins = |prefix: &str| names().any(|name| name.starts_with(prefix));
        let contains = |part: &str| names().any(|name| name.contains(part));
        if let Some((_, kind)) = LORAS.iter().find(|(part, _)| contains(part)) {
            return Self::Lora(kind);
        }
        if let Some((_, name)) = OTHERS.iter().find(|(prefix, _)| begins(prefix)) {
            return Self::Other(name);
        }
        if is_tiny_vae(headers) {
            return Self::TinyVae;
        }
        let network = NETWORKS.iter().find(|(a, b, _)| begins(a) && begins(b));
        if let Some((_, _, kind)) = network {
            return *kind;
        }
        if is_embedding(headers) {
            return Self::Embedding;
        }
        if TEXT_ENCODERS.iter().any(|prefix| begins(prefix)) {
            return Self::TextEncoder;
        }
        Self::Unknown
    }
}

/// TAESD's decoder, which is what draws: numbered layers, alone or behind a name. diffusers counts from
/// the first layer with weights.
fn is_tiny_vae(headers: &[TensorHeader]) -> bool {
    const DECODERS: [(&str, &str, &str); 4] = [
        ("decoder.layers.", "0.weight", "2.conv.0.weight"),
        ("decoder.", "1.weight", "3.conv.0.weight"),
        ("taesd_decoder.", "1.weight", "3.conv.0.weight"),
        ("", "1.weight", "3.conv.0.weight"),
    ];
    DECODERS.iter().any(|(prefix, first, block)| {
        let has = |name: &str| {
            let name = format!("{prefix}{name}");
            headers.iter().any(|it| it.name == name)
        };
        has(first) && has(block)
    })
}

/// A1111's (`emb_params`, `string_to_param`), SDXL's pair, or diffusers' one tensor named by its word.
fn is_embedding(headers: &[TensorHeader]) -> bool {
    let is_vectors = |header: &TensorHeader| match header.shape.as_slice() {
        [width] | [_, width] => [768, 1024, 1280].contains(width),
        _ => false,
    };
    let named = |name: &str| {
        let name = name.split('.').next().unwrap_or(name);
        ["emb_params", "string_to_param", "clip_l", "clip_g", "*"].contains(&name)
    };
    match headers {
        [] => false,
        [one] => named(&one.name) || (is_vectors(one) && !one.name.contains('.')),
        many => many.iter().any(|header| named(&header.name)) && many.len() < 8,
    }
}

#[cfg(test)]
mod tests {
    use safetensors::Dtype;

    use super::*;

    fn kind(tensors: &[(&str, &[i64])]) -> FileKind {
        let header = |(name, shape): &(&str, &[i64])| TensorHeader {
            name: (*name).to_owned(),
            shape: shape.to_vec(),
            dtype: Dtype::F16.into(),
            bytes: 0,
        };
        FileKind::of(&tensors.iter().map(header).collect::<Vec<_>>())
    }

    #[test]
    fn a_file_is_what_its_names_and_shapes_say() {
        let unet = ("model.diffusion_model.out.0.weight", &[4][..]);
        let vae = ("first_stage_model.decoder.conv_in.weight", &[4][..]);
        for (tensors, expected) in [
            (&[unet, vae][..], FileKind::Checkpoint),
            (
                &[unet, ("cond_stage_model.model.ln_final.bias", &[4])],
                FileKind::Checkpoint,
            ),
            (&[unet], FileKind::Unet),
            (
                &[
                    ("input_blocks.0.0.weight", &[4]),
                    ("output_blocks.0.0.in_layers.0.weight", &[4]),
                ],
                FileKind::Unet,
            ),
            (&[vae], FileKind::Vae),
            (
                &[
                    ("encoder.down_blocks.0.x", &[4]),
                    ("decoder.conv_in.weight", &[4]),
                ],
                FileKind::Vae,
            ),
            (
                &[
                    ("1.weight", &[64, 4, 3, 3]),
                    ("3.conv.0.weight", &[64, 64, 3, 3]),
                ],
                FileKind::TinyVae,
            ),
            (
                &[
                    ("0.weight", &[64, 3, 3, 3]),
                    ("1.conv.0.weight", &[64, 64, 3, 3]),
                    ("3.conv.0.weight", &[64, 64, 3, 3]),
                ],
                FileKind::Unknown,
            ),
            (
                &[
                    ("lora_te_x.lora_down.weight", &[4, 4]),
                    ("lora_te_x.alpha", &[]),
                ],
                FileKind::Lora("LoRA"),
            ),
            (
                &[("unet.x.processor.to_q_lora.down.weight", &[4, 4])],
                FileKind::Lora("LoRA"),
            ),
            (
                &[("lora_unet_x.hada_w1_a", &[4, 4])],
                FileKind::Lora("LoHa"),
            ),
            (&[("emb_params", &[2, 96])], FileKind::Embedding),
            (
                &[("clip_g", &[2, 1280]), ("clip_l", &[2, 768])],
                FileKind::Embedding,
            ),
            (&[("<cat>", &[768])], FileKind::Embedding),
            (&[("cat", &[768, 3, 3, 3])], FileKind::Unknown),
            (
                &[("text_model.final_layer_norm.bias", &[768])],
                FileKind::TextEncoder,
            ),
            (
                &[
                    ("body.0.weight", &[64]),
                    ("body.0.bias", &[64]),
                    ("body.1.weight", &[64]),
                ],
                FileKind::Upscaler,
            ),
            (
                &[
                    ("body.0.rdb1.conv1.weight", &[4]),
                    ("body.1.rdb1.conv1.weight", &[4]),
                ],
                FileKind::Other("an ESRGAN (RRDB) upscaler"),
            ),
            (
                &[("model.diffusion_model.double_blocks.0.x", &[4]), unet, vae],
                FileKind::Other("Flux"),
            ),
            (&[], FileKind::Unknown),
        ] {
            assert_eq!(kind(tensors), expected, "{tensors:?}");
        }
    }
}
