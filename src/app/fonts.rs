//! The fonts: Inter for Latin, Greek and Cyrillic (OFL, embedded, tabular digits), Phosphor for
//! icons (MIT, embedded). Every other script comes from the system's fonts: eframe's
//! `system_fonts` looks one up the first time a character is missing here.

use std::sync::Arc;

use egui::{FontData, FontDefinitions, FontFamily};

use super::theme;

/// Gives the fonts to egui. Called once, before the first frame.
pub fn install(ctx: &egui::Context) {
    let mut fonts = FontDefinitions::default();
    let embedded: [(&str, &'static [u8]); 3] = [
        (
            "inter",
            include_bytes!("../../assets/fonts/Inter-Regular.otf"),
        ),
        (
            "inter-semibold",
            include_bytes!("../../assets/fonts/Inter-SemiBold.otf"),
        ),
        (
            "phosphor",
            include_bytes!("../../assets/fonts/Phosphor.ttf"),
        ),
    ];
    for (name, bytes) in embedded {
        fonts
            .font_data
            .insert(name.to_owned(), Arc::new(FontData::from_static(bytes)));
    }
    // egui's own faces stay behind Inter for the few symbols and emoji they hold.
    let fallback = fonts
        .families
        .get(&FontFamily::Proportional)
        .cloned()
        .unwrap_or_default();
    let family = |first: &str| -> Vec<String> {
        std::iter::once(first.to_owned())
            .chain(fallback.iter().cloned())
            .collect()
    };
    fonts
        .families
        .insert(FontFamily::Proportional, family("inter"));
    fonts
        .families
        .insert(theme::semibold(), family("inter-semibold"));
    fonts
        .families
        .insert(theme::icon_family(), vec!["phosphor".to_owned()]);
    ctx.set_fonts(fonts);
}
