//! The worker on the model that ships: what it reports, in which order, and what it survives.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods
)]

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use easel::error::{Error, Remedy};
use easel::families::{ModelFiles, StableDiffusion};
use easel::pipeline::{self, Drawn, GenerationPlan, Upscaler, Watcher};
use easel::request::{
    Arithmetic, GenerationRequest, LoraChoice, PictureFormat, PictureSettings, Pixels, SamplerId,
    SaveTarget, Stage, Upscale,
};
use easel::worker::message::{Command, Event, FileCommand, Job, JobId, ModelChoice, Picture};
use easel::worker::{Handle, Priority, WorkerConfig, start};
use pictures_of_others::png_texts;

#[path = "common/pictures.rs"]
mod pictures_of_others;

/// Only a hang takes this long.
const PATIENCE: Duration = Duration::from_secs(120);

fn weights() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("weights")
}

fn worker() -> Handle {
    start(WorkerConfig {
        weights: weights(),
        cache: None,
        priority: Priority::Usual,
        wake: Box::new(|| ()),
    })
    .unwrap()
}

/// A worker whose threads wait after each event, until what is handed over beside it is dropped.
fn halting_worker() -> (Handle, crossbeam_channel::Sender<()>) {
    let (go_on, wait) = crossbeam_channel::bounded::<()>(0);
    let worker = start(WorkerConfig {
        weights: weights(),
        cache: None,
        priority: Priority::Usual,
        wake: Box::new(move || {
            let _ = wait.recv();
        }),
    });
    (worker.unwrap(), go_on)
}

fn job(id: u64, folder: &Path, request: GenerationRequest) -> Command {
    Command::Generate(Job {
        id: JobId(id),
        request,
        save_to: SaveTarget::Folder(folder.to_path_buf()),
        format: PictureFormat::Png,
        latents_to: None,
        model_folders: Vec::new(),
        previews: true,
        profile: false,
    })
}

fn request(steps: u32) -> GenerationRequest {
    GenerationRequest {
        prompt: "a star, flat style".to_owned(),
        seed: Some(11),
        steps: Some(steps),
        ..GenerationRequest::default()
    }
}

fn next(worker: &Handle) -> Event {
    worker.events().recv_timeout(PATIENCE).unwrap()
}

/// Every event up to the one that ends `job`, that one included.
fn until_end(worker: &Handle, job: u64) -> Vec<Event> {
    let mut events = Vec::new();
    loop {
        let event = next(worker);
        let ends = match &event {
            Event::Finished { job, .. } | Event::Failed { job, .. } | Event::Cancelled { job } => {
                Some(job.0)
            }
            _ => None,
        };
        events.push(event);
        if ends == Some(job) {
            return events;
        }
    }
}

fn pictures(events: &[Event]) -> Vec<Arc<Picture>> {
    events
        .iter()
        .filter_map(|event| match event {
            Event::PictureDone { picture, .. } => Some(Arc::clone(picture)),
            _ => None,
        })
        .collect()
}

#[test]
fn a_job_is_drawn_saved_and_reported_in_order() {
    let folder = tempfile::tempdir().unwrap();
    let worker = worker();
    worker
        .send(job(
            1,
            folder.path(),
            GenerationRequest {
                count: Some(2),
                ..request(4)
            },
        ))
        .unwrap();
    let events = until_end(&worker, 1);
    assert!(
        matches!(events.last(), Some(Event::Finished { .. })),
        "{events:?}"
    );
    let at = |wanted: fn(&Event) -> bool| events.iter().position(wanted).unwrap();
    let ready = at(|event| matches!(event, Event::ModelReady(_)));
    let started = at(|event| matches!(event, Event::Started { .. }));
    let done = at(|event| matches!(event, Event::PictureDone { .. }));
    assert!(ready < started && started < done);
    let mut fraction = 0.0;
    let mut drawn_steps = 0;
    for event in &events {
        if let Event::Progress { progress, .. } = event {
            assert!(progress.fraction >= fraction, "{events:?}");
            fraction = progress.fraction;
            if progress.stage == Stage::Drawing {
                drawn_steps = drawn_steps.max(progress.step);
            }
        }
    }
    assert_eq!(drawn_steps, 4);
    let pictures = pictures(&events);
    assert_eq!(pictures.len(), 2);
    for (index, picture) in pictures.iter().enumerate() {
        assert_eq!(picture.settings.seed, 11 + index as u64);
        assert_eq!(
            (picture.pixels.width_px, picture.pixels.height_px),
            (256, 256)
        );
        let path = picture.path.as_ref().unwrap();
        let recipe = easel::output::read_recipe(path).unwrap().unwrap();
        assert_eq!(recipe.settings.as_ref(), Some(&picture.settings));
    }
    assert!(worker.previews().take().is_some());
}

#[test]
fn a_profile_names_the_networks_and_their_layers_and_costs_nothing_of_the_picture() {
    let folder = tempfile::tempdir().unwrap();
    let worker = worker();
    worker.send(job(1, folder.path(), request(2))).unwrap();
    let plain = until_end(&worker, 1);
    assert!(
        !plain
            .iter()
            .any(|event| matches!(event, Event::Profiled { .. }))
    );
    let Command::Generate(mut profiled) = job(2, folder.path(), request(2)) else {
        unreachable!()
    };
    profiled.profile = true;
    worker.send(Command::Generate(profiled)).unwrap();
    let events = until_end(&worker, 2);
    assert_eq!(pictures(&events)[0].pixels, pictures(&plain)[0].pixels);
    let layers = events.iter().find_map(|event| match event {
        Event::Profiled { layers, .. } => Some(layers),
        _ => None,
    });
    let calls = |part: &str, layer: Option<&str>| {
        let row = layers.unwrap().iter();
        let mut row = row.filter(|row| row.part == part && row.layer.as_deref() == layer);
        row.next().map(|row| row.calls)
    };
    assert_eq!(calls("UNet", None), Some(2));
    for part in ["UNet", "VAE", "upscaler"] {
        assert!(calls(part, Some("convolution 3x3")) > Some(2), "{layers:?}");
    }
    // The first drawing keeps the encoded prompt: the second asks no text encoder.
    assert_eq!(calls("text encoder", None), None);
}

#[test]
fn what_a_picture_carries_draws_it_again() {
    let folder = tempfile::tempdir().unwrap();
    let worker = worker();
    worker.send(job(1, folder.path(), request(3))).unwrap();
    let first = pictures(&until_end(&worker, 1)).remove(0);
    let recipe = easel::output::read_recipe(first.path.as_ref().unwrap())
        .unwrap()
        .unwrap();
    worker.send(job(2, folder.path(), recipe.request)).unwrap();
    let again = pictures(&until_end(&worker, 2)).remove(0);
    assert_eq!(first.pixels, again.pixels);
    assert_ne!(first.path, again.path);
}

#[test]
fn a_cancelled_job_shows_what_it_reached_and_writes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let worker = worker();
    worker.send(job(1, folder.path(), request(1000))).unwrap();
    worker.send(job(2, folder.path(), request(1000))).unwrap();
    worker.cancel(JobId(2));
    let mut events = Vec::new();
    loop {
        let event = next(&worker);
        let reached = matches!(&event, Event::Progress { progress, .. } if progress.step >= 2);
        events.push(event);
        if reached {
            break;
        }
    }
    worker.cancel(JobId(1));
    events.extend(until_end(&worker, 1));
    assert!(matches!(events.last(), Some(Event::Cancelled { .. })));
    let picture = pictures(&events).remove(0);
    let steps = picture.settings.cancelled_after.unwrap();
    assert!((2..1000).contains(&steps), "{steps}");
    assert_eq!(picture.path, None);
    // The starter's pictures are enlarged; for one that was not finished nobody waits so long.
    assert_eq!(picture.pixels.width_px, 64);
    let waiting = until_end(&worker, 2);
    assert!(
        matches!(waiting.as_slice(), [Event::Cancelled { .. }]),
        "{waiting:?}"
    );
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn a_job_can_be_cancelled_while_its_model_is_loaded() {
    let folder = tempfile::tempdir().unwrap();
    let (worker, halts) = halting_worker();
    worker.send(job(1, folder.path(), request(2))).unwrap();
    let begun = next(&worker);
    assert!(matches!(begun, Event::ModelLoading { .. }), "{begun:?}");
    worker.cancel(JobId(1));
    drop(halts);
    let events = until_end(&worker, 1);
    assert!(
        matches!(
            events.as_slice(),
            [Event::LoadingStopped, Event::Cancelled { .. }]
        ),
        "{events:?}"
    );
    worker.send(job(2, folder.path(), request(2))).unwrap();
    assert_eq!(pictures(&until_end(&worker, 2)).len(), 1);
}

#[test]
fn a_job_that_waits_for_a_model_can_be_cancelled_before_it_is_there() {
    let folder = tempfile::tempdir().unwrap();
    let (worker, halts) = halting_worker();
    let ahead = Command::LoadModel(ModelChoice::default());
    worker.send(ahead).unwrap();
    assert!(matches!(next(&worker), Event::ModelLoading { .. }));
    for id in [1, 2] {
        worker.send(job(id, folder.path(), request(2))).unwrap();
    }
    worker.cancel(JobId(1));
    drop(halts);
    let told = next(&worker);
    assert!(
        matches!(told, Event::Cancelled { job: JobId(1) }),
        "{told:?}"
    );
    // The model is loaded on, for the other job.
    let events = until_end(&worker, 2);
    let ready = events.iter();
    let ready = ready.filter(|event| matches!(event, Event::ModelReady(_)));
    assert_eq!(ready.count(), 1, "{events:?}");
    assert_eq!(pictures(&events).len(), 1);
}

#[test]
fn a_model_that_nobody_wants_any_more_is_not_loaded_to_its_end() {
    let folder = tempfile::tempdir().unwrap();
    let other = folder.path().join("other");
    copy_folder(&weights().join("starter"), &other);
    let (worker, halts) = halting_worker();
    worker
        .send(Command::LoadModel(ModelChoice::default()))
        .unwrap();
    assert!(matches!(next(&worker), Event::ModelLoading { .. }));
    worker
        .send(Command::LoadModel(ModelChoice {
            model: Some(other.clone()),
            ..ModelChoice::default()
        }))
        .unwrap();
    drop(halts);
    loop {
        match next(&worker) {
            Event::ModelReady(loaded) => {
                assert_eq!(loaded.card.path, Some(other));
                break;
            }
            Event::ModelLoading { .. } | Event::LoadingStopped => {}
            event => panic!("{event:?}"),
        }
    }
}

/// Asks to stop as soon as the first picture is being enlarged.
#[derive(Default)]
struct StopsWhileEnlarging {
    stop: bool,
    drawn: Vec<Drawn>,
}

impl Watcher for StopsWhileEnlarging {
    fn cancelled(&self) -> bool {
        self.stop
    }
    fn closing(&self) -> bool {
        false
    }
    fn wants_previews(&self) -> bool {
        false
    }
    fn stage(&mut self, _batch: std::ops::Range<usize>, stage: Stage) {
        self.stop |= stage == Stage::Enlarging;
    }
    fn step(&mut self, _batch: std::ops::Range<usize>, _step: usize) {}
    fn preview(&mut self, _: std::ops::Range<usize>, _: usize, _: Vec<Pixels>) {}
    fn drawn(&mut self, drawn: Drawn) -> easel::error::Result<()> {
        self.drawn.push(drawn);
        Ok(())
    }
}

#[test]
fn a_cancel_while_enlarging_keeps_every_picture_that_is_drawn() {
    let files = ModelFiles::open(&weights().join("starter")).unwrap();
    let (device, kind) = (tch::Device::Cpu, tch::Kind::Float);
    let mut model = StableDiffusion::load(&files, true, device, kind, &mut |_| ()).unwrap();
    let network = weights().join("upscalers/realesr-animevideov3-x4.safetensors");
    let upscaler = Upscaler::load(&network, device).unwrap();
    let wanted = GenerationRequest {
        count: Some(2),
        ..request(3)
    };
    let plan = GenerationPlan::resolve(&wanted, &model, 4, PictureFormat::Png).unwrap();
    let mut watcher = StopsWhileEnlarging::default();
    let end = pipeline::generate(&mut model, &plan, Some(&upscaler), &mut watcher);
    assert!(matches!(end, Err(Error::Cancelled)), "{end:?}");
    let drawn: Vec<_> = watcher
        .drawn
        .iter()
        .map(|drawn| (drawn.index, drawn.pixels.width_px, drawn.cancelled_after))
        .collect();
    assert_eq!(drawn, [(0, 64, Some(3)), (1, 64, Some(3))]);
}

#[test]
fn before_its_first_step_a_drawing_is_told_by_the_one_before() {
    let folder = tempfile::tempdir().unwrap();
    let worker = worker();
    let first_told = |id: u64, wanted: GenerationRequest| {
        worker.send(job(id, folder.path(), wanted)).unwrap();
        let events = until_end(&worker, id);
        let progress = events.into_iter().filter_map(|event| match event {
            Event::Progress { progress, .. } => Some(progress),
            _ => None,
        });
        let mut drawing = progress.filter(|it| it.stage == Stage::Drawing);
        let first = drawing.find(|it| it.step == 0).unwrap();
        assert_eq!(first.steps_per_sec, None);
        first.remaining_secs
    };
    assert_eq!(first_told(1, request(3)), None);
    assert!(first_told(2, request(3)).is_some());
    // Of other arithmetic nothing is known, and then of another sampler.
    let exact = GenerationRequest {
        arithmetic: Arithmetic::Exact,
        ..request(3)
    };
    assert_eq!(first_told(3, exact.clone()), None);
    let other = GenerationRequest {
        sampler: Some(SamplerId::Heun),
        ..exact
    };
    assert_eq!(first_told(4, other), None);
}

#[test]
fn while_the_prompt_is_read_all_pictures_at_once_are_counted() {
    let folder = tempfile::tempdir().unwrap();
    let worker = worker();
    let five = GenerationRequest {
        count: Some(5),
        batch_size: Some(4),
        ..request(3)
    };
    let told = |id: u64| -> Vec<_> {
        worker.send(job(id, folder.path(), five.clone())).unwrap();
        let events = until_end(&worker, id).into_iter();
        let progress = events.filter_map(|event| match event {
            Event::Progress { progress, .. } => Some(progress),
            _ => None,
        });
        let unmeasured = progress.take_while(|it| it.step == 0);
        unmeasured.map(|it| (it.stage, it.remaining_secs)).collect()
    };
    told(1);
    let again = told(2);
    let [(Stage::ReadingPrompt, reading), (Stage::Drawing, drawing)] = again.as_slice() else {
        panic!("{again:?}");
    };
    assert!(reading.is_some());
    assert_eq!(reading, drawing);
}

#[test]
fn what_loras_took_is_missed_before_drawing_begins() {
    let files = ModelFiles::open(&weights().join("starter")).unwrap();
    let (device, kind) = (tch::Device::Cpu, tch::Kind::Float);
    let mut model = StableDiffusion::load(&files, true, device, kind, &mut |_| ()).unwrap();
    let wanted = request(3);
    let mut plan = GenerationPlan::resolve(&wanted, &model, 1, PictureFormat::Png).unwrap();
    plan.draw_prompts(&wanted, &std::collections::BTreeMap::new(), &|_| {
        Ok(Some(Vec::new()))
    })
    .unwrap();
    // As if there had been room for it when the plan was made.
    (plan.width_px, plan.height_px) = (1 << 20, 1 << 20);
    let mut watcher = StopsWhileEnlarging::default();
    let end = pipeline::generate(&mut model, &plan, None, &mut watcher);
    let Err(Error::OutOfMemory { details }) = end else {
        panic!("{end:?}");
    };
    assert!(details.contains("MB are free"), "{details}");
}

#[test]
fn after_a_failed_job_the_next_one_works() {
    let folder = tempfile::tempdir().unwrap();
    let worker = worker();
    let broken = folder.path().join("broken");
    copy_folder(&weights().join("starter"), &broken);
    let file = broken.join("unet/diffusion_pytorch_model.safetensors");
    let bytes = std::fs::read(&file).unwrap();
    std::fs::write(&file, &bytes[..bytes.len() / 2]).unwrap();
    let on_broken = GenerationRequest {
        model: Some(broken),
        ..request(2)
    };
    worker.send(job(1, folder.path(), on_broken)).unwrap();
    let wrong_size = GenerationRequest {
        width_px: Some(63),
        ..request(2)
    };
    worker.send(job(2, folder.path(), wrong_size)).unwrap();
    worker.send(job(3, folder.path(), request(2))).unwrap();
    let failure = |events: Vec<Event>| match events.last() {
        Some(Event::Failed { failure, .. }) => failure.clone(),
        other => panic!("{other:?}"),
    };
    let broken = failure(until_end(&worker, 1));
    assert_eq!(broken.remedy, Some(Remedy::ChooseModel));
    assert!(
        broken.message.contains("diffusion_pytorch_model"),
        "{}",
        broken.message
    );
    let size = failure(until_end(&worker, 2));
    assert!(size.message.contains("multiple of 4"), "{}", size.message);
    let last = until_end(&worker, 3);
    assert!(
        matches!(last.last(), Some(Event::Finished { .. })),
        "{last:?}"
    );
}

#[test]
fn a_picture_that_cannot_be_saved_is_still_whole() {
    let folder = tempfile::tempdir().unwrap();
    let worker = worker();
    // A file stands where the folder should be.
    let blocked = folder.path().join("blocked");
    std::fs::write(&blocked, b"x").unwrap();
    worker.send(job(1, &blocked, request(2))).unwrap();
    let events = until_end(&worker, 1);
    assert!(matches!(events.last(), Some(Event::Finished { .. })));
    let picture = pictures(&events).remove(0);
    let failure = picture.save_failure.clone().unwrap();
    assert_eq!(failure.remedy, Some(Remedy::ChooseFolder));
    let to = folder.path().join("elsewhere.jpg");
    worker
        .send_file(FileCommand::SaveAs {
            picture: Arc::clone(&picture),
            to: to.clone(),
        })
        .unwrap();
    assert!(matches!(next(&worker), Event::SavedAs { .. }));
    let read: Option<PictureSettings> = easel::output::read_recipe(&to)
        .unwrap()
        .and_then(|recipe| recipe.settings);
    assert_eq!(read.as_ref(), Some(&picture.settings));
}

#[test]
fn what_is_to_be_saved_is_saved_before_the_worker_ends() {
    let folder = tempfile::tempdir().unwrap();
    let worker = worker();
    let settings = serde_json::json!({
        "prompt": "a fox", "negative_prompt": "", "model_name": "Starter", "steps": 2,
        "guidance_scale": 4.0, "seed": 7, "sampler": "euler", "schedule": "model",
        "width_px": 64, "height_px": 64, "output_width_px": 64, "output_height_px": 64,
        "device": "cpu", "dtype": "f32", "version": "0.1.0",
    });
    let picture = Arc::new(Picture {
        pixels: Pixels {
            width_px: 64,
            height_px: 64,
            rgb: vec![90; 3 * 64 * 64],
        },
        settings: serde_json::from_value(settings).unwrap(),
        recipe: None,
        path: None,
        save_failure: None,
    });
    let to: Vec<PathBuf> = (0..20)
        .map(|number| folder.path().join(format!("{number}.png")))
        .collect();
    for to in to.iter().cloned() {
        let picture = Arc::clone(&picture);
        worker
            .send_file(FileCommand::SaveAs { picture, to })
            .unwrap();
    }
    drop(worker);
    for path in to {
        assert!(path.is_file(), "{}", path.display());
    }
}

#[test]
fn a_lora_that_the_prompt_names_or_the_request_lists_changes_the_picture() {
    let folder = tempfile::tempdir().unwrap();
    let worker = worker();
    let loras = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/reference/data/starter");
    let mut id = 0;
    let mut draw = |request: GenerationRequest| {
        id += 1;
        let Command::Generate(mut job) = job(id, folder.path(), request) else {
            panic!("not a drawing job");
        };
        job.model_folders = vec![loras.clone()];
        worker.send(Command::Generate(job)).unwrap();
        until_end(&worker, id)
    };
    let prompt = |prompt: &str| GenerationRequest {
        prompt: prompt.to_owned(),
        ..request(2)
    };
    let plain = pictures(&draw(prompt("a star"))).remove(0);
    let named = pictures(&draw(prompt("a star<lora:lora_peft:0.8>"))).remove(0);
    let listed = LoraChoice {
        path: loras.join("lora_peft.safetensors"),
        weight: 0.8,
    };
    let listed = pictures(&draw(GenerationRequest {
        loras: vec![listed.clone()],
        ..prompt("a star")
    }))
    .remove(0);
    assert_ne!(named.pixels, plain.pixels);
    assert_eq!(named.pixels, listed.pixels);
    let recipe = easel::output::read_recipe(listed.path.as_ref().unwrap())
        .unwrap()
        .unwrap();
    assert!(recipe.infotext.starts_with("a star <lora:lora_peft:0.8>\n"));
    assert_eq!(
        pictures(&draw(recipe.request)).remove(0).pixels,
        listed.pixels
    );
    assert_eq!(
        pictures(&draw(prompt("a star"))).remove(0).pixels,
        plain.pixels
    );
    match draw(prompt("a star <lora:nothing:1>")).last() {
        Some(Event::Failed { failure, .. }) => {
            assert!(
                failure.message.contains("the LoRA nothing"),
                "{}",
                failure.message
            );
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn enlarging_once_more_makes_a_new_picture_beside_the_old() {
    let folder = tempfile::tempdir().unwrap();
    let worker = worker();
    let small = GenerationRequest {
        upscale: Upscale::None,
        ..request(2)
    };
    worker.send(job(1, folder.path(), small)).unwrap();
    let source = pictures(&until_end(&worker, 1)).remove(0);
    assert_eq!(source.pixels.width_px, 64);
    worker
        .send(Command::Enlarge {
            job: JobId(2),
            source: source.path.clone().unwrap(),
            format: PictureFormat::Webp,
            arithmetic: Arithmetic::Fast,
        })
        .unwrap();
    let enlarged = pictures(&until_end(&worker, 2)).remove(0);
    assert_eq!(enlarged.pixels.width_px, 256);
    assert_eq!(enlarged.settings.prompt, source.settings.prompt);
    let path = enlarged.path.as_ref().unwrap();
    assert!(path.extension().unwrap() == "webp");
    assert_eq!(easel::output::enlarged_by(path), Some(4));
}

#[test]
fn another_program_s_picture_is_enlarged_and_nothing_is_made_up_about_it() {
    let folder = tempfile::tempdir().unwrap();
    let worker = worker();
    let a1111 = "a fox <lora:fur:0.8>\nNegative prompt: dark\nSteps: 20, CFG scale: 6.5, Model: dreamy, VAE: best.vae.pt, Lora hashes: \"fur: 0123456789ab\"";
    let bare = "a fox in the snow";
    for (number, (text, format)) in [
        (a1111, PictureFormat::Png),
        (a1111, PictureFormat::Jpeg),
        (a1111, PictureFormat::Webp),
        (bare, PictureFormat::Png),
    ]
    .into_iter()
    .enumerate()
    {
        let source = folder.path().join(format!("theirs-{number}.png"));
        std::fs::write(&source, png_texts(&[("parameters", text)])).unwrap();
        let before = easel::output::read_recipe(&source).unwrap().unwrap();
        let id = number as u64 + 1;
        worker
            .send(Command::Enlarge {
                job: JobId(id),
                source,
                format,
                arithmetic: Arithmetic::Fast,
            })
            .unwrap();
        let enlarged = pictures(&until_end(&worker, id)).remove(0);
        assert_eq!(enlarged.settings.to_request(), before.request);
        let path = enlarged.path.as_ref().unwrap();
        assert_eq!(easel::output::enlarged_by(path), Some(4));
        assert!(!path.display().to_string().contains("-0-"), "{path:?}");
        let after = easel::output::read_recipe(path).unwrap().unwrap();
        assert!(after.infotext.contains("Postprocess upscale by: 4"));
        assert_eq!((after.request.seed, after.request.sampler), (None, None));
        assert_eq!(after.request.prompt, before.request.prompt);
        assert_eq!(after.request.guidance_scale, before.request.guidance_scale);
        assert_eq!(after.files, before.files);
        assert_eq!(after.settings, None);
    }
}

#[test]
fn models_are_found_in_folders_and_the_one_that_ships_comes_first() {
    let folder = tempfile::tempdir().unwrap();
    copy_folder(&weights().join("starter"), &folder.path().join("a/mine"));
    std::fs::remove_file(folder.path().join("a/mine/easel.json")).unwrap();
    let worker = worker();
    let folders = vec![folder.path().to_path_buf(), folder.path().join("missing")];
    worker
        .send_file(FileCommand::FindModels {
            folders,
            wildcards: None,
        })
        .unwrap();
    assert!(matches!(next(&worker), Event::AddOnsFound(found) if found.is_empty()));
    let Event::ModelsFound(cards) = next(&worker) else {
        panic!("no models were reported");
    };
    let names: Vec<_> = cards.iter().map(|card| card.name.as_str()).collect();
    assert_eq!(names, ["Starter", "mine"]);
    assert_eq!(cards[0].path, None);
    assert_eq!(cards[1].defaults.width_px, 64);
}

#[test]
fn a_model_that_comes_later_is_told_of_and_hashed_in_the_background() {
    let folder = tempfile::tempdir().unwrap();
    let cache = tempfile::tempdir().unwrap();
    let worker = start(WorkerConfig {
        weights: weights(),
        cache: Some(cache.path().to_path_buf()),
        priority: Priority::Usual,
        wake: Box::new(|| ()),
    })
    .unwrap();
    let folders = vec![folder.path().to_path_buf()];
    worker
        .send_file(FileCommand::FindModels {
            folders,
            wildcards: None,
        })
        .unwrap();
    next(&worker);
    assert!(matches!(next(&worker), Event::ModelsFound(cards) if cards.len() == 1));
    copy_folder(&weights().join("starter"), &folder.path().join("mine"));
    let hash = loop {
        // Files come one by one: there may be a first list without a whole model.
        if let Event::ModelsChanged(cards) = next(&worker)
            && let Some(hash) = cards.get(1).and_then(|card| card.sha256.clone())
        {
            break hash;
        }
    };
    let unet = weights().join("starter/unet/diffusion_pytorch_model.safetensors");
    assert_eq!(hash, easel::files::sha256_hex(&unet).unwrap());
    assert!(cache.path().join("model_hashes.json").is_file());
}

fn copy_folder(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy_folder(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

#[test]
fn what_a_picture_was_drawn_with_is_named_in_it_by_a1111s_hashes() {
    let folder = tempfile::tempdir().unwrap();
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/reference/data");
    let models = folder.path().join("models");
    let copy = |from: &str, to: &str| {
        let to = models.join(to);
        std::fs::create_dir_all(to.parent().unwrap()).unwrap();
        std::fs::copy(data.join(from), &to).unwrap();
        to
    };
    let lora = copy(
        "starter/lora_peft.safetensors",
        "Lora/pixel art.safetensors",
    );
    let embedding = copy("embeddings/fancy-style.pt", "embeddings/fancy-style.pt");
    let worker = worker();
    let mut id = 0;
    let mut draw = |request: GenerationRequest| {
        id += 1;
        let Command::Generate(mut job) = job(id, folder.path(), request) else {
            panic!("not a drawing job");
        };
        job.model_folders = vec![models.clone()];
        worker.send(Command::Generate(job)).unwrap();
        until_end(&worker, id)
    };
    let request = GenerationRequest {
        prompt: "a star<lora:pixel art:0.8>".to_owned(),
        negative_prompt: "Fancy-Style".to_owned(),
        ..request(2)
    };
    let drawn = pictures(&draw(request.clone())).remove(0);
    let bytes = std::fs::read(&lora).unwrap();
    let begin = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let tensors = folder.path().join("tensors");
    std::fs::write(&tensors, &bytes[begin..]).unwrap();
    let hash = |path: &Path| easel::files::sha256_hex(path).unwrap()[..12].to_owned();
    let hashes = &drawn.settings.hashes;
    let (of_lora, of_embedding) = (hash(&tensors), hash(&embedding));
    assert_eq!(hashes.loras["pixel art"], of_lora);
    assert_eq!(hashes.embeddings["fancy-style"], of_embedding);
    let text = easel::output::infotext(&drawn.settings);
    for said in [
        format!("Lora hashes: \"pixel art: {of_lora}\""),
        format!("TI hashes: \"fancy-style: {of_embedding}\""),
        format!("\"embed:fancy-style\":\"{}\"", &of_embedding[..10]),
    ] {
        assert!(text.contains(&said), "{said} is not in {text}");
    }
    let read = easel::output::read_recipe(drawn.path.as_deref().unwrap()).unwrap();
    assert_eq!(read.unwrap().settings.unwrap().hashes, *hashes);
    // Without the embedding's file its name is words, and another picture comes.
    std::fs::remove_file(&embedding).unwrap();
    let words = pictures(&draw(request)).remove(0);
    assert!(words.settings.hashes.embeddings.is_empty());
    assert_ne!(words.pixels, drawn.pixels);
}

#[test]
fn a_lora_is_found_by_the_hash_or_the_name_that_it_was_trained_with() {
    let folder = tempfile::tempdir().unwrap();
    let source = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/reference/data/starter/lora_peft.safetensors");
    let bytes = std::fs::read(&source).unwrap();
    let header = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let mut json: serde_json::Value = serde_json::from_slice(&bytes[8..header]).unwrap();
    json["__metadata__"] = serde_json::json!({
        "ss_output_name": "pixels_v2", "sshs_model_hash": "0123456789abcdef",
    });
    let json = json.to_string();
    let length = (json.len() as u64).to_le_bytes();
    let lora = [&length, json.as_bytes(), &bytes[header..]].concat();
    std::fs::write(folder.path().join("renamed.safetensors"), lora).unwrap();
    let worker = worker();
    let mut id = 0;
    let mut draw = |name: &str, hash: &str| {
        id += 1;
        let mut request = GenerationRequest {
            prompt: format!("a star<lora:{name}:0.8>"),
            ..request(2)
        };
        request
            .hashes
            .loras
            .insert(name.to_owned(), hash.to_owned());
        let Command::Generate(mut job) = job(id, folder.path(), request) else {
            panic!("not a drawing job");
        };
        job.model_folders = vec![folder.path().to_path_buf()];
        worker.send(Command::Generate(job)).unwrap();
        until_end(&worker, id)
    };
    let by_file = pictures(&draw("renamed", "")).remove(0);
    assert_eq!(by_file.settings.hashes.loras["renamed"], "0123456789ab");
    for (name, hash) in [("pixels_v2", "ffffffffffff"), ("gone", "0123456789ab")] {
        let found = pictures(&draw(name, hash)).remove(0);
        assert_eq!(found.pixels, by_file.pixels, "{name}");
    }
    let events = draw("gone", "ffffffffffff");
    let Some(Event::Failed { failure, .. }) = events.last() else {
        panic!("{events:?}");
    };
    assert!(
        failure.message.contains("gone (hash ffffffffffff)"),
        "{failure:?}"
    );
}

#[test]
fn each_picture_draws_its_own_wildcards_and_loras_and_records_them() {
    let folder = tempfile::tempdir().unwrap();
    let models = folder.path().join("models");
    std::fs::create_dir_all(models.join("wildcards/sky")).unwrap();
    std::fs::write(
        models.join("wildcards/sky/color.txt"),
        "# hues\nred\nblue\n",
    )
    .unwrap();
    let lora = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/reference/data/starter/lora_kohya.safetensors");
    std::fs::copy(lora, models.join("twist.safetensors")).unwrap();
    let template = "a {__color__|__sky/color__} star{ <lora:twist:1>|}";
    let wanted = GenerationRequest {
        prompt: template.to_owned(),
        steps: Some(1),
        seed: Some(4),
        count: Some(4),
        upscale: Upscale::None,
        ..GenerationRequest::default()
    };
    let send = |worker: &Handle, id, request| {
        let Command::Generate(job) = job(id, folder.path(), request) else {
            unreachable!()
        };
        let model_folders = vec![models.clone()];
        let job = Job {
            model_folders,
            ..job
        };
        worker.send(Command::Generate(job)).unwrap();
        pictures(&until_end(worker, id))
    };
    let worker = worker();
    let drawn = send(&worker, 1, wanted);
    let prompts: std::collections::BTreeSet<&str> = drawn
        .iter()
        .map(|picture| picture.settings.prompt.as_str())
        .collect();
    assert!(
        prompts.iter().any(|prompt| prompt.contains("<lora:")),
        "{prompts:?}"
    );
    assert!(
        prompts.iter().any(|prompt| !prompt.contains("<lora:")),
        "{prompts:?}"
    );
    assert!(
        prompts
            .iter()
            .any(|prompt| prompt.starts_with("a red star")),
        "{prompts:?}"
    );
    assert!(
        prompts
            .iter()
            .any(|prompt| prompt.starts_with("a blue star")),
        "{prompts:?}"
    );
    for (index, picture) in drawn.iter().enumerate() {
        assert_eq!(picture.settings.template.as_deref(), Some(template));
        let saved = easel::output::read_recipe(picture.path.as_ref().unwrap());
        let recipe = saved.unwrap().unwrap();
        assert!(
            recipe.infotext.contains("Template: "),
            "{}",
            recipe.infotext
        );
        assert_eq!(recipe.request.prompt, picture.settings.prompt);
        if index > 1 {
            continue;
        }
        let again = send(&worker, 10 + index as u64, recipe.request);
        assert_eq!(
            again[0].pixels.rgb, picture.pixels.rgb,
            "{:?}",
            picture.settings.prompt
        );
    }
    let missing = GenerationRequest {
        wildcards: Some(folder.path().join("nowhere")),
        ..request(1)
    };
    worker.send(job(30, folder.path(), missing)).unwrap();
    let events = until_end(&worker, 30);
    let Some(Event::Failed { failure, .. }) = events.last() else {
        panic!("{events:?}")
    };
    assert!(failure.message.contains("nowhere"), "{}", failure.message);
}

/// Exchanges a file for one whose numbers are these times as large, under its name and of its size.
fn exchange(path: &Path, times: f64) {
    let tensors: Vec<(String, tch::Tensor)> = tch::Tensor::read_safetensors(path)
        .unwrap()
        .into_iter()
        .map(|(name, tensor)| (name, tensor * times))
        .collect();
    let beside = path.with_extension("new");
    tch::Tensor::write_safetensors(&tensors, &beside).unwrap();
    std::fs::rename(beside, path).unwrap();
}

#[test]
fn a_file_that_is_exchanged_under_its_name_is_drawn_with_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let place = |name: &str| folder.path().join(name);
    copy_folder(&weights().join("starter"), &place("model"));
    copy_folder(&weights().join("starter/vae"), &place("vae"));
    copy_folder(&weights().join("starter/unet"), &place("unet"));
    let lora = "tests/reference/data/starter/lora_peft.safetensors";
    let lora = Path::new(env!("CARGO_MANIFEST_DIR")).join(lora);
    std::fs::copy(lora, place("twist.safetensors")).unwrap();
    std::fs::create_dir(place("embeddings")).unwrap();
    let vectors = tch::Tensor::arange(384, (tch::Kind::Float, tch::Device::Cpu));
    let vectors = vectors.sin().view([2, 192]) * 0.2;
    let embedding = place("embeddings/glow.safetensors");
    tch::Tensor::write_safetensors(&[("emb_params", vectors)], &embedding).unwrap();
    let prompt = |prompt: &str| GenerationRequest {
        prompt: prompt.to_owned(),
        upscale: Upscale::None,
        model: Some(place("model")),
        ..request(1)
    };
    let whole = "diffusion_pytorch_model.safetensors";
    let cases = [
        (place("twist.safetensors"), prompt("a star<lora:twist:0.8>")),
        (embedding, prompt("a star, glow")),
        (
            place("vae").join(whole),
            GenerationRequest {
                vae: Some(place("vae")),
                ..prompt("a star")
            },
        ),
        (
            place("unet").join(whole),
            GenerationRequest {
                unet: Some(place("unet")),
                ..prompt("a star")
            },
        ),
        (place("model/unet").join(whole), prompt("a star")),
    ];
    let mut id = 0;
    let mut draw = |worker: &Handle, request: &GenerationRequest| {
        id += 1;
        let Command::Generate(mut job) = job(id, folder.path(), request.clone()) else {
            panic!("not a drawing job");
        };
        job.model_folders = vec![folder.path().to_path_buf()];
        worker.send(Command::Generate(job)).unwrap();
        let events = until_end(worker, id);
        let mut drawn = pictures(&events);
        assert_eq!(drawn.len(), 1, "{events:?}");
        drawn.remove(0).pixels.clone()
    };
    let long_running = worker();
    for (file, request) in cases {
        let before = draw(&long_running, &request);
        exchange(&file, 0.7);
        let after = draw(&long_running, &request);
        assert_ne!(after, before, "{}", file.display());
        assert_eq!(after, draw(&worker(), &request), "{}", file.display());
    }
}
