//! What was just done, with undo; and what can be done with something that was dropped.

use egui::{Align2, Area, Button, Frame, Id, Margin, Order, Ui, Vec2};

use crate::app::command::{Action, Actions};
use crate::app::state::{Offer, State, Toast, file_name};
use crate::app::{icons, theme};

/// How long a line stays, in seconds.
const STAYS_SECS: f64 = 6.0;

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
    let (text, button) = match offer {
        Offer::Reading(path) => (format!("Reading {}…", file_name(path)), None),
        Offer::Recipe { path, recipe } => {
            let mut text = format!("{} carries its settings.", file_name(path));
            for note in &recipe.notes {
                text.push('\n');
                text.push_str(note);
            }
            (text, Some(("Use these settings", Action::UseRecipe)))
        }
        Offer::NoRecipe(path) => (
            format!(
                "{} carries no settings that Easel understands.",
                file_name(path)
            ),
            None,
        ),
        Offer::Model(path) => (
            format!("Open the model {}?", file_name(path)),
            Some(("Open the model", Action::OpenModel(path.clone()))),
        ),
    };
    let offset = Vec2::new(0.0, 60.0);
    card(ui, "offer", Align2::CENTER_TOP, offset, |ui| {
        ui.label(text);
        if let Some((words, action)) = button
            && ui.button(words).clicked()
        {
            actions.push(action);
        }
        if ui
            .add(Button::new("Dismiss").frame_when_inactive(false))
            .clicked()
        {
            actions.push(Action::DismissOffer);
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
