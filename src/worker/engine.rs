//! The drawing thread: loads models and draws one job after another.
//!
//! Each command runs inside `catch_unwind`, since libtorch's plain operators panic: a panic becomes
//! an error that names its cause, the loaded networks are dropped, and the next job starts afresh.

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use tch::{Device, Kind};

use super::add_ons::{AddOnRecord, AddOns, KnownFiles};
use super::device;
use super::handle::Ends;
use super::hashes::Hashes;
use super::job::{JobWatcher, Recorder};
use super::message::{
    Command, Event, Failure, Job, JobId, JobPlan, LayerTime, LoadedModel, ModelChoice, Picture,
    Progress,
};
use super::model_hash::ModelHash;
use super::pace::Took;
use super::queue::Queue;
use super::wildcards::WildcardFiles;
use super::{WorkerConfig, recipe_of, starter_folder, upscaler_file};
use crate::error::{Error, Result};
use crate::families::{Lora, ModelFiles, StableDiffusion};
use crate::files::Print;
use crate::output;
use crate::pipeline::{
    self, Exactly, GenerationPlan, Upscaler, pixels_from_tensor, profile, tensor_from_pixels,
};
use crate::request::{
    Arithmetic, DeviceChoice, GenerationRequest, PictureFormat, SamplerId, Stage, Upscale,
};

/// Loading is reported at most once a hundredth: nobody sees more, and a model has thousands of tensors.
const PROGRESS_STEP: f32 = 0.01;

/// What the drawing thread keeps between jobs.
pub(super) struct Engine {
    config: Arc<WorkerConfig>,
    ends: Ends,
    hashes: Arc<Hashes>,
    model: Option<Loaded>,
    upscaler: Option<(UpscalerKey, Upscaler)>,
    known: KnownFiles,
    queue: Rc<Queue>,
}

/// A file and how it was when it was loaded, to where.
type UpscalerKey = (PathBuf, Option<Print>, Device);

/// The model in memory, and what it was loaded as.
struct Loaded {
    key: ModelKey,
    model: StableDiffusion,
    hash: ModelHash,
    /// Those of the model's refiner, which is part of it.
    refiner: Option<(ModelKey, ModelHash)>,
    /// What the last drawing took, and of which kind it was.
    took: Option<(DrawingKind, Took)>,
}

/// What tells how long a drawing takes, beside the model, the pixels and the steps.
#[derive(Clone, Copy, Debug, PartialEq)]
struct DrawingKind {
    sampler: SamplerId,
    arithmetic: Arithmetic,
    is_guided: bool,
    is_refined: bool,
    is_enlarged: bool,
}

impl DrawingKind {
    fn of(plan: &GenerationPlan, arithmetic: Arithmetic, upscaler: Option<&Upscaler>) -> Self {
        Self {
            sampler: plan.sampler,
            arithmetic,
            is_guided: plan.guidance_scale > 1.0,
            is_refined: plan.refiner.is_some(),
            is_enlarged: upscaler.is_some(),
        }
    }
}

/// What a model is loaded as, and how its files were then.
#[derive(Clone, Debug, PartialEq)]
struct ModelKey {
    /// `None`: the model that ships.
    path: Option<PathBuf>,
    unet: Option<PathBuf>,
    vae: Option<PathBuf>,
    device: Device,
    kind: Kind,
    /// Of the model, the UNet and the VAE, and of the configs beside them; none of what is not there, which
    /// opening it says.
    prints: [Option<Print>; 3],
}

impl ModelKey {
    /// Of the files as they are now.
    fn of(choice: &ModelChoice, device: Device, kind: Kind, config: &WorkerConfig) -> Self {
        let print = |path: &PathBuf| Print::of_model(path).ok();
        let model = choice.model.clone();
        let model = model.unwrap_or_else(|| starter_folder(&config.weights));
        Self {
            path: choice.model.clone(),
            unet: choice.unet.clone(),
            vae: choice.vae.clone(),
            device,
            kind,
            prints: [
                print(&model),
                choice.unet.as_ref().and_then(print),
                choice.vae.as_ref().and_then(print),
            ],
        }
    }
}

impl Engine {
    pub(super) fn new(config: Arc<WorkerConfig>, ends: Ends, hashes: Arc<Hashes>) -> Self {
        let queue = Queue::new(ends.commands.clone(), ends.cancelled.clone());
        Self {
            queue: Rc::new(queue),
            config,
            ends,
            hashes,
            model: None,
            upscaler: None,
            known: KnownFiles::default(),
        }
    }

    /// Works until the handle is dropped.
    pub(super) fn run(mut self) {
        while let Some(command) = self.queue.next() {
            if self.ends.cancelled.closing() {
                break;
            }
            let _busy = self.hashes.busy();
            match command {
                Command::Generate(job) => self.job(job.id, |engine| engine.generate(&job)),
                Command::Enlarge {
                    job,
                    source,
                    format,
                    arithmetic,
                } => self.job(job, |engine| {
                    let _exactly = Exactly::when(arithmetic == Arithmetic::Exact);
                    engine.enlarge(job, &source, format)
                }),
                Command::LoadModel(choice) => self.load_ahead(choice),
            }
        }
    }

    /// Loads a model that is drawn with later, unless another is wanted before it is there. Meanwhile
    /// jobs that wait for it can be cancelled.
    fn load_ahead(&mut self, choice: ModelChoice) {
        let (queue, ends, config) = (
            Rc::clone(&self.queue),
            self.ends.clone(),
            Arc::clone(&self.config),
        );
        let stop = || {
            for job in queue.take_cancelled() {
                super::send(&ends.events, &config, Event::Cancelled { job });
            }
            ends.cancelled.closing() || queue.wants_other(&choice)
        };
        match self.guarded(|engine| engine.load(&choice, &stop)) {
            Ok(()) | Err(Error::Cancelled) => {}
            Err(error) => self.send(Event::ModelFailed {
                model: choice.model,
                failure: error.into(),
            }),
        }
    }

    /// Runs one job and reports its one end.
    fn job(&mut self, job: JobId, work: impl FnOnce(&mut Self) -> Result<()>) {
        let started = Instant::now();
        let result = if self.ends.cancelled.contains(job) {
            Err(Error::Cancelled)
        } else {
            self.guarded(work)
        };
        self.send(match result {
            Ok(()) => Event::Finished {
                job,
                elapsed_secs: started.elapsed().as_secs_f64(),
            },
            Err(Error::Cancelled) => Event::Cancelled { job },
            Err(error) => Event::Failed {
                job,
                failure: error.into(),
            },
        });
    }

    /// Turns a panic into an error, and drops what may be half-changed.
    fn guarded(&mut self, work: impl FnOnce(&mut Self) -> Result<()>) -> Result<()> {
        catch_unwind(AssertUnwindSafe(|| work(self))).unwrap_or_else(|panic| {
            self.model = None;
            self.upscaler = None;
            Err(Error::from_panic(&*panic))
        })
    }

    fn generate(&mut self, job: &Job) -> Result<()> {
        let request = &job.request;
        let _exactly = Exactly::when(request.arithmetic == Arithmetic::Exact);
        let marks = self.ends.cancelled.clone();
        let cancelled = || marks.contains(job.id);
        self.load(&ModelChoice::from(request), &cancelled)?;
        let refiner = request
            .refiner
            .as_ref()
            .map(|refiner| refiner.path.as_path());
        self.load_refiner(refiner, &cancelled)?;
        let upscaler_path = self.upscaler_for(request)?;
        let device = self.loaded()?.key.device;
        if let Some(path) = &upscaler_path {
            self.load_upscaler(path, device)?;
        }
        let upscaler = upscaler_path
            .as_ref()
            .and(self.upscaler.as_ref())
            .map(|(_, upscaler)| upscaler);
        let loaded = self.model.as_mut().ok_or_else(not_loaded)?;
        let add_ons = AddOns::of(job, &mut self.known, &cancelled);
        // A look that was stopped has not found everything.
        if cancelled() {
            return Err(Error::Cancelled);
        }
        if job.previews {
            let decoder = &mut loaded.model.decoder;
            let name = decoder.preview_vae_name();
            decoder.set_preview_vae(name.and_then(|name| add_ons.preview_vae(name)));
        }
        let factor = upscaler.map_or(1, Upscaler::factor);
        let mut plan = GenerationPlan::resolve(request, &loaded.model, factor, job.format)?;
        let named = draw_prompts(&mut plan, job, &add_ons)?;
        let loras = plan.prompts(0).loras.as_deref().unwrap_or_default();
        let notes = loaded.model.set_loras(loras)?;
        if !notes.is_empty() {
            let ready = Event::ModelReady(in_memory(&loaded.model, notes));
            super::send(&self.ends.events, &self.config, ready);
        }
        let given = &request.embeddings;
        loaded.model.set_embeddings(given, &add_ons.embeddings()?)?;
        let recorder = Recorder::new(
            &plan,
            &loaded.model,
            (
                &mut loaded.hash,
                loaded.refiner.as_mut().map(|(_, hash)| hash),
            ),
            AddOnRecord::start(&named, &self.hashes)?,
            upscaler.map(|upscaler| upscaler.name.clone()),
            request.arithmetic,
        );
        let in_memory = in_memory(&loaded.model, Vec::new());
        let kind = DrawingKind::of(&plan, request.arithmetic, upscaler);
        let before = loaded.took.filter(|(known, _)| *known == kind);
        let mut watcher = JobWatcher::new(
            job,
            &plan,
            (recorder, in_memory),
            &self.ends,
            &self.config,
            before.map(|(_, took)| took),
        );
        watcher.started(JobPlan {
            model_name: loaded.model.card.name.clone(),
            seeds: plan.seeds.clone(),
            steps: u32::try_from(plan.steps).unwrap_or(u32::MAX),
            width_px: plan.width_px,
            height_px: plan.height_px,
            output_width_px: plan.output_width_px,
            output_height_px: plan.output_height_px,
        });
        let known = loaded.model.decoder.note_of_overflow();
        let mut draw = || pipeline::generate(&mut loaded.model, &plan, upscaler, &mut watcher);
        let drawn = match job.profile {
            true => {
                profile::start();
                profile::part("drawing", draw)
            }
            false => draw(),
        };
        let took = watcher.took().map(|took| (kind, took));
        loaded.took = took.or(loaded.took);
        if job.profile {
            self.send(Event::Profiled {
                job: job.id,
                layers: profile::finish().into_iter().map(layer_time).collect(),
            });
        }
        self.after(drawn, known)
    }

    /// Tells of a VAE that had to go on in f32 or bf16, where that is not `known`.
    fn after(&self, drawn: Result<()>, known: Option<String>) -> Result<()> {
        let model = &self.loaded()?.model;
        let note = model.decoder.note_of_overflow();
        if let Some(note) = note.filter(|note| Some(note) != known.as_ref()) {
            self.send(Event::ModelReady(in_memory(model, vec![note])));
        }
        drawn
    }

    /// Which file enlarges the pictures of this request; `None`: nothing does.
    fn upscaler_for(&self, request: &GenerationRequest) -> Result<Option<PathBuf>> {
        let default = || {
            self.loaded()
                .map(|loaded| loaded.model.card.defaults.upscaler.clone())
        };
        Ok(match &request.upscale {
            Upscale::None => None,
            Upscale::With(path) => Some(path.clone()),
            Upscale::Auto => default()?.map(|name| upscaler_file(&self.config.weights, &name)),
        })
    }

    /// Enlarges a saved picture into a new file beside it.
    fn enlarge(&mut self, job: JobId, source: &Path, format: PictureFormat) -> Result<()> {
        let _no_grad = tch::no_grad_guard();
        self.enlarging(job, 0.0, None);
        let device = match &self.model {
            Some(loaded) => loaded.key.device,
            None => device::device(DeviceChoice::Auto)?,
        };
        let name = super::DEFAULT_UPSCALER;
        self.load_upscaler(&upscaler_file(&self.config.weights, name), device)?;
        let (_, upscaler) = self.upscaler.as_ref().ok_or_else(not_loaded)?;
        let pixels = output::open_picture(source)?;
        let factor = upscaler.factor();
        let (width, height) = (
            pixels.width_px.saturating_mul(factor),
            pixels.height_px.saturating_mul(factor),
        );
        output::check_size(format, width, height)?;
        let recipe = recipe_of(source);
        let begun = Instant::now();
        let cancelled = |done: f32| {
            self.enlarging(job, done, Some(begun));
            self.ends.cancelled.contains(job)
        };
        let enlarged = upscaler.enlarge(&tensor_from_pixels(&pixels)?, &cancelled)?;
        let folder = source.parent().unwrap_or(Path::new(".")).to_path_buf();
        for pixels in pixels_from_tensor(&enlarged)? {
            let picture = save_enlarged(pixels, recipe.as_ref(), upscaler, &folder, format);
            self.send(Event::PictureDone {
                job,
                index: 0,
                picture: Arc::new(picture),
            });
        }
        Ok(())
    }

    /// Tells how much of a saved picture is enlarged, in `[0, 1]`, since when.
    fn enlarging(&self, job: JobId, fraction: f32, begun: Option<Instant>) {
        let left =
            |begun: Instant| begun.elapsed().as_secs_f64() * f64::from((1.0 - fraction) / fraction);
        self.send(Event::Progress {
            job,
            progress: Progress {
                stage: Stage::Enlarging,
                fraction,
                first: 0,
                batch: 1,
                step: 0,
                steps: 0,
                steps_per_sec: None,
                remaining_secs: begun
                    .map(left)
                    .filter(|left| left.is_finite() && *left > 0.0),
            },
        });
    }

    /// Makes sure that the asked model is in memory, as asked. `stop` is asked meanwhile.
    ///
    /// Errors: [`Error::Cancelled`] where it was stopped, and then no model is in memory.
    fn load(&mut self, asked: &ModelChoice, stop: &dyn Fn() -> bool) -> Result<()> {
        let device = device::device(asked.device)?;
        let kind = device::kind(asked.dtype, device);
        let key = ModelKey::of(asked, device, kind, &self.config);
        if self.model.as_ref().is_some_and(|loaded| loaded.key == key) {
            return Ok(());
        }
        // The old one goes before the new one comes: two large models may not fit.
        let files = self.open(&key)?;
        let hash = ModelHash::start(files.hashed_file()?, &self.hashes)?;
        self.model = None;
        let model = self.read(&files, &key, stop)?;
        self.send(Event::ModelReady(in_memory(&model, Vec::new())));
        self.model = Some(Loaded {
            key,
            model,
            hash,
            refiner: None,
            took: None,
        });
        Ok(())
    }

    /// Makes sure that this refiner, or none, is in memory beside the model. As [`Self::load`].
    fn load_refiner(&mut self, path: Option<&Path>, stop: &dyn Fn() -> bool) -> Result<()> {
        let loaded = self.model.as_mut().ok_or_else(not_loaded)?;
        let ModelKey { device, kind, .. } = loaded.key;
        let key = path.map(|path| {
            let alone = ModelChoice {
                model: Some(path.to_path_buf()),
                ..ModelChoice::default()
            };
            ModelKey::of(&alone, device, kind, &self.config)
        });
        if loaded.refiner.as_ref().map(|(key, _)| key) == key.as_ref() {
            return Ok(());
        }
        loaded.refiner = None;
        loaded.model.set_refiner(None)?;
        let Some(key) = key else {
            return Ok(());
        };
        let files = self.open(&key)?;
        let hash = ModelHash::start(files.hashed_file()?, &self.hashes)?;
        let refiner = self.read(&files, &key, stop)?;
        let loaded = self.model.as_mut().ok_or_else(not_loaded)?;
        let notes = refiner.notes.clone();
        loaded.model.set_refiner(Some(refiner))?;
        loaded.refiner = Some((key, hash));
        let ready = in_memory(&loaded.model, notes);
        self.send(Event::ModelReady(ready));
        Ok(())
    }

    fn open(&self, key: &ModelKey) -> Result<ModelFiles> {
        let mut files = match &key.path {
            Some(path) => ModelFiles::open(path)?,
            None => ModelFiles::open(&starter_folder(&self.config.weights))?,
        };
        if let Some(unet) = &key.unet {
            files = files.with_unet(unet)?;
        }
        match &key.vae {
            Some(vae) => files.with_vae(vae),
            None => Ok(files),
        }
    }

    /// Reads the weights, and says how far it is.
    fn read(
        &self,
        files: &ModelFiles,
        key: &ModelKey,
        stop: &dyn Fn() -> bool,
    ) -> Result<StableDiffusion> {
        let shipped = key.path.is_none();
        let name = files.card(shipped)?.name;
        self.send(Event::ModelLoading {
            name: name.clone(),
            fraction: 0.0,
        });
        let mut told = 0.0;
        let mut progress = |fraction| {
            if stop() {
                return Err(Error::Cancelled);
            }
            if fraction - told >= PROGRESS_STEP {
                told = fraction;
                self.send(Event::ModelLoading {
                    name: name.clone(),
                    fraction,
                });
            }
            Ok(())
        };
        let _no_grad = tch::no_grad_guard();
        StableDiffusion::load(files, shipped, key.device, key.kind, &mut progress)
            .inspect_err(|_| self.send(Event::LoadingStopped))
            .map_err(|error| too_large(&files.path, error))
    }

    fn load_upscaler(&mut self, path: &Path, device: Device) -> Result<()> {
        let key = (path.to_path_buf(), Print::of(path).ok(), device);
        if self.upscaler.as_ref().map(|(known, _)| known) != Some(&key) {
            let upscaler = Upscaler::load(path, device)?;
            self.upscaler = Some((key, upscaler));
        }
        Ok(())
    }

    fn loaded(&self) -> Result<&Loaded> {
        self.model.as_ref().ok_or_else(not_loaded)
    }

    fn send(&self, event: Event) {
        super::send(&self.ends.events, &self.config, event);
    }
}

/// What is told of a model in memory; `more` is worth knowing beside its own notes.
fn in_memory(model: &StableDiffusion, more: Vec<String>) -> LoadedModel {
    LoadedModel {
        card: model.card.clone(),
        device: device::device_name(model.device).to_owned(),
        dtype: device::kind_name(model.kind).to_owned(),
        notes: model.notes.iter().cloned().chain(more).collect(),
    }
}

fn layer_time(((part, layer), spent): ((&str, Option<&str>), profile::Spent)) -> LayerTime {
    LayerTime {
        part: part.to_owned(),
        layer: layer.map(str::to_owned),
        calls: spent.calls,
        secs: spent.secs,
    }
}

/// Draws the wildcards of a job's prompts; the LoRAs that any of them names, with their names.
///
/// Errors: [`Error::Request`] naming what is missing.
fn draw_prompts(
    plan: &mut GenerationPlan,
    job: &Job,
    add_ons: &AddOns<'_>,
) -> Result<Vec<(String, Lora)>> {
    let request = &job.request;
    let is_template = plan.template.is_some() || plan.negative_template.is_some();
    let lists = if is_template || request.wildcards.is_some() {
        WildcardFiles::of(request, &job.model_folders)?
    } else {
        WildcardFiles::default()
    };
    let all = RefCell::new(Vec::new());
    plan.draw_prompts(request, &lists, &|prompt| {
        let named = add_ons.loras(request, prompt)?;
        let loras = named.iter().map(|(_, lora)| lora.clone()).collect();
        let mut all = all.borrow_mut();
        for one in named {
            if !all.contains(&one) {
                all.push(one);
            }
        }
        Ok(Some(loras))
    })?;
    Ok(all.into_inner())
}

/// Saves an enlarged picture with the settings of the one it was made from.
fn save_enlarged(
    pixels: crate::request::Pixels,
    recipe: Option<&crate::request::Recipe>,
    upscaler: &Upscaler,
    folder: &Path,
    format: PictureFormat,
) -> Picture {
    let mut settings = recipe.map_or_else(super::job::unknown_settings, |recipe| {
        let from_request = || super::job::settings_of_recipe(recipe, upscaler.factor());
        recipe.settings.clone().unwrap_or_else(from_request)
    });
    settings.output_width_px = pixels.width_px;
    settings.output_height_px = pixels.height_px;
    settings.upscaler = Some(match settings.upscaler {
        Some(before) => format!("{before}, {}", upscaler.name),
        None => upscaler.name.clone(),
    });
    let saved = output::save_enlarged(&pixels, &settings, folder, format, upscaler.factor());
    let (path, save_failure) = match saved {
        Ok(path) => (Some(path), None),
        Err(error) => (None, Some(Failure::from(error))),
    };
    Picture {
        pixels,
        settings,
        recipe: recipe.cloned().map(Box::new),
        path,
        save_failure,
    }
}

fn not_loaded() -> Error {
    Error::Panic {
        details: "the model was dropped while it was needed".to_owned(),
    }
}

/// A smaller picture does not help where the model itself finds no room.
fn too_large(model: &Path, error: Error) -> Error {
    match error {
        Error::OutOfMemory { details } => {
            log::warn!("{}: {details}", model.display());
            Error::model(model, "there is not enough memory for it")
        }
        other => other,
    }
}
