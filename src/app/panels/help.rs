//! All keys, from the command table.

use egui::{Grid, Id, Modal, RichText, Ui};

use crate::app::command::{COMMANDS, UiCommand};
use crate::app::state::State;
use crate::app::theme;

/// Where the keyboard does what no command says.
const MORE: [(&str, &str); 4] = [
    (
        "Tab",
        "Go to the next control; in a list of names: take the chosen one",
    ),
    ("Ctrl+Y", "Redo, as other programs have it"),
    ("Arrows", "On a slider: a little more or less"),
    (
        "Double click",
        "On a slider: back to the model's value; on the picture: fit",
    ),
];

pub fn help_ui(ui: &mut Ui, state: &mut State) {
    let modal = Modal::new(Id::unique("help"))
        .frame(theme::dialog_frame(ui))
        .show(ui.ctx(), |ui| {
            ui.set_width(420.0_f32.min(ui.ctx().content_rect().width() - 48.0));
            ui.label(theme::title(UiCommand::Help.info().text).size(15.0));
            ui.add_space(theme::SPACE_S);
            let height = ui.ctx().content_rect().height() - 160.0;
            egui::ScrollArea::vertical()
                .max_height(height)
                .min_scrolled_height(height)
                .show(ui, |ui| {
                    Grid::new("keys")
                        .num_columns(2)
                        .spacing([theme::SPACE_XL, theme::SPACE_S])
                        .show(ui, |ui| {
                            for info in COMMANDS {
                                if let Some(shortcut) = &info.shortcut {
                                    key_row(ui, &key_text(ui.ctx(), shortcut), info.tooltip);
                                }
                            }
                            for (key, meaning) in MORE {
                                key_row(ui, key, meaning);
                            }
                        });
                });
            ui.add_space(theme::SPACE_M);
            ui.button("Close").clicked()
        });
    if modal.should_close() || modal.inner {
        state.dialog = None;
    }
}

/// A key as it is printed on keyboards: words, not symbols that a font may lack.
fn key_text(ctx: &egui::Context, shortcut: &egui::KeyboardShortcut) -> String {
    let modifiers = if shortcut.modifiers.is_none() {
        String::new()
    } else {
        format!("{}+", ctx.format_modifiers(shortcut.modifiers))
    };
    let key = match shortcut.logical_key {
        egui::Key::ArrowUp => "Up",
        egui::Key::ArrowDown => "Down",
        egui::Key::ArrowLeft => "Left",
        egui::Key::ArrowRight => "Right",
        egui::Key::Escape => "Esc",
        egui::Key::Delete => "Del",
        egui::Key::Comma => ",",
        egui::Key::Plus => "Plus",
        egui::Key::Minus => "Minus",
        egui::Key::Questionmark => "?",
        egui::Key::Num0 => "0",
        key => key.name(),
    };
    format!("{modifiers}{key}")
}

fn key_row(ui: &mut Ui, key: &str, meaning: &str) {
    ui.label(
        RichText::new(key)
            .family(theme::semibold())
            .size(theme::HINT),
    );
    ui.label(meaning);
    ui.end_row();
}
