//! What the window (or the command line) and the worker say to each other: plain data, never a
//! tensor, so that a worker in another process or on another machine needs no change in the window.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use crate::error::{Error, Remedy};
use crate::prompt::embeddings::EmbeddingNames;
pub use crate::request::Recipe;
use crate::request::{
    AddOn, Arithmetic, DeviceChoice, DtypeChoice, Emphasis, GenerationRequest, ModelCard,
    PictureFormat, PictureSettings, Pixels, SaveTarget,
};

pub use crate::request::Stage;

/// Names one job from its command to its last event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct JobId(pub u64);

/// What the engine thread is asked to do; done one after another, in order.
#[derive(Clone, Debug)]
pub enum Command {
    /// Draw pictures.
    Generate(Job),
    /// Enlarge a saved picture once more with the upscaler, into a new file beside it.
    Enlarge {
        job: JobId,
        source: PathBuf,
        format: PictureFormat,
        arithmetic: Arithmetic,
    },
    /// Load a model now, so that the next job starts at once. `None` is the model that ships.
    LoadModel(ModelChoice),
}

/// A model, what stands in for parts of it, and how it is to be loaded; as in [`GenerationRequest`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ModelChoice {
    pub model: Option<PathBuf>,
    pub unet: Option<PathBuf>,
    pub vae: Option<PathBuf>,
    pub device: DeviceChoice,
    pub dtype: DtypeChoice,
}

impl From<&GenerationRequest> for ModelChoice {
    fn from(request: &GenerationRequest) -> Self {
        Self {
            model: request.model.clone(),
            unet: request.unet.clone(),
            vae: request.vae.clone(),
            device: request.device,
            dtype: request.dtype,
        }
    }
}

/// One drawing job.
#[derive(Clone, Debug)]
pub struct Job {
    pub id: JobId,
    pub request: GenerationRequest,
    pub save_to: SaveTarget,
    pub format: PictureFormat,
    /// Also write the final latents `[1, c, h, w]` of each picture, f32, key `latents`.
    pub latents_to: Option<PathBuf>,
    /// Where the LoRAs that a prompt names are looked for, beside the model's own folder.
    pub model_folders: Vec<PathBuf>,
    /// Show the picture while it forms.
    pub previews: bool,
    /// Measure where the time goes, and tell before the end.
    pub profile: bool,
}

/// What all layers of one kind in one network took.
#[derive(Clone, Debug, PartialEq)]
pub struct LayerTime {
    /// `UNet`, `VAE`, ...
    pub part: String,
    /// `linear`, ...; `None`: the network's own work between its layers.
    pub layer: Option<String>,
    pub calls: u64,
    pub secs: f64,
}

/// What the file thread is asked to do. It never waits for the engine.
#[derive(Clone, Debug)]
pub enum FileCommand {
    /// Look for models in these folders, beside the one that ships, now and from now on: an own thread
    /// answers.
    FindModels {
        folders: Vec<PathBuf>,
        /// A folder of lists for prompts, where one is chosen.
        wildcards: Option<PathBuf>,
    },
    /// List the saved pictures under this folder, newest first.
    ListHistory { root: PathBuf },
    /// Read a picture scaled down to fit `size_px`, for the history.
    Thumbnail { path: PathBuf, size_px: u32 },
    /// Read a picture whole, with its settings.
    OpenPicture { path: PathBuf },
    /// Read what these pictures were drawn from, for the search: a few at a time, so that what else
    /// is asked for comes between.
    ReadPrompts { paths: Vec<PathBuf> },
    /// What the files of these embeddings call them themselves.
    ReadEmbeddings { paths: Vec<PathBuf> },
    /// Why this is no model that can be drawn with, after a search left it out.
    CheckModel { path: PathBuf },
    /// Save a picture that could not be saved before, numbered, below another folder.
    Keep {
        picture: Arc<Picture>,
        root: PathBuf,
        format: PictureFormat,
    },
    /// Write a picture elsewhere; the format follows the file name.
    SaveAs { picture: Arc<Picture>, to: PathBuf },
    /// Move a picture to the trash.
    Delete { path: PathBuf },
    /// Bring the picture back that was deleted from this path.
    Restore { path: PathBuf },
    /// Show the file in the system's file manager.
    ShowInFolder { path: PathBuf },
    /// Count the tokens of a prompt, as the model reads it.
    CountTokens(TokensAsked),
}

/// Whose tokens are to be counted.
#[derive(Clone, Debug, PartialEq)]
pub struct TokensAsked {
    pub model: Option<PathBuf>,
    pub prompt: String,
    pub emphasis: Emphasis,
    /// Those that the prompt may name.
    pub embeddings: Arc<EmbeddingNames>,
}

/// What the worker reports. Every job ends in exactly one of `Finished`, `Failed`, `Cancelled`.
#[derive(Clone, Debug)]
pub enum Event {
    // --- from the engine ---
    /// `fraction` in `[0, 1]`.
    ModelLoading {
        name: String,
        fraction: f32,
    },
    ModelReady(LoadedModel),
    /// What was loaded is not loaded on.
    LoadingStopped,
    /// A `LoadModel` command failed; a job that needs the model fails with the same message.
    ModelFailed {
        model: Option<PathBuf>,
        failure: Failure,
    },
    /// The request is resolved and drawing begins.
    Started {
        job: JobId,
        plan: JobPlan,
    },
    /// Something of this job went on.
    Progress {
        job: JobId,
        progress: Progress,
    },
    /// Picture `index` of the job is drawn, and saved unless `save_failure` says otherwise.
    PictureDone {
        job: JobId,
        index: usize,
        picture: Arc<Picture>,
    },
    /// Where the time of a finished job went, the dearest first, where it was asked.
    Profiled {
        job: JobId,
        layers: Vec<LayerTime>,
    },
    Finished {
        job: JobId,
        elapsed_secs: f64,
    },
    Failed {
        job: JobId,
        failure: Failure,
    },
    /// Stopped by the person. What was reached came before as `PictureDone` with
    /// `settings.cancelled_after` set and no path: nothing half-drawn is written to disk.
    Cancelled {
        job: JobId,
    },

    // --- from the file thread ---
    /// Answers `FindModels`.
    ModelsFound(Vec<ModelCard>),
    /// Unasked: the same list, after files came or went, or the hash of one is known.
    ModelsChanged(Vec<ModelCard>),
    /// LoRAs, VAEs, embeddings and upscalers: before `ModelsFound`, and when files came or went.
    AddOnsFound(Vec<AddOn>),
    /// Answers `ListHistory`; unasked, after pictures came or went.
    HistoryListed(Vec<PathBuf>),
    /// The pictures below this folder cannot be listed.
    HistoryFailed {
        root: PathBuf,
        failure: Failure,
    },
    ThumbnailReady {
        path: PathBuf,
        pixels: Arc<Pixels>,
    },
    PictureOpened {
        path: PathBuf,
        opened: OpenedPicture,
    },
    /// Answers `ReadPrompts`, picture by picture; empty where it carries none, or cannot be read.
    PromptsRead(Vec<(PathBuf, String)>),
    /// Answers `ReadEmbeddings`: of those that have a word in their file.
    EmbeddingWords(Vec<(PathBuf, String)>),
    /// A picture cannot be read (`OpenPicture` or `Thumbnail`).
    PictureUnreadable {
        path: PathBuf,
        failure: Failure,
    },
    /// Answers `Keep`, with the picture that was handed over.
    Kept {
        picture: Arc<Picture>,
        path: PathBuf,
    },
    SavedAs {
        path: PathBuf,
    },
    Deleted {
        path: PathBuf,
    },
    Restored {
        path: PathBuf,
    },
    ShownInFolder {
        path: PathBuf,
    },
    /// Answers `CountTokens`: without the markers at begin and end; `None` where the model cannot say.
    TokensCounted {
        asked: TokensAsked,
        tokens: Option<usize>,
    },
    /// A `Keep`, `SaveAs`, `Delete`, `Restore`, `ShowInFolder` or `FindModels` failed; or what
    /// `CheckModel` found.
    FileFailed(Failure),
}

/// The model that is in memory.
#[derive(Clone, Debug)]
pub struct LoadedModel {
    pub card: ModelCard,
    /// `cpu` or `cuda`.
    pub device: String,
    /// `f32`, `f16` or `bf16`.
    pub dtype: String,
    /// Worth knowing, not failing for: keys that were not used, for example.
    pub notes: Vec<String>,
}

/// What a request came to, as far as the window shows it.
#[derive(Clone, Debug, PartialEq)]
pub struct JobPlan {
    pub model_name: String,
    /// One seed a picture.
    pub seeds: Vec<u64>,
    pub steps: u32,
    /// Of the drawing.
    pub width_px: u32,
    pub height_px: u32,
    /// Of the finished picture.
    pub output_width_px: u32,
    pub output_height_px: u32,
}

/// How far a job is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Progress {
    pub stage: Stage,
    /// Share of the whole job that is done, in `[0, 1]`; never goes back.
    pub fraction: f32,
    /// The pictures being drawn together now: `first..first + batch` of the job.
    pub first: usize,
    pub batch: usize,
    /// Denoising steps done of `steps`, in this batch.
    pub step: usize,
    pub steps: usize,
    /// Steps a second, measured over the last steps; `None` until a slow one is done, or two.
    pub steps_per_sec: Option<f64>,
    /// Until the whole job is done, estimated; where nothing is measured yet, by the last drawing of its kind.
    /// `None` where nothing tells.
    pub remaining_secs: Option<f64>,
}

impl Progress {
    /// Whether an earlier drawing tells how long it takes. Of enlarging alone, without steps, its own begin does.
    pub fn is_told_by_another(&self) -> bool {
        self.steps > 0 && self.steps_per_sec.is_none()
    }
}

/// A picture the engine made.
#[derive(Clone, Debug)]
pub struct Picture {
    pub pixels: Pixels,
    pub settings: PictureSettings,
    /// What the picture carried that this one was enlarged from.
    pub recipe: Option<Box<Recipe>>,
    /// Where it was saved.
    pub path: Option<PathBuf>,
    /// Why it could not be saved; the picture itself is whole and can be saved elsewhere.
    pub save_failure: Option<Failure>,
}

impl Picture {
    /// It could not be saved, and lies nowhere.
    pub fn homeless(&self) -> bool {
        self.path.is_none() && self.save_failure.is_some()
    }
}

/// A picture file that was read.
#[derive(Clone, Debug)]
pub struct OpenedPicture {
    pub pixels: Arc<Pixels>,
    pub recipe: Option<Box<Recipe>>,
}

/// Something that did not work, in words a person can use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// One plain sentence.
    pub message: String,
    /// The technical part, shown when unfolded.
    pub details: String,
    pub remedy: Option<Remedy>,
}

impl From<&Error> for Failure {
    fn from(error: &Error) -> Self {
        Self {
            message: error.to_string(),
            details: error.details(),
            remedy: error.remedy(),
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::from(&error)
    }
}

/// The forming pictures of the batch that is being drawn.
#[derive(Clone, Debug)]
pub struct Preview {
    pub job: JobId,
    /// Index in the job of `pictures[0]`.
    pub first: usize,
    pub step: usize,
    pub pictures: Vec<Pixels>,
}

/// Holds the newest preview only: a slow window skips previews and never falls behind.
#[derive(Clone, Debug, Default)]
pub struct PreviewSlot(Arc<Mutex<Option<Preview>>>);

impl PreviewSlot {
    /// Replaces what is there.
    pub fn put(&self, preview: Preview) {
        let mut slot = self
            .0
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        *slot = Some(preview);
    }

    /// Takes the newest preview; `None` where there is none new, or the worker is just writing it.
    pub fn take(&self) -> Option<Preview> {
        self.0.try_lock().ok()?.take()
    }
}
