//! What the drawing thread tells of one job while it runs: progress, previews, pictures.

use std::collections::BTreeSet;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use super::WorkerConfig;
use super::add_ons::AddOnRecord;
use super::device::{arithmetic_used, device_name, kind_name};
use super::handle::Ends;
use super::message::{Event, Failure, Job, JobPlan, LoadedModel, Picture, Preview, Progress};
use super::model_hash::ModelHash;
use super::pace::{Pace, Took};
use crate::error::{Error, Result};
use crate::families::{EmbeddingsRead, StableDiffusion};
use crate::files;
use crate::output;
use crate::pipeline::{Drawn, GenerationPlan, PicturePrompts, Watcher};
use crate::prompt::networks;
use crate::request::{
    AddOnHashes, Arithmetic, Emphasis, Foreign, LoraChoice, PictureHints, PictureSettings, Pixels,
    Recipe, SamplerId, ScheduleId, Seeding, Stage, Tuning,
};

/// Knows what goes into a picture's settings.
pub(super) struct Recorder<'a> {
    settings: PictureSettings,
    /// Asked when the first picture is done: the drawing does not wait for it.
    hash: &'a mut ModelHash,
    /// The same.
    add_ons: AddOnRecord,
    refiner_hash: Option<&'a mut ModelHash>,
}

impl<'a> Recorder<'a> {
    pub(super) fn new(
        plan: &GenerationPlan,
        model: &StableDiffusion,
        (hash, refiner_hash): (&'a mut ModelHash, Option<&'a mut ModelHash>),
        add_ons: AddOnRecord,
        upscaler: Option<String>,
        arithmetic: Arithmetic,
    ) -> Self {
        let settings = PictureSettings {
            template: plan.template.clone(),
            negative_template: plan.negative_template.clone(),
            emphasis: plan.emphasis,
            model_name: model.card.name.clone(),
            model_path: model.card.path.clone(),
            steps: u32::try_from(plan.steps).unwrap_or(u32::MAX),
            guidance_scale: plan.guidance_scale,
            guidance_rescale: plan.guidance_rescale,
            guidance_interval: plan.guidance_interval,
            clip_skip: plan.clip_skip,
            unet_path: model.unet_path.clone(),
            vae_path: model.vae_path.clone(),
            loras: plan.loras.clone(),
            embeddings: plan.embeddings.clone(),
            refiner: plan.refiner.clone(),
            hints: plan.hints,
            sampler: plan.sampler,
            schedule: plan.schedule_id,
            tuning: plan.tuning,
            width_px: plan.width_px,
            height_px: plan.height_px,
            upscaler,
            output_width_px: plan.output_width_px,
            output_height_px: plan.output_height_px,
            device: device_name(model.device).to_owned(),
            dtype: kind_name(model.kind).to_owned(),
            arithmetic: arithmetic_used(model.device, arithmetic),
            ..unknown_settings()
        };
        Self {
            settings,
            hash,
            add_ons,
            refiner_hash,
        }
    }

    fn settings(
        &mut self,
        (seed, seeding): (u64, Seeding),
        pixels: &Pixels,
        cancelled_after: Option<u32>,
    ) -> PictureSettings {
        PictureSettings {
            seed,
            seeding,
            output_width_px: pixels.width_px,
            output_height_px: pixels.height_px,
            cancelled_after,
            model_hash: self.hash.short(),
            hashes: self.add_ons.hashes(),
            refiner_hash: self.refiner_hash.as_mut().and_then(|hash| hash.short()),
            ..self.settings.clone()
        }
    }
}

/// Settings of a picture that carries none.
pub(super) fn unknown_settings() -> PictureSettings {
    PictureSettings {
        prompt: String::new(),
        negative_prompt: String::new(),
        template: None,
        negative_template: None,
        emphasis: Emphasis::default(),
        model_name: String::new(),
        model_path: None,
        model_hash: None,
        steps: 0,
        guidance_scale: 0.0,
        guidance_rescale: 0.0,
        guidance_interval: None,
        clip_skip: 1,
        unet_path: None,
        vae_path: None,
        loras: Vec::new(),
        embeddings: Vec::new(),
        hashes: AddOnHashes::default(),
        refiner: None,
        refiner_hash: None,
        hints: PictureHints::default(),
        seed: 0,
        seeding: Seeding::default(),
        sampler: SamplerId::Euler,
        schedule: ScheduleId::Model,
        tuning: Tuning::default(),
        width_px: 0,
        height_px: 0,
        upscaler: None,
        output_width_px: 0,
        output_height_px: 0,
        device: String::new(),
        dtype: String::new(),
        arithmetic: None,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        cancelled_after: None,
        foreign: None,
    }
}

/// Settings of a picture that another program drew: what it says and no more.
pub(super) fn settings_of_recipe(recipe: &Recipe, enlarged_by: u32) -> PictureSettings {
    PictureSettings {
        prompt: recipe.request.prompt.clone(),
        negative_prompt: recipe.request.negative_prompt.clone(),
        foreign: Some(Box::new(Foreign {
            request: recipe.request.clone(),
            infotext: recipe.infotext.clone(),
            enlarged_by,
        })),
        ..unknown_settings()
    }
}

/// Reports one job to the window and saves its pictures.
pub(super) struct JobWatcher<'a> {
    job: &'a Job,
    plan: &'a GenerationPlan,
    recorder: Recorder<'a>,
    model: LoadedModel,
    ends: &'a Ends,
    config: &'a WorkerConfig,
    pace: Pace,
    stage: Stage,
    /// Never goes back.
    fraction: f32,
}

impl<'a> JobWatcher<'a> {
    pub(super) fn new(
        job: &'a Job,
        plan: &'a GenerationPlan,
        (recorder, model): (Recorder<'a>, LoadedModel),
        ends: &'a Ends,
        config: &'a WorkerConfig,
        before: Option<Took>,
    ) -> Self {
        Self {
            job,
            plan,
            recorder,
            model,
            ends,
            config,
            pace: Pace::new(plan.width_px, plan.height_px, before),
            stage: Stage::ReadingPrompt,
            fraction: 0.0,
        }
    }

    /// What the drawing took, for the next one.
    pub(super) fn took(&self) -> Option<Took> {
        self.pace.took()
    }

    pub(super) fn started(&self, plan: JobPlan) {
        self.send(Event::Started {
            job: self.job.id,
            plan,
        });
    }

    fn send(&self, event: Event) {
        super::send(&self.ends.events, self.config, event);
    }

    fn progress(&mut self, batch: &Range<usize>, step: usize) {
        let (pictures, steps) = (self.plan.seeds.len(), self.plan.steps);
        // A picture's decoding and enlarging count as one step more.
        let units = pictures * (steps + 1);
        let size = self.plan.batch_size.max(1);
        let first = batch.start - batch.start % size;
        let end = (first + size).min(pictures);
        // Each picture's steps; those before this one are finished.
        let steps_done = first * steps + end.saturating_sub(first) * step;
        let done = steps_done + batch.start;
        self.fraction = self.fraction.max(done as f32 / units.max(1) as f32);
        let pictures_left = pictures.saturating_sub(batch.start);
        let steps_left = (pictures * steps).saturating_sub(steps_done);
        let progress = Progress {
            stage: self.stage,
            fraction: self.fraction,
            first: batch.start,
            batch: batch.len(),
            step,
            steps,
            steps_per_sec: self.pace.steps_per_sec(),
            remaining_secs: self.pace.secs_for(steps_left, pictures_left),
        };
        self.send(Event::Progress {
            job: self.job.id,
            progress,
        });
    }

    fn save_latents(&self, file: &Path, drawn: &Drawn) -> Result<()> {
        let path = files::numbered(file, drawn.index);
        let values = Vec::<f32>::try_from(drawn.latents.f_flatten(0, -1)?)?;
        let bytes: Vec<u8> = values
            .iter()
            .flat_map(|value| value.to_le_bytes())
            .collect();
        let shape = drawn
            .latents
            .size()
            .iter()
            .map(|side| side.unsigned_abs() as usize)
            .collect();
        let view = safetensors::tensor::TensorView::new(safetensors::Dtype::F32, shape, &bytes);
        let bytes = view
            .and_then(|view| safetensors::serialize([("latents", view)], None))
            .map_err(|error| Error::io("Saving", &path, std::io::Error::other(error)))?;
        files::atomic_write(&path, &bytes)
    }
}

impl Watcher for JobWatcher<'_> {
    fn cancelled(&self) -> bool {
        self.ends.cancelled.contains(self.job.id)
    }

    fn closing(&self) -> bool {
        self.ends.cancelled.closing()
    }

    fn wants_previews(&self) -> bool {
        self.job.previews
    }

    fn prompts_read(&mut self, read: EmbeddingsRead) {
        self.recorder.add_ons.embeddings(read.used);
        if !read.notes.is_empty() {
            let mut model = self.model.clone();
            model.notes.extend(read.notes);
            self.send(Event::ModelReady(model));
        }
    }

    fn stage(&mut self, batch: Range<usize>, stage: Stage) {
        self.stage = stage;
        match stage {
            Stage::Drawing => self.pace.begin(batch.len()),
            Stage::Decoding => self.pace.begin_finish(),
            Stage::LoadingModel | Stage::ReadingPrompt | Stage::Enlarging | Stage::Saving => {}
        }
        let done = match stage {
            Stage::LoadingModel | Stage::ReadingPrompt | Stage::Drawing => 0,
            Stage::Decoding | Stage::Enlarging | Stage::Saving => self.plan.steps,
        };
        self.progress(&batch, done);
    }

    fn step(&mut self, batch: Range<usize>, step: usize) {
        self.pace.step();
        self.progress(&batch, step);
    }

    fn preview(&mut self, batch: Range<usize>, step: usize, pictures: Vec<Pixels>) {
        self.ends.previews.put(Preview {
            job: self.job.id,
            first: batch.start,
            step,
            pictures,
        });
        (self.config.wake)();
    }

    fn drawn(&mut self, drawn: Drawn) -> Result<()> {
        let seed = self.plan.seed(drawn.index);
        let cancelled_after = drawn
            .cancelled_after
            .map(|step| u32::try_from(step).unwrap_or(u32::MAX));
        let PicturePrompts {
            prompt,
            negative_prompt,
            ..
        } = self.plan.prompts(drawn.index).clone();
        let mut settings = self.recorder.settings(seed, &drawn.pixels, cancelled_after);
        // The record is of all pictures' LoRAs.
        let named = networks::loras(&prompt).into_iter().map(|tag| tag.name);
        let chosen = settings.loras.iter().map(LoraChoice::name);
        let own: BTreeSet<String> = named.chain(chosen).collect();
        settings.hashes.loras.retain(|name, _| own.contains(name));
        (settings.prompt, settings.negative_prompt) = (prompt, negative_prompt);
        let mut picture = Picture {
            pixels: drawn.pixels.clone(),
            settings,
            recipe: None,
            path: None,
            save_failure: None,
        };
        if cancelled_after.is_none() {
            let saved = output::save_picture(
                &picture.pixels,
                &picture.settings,
                &self.job.save_to,
                self.job.format,
                drawn.index,
            );
            let latents = match &self.job.latents_to {
                Some(path) => self.save_latents(path, &drawn),
                None => Ok(()),
            };
            match saved {
                Ok(path) => picture.path = Some(path),
                Err(error) => picture.save_failure = Some(Failure::from(error)),
            }
            if let Err(error) = latents {
                picture.save_failure.get_or_insert(Failure::from(error));
            }
        }
        self.pace.end_finish();
        self.send(Event::PictureDone {
            job: self.job.id,
            index: drawn.index,
            picture: Arc::new(picture),
        });
        Ok(())
    }
}
