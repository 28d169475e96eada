//! The icons by name: code points of the embedded Phosphor font (MIT, phosphoricons.com).
//!
//! An icon never stands alone in an accessible name: [`atom`] paints it as a picture, so that a
//! button's name is its word.

use egui::{Align2, Atom, Color32, FontId, Pos2, Vec2};

use super::theme;

pub const ADD: &str = "\u{E3D4}";
pub const CANCEL: &str = "\u{E4F6}";
pub const CARET_DOWN: &str = "\u{E136}";
pub const CARET_RIGHT: &str = "\u{E13A}";
pub const COPY: &str = "\u{E1CA}";
pub const CONTROLS: &str = "\u{E434}";
pub const DICE: &str = "\u{E1EE}";
pub const ENLARGE: &str = "\u{E0A2}";
pub const FOLDER: &str = "\u{E256}";
pub const HELP: &str = "\u{E3E8}";
pub const HISTORY: &str = "\u{E1A0}";
pub const IDEAS: &str = "\u{E2DC}";
pub const LOCK: &str = "\u{E2FA}";
pub const LOCK_OPEN: &str = "\u{E306}";
pub const MODEL: &str = "\u{E1DA}";
pub const MOON: &str = "\u{E330}";
pub const PICTURE: &str = "\u{E2CA}";
pub const REUSE: &str = "\u{E08A}";
pub const SAVE: &str = "\u{E248}";
pub const SAVED: &str = "\u{E184}";
pub const SEARCH: &str = "\u{E30C}";
pub const SETTINGS: &str = "\u{E272}";
pub const SUN: &str = "\u{E472}";
pub const SWAP: &str = "\u{E0A0}";
pub const TRASH: &str = "\u{E4A6}";
pub const VARY: &str = "\u{E422}";
pub const WARNING: &str = "\u{E4E2}";
pub const BACK: &str = "\u{E058}";
pub const FULL: &str = "\u{E1D0}";

/// An icon as a part of a button, in the button's text colour.
pub fn atom<'a>(icon: &'static str) -> Atom<'a> {
    Atom::paint(Vec2::splat(theme::ICON), move |ui, args| {
        paint(
            ui.painter(),
            args.rect.center(),
            icon,
            theme::ICON,
            args.fallback_text_color,
        );
    })
}

/// The small sign at the right end of what opens a list.
pub fn caret<'a>() -> Atom<'a> {
    Atom::paint(Vec2::splat(theme::HINT), |ui, args| {
        let color = args.fallback_text_color;
        paint(
            ui.painter(),
            args.rect.center(),
            CARET_DOWN,
            theme::HINT,
            color,
        );
    })
}

/// An icon in a colour of its own.
pub fn colored<'a>(icon: &'static str, color: Color32) -> Atom<'a> {
    Atom::paint(Vec2::splat(theme::ICON), move |ui, args| {
        paint(ui.painter(), args.rect.center(), icon, theme::ICON, color);
    })
}

/// Paints an icon around a point.
pub fn paint(painter: &egui::Painter, center: Pos2, icon: &str, size: f32, color: Color32) {
    let font = FontId::new(size, theme::icon_family());
    painter.text(center, Align2::CENTER_CENTER, icon, font, color);
}

/// Takes the room of an icon in a row and paints it there.
pub fn show(ui: &mut egui::Ui, icon: &str, size: f32, color: Color32) {
    let (rect, _) = ui.allocate_exact_size(Vec2::splat(size), egui::Sense::hover());
    paint(ui.painter(), rect.center(), icon, size, color);
}
