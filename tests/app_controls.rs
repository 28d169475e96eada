//! Drives the controls that stay folded until somebody needs them, undo and redo, and what the window
//! says at its edges, over a scripted worker.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods
)]

mod app_support;

use std::path::PathBuf;
use std::sync::Arc;

use app_support::{
    Window, ball, button, generate, harness, picture_settings, ready, root, saved_path, settings,
    setup, shows, type_prompt,
};
use easel::app::dialogs::Question;
use easel::app::state::{View, relative_name};
use easel::request::{
    AddOn, AddOnKind, Emphasis, GenerationRequest, LoraChoice, LoraNotes, ModelCard,
    PictureSettings, RefinerChoice, SamplerId, ScheduleId, SeedMode, Tuning,
};
use easel::worker::message::{Event, FileCommand, OpenedPicture, Picture, Recipe};
use egui::accesskit::Role;
use egui::{Key, Modifiers};
use egui_kittest::kittest::{NodeT, Queryable};

fn request(window: &Window) -> &GenerationRequest {
    &window.state().state().settings.request
}

fn slide(window: &mut Window, label: &str, value: f64) {
    window
        .get_by_role_and_label(Role::Slider, label)
        .set_value_accesskit(value);
    window.run();
}

fn ctrl(window: &mut Window, key: Key) {
    window.key_press_modifiers(Modifiers::COMMAND, key);
    window.run();
}

fn redo(window: &mut Window) {
    window.key_press_modifiers(Modifiers::COMMAND | Modifiers::SHIFT, Key::Z);
    window.run();
}

/// Frames pass until what was changed stands still, a quarter of a second each.
fn settle(window: &mut Window) {
    window.run_steps(6);
}

#[test]
fn the_fine_settings_that_count_are_shown_and_can_be_reset() {
    let (mut window, script) = ready();
    let has = |window: &Window, label: &str| {
        window
            .query_by_role_and_label(Role::Slider, label)
            .is_some()
    };
    button(&mut window, "Sampler");
    assert!(
        !shows(&window, "Fine settings"),
        "nothing counts for DPM++ 2M"
    );
    let mut options = settings();
    options.request.sampler = Some(SamplerId::EulerA);
    options.request.schedule = Some(ScheduleId::Karras);
    options.layout.sampler_open = true;
    drop((window, script));
    let (mut window, script) = harness([1280.0, 1000.0], setup(options));
    script.ready();
    window.run();
    assert!(!has(&window, "Eta"), "folded");
    button(&mut window, "Fine settings");
    assert!(has(&window, "Eta") && has(&window, "Noise") && has(&window, "Rho"));
    assert!(!has(&window, "Churn"), "Euler a has none");
    slide(&mut window, "Eta", 0.5);
    slide(&mut window, "Rho", 5.0);
    let sigma = window.get_by_role_and_label(Role::SpinButton, "Sigma max");
    sigma.set_value_accesskit(12.0);
    window.run();
    let job = generate(&mut window, &script);
    let expected = Tuning {
        eta: Some(0.5),
        rho: Some(5.0),
        sigma_max: Some(12.0),
        ..Tuning::default()
    };
    assert_eq!(job.request.tuning, expected);
    for label in ["Reset eta", "Reset rho", "Reset sigma max"] {
        button(&mut window, label);
    }
    assert!(request(&window).tuning.is_usual());
    assert!(window.query_by_label("Reset eta").is_none());
}

#[test]
fn clip_skip_and_rescale_are_folded_and_reach_the_worker() {
    let (mut window, script) = ready();
    assert!(!shows(&window, "Clip skip"));
    button(&mut window, "Advanced");
    slide(&mut window, "Clip skip", 2.0);
    slide(&mut window, "Rescale", 0.7);
    let job = generate(&mut window, &script);
    assert_eq!(job.request.clip_skip, Some(2));
    assert_eq!(job.request.guidance_rescale, Some(0.7));
    button(&mut window, "Advanced");
    assert!(shows(&window, "2 changed"), "nothing works unseen");
    button(&mut window, "Advanced");
    button(&mut window, "Reset clip skip");
    assert_eq!(request(&window).clip_skip, None);
}

#[test]
fn undo_and_redo_go_over_words_sliders_and_deletes_in_their_order() {
    let (mut window, script) = ready();
    let paths = script.history(2);
    type_prompt(&mut window, "a fox");
    settle(&mut window);
    slide(&mut window, "Steps", 33.0);
    settle(&mut window);
    button(&mut window, "2026-11-24/00002-1002.png");
    button(&mut window, "Delete");
    script.say(Event::Deleted {
        path: paths[0].clone(),
    });
    window.run();
    slide(&mut window, "Guidance", 9.0);
    settle(&mut window);
    script.files();
    ctrl(&mut window, Key::Z);
    assert_eq!(request(&window).guidance_scale, None);
    ctrl(&mut window, Key::Z);
    let files = script.files();
    assert!(
        files
            .iter()
            .any(|f| matches!(f, FileCommand::Restore { path } if *path == paths[0])),
        "{files:?}"
    );
    script.say(Event::Restored {
        path: paths[0].clone(),
    });
    window.run();
    ctrl(&mut window, Key::Z);
    assert_eq!(
        (request(&window).steps, &*request(&window).prompt),
        (None, "a fox")
    );
    ctrl(&mut window, Key::Z);
    assert_eq!(request(&window).prompt, "");
    ctrl(&mut window, Key::Z);
    redo(&mut window);
    assert_eq!(request(&window).prompt, "a fox");
    ctrl(&mut window, Key::Y);
    assert_eq!(request(&window).steps, Some(33));
    redo(&mut window);
    let files = script.files();
    assert!(
        files
            .iter()
            .any(|f| matches!(f, FileCommand::Delete { path } if *path == paths[0])),
        "{files:?}"
    );
}

#[test]
fn undo_within_the_prompt_takes_words_back_and_goes_on_where_they_were() {
    let (mut window, _script) = ready();
    type_prompt(&mut window, "a fox");
    settle(&mut window);
    type_prompt(&mut window, ", 3d style");
    ctrl(&mut window, Key::Z);
    assert_eq!(request(&window).prompt, "a fox");
    window.event(egui::Event::Text("!".to_owned()));
    window.run();
    assert_eq!(request(&window).prompt, "a fox!");
    ctrl(&mut window, Key::Z);
    redo(&mut window);
    assert_eq!(request(&window).prompt, "a fox!");
}

#[test]
fn a_seed_that_nobody_chose_is_no_change_to_undo() {
    let (mut window, script) = ready();
    type_prompt(&mut window, "a fox");
    settle(&mut window);
    let job = generate(&mut window, &script);
    script.draw(&job);
    settle(&mut window);
    ctrl(&mut window, Key::Z);
    assert_eq!(request(&window).prompt, "");
    assert_eq!(request(&window).seed, job.request.seed, "still told");
}

#[test]
fn a_line_that_offers_undo_stays_when_another_comes() {
    let (mut window, script) = ready();
    let paths = script.history(1);
    window.run();
    script.say(Event::Deleted {
        path: paths[0].clone(),
    });
    window.run();
    for number in 0..4 {
        script.say(Event::SavedAs {
            path: PathBuf::from(format!("/elsewhere/{number}.png")),
        });
    }
    window.run();
    assert!(shows(&window, "is in the trash") && shows(&window, "3.png"));
    assert!(!shows(&window, "0.png"), "of too many the oldest goes");
    script.files();
    button(&mut window, "Undo");
    assert!(
        matches!(script.files().as_slice(), [FileCommand::Restore { path }] if *path == paths[0])
    );
}

#[test]
fn a_cancelled_picture_stays_as_large_as_it_was_to_be() {
    let (mut window, script) = ready();
    let job = generate(&mut window, &script);
    script.start(&job);
    script.step(&job, 8, 20);
    window.run();
    let rect = |window: &Window| window.get_by_role(Role::Image).rect();
    let before = rect(&window);
    let settings = PictureSettings {
        cancelled_after: Some(8),
        ..picture_settings(&job, 7)
    };
    script.say(Event::PictureDone {
        job: job.id,
        index: 0,
        picture: Arc::new(Picture {
            pixels: ball(64, 1, 0.5),
            settings,
            recipe: None,
            path: None,
            save_failure: None,
        }),
    });
    script.say(Event::Cancelled { job: job.id });
    window.run();
    assert_eq!(rect(&window), before);
    let shown = window.state().state().viewed_job().unwrap().output_size(0);
    assert_eq!(shown, Some([256, 256]));
}

#[test]
fn vary_tells_the_seed_that_it_draws() {
    let (mut window, script) = ready();
    let job = generate(&mut window, &script);
    script.draw(&job);
    window.run();
    button(&mut window, "Vary");
    let vary = script.jobs().pop().expect("a drawing");
    assert_ne!(vary.request.seed, job.request.seed);
    assert_eq!(request(&window).seed, vary.request.seed);
}

#[test]
fn vary_leaves_a_seed_that_is_locked_as_it_was_locked() {
    let (mut window, script) = ready();
    let job = generate(&mut window, &script);
    script.draw(&job);
    window.run();
    button(&mut window, "Keep this seed");
    let locked = request(&window).seed;
    button(&mut window, "Vary");
    let vary = script.jobs().pop().expect("a drawing");
    assert_ne!(vary.request.seed, locked);
    assert_eq!(request(&window).seed, locked);
    script.draw(&vary);
    window.run();
    assert_eq!(generate(&mut window, &script).request.seed, locked);
}

#[test]
fn an_enlarged_copy_is_told_from_its_original_in_the_history() {
    let (mut window, script) = ready();
    let copy = root().join("2026-11-24/00002-1001-4x.png");
    script.say(Event::HistoryListed(vec![copy, saved_path(1)]));
    window.run();
    window.get_by_role_and_label(Role::Button, "2026-11-24/00002-1001-4x.png (enlarged 4 ×)");
    window.get_by_role_and_label(Role::Button, "2026-11-24/00001-1001.png");
}

#[test]
fn who_comes_back_to_the_window_sees_what_others_drew_meanwhile() {
    let (mut window, script) = ready();
    script.history(1);
    window.run();
    let focus = |window: &mut Window, focused: bool| {
        let viewports = &mut window.input_mut().viewports;
        viewports.entry(egui::ViewportId::ROOT).or_default().focused = Some(focused);
        window.run();
    };
    focus(&mut window, false);
    script.files();
    focus(&mut window, true);
    let files = script.files();
    assert!(
        files
            .iter()
            .any(|f| matches!(f, FileCommand::ListHistory { root: listed } if *listed == root()))
    );
    assert!(
        files
            .iter()
            .any(|f| matches!(f, FileCommand::FindModels { .. }))
    );
    // What the file thread reports by itself.
    let drawn = saved_path(9);
    script.say(Event::HistoryListed(vec![drawn.clone(), saved_path(1)]));
    window.run();
    button(&mut window, "2026-11-24/00009-1009.png");
    assert_eq!(window.state().state().view, View::Saved(drawn));
}

// --- names: LoRAs, VAEs, embeddings, models ---

fn add_on(kind: AddOnKind, name: &str) -> AddOn {
    AddOn {
        kind,
        name: name.to_owned(),
        path: PathBuf::from(format!("/models/{name}.safetensors")),
        size_bytes: 37_000_000,
        picture: (name == "pixel art").then(|| PathBuf::from("/models/pixel art.preview.png")),
        hash: None,
        trained_as: (name == "pixel art").then(|| "pixels v2".to_owned()),
        notes: Default::default(),
    }
}

/// A window that knows some LoRAs, a VAE and an embedding.
fn with_add_ons() -> (Window, app_support::Script) {
    let (mut window, script) = ready();
    script.say(Event::AddOnsFound(vec![
        add_on(AddOnKind::Lora, "pixel art"),
        add_on(AddOnKind::Lora, "pixie"),
        add_on(AddOnKind::Vae, "fine"),
        add_on(AddOnKind::Unet, "quantised"),
        add_on(AddOnKind::Embedding, "easyneg"),
    ]));
    window.run();
    (window, script)
}

fn type_text(window: &mut Window, text: &str) {
    window.event(egui::Event::Text(text.to_owned()));
    window.run();
}

fn press_key(window: &mut Window, key: Key) {
    window.key_press(key);
    window.run();
}

#[test]
fn loras_are_chosen_weighed_and_removed_and_stand_in_the_prompt() {
    let (mut window, script) = with_add_ons();
    type_prompt(&mut window, "a fox");
    assert!(!shows(&window, "Add a LoRA"));
    button(&mut window, "LoRAs");
    button(&mut window, "Add a LoRA");
    window.get_by_label_contains("pixel art").click();
    window.run();
    assert_eq!(request(&window).prompt, "a fox <lora:pixel art:1>");
    slide(&mut window, "Weight of pixel art", 0.6);
    let job = generate(&mut window, &script);
    assert_eq!(job.request.prompt, "a fox <lora:pixel art:0.6>");
    button(&mut window, "LoRAs");
    button(&mut window, "LoRAs");
    button(&mut window, "Remove pixel art");
    assert_eq!(request(&window).prompt, "a fox");
    ctrl(&mut window, Key::Z);
    assert_eq!(request(&window).prompt, "a fox <lora:pixel art:0.6>");
}

#[test]
fn the_picture_beside_a_lora_is_asked_for_when_the_list_is_seen() {
    let (mut window, script) = with_add_ons();
    script.files();
    button(&mut window, "LoRAs");
    assert!(script.files().is_empty());
    button(&mut window, "Add a LoRA");
    let picture = PathBuf::from("/models/pixel art.preview.png");
    let files = script.files();
    assert!(
        matches!(files.as_slice(), [FileCommand::Thumbnail { path, .. }] if *path == picture),
        "{files:?}"
    );
}

#[test]
fn a_lora_by_its_file_is_listed_too_and_reaches_the_worker() {
    let mut options = settings();
    options.layout.loras_open = true;
    options.request.loras = vec![LoraChoice {
        path: PathBuf::from("/elsewhere/ink.safetensors"),
        weight: 0.5,
    }];
    options.request.embeddings = vec![PathBuf::from("/elsewhere/hands.pt")];
    let (mut window, script) = harness([1280.0, 900.0], setup(options));
    script.ready();
    window.run();
    slide(&mut window, "Weight of ink", 0.75);
    let job = generate(&mut window, &script);
    assert_eq!(job.request.loras[0].weight, 0.75);
    button(&mut window, "Remove ink");
    assert!(request(&window).loras.is_empty());
    assert_eq!(job.request.embeddings.len(), 1);
    button(&mut window, "Remove hands.pt");
    assert!(request(&window).embeddings.is_empty());
}

#[test]
fn another_vae_is_chosen_from_the_folders_or_by_its_file_and_reset() {
    let (mut window, script) = with_add_ons();
    button(&mut window, "Advanced");
    let vae = |window: &mut Window| {
        window.get_by_role_and_label(Role::Button, "VAE").click();
        window.run();
    };
    vae(&mut window);
    window.get_by_label_contains("fine").click();
    window.run();
    let job = generate(&mut window, &script);
    assert_eq!(
        job.request.vae,
        Some(PathBuf::from("/models/fine.safetensors"))
    );
    window.get_by_role_and_label(Role::Button, "UNet").click();
    window.run();
    window.get_by_label_contains("quantised").click();
    window.run();
    let unet = PathBuf::from("/models/quantised.safetensors");
    assert_eq!(request(&window).unet, Some(unet));
    button(&mut window, "Reset unet");
    assert_eq!(request(&window).unet, None);
    button(&mut window, "Reset vae");
    assert_eq!(request(&window).vae, None);
    let mut options = setup(settings());
    options.ask = Box::new(|question, reply| reply.give(question, PathBuf::from("/my/vae.pt")));
    let (mut window, script) = harness([1280.0, 820.0], options);
    script.ready();
    window.run();
    button(&mut window, "Advanced");
    vae(&mut window);
    button(&mut window, "Choose a VAE file…");
    window.run();
    assert_eq!(request(&window).vae, Some(PathBuf::from("/my/vae.pt")));
}

#[test]
fn names_are_completed_while_they_are_typed_and_keys_stay_normal_otherwise() {
    let (mut window, script) = with_add_ons();
    type_text(&mut window, "a fox <lora:pi");
    assert!(shows(&window, "pixel art") && shows(&window, "pixie"));
    press_key(&mut window, Key::ArrowDown);
    press_key(&mut window, Key::Tab);
    assert_eq!(request(&window).prompt, "a fox <lora:pixie:1>");
    assert!(!shows(&window, "pixel art"), "the list is gone");
    type_text(&mut window, ", x");
    assert_eq!(
        request(&window).prompt,
        "a fox <lora:pixie:1>, x",
        "the cursor is behind it"
    );
    // A plain word that begins as an embedding's name: Enter ends the line, Tab completes.
    type_text(&mut window, ", easy");
    assert!(shows(&window, "easyneg"));
    press_key(&mut window, Key::Enter);
    assert!(request(&window).prompt.ends_with(", easy\n"));
    type_text(&mut window, "easy");
    press_key(&mut window, Key::Tab);
    assert!(request(&window).prompt.ends_with("\neasyneg"));
    // Esc closes the list, also while a picture is drawn, and cancels nothing.
    ctrl(&mut window, Key::Enter);
    let job = script.jobs().remove(0);
    script.start(&job);
    window.run();
    type_text(&mut window, " <lora:pix");
    assert!(shows(&window, "pixel art"));
    press_key(&mut window, Key::Escape);
    assert!(!shows(&window, "pixel art"));
    assert!(!script.ends.cancelled.contains(job.id));
    type_text(&mut window, "e");
    assert!(
        !shows(&window, "pixel art") && !shows(&window, "pixie LoRA"),
        "it stays closed"
    );
    press_key(&mut window, Key::Escape);
    assert!(script.ends.cancelled.contains(job.id));
}

#[test]
fn the_words_of_a_lora_go_into_the_prompt_with_it_or_by_a_click() {
    let (mut window, script) = ready();
    let lora = |name: &str, notes: LoraNotes| AddOn {
        notes,
        ..add_on(AddOnKind::Lora, name)
    };
    let noted = LoraNotes {
        activation: "ink wash".to_owned(),
        negative: "photo".to_owned(),
        trigger: "sumi-e".to_owned(),
        weight: Some(0.75),
        notes: "For landscapes.".to_owned(),
        ..LoraNotes::default()
    };
    let trained = LoraNotes {
        tags: vec!["miku (vocaloid)".to_owned(), "solo".to_owned()],
        negative: "blurry".to_owned(),
        ..LoraNotes::default()
    };
    script.say(Event::AddOnsFound(vec![
        lora("ink", noted),
        lora("miku", trained),
    ]));
    type_prompt(&mut window, "a fox");
    button(&mut window, "LoRAs");
    button(&mut window, "Add a LoRA");
    window.get_by_label_contains("ink").click();
    window.run();
    assert_eq!(request(&window).prompt, "a fox, ink wash <lora:ink:0.75>");
    assert_eq!(request(&window).negative_prompt, "photo");
    // What is in the prompt already is not offered.
    assert!(!shows(&window, "Add ink wash"));
    button(&mut window, "Add sumi-e");
    assert_eq!(
        request(&window).prompt,
        "a fox, ink wash, sumi-e <lora:ink:0.75>"
    );
    type_prompt(&mut window, " <lora:miku:1>");
    button(&mut window, "Add miku (vocaloid)");
    assert_eq!(
        request(&window).prompt,
        "a fox, ink wash, sumi-e, miku \\(vocaloid\\) <lora:ink:0.75> <lora:miku:1>"
    );
    assert!(shows(&window, "Add solo") && !shows(&window, "Add miku"));
    // Chosen though it is named, it stays as it is.
    let before = request(&window).clone();
    button(&mut window, "Add a LoRA");
    let miku = window.get_all_by_role(Role::Button).find(|node| {
        let node = node.accesskit_node();
        node.label().is_some_and(|label| label.starts_with("miku"))
    });
    miku.unwrap().click();
    window.run();
    assert_eq!(*request(&window), before);
}

#[test]
fn the_cursor_alone_opens_no_list() {
    let (mut window, _script) = with_add_ons();
    type_text(&mut window, "<lora:pi");
    press_key(&mut window, Key::ArrowLeft);
    assert!(!shows(&window, "pixel art"));
    press_key(&mut window, Key::Enter);
    assert_eq!(request(&window).prompt, "<lora:p\ni");
}

#[test]
fn a_lora_is_known_in_any_case_and_by_the_name_that_it_was_trained_under() {
    let (mut window, _script) = with_add_ons();
    type_prompt(&mut window, "<lora:pixels v2:1><lora:Pixie:1>");
    settle(&mut window);
    assert!(!shows(&window, "No LoRA file"));
    type_prompt(&mut window, "<lora:pixie2:1>");
    settle(&mut window);
    assert!(shows(&window, "No LoRA file"));
}

#[test]
fn what_a_reused_picture_names_is_known_as_drawing_finds_it() {
    let (mut window, script) = with_add_ons();
    let hash = "0123456789ab".to_owned();
    script.say(Event::AddOnsFound(vec![AddOn {
        hash: Some(hash.clone()),
        ..add_on(AddOnKind::Lora, "renamed")
    }]));
    let path = root().join("foreign.png");
    let mut recipe = Recipe {
        request: GenerationRequest {
            prompt: "embedding:given <lora:before:1>".to_owned(),
            emphasis: Emphasis::Comfyui,
            embeddings: vec![PathBuf::from("/elsewhere/given.pt")],
            ..GenerationRequest::default()
        },
        ..Recipe::default()
    };
    recipe
        .request
        .hashes
        .loras
        .insert("before".to_owned(), hash);
    script.say(Event::HistoryListed(vec![path.clone()]));
    window.run();
    button(&mut window, &relative_name(&path));
    script.say(Event::PictureOpened {
        path: path.clone(),
        opened: OpenedPicture {
            pixels: Arc::new(ball(8, 0, 0.0)),
            recipe: Some(Box::new(recipe)),
        },
    });
    window.run();
    script.files();
    button(&mut window, "Reuse");
    settle(&mut window);
    assert_eq!(request(&window).embeddings.len(), 1);
    assert!(!shows(&window, "There is no embedding of this name"));
    assert!(!shows(&window, "No LoRA file"));
    let counted = window.state().state().tokens_asked();
    let given = PathBuf::from("/elsewhere/given.pt");
    assert_eq!(counted.embeddings.files(), std::slice::from_ref(&given));
    // The word in its file counts where it is given.
    let asked = |command: &FileCommand| matches!(command, FileCommand::ReadEmbeddings { paths } if *paths == [given.clone()]);
    assert!(script.files().iter().any(asked));
    script.say(Event::EmbeddingWords(vec![(
        given.clone(),
        "<toy>".to_owned(),
    )]));
    settle(&mut window);
    let counted = window.state().state().tokens_asked();
    let cut = counted
        .embeddings
        .cut("a <toy>", Emphasis::Original, &mut |_| Some(1));
    assert_eq!(cut.len(), 2);
}

#[test]
fn slips_are_told_below_the_box_once_the_hand_rests_and_nothing_is_blocked() {
    let (mut window, script) = with_add_ons();
    type_prompt(&mut window, "a (red fox <lora:pixl:1>");
    assert!(!shows(&window, "never closed"), "not while somebody types");
    settle(&mut window);
    assert!(shows(&window, "never closed"));
    assert!(shows(
        &window,
        "No LoRA file in the model folders is called pixl"
    ));
    generate(&mut window, &script);
    button(&mut window, "Cancel");
    type_prompt(&mut window, ")");
    settle(&mut window);
    assert!(!shows(&window, "never closed"));
}

#[test]
fn who_drew_without_words_or_with_unknown_ones_is_told_what_comes_of_it() {
    let (mut window, script) = ready();
    assert!(!shows(&window, "Without words"));
    let job = generate(&mut window, &script);
    script.draw(&job);
    window.run();
    assert!(shows(&window, "Without words"));
    type_prompt(&mut window, "a submarine");
    assert!(!shows(&window, "Without words"));
    let job = generate(&mut window, &script);
    script.draw(&job);
    window.run();
    assert!(shows(&window, "Starter knows none of these things"));
    type_prompt(&mut window, " and a star");
    let job = generate(&mut window, &script);
    script.draw(&job);
    window.run();
    assert!(!shows(&window, "knows none"));
}

#[test]
fn many_models_are_searched_and_enter_takes_the_first() {
    let (mut window, script) = ready();
    let model = |number: usize| ModelCard {
        path: Some(PathBuf::from(format!("/models/{number}"))),
        name: format!("Model {number}"),
        sha256: Some("0123456789abcdef".to_owned()),
        ..app_support::big_card()
    };
    script.say(Event::ModelsChanged((0..40).map(model).collect()));
    window.run();
    button(&mut window, "Model: Starter");
    window.run();
    type_text(&mut window, "37");
    assert!(window.query_by_label_contains("Model 36").is_none());
    window.get_by_label_contains("Model 37").hover();
    window.run_steps(6);
    assert!(shows(&window, "Hash 0123456789"));
    press_key(&mut window, Key::Enter);
    assert_eq!(request(&window).model, Some(PathBuf::from("/models/37")));
    assert!(
        window.query_by_label_contains("Model 36").is_none(),
        "the menu is closed"
    );
}

// --- noise and guidance ---

#[test]
fn seed_modes_variations_and_the_guidance_interval_reach_the_worker() {
    let (mut window, script) = harness([1280.0, 1100.0], setup(settings()));
    script.ready();
    window.run();
    button(&mut window, "Advanced");
    slide(&mut window, "Variation", 0.25);
    button(&mut window, "New variation seed");
    for (label, value) in [
        ("Guided from", 20.0),
        ("Guided to", 80.0),
        ("Seed size, width", 64.0),
    ] {
        window
            .get_by_role_and_label(Role::SpinButton, label)
            .set_value_accesskit(value);
        window.run();
    }
    window
        .get_by_role_and_label(Role::ComboBox, "Noise as in")
        .click();
    window.run();
    window.get_by_label("A1111 (processor)").click();
    window.run();
    let ensd = window.get_by_role_and_label(Role::SpinButton, "ENSD");
    ensd.set_value_accesskit(31337.0);
    window.run();
    let job = generate(&mut window, &script);
    let seeding = job.request.seeding;
    assert_eq!(seeding.mode, SeedMode::A1111Cpu);
    assert_eq!(seeding.variation_strength, Some(0.25));
    assert!(seeding.variation_seed.is_some());
    assert_eq!(
        (seeding.resize_from, seeding.ensd),
        (Some([64, 64]), Some(31337))
    );
    let interval = job.request.guidance_interval.unwrap();
    assert_eq!((interval.start, interval.stop), (0.2, 0.8));
    for label in [
        "Reset guide from",
        "Reset variation",
        "Reset its seed",
        "Reset seed size",
        "Reset ensd",
        "Reset noise as in",
    ] {
        button(&mut window, label);
    }
    let request = request(&window);
    assert!(request.seeding.is_usual() && request.guidance_interval.is_none());
}

#[test]
fn wildcards_are_completed_and_the_emphasis_decides_how_brackets_are_read() {
    let (mut window, script) = ready();
    script.say(Event::AddOnsFound(vec![add_on(
        AddOnKind::Wildcard,
        "animals/birds",
    )]));
    window.run();
    type_text(&mut window, "a __bi");
    press_key(&mut window, Key::Enter);
    assert_eq!(request(&window).prompt, "a __animals/birds__");
    type_text(&mut window, " __fish__ (");
    settle(&mut window);
    assert!(shows(&window, "There is no wildcard fish") && shows(&window, "never closed"));
    button(&mut window, "Advanced");
    window
        .get_by_role_and_label(Role::ComboBox, "Emphasis")
        .click();
    window.run();
    window.get_by_label("None").click();
    window.run();
    settle(&mut window);
    assert!(!shows(&window, "never closed"), "brackets are letters now");
    let job = generate(&mut window, &script);
    assert_eq!(job.request.emphasis, Emphasis::None);
    button(&mut window, "Reset emphasis");
    assert!(request(&window).emphasis.is_usual());
}

#[test]
fn sdxl_has_a_refiner_that_draws_the_last_steps() {
    let (mut window, script) = ready();
    button(&mut window, "Advanced");
    assert!(!shows(&window, "Refiner"), "the starter has none");
    let model = |name: &str, family: &str| ModelCard {
        path: Some(PathBuf::from(format!("/models/{name}"))),
        name: name.to_owned(),
        family: family.to_owned(),
        ..app_support::big_card()
    };
    script.say(Event::ModelsChanged(vec![
        model("base", "Stable Diffusion XL"),
        model("other", "Stable Diffusion 1"),
        model("finisher", "Stable Diffusion XL refiner"),
    ]));
    window.run();
    button(&mut window, "Model: Starter");
    window.get_by_label_contains("base").click();
    window.run();
    button(&mut window, "Refiner");
    assert!(!shows(&window, "other"));
    window.get_by_label_contains("finisher").click();
    window.run();
    slide(&mut window, "Switch at", 0.6);
    let job = generate(&mut window, &script);
    let refiner = job.request.refiner.clone().unwrap();
    assert_eq!(
        (refiner.path, refiner.start),
        (PathBuf::from("/models/finisher"), 0.6)
    );
    button(&mut window, "Reset switch at");
    assert_eq!(
        request(&window).refiner.as_ref().unwrap().start,
        RefinerChoice::START
    );
    button(&mut window, "Reset refiner");
    assert_eq!(request(&window).refiner, None);
}

#[test]
fn sdxl_is_told_of_sizes_and_its_refiner_of_beauty_and_nobody_else() {
    let mut options = settings();
    options.layout.advanced_open = true;
    let (mut window, script) = harness([1280.0, 1400.0], setup(options));
    script.ready();
    window.run();
    assert!(!shows(&window, "Original"));
    let model = |name: &str, family: &str| ModelCard {
        path: Some(PathBuf::from(format!("/models/{name}"))),
        name: name.to_owned(),
        family: family.to_owned(),
        ..app_support::big_card()
    };
    script.say(Event::ModelsChanged(vec![
        model("base", "Stable Diffusion XL"),
        model("finisher", "Stable Diffusion XL refiner"),
    ]));
    window.run();
    button(&mut window, "Model: Starter");
    window.get_by_label_contains("base").click();
    window.run();
    for (label, value) in [
        ("Original width", 600.0),
        ("Cropped at the top", 64.0),
        ("Target height", 768.0),
    ] {
        window
            .get_by_role_and_label(Role::SpinButton, label)
            .set_value_accesskit(value);
        window.run();
    }
    assert!(!shows(&window, "Score"), "no refiner draws");
    button(&mut window, "Refiner");
    window.get_by_label_contains("finisher").click();
    window.run();
    slide(&mut window, "Score", 7.5);
    let hints = generate(&mut window, &script).request.hints;
    assert_eq!(hints.original_size.map(|[width, _]| width), Some(600));
    assert_eq!(hints.crop, Some([0, 64]));
    assert_eq!(hints.target_size.map(|[_, height]| height), Some(768));
    assert_eq!(hints.aesthetic_score, Some(7.5));
    for label in [
        "Reset original",
        "Reset cropped",
        "Reset target",
        "Reset score",
    ] {
        button(&mut window, label);
    }
    assert!(request(&window).hints.is_usual());
}

#[test]
fn a_unet_and_a_folder_of_wildcards_are_chosen_and_given_up() {
    let mut options = settings();
    options.layout.advanced_open = true;
    let unet = PathBuf::from("/unets/flat.gguf");
    let lists = PathBuf::from("/lists");
    let (given, folder) = (unet.clone(), lists.clone());
    let mut asked = setup(options);
    asked.ask = Box::new(move |question, reply| {
        let path = match question {
            Question::Unet => given.clone(),
            Question::Wildcards => folder.clone(),
            other => panic!("{other:?}"),
        };
        reply.give(question, path);
    });
    let (mut window, script) = harness([1280.0, 1400.0], asked);
    script.ready();
    window.run();
    button(&mut window, "UNet");
    button(&mut window, "Choose a UNet file…");
    window.run();
    let job = generate(&mut window, &script);
    assert_eq!(job.request.unet, Some(unet));
    button(&mut window, "Reset unet");
    assert_eq!(request(&window).unet, None);
    script.files();
    button(&mut window, "Settings");
    button(&mut window, "Choose a folder of wildcards");
    window.run();
    assert_eq!(request(&window).wildcards, Some(lists.clone()));
    let searched = script.files().into_iter().any(|command| {
        matches!(command, FileCommand::FindModels { wildcards, .. } if wildcards.as_ref() == Some(&lists))
    });
    assert!(searched, "its lists are completed");
    button(&mut window, "None");
    assert_eq!(request(&window).wildcards, None);
}
