//! Drives the real window over a scripted worker: every state that a person can see, found by role
//! and label as a screen reader finds it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod app_support;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use app_support::{
    Script, Window, ball, big_card, button, card, generate, harness, picture_settings, press,
    ready, root, settings, setup, shows, type_prompt,
};
use easel::app::dialogs::Question;
use easel::app::state::{JobStatus, View};
use easel::error::{Error, Remedy};
use easel::request::{
    AddOn, AddOnKind, DeviceChoice, GenerationRequest, NamedFile, NamedFiles, PictureFormat,
    PictureSettings, SamplerId, SaveTarget, Upscale,
};
use easel::worker::message::{
    Command, Event, Failure, FileCommand, ModelChoice, OpenedPicture, Picture, Recipe,
};
use egui::accesskit::Role;
use egui_kittest::kittest::{NodeT, Queryable};

fn failure(error: &Error) -> Failure {
    error.into()
}

#[test]
fn the_first_start_has_the_prompt_focused_three_examples_and_no_dialog() {
    let (mut window, script) = ready();
    let prompt = window.get_by_role_and_label(Role::MultilineTextInput, "Prompt");
    assert!(prompt.is_focused());
    assert!(window.state().state().dialog.is_none());
    for example in card().examples {
        window.get_by_role_and_label(Role::Button, &example);
    }
    button(&mut window, "a penguin, 3d style");
    assert_eq!(
        window.state().state().settings.request.prompt,
        "a penguin, 3d style"
    );
    let job = generate(&mut window, &script);
    assert_eq!(job.request.prompt, "a penguin, 3d style");
}

#[test]
fn what_is_asked_of_the_worker_at_the_start() {
    let (_window, script) = ready();
    let files = script.files();
    assert!(files.iter().any(
        |command| matches!(command, FileCommand::FindModels { folders, .. } if folders.is_empty())
    ));
    assert!(files.iter().any(
        |command| matches!(command, FileCommand::ListHistory { root: listed } if *listed == root())
    ));
    assert!(matches!(
        script.commands().as_slice(),
        [Command::LoadModel(ModelChoice { model: None, .. })]
    ));
}

#[test]
fn generate_works_while_the_model_is_still_loading() {
    let (mut window, script) = harness([1280.0, 820.0], setup(settings()));
    script.say(Event::ModelsFound(vec![card()]));
    script.say(Event::ModelLoading {
        name: "Starter".to_owned(),
        fraction: 0.4,
    });
    window.run();
    assert!(shows(&window, "Loading Starter… 40 %"));
    window.get_by_role_and_label(Role::ProgressIndicator, "Loading the model");
    type_prompt(&mut window, "a star");
    let job = generate(&mut window, &script);
    assert!(shows(&window, "Waiting for its turn"));
    script.ready();
    script.draw(&job);
    window.run();
    assert!(shows(&window, "Saved to"));
}

#[test]
fn a_job_that_is_cancelled_while_its_model_loads_leaves_no_bar_behind() {
    let (mut window, script) = ready();
    let job = generate(&mut window, &script);
    script.say(Event::ModelLoading {
        name: "Starter".to_owned(),
        fraction: 0.4,
    });
    window.run();
    assert!(shows(&window, "Loading Starter… 40 %"));
    button(&mut window, "Cancel");
    script.say(Event::LoadingStopped);
    script.say(Event::Cancelled { job: job.id });
    window.run();
    assert!(!shows(&window, "Loading Starter… 40 %"));
    let waiting = generate(&mut window, &script);
    script.say(Event::ModelLoading {
        name: "Starter".to_owned(),
        fraction: 0.4,
    });
    window.run();
    button(&mut window, "Cancel");
    script.say(Event::Cancelled { job: waiting.id });
    window.run();
    assert!(
        shows(&window, "Loading Starter… 40 %"),
        "it is loaded on for what comes next"
    );
    button(&mut window, "Generate");
}

#[test]
fn the_request_that_arrives_is_the_one_that_was_set() {
    let (mut window, script) = ready();
    type_prompt(&mut window, "a penguin, 3d style");
    let steps = window.get_by_role_and_label(Role::Slider, "Steps");
    steps.set_value_accesskit(32.0);
    window.run();
    window
        .get_by_role_and_label(Role::Slider, "Guidance")
        .set_value_accesskit(6.5);
    window.run();
    button(&mut window, "Negative prompt");
    window
        .get_by_role_and_label(Role::MultilineTextInput, "Negative prompt")
        .focus();
    window.run();
    window
        .get_by_role_and_label(Role::MultilineTextInput, "Negative prompt")
        .type_text("blurry");
    window.run();
    button(&mut window, "Keep this seed");
    let seed = window.state().state().settings.request.seed;
    let job = generate(&mut window, &script);
    let expected = GenerationRequest {
        prompt: "a penguin, 3d style".to_owned(),
        negative_prompt: "blurry".to_owned(),
        steps: Some(32),
        guidance_scale: Some(6.5),
        seed,
        ..GenerationRequest::default()
    };
    assert_eq!(job.request, expected);
    assert!(seed.is_some());
    assert_eq!(job.save_to, SaveTarget::Library(root()));
    assert_eq!(job.format, PictureFormat::Png);
    assert!(job.previews);
}

#[test]
fn an_unlocked_seed_is_new_each_time_and_a_locked_one_stays() {
    let (mut window, script) = ready();
    let first = generate(&mut window, &script);
    script.draw(&first);
    window.run();
    let second = generate(&mut window, &script);
    script.draw(&second);
    window.run();
    assert_ne!(first.request.seed, second.request.seed);
    button(&mut window, "Keep this seed");
    let third = generate(&mut window, &script);
    assert_eq!(third.request.seed, second.request.seed);
    script.draw(&third);
    window.run();
    button(&mut window, "New seed each time");
    let fourth = generate(&mut window, &script);
    assert_ne!(fourth.request.seed, third.request.seed);
}

#[test]
fn values_that_nobody_touched_follow_the_model() {
    let (mut window, script) = ready();
    window
        .get_by_role_and_label(Role::Slider, "Steps")
        .set_value_accesskit(12.0);
    window.run();
    button(&mut window, "Model: Starter");
    window.get_by_label_contains("Photo").click();
    window.run();
    let state = window.state().state();
    assert_eq!(state.settings.request.model, big_card().path);
    assert_eq!(state.settings.request.steps, Some(12), "the person said so");
    assert_eq!(state.settings.request.guidance_scale, None);
    let guidance = window.get_by_role_and_label(Role::Slider, "Guidance");
    assert_eq!(guidance.accesskit_node().numeric_value(), Some(7.5));
    assert!(script.commands().iter().any(
        |command| matches!(command, Command::LoadModel(ModelChoice { model, .. }) if *model == big_card().path)
    ));
    // Typing the model's own value is the same as not having touched it.
    window
        .get_by_role_and_label(Role::Slider, "Steps")
        .set_value_accesskit(30.0);
    window.run();
    assert_eq!(window.state().state().settings.request.steps, None);
}

#[test]
fn a_drawing_shows_its_previews_its_progress_and_can_be_joined_or_cancelled() {
    let (mut window, script) = ready();
    type_prompt(&mut window, "a fox");
    let job = generate(&mut window, &script);
    script.start(&job);
    script.step(&job, 12, 20);
    window.run();
    assert!(shows(&window, "12 / 20 · 3.1 it/s · 3 s left"));
    window.get_by_role_and_label(Role::Image, "Picture: a fox");
    let rect = window
        .get_by_role_and_label(Role::Image, "Picture: a fox")
        .rect();
    button(&mut window, "Add to queue");
    button(&mut window, "Add to queue");
    let waiting = script.jobs();
    assert_eq!(waiting.len(), 2);
    assert!(shows(&window, "2 waiting"));
    script.step(&job, 19, 20);
    window.run();
    let later = window
        .get_by_role_and_label(Role::Image, "Picture: a fox")
        .rect();
    assert_eq!(rect, later, "no jump in size");
    button(&mut window, "Cancel");
    assert!(script.ends.cancelled.contains(job.id));
    assert!(!script.ends.cancelled.contains(waiting[0].id));
    assert!(shows(&window, "Stopping…"));
    script.say(Event::Cancelled { job: job.id });
    script.draw(&waiting[0]);
    window.run();
    assert!(
        shows(&window, "Saved to"),
        "the next job of the line is looked at"
    );
}

#[test]
fn a_waiting_job_can_be_taken_out_of_the_line() {
    let (mut window, script) = ready();
    let job = generate(&mut window, &script);
    script.start(&job);
    window.run();
    type_prompt(&mut window, "a whale");
    button(&mut window, "Add to queue");
    let waiting = script.jobs();
    button(&mut window, "1 waiting");
    assert!(shows(&window, "a whale"));
    button(&mut window, "Cancel waiting job 1");
    assert!(script.ends.cancelled.contains(waiting[0].id));
    assert!(!script.ends.cancelled.contains(job.id));
}

#[test]
fn several_pictures_form_in_a_grid_and_one_can_be_looked_at_closely() {
    let (mut window, script) = ready();
    window
        .get_by_role_and_label(Role::Slider, "Images")
        .set_value_accesskit(4.0);
    window.run();
    let job = generate(&mut window, &script);
    assert_eq!(job.request.count, Some(4));
    script.start(&job);
    script.step(&job, 5, 20);
    window.run();
    for index in 1..=4 {
        window.get_by_role_and_label(Role::Button, &format!("Picture {index} of 4"));
    }
    let paths: Vec<PathBuf> = (0..4).map(|index| script.picture(&job, index)).collect();
    script.finish(job.id);
    window.run();
    assert!(shows(&window, "4 pictures saved"));
    button(&mut window, "Picture 3 of 4");
    assert_eq!(
        window.state().state().current_path(),
        Some(paths[2].as_path())
    );
    assert!(shows(&window, "Saved to"));
    button(&mut window, "All pictures");
    window.get_by_role_and_label(Role::Button, "Picture 1 of 4");
}

#[test]
fn a_finished_picture_is_in_the_history_and_says_where_it_is() {
    let (mut window, script) = ready();
    type_prompt(&mut window, "a fox");
    let job = generate(&mut window, &script);
    let paths = script.draw(&job);
    window.run();
    assert!(shows(&window, "Saved to"));
    assert_eq!(window.state().state().history.paths, paths);
    button(&mut window, "Show in folder");
    let files = script.files();
    assert!(
        files.iter().any(
            |command| matches!(command, FileCommand::ShowInFolder { path } if *path == paths[0])
        )
    );
    let thumbnails = files
        .iter()
        .filter(|command| matches!(command, FileCommand::Thumbnail { .. }))
        .count();
    assert_eq!(thumbnails, 1, "asked for once");
}

#[test]
fn a_cancelled_picture_stays_is_marked_and_can_be_saved() {
    let asked = Arc::new(std::sync::Mutex::new(Vec::new()));
    let seen = Arc::clone(&asked);
    let mut options = setup(settings());
    options.ask = Box::new(move |question, reply| {
        seen.lock().unwrap().push(format!("{question:?}"));
        if let Question::SaveAs(_) = &question {
            reply.give(question, PathBuf::from("/elsewhere/fox.webp"));
        }
    });
    let (mut window, script) = harness([1280.0, 820.0], options);
    script.ready();
    window.run();
    let job = generate(&mut window, &script);
    script.start(&job);
    script.step(&job, 8, 20);
    window.run();
    button(&mut window, "Cancel");
    // What was reached is decoded like any picture, which counts as the last step.
    script.step(&job, 20, 20);
    script.say(Event::PictureDone {
        job: job.id,
        index: 0,
        picture: Arc::new(Picture {
            pixels: ball(64, 1, 0.5),
            settings: PictureSettings {
                cancelled_after: Some(8),
                ..picture_settings(&job, 7)
            },
            recipe: None,
            path: None,
            save_failure: None,
        }),
    });
    script.say(Event::Cancelled { job: job.id });
    window.run();
    assert!(shows(&window, "Cancelled after 8 steps"));
    script.files();
    button(&mut window, "Save as…");
    window.run();
    let saved = script.files();
    assert!(
        matches!(saved.as_slice(), [FileCommand::SaveAs { to, .. }] if to.ends_with("fox.webp")),
        "{saved:?}"
    );
    assert_eq!(asked.lock().unwrap().len(), 1);
    script.say(Event::SavedAs {
        path: PathBuf::from("/elsewhere/fox.webp"),
    });
    window.run();
    assert!(shows(&window, "Saved as"));
}

#[test]
fn a_failure_says_what_helps_and_the_button_does_it() {
    let (mut window, script) = ready();
    type_prompt(&mut window, "a fox");
    window
        .get_by_role_and_label(Role::SpinButton, "Width")
        .set_value_accesskit(512.0);
    window.run();
    let job = generate(&mut window, &script);
    assert_eq!(job.request.width_px, Some(512));
    script.start(&job);
    let error = Error::OutOfMemory {
        details: "tried to allocate 17 GB".to_owned(),
    };
    script.say(Event::Failed {
        job: job.id,
        failure: failure(&error),
    });
    window.run();
    assert!(shows(
        &window,
        "There is not enough memory for this picture"
    ));
    assert_eq!(window.state().state().settings.request.prompt, "a fox");
    assert!(!shows(&window, "17 GB"), "details are folded");
    button(&mut window, "Details");
    let details = window.get_by_label("Details of the failure");
    assert!(details.value().is_some_and(|text| text.contains("17 GB")));
    button(&mut window, "Reduce to 64 × 64");
    let again = script.jobs().pop().expect("the job runs again");
    assert_eq!(
        (again.request.width_px, again.request.height_px),
        (Some(64), Some(64))
    );
    assert_eq!(again.request.seed, job.request.seed);
    script.draw(&again);
    window.run();
    assert!(shows(&window, "Saved to"), "the next job works");
}

#[test]
fn a_graphics_card_that_fails_offers_the_processor() {
    let (mut window, script) = ready();
    let job = generate(&mut window, &script);
    script.say(Event::Failed {
        job: job.id,
        failure: failure(&Error::Device(
            "The graphics card stopped working".to_owned(),
        )),
    });
    window.run();
    button(&mut window, "Use the processor (CPU)");
    let again = script.jobs().pop().expect("the job runs again");
    assert_eq!(again.request.device, DeviceChoice::Cpu);
    assert_eq!(
        window.state().state().settings.request.device,
        DeviceChoice::Cpu
    );
}

#[test]
fn a_broken_model_offers_another_one() {
    let (mut window, script) = ready();
    let job = generate(&mut window, &script);
    let error = Error::model("/models/broken", "it ends in the middle");
    assert_eq!(error.remedy(), Some(Remedy::ChooseModel));
    script.say(Event::Failed {
        job: job.id,
        failure: failure(&error),
    });
    window.run();
    button(&mut window, "Choose another model…");
    assert!(shows(&window, "Photo"), "the model menu stands open");
}

#[test]
fn without_a_model_the_window_says_what_one_is_and_opens_one() {
    let mut options = setup(settings());
    options.ask = Box::new(|question, reply| reply.give(question, PathBuf::from("/models/photo")));
    let (mut window, script) = harness([1280.0, 820.0], options);
    script.say(Event::ModelsFound(Vec::new()));
    window.run();
    assert!(shows(&window, "No model yet"));
    let generate = window.get_by_role_and_label(Role::Button, "Generate");
    assert!(generate.accesskit_node().is_disabled());
    script.files();
    button(&mut window, "Open a model folder…");
    window.run();
    let files = script.files();
    let photo = PathBuf::from("/models/photo");
    assert!(files.iter().any(|command| matches!(command, FileCommand::FindModels { folders, .. } if *folders == [photo.clone()])));
    script.say(Event::ModelsFound(vec![big_card()]));
    window.run();
    assert_eq!(window.state().state().settings.request.model, Some(photo));
    assert!(!shows(&window, "No model yet"));
}

#[test]
fn a_system_without_file_dialogs_is_told_and_how_to_go_on() {
    let mut options = setup(settings());
    options.ask = Box::new(|question, reply| reply.no_dialog(question));
    let (mut window, script) = harness([1280.0, 820.0], options);
    script.say(Event::ModelsFound(Vec::new()));
    window.run();
    button(&mut window, "Open a model file…");
    window.run();
    let told = window.query_all_by(|node| {
        node.label()
            .is_some_and(|label| label.contains("no file dialog"))
            || node
                .value()
                .is_some_and(|value| value.contains("no file dialog"))
    });
    assert!(told.count() > 0);
}

#[test]
fn save_as_without_a_file_dialog_says_where_the_picture_lies_or_keeps_it() {
    let mut options = setup(settings());
    options.ask = Box::new(|question, reply| reply.no_dialog(question));
    let (mut window, script) = harness([1280.0, 820.0], options);
    script.ready();
    window.run();
    let job = generate(&mut window, &script);
    script.draw(&job);
    window.run();
    script.files();
    button(&mut window, "Save as…");
    window.run();
    let told = |window: &Window, words: &str| {
        let toasts = &window.state().state().toasts;
        toasts.iter().any(|toast| toast.text.contains(words))
    };
    assert!(told(&window, "saved already: /pictures/Easel/2026-11-25"));
    let kept = |files: &[FileCommand]| {
        files
            .iter()
            .any(|it| matches!(it, FileCommand::Keep { root: to, .. } if *to == root()))
    };
    assert!(!kept(&script.files()));
    // A cancelled one lies nowhere.
    let job = generate(&mut window, &script);
    script.start(&job);
    let settings = picture_settings(&job, 7);
    script.say(Event::PictureDone {
        job: job.id,
        index: 0,
        picture: Arc::new(Picture {
            pixels: ball(256, 0, 0.0),
            settings: PictureSettings {
                cancelled_after: Some(3),
                ..settings
            },
            recipe: None,
            path: None,
            save_failure: None,
        }),
    });
    script.say(Event::Cancelled { job: job.id });
    window.run();
    button(&mut window, "Save as…");
    window.run();
    assert!(told(&window, "The picture goes to /pictures/Easel."));
    assert!(kept(&script.files()));
}

#[test]
fn who_draws_the_same_again_is_told() {
    let (mut window, script) = ready();
    let told = |window: &Window| {
        let toasts = &window.state().state().toasts;
        toasts
            .iter()
            .any(|toast| toast.text.contains("the same picture again"))
    };
    for _ in 0..2 {
        let job = generate(&mut window, &script);
        script.draw(&job);
        window.run();
    }
    assert!(!told(&window), "each time another seed");
    button(&mut window, "Keep this seed");
    window.run();
    let job = generate(&mut window, &script);
    script.draw(&job);
    window.run();
    assert!(told(&window));
}

#[test]
fn the_search_finds_pictures_of_earlier_days_by_their_words() {
    let (mut window, script) = ready();
    let paths = script.history(70);
    window.run();
    let asked = |script: &Script| {
        let files = script.files().into_iter().filter_map(|it| match it {
            FileCommand::ReadPrompts { paths } => Some(paths),
            _ => None,
        });
        files.collect::<Vec<_>>()
    };
    assert!(asked(&script).is_empty(), "nobody searches");
    button(&mut window, "Search the history");
    window.run();
    let field = window.get_by_role_and_label(Role::TextInput, "Search words");
    assert!(field.is_focused());
    window.event(egui::Event::Text("straw".to_owned()));
    window.run();
    let mut read = Vec::new();
    while let Some(part) = asked(&script).pop() {
        let words = |path: &PathBuf| match *path == paths[69] {
            true => "a Strawberry".to_owned(),
            false => String::new(),
        };
        script.say(Event::PromptsRead(
            part.iter()
                .map(|path| (path.clone(), words(path)))
                .collect(),
        ));
        read.push(part);
        window.run();
    }
    assert!(read.iter().all(|part| part.len() <= 32), "others wait");
    assert_eq!(read.concat(), paths, "newest first, each once");
    assert_eq!(window.state().state().history_matches(), [&paths[69]]);
}

#[test]
fn a_picture_that_could_not_be_saved_says_so_and_offers_another_folder() {
    let (mut window, script) = ready();
    let job = generate(&mut window, &script);
    script.start(&job);
    let full = std::io::Error::from(std::io::ErrorKind::StorageFull);
    script.say(Event::PictureDone {
        job: job.id,
        index: 0,
        picture: Arc::new(Picture {
            pixels: ball(256, 0, 0.0),
            settings: picture_settings(&job, 7),
            recipe: None,
            path: None,
            save_failure: Some(failure(&Error::io("Saving", "/pictures", full))),
        }),
    });
    script.finish(job.id);
    window.run();
    assert!(shows(&window, "Not saved: Saving /pictures failed"));
    window.get_by_role_and_label(Role::Button, "Choose another folder…");
    let save = window.get_by_role_and_label(Role::Button, "Save as…");
    assert!(!save.accesskit_node().is_disabled());
}

#[test]
fn a_picture_that_could_not_be_saved_waits_for_another_folder() {
    let mut options = setup(settings());
    options.ask = Box::new(|question, reply| reply.give(question, PathBuf::from("/elsewhere")));
    let (mut window, script) = harness([1280.0, 820.0], options);
    script.ready();
    window.run();
    let first = generate(&mut window, &script);
    press(&mut window, Role::Button, "Add to queue");
    let second = script.jobs().pop().expect("a second job");
    script.start(&first);
    let full = std::io::Error::from(std::io::ErrorKind::StorageFull);
    let picture = Arc::new(Picture {
        pixels: ball(256, 0, 0.0),
        settings: picture_settings(&first, 7),
        recipe: None,
        path: None,
        save_failure: Some(failure(&Error::io("Saving", "/pictures", full))),
    });
    script.say(Event::PictureDone {
        job: first.id,
        index: 0,
        picture: Arc::clone(&picture),
    });
    script.finish(first.id);
    script.start(&second);
    window.run();
    let view = window.state().state().view.clone();
    assert_eq!(
        view,
        View::Job(first.id),
        "the next job does not push it away"
    );
    script.draw(&second);
    window.run();
    script.files();
    button(&mut window, "Choose another folder…");
    window.run();
    let kept = script
        .files()
        .into_iter()
        .find_map(|command| match command {
            FileCommand::Keep { picture, root, .. } => Some((picture, root)),
            _ => None,
        });
    let (kept, root) = kept.expect("the picture goes to the new folder");
    assert!(Arc::ptr_eq(&kept, &picture) && root.as_os_str() == "/elsewhere");
    script.say(Event::Kept {
        picture: kept,
        path: PathBuf::from("/elsewhere/2026-11-25/00001-7.png"),
    });
    window.run();
    assert!(shows(&window, "Saved to /elsewhere/2026-11-25/00001-7.png"));
}

#[test]
fn settings_of_another_program_are_for_the_model_that_is_chosen() {
    let chosen = Some(PathBuf::from("/models/photo"));
    let mut options = settings();
    options.request.model = chosen.clone();
    let (mut window, script) = harness([1280.0, 820.0], setup(options));
    script.ready();
    window.run();
    let path = PathBuf::from("/downloads/house.png");
    drop_file(&mut window, &path);
    let request = GenerationRequest {
        prompt: "a house".to_owned(),
        ..GenerationRequest::default()
    };
    script.say(Event::PictureOpened {
        path,
        opened: OpenedPicture {
            pixels: Arc::new(ball(128, 2, 0.0)),
            recipe: Some(Box::new(Recipe {
                request,
                ..Recipe::default()
            })),
        },
    });
    window.run();
    button(&mut window, "Use these settings");
    let now = &window.state().state().settings.request;
    assert_eq!((now.prompt.as_str(), &now.model), ("a house", &chosen));
}

#[test]
fn a_file_that_is_found_after_the_picture_was_opened_is_used() {
    let (mut window, script) = harness([1280.0, 820.0], setup(settings()));
    script.ready();
    window.run();
    let path = PathBuf::from("/downloads/house.png");
    drop_file(&mut window, &path);
    script.say(Event::PictureOpened {
        path,
        opened: OpenedPicture {
            pixels: Arc::new(ball(128, 2, 0.0)),
            recipe: Some(Box::new(Recipe {
                files: NamedFiles {
                    vae: Some(NamedFile::new("fine.safetensors", None)),
                    ..NamedFiles::default()
                },
                ..Recipe::default()
            })),
        },
    });
    window.run();
    assert!(shows(&window, "the VAE fine"));
    let vae = PathBuf::from("/models/vae/fine.safetensors");
    script.say(Event::AddOnsFound(vec![AddOn {
        kind: AddOnKind::Vae,
        name: "fine".to_owned(),
        path: vae.clone(),
        size_bytes: 1,
        picture: None,
        hash: None,
        trained_as: None,
        notes: Default::default(),
    }]));
    window.run();
    assert!(!shows(&window, "the VAE fine"));
    button(&mut window, "Use these settings");
    assert_eq!(window.state().state().settings.request.vae, Some(vae));
}

#[test]
fn a_picture_asked_for_before_the_model_is_known_is_enlarged_as_the_model_says() {
    let (mut window, script) = harness([1280.0, 820.0], setup(settings()));
    window.run();
    let job = generate(&mut window, &script);
    assert_eq!(job.request.upscale, Upscale::Auto);
}

#[test]
fn delete_takes_a_picture_away_and_undo_brings_it_back() {
    let (mut window, script) = ready();
    let paths = script.history(3);
    window.run();
    script.files();
    let name = "2026-11-24/00003-1003.png";
    button(&mut window, name);
    assert_eq!(window.state().state().view, View::Saved(paths[0].clone()));
    script.say(Event::PictureOpened {
        path: paths[0].clone(),
        opened: OpenedPicture {
            pixels: Arc::new(ball(256, 3, 0.0)),
            recipe: None,
        },
    });
    window.run();
    button(&mut window, "Delete");
    let files = script.files();
    assert!(
        files
            .iter()
            .any(|command| matches!(command, FileCommand::Delete { path } if *path == paths[0])),
        "{files:?}"
    );
    script.say(Event::Deleted {
        path: paths[0].clone(),
    });
    window.run();
    assert!(window.query_by_role_and_label(Role::Button, name).is_none());
    assert_eq!(
        window.state().state().view,
        View::Saved(paths[1].clone()),
        "the next one is shown"
    );
    button(&mut window, "Undo");
    assert!(
        script
            .files()
            .iter()
            .any(|command| matches!(command, FileCommand::Restore { path } if *path == paths[0]))
    );
    script.say(Event::Restored {
        path: paths[0].clone(),
    });
    window.run();
    assert_eq!(window.state().state().history.paths, paths);
    window.get_by_role_and_label(Role::Button, name);
}

#[test]
fn reuse_brings_the_settings_back_and_vary_draws_them_with_a_new_seed() {
    let (mut window, script) = ready();
    type_prompt(&mut window, "a fox");
    window
        .get_by_role_and_label(Role::Slider, "Steps")
        .set_value_accesskit(33.0);
    window.run();
    let job = generate(&mut window, &script);
    script.draw(&job);
    window.run();
    window
        .get_by_role_and_label(Role::Slider, "Steps")
        .set_value_accesskit(5.0);
    window.run();
    button(&mut window, "Vary");
    let vary = script.jobs().pop().expect("a new drawing");
    assert_eq!(vary.request.steps, Some(33));
    assert_eq!(vary.request.prompt, "a fox");
    assert_ne!(vary.request.seed, job.request.seed);
    script.draw(&vary);
    window.run();
    button(&mut window, "Reuse");
    let settings = &window.state().state().settings;
    assert_eq!(settings.request.steps, Some(33));
    assert_eq!(
        settings.request.guidance_scale, None,
        "the model's own value"
    );
    assert_eq!(settings.request.seed, vary.request.seed);
    assert!(settings.seed_locked);
}

#[test]
fn enlarge_makes_a_job_of_its_own_from_the_saved_file() {
    let (mut window, script) = ready();
    let job = generate(&mut window, &script);
    let paths = script.draw(&job);
    window.run();
    script.commands();
    button(&mut window, "Enlarge");
    let commands = script.commands();
    let [
        Command::Enlarge {
            job: id,
            source,
            format,
            arithmetic,
        },
    ] = commands.as_slice()
    else {
        panic!("{commands:?}");
    };
    assert_eq!((source, *format), (&paths[0], PictureFormat::Png));
    assert_eq!(
        *arithmetic,
        window.state().state().settings.request.arithmetic
    );
    assert_eq!(window.state().state().view, View::Job(*id));
}

#[test]
fn copy_puts_the_picture_on_the_clipboard() {
    let (mut window, script) = ready();
    let job = generate(&mut window, &script);
    script.draw(&job);
    window.run();
    window.get_by_role_and_label(Role::Button, "Copy").click();
    let mut copied = false;
    for _ in 0..4 {
        window.step();
        copied |= window.output().platform_output.commands.iter().any(|command| {
            matches!(command, egui::OutputCommand::CopyImage(image) if image.size == [256, 256])
        });
    }
    assert!(copied);
}

#[test]
fn what_the_model_knows_is_one_click_from_the_prompt() {
    let (mut window, _script) = ready();
    type_prompt(&mut window, "penguin");
    button(&mut window, "Ideas");
    button(&mut window, "3d style");
    button(&mut window, "blue");
    assert_eq!(
        window.state().state().settings.request.prompt,
        "penguin, 3d style, on a blue background"
    );
    window
        .get_by_role_and_label(Role::TextInput, "Search ideas")
        .focus();
    window.run();
    window
        .get_by_role_and_label(Role::TextInput, "Search ideas")
        .type_text("cast");
    window.run();
    window.get_by_role_and_label(Role::Button, "castle");
    assert!(
        window
            .query_by_role_and_label(Role::Button, "whale")
            .is_none()
    );
}

#[test]
fn a_dropped_picture_offers_its_settings_and_a_dropped_model_to_open_it() {
    let (mut window, script) = ready();
    let path = PathBuf::from("/downloads/fox.png");
    drop_file(&mut window, &path);
    assert!(script.files().iter().any(
        |command| matches!(command, FileCommand::OpenPicture { path: opened } if *opened == path)
    ));
    let request = GenerationRequest {
        prompt: "a fox in the snow".to_owned(),
        steps: Some(27),
        sampler: Some(SamplerId::EulerA),
        seed: Some(99),
        upscale: Upscale::None,
        ..GenerationRequest::default()
    };
    script.say(Event::PictureOpened {
        path: path.clone(),
        opened: OpenedPicture {
            pixels: Arc::new(ball(128, 2, 0.0)),
            recipe: Some(Box::new(Recipe {
                request: request.clone(),
                notes: vec![
                    "It was drawn with the model dreamshaper, which is not here.".to_owned(),
                ],
                ..Recipe::default()
            })),
        },
    });
    window.run();
    assert!(shows(&window, "dreamshaper"));
    button(&mut window, "Use these settings");
    let settings = &window.state().state().settings;
    assert_eq!(settings.request, request);
    assert!(settings.seed_locked);
    drop_file(&mut window, &PathBuf::from("/models/photo"));
    button(&mut window, "Open the model");
    assert!(script.files().iter().any(
        |command| matches!(command, FileCommand::FindModels { folders, .. } if folders.len() == 1)
    ));
    script.say(Event::ModelsFound(vec![card()]));
    window.run();
    assert!(window.state().state().settings.model_folders.is_empty());
    let asked = script.files();
    assert!(
        matches!(asked.as_slice(), [.., FileCommand::CheckModel { path }] if path.ends_with("photo")),
        "{asked:?}"
    );
    let why = Error::model("/models/photo", "it is made for Flux");
    script.say(Event::FileFailed(failure(&why)));
    window.run();
    assert!(shows(&window, "it is made for Flux"), "the cause is told");
}

#[derive(Debug)]
struct Dropped(PathBuf);

impl egui::DroppedFile for Dropped {
    fn path(&self) -> &Path {
        &self.0
    }

    fn bytes(&self) -> Result<Vec<u8>, String> {
        Err("the window reads no files".to_owned())
    }
}

fn drop_file(window: &mut Window, path: &Path) {
    window
        .input_mut()
        .dropped_files
        .push(Arc::new(Dropped(path.to_path_buf())));
    window.run();
}

#[test]
fn the_token_count_is_the_workers_and_nothing_before_it_answers() {
    let (mut window, script) = ready();
    let asked = || {
        let count = |command| match command {
            FileCommand::CountTokens(asked) => Some(asked),
            _ => None,
        };
        script.files().into_iter().find_map(count)
    };
    let first = asked().unwrap();
    assert_eq!(first.prompt, "");
    type_prompt(&mut window, "a fox");
    assert!(window.state().state().tokens.counted.is_none());
    // The next question follows the first one's answer.
    script.say(Event::TokensCounted {
        asked: first,
        tokens: Some(0),
    });
    window.run();
    let second = asked().unwrap();
    assert_eq!(second.prompt, "a fox");
    script.say(Event::TokensCounted {
        asked: second.clone(),
        tokens: Some(2),
    });
    window.run();
    let counted = window.state().state().tokens.counted.clone();
    assert_eq!(counted, Some((second, Some(2))));
    // An embedding that came into the folders may be named by the words.
    script.say(Event::AddOnsFound(vec![AddOn {
        kind: AddOnKind::Embedding,
        name: "fox".to_owned(),
        path: "embeddings/fox.pt".into(),
        size_bytes: 1,
        picture: None,
        hash: None,
        trained_as: None,
        notes: Default::default(),
    }]));
    window.run();
    assert_eq!(asked().unwrap().embeddings.files().len(), 1);
}

#[test]
fn an_unreadable_picture_is_a_message_and_not_the_end() {
    let (mut window, script) = ready();
    let paths = script.history(2);
    window.run();
    button(&mut window, "2026-11-24/00002-1002.png");
    script.say(Event::PictureUnreadable {
        path: paths[0].clone(),
        failure: failure(&Error::Picture {
            path: paths[0].clone(),
            why: "it ends in the middle".to_owned(),
        }),
    });
    window.run();
    assert!(shows(&window, "it ends in the middle"));
    let job = generate(&mut window, &script);
    script.draw(&job);
    window.run();
    assert!(shows(&window, "Saved to"));
}

#[test]
fn a_history_that_cannot_be_listed_says_why_and_offers_another_folder() {
    let mut options = setup(settings());
    options.ask = Box::new(|question, reply| reply.give(question, PathBuf::from("/elsewhere")));
    let (mut window, script) = harness([1280.0, 820.0], options);
    script.ready();
    window.run();
    assert!(shows(&window, "Looking for pictures…"));
    script.history(2);
    let refused = || std::io::Error::from_raw_os_error(13);
    let failed = |root: &Path| Event::HistoryFailed {
        root: root.to_path_buf(),
        failure: failure(&Error::io("Reading", root, refused())),
    };
    // What is shown of the same folder may be there yet.
    script.say(failed(&root()));
    window.run();
    assert!(shows(&window, "2026-11-24/00002-1002.png"));
    script.say(failed(Path::new("/other")));
    window.run();
    assert!(!shows(&window, "Looking for pictures…"));
    assert!(!shows(&window, "2026-11-24/00002-1002.png"));
    assert!(shows(
        &window,
        "Reading /other failed: the system does not allow it"
    ));
    script.files();
    button(&mut window, "Choose another folder…");
    window.run();
    let listed = |command: &FileCommand| matches!(command, FileCommand::ListHistory { root } if root.as_os_str() == "/elsewhere");
    assert!(script.files().iter().any(listed));
    script.say(Event::HistoryListed(Vec::new()));
    window.run();
    assert!(!shows(&window, "Reading /other failed"));
    assert!(shows(&window, "What you draw is kept here."));
}

#[test]
fn a_job_that_fails_behind_the_viewed_picture_is_told_in_a_line() {
    let (mut window, script) = ready();
    script.history(2);
    window.run();
    let job = generate(&mut window, &script);
    script.start(&job);
    window.run();
    button(&mut window, "2026-11-24/00002-1002.png");
    script.say(Event::Failed {
        job: job.id,
        failure: failure(&Error::Torch {
            details: "boom".to_owned(),
        }),
    });
    window.run();
    assert!(shows(&window, "The drawing engine failed"));
    assert!(matches!(window.state().state().view, View::Saved(_)));
    assert!(
        window
            .state()
            .state()
            .jobs
            .iter()
            .all(|job| !matches!(job.status, JobStatus::Failed(_)))
    );
}

#[test]
fn narrow_windows_fold_the_history_and_put_the_controls_in_a_drawer() {
    let (mut window, script) = harness([800.0, 600.0], setup(settings()));
    script.ready();
    window.run();
    assert!(!shows(&window, "What you draw is kept here."));
    window.get_by_role_and_label(Role::Slider, "Steps");
    button(&mut window, "History");
    assert!(shows(&window, "Looking for pictures…"));
    let (mut window, script) = harness([480.0, 400.0], setup(settings()));
    script.ready();
    window.run();
    window.get_by_role_and_label(Role::Slider, "Steps");
    let job = generate(&mut window, &script);
    script.draw(&job);
    window.run();
    assert!(
        window
            .query_by_role_and_label(Role::Slider, "Steps")
            .is_none(),
        "the picture has the room"
    );
    assert!(shows(&window, "Saved to"));
    button(&mut window, "Controls");
    window.get_by_role_and_label(Role::Slider, "Steps");
}

#[test]
fn an_idle_window_asks_for_no_frames() {
    let (mut window, _script) = ready();
    window.run();
    let output = window.output();
    let delay = output
        .viewport_output
        .values()
        .map(|viewport| viewport.repaint_delay)
        .min();
    // A blinking cursor is the only reason to paint again.
    assert!(
        delay.is_none_or(|delay| delay >= std::time::Duration::from_millis(200)),
        "{delay:?}"
    );
}
