//! What did not work: one plain sentence, the button that helps, details on demand.

use egui::{Button, RichText, ScrollArea, TextEdit, TextStyle, Ui, Vec2};

use super::welcome::centered;
use crate::app::command::{Action, Actions};
use crate::app::state::{JobStatus, State, Work};
use crate::app::{icons, theme, widgets};
use crate::error::Remedy;
use crate::request::GenerationRequest;
use crate::worker::message::Failure;

pub fn failure_ui(ui: &mut Ui, failure: &Failure, state: &mut State, actions: &mut Actions) {
    let details = if state.details_open { 200.0 } else { 0.0 };
    centered(ui, 170.0 + details, |ui| {
        let tokens = theme::tokens(ui);
        let width = 460.0_f32.min(ui.available_width() - 2.0 * theme::SPACE_L);
        icons::show(ui, icons::WARNING, theme::ICON_LARGE, tokens.danger);
        ui.add_space(theme::SPACE_M);
        ui.allocate_ui(Vec2::new(width, 0.0), |ui| {
            ui.vertical_centered(|ui| {
                ui.label(
                    RichText::new(&failure.message)
                        .text_style(TextStyle::Body)
                        .size(15.0),
                );
            });
        });
        ui.add_space(theme::SPACE_M);
        if let Some(remedy) = failure.remedy {
            let button = Button::new(remedy_text(remedy, state)).min_size(Vec2::new(220.0, 36.0));
            if ui.add(button).clicked() {
                actions.push(Action::Remedy(remedy));
            }
        }
        if failure.details.is_empty() {
            return;
        }
        let words = if state.details_open {
            "Hide details"
        } else {
            "Details"
        };
        if ui
            .add(Button::new(words).frame_when_inactive(false))
            .clicked()
        {
            state.details_open = !state.details_open;
        }
        if state.details_open {
            details_ui(ui, failure, width, actions);
        }
    });
}

fn details_ui(ui: &mut Ui, failure: &Failure, width: f32, actions: &mut Actions) {
    ui.allocate_ui(Vec2::new(width, 150.0), |ui| {
        ScrollArea::vertical().max_height(150.0).show(ui, |ui| {
            let mut text = failure.details.as_str();
            let edit = TextEdit::multiline(&mut text)
                .desired_width(f32::INFINITY)
                .font(TextStyle::Monospace);
            ui.add(edit).accessible_name("Details of the failure");
        });
    });
    if widgets::icon_button(ui, icons::COPY, "Copy details").clicked() {
        actions.push(Action::CopyText(format!(
            "{}\n\n{}",
            failure.message, failure.details
        )));
    }
}

/// What the button says: exactly what it will do.
pub fn remedy_text(remedy: Remedy, state: &State) -> String {
    match remedy {
        Remedy::UseCpu => "Use the processor (CPU)".to_owned(),
        Remedy::UseF32 => "Use full precision (f32)".to_owned(),
        Remedy::ReduceSize => {
            let (width, height) = reduced_size(state);
            format!("Reduce to {width} × {height}")
        }
        Remedy::ChooseModel => "Choose another model…".to_owned(),
        Remedy::ChooseFolder => "Choose another folder…".to_owned(),
    }
}

/// The request of the job that failed.
pub fn failed_request(state: &State) -> Option<&GenerationRequest> {
    let job = state.viewed_job()?;
    match (&job.status, &job.work) {
        (JobStatus::Failed(_), Work::Draw(request)) => Some(request),
        _ => None,
    }
}

/// A size that needs less memory: the model's own, or half of what was tried.
pub fn reduced_size(state: &State) -> (u32, u32) {
    let defaults = state.defaults();
    let factor = state.card().map_or(8, |card| card.latent_factor).max(1);
    let tried = failed_request(state).unwrap_or(&state.settings.request);
    let width = tried.width_px.unwrap_or(defaults.width_px);
    let height = tried.height_px.unwrap_or(defaults.height_px);
    if u64::from(width) * u64::from(height)
        > u64::from(defaults.width_px) * u64::from(defaults.height_px)
    {
        return (defaults.width_px, defaults.height_px);
    }
    let half = |side: u32| (side / 2 / factor).max(1) * factor;
    (half(width), half(height))
}
