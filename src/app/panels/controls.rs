//! The left panel: prompt, sliders, size, seed, sampler, Generate.

use egui::{Button, DragValue, ScrollArea, Ui, Vec2};

use super::fine::tuning_ui;
use super::loras::loras_ui;
use super::models::{refiner_ui, unet_ui, vae_ui};
use super::prompt::{notes_ui, prompt_ui};
use super::{fine, noise, xl};
use crate::app::command::{Actions, UiCommand};
use crate::app::state::{State, size_presets};
use crate::app::textures::Textures;
use crate::app::widgets::{Number, icon_switch, row_label, slider_row, told_fold};
use crate::app::{icons, theme, widgets};
use crate::request::{SAMPLERS, SCHEDULES, Upscale, new_seed};

/// Pictures of one job that can be typed.
const MAX_IMAGES: f64 = 100.0;
/// Longest side that can be typed, in pixels.
const MAX_SIDE: u32 = 4096;
/// Room for the sign between width and height.
const TIMES_WIDTH: f32 = 12.0;
/// Largest seed that can be typed: what a float holds exactly. Larger ones come from pictures.
const MAX_TYPED_SEED: u64 = 1 << 53;

pub fn controls_ui(ui: &mut Ui, state: &mut State, textures: &mut Textures, actions: &mut Actions) {
    // What there is to say about the prompts stands where nothing moves below a hand.
    egui::Panel::bottom("below the controls")
        .frame(egui::Frame::NONE)
        .resizable(false)
        .show_separator_line(false)
        .show(ui, |ui| {
            notes_ui(ui, state);
            generate_ui(ui, state, actions);
        });
    ScrollArea::vertical()
        .auto_shrink([false, false])
        .show(ui, |ui| {
            prompt_ui(ui, state, actions);
            ui.add_space(theme::SPACE_S);
            ui.spacing_mut().item_spacing.y = theme::SPACE_XS;
            numbers_ui(ui, state);
            size_ui(ui, state);
            images_ui(ui, state);
            seed_ui(ui, state);
            ui.add_space(theme::SPACE_S);
            sampler_ui(ui, state);
            loras_ui(ui, state, textures, actions);
            advanced_ui(ui, state, textures, actions);
        });
}

fn numbers_ui(ui: &mut Ui, state: &mut State) {
    let defaults = state.defaults();
    let (steps, guidance) = (f64::from(defaults.steps), defaults.guidance_scale);
    let request = &mut state.settings.request;
    let number = Number {
        value: request.steps.map_or(steps, f64::from),
        default: steps,
        range: 1.0..=50.0,
        typed: 1.0..=1000.0,
        step: 1.0,
        decimals: 0,
    };
    let tooltip = "Steps: how often the picture is improved. More takes longer; beyond a point little changes.";
    if let Some(changed) = slider_row(ui, "Steps", tooltip, number) {
        request.steps = changed.said().map(|value| value.round() as u32);
    }
    let number = Number {
        value: request.guidance_scale.unwrap_or(guidance),
        default: guidance,
        range: 1.0..=15.0,
        typed: 0.0..=100.0,
        step: 0.1,
        decimals: 1,
    };
    let tooltip =
        "Guidance: how closely the picture follows the prompt (CFG scale). 1 turns it off.";
    if let Some(changed) = slider_row(ui, "Guidance", tooltip, number) {
        request.guidance_scale = changed.said().map(|value| (value * 10.0).round() / 10.0);
    }
}

fn size_ui(ui: &mut Ui, state: &mut State) {
    let factor = state.card().map_or(8, |card| card.latent_factor).max(1);
    let defaults = state.defaults();
    let (default_width, default_height) = (defaults.width_px, defaults.height_px);
    let presets = size_presets(defaults, factor);
    let request = &mut state.settings.request;
    let was = (
        request.width_px.unwrap_or(default_width),
        request.height_px.unwrap_or(default_height),
    );
    let (mut width, mut height) = was;
    ui.horizontal(|ui| {
        row_label(ui, "Size", "Of the drawing, in pixels (width × height)");
        ui.spacing_mut().item_spacing.x = theme::SPACE_XS;
        let field =
            ((ui.available_width() - 2.0 * theme::ROW_HEIGHT - 12.0 - 4.0 * theme::SPACE_XS) / 2.0)
                .max(40.0);
        side_field(ui, &mut width, factor, field, "Width");
        let times = egui::Label::new(theme::hint(ui, "×"));
        ui.add_sized(Vec2::new(TIMES_WIDTH, theme::ROW_HEIGHT), times);
        side_field(ui, &mut height, factor, field, "Height");
        if widgets::bare_icon(
            ui,
            icons::SWAP,
            "Swap width and height",
            "Swap width and height",
        )
        .clicked()
        {
            (width, height) = (height, width);
        }
        let shapes =
            widgets::bare_icon(ui, icons::CARET_DOWN, "Sizes", "Sizes that suit this model");
        egui::Popup::menu(&shapes)
            .accessible_name("Sizes")
            .show(|ui| {
                for (name, preset_width, preset_height) in presets {
                    let text = format!("{preset_width} × {preset_height}");
                    if ui.add(Button::new(name).shortcut_text(text)).clicked() {
                        (width, height) = (preset_width, preset_height);
                    }
                }
            });
    });
    if (width, height) != was {
        let said = (width, height) != (default_width, default_height);
        request.width_px = said.then_some(width);
        request.height_px = said.then_some(height);
    }
}

fn side_field(ui: &mut Ui, side: &mut u32, factor: u32, width: f32, name: &str) {
    let field = DragValue::new(side)
        .range(factor..=MAX_SIDE)
        .speed(f64::from(factor))
        .update_while_editing(false);
    let response = ui.add_sized(Vec2::new(width, theme::ROW_HEIGHT), field);
    let response = response
        .on_hover_text(format!("{name} in pixels; a multiple of {factor}"))
        .accessible_name(name);
    if response.changed() {
        *side = ((*side + factor / 2) / factor).max(1) * factor;
    }
}

fn images_ui(ui: &mut Ui, state: &mut State) {
    let request = &mut state.settings.request;
    let number = Number {
        value: f64::from(request.count.unwrap_or(1)),
        default: 1.0,
        range: 1.0..=9.0,
        typed: 1.0..=MAX_IMAGES,
        step: 1.0,
        decimals: 0,
    };
    let tooltip = "How many pictures, each with a seed of its own";
    if let Some(changed) = slider_row(ui, "Images", tooltip, number) {
        request.count = changed.said().map(|value| value.round() as u32);
    }
}

fn seed_ui(ui: &mut Ui, state: &mut State) {
    let settings = &mut state.settings;
    ui.horizontal(|ui| {
        let tooltip =
            "The number a picture begins with: the same seed and settings draw the same picture";
        let label = row_label(ui, "Seed", tooltip);
        ui.spacing_mut().item_spacing.x = theme::SPACE_XS;
        let width = ui.available_width() - 2.0 * (theme::ROW_HEIGHT + theme::SPACE_XS);
        let mut seed = settings.request.seed.unwrap_or_default();
        // The number itself: a float, as the field counts, would not hold every seed.
        let (blank, shown) = (settings.request.seed.is_none(), seed);
        let field = DragValue::new(&mut seed)
            .speed(1.0)
            .update_while_editing(false)
            .range(0..=MAX_TYPED_SEED)
            .clamp_existing_to_range(false)
            .custom_formatter(move |_, _| {
                if blank {
                    "random".to_owned()
                } else {
                    shown.to_string()
                }
            })
            .custom_parser(|text| text.trim().parse::<u64>().ok().map(|seed| seed as f64));
        let field = ui.add_sized(Vec2::new(width.max(40.0), theme::ROW_HEIGHT), field);
        if field.labelled_by(label.id).changed() {
            settings.request.seed = Some(seed);
            settings.seed_locked = true;
        }
        let dice = icon_switch(
            ui,
            !settings.seed_locked,
            icons::DICE,
            "New seed each time",
            "Draw a new seed for every picture",
        );
        if dice.clicked() {
            settings.seed_locked = false;
            settings.request.seed = None;
        }
        let icon = if settings.seed_locked {
            icons::LOCK
        } else {
            icons::LOCK_OPEN
        };
        let lock = icon_switch(
            ui,
            settings.seed_locked,
            icon,
            "Keep this seed",
            "Keep this seed for the next pictures",
        );
        if lock.clicked() {
            settings.seed_locked = !settings.seed_locked;
            if settings.seed_locked && settings.request.seed.is_none() {
                settings.request.seed = Some(new_seed());
            }
        }
    });
}

fn sampler_ui(ui: &mut Ui, state: &mut State) {
    let defaults = state.defaults();
    let (sampler, schedule) = (defaults.sampler, defaults.schedule);
    let request = &state.settings.request;
    let inside = request.sampler.unwrap_or(sampler).info().label;
    let open = &mut state.settings.layout.sampler_open;
    if !told_fold(ui, open, "Sampler", inside) {
        return;
    }
    let request = &mut state.settings.request;
    ui.horizontal(|ui| {
        row_label(
            ui,
            "Method",
            "Sampler: the algorithm that walks from noise to picture",
        );
        let rows: Vec<_> = SAMPLERS
            .iter()
            .map(|info| (info.id, info.label, info.tooltip))
            .collect();
        let chosen = request.sampler.unwrap_or(sampler);
        if let Some(id) = widgets::combo(ui, "Sampling method", chosen, &rows) {
            request.sampler = (id != sampler).then_some(id);
        }
    });
    ui.horizontal(|ui| {
        row_label(
            ui,
            "Schedule",
            "How the steps are spread over the noise levels",
        );
        let rows: Vec<_> = SCHEDULES
            .iter()
            .map(|info| (info.id, info.label, info.tooltip))
            .collect();
        let chosen = request.schedule.unwrap_or(schedule);
        if let Some(id) = widgets::combo(ui, "Noise schedule", chosen, &rows) {
            request.schedule = (id != schedule).then_some(id);
        }
    });
    enlarge_ui(ui, state);
    tuning_ui(ui, state);
}

/// What few people need: the model's parts, guidance beyond its scale, noise beyond its seed.
fn advanced_ui(ui: &mut Ui, state: &mut State, textures: &mut Textures, actions: &mut Actions) {
    let request = &state.settings.request;
    let inside = match fine::changed_rows(request)
        + noise::changed_rows(request)
        + xl::changed_rows(request)
    {
        0 => String::new(),
        changed => format!("{changed} changed"),
    };
    let open = &mut state.settings.layout.advanced_open;
    if !told_fold(ui, open, "Advanced", &inside) {
        return;
    }
    unet_ui(ui, state, textures, actions);
    vae_ui(ui, state, textures, actions);
    refiner_ui(ui, state, textures, actions);
    xl::hints_ui(ui, state);
    let request = &mut state.settings.request;
    fine::model_rows_ui(ui, request);
    fine::emphasis_ui(ui, request);
    noise::interval_ui(ui, request);
    noise::seeding_ui(ui, &mut request.seeding);
}

fn enlarge_ui(ui: &mut Ui, state: &mut State) {
    let upscaler = state.defaults().upscaler.is_some();
    let request = &mut state.settings.request;
    if upscaler {
        let mut on = request.upscale != Upscale::None;
        let tooltip =
            "Make finished pictures four times as wide and high, with crisp edges (upscaler)";
        if widgets::tick_row(ui, &mut on, "Enlarge finished pictures", tooltip).changed() {
            request.upscale = if on { Upscale::Auto } else { Upscale::None };
        }
    }
}

/// Generate; while something is drawn, Add to queue and Cancel.
pub fn generate_ui(ui: &mut Ui, state: &State, actions: &mut Actions) {
    ui.add_space(theme::SPACE_S);
    let enabled = !state.no_model();
    let height = theme::GENERATE_HEIGHT;
    let key = UiCommand::Generate
        .info()
        .shortcut
        .as_ref()
        .map(|shortcut| ui.ctx().format_shortcut(shortcut));
    let hover = UiCommand::Generate.hover(ui.ctx());
    ui.horizontal(|ui| {
        let full = ui.available_width();
        let (text, width) = if state.busy() {
            ("Add to queue", full - 96.0)
        } else {
            ("Generate", full)
        };
        let key = if state.busy() {
            String::new()
        } else {
            key.unwrap_or_default()
        };
        let button = ui.add_enabled_ui(enabled, |ui| {
            widgets::filled_button(ui, text, &key, Vec2::new(width, height))
        });
        if button.inner.on_hover_text(hover).clicked() {
            actions.ui(UiCommand::Generate);
        }
        if state.busy() {
            let cancel = Button::new((icons::atom(icons::CANCEL), UiCommand::Cancel.info().text));
            let cancel = ui.add(cancel.min_size(Vec2::new(ui.available_width(), height)));
            if cancel
                .on_hover_text(UiCommand::Cancel.hover(ui.ctx()))
                .clicked()
            {
                actions.ui(UiCommand::Cancel);
            }
        }
    });
}
