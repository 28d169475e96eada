//! A list to choose from that can be searched: models, LoRAs, VAEs, each with the picture beside its file.

use std::path::{Path, PathBuf};

use egui::{
    Align, Atom, Button, Color32, Id, Key, Layout, Modifiers, Popup, PopupCloseBehavior, Rect,
    Response, ScrollArea, TextEdit, Ui, Vec2,
};

use crate::app::command::{Action, Actions, UiCommand};
use crate::app::state::{History, file_name};
use crate::app::textures::{Painted, Textures};
use crate::app::widgets::{icon_button, reset_slot, row_label};
use crate::app::{icons, theme};
use crate::request::AddOn;

/// So many entries are found by looking; more have a search field.
const FEW: usize = 6;

/// One line of the list.
pub struct Entry {
    pub name: String,
    /// At the right end, quietly.
    pub detail: String,
    pub tooltip: String,
    pub picture: Option<PathBuf>,
    pub chosen: bool,
}

impl Entry {
    /// None of those below it.
    fn nothing(text: &str, chosen: Option<&Path>) -> Self {
        Self {
            name: text.to_owned(),
            detail: String::new(),
            tooltip: String::new(),
            picture: None,
            chosen: chosen.is_none(),
        }
    }

    /// A LoRA, a VAE.
    pub fn add_on(add_on: &AddOn, chosen: bool) -> Self {
        Self {
            name: add_on.name.clone(),
            detail: super::models::size_text(add_on.size_bytes),
            tooltip: about(add_on),
            picture: add_on.picture.clone(),
            chosen,
        }
    }
}

/// Where it lies, and how it is used.
pub fn about(add_on: &AddOn) -> String {
    let mut lines = vec![add_on.path.display().to_string()];
    lines.extend(add_on.notes.lines());
    let trained = add_on.trained_as.as_ref();
    let renamed = trained.filter(|trained| **trained != add_on.name);
    lines.extend(renamed.map(|trained| format!("Trained as {trained}")));
    lines.join("\n")
}

/// What a list works with: what is searched for, and where its pictures come from.
pub struct List<'a> {
    pub query: &'a mut String,
    pub textures: &'a mut Textures,
    pub history: &'a History,
    pub actions: &'a mut Actions,
}

/// A row of the controls whose value is a file: from a list, or from anywhere on the disk.
pub struct FileRow<'a> {
    pub label: &'a str,
    pub tooltip: &'a str,
    /// What stands there while nothing is chosen.
    pub nothing: &'a str,
    /// Names the search field.
    pub search: &'a str,
    /// Asks for a file.
    pub browse: UiCommand,
}

/// Returns what was chosen instead; `Some(None)`: nothing any more.
pub fn file_row(
    ui: &mut Ui,
    row: &FileRow<'_>,
    chosen: Option<&Path>,
    found: Vec<(PathBuf, Entry)>,
    list: &mut List<'_>,
) -> Option<Option<PathBuf>> {
    let mut picked = None;
    ui.horizontal(|ui| {
        let label = row_label(ui, row.label, row.tooltip);
        if reset_slot(ui, row.label, chosen.is_some()) {
            picked = Some(None);
        }
        let known = found
            .iter()
            .find(|(path, _)| Some(path.as_path()) == chosen);
        let text = match (known, chosen) {
            (Some((_, entry)), _) => entry.name.clone(),
            (None, Some(path)) => file_name(path),
            (None, None) => row.nothing.to_owned(),
        };
        let atoms = (text.as_str(), Atom::grow(), icons::caret());
        let button = Button::new(atoms)
            .truncate()
            .min_size(Vec2::new(ui.available_width(), theme::ROW_HEIGHT));
        let button = ui.add(button).labelled_by(label.id);
        let button = button.on_hover_text(row.tooltip);
        let (mut paths, mut entries) = (vec![None], vec![Entry::nothing(row.nothing, chosen)]);
        for (path, entry) in found {
            paths.push(Some(path));
            entries.push(entry);
        }
        popup(&button, row.label).show(|ui| {
            ui.set_width(theme::PICKER_WIDTH);
            let index = picker_ui(ui, row.search, &entries, list);
            if let Some(path) = index.and_then(|index| paths.get(index)) {
                ui.close();
                picked = Some(path.clone());
            }
            ui.add_space(theme::SPACE_XS);
            let info = row.browse.info();
            let open = icon_button(ui, icons::FOLDER, info.text);
            if open.on_hover_text(info.tooltip).clicked() {
                ui.close();
                list.actions.ui(row.browse);
            }
        });
    });
    picked
}

/// A list below the button that opens it.
pub fn popup<'a>(button: &'a Response, name: &str) -> Popup<'a> {
    Popup::from_toggle_button_response(button)
        .layout(Layout::top_down_justified(Align::Min))
        .gap(theme::SPACE_XS)
        .close_behavior(PopupCloseBehavior::CloseOnClickOutside)
        .accessible_name(name)
}

/// Shows the entries that fit what is searched for; returns which was chosen: clicked, or the first with Enter.
/// `what` names the field for screen readers: `Search models`.
pub fn picker_ui(ui: &mut Ui, what: &str, entries: &[Entry], list: &mut List<'_>) -> Option<usize> {
    let mut chosen = None;
    if entries.len() > FEW {
        let edit = TextEdit::singleline(list.query)
            .id(Id::unique(what))
            .desired_width(f32::INFINITY)
            .margin(egui::Margin::symmetric(10, 6))
            .hint_text("Search");
        let response = ui.add(edit).accessible_name(what);
        let enter = |input: &mut egui::InputState| input.consume_key(Modifiers::NONE, Key::Enter);
        if response.lost_focus() && ui.input_mut(enter) {
            chosen = fitting(entries, list.query).next().map(|(index, _)| index);
        } else if opened_now(ui, what) {
            // Whoever types now searches.
            list.query.clear();
            response.request_focus();
        }
    } else {
        list.query.clear();
    }
    let with_pictures = entries.iter().any(|entry| entry.picture.is_some());
    ScrollArea::vertical()
        .max_height(theme::PICKER_HEIGHT)
        .auto_shrink([false, true])
        .show(ui, |ui| {
            ui.spacing_mut().item_spacing.y = theme::SPACE_XS / 2.0;
            let mut any = false;
            for (index, entry) in fitting(entries, list.query) {
                any = true;
                if entry_ui(ui, entry, with_pictures, list) {
                    chosen = Some(index);
                }
            }
            if !any {
                ui.label(theme::hint(ui, "Nothing is called that."));
            }
        });
    chosen
}

/// Whether the list was not there in the last frame.
fn opened_now(ui: &Ui, what: &str) -> bool {
    let now = ui.ctx().cumulative_frame_nr();
    let id = Id::unique(("shown", what));
    let last = ui.data(|data| data.get_temp::<u64>(id));
    ui.data_mut(|data| data.insert_temp(id, now));
    last.is_none_or(|last| now > last + 1)
}

/// Every word of the query is in the name or the detail.
fn fitting<'a>(
    entries: &'a [Entry],
    query: &str,
) -> impl Iterator<Item = (usize, &'a Entry)> + use<'a> {
    let query = query.to_lowercase();
    entries.iter().enumerate().filter(move |(_, entry)| {
        let text = format!("{} {}", entry.name, entry.detail).to_lowercase();
        query.split_whitespace().all(|word| text.contains(word))
    })
}

fn entry_ui(ui: &mut Ui, entry: &Entry, with_pictures: bool, list: &mut List<'_>) -> bool {
    let name = entry.name.as_str();
    let button = match with_pictures {
        true => {
            let picture = entry.picture.as_deref();
            let painted = picture.and_then(|path| thumbnail(path, list));
            Button::selectable(entry.chosen, (picture_atom(painted), name))
        }
        false => Button::selectable(entry.chosen, name),
    };
    let button = button
        .shortcut_text(entry.detail.as_str())
        .min_size(Vec2::new(ui.available_width(), theme::ROW_HEIGHT))
        .truncate();
    ui.add(button).on_hover_text(&entry.tooltip).clicked()
}

/// The texture of a small picture; asks for it where it is not there yet.
fn thumbnail(path: &Path, list: &mut List<'_>) -> Option<Painted> {
    let painted = list.textures.thumbnail(path);
    let history = list.history;
    if painted.is_none() && !history.asked.contains(path) && !history.unreadable.contains_key(path)
    {
        list.actions.push(Action::WantThumbnail(path.to_path_buf()));
    }
    painted
}

/// A small square picture, or the sign for a model in its place.
fn picture_atom<'a>(painted: Option<Painted>) -> Atom<'a> {
    Atom::paint(Vec2::splat(theme::PICKER_PICTURE), move |ui, args| {
        let painter = ui.painter();
        match painted {
            Some(painted) => {
                let [width, height] = painted.size.map(|side| side as f32);
                let uv: Rect = super::history::cover(width, height);
                painter.add(
                    egui::epaint::RectShape::filled(args.rect, theme::CORNER, Color32::WHITE)
                        .with_texture(painted.id, uv),
                );
            }
            None => {
                let tokens = theme::tokens(ui);
                painter.rect_filled(args.rect, theme::CORNER, tokens.ground);
                icons::paint(
                    painter,
                    args.rect.center(),
                    icons::MODEL,
                    theme::ICON,
                    tokens.quiet,
                );
            }
        }
    })
}
