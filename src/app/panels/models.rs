//! The model menu of the top bar: every model that was found, with family, size and the picture beside
//! its file; searchable. And the UNet, the VAE and the refiner, which are chosen the same way.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use egui::{Button, Id, Ui};

use super::picker::{Entry, FileRow, List, file_row, picker_ui, popup};
use crate::app::command::{Action, Actions, UiCommand};
use crate::app::state::{State, file_name, relative_name};
use crate::app::textures::Textures;
use crate::app::widgets::{Number, fine_row, icon_button};
use crate::app::{icons, theme};
use crate::request::{AddOnKind, ModelCard, RefinerChoice};

/// How the names of SDXL's families begin.
pub const XL: &str = "Stable Diffusion XL";

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
    let button = ui.add(button);
    let tooltip = state.card().map_or_else(
        || "The model that draws".to_owned(),
        |card| {
            // Looked for where somebody reads it.
            let place = button.hovered().then(|| by_name(&state.models.found));
            let place = place.and_then(|all| place_among(card, &all));
            let lines = [card.family.clone(), card.description.clone()].into_iter();
            let lines = lines.chain(place).filter(|line| !line.is_empty());
            lines.collect::<Vec<_>>().join("\n")
        },
    );
    let button = button
        .on_hover_text(tooltip)
        .accessible_name(format!("Model: {name}"));
    popup(&button, "Models")
        .id(model_menu_id())
        .show(|ui| menu_ui(ui, state, textures, actions));
}

fn menu_ui(ui: &mut Ui, state: &mut State, textures: &mut Textures, actions: &mut Actions) {
    ui.set_width(theme::PICKER_WIDTH);
    let chosen = &state.settings.request.model;
    let found = &state.models.found;
    let all = by_name(found);
    let entries: Vec<Entry> = found.iter().map(|card| entry(card, &all, chosen)).collect();
    let mut list = List {
        query: &mut state.picker_query,
        textures,
        history: &state.history,
        actions,
    };
    let picked = picker_ui(ui, "Search models", &entries, &mut list);
    if let Some(card) = picked.and_then(|picked| found.get(picked)) {
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

/// Models by what they are called, in small letters.
type ByName<'a> = HashMap<String, Vec<&'a ModelCard>>;

fn by_name(all: &[ModelCard]) -> ByName<'_> {
    let mut named = ByName::new();
    for card in all {
        named
            .entry(card.name.to_lowercase())
            .or_default()
            .push(card);
    }
    named
}

/// Of several models with one name, as a converted model has its original's, each says where it lies too.
fn entry(card: &ModelCard, all: &ByName<'_>, chosen: &Option<PathBuf>) -> Entry {
    let mut detail = vec![card.family.clone(), size_text(card.size_bytes)];
    detail.extend(place_among(card, all));
    let path = card.path.as_ref().map(|path| path.display().to_string());
    let hash = card.short_hash().map(|hash| format!("Hash {hash}"));
    let lines = [Some(card.description.clone()), path, hash];
    let lines = lines.into_iter().flatten().filter(|line| !line.is_empty());
    Entry {
        name: card.name.clone(),
        detail: detail.join(" · "),
        tooltip: lines.collect::<Vec<_>>().join("\n"),
        picture: card.picture.clone(),
        chosen: card.path == *chosen,
    }
}

/// What tells a model from others that are called as it is: its file or folder, with the folder around it
/// where others' are called so too.
fn place_among(card: &ModelCard, all: &ByName<'_>) -> Option<String> {
    let named = all.get(&card.name.to_lowercase())?;
    let is_other = |it: &&&ModelCard| it.path != card.path;
    let mut others = named.iter().filter(is_other).peekable();
    others.peek()?;
    let Some(path) = &card.path else {
        return Some("comes with Easel".to_owned());
    };
    let own = file_name(path);
    let mut paths = others.filter_map(|other| other.path.as_deref());
    Some(match paths.any(|other| file_name(other) == own) {
        true => relative_name(path),
        false => own,
    })
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

/// What draws: the model's own UNet, or one in a file of its own.
pub fn unet_ui(ui: &mut Ui, state: &mut State, textures: &mut Textures, actions: &mut Actions) {
    let row = FileRow {
        label: "UNet",
        tooltip: "UNet: the network that draws. Files that hold one alone (GGUF mostly) take the rest \
                  from the model that is chosen.",
        nothing: "The model's own",
        search: "Search UNets",
        browse: UiCommand::ChooseUnet,
    };
    let chosen = state.settings.request.unet.clone();
    let found = of_kinds(state, &[AddOnKind::Unet], chosen.as_deref());
    let mut list = List {
        query: &mut state.picker_query,
        textures,
        history: &state.history,
        actions,
    };
    let picked = file_row(ui, &row, chosen.as_deref(), found, &mut list);
    if let Some(unet) = picked {
        state.settings.request.unet = unet;
    }
}

/// What turns latents into the picture: the model's own VAE, or another.
pub fn vae_ui(ui: &mut Ui, state: &mut State, textures: &mut Textures, actions: &mut Actions) {
    let row = FileRow {
        label: "VAE",
        tooltip: "VAE: the network that turns what was drawn into colours. Nearly every model has a \
                  good one of its own.",
        nothing: "The model's own",
        search: "Search VAEs",
        browse: UiCommand::ChooseVae,
    };
    let chosen = state.settings.request.vae.clone();
    let kinds = [AddOnKind::Vae, AddOnKind::TinyVae];
    let found = of_kinds(state, &kinds, chosen.as_deref());
    let mut list = List {
        query: &mut state.picker_query,
        textures,
        history: &state.history,
        actions,
    };
    let picked = file_row(ui, &row, chosen.as_deref(), found, &mut list);
    if let Some(vae) = picked {
        state.settings.request.vae = vae;
    }
}

/// What was found of these kinds, with its lines in the list.
fn of_kinds(state: &State, kinds: &[AddOnKind], chosen: Option<&Path>) -> Vec<(PathBuf, Entry)> {
    let found = state.models.add_ons.iter();
    let found = found.filter(|it| kinds.contains(&it.kind));
    found
        .map(|it| {
            let entry = Entry::add_on(it, Some(it.path.as_path()) == chosen);
            (it.path.clone(), entry)
        })
        .collect()
}

/// A second model for the last steps; shown for SDXL, which has one.
pub fn refiner_ui(ui: &mut Ui, state: &mut State, textures: &mut Textures, actions: &mut Actions) {
    let refiner = state.settings.request.refiner.clone();
    let is_xl = |card: &ModelCard| card.family.starts_with(XL);
    if refiner.is_none() && !state.card().is_some_and(is_xl) {
        return;
    }
    let row = FileRow {
        label: "Refiner",
        tooltip: "A second model that draws the last steps, SDXL's refiner mostly",
        nothing: "None",
        search: "Search refiners",
        browse: UiCommand::ChooseRefiner,
    };
    let chosen = refiner.as_ref().map(|refiner| refiner.path.clone());
    let model = &state.settings.request.model;
    let all = by_name(&state.models.found);
    let found = state
        .models
        .found
        .iter()
        .filter(|card| is_xl(card) && card.path != *model);
    let found = found.filter_map(|card| Some((card.path.clone()?, entry(card, &all, &chosen))));
    // Those that are made for it first.
    let mut found: Vec<_> = found.collect();
    found.sort_by_key(|(_, entry)| !entry.detail.contains("refiner"));
    let mut list = List {
        query: &mut state.picker_query,
        textures,
        history: &state.history,
        actions,
    };
    let picked = file_row(ui, &row, chosen.as_deref(), found, &mut list);
    let start = refiner.as_ref().map_or(RefinerChoice::START, |it| it.start);
    let place = &mut state.settings.request.refiner;
    if let Some(path) = picked {
        *place = path.map(|path| RefinerChoice { path, start });
    }
    let Some(refiner) = place else {
        return;
    };
    let number = Number {
        value: refiner.start,
        default: RefinerChoice::START,
        range: 0.0..=1.0,
        typed: 0.0..=1.0,
        step: 0.05,
        decimals: 2,
    };
    let tooltip =
        "From which share of the way on the refiner draws: at 0.8 it draws the last fifth";
    let said = (refiner.start - RefinerChoice::START).abs() > 1e-9;
    if let Some(changed) = fine_row(ui, "Switch at", tooltip, number, said) {
        let start = changed.said().unwrap_or(RefinerChoice::START);
        refiner.start = (start * 1000.0).round() / 1000.0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::{ModelDefaults, SamplerId, ScheduleId};

    fn card(name: &str, path: Option<&str>) -> ModelCard {
        ModelCard {
            path: path.map(PathBuf::from),
            name: name.to_owned(),
            description: String::new(),
            family: "Stable Diffusion 1".to_owned(),
            size_bytes: 5_000_000,
            picture: None,
            sha256: None,
            defaults: ModelDefaults {
                steps: 20,
                guidance_scale: 7.0,
                sampler: SamplerId::Euler,
                schedule: ScheduleId::Model,
                width_px: 512,
                height_px: 512,
                upscaler: None,
            },
            latent_factor: 8,
            chunk_tokens: 75,
            examples: Vec::new(),
            concepts: Vec::new(),
            styles: Vec::new(),
            backgrounds: Vec::new(),
        }
    }

    #[test]
    fn models_of_one_name_are_told_apart_by_where_they_lie() {
        let all = [
            card("Starter", None),
            card("starter", Some("/models/starter-f16.safetensors")),
            card("Dream", Some("/models/a/dream.safetensors")),
            card("Dream", Some("/models/b/dream.safetensors")),
            card("Other", Some("/models/other.safetensors")),
        ];
        let named = by_name(&all);
        let details = all.iter().map(|card| entry(card, &named, &None).detail);
        let places = [
            " · comes with Easel",
            " · starter-f16.safetensors",
            " · a/dream.safetensors",
            " · b/dream.safetensors",
            "",
        ];
        assert_eq!(
            details.collect::<Vec<_>>(),
            places.map(|place| format!("Stable Diffusion 1 · 5 MB{place}"))
        );
    }
}
