//! The right panel: what was drawn, newest first. Thumbnails are asked for when they are seen.

use egui::{
    Align, Align2, Color32, FontId, Id, Layout, Pos2, Rect, ScrollArea, Sense, TextEdit, Ui, Vec2,
    pos2,
};

use crate::app::command::{Action, Actions, UiCommand};
use crate::app::state::{Job, State, View, relative_name};
use crate::app::textures::Textures;
use crate::app::{icons, theme, widgets};
use crate::output;

pub fn history_ui(ui: &mut Ui, state: &mut State, textures: &mut Textures, actions: &mut Actions) {
    header_ui(ui, state, actions);
    state.history.focused = false;
    if state.history.paths.is_empty() {
        return nothing_ui(ui, state, actions);
    }
    let chosen = match &state.view {
        View::Saved(path) => Some(path.clone()),
        View::Welcome | View::Job(_) => state.current_path().map(std::path::Path::to_path_buf),
    };
    let matches = state.history_matches();
    if matches.is_empty() {
        let said = match state.history.reading_prompts {
            true => "Reading what older pictures were drawn from…",
            false => "No picture matches.",
        };
        ui.label(theme::hint(ui, said));
        return;
    }
    let gap = theme::SPACE_S;
    let width = ui.available_width() - ui.spacing().scroll.bar_width;
    let columns = ((width + gap) / (theme::THUMBNAIL + gap)).floor().max(1.0);
    let side = ((width - (columns - 1.0) * gap) / columns).floor();
    let columns = columns as usize;
    let mut focused = false;
    ui.spacing_mut().item_spacing.y = gap;
    ScrollArea::vertical()
        .auto_shrink([false, false])
        .show_rows(ui, side, matches.len().div_ceil(columns), |ui, rows| {
            for row in rows {
                ui.horizontal(|ui| {
                    ui.spacing_mut().item_spacing.x = gap;
                    for path in matches.iter().skip(row * columns).take(columns) {
                        let cell = Cell {
                            path,
                            prompt: state.history.prompts.get(*path).map(String::as_str),
                            chosen: chosen.as_deref() == Some(path),
                            unreadable: state.history.unreadable.contains_key(*path),
                            asked: state.history.asked.contains(*path),
                        };
                        focused |= thumbnail_ui(ui, side, &cell, textures, actions);
                    }
                });
            }
        });
    state.history.focused = focused;
}

/// What stands in the place of pictures.
fn nothing_ui(ui: &mut Ui, state: &State, actions: &mut Actions) {
    ui.add_space(theme::SPACE_XS);
    let said = if state.jobs.iter().any(Job::unsaved) {
        "The pictures folder cannot be used: what you draw is not kept."
    } else if let Some(failure) = &state.history.failure {
        failure.message.as_str()
    } else if state.history.listed {
        "What you draw is kept here."
    } else {
        "Looking for pictures…"
    };
    ui.label(theme::hint(ui, said));
    if state.history.failure.is_some() {
        let command = UiCommand::ChoosePicturesFolder;
        let choose = widgets::icon_button(ui, icons::FOLDER, "Choose another folder…");
        if choose.on_hover_text(command.info().tooltip).clicked() {
            actions.ui(command);
        }
    }
}

fn header_ui(ui: &mut Ui, state: &mut State, actions: &mut Actions) {
    ui.horizontal(|ui| {
        ui.set_min_height(theme::ROW_HEIGHT);
        ui.label(theme::title("History"));
        ui.with_layout(Layout::right_to_left(Align::Center), |ui| {
            if state.history.paths.is_empty() {
                return;
            }
            let search = widgets::bare_icon(
                ui,
                icons::SEARCH,
                "Search the history",
                "Search by date, seed or words",
            );
            if search.clicked() {
                actions.push(Action::ToggleSearch);
            }
        });
    });
    if state.history.search_open {
        // As wide as the pictures below.
        let width = ui.available_width() - ui.spacing().scroll.bar_width;
        let edit = TextEdit::singleline(&mut state.history.query)
            .desired_width(width)
            .margin(egui::Margin::symmetric(10, 6))
            .hint_text("Date, seed or words");
        let field = ui.add(edit).accessible_name("Search words");
        if std::mem::take(&mut state.history.focus_search) {
            field.request_focus();
        }
    }
}

struct Cell<'a> {
    path: &'a std::path::PathBuf,
    prompt: Option<&'a str>,
    chosen: bool,
    unreadable: bool,
    asked: bool,
}

/// Returns whether the thumbnail has the keyboard.
fn thumbnail_ui(
    ui: &mut Ui,
    side: f32,
    cell: &Cell<'_>,
    textures: &mut Textures,
    actions: &mut Actions,
) -> bool {
    let (_, rect) = ui.allocate_space(Vec2::splat(side));
    let response = ui.interact(rect, Id::unique(("thumbnail", cell.path)), Sense::click());
    let name = relative_name(cell.path);
    let name = match cell.prompt {
        Some(prompt) if !prompt.is_empty() => format!("{name}: {prompt}"),
        _ => name,
    };
    let enlarged = output::enlarged_by(cell.path);
    let name = match enlarged {
        Some(by) => format!("{name} (enlarged {by} ×)"),
        None => name,
    };
    response.widget_info(|| {
        egui::WidgetInfo::selected(egui::accesskit::Role::Button, true, cell.chosen, &name)
    });
    let tokens = theme::tokens(ui);
    let painter = ui.painter();
    match textures.thumbnail(cell.path) {
        Some(thumbnail) => {
            let [width, height] = thumbnail.size.map(|side| side as f32);
            painter.add(
                egui::epaint::RectShape::filled(rect, theme::CORNER, Color32::WHITE)
                    .with_texture(thumbnail.id, cover(width, height)),
            );
        }
        None => {
            painter.rect_filled(rect, theme::CORNER, tokens.raised);
            if cell.unreadable {
                icons::paint(
                    painter,
                    rect.center(),
                    icons::WARNING,
                    theme::ICON,
                    tokens.quiet,
                );
            } else if !cell.asked {
                actions.push(Action::WantThumbnail(cell.path.clone()));
            }
        }
    }
    if let Some(by) = enlarged {
        mark(ui, rect, &format!("{by}×"));
    }
    if cell.chosen || response.has_focus() || response.hovered() {
        let color = if cell.chosen || response.has_focus() {
            tokens.accent
        } else {
            tokens.quiet
        };
        let width = if cell.chosen || response.has_focus() {
            2.0
        } else {
            1.0
        };
        painter.rect_stroke(
            rect,
            theme::CORNER,
            egui::Stroke::new(width, color),
            egui::StrokeKind::Inside,
        );
    }
    let focused = response.has_focus();
    super::picture::keep_arrows(ui, &response);
    if response.on_hover_text(name).clicked() {
        actions.push(Action::ShowSaved(cell.path.clone()));
    }
    focused
}

/// A word in the lower right corner of a thumbnail.
fn mark(ui: &Ui, cell: Rect, text: &str) {
    let tokens = theme::tokens(ui);
    let font = FontId::proportional(theme::HINT);
    let galley = ui
        .painter()
        .layout_no_wrap(text.to_owned(), font, tokens.text);
    let size = galley.size() + Vec2::new(theme::SPACE_S, theme::SPACE_XS / 2.0);
    let corner = cell.right_bottom() - Vec2::splat(theme::SPACE_XS);
    let rect = Align2::RIGHT_BOTTOM.anchor_size(corner, size);
    ui.painter().rect_filled(rect, theme::CORNER, tokens.raised);
    ui.painter()
        .galley(rect.center() - galley.size() / 2.0, galley, tokens.text);
}

/// The middle square of a picture.
pub fn cover(width: f32, height: f32) -> Rect {
    let (x, y) = if width > height {
        (height / width, 1.0)
    } else {
        (1.0, width / height)
    };
    Rect::from_center_size(pos2(0.5, 0.5), Vec2::new(x, y))
        .intersect(Rect::from_min_max(Pos2::ZERO, pos2(1.0, 1.0)))
}
