//! Below the picture: how far the drawing is, where the picture was saved, and what can be done with it.

use std::time::Duration;

use egui::{Align, Layout, Ui};

use super::failure::remedy_text;
use crate::app::command::{Action, Actions, UiCommand};
use crate::app::state::{Job, JobStatus, State, View, friendly_path};
use crate::app::{icons, theme, widgets};
use crate::worker::message::{Failure, Progress, Stage};

pub fn progress_ui(ui: &mut Ui, state: &State, actions: &mut Actions) {
    let drawing = state.active_job().filter(|job| job.running());
    if let Some(job) = drawing {
        drawing_ui(ui, job, actions);
    }
    if !something_to_say(state) {
        return;
    }
    if drawing.is_none() {
        outcome_ui(ui, state, actions);
    }
    actions_ui(ui, state, actions);
}

/// Whether there is a picture, or one to come, to say something about.
pub fn something_to_say(state: &State) -> bool {
    match &state.view {
        View::Welcome => false,
        View::Saved(path) => !state.history.unreadable.contains_key(path),
        View::Job(_) => state
            .viewed_job()
            .is_some_and(|job| job.open() || job.pictures.iter().any(Option::is_some)),
    }
}

fn drawing_ui(ui: &mut Ui, job: &Job, actions: &mut Actions) {
    ui.horizontal(|ui| {
        let fraction = job.progress.map_or(0.0, |progress| progress.fraction);
        let text = match (job.cancelling, &job.progress) {
            (true, _) => "Stopping…".to_owned(),
            (false, Some(progress)) => {
                let since = ui.input(|input| input.time) - job.progress_at;
                if progress.remaining_secs.is_some() {
                    ui.ctx().request_repaint_after(Duration::from_secs(1));
                }
                progress_text(&later(progress, since))
            }
            (false, None) => "Starting…".to_owned(),
        };
        ui.with_layout(Layout::right_to_left(Align::Center), |ui| {
            if widgets::bare_icon(
                ui,
                icons::CANCEL,
                "Stop this drawing",
                "Stop this drawing (Esc)",
            )
            .clicked()
            {
                actions.push(Action::CancelJob(job.id));
            }
            ui.label(theme::hint(ui, text));
            let width = ui.available_width();
            widgets::bar(ui, fraction, width, theme::PROGRESS_HEIGHT, "Progress");
        });
    });
}

/// What was told, so many seconds later: a slow step leaves less time while it lasts.
fn later(progress: &Progress, since_secs: f64) -> Progress {
    let left = progress.remaining_secs.map(|left| {
        // It takes longer than was thought, and is not over.
        (left - since_secs).max(left.min(1.0))
    });
    Progress {
        remaining_secs: left,
        ..*progress
    }
}

/// `12 / 20 · 3.1 it/s · 3 s left`
pub fn progress_text(progress: &Progress) -> String {
    let stage = match progress.stage {
        Stage::LoadingModel => "Loading the model…".to_owned(),
        Stage::ReadingPrompt => "Reading the prompt…".to_owned(),
        Stage::Drawing if progress.step == 0 => first_step(progress.steps),
        Stage::Drawing => format!("{} / {}", progress.step, progress.steps),
        Stage::Decoding => "Developing the picture…".to_owned(),
        // Nothing else is done: the bar is about the enlarging alone.
        Stage::Enlarging if progress.steps == 0 => {
            format!("Enlarging… {:.0} %", progress.fraction * 100.0)
        }
        Stage::Enlarging => "Enlarging…".to_owned(),
        Stage::Saving => "Saving…".to_owned(),
    };
    let mut parts = vec![stage];
    if let Some(speed) = progress
        .steps_per_sec
        .filter(|_| progress.stage == Stage::Drawing)
    {
        parts.push(if speed >= 1.0 {
            format!("{speed:.1} it/s")
        } else {
            format!("{:.1} s/it", 1.0 / speed.max(1e-6))
        });
    }
    if let Some(left) = progress.remaining_secs {
        let is_guess = progress.is_told_by_another();
        let about = if is_guess { "about " } else { "" };
        parts.push(format!("{about}{} left", duration_text(left)));
    }
    parts.join(" · ")
}

/// Nothing is done yet: only an earlier drawing may tell how long it takes.
fn first_step(steps: usize) -> String {
    match steps {
        1 => "The one step…".to_owned(),
        steps => format!("First of {steps} steps…"),
    }
}

/// `3 s`, `1 min 20 s`, `2 h 5 min`
pub fn duration_text(secs: f64) -> String {
    let secs = secs.max(0.0).ceil() as u64;
    match secs {
        0..60 => format!("{secs} s"),
        60..3600 => format!("{} min {} s", secs / 60, secs % 60),
        _ => format!("{} h {} min", secs / 3600, secs % 3600 / 60),
    }
}

/// What became of the picture, in one quiet line.
fn outcome_ui(ui: &mut Ui, state: &State, actions: &mut Actions) {
    let tokens = theme::tokens(ui);
    let current = state.current();
    let failure = current
        .as_ref()
        .and_then(|current| current.picture)
        .and_then(|picture| picture.save_failure.as_ref());
    ui.horizontal(|ui| {
        ui.set_min_height(theme::ROW_HEIGHT);
        if let Some(failure) = failure {
            icons::show(ui, icons::WARNING, theme::ICON, tokens.danger);
            trouble_ui(
                ui,
                format!("Not saved: {}", failure.message),
                failure,
                state,
                actions,
            );
            return;
        }
        if let Some(path) = state.current_path() {
            icons::show(ui, icons::SAVED, theme::ICON, tokens.good);
            ui.with_layout(Layout::right_to_left(Align::Center), |ui| {
                let command = UiCommand::ShowInFolder;
                if widgets::icon_button(ui, icons::FOLDER, command.info().text)
                    .on_hover_text(command.info().tooltip)
                    .clicked()
                {
                    actions.ui(command);
                }
                let size = current.as_ref().map_or_else(String::new, |current| {
                    let pixels = current.pixels;
                    format!("{} × {}", pixels.width_px, pixels.height_px)
                });
                // In a narrow window it moves into the tooltip.
                if ui.available_width() > theme::SIZE_BESIDE_PATH {
                    ui.label(theme::hint(ui, &size))
                        .on_hover_text("Width and height in pixels");
                }
                ui.with_layout(Layout::left_to_right(Align::Center), |ui| {
                    let text = format!("Saved to {}", friendly_path(path));
                    let hover = format!("{} ({size})", path.display());
                    ui.add(egui::Label::new(theme::hint(ui, text)).truncate())
                        .on_hover_text(hover);
                });
            });
            return;
        }
        let Some(job) = state.viewed_job() else {
            return;
        };
        if let JobStatus::Failed(failure) = &job.status
            && job.pictures.iter().any(Option::is_some)
        {
            icons::show(ui, icons::WARNING, theme::ICON, tokens.danger);
            return trouble_ui(
                ui,
                format!("Failed: {}", failure.message),
                failure,
                state,
                actions,
            );
        }
        ui.label(theme::hint(ui, job_outcome(job)));
    });
}

/// A sentence about what did not work, and the button that helps.
fn trouble_ui(ui: &mut Ui, text: String, failure: &Failure, state: &State, actions: &mut Actions) {
    ui.with_layout(Layout::right_to_left(Align::Center), |ui| {
        if let Some(remedy) = failure.remedy
            && ui.button(remedy_text(remedy, state)).clicked()
        {
            actions.push(Action::Remedy(remedy));
        }
        ui.with_layout(Layout::left_to_right(Align::Center), |ui| {
            let label = ui.add(egui::Label::new(text).wrap());
            if !failure.details.is_empty() {
                label.on_hover_text(&failure.details);
            }
        });
    });
}

fn job_outcome(job: &Job) -> String {
    let pictures = || job.pictures.iter().flatten();
    let saved = pictures().filter(|picture| picture.path.is_some()).count();
    match &job.status {
        JobStatus::Waiting => "Waiting for its turn".to_owned(),
        JobStatus::Running => String::new(),
        JobStatus::Done { elapsed_secs } if job.pictures.len() > 1 => {
            let duration = duration_text(*elapsed_secs);
            match (saved, job.pictures.len()) {
                (saved, all) if saved == all => format!("{all} pictures saved, in {duration}"),
                (saved, all) => format!("{saved} of {all} pictures saved, in {duration}"),
            }
        }
        JobStatus::Done { elapsed_secs } => format!("Done in {}", duration_text(*elapsed_secs)),
        JobStatus::Cancelled if pictures().any(|picture| picture.path.is_none()) => {
            "Cancelled: not saved by itself; Save as… keeps it".to_owned()
        }
        JobStatus::Cancelled if saved > 0 => "Cancelled; what was finished is saved".to_owned(),
        JobStatus::Cancelled => "Cancelled".to_owned(),
        // Said in the middle of the window.
        JobStatus::Failed(_) => String::new(),
    }
}

/// What can be done with the picture.
fn actions_ui(ui: &mut Ui, state: &State, actions: &mut Actions) {
    let current = state.current();
    let picture = current.is_some();
    let known = current
        .as_ref()
        .is_some_and(|current| current.settings.is_some() || current.recipe.is_some());
    let storable = current
        .as_ref()
        .is_some_and(|current| current.settings.is_some());
    let saved = state.current_path().is_some();
    let shown = state
        .viewed_job()
        .is_some_and(|job| job.open() && job.running())
        && !picture;
    ui.add_enabled_ui(!shown, |ui| {
        ui.horizontal(|ui| {
            ui.spacing_mut().item_spacing.x = theme::SPACE_XS;
            // In a narrow window the words move into the tooltips.
            let button = match ui.available_width() < theme::ACTIONS_WIDTH {
                true => widgets::command_icon,
                false => widgets::command_button,
            };
            button(ui, icons::SAVE, UiCommand::SaveAs, storable, actions);
            button(ui, icons::COPY, UiCommand::Copy, picture, actions);
            button(ui, icons::REUSE, UiCommand::Reuse, known, actions);
            button(ui, icons::VARY, UiCommand::Vary, known, actions);
            button(ui, icons::ENLARGE, UiCommand::Enlarge, saved, actions);
            ui.with_layout(Layout::right_to_left(Align::Center), |ui| {
                ui.add_enabled_ui(saved, |ui| {
                    let command = UiCommand::Delete;
                    let hover = command.hover(ui.ctx());
                    if widgets::bare_icon(ui, icons::TRASH, command.info().text, &hover).clicked() {
                        actions.ui(command);
                    }
                });
                let command = UiCommand::FullPicture;
                let hover = command.hover(ui.ctx());
                if widgets::bare_icon(ui, icons::FULL, command.info().text, &hover).clicked() {
                    actions.ui(command);
                }
            });
        });
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_reads_as_people_say_it() {
        let progress = Progress {
            stage: Stage::Drawing,
            fraction: 0.6,
            first: 0,
            batch: 1,
            step: 12,
            steps: 20,
            steps_per_sec: Some(3.1),
            remaining_secs: Some(2.6),
        };
        assert_eq!(progress_text(&progress), "12 / 20 · 3.1 it/s · 3 s left");
        let slow = Progress {
            steps_per_sec: Some(0.4),
            remaining_secs: Some(80.0),
            ..progress
        };
        assert_eq!(progress_text(&slow), "12 / 20 · 2.5 s/it · 1 min 20 s left");
        let slow = later(&slow, 30.5);
        assert_eq!(progress_text(&slow), "12 / 20 · 2.5 s/it · 50 s left");
        assert_eq!(later(&slow, 1000.0).remaining_secs, Some(1.0));
        let first = Progress {
            step: 0,
            steps_per_sec: None,
            remaining_secs: None,
            ..progress
        };
        assert_eq!(progress_text(&first), "First of 20 steps…");
        let known = Progress {
            remaining_secs: Some(290.0),
            ..first
        };
        assert_eq!(
            progress_text(&known),
            "First of 20 steps… · about 4 min 50 s left"
        );
        let reading = Progress {
            stage: Stage::ReadingPrompt,
            ..known
        };
        assert_eq!(
            progress_text(&reading),
            "Reading the prompt… · about 4 min 50 s left"
        );
        let enlarging = Progress {
            stage: Stage::Enlarging,
            fraction: 0.25,
            steps: 0,
            steps_per_sec: None,
            remaining_secs: None,
            ..progress
        };
        assert_eq!(progress_text(&enlarging), "Enlarging… 25 %");
        let told = Progress {
            remaining_secs: Some(4.0),
            ..enlarging
        };
        assert_eq!(progress_text(&told), "Enlarging… 25 % · 4 s left");
        assert_eq!(duration_text(7500.0), "2 h 5 min");
    }
}
