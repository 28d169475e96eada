//! Keys to commands. Read once at the start of a frame, before any widget sees the key.

use egui::{Context, Event, Key, KeyboardShortcut, Modifiers};

use super::command::{Action, Actions, UiCommand};
use super::panels::{picture, prompt};
use super::state::State;

/// Commands whose key works everywhere, also while a text is being typed.
const EVERYWHERE: [UiCommand; 4] = [
    UiCommand::Generate,
    UiCommand::SaveAs,
    UiCommand::Settings,
    UiCommand::FullPicture,
];

pub fn read(ctx: &Context, state: &State, actions: &mut Actions) {
    if state.dialog.is_some() {
        return;
    }
    for command in EVERYWHERE {
        if pressed(ctx, command) {
            actions.ui(command);
        }
    }
    let completing = state.completing.as_ref().is_some_and(|it| !it.dismissed);
    if !ctx.any_popup_open() && !completing {
        read_escape(ctx, state, actions);
    }
    let focused = ctx.memory(|memory| memory.focused());
    let in_prompt = [Some(prompt::prompt_id()), Some(prompt::negative_id())].contains(&focused);
    if in_prompt {
        for command in [UiCommand::Heavier, UiCommand::Lighter] {
            if pressed(ctx, command) {
                actions.ui(command);
            }
        }
    }
    // Other fields undo what is typed in them themselves.
    if in_prompt || !ctx.text_edit_focused() {
        read_undo(ctx, actions);
    }
    if ctx.text_edit_focused() {
        return;
    }
    if pressed(ctx, UiCommand::Help) {
        actions.ui(UiCommand::Help);
    }
    let on_pictures =
        focused.is_none() || focused == Some(picture::picture_id()) || state.history.focused;
    if on_pictures && !ctx.any_popup_open() {
        read_picture_keys(ctx, state, actions);
    }
}

/// Redo first: Ctrl+Z without Shift is a part of it.
fn read_undo(ctx: &Context, actions: &mut Actions) {
    let other = KeyboardShortcut::new(Modifiers::COMMAND, Key::Y);
    if pressed(ctx, UiCommand::Redo) || ctx.input_mut(|input| input.consume_shortcut(&other)) {
        actions.ui(UiCommand::Redo);
    } else if pressed(ctx, UiCommand::Undo) {
        actions.ui(UiCommand::Undo);
    }
}

fn read_picture_keys(ctx: &Context, state: &State, actions: &mut Actions) {
    for (key, command) in [
        (Key::ArrowLeft, UiCommand::Newer),
        (Key::ArrowUp, UiCommand::Newer),
        (Key::ArrowRight, UiCommand::Older),
        (Key::ArrowDown, UiCommand::Older),
    ] {
        if ctx.input_mut(|input| input.consume_key(Modifiers::NONE, key)) {
            actions.ui(command);
        }
    }
    if state.current_path().is_some() && pressed(ctx, UiCommand::Delete) {
        actions.ui(UiCommand::Delete);
    }
    // The system's copy keys come as an event of their own.
    let copy = ctx.input_mut(|input| {
        let before = input.events.len();
        input.events.retain(|event| *event != Event::Copy);
        input.events.len() < before
    });
    if (copy || pressed(ctx, UiCommand::Copy)) && state.current().is_some() {
        actions.ui(UiCommand::Copy);
    }
}

/// Esc does the nearest thing: leaves the full picture, stops the drawing, goes back to the grid.
fn read_escape(ctx: &Context, state: &State, actions: &mut Actions) {
    let wanted = state.full_picture || state.busy() || state.close_up.is_some();
    if !wanted || !pressed(ctx, UiCommand::Cancel) {
        return;
    }
    if state.full_picture {
        actions.ui(UiCommand::FullPicture);
    } else if state.busy() {
        actions.ui(UiCommand::Cancel);
    } else {
        actions.push(Action::LookAt(None));
    }
}

fn pressed(ctx: &Context, command: UiCommand) -> bool {
    let shortcut: Option<KeyboardShortcut> = command.info().shortcut;
    shortcut.is_some_and(|shortcut| ctx.input_mut(|input| input.consume_shortcut(&shortcut)))
}
