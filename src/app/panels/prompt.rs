//! What to draw, in words: the prompt with its token count, and the folded negative prompt.

use egui::text::{CCursor, CCursorRange};
use egui::{Align, Align2, FontId, Id, Layout, Margin, TextEdit, Ui};

use super::ideas::ideas_button;
use crate::app::command::{Actions, UiCommand};
use crate::app::emphasis;
use crate::app::state::State;
use crate::app::{theme, widgets};

/// The prompt field, wherever it is shown.
pub fn prompt_id() -> Id {
    Id::unique("prompt")
}

/// The field for what must not be in the picture.
pub fn negative_id() -> Id {
    Id::unique("negative prompt")
}

pub fn prompt_ui(ui: &mut Ui, state: &mut State, actions: &mut Actions) {
    let label = ui
        .horizontal(|ui| {
            let label = ui.label(theme::title("Prompt"));
            ui.with_layout(Layout::right_to_left(Align::Center), |ui| {
                ideas_button(ui, state, actions);
            });
            label
        })
        .inner;
    let edit = TextEdit::multiline(&mut state.settings.request.prompt)
        .id(prompt_id())
        .desired_rows(4)
        .desired_width(f32::INFINITY)
        .margin(Margin {
            left: 10,
            right: 10,
            top: 8,
            bottom: 22,
        })
        .hint_text("What should the picture show?");
    let response = ui.add(edit).labelled_by(label.id);
    if state.focus_prompt {
        state.focus_prompt = false;
        response.request_focus();
        let end = state.settings.request.prompt.chars().count();
        set_cursor(ui.ctx(), prompt_id(), end);
    }
    if let Some(count) = token_text(state) {
        let at = response.rect.right_bottom() - egui::vec2(10.0, 6.0);
        ui.painter().text(
            at,
            Align2::RIGHT_BOTTOM,
            count,
            FontId::proportional(theme::HINT),
            theme::tokens(ui).quiet,
        );
        response.on_hover_text(
            "Tokens: pieces of words. A prompt longer than one chunk is read in several.",
        );
    }
    if widgets::fold(
        ui,
        &mut state.settings.layout.negative_open,
        "Negative prompt",
    ) {
        let edit = TextEdit::multiline(&mut state.settings.request.negative_prompt)
            .id(negative_id())
            .desired_rows(2)
            .desired_width(f32::INFINITY)
            .margin(Margin::symmetric(10, 8))
            .hint_text("What should not be in it?");
        ui.add(edit).accessible_name("Negative prompt");
    }
}

/// Puts the text cursor of a field behind the character `at`.
pub fn set_cursor(ctx: &egui::Context, id: Id, at: usize) {
    let mut edit = TextEdit::load_state(ctx, id).unwrap_or_default();
    let range = CCursorRange::one(CCursor::new(at));
    edit.cursor.set_char_range(Some(range));
    TextEdit::store_state(ctx, id, edit);
}

/// `7/75`: tokens, and how many fit in the chunks that they fill.
fn token_text(state: &State) -> Option<String> {
    let (_, tokens) = state.tokens.counted.as_ref()?;
    let tokens = (*tokens)?;
    let chunk = (state.card()?.chunk_tokens as usize).max(1);
    let room = tokens.div_ceil(chunk).max(1) * chunk;
    Some(format!("{tokens}/{room}"))
}

/// Ctrl+Up and Ctrl+Down, while one of the two fields has the keyboard.
pub fn change_weight(ctx: &egui::Context, state: &mut State, command: UiCommand) {
    let delta = match command {
        UiCommand::Heavier => emphasis::STEP,
        _ => -emphasis::STEP,
    };
    let focused = ctx.memory(|memory| memory.focused());
    let (id, text) = if focused == Some(negative_id()) {
        (negative_id(), &mut state.settings.request.negative_prompt)
    } else if focused == Some(prompt_id()) {
        (prompt_id(), &mut state.settings.request.prompt)
    } else {
        return;
    };
    let Some(mut edit) = TextEdit::load_state(ctx, id) else {
        return;
    };
    let Some(range) = edit.cursor.char_range() else {
        return;
    };
    let range = range.as_sorted_char_range();
    if let Some(done) = emphasis::change_weight(text, range.start.0..range.end.0, delta) {
        *text = done.text;
        let (start, end) = (
            CCursor::new(done.selection.start),
            CCursor::new(done.selection.end),
        );
        edit.cursor
            .set_char_range(Some(CCursorRange::two(start, end)));
        TextEdit::store_state(ctx, id, edit);
    }
}
