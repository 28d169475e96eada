//! The few widgets of the window that egui lacks: a labelled slider row, buttons with an icon and a
//! word, a fold, the one filled button.

use std::ops::RangeInclusive;

use egui::{
    Align, Button, DragValue, Layout, Response, RichText, Slider, SliderClamping, Stroke, Ui, Vec2,
};

use super::command::{Actions, UiCommand};
use super::{icons, theme};

/// A number that a row edits: what stands there, what it may be, what it is by itself.
pub struct Number {
    pub value: f64,
    pub default: f64,
    /// Of the slider.
    pub range: RangeInclusive<f64>,
    /// Of what can be typed; at least the slider's.
    pub typed: RangeInclusive<f64>,
    pub step: f64,
    pub decimals: usize,
}

/// Label left, value right, the slider between. Returns the new value, or the default after a
/// double click.
pub fn slider_row(ui: &mut Ui, label: &str, tooltip: &str, number: Number) -> Option<Changed> {
    let mut slid = number
        .value
        .clamp(*number.range.start(), *number.range.end());
    let mut typed = number.value;
    let mut changed = None;
    ui.horizontal(|ui| {
        let name = row_label(ui, label, tooltip);
        let width = ui.available_width() - theme::VALUE_WIDTH - ui.spacing().item_spacing.x;
        let slider = ui
            .scope(|ui| {
                slider_look(ui, width);
                let slider = Slider::new(&mut slid, number.range.clone())
                    .step_by(number.step)
                    .max_decimals(number.decimals)
                    .clamping(SliderClamping::Edits)
                    .show_value(false);
                ui.add(slider)
            })
            .inner;
        let slider = slider.labelled_by(name.id).on_hover_text(tooltip);
        if slider.changed() {
            changed = Some(Changed::To(slid));
        }
        if slider.interact(egui::Sense::click()).double_clicked() {
            changed = Some(Changed::ToDefault);
        }
        let speed = number.step;
        let value = DragValue::new(&mut typed)
            .range(number.typed.clone())
            .speed(speed)
            .fixed_decimals(number.decimals);
        let value = ui.add_sized(Vec2::new(theme::VALUE_WIDTH, theme::ROW_HEIGHT), value);
        if value.labelled_by(name.id).changed() {
            changed = Some(Changed::To(typed));
        }
    });
    match changed {
        Some(Changed::To(value)) if (value - number.default).abs() < 1e-9 => {
            Some(Changed::ToDefault)
        }
        other => other,
    }
}

/// What happened to a number.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Changed {
    To(f64),
    ToDefault,
}

impl Changed {
    /// The value to keep: `None` follows the model again.
    pub fn said(self) -> Option<f64> {
        match self {
            Self::To(value) => Some(value),
            Self::ToDefault => None,
        }
    }
}

fn slider_look(ui: &mut Ui, width: f32) {
    let tokens = theme::tokens(ui);
    ui.spacing_mut().slider_width = width.max(24.0);
    ui.spacing_mut().interact_size.y = 20.0;
    let visuals = ui.visuals_mut();
    visuals.selection.bg_fill = tokens.accent;
    visuals.widgets.inactive.bg_fill = tokens.control;
    visuals.widgets.inactive.bg_stroke = Stroke::NONE;
    visuals.widgets.inactive.corner_radius = 2.into();
    visuals.widgets.inactive.fg_stroke = Stroke::NONE;
    for widget in [&mut visuals.widgets.hovered, &mut visuals.widgets.active] {
        widget.bg_fill = tokens.text;
        widget.fg_stroke = Stroke::new(2.0, tokens.accent);
    }
    // The handle takes `inactive.bg_fill` too; as light as text, so that it stands out of the rail.
    visuals.widgets.inactive.fg_stroke = Stroke::new(2.0, tokens.text);
}

/// The label of a row of the controls, on the left edge.
pub fn row_label(ui: &mut Ui, text: &str, tooltip: &str) -> Response {
    let size = Vec2::new(theme::LABEL_WIDTH, theme::ROW_HEIGHT);
    let layout = Layout::left_to_right(Align::Center);
    let label = ui.allocate_ui_with_layout(size, layout, |ui| {
        ui.set_min_size(size);
        ui.add(egui::Label::new(text).truncate())
    });
    if tooltip.is_empty() {
        label.inner
    } else {
        label.inner.on_hover_text(tooltip)
    }
}

/// A button with an icon and a word.
pub fn icon_button(ui: &mut Ui, icon: &'static str, text: &str) -> Response {
    ui.add(Button::new((icons::atom(icon), text)).frame_when_inactive(false))
}

/// A button with an icon alone; its word is the accessible name, its meaning the tooltip.
pub fn bare_icon(ui: &mut Ui, icon: &'static str, name: &str, tooltip: &str) -> Response {
    let button = Button::new(icons::atom(icon))
        .frame_when_inactive(false)
        .min_size(Vec2::splat(theme::ROW_HEIGHT));
    ui.add(button).on_hover_text(tooltip).accessible_name(name)
}

/// The same, as a switch.
pub fn icon_switch(
    ui: &mut Ui,
    on: bool,
    icon: &'static str,
    name: &str,
    tooltip: &str,
) -> Response {
    let tokens = theme::tokens(ui);
    let atom = if on {
        icons::colored(icon, tokens.accent)
    } else {
        icons::colored(icon, tokens.quiet)
    };
    let mut button = Button::new(atom)
        .min_size(Vec2::splat(theme::ROW_HEIGHT))
        .selected(on);
    if !on {
        button = button.frame_when_inactive(false);
    }
    ui.add(button).on_hover_text(tooltip).accessible_name(name)
}

/// A button for a command: its word, its icon, its tooltip with the key.
pub fn command_button(
    ui: &mut Ui,
    icon: &'static str,
    command: UiCommand,
    enabled: bool,
    actions: &mut Actions,
) -> Response {
    let response = ui
        .add_enabled_ui(enabled, |ui| icon_button(ui, icon, command.info().text))
        .inner
        .on_hover_text(command.hover(ui.ctx()))
        .on_disabled_hover_text(command.info().tooltip);
    if response.clicked() {
        actions.ui(command);
    }
    response
}

/// The one filled button. `hint` stands quietly at its right end.
pub fn filled_button(ui: &mut Ui, text: &str, hint: &str, size: Vec2) -> Response {
    ui.scope(|ui| {
        let tokens = theme::tokens(ui);
        let visuals = ui.visuals_mut();
        for (widget, fill) in [
            (&mut visuals.widgets.inactive, tokens.accent),
            (&mut visuals.widgets.hovered, tokens.accent_hover),
            (&mut visuals.widgets.active, tokens.accent_hover),
        ] {
            widget.weak_bg_fill = fill;
            widget.bg_stroke = Stroke::NONE;
            widget.fg_stroke.color = tokens.on_accent;
        }
        visuals.widgets.active.bg_stroke = Stroke::new(1.5, tokens.text);
        let label = RichText::new(text).family(theme::semibold()).size(14.0);
        let button = Button::new(label).min_size(size);
        let response = ui.add(button);
        if !hint.is_empty() && size.x > 150.0 {
            let at = response.rect.right_center() - Vec2::new(theme::SPACE_M, 0.0);
            let font = egui::FontId::proportional(theme::HINT);
            ui.painter()
                .text(at, egui::Align2::RIGHT_CENTER, hint, font, tokens.on_accent);
        }
        response
    })
    .inner
}

/// A section's title that folds what is below it. Returns whether it stands open.
pub fn fold(ui: &mut Ui, open: &mut bool, text: &str) -> bool {
    let icon = if *open {
        icons::CARET_DOWN
    } else {
        icons::CARET_RIGHT
    };
    let button = Button::new((
        icons::colored(icon, theme::tokens(ui).quiet),
        text,
        egui::Atom::grow(),
    ))
    .frame_when_inactive(false)
    .min_size(Vec2::new(ui.available_width(), theme::ROW_HEIGHT));
    let response = ui
        .scope(|ui| {
            ui.spacing_mut().button_padding.x = 2.0;
            ui.add(button)
        })
        .inner;
    ui.ctx()
        .accesskit_node_builder(response.id, |node| node.set_expanded(*open));
    if response.clicked() {
        *open = !*open;
    }
    *open
}

/// A bar that is `fraction` full.
pub fn bar(ui: &mut Ui, fraction: f32, width: f32, height: f32, name: &str) -> Response {
    let (rect, response) = ui.allocate_exact_size(Vec2::new(width, height), egui::Sense::hover());
    let tokens = theme::tokens(ui);
    let fraction = fraction.clamp(0.0, 1.0);
    let radius = height / 2.0;
    ui.painter().rect_filled(rect, radius, tokens.line);
    let mut filled = rect;
    filled.set_width((rect.width() * fraction).max(if fraction > 0.0 { height } else { 0.0 }));
    ui.painter().rect_filled(filled, radius, tokens.accent);
    response.widget_info(|| {
        let mut info =
            egui::WidgetInfo::labeled(egui::accesskit::Role::ProgressIndicator, true, name);
        info.value = Some(f64::from(fraction));
        info
    });
    response
}

/// A switch in words: a box to tick, with its label on the left edge of the controls.
pub fn tick_row(ui: &mut Ui, on: &mut bool, text: &str, tooltip: &str) -> Response {
    ui.checkbox(on, text).on_hover_text(tooltip)
}
