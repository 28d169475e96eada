//! A list to choose from that can be searched: models, LoRAs, VAEs, each with the picture beside its file.

use std::path::{Path, PathBuf};

use egui::{Atom, Button, Color32, Id, Key, Modifiers, Rect, ScrollArea, TextEdit, Ui, Vec2};

use crate::app::command::{Action, Actions};
use crate::app::state::History;
use crate::app::textures::{Painted, Textures};
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
    /// A LoRA, a VAE.
    pub fn add_on(add_on: &AddOn, chosen: bool) -> Self {
        Self {
            name: add_on.name.clone(),
            detail: super::models::size_text(add_on.size_bytes),
            tooltip: add_on.path.display().to_string(),
            picture: add_on.picture.clone(),
            chosen,
        }
    }
}

/// What a list shows its pictures with.
pub struct Pictures<'a> {
    pub textures: &'a mut Textures,
    pub history: &'a History,
}

/// Shows the entries that fit `query`; returns which was chosen: clicked, or the first with Enter.
/// `what` names the field for screen readers: `Search models`.
pub fn picker_ui(
    ui: &mut Ui,
    what: &str,
    query: &mut String,
    entries: &[Entry],
    pictures: &mut Pictures<'_>,
    actions: &mut Actions,
) -> Option<usize> {
    let mut chosen = None;
    if entries.len() > FEW {
        let edit = TextEdit::singleline(query)
            .id(Id::unique(what))
            .desired_width(f32::INFINITY)
            .margin(egui::Margin::symmetric(10, 6))
            .hint_text("Search");
        let response = ui.add(edit).accessible_name(what);
        let enter = |input: &mut egui::InputState| input.consume_key(Modifiers::NONE, Key::Enter);
        if response.lost_focus() && ui.input_mut(enter) {
            chosen = fitting(entries, query).next().map(|(index, _)| index);
        } else if opened_now(ui, what) {
            // Whoever types now searches.
            query.clear();
            response.request_focus();
        }
    } else {
        query.clear();
    }
    let with_pictures = entries.iter().any(|entry| entry.picture.is_some());
    ScrollArea::vertical()
        .max_height(theme::PICKER_HEIGHT)
        .auto_shrink([false, true])
        .show(ui, |ui| {
            ui.spacing_mut().item_spacing.y = theme::SPACE_XS / 2.0;
            let mut any = false;
            for (index, entry) in fitting(entries, query) {
                any = true;
                if entry_ui(ui, entry, with_pictures, pictures, actions) {
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
    query: &'a str,
) -> impl Iterator<Item = (usize, &'a Entry)> + 'a {
    let query = query.to_lowercase();
    entries.iter().enumerate().filter(move |(_, entry)| {
        let text = format!("{} {}", entry.name, entry.detail).to_lowercase();
        query.split_whitespace().all(|word| text.contains(word))
    })
}

fn entry_ui(
    ui: &mut Ui,
    entry: &Entry,
    with_pictures: bool,
    pictures: &mut Pictures<'_>,
    actions: &mut Actions,
) -> bool {
    let name = entry.name.as_str();
    let button = match with_pictures {
        true => {
            let picture = entry.picture.as_deref();
            let painted = picture.and_then(|path| thumbnail(path, pictures, actions));
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
fn thumbnail(path: &Path, pictures: &mut Pictures<'_>, actions: &mut Actions) -> Option<Painted> {
    let painted = pictures.textures.thumbnail(path);
    let history = pictures.history;
    if painted.is_none() && !history.asked.contains(path) && !history.unreadable.contains_key(path)
    {
        actions.push(Action::WantThumbnail(path.to_path_buf()));
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
