//! What a person asks for, and what was drawn: plain data, no tensors, no widgets.
//!
//! [`GenerationRequest`] holds what was said (`None`: nothing was said, the model decides);
//! [`PictureSettings`] holds what it came to, and travels inside every picture.

mod add_on;
mod emphasis;
mod exact;
mod interval;
mod recipe;
mod sampler;
mod schedule;
mod seeding;
mod tuning;
mod xl;

use std::hash::{BuildHasher, Hasher, RandomState};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::files;

pub use add_on::{AddOn, AddOnHashes, AddOnKind, LoraNotes};
pub use emphasis::{EMPHASES, Emphasis, EmphasisInfo};
pub use interval::GuidanceInterval;
pub use recipe::{FileRole, GoneFile, MOST_NOTES, NamedFile, NamedFiles, Recipe};
pub use sampler::{SAMPLERS, SamplerId, SamplerInfo};
pub use schedule::{SCHEDULES, ScheduleId, ScheduleInfo};
pub use seeding::{SEED_MODES, SeedMode, SeedModeInfo, Seeding};
pub use tuning::{KNOBS, Knob, KnobInfo, Tuning};
pub use xl::{PictureHints, RefinerChoice};

/// Characters of a model's sha256 that A1111 shows.
const SHORT_HASH: usize = 10;

/// One job as a person words it: in the window, on the command line, in a picture's metadata.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct GenerationRequest {
    pub prompt: String,
    pub negative_prompt: String,
    /// Whose brackets the prompts are read with, and whose formula weighs the words.
    #[serde(skip_serializing_if = "Emphasis::is_usual")]
    pub emphasis: Emphasis,
    /// Where the lists of `__name__` lie, before those beside the model folders.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wildcards: Option<PathBuf>,
    /// A model folder or file; `None` is the model that ships.
    pub model: Option<PathBuf>,
    /// A UNet, file or folder, that stands in for the model's own.
    pub unet: Option<PathBuf>,
    /// A VAE, file or folder, that stands in for the model's own.
    pub vae: Option<PathBuf>,
    /// LoRAs beside those that the prompt names.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub loras: Vec<LoraChoice>,
    /// Embedding files that prompts may name, beside those in the model folders.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub embeddings: Vec<PathBuf>,
    /// What the LoRAs and embeddings are that the prompts name, where a picture says so.
    #[serde(skip_serializing_if = "AddOnHashes::is_empty")]
    pub hashes: AddOnHashes,
    /// A second model, which draws the last steps.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refiner: Option<RefinerChoice>,
    /// For SDXL; the others do not look at it.
    #[serde(skip_serializing_if = "PictureHints::is_usual")]
    pub hints: PictureHints,
    /// Denoising steps, 1 to 1000.
    pub steps: Option<u32>,
    /// Classifier-free guidance scale; 1 and below skips the second pass.
    pub guidance_scale: Option<f64>,
    /// How far guidance is brought back to the prompt's own contrast, 0 to 1 (2305.08891, 3.4);
    /// `None` is 0.
    pub guidance_rescale: Option<f64>,
    /// The shares of the steps from which on and up to which the prompt guides, 0 to 1; `None`: all.
    pub guidance_interval: Option<GuidanceInterval>,
    /// Which of the text encoder's layers is listened to, counted from its last, 1: A1111's.
    pub clip_skip: Option<u32>,
    /// Of the drawing, before enlarging; a multiple of the model's latent factor.
    pub width_px: Option<u32>,
    pub height_px: Option<u32>,
    /// Of the first picture; how the others' follow says [`Seeding::of_picture`]. `None`: a new one is
    /// drawn.
    pub seed: Option<u64>,
    #[serde(skip_serializing_if = "Seeding::is_usual")]
    pub seeding: Seeding,
    /// How many pictures; `None` is one.
    pub count: Option<u32>,
    /// How many pictures are drawn together; `None`: as many as suit the size and the device.
    pub batch_size: Option<u32>,
    pub sampler: Option<SamplerId>,
    pub schedule: Option<ScheduleId>,
    #[serde(skip_serializing_if = "Tuning::is_usual")]
    pub tuning: Tuning,
    pub upscale: Upscale,
    pub device: DeviceChoice,
    pub dtype: DtypeChoice,
    #[serde(skip_serializing_if = "Arithmetic::is_fast")]
    pub arithmetic: Arithmetic,
}

/// A LoRA file and how much it counts; 1 is as trained.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LoraChoice {
    pub path: PathBuf,
    #[serde(with = "exact")]
    pub weight: f64,
}

impl LoraChoice {
    /// What a prompt calls it: the file's name without its ending.
    pub fn name(&self) -> String {
        files::stem(&self.path)
    }
}

/// A seed nobody chose: the standard library keys every hasher with fresh randomness. 32 bits, which
/// every program of the field can hold.
pub fn new_seed() -> u64 {
    RandomState::new().build_hasher().finish() & u64::from(u32::MAX)
}

/// Whether and with which network the finished picture is enlarged.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Upscale {
    /// As the model's `easel.json` says.
    #[default]
    Auto,
    None,
    /// A weights file of Real-ESRGAN's compact network.
    With(PathBuf),
}

/// Where the networks run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeviceChoice {
    /// CUDA where there is one that works, else the CPU.
    #[default]
    Auto,
    Cpu,
    Cuda,
}

/// The number format the networks compute in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DtypeChoice {
    /// f32 on the CPU, f16 on CUDA.
    #[default]
    Auto,
    F32,
    F16,
    Bf16,
}

/// How the networks compute on a processor in f32. A graphics card has one way only.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Arithmetic {
    /// With the fewest operations; values differ by some millionths.
    #[default]
    Fast,
    /// By libtorch's operators alone: the same numbers as other programs on libtorch, to the last bit.
    Exact,
}

impl Arithmetic {
    fn is_fast(&self) -> bool {
        *self == Self::Fast
    }
}

/// Everything needed to draw one picture again. Stored losslessly in the PNG key `easel`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PictureSettings {
    /// As it was drawn: wildcards and choices are resolved.
    pub prompt: String,
    pub negative_prompt: String,
    /// What the prompts were drawn from, where they held wildcards or choices.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub negative_template: Option<String>,
    #[serde(default, skip_serializing_if = "Emphasis::is_usual")]
    pub emphasis: Emphasis,
    /// The model's display name.
    pub model_name: String,
    /// Where it lay when the picture was drawn; `None` for the model that ships.
    #[serde(default)]
    pub model_path: Option<PathBuf>,
    /// First 10 hex digits of the sha256 of the model file (of the UNet's file, for a folder).
    #[serde(default)]
    pub model_hash: Option<String>,
    /// Where the UNet lay that stood in for the model's own; the model is called by it.
    #[serde(default)]
    pub unet_path: Option<PathBuf>,
    /// Where the VAE lay that stood in for the model's own.
    #[serde(default)]
    pub vae_path: Option<PathBuf>,
    /// LoRAs beside those that the prompt names.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub loras: Vec<LoraChoice>,
    /// Embedding files that were named by their path.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub embeddings: Vec<PathBuf>,
    /// Of the LoRAs and embeddings that it was drawn with.
    #[serde(default, skip_serializing_if = "AddOnHashes::is_empty")]
    pub hashes: AddOnHashes,
    /// The model that drew the last steps.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refiner: Option<RefinerChoice>,
    /// Its hash, as `model_hash`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refiner_hash: Option<String>,
    #[serde(default, skip_serializing_if = "PictureHints::is_usual")]
    pub hints: PictureHints,
    pub steps: u32,
    #[serde(with = "exact")]
    pub guidance_scale: f64,
    #[serde(default, with = "exact")]
    pub guidance_rescale: f64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub guidance_interval: Option<GuidanceInterval>,
    /// A1111's: 1 is the text encoder's last layer.
    #[serde(default = "last_layer")]
    pub clip_skip: u32,
    /// Of this picture.
    pub seed: u64,
    #[serde(default, skip_serializing_if = "Seeding::is_usual")]
    pub seeding: Seeding,
    pub sampler: SamplerId,
    pub schedule: ScheduleId,
    #[serde(default, skip_serializing_if = "Tuning::is_usual")]
    pub tuning: Tuning,
    /// Of the drawing, before enlarging.
    pub width_px: u32,
    pub height_px: u32,
    /// Name of the network that enlarged it (`realesr-animevideov3-x4`), where one did.
    #[serde(default)]
    pub upscaler: Option<String>,
    /// Of the saved picture.
    pub output_width_px: u32,
    pub output_height_px: u32,
    /// `cpu` or `cuda`.
    pub device: String,
    /// `f32`, `f16` or `bf16`.
    pub dtype: String,
    /// `None`: a graphics card's, or nothing is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub arithmetic: Option<Arithmetic>,
    /// Easel's version.
    pub version: String,
    /// The steps reached, where the drawing was cancelled before its end.
    #[serde(default)]
    pub cancelled_after: Option<u32>,
    /// Where another program drew the picture and Easel enlarged it: all that is known, and all that is
    /// written into it.
    #[serde(skip)]
    pub foreign: Option<Box<Foreign>>,
}

/// What another program said of a picture.
#[derive(Clone, Debug, PartialEq)]
pub struct Foreign {
    /// Draws it again, as far as it is understood.
    pub request: GenerationRequest,
    /// As A1111 would show it.
    pub infotext: String,
    /// How many times as large Easel made it.
    pub enlarged_by: u32,
}

fn last_layer() -> u32 {
    1
}

impl PictureSettings {
    /// The seed, where it is known.
    pub fn known_seed(&self) -> Option<u64> {
        match &self.foreign {
            Some(foreign) => foreign.request.seed,
            None => (self.steps > 0).then_some(self.seed),
        }
    }

    /// The request that draws this picture again. Easel may have enlarged a picture that says nothing
    /// of how it was drawn (0 steps, 0 pixels): then the model decides.
    pub fn to_request(&self) -> GenerationRequest {
        if let Some(foreign) = &self.foreign {
            return foreign.request.clone();
        }
        let drawn = self.steps > 0;
        let side = |px: u32| (px > 0).then_some(px);
        GenerationRequest {
            prompt: self.prompt.clone(),
            negative_prompt: self.negative_prompt.clone(),
            emphasis: self.emphasis,
            wildcards: None,
            model: self.model_path.clone(),
            unet: self.unet_path.clone(),
            vae: self.vae_path.clone(),
            loras: self.loras.clone(),
            embeddings: self.embeddings.clone(),
            hashes: self.hashes.clone(),
            refiner: self.refiner.clone(),
            hints: self.hints,
            steps: drawn.then_some(self.steps),
            guidance_scale: drawn.then_some(self.guidance_scale),
            guidance_rescale: Some(self.guidance_rescale).filter(|rescale| *rescale > 0.0),
            guidance_interval: self.guidance_interval,
            clip_skip: Some(self.clip_skip).filter(|skip| *skip > 1),
            width_px: side(self.width_px),
            height_px: side(self.height_px),
            seed: drawn.then_some(self.seed),
            seeding: self.seeding,
            count: Some(1),
            batch_size: None,
            sampler: drawn.then_some(self.sampler),
            schedule: drawn.then_some(self.schedule),
            tuning: self.tuning,
            upscale: match &self.upscaler {
                Some(_) => Upscale::Auto,
                None => Upscale::None,
            },
            device: DeviceChoice::Auto,
            dtype: DtypeChoice::Auto,
            arithmetic: self.arithmetic.unwrap_or_default(),
        }
    }
}

/// What the engine does for a job at this moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    LoadingModel,
    ReadingPrompt,
    Drawing,
    Decoding,
    Enlarging,
    Saving,
}

/// Where finished pictures go.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SaveTarget {
    /// `ROOT/YYYY-MM-DD/00001-seed.png`, numbered on from what is there.
    Library(PathBuf),
    /// Exactly this file; pictures after the first get `-2`, `-3`, ... before the ending.
    File(PathBuf),
    /// `FOLDER/00001-seed.png`, numbered on from what is there.
    Folder(PathBuf),
}

/// The file format of a saved picture.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PictureFormat {
    #[default]
    Png,
    Jpeg,
    Webp,
}

impl PictureFormat {
    /// Every format, in the order of the menu.
    pub const ALL: [Self; 3] = [Self::Png, Self::Jpeg, Self::Webp];

    /// The ending of its files.
    pub fn extension(self) -> &'static str {
        match self {
            Self::Png => "png",
            Self::Jpeg => "jpg",
            Self::Webp => "webp",
        }
    }

    /// The format a file name asks for, by its ending.
    pub fn from_path(path: &Path) -> Option<Self> {
        let ending = path.extension()?.to_str()?.to_ascii_lowercase();
        match ending.as_str() {
            "png" => Some(Self::Png),
            "jpg" | "jpeg" => Some(Self::Jpeg),
            "webp" => Some(Self::Webp),
            _ => None,
        }
    }

    /// The longest side that the format can hold.
    pub fn max_side_px(self) -> u32 {
        match self {
            Self::Png => i32::MAX as u32,
            Self::Jpeg => 65_535,
            Self::Webp => 16_383,
        }
    }
}

/// A finished or forming picture: 8-bit RGB, row by row from the top left.
#[derive(Clone, PartialEq, Eq)]
pub struct Pixels {
    pub width_px: u32,
    pub height_px: u32,
    /// `3 * width_px * height_px` bytes.
    pub rgb: Vec<u8>,
}

impl ModelCard {
    /// The ten digits that A1111 shows and pictures carry.
    pub fn short_hash(&self) -> Option<&str> {
        short_hash(self.sha256.as_deref()?)
    }
}

/// The part of a sha256 in hex that A1111 names models by.
pub fn short_hash(sha256: &str) -> Option<&str> {
    sha256.get(..SHORT_HASH)
}

impl std::fmt::Debug for Pixels {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Pixels({} x {})", self.width_px, self.height_px)
    }
}

/// What a model is and what it likes; read from its folder in header time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ModelCard {
    /// `None` for the model that ships.
    pub path: Option<PathBuf>,
    pub name: String,
    pub description: String,
    /// `Stable Diffusion 1`, ...
    pub family: String,
    /// Bytes on disk of all weights.
    pub size_bytes: u64,
    /// The picture beside the file or folder (`name.preview.png`, `name.png`).
    #[serde(default)]
    pub picture: Option<PathBuf>,
    /// Of the file that names the model in pictures' settings, once it was hashed in the background.
    #[serde(default)]
    pub sha256: Option<String>,
    pub defaults: ModelDefaults,
    /// Width and height must be multiples of it.
    pub latent_factor: u32,
    /// Tokens of one chunk of the prompt, without the two markers.
    pub chunk_tokens: u32,
    /// Example prompts, for the first start.
    pub examples: Vec<String>,
    /// What the model knows, where its `easel.json` says.
    pub concepts: Vec<String>,
    pub styles: Vec<String>,
    pub backgrounds: Vec<String>,
}

/// What a request that says nothing comes to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ModelDefaults {
    pub steps: u32,
    pub guidance_scale: f64,
    pub sampler: SamplerId,
    pub schedule: ScheduleId,
    pub width_px: u32,
    pub height_px: u32,
    /// Name of a network in `weights/upscalers`.
    pub upscaler: Option<String>,
}
