//! The command line: its words, what it reports, its exit codes. The reporting runs against a
//! script in the worker's place; the last tests start the real program with the model that ships.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::{Path, PathBuf};
use std::process::{Command as Process, Output as Finished, Stdio};
use std::sync::Arc;
use std::thread;

use clap::Parser;
use crossbeam_channel::{Receiver, bounded, never};
use easel::cli::{Arguments, Command, Generate, Outcome, Output, Reporter, Session, Streams};
use easel::error::{Error, Remedy, Result};
use easel::output;
use easel::request::{
    AddOnHashes, Arithmetic, DeviceChoice, DtypeChoice, Emphasis, GenerationRequest,
    GuidanceInterval, LoraChoice, PictureFormat, PictureHints, PictureSettings, Pixels,
    RefinerChoice, SAMPLERS, SCHEDULES, SamplerId, SaveTarget, ScheduleId, SeedMode, Seeding,
    Tuning, Upscale,
};
use easel::worker::message::{
    self, Event, Failure, Job, JobId, JobPlan, Picture, Preview, Progress, Stage,
};
use easel::worker::{Ends, channel};

fn parse(words: &[&str]) -> Result<Generate, clap::Error> {
    let words = ["easel", "generate"].iter().chain(words);
    match Arguments::try_parse_from(words)?.command {
        Some(Command::Generate(arguments)) => Ok(*arguments),
        other => panic!("{other:?} is not generate"),
    }
}

#[test]
fn every_flag_becomes_the_request_that_the_window_would_make() {
    let arguments = parse(&[
        "a penguin, 3d style",
        "--negative=blurry",
        "--model=some/model",
        "--steps=30",
        "--unet=some/unet.gguf",
        "--vae=some/vae.safetensors",
        "--lora=a/style.safetensors:0.8",
        "--lora=c:/plain.safetensors",
        "--embedding=bad-hands.pt",
        "--embedding=a/toy.bin",
        "--refiner=some/refiner",
        "--refiner-start=0.7",
        "--original-size=512x384",
        "--crop=16,0",
        "--target-size=1024x768",
        "--aesthetic-score=7.5",
        "--negative-aesthetic-score=2",
        "--guidance=5.5",
        "--guidance-rescale=0.7",
        "--clip-skip=2",
        "--seed=18446744073709551615",
        "--width=64",
        "--height=128",
        "--sampler=dpmpp_2m_sde",
        "--schedule=karras",
        "--eta=0.5",
        "--count=3",
        "--upscale=none",
        "--device=cuda",
        "--dtype=bf16",
        "--exact",
        "--guidance-interval=0.2:0.8",
        "--seed-mode=a1111",
        "--variation-seed=5",
        "--variation-strength=0.25",
        "--seed-resize=512x768",
        "--ensd=-31337",
        "--emphasis=no-norm",
        "--wildcards=some/lists",
    ])
    .unwrap();
    let expected = GenerationRequest {
        prompt: "a penguin, 3d style".to_owned(),
        negative_prompt: "blurry".to_owned(),
        emphasis: Emphasis::NoNorm,
        wildcards: Some(PathBuf::from("some/lists")),
        model: Some(PathBuf::from("some/model")),
        steps: Some(30),
        unet: Some(PathBuf::from("some/unet.gguf")),
        vae: Some(PathBuf::from("some/vae.safetensors")),
        embeddings: vec!["bad-hands.pt".into(), "a/toy.bin".into()],
        hashes: AddOnHashes::default(),
        loras: [("a/style.safetensors", 0.8), ("c:/plain.safetensors", 1.0)]
            .map(|(path, weight)| LoraChoice {
                path: path.into(),
                weight,
            })
            .to_vec(),
        refiner: Some(RefinerChoice {
            path: PathBuf::from("some/refiner"),
            start: 0.7,
        }),
        hints: PictureHints {
            original_size: Some([512, 384]),
            crop: Some([16, 0]),
            target_size: Some([1024, 768]),
            aesthetic_score: Some(7.5),
            negative_aesthetic_score: Some(2.0),
        },
        guidance_scale: Some(5.5),
        guidance_rescale: Some(0.7),
        guidance_interval: Some(GuidanceInterval {
            start: 0.2,
            stop: 0.8,
        }),
        clip_skip: Some(2),
        width_px: Some(64),
        height_px: Some(128),
        seed: Some(u64::MAX),
        seeding: Seeding {
            mode: SeedMode::A1111,
            variation_seed: Some(5),
            variation_strength: Some(0.25),
            resize_from: Some([512, 768]),
            ensd: Some(-31337),
            batch_index: None,
        },
        count: Some(3),
        batch_size: None,
        sampler: Some(SamplerId::DpmPp2mSde),
        schedule: Some(ScheduleId::Karras),
        tuning: Tuning {
            eta: Some(0.5),
            ..Tuning::default()
        },
        upscale: Upscale::None,
        device: DeviceChoice::Cuda,
        dtype: DtypeChoice::Bf16,
        arithmetic: Arithmetic::Exact,
    };
    assert_eq!(arguments.request(GenerationRequest::default()), expected);
    // Nothing said is nothing asked for: the model decides.
    let plain = GenerationRequest {
        prompt: "x".to_owned(),
        ..GenerationRequest::default()
    };
    assert_eq!(
        parse(&["x"]).unwrap().request(GenerationRequest::default()),
        plain
    );
}

#[test]
fn what_is_said_wins_over_a_picture_s_settings() {
    let base = settings(7).to_request();
    let arguments = parse(&["--settings-from=old.png"]).unwrap();
    assert_eq!(arguments.settings_from, Some(PathBuf::from("old.png")));
    assert_eq!(arguments.request(base.clone()), base);
    let arguments = parse(&[
        "--settings-from=old.png",
        "another",
        "--negative=",
        "--seed=8",
    ])
    .unwrap();
    let expected = GenerationRequest {
        prompt: "another".to_owned(),
        negative_prompt: String::new(),
        seed: Some(8),
        ..base.clone()
    };
    assert_eq!(arguments.request(base), expected);
}

#[test]
fn every_sampler_and_schedule_of_the_tables_has_its_word() {
    for info in SAMPLERS {
        let arguments = parse(&["x", "--sampler", info.name]).unwrap();
        assert_eq!(arguments.sampler, Some((info.id, None)));
    }
    for info in SCHEDULES {
        let arguments = parse(&["x", "--schedule", info.name]).unwrap();
        assert_eq!(arguments.schedule, Some(info.id));
    }
    let base = || GenerationRequest {
        seed: Some(5),
        schedule: Some(ScheduleId::Beta),
        ..GenerationRequest::default()
    };
    for (words, sampler, schedule) in [
        (
            &["--sampler=Euler a"][..],
            SamplerId::EulerA,
            ScheduleId::Beta,
        ),
        (
            &["--sampler=DPM++ 2M Karras"],
            SamplerId::DpmPp2m,
            ScheduleId::Karras,
        ),
        (
            &["--sampler=DPM++ 2M Karras", "--schedule=SGM Uniform"],
            SamplerId::DpmPp2m,
            ScheduleId::SgmUniform,
        ),
    ] {
        let request = parse(&[&["x"], words].concat()).unwrap().request(base());
        assert_eq!(
            (request.sampler, request.schedule),
            (Some(sampler), Some(schedule))
        );
    }
    let seed = |words: &[&str]| parse(words).unwrap().request(base()).seed;
    assert_eq!(seed(&["x"]), Some(5));
    assert_eq!(seed(&["x", "--seed=0"]), Some(0));
    assert_eq!(seed(&["x", "--seed", "-1"]), None);
}

#[test]
fn output_is_a_file_by_its_ending_and_a_folder_otherwise() {
    let here = tempfile::tempdir().unwrap();
    let dotted = here.path().join("v1.5");
    std::fs::create_dir(&dotted).unwrap();
    let dotted = dotted.to_str().unwrap();
    let output = |text: &str| parse(&["x", "--output", text]).unwrap().output.unwrap();
    for (name, format) in [
        ("a/cat.png", PictureFormat::Png),
        ("cat.JPG", PictureFormat::Jpeg),
        ("cat.jpeg", PictureFormat::Jpeg),
        ("cat.webp", PictureFormat::Webp),
    ] {
        assert_eq!(output(name), Output::File(PathBuf::from(name), format));
    }
    for name in ["cats", "cats/", "new.folder/", dotted] {
        assert_eq!(output(name), Output::Folder(PathBuf::from(name)));
    }
    let error = parse(&["x", "--output", "cat.gif"])
        .unwrap_err()
        .to_string();
    assert!(error.contains(".png, .jpg or .webp"), "{error}");

    // Nothing said: where and as the window saves.
    let library = PathBuf::from("Pictures/Easel");
    let target = parse(&["x"])
        .unwrap()
        .target(library.clone(), PictureFormat::Webp);
    assert_eq!(target, (SaveTarget::Library(library), PictureFormat::Webp));
}

#[test]
fn wrong_arguments_are_told_from_right_ones() {
    for words in [
        &["x", "--steps=0"][..],
        &["x", "--steps=1001"],
        &["x", "--steps=many"],
        &["x", "--guidance=nan"],
        &["x", "--guidance=101"],
        &["x", "--guidance-rescale=1.1"],
        &["x", "--clip-skip=0"],
        &["x", "--guidance-interval=0.8:0.2"],
        &["x", "--guidance-interval=0:nan"],
        &["x", "--guidance-interval=0.5"],
        &["x", "--seed-mode=novelai"],
        &["x", "--variation-seed=3"],
        &["x", "--variation-strength=1.5"],
        &["x", "--seed-resize=512"],
        &["x", "--ensd=some"],
        &["x", "--seed=-2"],
        &["x", "--lora=style.safetensors:abc"],
        &["x", "--width=0"],
        &["x", "--count=0"],
        &["x", "--sampler=best"],
        &["x", "--schedule=DPM"],
        &["x", "--device=tpu"],
        &["x", "--dtype=f8"],
        &["x", "--upscale="],
        &["x", "--json", "--quiet"],
        &["x", "y"],
        &[],
    ] {
        let error = parse(words).unwrap_err();
        assert_eq!(error.exit_code(), 2, "{words:?}");
    }
    let error = parse(&["x", "--sampler=best"]).unwrap_err().to_string();
    for info in SAMPLERS {
        assert!(error.contains(info.name), "{error}");
    }
    let error = parse(&["--steps=5", "--quiet"]).unwrap_err().to_string();
    assert!(error.contains("[OPTIONS] --settings-from"), "{error}");
}

// --- against a script ---

const JOB: JobId = JobId(1);

fn job() -> Job {
    Job {
        id: JOB,
        request: GenerationRequest {
            prompt: "a penguin".to_owned(),
            ..GenerationRequest::default()
        },
        save_to: SaveTarget::Folder(PathBuf::from("pictures")),
        format: PictureFormat::Png,
        latents_to: None,
        model_folders: Vec::new(),
        previews: true,
        profile: false,
    }
}

fn settings(seed: u64) -> PictureSettings {
    PictureSettings {
        prompt: "a penguin".to_owned(),
        negative_prompt: String::new(),
        template: None,
        negative_template: None,
        emphasis: Emphasis::default(),
        model_name: "Starter".to_owned(),
        model_path: None,
        model_hash: None,
        steps: 20,
        guidance_scale: 4.0,
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
        seed,
        seeding: Seeding::default(),
        sampler: SamplerId::DpmPp2m,
        schedule: ScheduleId::Model,
        tuning: Tuning::default(),
        width_px: 64,
        height_px: 64,
        upscaler: None,
        output_width_px: 64,
        output_height_px: 64,
        device: "cpu".to_owned(),
        dtype: "f32".to_owned(),
        arithmetic: Some(Arithmetic::Fast),
        version: "0.1.0".to_owned(),
        cancelled_after: None,
        foreign: None,
    }
}

fn pixels() -> Pixels {
    Pixels {
        width_px: 2,
        height_px: 1,
        rgb: vec![1, 2, 3, 4, 5, 6],
    }
}

fn failure() -> Failure {
    Failure {
        message: "There is not enough memory for this picture".to_owned(),
        details: "you tried to allocate 8796093022208 bytes".to_owned(),
        remedy: Some(Remedy::ReduceSize),
    }
}

fn started() -> Event {
    Event::Started {
        job: JOB,
        plan: JobPlan {
            model_name: "Starter".to_owned(),
            seeds: vec![7, 8],
            steps: 20,
            width_px: 64,
            height_px: 64,
            output_width_px: 256,
            output_height_px: 256,
        },
    }
}

fn progress(step: usize) -> Event {
    Event::Progress {
        job: JOB,
        progress: Progress {
            stage: Stage::Drawing,
            fraction: step as f32 / 20.0,
            first: 0,
            batch: 2,
            step,
            steps: 20,
            steps_per_sec: Some(2.0),
            remaining_secs: Some(5.0),
        },
    }
}

fn picture(index: usize, path: Option<&str>, save_failure: Option<Failure>) -> Event {
    Event::PictureDone {
        job: JOB,
        index,
        picture: Arc::new(Picture {
            pixels: pixels(),
            settings: settings(7 + index as u64),
            recipe: None,
            path: path.map(PathBuf::from),
            save_failure,
        }),
    }
}

fn finished() -> Event {
    Event::Finished {
        job: JOB,
        elapsed_secs: 1.5,
    }
}

/// What a scripted job came to.
struct Ran {
    outcome: Result<Outcome>,
    out: String,
    err: String,
}

/// Runs a job against `script` in the worker's place.
fn run(
    reporter: Reporter,
    preview_folder: Option<&Path>,
    (previews, interrupts): (Receiver<Preview>, Receiver<()>),
    script: impl FnOnce(Ends) + Send,
) -> Ran {
    let (handle, ends) = channel();
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let mut reporter = reporter;
    let outcome = thread::scope(|scope| {
        scope.spawn(|| script(ends));
        let session = Session {
            handle: &handle,
            previews,
            interrupts,
        };
        let mut streams = Streams {
            out: &mut out,
            err: &mut err,
        };
        easel::cli::generate(job(), preview_folder, session, &mut reporter, &mut streams)
    });
    Ran {
        outcome,
        out: String::from_utf8(out).unwrap(),
        err: String::from_utf8(err).unwrap(),
    }
}

/// Sends these events as soon as the job has come.
fn events(events: Vec<Event>) -> impl FnOnce(Ends) + Send {
    move |ends| {
        let message::Command::Generate(received) = ends.commands.recv().unwrap() else {
            panic!("no job came");
        };
        assert_eq!(received.id, JOB);
        assert_eq!(received.request, job().request);
        assert_eq!(received.save_to, job().save_to);
        for event in events {
            ends.events.send(event).unwrap();
        }
    }
}

fn whole_job() -> Vec<Event> {
    let loading = |fraction| Event::ModelLoading {
        name: "Starter".to_owned(),
        fraction,
    };
    let mut all = vec![loading(0.0), loading(0.5), started()];
    all.extend((1..=20).map(progress));
    all.extend([
        picture(0, Some("pictures/00001-7.png"), None),
        picture(1, Some("pictures/00002-8.png"), None),
        finished(),
    ]);
    all
}

#[test]
fn paths_go_to_standard_output_and_everything_else_to_standard_error() {
    let ran = run(
        Reporter::Lines(None),
        None,
        (never(), never()),
        events(whole_job()),
    );
    assert_eq!(ran.outcome.unwrap(), Outcome::Done);
    assert_eq!(ran.out, "pictures/00001-7.png\npictures/00002-8.png\n");
    let lines: Vec<&str> = ran.err.lines().collect();
    assert_eq!(lines[0], "Loading Starter");
    assert_eq!(
        lines[1],
        "Drawing 2 pictures with Starter: 64 × 64, enlarged to 256 × 256, 20 steps, seeds 7 and 8"
    );
    assert_eq!(lines[2], "Drawing, step 1 of 20, 2.0 it/s, 5 s left");
    // A line a tenth of the way, not a line a step.
    assert_eq!(lines.len(), 2 + 11, "{}", ran.err);
}

#[test]
fn quiet_says_the_paths_alone() {
    let ran = run(
        Reporter::Quiet,
        None,
        (never(), never()),
        events(whole_job()),
    );
    assert_eq!(ran.outcome.unwrap(), Outcome::Done);
    assert_eq!(ran.out, "pictures/00001-7.png\npictures/00002-8.png\n");
    assert_eq!(ran.err, "");
}

#[test]
fn json_is_one_object_a_line_with_every_number_of_the_event() {
    let ran = run(
        Reporter::Json,
        None,
        (never(), never()),
        events(whole_job()),
    );
    assert_eq!(ran.outcome.unwrap(), Outcome::Done);
    assert_eq!(ran.err, "");
    let lines: Vec<serde_json::Value> = ran
        .out
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(lines.len(), whole_job().len());
    assert_eq!(
        lines[1],
        serde_json::json!({ "event": "loading", "model": "Starter", "fraction": 0.5 })
    );
    assert_eq!(lines[2]["seeds"], serde_json::json!([7, 8]));
    assert_eq!(
        lines[7],
        serde_json::json!({
            "event": "progress", "stage": "drawing", "fraction": 0.25, "first": 0, "batch": 2,
            "step": 5, "steps": 20, "steps_per_sec": 2.0, "remaining_secs": 5.0,
        })
    );
    let done = &lines[lines.len() - 2];
    assert_eq!(done["path"], "pictures/00002-8.png");
    let back: PictureSettings = serde_json::from_value(done["settings"].clone()).unwrap();
    assert_eq!(back, settings(8));
    assert_eq!(lines.last().unwrap()["event"], "finished");
}

#[test]
fn a_failed_job_is_one_plain_line_that_names_the_flag_that_helps() {
    for reporter in [Reporter::Lines(None), Reporter::Quiet, Reporter::Json] {
        let failed = Event::Failed {
            job: JOB,
            failure: failure(),
        };
        let ran = run(reporter, None, (never(), never()), events(vec![failed]));
        assert_eq!(ran.outcome.unwrap(), Outcome::Failed(failure()));
        assert_eq!(
            ran.err,
            "There is not enough memory for this picture. \
             A smaller size can be set with --width and --height.\n"
        );
    }
}

#[test]
fn a_picture_that_could_not_be_saved_makes_the_command_fail_after_the_others() {
    let unsaved = Failure {
        message: "Saving pictures failed: No space left on device".to_owned(),
        details: String::new(),
        remedy: Some(Remedy::ChooseFolder),
    };
    let script = vec![
        picture(0, None, Some(unsaved)),
        picture(1, Some("pictures/00002-8.png"), None),
        finished(),
    ];
    for (reporter, json) in [(Reporter::Quiet, false), (Reporter::Json, true)] {
        let ran = run(reporter, None, (never(), never()), events(script.clone()));
        assert_eq!(ran.outcome.unwrap(), Outcome::Unsaved);
        assert!(ran.out.contains("00002-8.png"));
        assert_eq!(ran.out.contains("No space left"), json);
        assert!(
            ran.err.contains("No space left") && ran.err.contains("--output"),
            "{}",
            ran.err
        );
        assert_eq!(ran.err.lines().count(), 1);
    }
}

#[test]
fn settings_too_long_for_a_jpeg_are_said_to_lie_beside_it() {
    for (name, said) in [("cat.jpg", true), ("cat.png", false)] {
        let done = Event::PictureDone {
            job: JOB,
            index: 0,
            picture: Arc::new(Picture {
                pixels: pixels(),
                settings: PictureSettings {
                    prompt: "p".repeat(40_000),
                    ..settings(7)
                },
                recipe: None,
                path: Some(PathBuf::from(name)),
                save_failure: None,
            }),
        };
        let script = events(vec![done, finished()]);
        let ran = run(Reporter::Lines(None), None, (never(), never()), script);
        assert_eq!(ran.outcome.unwrap(), Outcome::Done);
        assert_eq!(ran.err.contains(".txt file beside it"), said, "{}", ran.err);
    }
}

#[test]
fn a_worker_that_is_gone_is_an_error_not_a_hang() {
    let ran = run(
        Reporter::Quiet,
        None,
        (never(), never()),
        events(vec![started()]),
    );
    assert!(matches!(ran.outcome.unwrap_err(), Error::Panic { .. }));
}

#[test]
fn ctrl_c_cancels_the_job_and_waits_for_its_end() {
    let (interrupt, interrupts) = bounded(1);
    let ran = run(Reporter::Lines(None), None, (never(), interrupts), |ends| {
        ends.commands.recv().unwrap();
        ends.events.send(started()).unwrap();
        interrupt.send(()).unwrap();
        while !ends.cancelled.contains(JOB) {
            thread::yield_now();
        }
        ends.events.send(progress(3)).unwrap();
        ends.events.send(Event::Cancelled { job: JOB }).unwrap();
    });
    assert_eq!(ran.outcome.unwrap(), Outcome::Interrupted);
    assert!(ran.err.contains("Ctrl-C again"), "{}", ran.err);
    assert!(
        ran.err.contains("step 3 of 20"),
        "it waits for the last event: {}",
        ran.err
    );
}

#[test]
fn every_preview_is_written_under_its_picture_s_number_and_step() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path().join("forming");
    let (put, previews) = bounded(8);
    let ran = run(Reporter::Json, Some(&folder), (previews, never()), |ends| {
        ends.commands.recv().unwrap();
        for step in [1, 2] {
            let preview = Preview {
                job: JOB,
                first: 4,
                step,
                pictures: vec![pixels(), pixels()],
            };
            put.send(preview).unwrap();
        }
        ends.events.send(finished()).unwrap();
    });
    assert_eq!(ran.outcome.unwrap(), Outcome::Done);
    for name in [
        "00005-step0001.png",
        "00006-step0001.png",
        "00005-step0002.png",
        "00006-step0002.png",
    ] {
        assert_eq!(output::open_picture(&folder.join(name)).unwrap(), pixels());
        assert!(ran.out.contains(name), "{}", ran.out);
    }
    assert!(
        ran.out.lines().last().unwrap().contains("finished"),
        "{}",
        ran.out
    );
}

// --- the real program ---

/// The program with a home of its own, so that nobody's settings or pictures are touched.
fn easel(home: &Path, words: &[&str]) -> Process {
    let mut process = Process::new(env!("CARGO_BIN_EXE_easel"));
    process
        .args(words)
        .env("HOME", home)
        .env("XDG_CONFIG_HOME", home.join("config"))
        .env("XDG_DATA_HOME", home.join("data"))
        .env_remove("RUST_LOG")
        .env_remove("EASEL_WEIGHTS")
        .current_dir(home)
        .stdin(Stdio::null());
    process
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

fn finish(home: &Path, words: &[&str]) -> Finished {
    easel(home, words).output().unwrap()
}

#[test]
fn a_place_that_cannot_be_written_is_refused_before_anything_is_drawn() {
    let home = tempfile::tempdir().unwrap();
    std::fs::File::create(home.path().join("afile")).unwrap();
    for place in ["afile/z.png", "afile/folder/"] {
        let done = finish(home.path(), &["generate", "a cat", "--json", "-o", place]);
        let said = text(&done.stderr);
        assert_eq!(done.status.code(), Some(1), "{said}");
        assert!(said.contains("afile"), "{said}");
        assert_eq!(text(&done.stdout), "", "nothing was begun");
    }
}

#[test]
fn help_is_there_for_every_command_and_shows_examples() {
    let home = tempfile::tempdir().unwrap();
    for (words, named) in [
        (&["--help"][..], "easel generate"),
        (&["generate", "--help"], "dpmpp_2m_sde"),
        (&["generate", "--help"], "\"event\""),
        (&["inspect", "--help"], "safetensors"),
        (&["info", "--help"], "infotext"),
        (&["models", "--help"], "comes with Easel"),
    ] {
        let done = finish(home.path(), words);
        assert_eq!(done.status.code(), Some(0));
        assert!(
            text(&done.stdout).contains(named),
            "{words:?}: {}",
            text(&done.stdout)
        );
    }
}

#[test]
fn wrong_arguments_give_exit_code_2_and_failures_1() {
    let home = tempfile::tempdir().unwrap();
    assert_eq!(finish(home.path(), &["draw"]).status.code(), Some(2));
    assert_eq!(finish(home.path(), &["generate"]).status.code(), Some(2));
    let done = finish(home.path(), &["info", "none.png"]);
    assert_eq!(done.status.code(), Some(1));
    let line = text(&done.stderr);
    assert!(
        line.starts_with("Reading none.png failed") && line.lines().count() == 1,
        "{line}"
    );
    let done = finish(home.path(), &["info", "none.png", "--verbose"]);
    assert!(
        text(&done.stderr).contains("Details: "),
        "{}",
        text(&done.stderr)
    );
}

#[test]
fn info_prints_the_settings_of_a_picture() {
    let home = tempfile::tempdir().unwrap();
    let target = SaveTarget::File(home.path().join("cat.webp"));
    output::save_picture(&pixels(), &settings(7), &target, PictureFormat::Webp, 0).unwrap();
    let done = finish(home.path(), &["info", "cat.webp"]);
    assert_eq!(done.status.code(), Some(0));
    assert_eq!(
        text(&done.stdout),
        format!("{}\n", output::infotext(&settings(7)))
    );
    let done = finish(home.path(), &["info", "cat.webp", "--json"]);
    let json: serde_json::Value = serde_json::from_slice(&done.stdout).unwrap();
    let back: PictureSettings = serde_json::from_value(json["settings"].clone()).unwrap();
    assert_eq!(back, settings(7));
}

#[test]
fn generate_draws_saves_and_carries_the_settings_and_the_seed_draws_it_again() {
    let home = tempfile::tempdir().unwrap();
    let words = [
        "generate",
        "a penguin, 3d style",
        "--negative=blurry",
        "--steps=2",
        "--seed=5",
        "--count=2",
        "--upscale=none",
        "--device=cpu",
        "--output=drawn/",
        "--save-latents=latents.safetensors",
        "--preview=forming",
        "--json",
    ];
    let done = finish(home.path(), &words);
    assert_eq!(done.status.code(), Some(0), "{}", text(&done.stderr));
    let lines: Vec<serde_json::Value> = text(&done.stdout)
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let saved: Vec<PathBuf> = lines
        .iter()
        .filter(|line| line["event"] == "picture")
        .map(|line| home.path().join(line["path"].as_str().unwrap()))
        .collect();
    assert_eq!(saved.len(), 2);
    assert!(saved[0].ends_with("drawn/00001-5.png") && saved[1].ends_with("drawn/00002-6.png"));
    let recipe = output::read_recipe(&saved[1]).unwrap().unwrap();
    assert_eq!(recipe.request.prompt, "a penguin, 3d style");
    assert_eq!(recipe.request.negative_prompt, "blurry");
    assert_eq!(recipe.request.seed, Some(6));
    assert_eq!(recipe.request.steps, Some(2));
    assert!(home.path().join("latents.safetensors").exists());
    // The steps before the last of both pictures.
    for name in ["00001-step0001.png", "00002-step0001.png"] {
        let forming = output::open_picture(&home.path().join("forming").join(name)).unwrap();
        assert_eq!((forming.width_px, forming.height_px), (64, 64));
    }

    // The settings that the picture carries draw it again, alone.
    let steps = recipe.request.steps.unwrap().to_string();
    let words = [
        "generate",
        &recipe.request.prompt,
        "--negative",
        &recipe.request.negative_prompt,
        "--steps",
        &steps,
        "--seed=6",
        "--upscale=none",
        "--device=cpu",
        "--output=again.png",
        "--quiet",
    ];
    let done = finish(home.path(), &words);
    assert_eq!(text(&done.stdout), "again.png\n", "{}", text(&done.stderr));
    let again = output::open_picture(&home.path().join("again.png")).unwrap();
    let first = output::open_picture(&saved[1]).unwrap();
    let furthest = again
        .rgb
        .iter()
        .zip(&first.rgb)
        .map(|(a, b)| a.abs_diff(*b))
        .max();
    // Drawn together or alone, sums are taken in another order: at most one of 255.
    assert!(furthest.unwrap() <= 1, "{furthest:?}");
}

/// A PNG without a picture that carries ComfyUI's graph.
fn comfyui() -> Vec<u8> {
    let graph = serde_json::json!({
        "3": {"class_type": "KSampler", "inputs": {
            "seed": 5, "steps": 3, "cfg": 4.5, "sampler_name": "euler", "scheduler": "karras", "denoise": 1,
            "model": ["4", 0], "positive": ["6", 0], "negative": ["7", 0], "latent_image": ["5", 0]}},
        "4": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "gone.safetensors"}},
        "5": {"class_type": "EmptyLatentImage", "inputs": {"width": 64, "height": 64, "batch_size": 1}},
        "6": {"class_type": "CLIPTextEncode", "inputs": {"text": "a star, flat style", "clip": ["4", 1]}},
        "7": {"class_type": "CLIPTextEncode", "inputs": {"text": "blurry", "clip": ["4", 1]}}
    });
    let text = [&b"prompt\0"[..], graph.to_string().as_bytes()].concat();
    let mut png = b"\x89PNG\r\n\x1a\n".to_vec();
    for (kind, data) in [(b"tEXt", &text[..]), (b"IEND", b"")] {
        png.extend((data.len() as u32).to_be_bytes());
        png.extend([&kind[..], data, &[0; 4]].concat());
    }
    png
}

#[test]
fn settings_from_another_program_s_picture_are_drawn_and_what_is_lacking_is_said() {
    let home = tempfile::tempdir().unwrap();
    easel::files::atomic_write(&home.path().join("comfy.png"), &comfyui()).unwrap();
    let words = [
        "generate",
        "--settings-from=comfy.png",
        "--steps=2",
        "--upscale=none",
        "--device=cpu",
    ];
    let done = finish(home.path(), &[&words[..], &["--output=drawn.png"]].concat());
    assert_eq!(text(&done.stdout), "drawn.png\n", "{}", text(&done.stderr));
    assert!(
        text(&done.stderr).contains("the model gone, which is in none"),
        "{}",
        text(&done.stderr)
    );
    let drawn = output::read_recipe(&home.path().join("drawn.png"))
        .unwrap()
        .unwrap();
    let settings = drawn.settings.unwrap();
    assert_eq!(settings.prompt, "a star, flat style");
    assert_eq!(settings.negative_prompt, "blurry");
    assert_eq!(
        (settings.seed, settings.steps, settings.guidance_scale),
        (5, 2, 4.5)
    );
    assert_eq!(
        (settings.sampler, settings.schedule),
        (SamplerId::Euler, ScheduleId::Karras)
    );
    assert_eq!(settings.seeding.mode, SeedMode::ComfyUi);

    // Easel's own, in the JSON of scripts.
    let words = [
        "generate",
        "--settings-from=drawn.png",
        "--device=cpu",
        "--output=again.png",
        "--json",
    ];
    let done = finish(home.path(), &words);
    let first: serde_json::Value =
        serde_json::from_str(text(&done.stdout).lines().next().unwrap()).unwrap();
    assert_eq!(
        (&first["event"], &first["program"]),
        (&"settings".into(), &"Easel".into())
    );
    let pixels = |name| output::open_picture(&home.path().join(name)).unwrap();
    assert_eq!(pixels("again.png"), pixels("drawn.png"));

    let done = finish(home.path(), &["generate", "--settings-from=none.png"]);
    assert_eq!(done.status.code(), Some(1));
    assert!(
        text(&done.stderr).starts_with("Reading none.png failed"),
        "{}",
        text(&done.stderr)
    );
}

#[test]
fn a_lora_that_is_gone_is_told_where_the_picture_s_prompt_is_drawn() {
    let home = tempfile::tempdir().unwrap();
    let target = SaveTarget::File(home.path().join("lora.png"));
    let of_lora = PictureSettings {
        prompt: "a star <lora:foo:1>".to_owned(),
        ..settings(7)
    };
    output::save_picture(&pixels(), &of_lora, &target, PictureFormat::Png, 0).unwrap();
    for (words, code, advice) in [
        (&["--settings-from=lora.png"][..], 1, true),
        (&["--settings-from=lora.png", "a star"], 0, false),
    ] {
        let more = [
            "generate",
            "--device=cpu",
            "--steps=1",
            "--upscale=none",
            "--output=star.png",
        ];
        let done = finish(home.path(), &[&more[..], words].concat());
        assert_eq!(done.status.code(), Some(code), "{done:?}");
        assert_eq!(
            text(&done.stderr).contains("<lora:foo>"),
            advice,
            "{done:?}"
        );
    }
}

#[test]
fn nothing_said_saves_into_the_pictures_folder_by_date() {
    let home = tempfile::tempdir().unwrap();
    let done = finish(
        home.path(),
        &["generate", "a star", "--steps=1", "--device=cpu", "-q"],
    );
    assert_eq!(done.status.code(), Some(0), "{}", text(&done.stderr));
    let path = PathBuf::from(text(&done.stdout).trim_end());
    assert!(path.starts_with(home.path()), "{}", path.display());
    let date = path
        .parent()
        .unwrap()
        .file_name()
        .unwrap()
        .to_str()
        .unwrap();
    assert!(date.parse::<jiff::civil::Date>().is_ok(), "{date}");
    // Enlarged, as the model that ships says.
    let picture = output::open_picture(&path).unwrap();
    assert_eq!((picture.width_px, picture.height_px), (256, 256));
}

#[test]
fn an_impossible_request_is_a_plain_line_and_exit_code_1() {
    let home = tempfile::tempdir().unwrap();
    let done = finish(
        home.path(),
        &["generate", "x", "--width=65", "--device=cpu", "-q"],
    );
    assert_eq!(done.status.code(), Some(1));
    assert!(
        text(&done.stderr).contains("multiple of 4"),
        "{}",
        text(&done.stderr)
    );
    let done = finish(
        home.path(),
        &["generate", "x", "--model=nowhere", "--device=cpu", "-q"],
    );
    assert_eq!(done.status.code(), Some(1));
    let line = text(&done.stderr);
    assert!(
        line.contains("nowhere") && line.contains("--model"),
        "{line}"
    );
    assert_eq!(line.lines().count(), 1, "{line}");
}

#[test]
fn slips_and_options_that_change_nothing_are_said_and_stop_nothing() {
    let home = tempfile::tempdir().unwrap();
    let words = [
        "generate",
        "a __nolist__ (cat",
        "--negative=[dog",
        "--steps=1",
        "--upscale=none",
        "--device=cpu",
        "--output=cat.png",
        "--sampler=euler",
        "--eta=0.5",
        "--ensd=3",
        "--refiner-start=0.5",
        "--original-size=512x512",
        "--aesthetic-score=7",
    ];
    let done = finish(home.path(), &words);
    assert_eq!(done.status.code(), Some(0));
    let said = text(&done.stderr);
    for about in [
        "Note: In the prompt, \"__nolist__\": There is no wildcard",
        "Note: In the prompt, \"(\": ",
        "Note: In the negative prompt, \"[\": ",
        "Note: --eta",
        "Note: --ensd",
        "Note: --refiner-start",
        "Note: --original-size",
        "Note: The aesthetic scores",
    ] {
        assert!(said.contains(about), "{about}: {said}");
    }
    let done = finish(home.path(), &[&words[..], &["--json"]].concat());
    assert_eq!(text(&done.stdout).matches("\"event\":\"note\"").count(), 8);
    // What counts is no slip.
    std::fs::create_dir(home.path().join("lists")).unwrap();
    easel::files::atomic_write(&home.path().join("lists/nolist.txt"), b"red\n").unwrap();
    let words = [
        "generate",
        "a __nolist__ (cat)",
        "--wildcards=lists",
        "--steps=1",
        "--upscale=none",
        "--device=cpu",
        "--output=cat.png",
        "--sampler=euler_a",
        "--eta=0.5",
        "--ensd=3",
    ];
    let said = finish(home.path(), &words).stderr;
    assert!(!text(&said).contains("Note: "), "{}", text(&said));
}

#[test]
#[allow(clippy::disallowed_methods)]
fn inspect_tells_how_a_lora_is_used() {
    let home = tempfile::tempdir().unwrap();
    let lora = home.path().join("ink.safetensors");
    let header = serde_json::json!({
        "__metadata__": {
            "ss_tag_frequency": r#"{"10_ink": {"ink wash": 10, "mountain": 4}}"#,
            "modelspec.trigger_phrase": "sumi-e",
        },
        "lora_unet_x.lora_down.weight": {"dtype": "F32", "shape": [1, 1], "data_offsets": [0, 4]},
    });
    let header = header.to_string();
    let bytes = [
        &(header.len() as u64).to_le_bytes()[..],
        header.as_bytes(),
        &[0; 4],
    ];
    std::fs::write(&lora, bytes.concat()).unwrap();
    let beside = r#"{"activation text": "ink style", "preferred weight": 0.8, "notes": "Mine."}"#;
    std::fs::write(home.path().join("ink.json"), beside).unwrap();
    let done = finish(home.path(), &["inspect", lora.to_str().unwrap()]);
    let said = text(&done.stdout);
    for line in [
        "Trigger words: ink style",
        "Trigger phrase: sumi-e",
        "Most often in its captions: ink wash, mountain",
        "Preferred weight: 0.8",
        "Mine.",
    ] {
        assert!(said.lines().any(|it| it == line), "{said}");
    }
    let done = finish(home.path(), &["inspect", lora.to_str().unwrap(), "--json"]);
    let told: serde_json::Value = serde_json::from_slice(&done.stdout).unwrap();
    assert_eq!(told["notes"]["weight"], 0.8);
    assert_eq!(told["notes"]["tags"][0], "ink wash");
}

#[test]
fn models_and_inspect_tell_of_the_model_that_ships() {
    let home = tempfile::tempdir().unwrap();
    let done = finish(home.path(), &["models"]);
    assert!(
        text(&done.stdout).contains("comes with Easel"),
        "{}",
        text(&done.stdout)
    );
    let weights = Path::new(env!("CARGO_MANIFEST_DIR")).join("weights");
    let starter = weights.join("starter");
    let done = finish(home.path(), &["inspect", starter.to_str().unwrap()]);
    for named in [
        "UNet2DConditionModel",
        "AutoencoderKL",
        "CLIPTextModel",
        "v_prediction",
    ] {
        assert!(text(&done.stdout).contains(named), "{}", text(&done.stdout));
    }
    let done = finish(
        home.path(),
        &["inspect", starter.to_str().unwrap(), "--json"],
    );
    let json: serde_json::Value = serde_json::from_slice(&done.stdout).unwrap();
    assert_eq!(json["components"].as_array().unwrap().len(), 3);
    let plan = ["--plan", "--size", "128x64", "--json"];
    let asked = [&["inspect", starter.to_str().unwrap()], plan.as_slice()].concat();
    let done = finish(home.path(), &asked);
    let json: serde_json::Value = serde_json::from_slice(&done.stdout).unwrap();
    let of = |layer: &str| {
        let plan = json["plan"].as_array().unwrap().iter();
        let found = plan.filter(|row| row["layer"] == layer).collect::<Vec<_>>();
        (found[0]["width"].clone(), found[0]["height"].clone())
    };
    assert_eq!(of("mid_block.resnets.0.conv1"), (8.into(), 4.into()));
    assert_eq!(of("decoder.conv_out"), (128.into(), 64.into()));
    let upscaler = weights.join("upscalers/realesr-animevideov3-x4.safetensors");
    let done = finish(home.path(), &["inspect", upscaler.to_str().unwrap()]);
    assert!(
        text(&done.stdout).contains("Real-ESRGAN"),
        "{}",
        text(&done.stdout)
    );
    for (part, said) in [
        ("unet", "a UNet alone"),
        ("vae", "a VAE, for use in place"),
        ("text_encoder", "A text encoder alone"),
    ] {
        let folder = starter.join(part);
        let done = finish(home.path(), &["inspect", folder.to_str().unwrap()]);
        assert!(text(&done.stdout).contains(said), "{done:?}");
    }
    let vae = starter.join("vae/diffusion_pytorch_model.safetensors");
    let done = finish(home.path(), &["inspect", vae.to_str().unwrap()]);
    assert!(
        text(&done.stdout).contains("a VAE, for use in place"),
        "{}",
        text(&done.stdout)
    );
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/reference/data");
    for (file, said) in [
        ("starter/lora_peft.safetensors", "LoRA: changes to a model"),
        ("xl/pair.safetensors", "A textual inversion"),
        ("embeddings/fancy-style.pt", "A textual inversion"),
    ] {
        let done = finish(home.path(), &["inspect", data.join(file).to_str().unwrap()]);
        let told = String::from_utf8_lossy(&done.stdout);
        assert!(told.starts_with(said), "{file}: {told}");
    }
    let picture = SaveTarget::File(home.path().join("cat.png"));
    output::save_picture(&pixels(), &settings(7), &picture, PictureFormat::Png, 0).unwrap();
    easel::files::atomic_write(&home.path().join("letter.txt"), b"Dear reader, ").unwrap();
    for (words, said) in [
        (["inspect", "none"], "no such"),
        (["inspect", "cat.png"], "a PNG picture; easel info"),
        (["inspect", "letter.txt"], "no file of tensors"),
        (["info", "none.png"], "there is no such file or folder"),
        (["models", "none"], "does not exist"),
        (["models", "cat.png"], "is no folder"),
    ] {
        let done = finish(home.path(), &words);
        assert_eq!(done.status.code(), Some(1), "{words:?}");
        assert!(text(&done.stderr).contains(said), "{done:?}");
    }
}

#[test]
fn convert_writes_a_model_that_opens_and_replaces_nothing() {
    let home = tempfile::tempdir().unwrap();
    let starter = Path::new(env!("CARGO_MANIFEST_DIR")).join("weights/starter");
    let new = home.path().join("new model");
    let words = ["convert", starter.to_str().unwrap(), new.to_str().unwrap()];
    let done = finish(home.path(), &[&words[..], &["--dtype=f32"]].concat());
    assert!(done.status.success(), "{}", text(&done.stderr));
    assert_eq!(text(&done.stdout).trim(), new.to_str().unwrap());
    let done = finish(home.path(), &["inspect", new.to_str().unwrap()]);
    assert!(text(&done.stdout).contains("F32"), "{}", text(&done.stdout));
    let again = finish(home.path(), &words);
    assert_eq!(again.status.code(), Some(1));
    assert!(
        text(&again.stderr).contains("it is there already"),
        "{}",
        text(&again.stderr)
    );
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/reference/data");
    let lora = data.join("starter/lora_peft.safetensors");
    for (from, to, said) in [
        (&starter, "st.ckpt", ".ckpt files are not written"),
        (&lora, "lk", "let the new name end in .safetensors"),
    ] {
        let done = finish(home.path(), &["convert", from.to_str().unwrap(), to]);
        assert_eq!(done.status.code(), Some(1));
        assert!(text(&done.stderr).contains(said), "{done:?}");
        assert!(!home.path().join(to).exists());
    }
}

#[cfg(unix)]
#[test]
fn an_interrupt_ends_the_program_with_130_and_leaves_nothing_half_written() {
    use std::io::{BufRead, BufReader};

    let home = tempfile::tempdir().unwrap();
    let words = [
        "generate",
        "x",
        "--steps=1000",
        "--device=cpu",
        "--output=drawn/",
        "--json",
    ];
    let mut process = easel(home.path(), &words)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
    let drawing = lines.find(|line| line.as_ref().unwrap().contains("\"drawing\""));
    assert!(drawing.is_some());
    let pid = process.id().to_string();
    assert!(
        Process::new("kill")
            .args(["-INT", &pid])
            .status()
            .unwrap()
            .success()
    );
    let last = lines.last().unwrap().unwrap();
    assert_eq!(last, "{\"event\":\"cancelled\"}");
    assert_eq!(process.wait().unwrap().code(), Some(130));
    assert!(!home.path().join("drawn").exists());
}
