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

use app_support::{
    Window, button, generate, harness, ready, root, saved_path, settings, setup, shows, type_prompt,
};
use easel::app::state::View;
use easel::request::{GenerationRequest, SamplerId, ScheduleId, Tuning};
use easel::worker::message::{Event, FileCommand};
use egui::accesskit::Role;
use egui::{Key, Modifiers};
use egui_kittest::kittest::Queryable;

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
