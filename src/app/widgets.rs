//! The few widgets of the window that egui lacks: a labelled slider row, buttons with an icon and a
//! word, a fold, the one filled button.

use std::ops::RangeInclusive;

use egui::{
    Align, Button, ComboBox, DragValue, Layout, Response, RichText, Slider, SliderClamping, Stroke,
    Ui, Vec2,
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
    numbered_row(ui, label, tooltip, &number, |_| false)
}

/// The same for what hardly anybody touches: what was changed has a button back beside its label.
pub fn fine_row(
    ui: &mut Ui,
    label: &str,
    tooltip: &str,
    number: Number,
    said: bool,
) -> Option<Changed> {
    numbered_row(ui, label, tooltip, &number, |ui| {
        reset_slot(ui, label, said)
    })
}

/// `reset` shows what stands between label and slider, and whether it was pressed.
fn numbered_row(
    ui: &mut Ui,
    label: &str,
    tooltip: &str,
    number: &Number,
    reset: impl FnOnce(&mut Ui) -> bool,
) -> Option<Changed> {
    let mut slid = number
        .value
        .clamp(*number.range.start(), *number.range.end());
    let mut typed = number.value;
    let mut changed = None;
    ui.horizontal(|ui| {
        let name = row_label(ui, label, tooltip);
        if reset(ui) {
            changed = Some(Changed::ToDefault);
        }
        let width = ui.available_width() - theme::VALUE_WIDTH - ui.spacing().item_spacing.x;
        let slider = slider_ui(ui, &mut slid, number, width);
        let slider = slider.labelled_by(name.id).on_hover_text(tooltip);
        if slider.changed() {
            changed = Some(Changed::To(slid));
        }
        if slider.interact(egui::Sense::click()).double_clicked() {
            changed = Some(Changed::ToDefault);
        }
        let value = DragValue::new(&mut typed)
            .range(number.typed.clone())
            .speed(number.step)
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

/// A slider with its value over the whole width, under a title of its own. `name` is for screen readers.
pub fn bare_slider(ui: &mut Ui, name: &str, tooltip: &str, number: &Number) -> Option<Changed> {
    let mut slid = number
        .value
        .clamp(*number.range.start(), *number.range.end());
    let mut typed = number.value;
    let mut changed = None;
    ui.horizontal(|ui| {
        let width = ui.available_width() - theme::VALUE_WIDTH - ui.spacing().item_spacing.x;
        let slider = slider_ui(ui, &mut slid, number, width).on_hover_text(tooltip);
        if slider.changed() {
            changed = Some(Changed::To(slid));
        }
        if slider.interact(egui::Sense::click()).double_clicked() {
            changed = Some(Changed::ToDefault);
        }
        slider.accessible_name(name);
        let value = DragValue::new(&mut typed)
            .range(number.typed.clone())
            .speed(number.step)
            .fixed_decimals(number.decimals);
        let value = ui.add_sized(Vec2::new(theme::VALUE_WIDTH, theme::ROW_HEIGHT), value);
        if value.accessible_name(name).changed() {
            changed = Some(Changed::To(typed));
        }
    });
    changed
}

/// Room beside a label for the button back to the default, which is there where something was said.
pub fn reset_slot(ui: &mut Ui, label: &str, said: bool) -> bool {
    let size = Vec2::new(theme::RESET_WIDTH, theme::ROW_HEIGHT);
    let layout = Layout::left_to_right(Align::Center);
    let slot = ui.allocate_ui_with_layout(size, layout, |ui| {
        ui.set_min_size(size);
        let name = format!("Reset {}", label.to_lowercase());
        said && small_icon(ui, icons::REUSE, &name, "Back to the default").clicked()
    });
    slot.inner
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

/// egui's slider with a rail of our own: its handle and its rail would have one colour.
fn slider_ui(ui: &mut Ui, value: &mut f64, number: &Number, width: f32) -> Response {
    let tokens = theme::tokens(ui);
    let rail = ui.painter().add(egui::Shape::Noop);
    let response = ui
        .scope(|ui| {
            let spacing = ui.spacing_mut();
            spacing.slider_width = width.max(24.0);
            spacing.slider_rail_height = 0.0;
            spacing.interact_size.y = theme::HANDLE * 2.5 / 2.0;
            let widgets = &mut ui.visuals_mut().widgets;
            widgets.inactive.bg_fill = tokens.text;
            widgets.hovered.bg_fill = tokens.text;
            widgets.active.bg_fill = tokens.text;
            widgets.inactive.fg_stroke = Stroke::new(2.0, tokens.panel);
            widgets.hovered.fg_stroke = Stroke::new(2.0, tokens.accent);
            widgets.active.fg_stroke = Stroke::new(2.0, tokens.accent);
            let slider = Slider::new(value, number.range.clone())
                .step_by(number.step)
                .max_decimals(number.decimals)
                .clamping(SliderClamping::Edits)
                .trailing_fill(false)
                .show_value(false);
            ui.add(slider)
        })
        .inner;
    let (start, end) = (*number.range.start(), *number.range.end());
    let share = ((*value - start) / (end - start)).clamp(0.0, 1.0) as f32;
    let area = response.rect;
    let whole = egui::Rect::from_center_size(area.center(), Vec2::new(area.width(), theme::RAIL));
    let radius = area.height() / 2.5;
    let mut filled = whole;
    filled.max.x = egui::lerp(area.left() + radius..=area.right() - radius, share);
    let shapes = vec![
        egui::Shape::rect_filled(whole, theme::RAIL / 2.0, tokens.control),
        egui::Shape::rect_filled(filled, theme::RAIL / 2.0, tokens.accent),
    ];
    ui.painter().set(rail, egui::Shape::Vec(shapes));
    response
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
    let button = Button::new(icons::atom(icon)).frame_when_inactive(false);
    square(ui, button)
        .on_hover_text(tooltip)
        .accessible_name(name)
}

/// The same, smaller and quiet.
pub fn small_icon(ui: &mut Ui, icon: &'static str, name: &str, tooltip: &str) -> Response {
    let quiet = theme::tokens(ui).quiet;
    ui.scope(|ui| {
        ui.spacing_mut().button_padding = Vec2::splat((theme::RESET_WIDTH - theme::ICON) / 2.0);
        ui.spacing_mut().interact_size.y = theme::RESET_WIDTH;
        ui.add(Button::new(icons::colored(icon, quiet)).frame_when_inactive(false))
    })
    .inner
    .on_hover_text(tooltip)
    .accessible_name(name)
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
    let color = if on { tokens.text } else { tokens.quiet };
    let mut button = Button::new(icons::colored(icon, color)).selected(on);
    button = match on {
        true => button.fill(tokens.raised_hover),
        false => button.frame_when_inactive(false),
    };
    square(ui, button)
        .on_hover_text(tooltip)
        .accessible_name(name)
}

/// A button as wide as it is high.
fn square(ui: &mut Ui, button: Button<'_>) -> Response {
    ui.scope(|ui| {
        ui.spacing_mut().button_padding = Vec2::splat((theme::ROW_HEIGHT - theme::ICON) / 2.0);
        ui.add(button)
    })
    .inner
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

/// The same without its word, which is the accessible name.
pub fn command_icon(
    ui: &mut Ui,
    icon: &'static str,
    command: UiCommand,
    enabled: bool,
    actions: &mut Actions,
) -> Response {
    let info = command.info();
    let hover = format!("{}: {}", info.text, command.hover(ui.ctx()));
    let response = ui
        .add_enabled_ui(enabled, |ui| bare_icon(ui, icon, info.text, &hover))
        .inner;
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
    told_fold(ui, open, text, "")
}

/// The same; `inside` says quietly what is in it while it is folded.
pub fn told_fold(ui: &mut Ui, open: &mut bool, text: &str, inside: &str) -> bool {
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
    if !*open && !inside.is_empty() {
        inside_ui(ui, response.rect, text, inside);
    }
    ui.ctx()
        .accesskit_node_builder(response.id, |node| node.set_expanded(*open));
    if response.clicked() {
        *open = !*open;
    }
    *open
}

/// At the right end of a folded section.
fn inside_ui(ui: &mut Ui, fold: egui::Rect, text: &str, inside: &str) {
    let title = ui.painter().layout_no_wrap(
        text.to_owned(),
        egui::FontId::proportional(theme::BODY),
        theme::tokens(ui).quiet,
    );
    let mut rest = fold;
    rest.min.x += title.size().x + theme::ICON + 2.0 * theme::SPACE_M;
    rest.max.x -= theme::SPACE_XS;
    let layout = Layout::right_to_left(Align::Center);
    ui.scope_builder(egui::UiBuilder::new().max_rect(rest).layout(layout), |ui| {
        let label = egui::Label::new(theme::hint(ui, inside)).truncate();
        ui.add(label.sense(egui::Sense::empty()));
    });
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

/// A box to tick, with its words.
pub fn tick_row(ui: &mut Ui, on: &mut bool, text: &str, tooltip: &str) -> Response {
    let tokens = theme::tokens(ui);
    ui.scope(|ui| {
        let widgets = &mut ui.visuals_mut().widgets;
        widgets.inactive.bg_stroke = Stroke::new(1.0, tokens.control);
        widgets.hovered.bg_stroke = Stroke::new(1.0, tokens.text);
        ui.checkbox(on, text)
    })
    .inner
    .on_hover_text(tooltip)
}

/// A menu of values: `None` where nothing else was chosen. Its name is for screen readers.
pub fn combo<T: PartialEq + Copy>(
    ui: &mut Ui,
    name: &str,
    chosen: T,
    rows: &[(T, &str, &str)],
) -> Option<T> {
    let row = rows.iter().find(|(value, _, _)| *value == chosen);
    let (text, tooltip) = row.map_or(("", ""), |(_, text, tooltip)| (*text, *tooltip));
    let mut picked = None;
    let combo = ComboBox::from_id_salt(name)
        .selected_text(text)
        .width(ui.available_width())
        .truncate()
        .icon(|ui, rect, visuals, _| {
            let color = visuals.fg_stroke.color;
            icons::paint(
                ui.painter(),
                rect.center(),
                icons::CARET_DOWN,
                theme::HINT,
                color,
            );
        })
        .show_ui(ui, |ui| {
            for (value, text, tooltip) in rows {
                let mut entry = ui.selectable_label(*value == chosen, *text);
                if !tooltip.is_empty() {
                    entry = entry.on_hover_text(*tooltip);
                }
                if entry.clicked() && *value != chosen {
                    picked = Some(*value);
                }
            }
        });
    let response = combo.response.accessible_name(name);
    if !tooltip.is_empty() {
        response.on_hover_text(tooltip);
    }
    picked
}
