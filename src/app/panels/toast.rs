//! What was just done, with undo; and what can be done with something that was dropped.

use egui::{Align2, Area, Button, Frame, Id, Label, Margin, Order, ScrollArea, Ui, Vec2};

use crate::app::command::{Action, Actions};
use crate::app::state::{Offer, State, Toast, file_name};
use crate::app::{icons, theme};

/// How long a line stays, in seconds.
const STAYS_SECS: f64 = 6.0;
/// Of the card that offers something.
const OFFER_WIDTH: f32 = 520.0;
const NOTES_HEIGHT: f32 = 132.0;

pub fn toast_ui(ui: &mut Ui, state: &mut State, actions: &mut Actions) {
    let now = ui.input(|input| input.time);
    for toast in &mut state.toasts {
        toast.until.get_or_insert(now + STAYS_SECS);
    }
    let ends = |toast: &Toast| toast.until.unwrap_or(now);
    state.toasts.retain(|toast| now < ends(toast));
    let Some(next) = state.toasts.iter().map(ends).reduce(f64::min) else {
        return;
    };
    ui.ctx().request_repaint_after_secs((next - now) as f32);
    // The newest nearest to what it is about.
    let mut lift = 0.0;
    for (index, toast) in state.toasts.iter().rev().enumerate() {
        let offset = Vec2::new(0.0, -96.0 - lift);
        let shown = card(ui, ("toast", index), Align2::CENTER_BOTTOM, offset, |ui| {
            if toast.bad {
                icons::show(ui, icons::WARNING, theme::ICON, theme::tokens(ui).danger);
            }
            ui.label(&toast.text);
            if let Some(path) = &toast.undo
                && ui.button("Undo").clicked()
            {
                actions.push(Action::Restore(path.clone()));
            }
        });
        lift += shown + theme::SPACE_S;
    }
}

pub fn offer_ui(ui: &mut Ui, state: &State, actions: &mut Actions) {
    let Some(offer) = &state.offer else {
        return;
    };
    let (text, notes, button) = match offer {
        Offer::Reading(path) => (format!("Reading {}…", file_name(path)), &[][..], None),
        Offer::Recipe { path, recipe } => (
            format!("Settings of {} in {}", recipe.program, file_name(path)),
            recipe.notes.as_slice(),
            Some(("Use these settings", Action::UseRecipe)),
        ),
        Offer::NoRecipe(path) => (
            format!(
                "{} carries no settings that Easel understands",
                file_name(path)
            ),
            &[][..],
            None,
        ),
        Offer::Model(path) => (
            format!("Open the model {}?", file_name(path)),
            &[][..],
            Some(("Open the model", Action::OpenModel(path.clone()))),
        ),
    };
    let offset = Vec2::new(0.0, 60.0);
    card(ui, "offer", Align2::CENTER_TOP, offset, |ui| {
        ui.vertical(|ui| {
            let room = ui.ctx().content_rect().width() - 4.0 * theme::SPACE_L;
            ui.set_max_width(OFFER_WIDTH.min(room));
            ui.horizontal(|ui| {
                ui.add(Label::new(theme::title(text)).truncate());
            });
            notes_ui(ui, notes);
            ui.add_space(theme::SPACE_XS);
            ui.horizontal(|ui| {
                if let Some((words, action)) = button
                    && ui.button(words).clicked()
                {
                    actions.push(action);
                }
                let dismiss = Button::new("Dismiss").frame_when_inactive(false);
                if ui.add(dismiss).clicked() {
                    actions.push(Action::DismissOffer);
                }
            });
        });
    });
}

/// What a picture names and Easel does not have, a few lines high.
fn notes_ui(ui: &mut Ui, notes: &[String]) {
    if notes.is_empty() {
        return;
    }
    ScrollArea::vertical()
        .max_height(NOTES_HEIGHT)
        .min_scrolled_height(NOTES_HEIGHT)
        .auto_shrink([false, true])
        .show(ui, |ui| {
            ui.spacing_mut().item_spacing.y = theme::SPACE_XS;
            for note in notes {
                ui.horizontal_top(|ui| {
                    ui.spacing_mut().item_spacing.x = theme::SPACE_XS;
                    let quiet = theme::tokens(ui).quiet;
                    icons::show(ui, icons::WARNING, theme::ICON, quiet);
                    ui.add(Label::new(theme::hint(ui, note)).wrap());
                });
            }
        });
}

/// Returns how high it is.
fn card(
    ui: &Ui,
    id: impl std::hash::Hash + std::fmt::Debug,
    align: Align2,
    offset: Vec2,
    content: impl FnOnce(&mut Ui),
) -> f32 {
    let area = Area::new(Id::unique(id))
        .order(Order::Foreground)
        .anchor(align, offset)
        .show(ui.ctx(), |ui| {
            Frame::popup(ui.style())
                .fill(theme::tokens(ui).raised)
                .inner_margin(Margin::symmetric(14, 8))
                .show(ui, |ui| ui.horizontal(content));
        });
    area.response.rect.height()
}
