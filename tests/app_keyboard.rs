//! Drives the window by its keys alone, over a scripted worker.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod app_support;

use std::sync::Arc;

use app_support::{Script, ball, ready};
use easel::app::App;
use easel::app::state::{Dialog, View};
use easel::worker::message::{Event, FileCommand, OpenedPicture};
use egui::accesskit::Role;
use egui::{Key, Modifiers};
use egui_kittest::Harness;
use egui_kittest::kittest::{NodeT, Queryable};

type Window = Harness<'static, App>;

fn key(window: &mut Window, key: Key) {
    window.key_press(key);
    window.run();
}

fn ctrl(window: &mut Window, key: Key) {
    window.key_press_modifiers(Modifiers::COMMAND, key);
    window.run();
}

fn type_text(window: &mut Window, text: &str) {
    window.event(egui::Event::Text(text.to_owned()));
    window.run();
}

fn prompt(window: &Window) -> String {
    window.state().state().settings.request.prompt.clone()
}

/// Leaves the prompt, as Esc does while nothing is drawn.
fn leave_prompt(window: &mut Window) {
    key(window, Key::Escape);
    assert!(
        !window
            .get_by_role_and_label(Role::MultilineTextInput, "Prompt")
            .is_focused()
    );
}

/// A history of five, with the newest opened.
fn history(window: &mut Window, script: &Script) -> Vec<std::path::PathBuf> {
    let paths = script.history(5);
    window.run();
    leave_prompt(window);
    key(window, Key::ArrowRight);
    assert_eq!(window.state().state().view, View::Saved(paths[0].clone()));
    paths
}

#[test]
fn ctrl_enter_draws_from_within_the_prompt_and_enter_is_a_new_line() {
    let (mut window, script) = ready();
    type_text(&mut window, "a fox");
    key(&mut window, Key::Enter);
    assert_eq!(script.jobs().len(), 0);
    assert_eq!(prompt(&window), "a fox\n");
    ctrl(&mut window, Key::Enter);
    let jobs = script.jobs();
    assert_eq!(jobs.len(), 1);
    assert_eq!(jobs[0].request.prompt, "a fox\n");
    assert_eq!(prompt(&window), "a fox\n", "no second line");
}

#[test]
fn ctrl_up_and_down_change_the_weight_of_the_selected_words() {
    let (mut window, _script) = ready();
    type_text(&mut window, "a red fox");
    // The last word is selected, as a person does it.
    let word = Modifiers::CTRL | Modifiers::COMMAND | Modifiers::SHIFT;
    window.key_press_modifiers(word, Key::ArrowLeft);
    window.run();
    ctrl(&mut window, Key::ArrowUp);
    assert_eq!(prompt(&window), "a red (fox:1.1)");
    ctrl(&mut window, Key::ArrowUp);
    assert_eq!(prompt(&window), "a red (fox:1.2)");
    for _ in 0..3 {
        ctrl(&mut window, Key::ArrowDown);
    }
    assert_eq!(prompt(&window), "a red (fox:0.9)");
    ctrl(&mut window, Key::ArrowUp);
    assert_eq!(prompt(&window), "a red fox");
    // What is selected is replaced by what is typed.
    type_text(&mut window, "owl");
    assert_eq!(prompt(&window), "a red owl");
}

#[test]
fn escape_cancels_the_drawing_and_again_the_queue() {
    let (mut window, script) = ready();
    for _ in 0..3 {
        ctrl(&mut window, Key::Enter);
    }
    let jobs = script.jobs();
    script.start(&jobs[0]);
    window.run();
    key(&mut window, Key::Escape);
    let cancelled = |index: usize| script.ends.cancelled.contains(jobs[index].id);
    assert!(cancelled(0) && !cancelled(1) && !cancelled(2));
    key(&mut window, Key::Escape);
    assert!(cancelled(1) && cancelled(2));
}

#[test]
fn a_later_escape_cancels_only_what_is_drawn_then() {
    let (mut window, script) = ready();
    for _ in 0..3 {
        ctrl(&mut window, Key::Enter);
    }
    let jobs = script.jobs();
    script.start(&jobs[0]);
    window.run();
    key(&mut window, Key::Escape);
    script.say(Event::Cancelled { job: jobs[0].id });
    script.start(&jobs[1]);
    // Frames pass, a quarter of a second each.
    window.run_steps(16);
    key(&mut window, Key::Escape);
    assert!(script.ends.cancelled.contains(jobs[1].id));
    assert!(!script.ends.cancelled.contains(jobs[2].id));
}

#[test]
fn arrows_walk_the_history_and_delete_moves_to_the_trash_with_undo() {
    let (mut window, script) = ready();
    let paths = history(&mut window, &script);
    key(&mut window, Key::ArrowRight);
    key(&mut window, Key::ArrowDown);
    assert_eq!(window.state().state().view, View::Saved(paths[2].clone()));
    key(&mut window, Key::ArrowLeft);
    assert_eq!(window.state().state().view, View::Saved(paths[1].clone()));
    script.files();
    key(&mut window, Key::Delete);
    assert!(
        script
            .files()
            .iter()
            .any(|command| matches!(command, FileCommand::Delete { path } if *path == paths[1]))
    );
    script.say(Event::Deleted {
        path: paths[1].clone(),
    });
    window.run();
    ctrl(&mut window, Key::Z);
    assert!(
        script
            .files()
            .iter()
            .any(|command| matches!(command, FileCommand::Restore { path } if *path == paths[1]))
    );
}

#[test]
fn keys_for_pictures_do_nothing_while_a_text_is_typed() {
    let (mut window, script) = ready();
    let job = {
        ctrl(&mut window, Key::Enter);
        script.jobs().remove(0)
    };
    script.draw(&job);
    window.run();
    script.files();
    let prompt = window.get_by_role_and_label(Role::MultilineTextInput, "Prompt");
    prompt.focus();
    window.run();
    type_text(&mut window, "what?");
    key(&mut window, Key::Delete);
    key(&mut window, Key::ArrowLeft);
    assert!(window.state().state().dialog.is_none());
    assert!(
        !script
            .files()
            .iter()
            .any(|command| matches!(command, FileCommand::Delete { .. }))
    );
    assert_eq!(window.state().state().view, View::Job(job.id));
}

#[test]
fn a_question_mark_shows_all_keys_and_escape_closes_them() {
    let (mut window, _script) = ready();
    leave_prompt(&mut window);
    window.key_press_modifiers(Modifiers::SHIFT, Key::Questionmark);
    window.run();
    assert_eq!(window.state().state().dialog, Some(Dialog::Help));
    window.get_by_label("Ctrl+Enter");
    key(&mut window, Key::Escape);
    assert_eq!(window.state().state().dialog, None);
    ctrl(&mut window, Key::Comma);
    assert_eq!(window.state().state().dialog, Some(Dialog::Settings));
}

#[test]
fn ctrl_c_copies_the_focused_picture() {
    let (mut window, script) = ready();
    let paths = history(&mut window, &script);
    script.say(Event::PictureOpened {
        path: paths[0].clone(),
        opened: OpenedPicture {
            pixels: Arc::new(ball(96, 1, 0.0)),
            recipe: None,
        },
    });
    window.run();
    window.event(egui::Event::Copy);
    let mut copied = false;
    for _ in 0..3 {
        window.step();
        copied |= window
            .output()
            .platform_output
            .commands
            .iter()
            .any(|command| matches!(command, egui::OutputCommand::CopyImage(image) if image.size == [96, 96]));
    }
    assert!(copied);
}

#[test]
fn f11_shows_nothing_but_the_picture_and_escape_comes_back() {
    let (mut window, script) = ready();
    history(&mut window, &script);
    key(&mut window, Key::F11);
    assert!(window.state().state().full_picture);
    assert!(
        window
            .query_by_role_and_label(Role::Button, "Generate")
            .is_none()
    );
    key(&mut window, Key::Escape);
    assert!(!window.state().state().full_picture);
    window.get_by_role_and_label(Role::Button, "Generate");
}

#[test]
fn sliders_take_arrows_and_a_double_click_goes_back_to_the_default() {
    let (mut window, _script) = ready();
    window.get_by_role_and_label(Role::Slider, "Steps").focus();
    window.run();
    key(&mut window, Key::ArrowRight);
    key(&mut window, Key::ArrowRight);
    assert_eq!(window.state().state().settings.request.steps, Some(22));
    key(&mut window, Key::ArrowLeft);
    assert_eq!(window.state().state().settings.request.steps, Some(21));
    let at = window
        .get_by_role_and_label(Role::Slider, "Steps")
        .rect()
        .center();
    window.hover_at(at);
    window.run();
    // Two clicks as fast as a person's: within one slow test frame each.
    for _ in 0..2 {
        for pressed in [true, false] {
            window.input_mut().events.push(egui::Event::PointerButton {
                pos: at,
                button: egui::PointerButton::Primary,
                pressed,
                modifiers: Modifiers::NONE,
            });
        }
        window.step();
    }
    window.run();
    assert_eq!(window.state().state().settings.request.steps, None);
}

#[test]
fn a_number_can_be_typed_beyond_the_slider() {
    let (mut window, _script) = ready();
    window
        .get_by_role_and_label(Role::SpinButton, "Steps")
        .click();
    window.run();
    ctrl(&mut window, Key::A);
    type_text(&mut window, "150");
    key(&mut window, Key::Enter);
    assert_eq!(window.state().state().settings.request.steps, Some(150));
    let slider = window.get_by_role_and_label(Role::Slider, "Steps");
    slider.focus();
    window.run();
    assert_eq!(
        window.state().state().settings.request.steps,
        Some(150),
        "looking changes nothing"
    );
}

#[test]
fn tab_reaches_generate_from_the_prompt() {
    let (mut window, script) = ready();
    let mut reached = false;
    for _ in 0..40 {
        key(&mut window, Key::Tab);
        if window
            .get_by_role_and_label(Role::Button, "Generate")
            .is_focused()
        {
            reached = true;
            break;
        }
    }
    assert!(reached);
    key(&mut window, Key::Enter);
    assert_eq!(script.jobs().len(), 1);
    let generate = window.get_by_role_and_label(Role::Button, "Add to queue");
    assert!(!generate.accesskit_node().is_disabled());
}
