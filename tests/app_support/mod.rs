//! The other end of the window's worker, as a script: what the tests of the window share.

#![allow(dead_code, reason = "each test uses its own part")]

use std::path::{Path, PathBuf};
use std::sync::Arc;

use easel::app::dialogs::Ask;
use easel::app::{App, Setup};
use easel::request::{
    AddOnHashes, Arithmetic, ModelCard, ModelDefaults, PictureHints, PictureSettings, Pixels,
    SamplerId, ScheduleId,
};
use easel::settings::Settings;
use easel::worker::message::{
    Command, Event, FileCommand, Job, JobId, JobPlan, LoadedModel, Picture, Preview, Progress,
    Stage,
};
use easel::worker::{Ends, channel};
use egui::accesskit::Role;
use egui_kittest::Harness;
use egui_kittest::kittest::Queryable;

pub type Window = Harness<'static, App>;

/// A script for the worker's end.
pub struct Script {
    pub ends: Ends,
}

/// Where the scripted pictures claim to lie.
pub fn root() -> PathBuf {
    PathBuf::from("/pictures/Easel")
}

pub fn settings() -> Settings {
    Settings {
        pictures: Some(root()),
        ..Settings::default()
    }
}

pub fn setup(settings: Settings) -> Setup {
    Setup {
        settings,
        saver: None,
        ask: nobody_answers(),
    }
}

pub fn nobody_answers() -> Ask {
    Box::new(|_, _| {})
}

/// A window of this size that egui_kittest drives.
pub fn harness(size: [f32; 2], setup: Setup) -> (Harness<'static, App>, Script) {
    let (handle, ends) = channel();
    let harness = Harness::builder()
        .with_size(size)
        .with_max_steps(8)
        .build_eframe(move |creation| App::new(&creation.egui_ctx, handle, setup));
    (harness, Script { ends })
}

/// A window with the starter ready, after its first frames.
pub fn ready() -> (Harness<'static, App>, Script) {
    let (mut harness, script) = harness([1280.0, 820.0], setup(settings()));
    script.ready();
    harness.run();
    (harness, script)
}

pub fn card() -> ModelCard {
    let strings = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
    ModelCard {
        path: None,
        name: "Starter".to_owned(),
        description: "A small picture model that comes with Easel.".to_owned(),
        family: "Stable Diffusion".to_owned(),
        size_bytes: 49_000_000,
        picture: None,
        sha256: None,
        defaults: ModelDefaults {
            steps: 20,
            guidance_scale: 4.0,
            sampler: SamplerId::DpmPp2m,
            schedule: ScheduleId::Model,
            width_px: 64,
            height_px: 64,
            upscaler: Some("realesr-animevideov3-x4".to_owned()),
        },
        latent_factor: 4,
        chunk_tokens: 30,
        examples: strings(&[
            "a penguin, 3d style",
            "a strawberry, 3d style, on a yellow background",
            "a smiling face with sunglasses, noto style",
        ]),
        concepts: strings(&[
            "penguin",
            "star",
            "castle",
            "red apple",
            "whale",
            "tulip",
            "octopus",
        ]),
        styles: strings(&["noto style", "twemoji style", "3d style", "flat style"]),
        backgrounds: strings(&["white", "red", "yellow", "blue"]),
    }
}

/// A second model, with defaults of its own.
pub fn big_card() -> ModelCard {
    ModelCard {
        path: Some(PathBuf::from("/models/photo")),
        name: "Photo".to_owned(),
        description: "Photographs.".to_owned(),
        family: "Stable Diffusion 1".to_owned(),
        size_bytes: 4_265_000_000,
        picture: None,
        sha256: None,
        defaults: ModelDefaults {
            steps: 30,
            guidance_scale: 7.5,
            sampler: SamplerId::Euler,
            schedule: ScheduleId::Karras,
            width_px: 512,
            height_px: 512,
            upscaler: None,
        },
        latent_factor: 8,
        chunk_tokens: 75,
        examples: Vec::new(),
        concepts: Vec::new(),
        styles: Vec::new(),
        backgrounds: Vec::new(),
    }
}

/// A picture of a ball on a plain ground: `kind` chooses the colours.
pub fn ball(side: u32, kind: u64, blur: f32) -> Pixels {
    let hues: [([f32; 3], [f32; 3]); 6] = [
        ([247.0, 244.0, 238.0], [228.0, 92.0, 70.0]),
        ([252.0, 226.0, 148.0], [62.0, 98.0, 180.0]),
        ([205.0, 228.0, 240.0], [240.0, 170.0, 60.0]),
        ([240.0, 214.0, 222.0], [92.0, 150.0, 106.0]),
        ([232.0, 232.0, 236.0], [120.0, 88.0, 176.0]),
        ([36.0, 44.0, 60.0], [236.0, 200.0, 120.0]),
    ];
    let (ground, body) = hues[(kind % 6) as usize];
    let mut rgb = Vec::with_capacity((side * side * 3) as usize);
    for y in 0..side {
        for x in 0..side {
            let (u, v) = (x as f32 / side as f32 - 0.5, y as f32 / side as f32 - 0.5);
            let edge = (0.32 - (u * u + v * v).sqrt()) / (0.01 + 0.4 * blur);
            let inside = edge.clamp(0.0, 1.0);
            let light =
                (1.15 - 1.4 * ((u + 0.1).powi(2) + (v + 0.12).powi(2)).sqrt()).clamp(0.4, 1.2);
            let noise = ((x * 73 + y * 151 + (x * y) % 97) % 61) as f32 - 30.0;
            for channel in 0..3 {
                let value = ground[channel] * (1.0 - inside) + body[channel] * light * inside;
                rgb.push((value + noise * 2.0 * blur).clamp(0.0, 255.0) as u8);
            }
        }
    }
    Pixels {
        width_px: side,
        height_px: side,
        rgb,
    }
}

pub fn picture_settings(job: &Job, seed: u64) -> PictureSettings {
    let request = &job.request;
    PictureSettings {
        prompt: request.prompt.clone(),
        negative_prompt: request.negative_prompt.clone(),
        template: None,
        negative_template: None,
        emphasis: request.emphasis,
        model_name: "Starter".to_owned(),
        model_path: request.model.clone(),
        model_hash: None,
        steps: request.steps.unwrap_or(20),
        guidance_scale: request.guidance_scale.unwrap_or(4.0),
        guidance_rescale: 0.0,
        guidance_interval: request.guidance_interval,
        clip_skip: 1,
        unet_path: None,
        vae_path: None,
        loras: Vec::new(),
        embeddings: Vec::new(),
        hashes: AddOnHashes::default(),
        refiner: None,
        refiner_hash: None,
        hints: PictureHints::default(),
        seed,
        seeding: request.seeding,
        sampler: request.sampler.unwrap_or(SamplerId::DpmPp2m),
        schedule: request.schedule.unwrap_or(ScheduleId::Model),
        tuning: request.tuning,
        width_px: 64,
        height_px: 64,
        upscaler: Some("realesr-animevideov3-x4".to_owned()),
        output_width_px: 256,
        output_height_px: 256,
        device: "cpu".to_owned(),
        dtype: "f32".to_owned(),
        arithmetic: Some(Arithmetic::Fast),
        version: "0.1.0".to_owned(),
        cancelled_after: None,
        foreign: None,
    }
}

impl Script {
    pub fn say(&self, event: Event) {
        self.ends.events.send(event).unwrap();
    }

    /// Every command that waits.
    pub fn commands(&self) -> Vec<Command> {
        self.ends.commands.try_iter().collect()
    }

    pub fn files(&self) -> Vec<FileCommand> {
        self.ends.files.try_iter().collect()
    }

    /// The drawing jobs among the commands that wait.
    pub fn jobs(&self) -> Vec<Job> {
        self.commands()
            .into_iter()
            .filter_map(|command| match command {
                Command::Generate(job) => Some(job),
                Command::Enlarge { .. } | Command::LoadModel(_) => None,
            })
            .collect()
    }

    /// The model is found and loaded.
    pub fn ready(&self) {
        self.say(Event::ModelsFound(vec![card(), big_card()]));
        self.say(Event::ModelReady(LoadedModel {
            card: card(),
            device: "cpu".to_owned(),
            dtype: "f32".to_owned(),
            notes: Vec::new(),
        }));
    }

    pub fn history(&self, count: u64) -> Vec<PathBuf> {
        let paths: Vec<PathBuf> = (0..count)
            .map(|number| saved_path(count - number))
            .collect();
        self.say(Event::HistoryListed(paths.clone()));
        paths
    }

    pub fn start(&self, job: &Job) {
        let count = u64::from(job.request.count.unwrap_or(1));
        let seed = job.request.seed.unwrap_or(7);
        self.say(Event::Started {
            job: job.id,
            plan: JobPlan {
                model_name: "Starter".to_owned(),
                seeds: (seed..seed + count).collect(),
                steps: job.request.steps.unwrap_or(20),
                width_px: 64,
                height_px: 64,
                output_width_px: 256,
                output_height_px: 256,
            },
        });
    }

    pub fn step(&self, job: &Job, step: usize, steps: usize) {
        let batch = job.request.count.unwrap_or(1) as usize;
        self.say(Event::Progress {
            job: job.id,
            progress: Progress {
                stage: Stage::Drawing,
                fraction: step as f32 / steps as f32,
                first: 0,
                batch,
                step,
                steps,
                steps_per_sec: Some(3.1),
                remaining_secs: Some((steps - step) as f64 / 3.1),
            },
        });
        self.ends.previews.put(Preview {
            job: job.id,
            first: 0,
            step,
            pictures: (0..batch)
                .map(|index| ball(64, index as u64, 1.0 - step as f32 / steps as f32))
                .collect(),
        });
    }

    /// Draws a job to its end.
    pub fn draw(&self, job: &Job) -> Vec<PathBuf> {
        self.start(job);
        self.step(job, 20, 20);
        let count = job.request.count.unwrap_or(1) as usize;
        let paths = (0..count).map(|index| self.picture(job, index)).collect();
        self.finish(job.id);
        paths
    }

    /// One picture of a job, saved.
    pub fn picture(&self, job: &Job, index: usize) -> PathBuf {
        let seed = job.request.seed.unwrap_or(7) + index as u64;
        let path = root().join(format!("2026-11-25/{:05}-{seed}.png", 100 + index));
        self.say(Event::PictureDone {
            job: job.id,
            index,
            picture: Arc::new(Picture {
                pixels: ball(256, index as u64, 0.0),
                settings: picture_settings(job, seed),
                recipe: None,
                path: Some(path.clone()),
                save_failure: None,
            }),
        });
        path
    }

    pub fn finish(&self, job: JobId) {
        self.say(Event::Finished {
            job,
            elapsed_secs: 6.4,
        });
    }
}

pub fn saved_path(number: u64) -> PathBuf {
    root().join(format!("2026-11-24/{number:05}-{}.png", 1000 + number))
}

/// The number in the name of a scripted picture, for its colours.
pub fn kind_of(path: &Path) -> u64 {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    name.split('-')
        .next()
        .and_then(|number| number.parse().ok())
        .unwrap_or(0)
}

pub fn press(window: &mut Window, role: Role, label: &str) {
    window.get_by_role_and_label(role, label).click();
    window.run();
}

pub fn button(window: &mut Window, label: &str) {
    press(window, Role::Button, label);
}

pub fn shows(window: &Window, label: &str) -> bool {
    window.query_all_by_label_contains(label).next().is_some()
}

pub fn type_prompt(window: &mut Window, text: &str) {
    let prompt = window.get_by_role_and_label(Role::MultilineTextInput, "Prompt");
    prompt.focus();
    window.run();
    window
        .get_by_role_and_label(Role::MultilineTextInput, "Prompt")
        .type_text(text);
    window.run();
}

/// Presses Generate and returns the job that reached the worker.
pub fn generate(window: &mut Window, script: &Script) -> Job {
    button(window, "Generate");
    script.jobs().pop().expect("a drawing job")
}
