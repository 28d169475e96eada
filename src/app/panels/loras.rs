//! The LoRAs that the prompt names, each with its weight; what is added, moved and taken away here is
//! written in the prompt, where other programs look for it and where a picture's settings keep it.

use std::path::PathBuf;

use egui::{Align, Button, Label, Layout, Ui, Vec2};

use super::picker::{Entry, List, about, picker_ui, popup};
use crate::app::command::{Action, Actions};
use crate::app::lora_tags::{self, Tag};
use crate::app::state::{State, file_name};
use crate::app::textures::Textures;
use crate::app::widgets::{Number, bare_slider, icon_button, small_icon, told_fold};
use crate::app::{icons, theme};
use crate::request::{AddOn, AddOnKind, Emphasis, GenerationRequest, LoraNotes};

/// Tags of a LoRA that are offered at once.
const TAGS: usize = 6;

pub fn loras_ui(ui: &mut Ui, state: &mut State, textures: &mut Textures, actions: &mut Actions) {
    let found = state.models.add_ons.iter();
    let any = found.clone().any(|it| it.kind == AddOnKind::Lora);
    let tags = lora_tags::tags(&state.settings.request.prompt);
    let request = &state.settings.request;
    let count = tags.len() + request.loras.len() + request.embeddings.len();
    if !any && count == 0 {
        return;
    }
    let inside = match count {
        0 => String::new(),
        count => count.to_string(),
    };
    if !told_fold(ui, &mut state.settings.layout.loras_open, "LoRAs", &inside) {
        return;
    }
    for tag in &tags {
        tag_ui(ui, state, tag, actions);
    }
    files_ui(ui, state);
    embeddings_ui(ui, &mut state.settings.request.embeddings);
    add_ui(ui, state, textures, actions);
}

/// A LoRA of the prompt.
fn tag_ui(ui: &mut Ui, state: &mut State, tag: &Tag, actions: &mut Actions) {
    let request = &state.settings.request;
    let hash = request.hashes.loras.get(&tag.name).map(String::as_str);
    let lora = AddOn::find(&state.models.add_ons, AddOnKind::Lora, &tag.name, hash);
    let about = lora.map_or_else(|| tag.name.clone(), about);
    let changed = lora_row(ui, &tag.name, &about, tag.weight);
    if let Some(lora) = lora {
        words_ui(ui, &lora.notes, request, actions);
    }
    let prompt = &mut state.settings.request.prompt;
    match changed {
        Some(Change::Weight(weight)) => lora_tags::set_weight(prompt, tag, weight),
        Some(Change::Remove) => lora_tags::remove(prompt, tag),
        None => {}
    }
}

/// LoRAs by their files, as the command line and pictures drawn with it have them.
fn files_ui(ui: &mut Ui, state: &mut State) {
    let loras = &mut state.settings.request.loras;
    let mut removed = None;
    for (index, lora) in loras.iter_mut().enumerate() {
        let name = lora.name();
        match lora_row(ui, &name, &name, lora.weight) {
            Some(Change::Weight(weight)) => lora.weight = weight,
            Some(Change::Remove) => removed = Some(index),
            None => {}
        }
    }
    if let Some(index) = removed {
        loras.remove(index);
    }
}

/// Embeddings by their files: nothing happens until the prompt names them.
fn embeddings_ui(ui: &mut Ui, embeddings: &mut Vec<PathBuf>) {
    embeddings.retain(|path| {
        let name = file_name(path);
        let tooltip = format!("{name}: an embedding; the prompt names it where it counts");
        !removable_row(ui, &name, &tooltip)
    });
}

enum Change {
    Weight(f64),
    Remove,
}

/// A name, and whether it is to go.
fn removable_row(ui: &mut Ui, name: &str, tooltip: &str) -> bool {
    let size = Vec2::new(ui.available_width(), theme::RESET_WIDTH);
    let layout = Layout::right_to_left(Align::Center);
    let row = ui.allocate_ui_with_layout(size, layout, |ui| {
        let remove = format!("Remove {name}");
        let remove = small_icon(ui, icons::CANCEL, &remove, "Draw without it");
        ui.with_layout(Layout::left_to_right(Align::Center), |ui| {
            ui.add(Label::new(name).truncate()).on_hover_text(tooltip);
        });
        remove.clicked()
    });
    row.inner
}

/// The name over its slider.
fn lora_row(ui: &mut Ui, name: &str, about: &str, weight: f64) -> Option<Change> {
    let mut change = removable_row(ui, name, about).then_some(Change::Remove);
    let number = Number {
        value: weight,
        default: 1.0,
        range: 0.0..=1.5,
        typed: -10.0..=10.0,
        step: 0.05,
        decimals: 2,
    };
    let tooltip = "How much it counts; 1 is as it was trained";
    if let Some(changed) = bare_slider(ui, &format!("Weight of {name}"), tooltip, &number) {
        change = Some(Change::Weight(changed.said().unwrap_or(1.0)));
    }
    change
}

/// Words that call what a LoRA learnt and that the prompt does not have yet: a click adds them. What a
/// person or its maker named, else what its captions had most often.
fn words_ui(ui: &mut Ui, notes: &LoraNotes, request: &GenerationRequest, actions: &mut Actions) {
    // As they are shown, and as they are written into the prompt.
    let named = [&notes.activation, &notes.trigger];
    let named = named.into_iter().filter(|words| !words.is_empty());
    let mut words: Vec<_> = named.map(|words| (words, words.clone())).collect();
    if words.is_empty() {
        let tags = notes.tags.iter().take(TAGS);
        words.extend(tags.map(|tag| (tag, escaped(tag, request.emphasis))));
    }
    words.dedup();
    words.retain(|(_, written)| !lora_tags::says(&request.prompt, written));
    if words.is_empty() {
        return;
    }
    ui.scope(|ui| {
        ui.spacing_mut().item_spacing = Vec2::splat(theme::SPACE_XS);
        ui.spacing_mut().interact_size.y = theme::RESET_WIDTH;
        ui.spacing_mut().button_padding = theme::WORD_PADDING;
        ui.horizontal_wrapped(|ui| {
            for (shown, written) in &words {
                let button = Button::new(theme::hint(ui, format!("+ {shown}"))).truncate();
                let button = ui
                    .add(button)
                    .on_hover_text(format!("Add to the prompt: {written}"));
                if button.accessible_name(format!("Add {shown}")).clicked() {
                    let prompt = lora_tags::with_words(&request.prompt, written);
                    actions.push(Action::SetPrompt(prompt));
                }
            }
        });
    });
}

/// A tag as words: its brackets weigh nothing.
fn escaped(tag: &str, emphasis: Emphasis) -> String {
    let signs = match emphasis {
        Emphasis::Original | Emphasis::NoNorm | Emphasis::Ignore => "\\()[]",
        Emphasis::Comfyui | Emphasis::Compel => "()",
        Emphasis::None => "",
    };
    let letters = tag.chars().map(|letter| match signs.contains(letter) {
        true => format!("\\{letter}"),
        false => letter.to_string(),
    });
    letters.collect()
}

fn add_ui(ui: &mut Ui, state: &mut State, textures: &mut Textures, actions: &mut Actions) {
    let loras: Vec<&AddOn> = state
        .models
        .add_ons
        .iter()
        .filter(|it| it.kind == AddOnKind::Lora)
        .collect();
    if loras.is_empty() {
        return;
    }
    let button = ui
        .scope(|ui| {
            ui.spacing_mut().button_padding.x = 2.0;
            icon_button(ui, icons::ADD, "Add a LoRA")
        })
        .inner
        .on_hover_text("From the model folders; it is written in the prompt");
    let tags = lora_tags::tags(&state.settings.request.prompt);
    let entries: Vec<Entry> = loras
        .iter()
        .map(|it| Entry::add_on(it, tags.iter().any(|tag| tag.name == it.name)))
        .collect();
    let names: Vec<String> = loras.iter().map(|it| it.name.clone()).collect();
    popup(&button, "LoRAs").show(|ui| {
        ui.set_width(theme::PICKER_WIDTH);
        let mut list = List {
            query: &mut state.picker_query,
            textures,
            history: &state.history,
            actions,
        };
        let picked = picker_ui(ui, "Search LoRAs", &entries, &mut list);
        if let Some(name) = picked.and_then(|picked| names.get(picked)) {
            ui.close();
            actions.push(Action::AddLora(name.clone()));
        }
    });
}
