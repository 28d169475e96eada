//! The top bar: which model draws and where, what waits, and the doors to everything else.

use egui::{Align, Button, Id, Layout, Popup, PopupCloseBehavior, RichText, Ui, Vec2};

use crate::app::command::{Action, Actions, UiCommand};
use crate::app::state::State;
use crate::app::{icons, theme, widgets};
use crate::request::ModelCard;

/// Opens the model menu from elsewhere.
pub fn model_menu_id() -> Id {
    Id::unique("model menu")
}

pub fn top_bar_ui(ui: &mut Ui, state: &State, narrow: Narrow, actions: &mut Actions) {
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
        model_ui(ui, state, actions);
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

fn model_ui(ui: &mut Ui, state: &State, actions: &mut Actions) {
    let name = if state.no_model() {
        "Choose a model".to_owned()
    } else {
        state.model_name()
    };
    let button = Button::new((
        icons::atom(icons::MODEL),
        name.as_str(),
        icons::atom(icons::CARET_DOWN),
    ));
    let tooltip = state.card().map_or_else(
        || "The model that draws".to_owned(),
        |card| format!("{}\n{}", card.family, card.description),
    );
    let button = ui
        .add(button)
        .on_hover_text(tooltip)
        .accessible_name(format!("Model: {name}"));
    Popup::from_toggle_button_response(&button)
        .id(model_menu_id())
        .layout(Layout::top_down_justified(Align::Min))
        .gap(theme::SPACE_XS)
        .close_behavior(PopupCloseBehavior::CloseOnClick)
        .accessible_name("Models")
        .show(|ui| {
            ui.set_min_width(280.0);
            for card in &state.models.found {
                let chosen = card.path == state.settings.request.model;
                let text = format!("{} · {}", card.family, size_text(card.size_bytes));
                let entry = Button::selectable(chosen, card.name.as_str()).shortcut_text(text);
                if ui.add(entry).on_hover_text(model_hover(card)).clicked() {
                    actions.push(Action::ChooseModel(card.path.clone()));
                }
            }
            ui.add_space(theme::SPACE_XS);
            for command in [UiCommand::ChooseModelFolder, UiCommand::ChooseModelFile] {
                let open = widgets::icon_button(ui, icons::FOLDER, command.info().text);
                if open.on_hover_text(command.info().tooltip).clicked() {
                    actions.ui(command);
                }
            }
        });
}

fn model_hover(card: &ModelCard) -> String {
    match &card.path {
        Some(path) => format!("{}\n{}", card.description, path.display()),
        None => card.description.clone(),
    }
}

/// `148 MB`, `4.3 GB`
pub fn size_text(bytes: u64) -> String {
    let megabytes = bytes as f64 / 1e6;
    if megabytes >= 1000.0 {
        format!("{:.1} GB", megabytes / 1000.0)
    } else {
        format!("{megabytes:.0} MB")
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
