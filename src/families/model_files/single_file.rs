//! A single-file checkpoint in latent-diffusion's layout: which family it is, and the configs that
//! such files do not carry, read off the shapes of its tensors.
//!
//! Names and shapes decide, never the file's name. What shapes cannot tell (heads, the noise table,
//! what is predicted) is the family's. Source: diffusers 0.42.1 `loaders/single_file_utils.py`
//! (`infer_diffusers_model_type`, `_legacy_load_scheduler`) and the configs of the repositories it
//! names there (`DIFFUSERS_DEFAULT_PIPELINE_PATHS`).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::ldm::{self, LdmNames, Meaning};
use crate::checkpoint::{self, PREDICTION_NOTE, Piece, TensorHeader};
use crate::error::{Error, Result};
use crate::families::{Family, FileKind, Part};
use crate::models::unet::UNetConfig;
use crate::models::vae::VaeConfig;
use crate::schedule::{PredictionType, SchedulerConfig};
use crate::text::clip::ClipConfig;
use crate::text::tokenizer::ClipPad;

/// All of CLIP's text encoders have heads of this width.
const CLIP_HEAD: i64 = 64;
/// The markers around a prompt, in CLIP's vocabulary.
const CLIP_BEGIN: i64 = 49406;
const CLIP_END: i64 = 49407;
/// Width of OpenCLIP's text encoder of Stable Diffusion 2; of OpenAI's of 1, 768.
const OPEN_CLIP_WIDTH: i64 = 1024;
/// Stable Diffusion 1's UNet has so many heads everywhere; the later ones' have heads of this width.
const SD1_HEADS: i64 = 8;
const SD2_HEAD: i64 = 64;
/// Width of each embedded number about the picture: SDXL's.
const XL_TIME_EMBED: i64 = 256;

/// LCM's UNets take the guidance scale through this layer, and are drawn with a scheduler of their own.
const GUIDANCE_INPUT: &str = "time_embedding.cond_proj.weight";
pub(super) const LCM_SCHEDULER: &str = "LCMScheduler";

/// A checkpoint whose header was read.
#[derive(Clone, Debug)]
pub(super) struct SingleFile {
    pub file: PathBuf,
    pub generation: Generation,
    pub names: LdmNames,
    /// What of the file belongs to each network, under diffusers' names.
    headers: BTreeMap<Part, Vec<TensorHeader>>,
    /// Tensors that are no part of such a model.
    pub unknown: Vec<String>,
    prediction: PredictionType,
    /// Whether the last noise level of its training was pure noise.
    zero_snr: bool,
}

/// Which text encoders a model was trained with decides the rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Generation {
    /// OpenAI's CLIP.
    One,
    /// OpenCLIP.
    Two,
    /// Both.
    Xl,
    /// The larger OpenCLIP alone.
    XlRefiner,
}

impl Generation {
    pub fn family(self) -> Family {
        match self {
            Self::One => Family::StableDiffusion1,
            Self::Two => Family::StableDiffusion2,
            Self::Xl => Family::Xl,
            Self::XlRefiner => Family::XlRefiner,
        }
    }

    /// Its text encoders.
    pub fn text_encoders(self) -> &'static [Part] {
        match self {
            Self::One | Self::Two => &[Part::TextEncoder],
            Self::Xl => &[Part::TextEncoder, Part::TextEncoder2],
            Self::XlRefiner => &[Part::TextEncoder2],
        }
    }

    /// What a text encoder was trained to see after the end of a prompt.
    pub fn pad(self, encoder: Part) -> ClipPad {
        match (self, encoder) {
            (Self::Two, _) | (_, Part::TextEncoder2) => ClipPad::Zero,
            (Self::One | Self::Xl | Self::XlRefiner, _) => ClipPad::EndMarker,
        }
    }

    /// What the tensor `key` is; the last layer of Stable Diffusion 2's text encoder is not listened
    /// to, under whatever name.
    fn meaning(self, names: LdmNames, key: &str) -> Meaning {
        match names.meaning(key) {
            Meaning::Tensors(_, pieces)
                if self == Self::Two
                    && pieces
                        .iter()
                        .any(|piece| piece.name.starts_with(ldm::UNHEARD_LAYER)) =>
            {
                Meaning::Unused
            }
            meaning => meaning,
        }
    }

    fn is_xl(self) -> bool {
        matches!(self, Self::Xl | Self::XlRefiner)
    }
}

impl SingleFile {
    /// Reads the header of `file`; nothing else of it.
    ///
    /// Errors: [`Error::Model`] that says what the file is instead, or what it lacks.
    pub fn open(file: &Path) -> Result<Self> {
        let stored = checkpoint::headers(&[file.to_path_buf()])?;
        let generation = generation(&stored).map_err(|why| Error::model(file, why))?;
        Self::of(file, stored, generation)
    }

    /// A file of this generation with these tensors, whether it is there yet or not.
    ///
    /// Errors: [`Error::Model`] for a config beside the file that says nonsense.
    pub fn of(file: &Path, stored: Vec<TensorHeader>, generation: Generation) -> Result<Self> {
        let names = LdmNames::of(stored.iter().map(|header| header.name.as_str()));
        let prediction = prediction(file, generation, &stored)?;
        let zero_snr = is_marked(&stored, "ztsnr");
        let mut headers: BTreeMap<Part, Vec<TensorHeader>> = BTreeMap::new();
        let mut unknown = Vec::new();
        for header in stored {
            match generation.meaning(names, &header.name) {
                Meaning::Tensors(part, pieces) => {
                    let cut = pieces.iter().map(|piece| cut(&header, piece));
                    headers.entry(part).or_default().extend(cut);
                }
                Meaning::Unused => {}
                Meaning::Unknown => unknown.push(header.name),
            }
        }
        Ok(Self {
            file: file.to_path_buf(),
            generation,
            names,
            headers,
            unknown,
            prediction,
            zero_snr,
        })
    }

    /// A UNet alone; `headers` under diffusers' names. Only its config may be asked for.
    ///
    /// Errors: as [`SingleFile::of`].
    pub fn of_unet(
        file: &Path,
        headers: Vec<TensorHeader>,
        generation: Generation,
    ) -> Result<Self> {
        let prediction = prediction(file, generation, &headers)?;
        Ok(Self {
            file: file.to_path_buf(),
            generation,
            names: LdmNames::of(std::iter::empty()),
            headers: BTreeMap::from([(Part::Unet, headers)]),
            unknown: Vec::new(),
            prediction,
            zero_snr: false,
        })
    }

    /// What a network has in this file, under diffusers' names.
    pub fn headers(&self, part: Part) -> &[TensorHeader] {
        self.headers.get(&part).map_or(&[], Vec::as_slice)
    }

    /// What becomes of the stored tensor `key` for one network.
    pub fn pieces(&self, part: Part, key: &str) -> Vec<Piece> {
        match self.generation.meaning(self.names, key) {
            Meaning::Tensors(of, pieces) if of == part => pieces,
            _ => Vec::new(),
        }
    }

    pub fn unet(&self) -> Result<UNetConfig> {
        UNetConfig::parse(&self.file, self.unet_json().to_string().as_bytes())
    }

    /// As diffusers writes it.
    pub fn unet_json(&self) -> Value {
        let shapes = self.shapes(Part::Unet);
        let mut channels = Vec::new();
        let mut heads = Vec::new();
        let (mut down, mut up) = (Vec::new(), Vec::new());
        let (mut depths, mut depths_up) = (Vec::new(), Vec::new());
        while let Some(width) = shapes.first(&format!(
            "down_blocks.{}.resnets.0.conv2.weight",
            channels.len()
        )) {
            let block = channels.len();
            let (name, name_up) = (format!("down_blocks.{block}"), format!("up_blocks.{block}"));
            down.push(if shapes.has_attention(&name) {
                "CrossAttnDownBlock2D"
            } else {
                "DownBlock2D"
            });
            up.push(if shapes.has_attention(&name_up) {
                "CrossAttnUpBlock2D"
            } else {
                "UpBlock2D"
            });
            depths.push(shapes.depths(&name));
            depths_up.push(shapes.depths(&name_up));
            heads.push(match self.generation {
                Generation::One => SD1_HEADS,
                _ => (width / SD2_HEAD).max(1),
            });
            channels.push(width);
        }
        // A block without attention has no depths of its own; the middle takes the last one's first.
        let middle = shapes.count("mid_block.attentions.0.transformer_blocks");
        if let Some(first) = depths.last_mut().and_then(|depths| depths.first_mut()) {
            *first = middle.max(*first);
        }
        let native = self.native_px() / self.vae_factor();
        let mut config = json!({
            "in_channels": shapes.second("conv_in.weight"),
            "out_channels": shapes.first("conv_out.weight"),
            "sample_size": native.max(1),
            "block_out_channels": channels,
            "down_block_types": down,
            "mid_block_type": match shapes.count("mid_block.resnets") {
                0 => None,
                1 => Some("UNetMidBlock2D"),
                _ => Some("UNetMidBlock2DCrossAttn"),
            },
            "up_block_types": up,
            "layers_per_block": shapes.count("down_blocks.0.resnets"),
            "transformer_layers_per_block": depths,
            "reverse_transformer_layers_per_block": depths_up,
            "attention_head_dim": heads,
            "cross_attention_dim": shapes.ending_with("attn2.to_k.weight"),
            "use_linear_projection": shapes.rank_of_ending("proj_in.weight") == Some(2),
        });
        if let Some(width) = shapes.second(GUIDANCE_INPUT) {
            config["time_cond_proj_dim"] = json!(width);
        }
        if self.generation.is_xl() {
            config["addition_embed_type"] = json!("text_time");
            config["addition_time_embed_dim"] = json!(XL_TIME_EMBED);
            config["projection_class_embeddings_input_dim"] = json!(
                shapes
                    .second("add_embedding.linear_1.weight")
                    .unwrap_or_default()
            );
        }
        config
    }

    /// The side of the pictures that it was trained on.
    fn native_px(&self) -> i64 {
        match (self.generation, self.prediction) {
            (Generation::Xl | Generation::XlRefiner, _) => 1024,
            (Generation::Two, PredictionType::VPrediction) => 768,
            (Generation::One | Generation::Two, _) => 512,
        }
    }

    pub fn vae(&self) -> Result<VaeConfig> {
        VaeConfig::parse(&self.file, self.vae_json().to_string().as_bytes())
    }

    /// As diffusers writes it.
    pub fn vae_json(&self) -> Value {
        let mut config = vae_json(self.headers(Part::Vae));
        if self.generation.is_xl() {
            config["scaling_factor"] = json!(0.13025);
            config["force_upcast"] = json!(true);
        }
        config
    }

    /// Of one of the generation's text encoders.
    pub fn text_encoder(&self, part: Part) -> Result<ClipConfig> {
        ClipConfig::parse(
            &self.file,
            self.text_encoder_json(part).to_string().as_bytes(),
        )
    }

    /// As transformers writes it.
    pub fn text_encoder_json(&self, part: Part) -> Value {
        let shapes = self.shapes(part);
        let width = shapes
            .first("text_model.final_layer_norm.weight")
            .unwrap_or_default();
        let quick = match (self.generation, part) {
            (Generation::Two, _) | (_, Part::TextEncoder2) => false,
            (Generation::One | Generation::Xl | Generation::XlRefiner, _) => true,
        };
        json!({
            "vocab_size": shapes.first("text_model.embeddings.token_embedding.weight"),
            "max_position_embeddings": shapes.first("text_model.embeddings.position_embedding.weight"),
            "hidden_size": width,
            "intermediate_size": shapes.first("text_model.encoder.layers.0.mlp.fc1.weight"),
            "num_hidden_layers": shapes.count("text_model.encoder.layers"),
            "num_attention_heads": (width / CLIP_HEAD).max(1),
            "hidden_act": if quick { "quick_gelu" } else { "gelu" },
            "projection_dim": shapes.first("text_projection.weight").unwrap_or(width),
            "bos_token_id": CLIP_BEGIN,
            "eos_token_id": CLIP_END,
        })
    }

    pub fn scheduler(&self) -> Result<SchedulerConfig> {
        SchedulerConfig::from_json(&self.scheduler_json().to_string())
    }

    /// As diffusers writes it.
    pub fn scheduler_json(&self) -> Value {
        let is_lcm = self.shapes(Part::Unet).second(GUIDANCE_INPUT).is_some();
        json!({
            "_class_name": match self.generation {
                _ if is_lcm => LCM_SCHEDULER,
                generation => generation.family().scheduler_class(),
            },
            "beta_start": 0.00085,
            "beta_end": 0.012,
            "beta_schedule": "scaled_linear",
            "num_train_timesteps": 1000,
            "steps_offset": 1,
            "set_alpha_to_one": is_lcm,
            "skip_prk_steps": true,
            "clip_sample": false,
            "prediction_type": self.prediction.name(),
            "rescale_betas_zero_snr": self.zero_snr,
            // Pure noise is where such a model has to begin (2305.08891, section 3.3).
            "timestep_spacing": if self.zero_snr { "trailing" } else { "leading" },
        })
    }

    fn vae_factor(&self) -> i64 {
        let blocks = match self.shapes(Part::Vae).count("decoder.up_blocks") {
            // A UNet alone: every family's.
            0 => 4,
            blocks => blocks,
        };
        1 << blocks.clamp(1, 16).saturating_sub(1)
    }

    fn shapes(&self, part: Part) -> Shapes<'_> {
        Shapes(self.headers(part))
    }
}

/// The config of a VAE with these tensors, as diffusers writes it.
pub(super) fn vae_json(headers: &[TensorHeader]) -> Value {
    let shapes = Shapes(headers);
    let mut channels = Vec::new();
    while let Some(width) = shapes.first(&format!(
        "encoder.down_blocks.{}.resnets.0.conv2.weight",
        channels.len()
    )) {
        channels.push(width);
    }
    json!({
        "in_channels": shapes.second("encoder.conv_in.weight"),
        "out_channels": shapes.first("decoder.conv_out.weight"),
        "latent_channels": shapes.second("decoder.conv_in.weight"),
        "block_out_channels": channels,
        "down_block_types": vec!["DownEncoderBlock2D"; channels.len()],
        "up_block_types": vec!["UpDecoderBlock2D"; channels.len()],
        "layers_per_block": shapes.count("encoder.down_blocks.0.resnets"),
        "mid_block_add_attention": shapes.count("decoder.mid_block.attentions") > 0,
        "use_quant_conv": shapes.first("quant_conv.weight").is_some(),
        "use_post_quant_conv": shapes.first("post_quant_conv.weight").is_some(),
        "scaling_factor": 0.18215,
    })
}

/// Sizes, looked up by names.
struct Shapes<'a>(&'a [TensorHeader]);

impl Shapes<'_> {
    fn first(&self, name: &str) -> Option<i64> {
        self.find(|known| known == name)?.first().copied()
    }

    fn second(&self, name: &str) -> Option<i64> {
        self.find(|known| known == name)?.get(1).copied()
    }

    /// The input width of the first tensor of that ending.
    fn ending_with(&self, ending: &str) -> Option<i64> {
        self.find(|known| known.ends_with(ending))?.get(1).copied()
    }

    fn rank_of_ending(&self, ending: &str) -> Option<usize> {
        Some(self.find(|known| known.ends_with(ending))?.len())
    }

    /// Whether the block `name` has transformers.
    fn has_attention(&self, name: &str) -> bool {
        self.count(&format!("{name}.attentions")) > 0
    }

    /// How deep the transformer after each residual block of the block `name` is; 1 where there is none.
    fn depths(&self, name: &str) -> Vec<i64> {
        let layers = self.count(&format!("{name}.resnets"));
        (0..layers)
            .map(|layer| self.count(&format!("{name}.attentions.{layer}.transformer_blocks")))
            .map(|depth| depth.max(1))
            .collect()
    }

    /// How long the numbered list `name` is: one more than its highest number.
    fn count(&self, name: &str) -> i64 {
        let numbers = self.0.iter().filter_map(|header| {
            let rest = header.name.strip_prefix(name)?.strip_prefix('.')?;
            rest.split('.').next()?.parse::<u32>().ok()
        });
        numbers.max().map_or(0, |last| i64::from(last) + 1)
    }

    fn find(&self, matches: impl Fn(&str) -> bool) -> Option<&[i64]> {
        let found = self.0.iter().find(|header| matches(&header.name))?;
        Some(&found.shape)
    }
}

pub(super) fn cut(stored: &TensorHeader, piece: &Piece) -> TensorHeader {
    // What cannot be cut is an error when it is loaded; here it fits no network.
    let shape = piece.cut.shape(&stored.shape).unwrap_or_default();
    let elements: u64 = shape.iter().map(|side| side.unsigned_abs()).product();
    TensorHeader {
        name: piece.name.clone(),
        bytes: elements * stored.bytes / stored.elements().max(1),
        dtype: stored.dtype,
        shape,
    }
}

/// Which generation a checkpoint with these tensors is, or why it is none.
fn generation(stored: &[TensorHeader]) -> Result<Generation, String> {
    let any = |prefix: &str| stored.iter().any(|header| header.name.starts_with(prefix));
    let others = [
        (
            "edm_mean",
            "Playground 2.5 (trained on noise levels of its own)",
        ),
        ("model.diffusion_model.joint_blocks.", "Stable Diffusion 3"),
        ("joint_blocks.", "the network of Stable Diffusion 3"),
        ("model.diffusion_model.double_blocks.", "Flux"),
        ("double_blocks.", "the network of Flux"),
        ("control_model.", "a ControlNet"),
    ];
    if let Some((_, name)) = others.iter().find(|(prefix, _)| any(prefix)) {
        return Err(format!("it is {name}, which Easel does not draw with yet"));
    }
    if FileKind::of(stored) == FileKind::Unet {
        return Err(lacking(stored, "the text encoder and the VAE"));
    }
    if let FileKind::Lora(kind) = FileKind::of(stored) {
        return Err(format!(
            "it is no model, but a change of one ({kind}): name it in the prompt, <lora:NAME:1>, or with --lora"
        ));
    }
    if !any(ldm::UNET) {
        return Err(
            "it is not a Stable Diffusion checkpoint: it holds no UNet (model.diffusion_model)"
                .to_owned(),
        );
    }
    if !any(ldm::VAE) {
        return Err(lacking(stored, "the VAE (first_stage_model)"));
    }
    // SDXL's keys contain Stable Diffusion 1's UNet.
    let generations = [
        (ldm::XL_OPEN_CLIP, Generation::Xl),
        (ldm::CPP_SECOND_CLIP, Generation::Xl),
        (ldm::REFINER_OPEN_CLIP, Generation::XlRefiner),
        (ldm::CLIP, Generation::One),
        (ldm::OPEN_CLIP, Generation::Two),
    ];
    let found = generations.iter().find(|(prefix, _)| any(prefix));
    match found.map(|(_, generation)| *generation) {
        // stable-diffusion.cpp calls OpenCLIP's tensors as CLIP's.
        Some(Generation::One) if clip_width(stored) == Some(OPEN_CLIP_WIDTH) => Ok(Generation::Two),
        Some(found) => Ok(found),
        None => Err(lacking(
            stored,
            "the text encoder (cond_stage_model or conditioner)",
        )),
    }
}

fn clip_width(stored: &[TensorHeader]) -> Option<i64> {
    let mut of_clip = stored
        .iter()
        .filter(|header| header.name.starts_with(ldm::CLIP));
    let norm = of_clip.find(|header| header.name.ends_with("final_layer_norm.weight"))?;
    norm.shape.first().copied()
}

/// What a model that is not whole lacks, and how to go on.
fn lacking(stored: &[TensorHeader], what: &str) -> String {
    let cross = stored.iter().find_map(|header| {
        let of_unet = header.name.ends_with("attn2.to_k.weight");
        header.shape.get(1).filter(|_| of_unet)
    });
    let family = match cross {
        Some(768) => " of Stable Diffusion 1",
        Some(1024) => " of Stable Diffusion 2",
        Some(1280) => " of Stable Diffusion XL's refiner",
        Some(2048) => " of Stable Diffusion XL",
        _ => "",
    };
    format!(
        "it holds a UNet{family} and lacks {what}. A whole model of the same family can lend what is \
         missing: `easel generate PROMPT --model MODEL --unet FILE` draws so, and \
         `easel convert MODEL NEW --unet FILE` makes one model of both"
    )
}

/// The generation of a UNet alone; heads and what it predicts follow from it.
pub(super) fn generation_of_unet(cross_attention_dim: Option<i64>, added: bool) -> Generation {
    match (added, cross_attention_dim) {
        (true, Some(1280)) => Generation::XlRefiner,
        (true, _) => Generation::Xl,
        (false, Some(1024)) => Generation::Two,
        (false, _) => Generation::One,
    }
}

/// What a file says of how its UNet was trained.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Training {
    /// `None`: nothing.
    pub prediction: Option<PredictionType>,
    /// On betas that end at a signal of zero (`ztsnr`).
    pub zero_snr: bool,
}

/// `stored`: as the file names them.
pub(super) fn training(file: &Path, stored: &[TensorHeader]) -> Result<Training> {
    Ok(Training {
        prediction: prediction_said(file, stored)?,
        zero_snr: is_marked(stored, "ztsnr"),
    })
}

/// What the UNet predicts: what is said, else what diffusers takes: v for Stable Diffusion 2, the noise
/// for the others.
fn prediction(
    file: &Path,
    generation: Generation,
    stored: &[TensorHeader],
) -> Result<PredictionType> {
    let usual = match generation {
        Generation::Two => PredictionType::VPrediction,
        _ => PredictionType::Epsilon,
    };
    Ok(prediction_said(file, stored)?.unwrap_or(usual))
}

/// Of the file `NAME.yaml` beside it, which A1111 reads too; of a marker among the tensors; of the file's
/// own note (ModelSpec 1.0, which kohya's trainers write).
fn prediction_said(file: &Path, stored: &[TensorHeader]) -> Result<Option<PredictionType>> {
    if let Some(said) = prediction_of_yaml(&file.with_extension("yaml"))? {
        return Ok(Some(said));
    }
    if is_marked(stored, "v_pred") {
        return Ok(Some(PredictionType::VPrediction));
    }
    // A file that is still to be written has no notes.
    let notes = match file.is_file() {
        true => checkpoint::metadata(file)?,
        false => BTreeMap::new(),
    };
    Ok(match notes.get(PREDICTION_NOTE).map(String::as_str) {
        Some("epsilon") => Some(PredictionType::Epsilon),
        Some("v" | "v_prediction") => Some(PredictionType::VPrediction),
        Some("sample") => Some(PredictionType::Sample),
        _ => None,
    })
}

/// Whether there is a tensor of this name, which other programs read as a mark.
fn is_marked(stored: &[TensorHeader], mark: &str) -> bool {
    stored.iter().any(|header| header.name == mark)
}

/// `parameterization` of a training config: `"v"`, `"eps"` or `"x0"`, the noise where it is absent.
fn prediction_of_yaml(path: &Path) -> Result<Option<PredictionType>> {
    /// Such a file is a page of text.
    const MAX_BYTES: u64 = 1 << 20;
    match std::fs::metadata(path) {
        Ok(metadata) if metadata.is_file() && metadata.len() <= MAX_BYTES => {}
        Ok(_) => return Err(Error::model(path, "it is not a config file")),
        Err(_) => return Ok(None),
    }
    let text = std::fs::read(path).map_err(|error| Error::io("Reading", path, error))?;
    let text = String::from_utf8_lossy(&text);
    let value = text.lines().find_map(|line| {
        let value = line.trim().strip_prefix("parameterization:")?;
        let value = value.split('#').next().unwrap_or_default();
        Some(value.trim().trim_matches(['"', '\'']))
    });
    match value {
        None | Some("eps") => Ok(Some(PredictionType::Epsilon)),
        Some("v") => Ok(Some(PredictionType::VPrediction)),
        Some("x0") => Ok(Some(PredictionType::Sample)),
        Some(other) => Err(Error::model(
            path,
            format!("its parameterization is {other:?}; only \"eps\", \"v\" and \"x0\" are known"),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_file_is_follows_from_its_keys() {
        let of = |keys: &[&str]| {
            let header = |key: &&str| TensorHeader {
                name: (*key).to_owned(),
                shape: vec![4],
                dtype: checkpoint::Dtype::F16.into(),
                bytes: 8,
            };
            generation(&keys.iter().map(header).collect::<Vec<_>>())
        };
        let unet = "model.diffusion_model.out.0.weight";
        let vae = "first_stage_model.quant_conv.weight";
        let clip = "cond_stage_model.transformer.text_model.final_layer_norm.weight";
        let open_clip = "cond_stage_model.model.ln_final.weight";
        assert_eq!(of(&[clip, vae, unet]), Ok(Generation::One));
        assert_eq!(of(&[open_clip, vae, unet]), Ok(Generation::Two));
        let xl = [
            "conditioner.embedders.0.transformer.text_model.final_layer_norm.weight",
            "conditioner.embedders.1.model.ln_final.weight",
        ];
        assert_eq!(of(&[xl[0], xl[1], vae, unet]), Ok(Generation::Xl));
        let refiner = "conditioner.embedders.0.model.ln_final.weight";
        assert_eq!(of(&[refiner, vae, unet]), Ok(Generation::XlRefiner));
        for (keys, word) in [
            (&[unet, vae, "edm_mean"][..], "Playground"),
            (&[unet, vae], "text encoder"),
            (&[unet, clip], "VAE"),
            (&[vae, clip], "UNet"),
            (&["lora_unet_x.lora_down.weight"], "LoRA"),
            (&[], "not a Stable Diffusion checkpoint"),
        ] {
            let why = of(keys).unwrap_err();
            assert!(why.contains(word), "{word}: {why}");
        }
    }

    #[test]
    fn the_config_beside_a_file_says_what_is_predicted() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.yaml");
        assert_eq!(prediction_of_yaml(&path).unwrap(), None);
        for (text, expected) in [
            (
                "model:\n  params:\n    parameterization: \"v\" # x\n",
                PredictionType::VPrediction,
            ),
            ("    parameterization: eps", PredictionType::Epsilon),
            ("    parameterization: 'x0'", PredictionType::Sample),
            ("model:\n", PredictionType::Epsilon),
        ] {
            std::fs::write(&path, text).unwrap();
            assert_eq!(prediction_of_yaml(&path).unwrap(), Some(expected), "{text}");
        }
        std::fs::write(&path, "parameterization: w").unwrap();
        let message = prediction_of_yaml(&path).unwrap_err().to_string();
        assert!(
            message.contains("model.yaml") && message.contains("\"w\""),
            "{message}"
        );
    }
}
