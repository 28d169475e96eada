//! The top bar: which model draws and where, what waits, and the doors to everything else.

use egui::{Align, Button, Layout, Popup, PopupCloseBehavior, RichText, Ui, Vec2};

use super::models::model_ui;
use crate::app::command::{Action, Actions, UiCommand};
use crate::app::state::State;
use crate::app::textures::Textures;
use crate::app::{icons, theme, widgets};

pub fn top_bar_ui(
    ui: &mut Ui,
    state: &mut State,
    textures: &mut Textures,
    narrow: Narrow,
    actions: &mut Actions,
) {
    ui.horizontal_centered(|ui| {
        ui.spacing_mut().item_spacing.x = theme::SPACE_S;
        if narrow.controls_drawer {
            let command = UiCommand::ToggleControls;
            if widgets::icon_switch(
                ui,
                state.drawer_open,
                icons::CONTROLS,
                command.info().text,
                command.info().tooltip,
            )
            .clicked()
            {
                actions.ui(command);
            }
        } else {
            ui.label(RichText::new("Easel").family(theme::semibold()).size(16.0));
            ui.add_space(theme::SPACE_S);
        }
        model_ui(ui, state, textures, actions);
        engine_ui(ui, state, narrow);
        ui.with_layout(Layout::right_to_left(Align::Center), |ui| {
            ui.spacing_mut().item_spacing.x = theme::SPACE_XS;
            doors_ui(ui, state, narrow, actions);
            waiting_ui(ui, state, actions);
        });
    });
}

/// What the width of the window folds away.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Narrow {
    pub controls_drawer: bool,
    pub history_folds: bool,
}

impl Narrow {
    pub fn at(width: f32) -> Self {
        Self {
            controls_drawer: width < theme::CONTROLS_DRAWER,
            history_folds: width < theme::HISTORY_FOLDS,
        }
    }
}

/// Loading, or where the model runs.
fn engine_ui(ui: &mut Ui, state: &State, narrow: Narrow) {
    let models = &state.models;
    if let Some(loading) = &models.loading {
        widgets::bar(ui, loading.fraction, 64.0, 4.0, "Loading the model");
        if !narrow.controls_drawer {
            let percent = (loading.fraction * 100.0).round();
            ui.label(theme::hint(
                ui,
                format!("Loading {}… {percent} %", loading.name),
            ));
        }
    } else if let Some(failure) = &models.failure {
        icons::show(ui, icons::WARNING, theme::ICON, theme::tokens(ui).danger);
        if !narrow.history_folds {
            ui.add(egui::Label::new(theme::hint(ui, &failure.message)).truncate())
                .on_hover_text(&failure.message);
        }
    } else if let Some(loaded) = models
        .loaded
        .as_ref()
        .filter(|loaded| loaded.card.path == state.settings.request.model)
        && !narrow.controls_drawer
    {
        let text = format!("{} · {}", loaded.device.to_uppercase(), loaded.dtype);
        let label = ui.label(theme::hint(ui, text));
        if !loaded.notes.is_empty() {
            label.on_hover_text(loaded.notes.join("\n"));
        }
    }
}

/// How many jobs wait, and which.
fn waiting_ui(ui: &mut Ui, state: &State, actions: &mut Actions) {
    let count = state.waiting_jobs().count();
    if count == 0 {
        return;
    }
    let text = format!("{count} waiting");
    let button = ui.add(Button::new((text, icons::atom(icons::CARET_DOWN))));
    Popup::from_toggle_button_response(&button)
        .gap(theme::SPACE_XS)
        .close_behavior(PopupCloseBehavior::CloseOnClickOutside)
        .accessible_name("Waiting")
        .show(|ui| {
            ui.set_width(280.0);
            for (number, job) in state.waiting_jobs().enumerate() {
                ui.horizontal(|ui| {
                    ui.with_layout(Layout::right_to_left(Align::Center), |ui| {
                        let name = format!("Cancel waiting job {}", number + 1);
                        if widgets::bare_icon(ui, icons::CANCEL, &name, "Take out of the line")
                            .clicked()
                        {
                            actions.push(Action::CancelJob(job.id));
                        }
                        ui.with_layout(Layout::left_to_right(Align::Center), |ui| {
                            let text = if job.cancelling {
                                "Cancelled".to_owned()
                            } else {
                                job.title()
                            };
                            ui.add(egui::Label::new(text).truncate());
                        });
                    });
                });
            }
            let command = UiCommand::CancelAll;
            if ui
                .add(
                    Button::new(command.info().text).min_size(Vec2::new(ui.available_width(), 0.0)),
                )
                .clicked()
            {
                actions.ui(command);
            }
        });
}

fn doors_ui(ui: &mut Ui, state: &State, narrow: Narrow, actions: &mut Actions) {
    let theme_icon = if ui.visuals().dark_mode {
        icons::SUN
    } else {
        icons::MOON
    };
    for (icon, command) in [
        (icons::HELP, UiCommand::Help),
        (icons::SETTINGS, UiCommand::Settings),
        (theme_icon, UiCommand::ToggleTheme),
    ] {
        let hover = command.hover(ui.ctx());
        if widgets::bare_icon(ui, icon, command.info().text, &hover).clicked() {
            actions.ui(command);
        }
    }
    let open = if narrow.history_folds {
        state.history_peek
    } else {
        state.settings.layout.history_open
    };
    let command = UiCommand::ToggleHistory;
    if widgets::icon_switch(
        ui,
        open,
        icons::HISTORY,
        command.info().text,
        command.info().tooltip,
    )
    .clicked()
    {
        actions.ui(command);
    }
}
