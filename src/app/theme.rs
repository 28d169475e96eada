//! Every colour, size and text style of the window. No other file writes a colour or a distance.
//!
//! Source: the table in the project's window design; `tests` holds the contrasts it promises.

use egui::{
    Color32, CornerRadius, FontFamily, FontId, Margin, Shadow, Stroke, Style, TextStyle, Theme,
    Vec2, Visuals,
    style::{HandleShape, ScrollStyle, Selection, TextCursorStyle, WidgetVisuals, Widgets},
};

use crate::settings::ThemeChoice;

pub const SPACE_XS: f32 = 4.0;
pub const SPACE_S: f32 = 8.0;
pub const SPACE_M: f32 = 12.0;
pub const SPACE_L: f32 = 16.0;
pub const SPACE_XL: f32 = 24.0;
pub const CORNER: u8 = 6;
pub const BODY: f32 = 13.5;
pub const HINT: f32 = 12.0;
pub const LARGE: f32 = 20.0;
/// Width of the button between a label and its slider that goes back to the default.
pub const RESET_WIDTH: f32 = 20.0;
/// Height of fields, buttons and slider rows.
pub const ROW_HEIGHT: f32 = 28.0;
/// Height of the one filled button.
pub const GENERATE_HEIGHT: f32 = 38.0;
/// Width of the labels on the left edge of the controls.
pub const LABEL_WIDTH: f32 = 74.0;
/// Width of the values on the right edge of the controls.
pub const VALUE_WIDTH: f32 = 60.0;
/// Side of a picture in the history, before it is fitted to the panel.
pub const THUMBNAIL: f32 = 92.0;
/// Of the pixels that are asked for, for screens with two pixels a point.
pub const THUMBNAIL_PX: u32 = 224;
/// Across a slider's handle, and through its rail.
pub const HANDLE: f32 = 14.0;
pub const RAIL: f32 = 4.0;
/// Share of the text's colour in the handle of a scroll bar, at rest and under the mouse.
const SCROLL_HANDLE: f32 = 0.5;
const SCROLL_HANDLE_HELD: f32 = 0.8;
pub const PROGRESS_HEIGHT: f32 = 6.0;
pub const ICON: f32 = 16.0;
pub const ICON_LARGE: f32 = 36.0;
/// Below this window width the history folds away.
pub const HISTORY_FOLDS: f32 = 900.0;
/// Below this window width the controls become a drawer.
pub const CONTROLS_DRAWER: f32 = 640.0;
/// Room that the actions below the picture need with their words.
pub const ACTIONS_WIDTH: f32 = 500.0;
/// Room beside the button that shows the folder from which on a picture's size stands before its path.
pub const SIZE_BESIDE_PATH: f32 = 240.0;
pub const IDEAS_WIDTH: f32 = 340.0;
pub const IDEAS_HEIGHT: f32 = 380.0;
/// Of the lists of models and LoRAs, and the pictures in them.
pub const PICKER_WIDTH: f32 = 380.0;
pub const PICKER_HEIGHT: f32 = 360.0;
pub const PICKER_PICTURE: f32 = 32.0;
/// Around the words of a LoRA that a click adds.
pub const WORD_PADDING: Vec2 = Vec2::new(6.0, 1.0);
/// Room for the word between two fields.
pub const TO_WIDTH: f32 = 18.0;
pub const MIN_WINDOW: [f32; 2] = [480.0, 400.0];
/// Longest motion, in seconds.
pub const MOTION_SECS: f32 = 0.12;

/// The colours of one theme.
#[derive(Clone, Copy, Debug)]
pub struct Tokens {
    /// Behind the picture.
    pub ground: Color32,
    /// Side panels, top bar.
    pub panel: Color32,
    /// Fields, cards, menus.
    pub raised: Color32,
    /// `raised` under the pointer.
    pub raised_hover: Color32,
    /// Hairlines, the only borders.
    pub line: Color32,
    /// Slider tracks and switches: what must be told from the panel (3:1).
    pub control: Color32,
    pub text: Color32,
    /// Hints, units.
    pub quiet: Color32,
    /// Generate, slider fill, focus, selection; nothing else.
    pub accent: Color32,
    pub accent_hover: Color32,
    /// Text on the accent.
    pub on_accent: Color32,
    /// Behind selected text and chosen rows.
    pub selection: Color32,
    /// In a prompt: weights.
    pub syntax_number: Color32,
    /// In a prompt: AND, BREAK, and what changes while drawing.
    pub syntax_keyword: Color32,
    /// In a prompt: LoRAs and embeddings.
    pub syntax_network: Color32,
    /// In a prompt: wildcards and choices.
    pub syntax_choice: Color32,
    pub danger: Color32,
    pub good: Color32,
    pub shadow: Color32,
    /// Over the window while a dialog is open.
    pub veil: Color32,
}

pub const DARK: Tokens = Tokens {
    ground: Color32::from_rgb(0x12, 0x13, 0x16),
    panel: Color32::from_rgb(0x1A, 0x1C, 0x20),
    raised: Color32::from_rgb(0x24, 0x27, 0x2C),
    raised_hover: Color32::from_rgb(0x2D, 0x31, 0x37),
    line: Color32::from_rgb(0x2E, 0x32, 0x38),
    control: Color32::from_rgb(0x71, 0x77, 0x80),
    text: Color32::from_rgb(0xE8, 0xE9, 0xEB),
    quiet: Color32::from_rgb(0x9A, 0xA0, 0xA8),
    accent: Color32::from_rgb(0xF0, 0xA0, 0x4B),
    accent_hover: Color32::from_rgb(0xF6, 0xB3, 0x6B),
    on_accent: Color32::from_rgb(0x10, 0x11, 0x14),
    selection: Color32::from_rgb(0x53, 0x40, 0x2B),
    syntax_number: Color32::from_rgb(0xD2, 0xBE, 0x94),
    syntax_keyword: Color32::from_rgb(0xBF, 0xA6, 0xD8),
    syntax_network: Color32::from_rgb(0x94, 0xB8, 0xDC),
    syntax_choice: Color32::from_rgb(0x93, 0xC2, 0xA4),
    danger: Color32::from_rgb(0xE5, 0x60, 0x4D),
    good: Color32::from_rgb(0x58, 0xB2, 0x7A),
    shadow: Color32::from_black_alpha(110),
    veil: Color32::from_black_alpha(130),
};

pub const LIGHT: Tokens = Tokens {
    ground: Color32::from_rgb(0xE9, 0xEA, 0xED),
    panel: Color32::from_rgb(0xF6, 0xF7, 0xF8),
    raised: Color32::from_rgb(0xFF, 0xFF, 0xFF),
    raised_hover: Color32::from_rgb(0xEE, 0xF0, 0xF3),
    line: Color32::from_rgb(0xD8, 0xDB, 0xE0),
    control: Color32::from_rgb(0x86, 0x8D, 0x96),
    text: Color32::from_rgb(0x1A, 0x1C, 0x20),
    quiet: Color32::from_rgb(0x5D, 0x64, 0x6D),
    accent: Color32::from_rgb(0xC2, 0x6A, 0x12),
    accent_hover: Color32::from_rgb(0xD2, 0x7C, 0x26),
    on_accent: Color32::from_rgb(0x0C, 0x0D, 0x0F),
    selection: Color32::from_rgb(0xF6, 0xDF, 0xC4),
    syntax_number: Color32::from_rgb(0x7A, 0x5C, 0x1C),
    syntax_keyword: Color32::from_rgb(0x6C, 0x4B, 0x91),
    syntax_network: Color32::from_rgb(0x2B, 0x62, 0x94),
    syntax_choice: Color32::from_rgb(0x2A, 0x6E, 0x4B),
    danger: Color32::from_rgb(0xC4, 0x3D, 0x2B),
    good: Color32::from_rgb(0x2C, 0x8A, 0x54),
    shadow: Color32::from_black_alpha(40),
    veil: Color32::from_black_alpha(80),
};

/// The colours that stand now.
pub fn tokens(ui: &egui::Ui) -> &'static Tokens {
    if ui.visuals().dark_mode {
        &DARK
    } else {
        &LIGHT
    }
}

/// The face for titles and the one filled button.
pub fn semibold() -> FontFamily {
    FontFamily::Name("semibold".into())
}

/// The icon font.
pub fn icon_family() -> FontFamily {
    FontFamily::Name("icons".into())
}

/// Titles of sections and panels.
pub fn title(text: impl Into<String>) -> egui::RichText {
    egui::RichText::new(text).family(semibold()).size(BODY)
}

/// Hints and units.
pub fn hint(ui: &egui::Ui, text: impl Into<String>) -> egui::RichText {
    egui::RichText::new(text).size(HINT).color(tokens(ui).quiet)
}

/// The frame of the windows over the window.
pub fn dialog_frame(ui: &egui::Ui) -> egui::Frame {
    egui::Frame::popup(ui.style()).inner_margin(Margin::same(20))
}

/// Gives both themes to egui. Called once, and again when motion is switched.
pub fn install(ctx: &egui::Context, reduce_motion: bool) {
    for theme in [Theme::Dark, Theme::Light] {
        ctx.set_style_of(theme, style(theme, reduce_motion));
    }
}

/// Follows the person's choice.
pub fn choose(ctx: &egui::Context, choice: ThemeChoice) {
    ctx.set_theme(match choice {
        ThemeChoice::System => egui::ThemePreference::System,
        ThemeChoice::Dark => egui::ThemePreference::Dark,
        ThemeChoice::Light => egui::ThemePreference::Light,
    });
}

fn style(theme: Theme, reduce_motion: bool) -> Style {
    let tokens = match theme {
        Theme::Dark => &DARK,
        Theme::Light => &LIGHT,
    };
    let mut style = Style {
        visuals: visuals(theme, tokens),
        animation_time: if reduce_motion { 0.0 } else { MOTION_SECS },
        ..Style::default()
    };
    let proportional = |size| FontId::new(size, FontFamily::Proportional);
    style.text_styles = [
        (TextStyle::Small, proportional(HINT)),
        (TextStyle::Body, proportional(BODY)),
        (TextStyle::Button, proportional(BODY)),
        (TextStyle::Heading, FontId::new(LARGE, semibold())),
        (
            TextStyle::Monospace,
            FontId::new(HINT, FontFamily::Monospace),
        ),
    ]
    .into();
    style.drag_value_text_style = TextStyle::Body;
    let spacing = &mut style.spacing;
    spacing.item_spacing = Vec2::new(SPACE_S, SPACE_S);
    spacing.button_padding = Vec2::new(10.0, 5.0);
    spacing.interact_size = Vec2::new(ROW_HEIGHT, ROW_HEIGHT);
    spacing.menu_margin = Margin::same(6);
    spacing.window_margin = Margin::same(16);
    spacing.slider_rail_height = 4.0;
    spacing.icon_spacing = 6.0;
    spacing.combo_height = 320.0;
    spacing.tooltip_width = 320.0;
    spacing.scroll = scroll_bars();
    style.interaction.selectable_labels = false;
    style.interaction.tooltip_delay = 0.4;
    style
}

/// Thin bars without a rail, whose handle is seen on every ground: a mixture of it and the text.
fn scroll_bars() -> ScrollStyle {
    ScrollStyle {
        foreground_color: true,
        dormant_background_opacity: 0.0,
        active_background_opacity: 0.0,
        dormant_handle_opacity: SCROLL_HANDLE,
        active_handle_opacity: SCROLL_HANDLE,
        interact_handle_opacity: SCROLL_HANDLE_HELD,
        ..ScrollStyle::thin()
    }
}

fn visuals(theme: Theme, tokens: &Tokens) -> Visuals {
    let mut visuals = theme.default_visuals();
    let corner_radius = CornerRadius::same(CORNER);
    let widget = |fill: Color32, stroke: Stroke, text: Color32| WidgetVisuals {
        bg_fill: fill,
        weak_bg_fill: fill,
        bg_stroke: stroke,
        corner_radius,
        fg_stroke: Stroke::new(1.0, text),
        expansion: 0.0,
    };
    let line = Stroke::new(1.0, tokens.line);
    // A whole number: fields keep their size when they are focused.
    let focus = Stroke::new(2.0, tokens.accent);
    visuals.widgets = Widgets {
        noninteractive: widget(tokens.panel, line, tokens.text),
        inactive: widget(tokens.raised, line, tokens.text),
        hovered: widget(tokens.raised_hover, line, tokens.text),
        active: widget(tokens.raised_hover, focus, tokens.text),
        open: widget(tokens.raised_hover, line, tokens.text),
    };
    visuals.selection = Selection {
        bg_fill: tokens.selection,
        stroke: focus,
    };
    visuals.weak_text_color = Some(tokens.quiet);
    visuals.hyperlink_color = tokens.text;
    visuals.faint_bg_color = tokens.raised;
    visuals.extreme_bg_color = tokens.raised;
    visuals.text_edit_bg_color = Some(tokens.raised);
    visuals.code_bg_color = tokens.raised;
    visuals.warn_fg_color = tokens.accent;
    visuals.error_fg_color = tokens.danger;
    visuals.window_corner_radius = corner_radius;
    visuals.menu_corner_radius = corner_radius;
    visuals.window_fill = tokens.panel;
    visuals.window_stroke = line;
    visuals.panel_fill = tokens.panel;
    let shadow = Shadow {
        offset: [0, 8],
        blur: 24,
        spread: 0,
        color: tokens.shadow,
    };
    visuals.window_shadow = shadow;
    visuals.popup_shadow = shadow;
    visuals.text_cursor = TextCursorStyle {
        stroke: Stroke::new(1.5, tokens.text),
        ..visuals.text_cursor
    };
    visuals.slider_trailing_fill = true;
    visuals.handle_shape = HandleShape::Circle;
    visuals.indent_has_left_vline = false;
    visuals
}

#[cfg(test)]
mod tests {
    use super::*;

    /// WCAG 2.2 relative luminance.
    fn luminance(color: Color32) -> f64 {
        let channel = |byte: u8| {
            let value = f64::from(byte) / 255.0;
            if value <= 0.04045 {
                value / 12.92
            } else {
                ((value + 0.055) / 1.055).powf(2.4)
            }
        };
        0.2126 * channel(color.r()) + 0.7152 * channel(color.g()) + 0.0722 * channel(color.b())
    }

    fn contrast(a: Color32, b: Color32) -> f64 {
        let (a, b) = (luminance(a), luminance(b));
        (a.max(b) + 0.05) / (a.min(b) + 0.05)
    }

    #[test]
    fn text_is_readable_and_controls_are_visible_in_both_themes() {
        for (name, tokens) in [("dark", DARK), ("light", LIGHT)] {
            for (behind, ground) in [
                ("ground", tokens.ground),
                ("panel", tokens.panel),
                ("raised", tokens.raised),
                ("raised_hover", tokens.raised_hover),
            ] {
                for (what, color) in [("text", tokens.text), ("quiet", tokens.quiet)] {
                    let ratio = contrast(color, ground);
                    assert!(ratio >= 4.5, "{name}: {what} on {behind} is {ratio:.2}");
                }
            }
            for (what, color) in [
                ("accent", tokens.accent),
                ("control", tokens.control),
                ("danger", tokens.danger),
                ("good", tokens.good),
            ] {
                let ratio = contrast(color, tokens.panel);
                assert!(ratio >= 3.0, "{name}: {what} on panel is {ratio:.2}");
            }
            let scroll = scroll_bars();
            assert!(scroll.foreground_color);
            for share in [scroll.dormant_handle_opacity, scroll.active_handle_opacity] {
                let handle = tokens.panel.lerp_to_gamma(tokens.text, share);
                let ratio = contrast(handle, tokens.panel);
                assert!(ratio >= 3.0, "{name}: a scroll bar is {ratio:.2}");
            }
            for fill in [tokens.accent, tokens.accent_hover] {
                let ratio = contrast(tokens.on_accent, fill);
                assert!(ratio >= 4.5, "{name}: text on the accent is {ratio:.2}");
            }
            for color in [
                tokens.syntax_number,
                tokens.syntax_keyword,
                tokens.syntax_network,
                tokens.syntax_choice,
            ] {
                for ground in [tokens.raised, tokens.selection] {
                    let ratio = contrast(color, ground);
                    assert!(
                        ratio >= 4.5,
                        "{name}: {color:?} on {ground:?} is {ratio:.2}"
                    );
                }
            }
            let ratio = contrast(tokens.text, tokens.selection);
            assert!(ratio >= 4.5, "{name}: selected text is {ratio:.2}");
        }
    }
}
