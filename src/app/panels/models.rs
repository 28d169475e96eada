//! The model menu of the top bar: every model that was found, with family, size and the picture beside
//! its file; searchable. And the VAE, which is chosen the same way.

use std::path::PathBuf;

use egui::{Align, Button, Id, Layout, Popup, PopupCloseBehavior, Ui, Vec2};

use super::picker::{Entry, Pictures, picker_ui};
use crate::app::command::{Action, Actions, UiCommand};
use crate::app::state::{State, file_name};
use crate::app::textures::Textures;
use crate::app::widgets::{icon_button, reset_slot, row_label};
use crate::app::{icons, theme};
use crate::request::{AddOn, AddOnKind, ModelCard};

/// Opens the model menu from elsewhere.
pub fn model_menu_id() -> Id {
    Id::unique("model menu")
}

pub fn model_ui(ui: &mut Ui, state: &mut State, textures: &mut Textures, actions: &mut Actions) {
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
        .close_behavior(PopupCloseBehavior::CloseOnClickOutside)
        .accessible_name("Models")
        .show(|ui| menu_ui(ui, state, textures, actions));
}

fn menu_ui(ui: &mut Ui, state: &mut State, textures: &mut Textures, actions: &mut Actions) {
    ui.set_width(theme::PICKER_WIDTH);
    let chosen = &state.settings.request.model;
    let found = &state.models.found;
    let entries: Vec<Entry> = found.iter().map(|card| entry(card, chosen)).collect();
    let mut pictures = Pictures {
        textures,
        history: &state.history,
    };
    let query = &mut state.picker_query;
    let picked = picker_ui(ui, "Search models", query, &entries, &mut pictures, actions);
    if let Some(card) = picked.and_then(|picked| found.get(picked)) {
        query.clear();
        ui.close();
        actions.push(Action::ChooseModel(card.path.clone()));
    }
    ui.add_space(theme::SPACE_XS);
    for command in [UiCommand::ChooseModelFolder, UiCommand::ChooseModelFile] {
        let open = icon_button(ui, icons::FOLDER, command.info().text);
        if open.on_hover_text(command.info().tooltip).clicked() {
            ui.close();
            actions.ui(command);
        }
    }
}

fn entry(card: &ModelCard, chosen: &Option<PathBuf>) -> Entry {
    let path = card.path.as_ref().map(|path| path.display().to_string());
    let hash = card.short_hash().map(|hash| format!("Hash {hash}"));
    let lines = [Some(card.description.clone()), path, hash];
    let lines = lines.into_iter().flatten().filter(|line| !line.is_empty());
    Entry {
        name: card.name.clone(),
        detail: format!("{} · {}", card.family, size_text(card.size_bytes)),
        tooltip: lines.collect::<Vec<_>>().join("\n"),
        picture: card.picture.clone(),
        chosen: card.path == *chosen,
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

/// What turns latents into the picture: the model's own VAE, or another.
pub fn vae_ui(ui: &mut Ui, state: &mut State, textures: &mut Textures, actions: &mut Actions) {
    ui.horizontal(|ui| {
        let tooltip = "VAE: the network that turns what was drawn into colours. Nearly every model \
                       has a good one of its own.";
        let label = row_label(ui, "VAE", tooltip);
        if reset_slot(ui, "VAE", state.settings.request.vae.is_some()) {
            state.settings.request.vae = None;
        }
        let vaes: Vec<&AddOn> = state
            .models
            .add_ons
            .iter()
            .filter(|it| it.kind == AddOnKind::Vae)
            .collect();
        let chosen = state.settings.request.vae.as_ref();
        let known = vaes.iter().find(|it| Some(&it.path) == chosen);
        let text = match (known, chosen) {
            (Some(add_on), _) => add_on.name.clone(),
            (None, Some(path)) => file_name(path),
            (None, None) => "The model's own".to_owned(),
        };
        let button = Button::new((text.as_str(), egui::Atom::grow(), icons::caret()))
            .truncate()
            .min_size(Vec2::new(ui.available_width(), theme::ROW_HEIGHT));
        let button = ui.add(button).labelled_by(label.id).on_hover_text(tooltip);
        let own = Entry {
            name: "The model's own".to_owned(),
            detail: String::new(),
            tooltip: String::new(),
            picture: None,
            chosen: chosen.is_none(),
        };
        let listed = vaes
            .iter()
            .map(|it| Entry::add_on(it, Some(&it.path) == chosen));
        let entries: Vec<Entry> = std::iter::once(own).chain(listed).collect();
        let paths: Vec<PathBuf> = vaes.iter().map(|it| it.path.clone()).collect();
        Popup::from_toggle_button_response(&button)
            .layout(Layout::top_down_justified(Align::Min))
            .gap(theme::SPACE_XS)
            .close_behavior(PopupCloseBehavior::CloseOnClickOutside)
            .accessible_name("VAEs")
            .show(|ui| {
                ui.set_width(theme::PICKER_WIDTH);
                let mut pictures = Pictures {
                    textures,
                    history: &state.history,
                };
                let query = &mut state.picker_query;
                let picked = picker_ui(ui, "Search VAEs", query, &entries, &mut pictures, actions);
                if let Some(picked) = picked {
                    query.clear();
                    ui.close();
                    let path = picked.checked_sub(1).and_then(|at| paths.get(at));
                    state.settings.request.vae = path.cloned();
                }
                ui.add_space(theme::SPACE_XS);
                let command = UiCommand::ChooseVae;
                let open = icon_button(ui, icons::FOLDER, command.info().text);
                if open.on_hover_text(command.info().tooltip).clicked() {
                    ui.close();
                    actions.ui(command);
                }
            });
    });
}
