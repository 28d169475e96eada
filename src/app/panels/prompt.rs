//! What to draw, in words: the prompt with its token count, and the folded negative prompt. Both are
//! coloured as they are read, complete names while somebody types, and say what looks like a slip.

use std::sync::Arc;

use egui::text::{CCursor, CCursorRange};
use egui::{
    Align, Align2, CompletionPopup, FontId, Id, Key, Layout, Margin, RectAlign, Response, RichText,
    Suggestion, TextBuffer, TextEdit, Ui,
};

use super::ideas::ideas_button;
use crate::app::command::{Actions, UiCommand};
use crate::app::state::{Checked, Completing, Names, State, View};
use crate::app::{completion, emphasis, icons, syntax, theme, widgets};
use crate::prompt::Named;
use crate::request::Emphasis;

/// Slips that are told at once.
const TOLD: usize = 3;

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
    let field = Field {
        id: prompt_id(),
        rows: 4,
        bottom: 22,
        hint: "What should the picture show?",
        emphasis: state.emphasis(),
        names: &state.names,
        checked: &mut state.checked,
    };
    let prompt = &mut state.settings.request.prompt;
    let response = field_ui(ui, field, prompt, &mut state.completing).labelled_by(label.id);
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
    negative_ui(ui, state);
}

fn negative_ui(ui: &mut Ui, state: &mut State) {
    let emphasis = state.emphasis();
    let request = &mut state.settings.request;
    let inside = request.negative_prompt.replace('\n', " ");
    let open = &mut state.settings.layout.negative_open;
    if !widgets::told_fold(ui, open, "Negative prompt", &inside) {
        return;
    }
    let field = Field {
        id: negative_id(),
        rows: 2,
        bottom: 8,
        hint: "What should not be in it?",
        emphasis,
        names: &state.names,
        checked: &mut state.checked_negative,
    };
    field_ui(
        ui,
        field,
        &mut request.negative_prompt,
        &mut state.completing,
    )
    .accessible_name("Negative prompt");
}

/// What there is to say about both prompts.
pub fn notes_ui(ui: &mut Ui, state: &State) {
    slips_ui(ui, &state.checked);
    if let Some(hint) = blank_hint(state) {
        ui.label(theme::hint(ui, hint));
    }
    if state.settings.layout.negative_open {
        slips_ui(ui, &state.checked_negative);
    }
}

/// One of the two text fields.
struct Field<'a> {
    id: Id,
    rows: usize,
    /// Room below the text.
    bottom: i8,
    hint: &'static str,
    emphasis: Emphasis,
    names: &'a Arc<Names>,
    checked: &'a mut Checked,
}

fn field_ui(
    ui: &mut Ui,
    field: Field<'_>,
    text: &mut String,
    completing: &mut Option<Completing>,
) -> Response {
    let mut layouter = |ui: &Ui, text: &dyn TextBuffer, wrap_width: f32| {
        let text = text.as_str();
        field.checked.read(text, field.emphasis, field.names);
        syntax::layout(ui, text, field.checked, wrap_width)
    };
    let before = text.clone();
    let edit = TextEdit::multiline(text)
        .desired_rows(field.rows)
        .desired_width(f32::INFINITY)
        .margin(Margin {
            left: 10,
            right: 10,
            top: 8,
            bottom: field.bottom,
        })
        .hint_text(field.hint)
        .layouter(&mut layouter);
    let was = completing.take_if(|it| it.field == field.id);
    // Enter ends a line after a plain word, which only might be the beginning of a name.
    let word = was
        .as_ref()
        .is_some_and(|it| it.typed.named == Named::Embedding);
    let keys = match word {
        true => vec![Key::Tab],
        false => vec![Key::Tab, Key::Enter],
    };
    let mut now = None;
    let output = CompletionPopup::new(field.id)
        // The name is found by the prompt's own grammar: here the whole text is the word.
        .word_boundary(|_| false)
        .align(RectAlign::BOTTOM_START)
        .accept_keys(keys)
        .show(ui, edit, |query| {
            let (text, at) = (query.text, query.word.len());
            // Only while somebody types, not where the cursor goes.
            let typing = text != before || was.as_ref().is_some_and(|it| it.at == at);
            let found = typing
                .then(|| completion::offers(text, at, field.names, field.emphasis))
                .flatten();
            let Some((typed, offers)) = found else {
                return Vec::new();
            };
            let start = typed.range.start;
            let dismissed = was
                .as_ref()
                .is_some_and(|it| it.dismissed && it.typed.range.start == start);
            now = Some(Completing {
                field: field.id,
                at,
                typed,
                dismissed,
            });
            match dismissed {
                true => Vec::new(),
                false => suggestions(text.get(..start).unwrap_or_default(), offers),
            }
        });
    let response = output.text_edit.response.response;
    if let (Some(accepted), Some(now)) = (&output.accepted, &now) {
        // What stood of the name behind the cursor goes with what was typed of it.
        let end = accepted.insert.len();
        let rest = now.typed.range.end.saturating_sub(now.at);
        if text.is_char_boundary(end) && text.is_char_boundary(end + rest) {
            text.replace_range(end..end + rest, "");
        }
        response.request_focus();
        return response;
    }
    if output.is_open || now.as_ref().is_some_and(|it| it.dismissed) {
        *completing = now;
    } else if response.has_focus() && *text == before {
        // Esc closed the list, until another name begins.
        *completing = was.map(|it| Completing {
            dismissed: true,
            ..it
        });
    }
    response
}

/// `lead` stands before the name and stays.
fn suggestions(lead: &str, offers: Vec<completion::Offer>) -> Vec<Suggestion> {
    offers
        .into_iter()
        .map(|offer| {
            let kind = RichText::new(offer.kind).size(theme::HINT);
            Suggestion::new(format!("{lead}{}", offer.insert))
                .content(offer.name)
                .description(kind)
        })
        .collect()
}

/// What looks like a slip, in a few quiet lines.
fn slips_ui(ui: &mut Ui, checked: &Checked) {
    if checked.is_too_long() {
        let most = Checked::MOST_BYTES / 1000;
        let hint =
            format!("More than {most} kB: drawn as usual, but neither coloured nor checked.");
        ui.label(theme::hint(ui, hint));
        return;
    }
    if checked.told.is_empty() {
        return;
    }
    let tokens = theme::tokens(ui);
    ui.scope(|ui| {
        ui.spacing_mut().item_spacing.y = theme::SPACE_XS;
        for warning in checked.told.iter().take(TOLD) {
            ui.horizontal_top(|ui| {
                ui.spacing_mut().item_spacing.x = theme::SPACE_XS;
                icons::show(ui, icons::WARNING, theme::ICON, tokens.quiet);
                ui.add(egui::Label::new(theme::hint(ui, &warning.message)).wrap());
            });
        }
        let more = checked.told.len().saturating_sub(TOLD);
        if more > 0 {
            ui.label(theme::hint(ui, format!("and {more} more")));
        }
    });
}

/// What a prompt without words, or without words that the model knows, comes to. Said once something
/// was drawn so: before that the middle of the window says what to do.
fn blank_hint(state: &State) -> Option<String> {
    let prompt = state.settings.request.prompt.trim();
    let drawn = state.current_prompt().or(state.viewed_prompt())?;
    if state.view == View::Welcome || drawn.trim() != prompt {
        return None;
    }
    let card = state.card()?;
    if prompt.is_empty() {
        return Some("Without words the model draws what comes to it.".to_owned());
    }
    let lower = prompt.to_lowercase();
    let named = card
        .concepts
        .iter()
        .any(|it| lower.contains(&it.to_lowercase()));
    (!card.concepts.is_empty() && !named).then(|| {
        format!(
            "{} knows none of these things well. Ideas shows what it knows.",
            card.name
        )
    })
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
    let way = state.emphasis();
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
    let range = range.start.0..range.end.0;
    if let Some(done) = emphasis::change_weight(text, range, delta, way) {
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
