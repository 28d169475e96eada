//! A model as it lies on disk, understood from its configs and file headers alone: a folder in
//! diffusers' layout, or a single-file checkpoint.

mod convolutions;
mod export;
mod ldm;
mod ldm_out;
mod single_file;
mod unet_files;
mod vae_files;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use tch::{Device, Kind, Tensor};

pub use self::convolutions::PlannedConvolution;
pub use self::export::{ConfigFile, PartTensors};
pub use self::ldm_out::Assembled;
use self::single_file::{LCM_SCHEDULER, SingleFile};
use self::unet_files::UnetFiles;
pub use self::vae_files::load_tiny_vae;
use self::vae_files::{VaeFiles, VaeKind};
use super::{Family, Part, room_for_weights};
use crate::checkpoint::{self, GoOn, Piece, StoredType, TensorHeader};
use crate::error::{Error, Result};
use crate::files;
use crate::models::layers::{Budget, Weights};
use crate::models::unet::{UNet2DConditionModel, UNetConfig};
use crate::models::vae::{AutoencoderKL, AutoencoderTiny, TinyConfig, VaeConfig};
use crate::request::{ModelCard, ModelDefaults, SamplerId, ScheduleId};
use crate::schedule::{SchedulerConfig, TimestepSpacing};
use crate::text::clip::{CLIPTextModel, ClipConfig};
use crate::text::tokenizer::ClipTokenizer;

/// The pipeline classes of diffusers whose folders are opened. Those that need more than a prompt say so
/// by their UNet's channels.
const PIPELINES: &[&str] = &[
    "StableDiffusionPipeline",
    "StableDiffusionImg2ImgPipeline",
    "StableDiffusionInpaintPipeline",
    "StableDiffusionInstructPix2PixPipeline",
    "LatentConsistencyModelPipeline",
    "StableDiffusionXLPipeline",
    "StableDiffusionXLImg2ImgPipeline",
    "StableDiffusionXLInpaintPipeline",
    "StableDiffusionXLInstructPix2PixPipeline",
];

/// Weights that take no more bytes than this are converted when a model is loaded, on a CPU; larger ones
/// stay in their file until they are used.
const CONVERTED_AT_ONCE: u64 = 256 << 20;

/// One part of a model on disk.
#[derive(Clone, Debug)]
pub struct Component {
    /// `unet`, `vae`, `text_encoder`.
    pub name: &'static str,
    pub files: Vec<PathBuf>,
    /// What diffusers calls the network.
    pub class: String,
    pub parameters: u64,
    pub bytes: u64,
    /// The number formats on disk, most frequent first.
    pub dtypes: Vec<String>,
    /// Why the network cannot be built, where it cannot: tensors that are missing or do not fit.
    pub problem: Option<String>,
    /// Its tensors that the network does not take.
    pub unused: Vec<String>,
}

/// A model on disk whose configs were read.
#[derive(Clone, Debug)]
pub struct ModelFiles {
    pub path: PathBuf,
    pub family: Family,
    pub unet: UNetConfig,
    pub vae: VaeConfig,
    /// One or two, in the order in which their states are put together.
    pub text_encoders: BTreeMap<Part, ClipConfig>,
    /// Whether an empty negative prompt is zeros instead of a text's states: SDXL's
    /// `force_zeros_for_empty_prompt`.
    pub zeros_for_empty_prompt: bool,
    pub scheduler: SchedulerConfig,
    layout: Layout,
    /// Stand in for the model's own.
    other_unet: Option<UnetFiles>,
    other_vae: Option<VaeFiles>,
    easel: EaselJson,
}

#[derive(Clone, Debug)]
enum Layout {
    Folder,
    SingleFile(SingleFile),
}

/// Where one network of a model comes from.
enum Source<'a> {
    Folder,
    SingleFile(&'a SingleFile),
    Unet(&'a UnetFiles),
    Vae(&'a VaeFiles),
}

/// What a model is, for `easel inspect`.
#[derive(Clone, Debug)]
pub struct Inspection {
    pub card: ModelCard,
    /// `epsilon`, `v_prediction` or `sample`.
    pub prediction_type: String,
    /// What drawing with it takes that Easel does not do.
    pub needs: Option<String>,
    pub components: Vec<Component>,
    /// Tensors that belong to no network.
    pub unknown: Vec<String>,
}

/// `easel.json`, which a model's maker may put beside `model_index.json`; every key is optional.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct EaselJson {
    name: Option<String>,
    description: String,
    defaults: EaselDefaults,
    examples: Vec<String>,
    concepts: Vec<String>,
    styles: Vec<String>,
    backgrounds: Vec<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct EaselDefaults {
    steps: Option<u32>,
    guidance: Option<f64>,
    sampler: Option<SamplerId>,
    schedule: Option<ScheduleId>,
    width: Option<u32>,
    height: Option<u32>,
    upscaler: Option<String>,
}

/// What diffusers calls the VAE in a file or folder, where it holds one that may stand in for a
/// model's own.
pub fn vae_class(path: &Path) -> Option<&'static str> {
    VaeFiles::open(path).ok().map(|files| files.config.class())
}

#[derive(Deserialize)]
struct ModelIndex {
    _class_name: String,
    force_zeros_for_empty_prompt: Option<bool>,
    /// Library and class, or two nulls where the model has none.
    text_encoder: Option<[Option<String>; 2]>,
    text_encoder_2: Option<[Option<String>; 2]>,
}

impl ModelIndex {
    /// The text encoders of the folder at `path`.
    fn text_encoders(&self, path: &Path) -> Vec<Part> {
        let there = |entry: &Option<[Option<String>; 2]>, part: Part| match entry {
            Some([_, class]) => class.is_some(),
            None => path.join(part.name()).is_dir(),
        };
        let second = there(&self.text_encoder_2, Part::TextEncoder2);
        // A model without any is told that it lacks the first.
        let first = !second || there(&self.text_encoder, Part::TextEncoder);
        let both = [(Part::TextEncoder, first), (Part::TextEncoder2, second)];
        both.into_iter()
            .filter_map(|(part, is)| is.then_some(part))
            .collect()
    }
}

impl ModelFiles {
    /// Opens a folder (also a repository of the Hugging Face cache) or a file. Takes milliseconds, whatever the weights' size.
    ///
    /// Errors: [`Error::Model`] naming the file and what is wrong or unsupported.
    pub fn open(path: &Path) -> Result<Self> {
        if path.is_dir() {
            let snapshot = checkpoint::hub_snapshot(path);
            Self::open_folder(snapshot.as_deref().unwrap_or(path))
        } else if path.is_file() {
            Self::open_file(path)
        } else {
            Err(Error::model(path, "there is no such folder or file"))
        }
    }

    /// A checkpoint in latent-diffusion's layout; its configs follow from names and shapes.
    fn open_file(path: &Path) -> Result<Self> {
        let single = SingleFile::open(path)?;
        let files = Self {
            path: path.to_path_buf(),
            family: single.generation.family(),
            unet: single.unet()?,
            vae: single.vae()?,
            text_encoders: single
                .generation
                .text_encoders()
                .iter()
                .map(|part| Ok((*part, single.text_encoder(*part)?)))
                .collect::<Result<_>>()?,
            // diffusers' own configs of both.
            zeros_for_empty_prompt: single.generation.family() == Family::Xl,
            scheduler: single.scheduler()?,
            layout: Layout::SingleFile(single),
            other_unet: None,
            other_vae: None,
            easel: EaselJson::default(),
        };
        files.check_parts_fit()?;
        Ok(files)
    }

    /// A folder in diffusers' layout.
    fn open_folder(path: &Path) -> Result<Self> {
        let index_path = path.join("model_index.json");
        if !index_path.is_file() {
            return Err(Error::model(
                path,
                "the folder has no model_index.json, so it is not a model in the diffusers layout",
            ));
        }
        let index: ModelIndex = from_json(&index_path)?;
        if !PIPELINES.contains(&index._class_name.as_str()) {
            return Err(Error::model(
                path,
                format!(
                    "it is made for {}; Easel draws with Stable Diffusion 1, 2 and XL ({})",
                    index._class_name,
                    PIPELINES.join(", ")
                ),
            ));
        }
        let easel_path = path.join("easel.json");
        let easel = if easel_path.is_file() {
            from_json(&easel_path)?
        } else {
            EaselJson::default()
        };
        let scheduler_path = path.join("scheduler/scheduler_config.json");
        let unet = UNetConfig::read(&path.join("unet/config.json"))?;
        let encoders = index.text_encoders(path);
        let family = Family::of(&unet, &encoders);
        let config_of = |part: Part| {
            let config = ClipConfig::read(&path.join(part.name()).join("config.json"))?;
            Ok((part, config))
        };
        let files = Self {
            family,
            unet,
            vae: VaeConfig::read(&path.join("vae/config.json"))?,
            text_encoders: encoders.into_iter().map(config_of).collect::<Result<_>>()?,
            zeros_for_empty_prompt: index
                .force_zeros_for_empty_prompt
                .unwrap_or(family == Family::Xl),
            scheduler: SchedulerConfig::from_json(&read(&scheduler_path)?)
                .map_err(|error| within(&scheduler_path, error))?,
            layout: Layout::Folder,
            other_unet: None,
            other_vae: None,
            easel,
            path: path.to_path_buf(),
        };
        files.check_parts_fit()?;
        Ok(files)
    }

    /// The same model with the UNet of another file or folder.
    ///
    /// Errors: [`Error::Model`] naming the UNet and why it cannot be used, or does not fit the model.
    pub fn with_unet(mut self, path: &Path) -> Result<Self> {
        let mut other = UnetFiles::open(path)?;
        if path.is_file() {
            other.draws_as(self.unet.sample_size);
        }
        let was_told_guidance = self.unet.time_cond_proj_dim.is_some();
        self.unet = other.config.clone();
        // What it does not say is as with the rest of the model.
        if let Some(prediction) = other.training.prediction {
            self.scheduler.prediction_type = prediction;
        }
        if other.training.zero_snr {
            self.scheduler.rescale_betas_zero_snr = true;
            self.scheduler.timestep_spacing = Some(TimestepSpacing::Trailing);
        }
        if self.unet.time_cond_proj_dim.is_some() {
            self.scheduler.class_name = Some(LCM_SCHEDULER.to_owned());
            self.scheduler.set_alpha_to_one = Some(true);
        } else if was_told_guidance {
            // A model that was not distilled.
            self.scheduler.class_name = Some(self.family.scheduler_class().to_owned());
            self.scheduler.set_alpha_to_one = Some(false);
        }
        self.other_unet = Some(other);
        self.check_parts_fit().map_err(|error| match error {
            Error::Model { why, .. } => {
                let why = format!("with the rest of {}: {why}", self.path.display());
                Error::model(path, why)
            }
            other => other,
        })?;
        Ok(self)
    }

    /// The same model with the VAE of another file or folder.
    ///
    /// Errors: [`Error::Model`] naming the VAE and why it cannot be used, or does not fit the UNet.
    pub fn with_vae(mut self, path: &Path) -> Result<Self> {
        let other = VaeFiles::open(path)?;
        let (channels, factor) = (other.config.latent_channels(), other.config.factor());
        if channels != self.vae.latent_channels || factor != self.vae.factor() {
            return Err(Error::model(
                path,
                format!(
                    "its latents have {channels} channels at 1/{factor} of the size, the model's {} at 1/{}",
                    self.vae.latent_channels,
                    self.vae.factor()
                ),
            ));
        }
        if let VaeKind::Kl(config) = &other.config {
            // A file without a config says nothing of the scale and of what overflows: it is made for this family.
            let said = if other.path.is_dir() {
                config
            } else {
                &self.vae
            };
            self.vae = VaeConfig {
                scaling_factor: said.scaling_factor,
                force_upcast: said.force_upcast,
                ..config.clone()
            };
        }
        self.other_vae = Some(other);
        Ok(self)
    }

    /// TAESD's config, where that stands in for the model's VAE.
    pub fn tiny_vae(&self) -> Option<&TinyConfig> {
        match self.other_vae.as_ref().map(|other| &other.config) {
            Some(VaeKind::Tiny(config)) => Some(config),
            _ => None,
        }
    }

    /// Where the UNet lies, where it is not the model's own.
    pub fn unet_path(&self) -> Option<PathBuf> {
        self.other_unet.as_ref().map(|other| other.path.clone())
    }

    /// Where the VAE lies, where it is not the model's own.
    pub fn vae_path(&self) -> Option<PathBuf> {
        self.other_vae.as_ref().map(|other| other.path.clone())
    }

    /// What the window's picker shows. `shipped`: the model that comes with Easel.
    ///
    /// Errors: [`Error::Io`] where a weights file cannot be looked at.
    pub fn card(&self, shipped: bool) -> Result<ModelCard> {
        let mut size_bytes = 0;
        for file in self.all_files()? {
            size_bytes += std::fs::metadata(&file)
                .map_err(|error| Error::io("Reading", &file, error))?
                .len();
        }
        let other_unet = self.other_unet.as_ref().map(|unet| unet.path.as_path());
        let own_name = || match (other_unet, &self.layout) {
            (Some(unet), _) if unet.is_dir() => files::name(unet),
            (Some(unet), _) => files::stem(unet),
            (None, Layout::Folder) => files::name(&self.path),
            (None, Layout::SingleFile(_)) => files::stem(&self.path),
        };
        Ok(ModelCard {
            path: (!shipped).then(|| self.path.clone()),
            name: self.easel.name.clone().unwrap_or_else(own_name),
            description: self.easel.description.clone(),
            family: self.family.name().to_owned(),
            size_bytes,
            picture: None,
            sha256: None,
            defaults: self.defaults(),
            latent_factor: pixels(self.vae.factor()),
            chunk_tokens: pixels(self.longest_text() - 2),
            examples: self.easel.examples.clone(),
            concepts: self.easel.concepts.clone(),
            styles: self.easel.styles.clone(),
            backgrounds: self.easel.backgrounds.clone(),
        })
    }

    /// The networks that the model has.
    pub fn parts(&self) -> Vec<Part> {
        let encoders = self.text_encoders.keys().copied();
        [Part::Unet, Part::Vae]
            .into_iter()
            .chain(encoders)
            .collect()
    }

    /// Tokens of the shortest of its text encoders' longest texts, with both markers.
    fn longest_text(&self) -> i64 {
        let lengths = self.text_encoders.values();
        lengths
            .map(|encoder| encoder.max_position_embeddings)
            .min()
            .unwrap_or_default()
    }

    /// The tokenizer of the first text encoder, for counting: SDXL's two have the same words.
    ///
    /// Errors: as [`Self::tokenizer_of`].
    pub fn tokenizer(&self) -> Result<ClipTokenizer> {
        let first = self.text_encoders.keys().next().copied();
        self.tokenizer_of(first.unwrap_or(Part::TextEncoder))
    }

    /// The tokenizer that a text encoder was trained with.
    ///
    /// Errors: [`Error::Model`] naming the file that is missing or wrong.
    pub fn tokenizer_of(&self, encoder: Part) -> Result<ClipTokenizer> {
        let length = usize::try_from(self.longest_text()).unwrap_or_default();
        match &self.layout {
            Layout::Folder => {
                ClipTokenizer::from_folder(&self.path.join(encoder.tokenizer_folder()), length)
            }
            Layout::SingleFile(single) => {
                ClipTokenizer::clip(length, single.generation.pad(encoder))
            }
        }
    }

    /// How many numbers about the picture the UNet takes, where it takes some: 6, or 5 of the refiner.
    pub fn time_ids(&self) -> Option<i64> {
        let added = self.unet.added?;
        let pooled = self.text_encoders.get(&Part::TextEncoder2)?.projection_dim;
        Some((added.input_dim - pooled) / added.time_embed_dim)
    }

    /// What drawing with it takes that Easel does not do, in words.
    pub fn needs(&self) -> Option<String> {
        let (latents, channels) = (self.vae.latent_channels, self.unet.in_channels);
        let what = match channels - latents {
            0 => return None,
            more if more == latents + 1 => {
                "it fills in masked parts of a picture (inpainting): beside the prompt it needs a \
                 picture and a mask"
            }
            more if more == latents => {
                "it changes a picture as told (instruct-pix2pix): beside the prompt it needs a picture"
            }
            _ => "beside the prompt it needs more than Easel gives a model",
        };
        Some(format!(
            "{what}, which Easel does not give it yet. Its UNet takes {channels} channels, {latents} of \
             them for what is drawn. Choose a model that draws from words alone"
        ))
    }

    /// Everything `easel inspect` prints; reads file headers only.
    ///
    /// Errors: [`Error::Model`] naming a weights file that is missing or broken.
    pub fn inspect(&self, shipped: bool) -> Result<Inspection> {
        Ok(Inspection {
            card: self.card(shipped)?,
            prediction_type: self.scheduler.prediction_type.name().to_owned(),
            needs: self.needs(),
            components: self
                .parts()
                .into_iter()
                .map(|part| self.component(part))
                .collect::<Result<_>>()?,
            unknown: match &self.layout {
                Layout::Folder => Vec::new(),
                Layout::SingleFile(single) => single.unknown.clone(),
            },
        })
    }

    /// A network's tensors by diffusers' names.
    fn headers(&self, part: Part) -> Result<Vec<TensorHeader>> {
        Ok(match self.source(part) {
            Source::Unet(other) => other.headers.clone(),
            Source::Vae(other) => other.headers.clone(),
            Source::Folder => checkpoint::headers(&self.files(part)?)?,
            Source::SingleFile(single) => single.headers(part).to_vec(),
        })
    }

    fn component(&self, part: Part) -> Result<Component> {
        let files = self.files(part)?;
        let headers = self.headers(part)?;
        let weights = Weights::new(&self.path, stand_ins(&headers)?);
        let built = self.try_out(part, &weights);
        Ok(Component {
            name: part.name(),
            class: match self.source(part) {
                Source::Vae(other) => other.config.class(),
                Source::Folder | Source::SingleFile(_) | Source::Unet(_) => part.class(),
            }
            .to_owned(),
            parameters: headers.iter().map(TensorHeader::elements).sum(),
            bytes: headers.iter().map(|header| header.bytes).sum(),
            dtypes: dtypes(&headers),
            unused: match built {
                Ok(()) => weights.unused(),
                Err(_) => Vec::new(),
            },
            problem: built.err().map(|error| match error {
                Error::Model { why, .. } => why,
                other => other.to_string(),
            }),
            files,
        })
    }

    /// Builds a network and drops it.
    fn try_out(&self, part: Part, weights: &Weights) -> Result<()> {
        match part {
            Part::Unet => UNet2DConditionModel::new(self.unet.clone(), weights).map(drop),
            Part::Vae => match self.tiny_vae() {
                Some(config) => AutoencoderTiny::new(config.clone(), weights).map(drop),
                None => AutoencoderKL::new(self.vae.clone(), weights).map(drop),
            },
            Part::TextEncoder | Part::TextEncoder2 => self.build_encoder(part, weights).map(drop),
        }
    }

    /// Builds a text encoder.
    ///
    /// Errors: as [`CLIPTextModel::new`].
    pub fn build_encoder(&self, part: Part, weights: &Weights) -> Result<CLIPTextModel> {
        let config = self
            .text_encoders
            .get(&part)
            .cloned()
            .ok_or_else(|| Error::model(&self.path, format!("it has no {}", part.words())))?;
        match part {
            Part::TextEncoder2 => CLIPTextModel::with_projection(config, weights),
            Part::TextEncoder | Part::Unet | Part::Vae => CLIPTextModel::new(config, weights),
        }
    }

    /// Loads the weights of one network, under diffusers' names. On a CPU large ones are mapped, whatever
    /// they are stored in: the network converts them when it uses them.
    ///
    /// Errors: as [`checkpoint::load_pieces`].
    pub fn load<G: GoOn>(
        &self,
        part: Part,
        device: Device,
        kind: Kind,
        progress: &mut dyn FnMut(f32) -> G,
    ) -> Result<Weights> {
        let files = self.files(part)?;
        let pieces = |key: &str| self.pieces(part, key);
        let values: u64 = self.headers(part)?.iter().map(TensorHeader::elements).sum();
        let bytes = values.saturating_mul(kind.elt_size_in_bytes() as u64);
        if device != Device::Cpu || bytes <= CONVERTED_AT_ONCE {
            let named = checkpoint::load_pieces(&files, &pieces, device, kind, progress)?;
            return Ok(Weights::new(named.path, named.tensors));
        }
        let named = checkpoint::map_pieces(&files, &pieces, kind, progress)?;
        let room = match part {
            Part::Unet => room_for_weights(),
            // A picture looks at the VAE's once, and keeps the others' while its prompts are encoded.
            Part::Vae | Part::TextEncoder | Part::TextEncoder2 => 0,
        };
        Ok(Weights::new(named.path, named.tensors).computing_in(kind, Budget::of(room)))
    }

    /// Where one network comes from.
    fn source(&self, part: Part) -> Source<'_> {
        match (part, &self.other_unet, &self.other_vae, &self.layout) {
            (Part::Unet, Some(other), _, _) => Source::Unet(other),
            (Part::Vae, _, Some(other), _) => Source::Vae(other),
            (_, _, _, Layout::Folder) => Source::Folder,
            (_, _, _, Layout::SingleFile(single)) => Source::SingleFile(single),
        }
    }

    /// What becomes of a tensor that is stored in one of a network's files.
    fn pieces(&self, part: Part, key: &str) -> Vec<Piece> {
        match self.source(part) {
            Source::Unet(other) => other.pieces(key),
            Source::Vae(other) => other.pieces(key),
            Source::Folder => vec![Piece::whole(key)],
            Source::SingleFile(single) => single.pieces(part, key),
        }
    }

    /// The files that hold the weights of one network.
    fn files(&self, part: Part) -> Result<Vec<PathBuf>> {
        match self.source(part) {
            Source::Unet(other) => Ok(other.files.clone()),
            Source::Vae(other) => Ok(other.files.clone()),
            Source::Folder => checkpoint::find_weights(&self.path.join(part.name()), part.stem()),
            Source::SingleFile(single) => Ok(vec![single.file.clone()]),
        }
    }

    fn all_files(&self) -> Result<Vec<PathBuf>> {
        let files = self.parts().into_iter().map(|part| self.files(part));
        let mut files = files.collect::<Result<Vec<_>>>()?.concat();
        files.sort();
        files.dedup();
        Ok(files)
    }

    /// The file whose sha256 names the model in A1111's metadata: the checkpoint, or the UNet's.
    ///
    /// Errors: [`Error::Model`] where there is none.
    pub fn hashed_file(&self) -> Result<PathBuf> {
        let first = self.files(Part::Unet)?.into_iter().next();
        first.ok_or_else(|| Error::model(&self.path, "it has no UNet weights"))
    }

    /// The family's defaults under what `easel.json` says.
    fn defaults(&self) -> ModelDefaults {
        let said = &self.easel.defaults;
        let family = self.family.defaults(&self.unet, &self.scheduler);
        let native = self.unet.sample_size.unwrap_or([family.sample_size; 2]);
        let [height_px, width_px] = native.map(|side| pixels(side * self.vae.factor()));
        ModelDefaults {
            steps: said.steps.unwrap_or(family.steps),
            guidance_scale: said.guidance.unwrap_or(family.guidance_scale),
            sampler: said
                .sampler
                .unwrap_or_else(|| self.scheduler.default_sampler()),
            schedule: said.schedule.unwrap_or(ScheduleId::Model),
            width_px: said.width.unwrap_or(width_px),
            height_px: said.height.unwrap_or(height_px),
            upscaler: said.upscaler.clone(),
        }
    }

    fn check_parts_fit(&self) -> Result<()> {
        let wrong = |why: String| Err(Error::model(&self.path, why));
        let (latents, channels) = (self.vae.latent_channels, self.unet.in_channels);
        if channels < latents || self.unet.out_channels != latents {
            return wrong(format!(
                "its UNet takes {channels} channels and gives {}, its VAE's latents have {latents}",
                self.unet.out_channels
            ));
        }
        let encoders = self.text_encoders.values();
        let text: i64 = encoders.map(|encoder| encoder.hidden_size).sum();
        let cross = self.unet.cross_attention_dim;
        if text != cross {
            return wrong(format!(
                "its text encoders give {text} values a token and its UNet takes {cross}"
            ));
        }
        match (self.unet.added, self.time_ids()) {
            (None, _) => Ok(()),
            (Some(added), Some(count @ (5 | 6)))
                if self
                    .text_encoders
                    .get(&Part::TextEncoder2)
                    .is_some_and(|encoder| {
                        encoder.projection_dim + count * added.time_embed_dim == added.input_dim
                    }) =>
            {
                Ok(())
            }
            (Some(added), _) => wrong(format!(
                "its UNet takes {} values beside the text's state, which are not a pooled text's and 5 or \
                 6 numbers about the picture",
                added.input_dim
            )),
        }
    }
}

/// A size that a config states, as the window counts; nonsense becomes 0 and fails where it is used.
fn pixels(size: i64) -> u32 {
    u32::try_from(size).unwrap_or_default()
}

fn dtypes(headers: &[TensorHeader]) -> Vec<String> {
    let mut counts: Vec<(StoredType, u64)> = Vec::new();
    for header in headers {
        match counts.iter_mut().find(|(dtype, _)| *dtype == header.dtype) {
            Some((_, bytes)) => *bytes += header.bytes,
            None => counts.push((header.dtype, header.bytes)),
        }
    }
    counts.sort_by_key(|(_, bytes)| std::cmp::Reverse(*bytes));
    counts
        .into_iter()
        .map(|(dtype, _)| dtype.to_string())
        .collect()
}

/// Tensors of these shapes with no memory behind them.
fn stand_ins(headers: &[TensorHeader]) -> Result<BTreeMap<String, Tensor>> {
    let value = Tensor::f_zeros([1], (Kind::Float, Device::Cpu))?;
    let one = |header: &TensorHeader| {
        let tensor = value.f_expand(&header.shape, false)?;
        Ok((header.name.clone(), tensor))
    };
    headers.iter().map(one).collect()
}

fn read(path: &Path) -> Result<String> {
    std::fs::read_to_string(path).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => Error::model(path, "the file is missing"),
        std::io::ErrorKind::InvalidData => Error::model(path, "it is not text"),
        _ => Error::io("Reading", path, error),
    })
}

fn from_json<T: serde::de::DeserializeOwned>(path: &Path) -> Result<T> {
    serde_json::from_str(&read(path)?)
        .map_err(|error| Error::model(path, format!("it is not as expected: {error}")))
}

/// Names the file in an error about what a config says.
fn within(path: &Path, error: Error) -> Error {
    match error {
        Error::Model { why, .. } | Error::Request(why) => Error::model(path, why),
        other => Error::model(path, other.to_string()),
    }
}
