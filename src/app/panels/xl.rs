//! What Stable Diffusion XL is told beside the prompt: sizes, what was cut away, how beautiful the picture
//! is. Shown for its models only, or where a picture's settings brought some.

use egui::{DragValue, Ui, Vec2};

use super::models::XL;
use crate::app::state::State;
use crate::app::theme;
use crate::app::widgets::{Number, fine_row, reset_slot, row_label};
use crate::request::{GenerationRequest, PictureHints};

/// Longest side that can be typed, in pixels.
const MAX_SIDE: u32 = 16_384;
/// What the refiner is told where nobody says: diffusers' defaults.
const SCORE: f64 = 6.0;
const NEGATIVE_SCORE: f64 = 2.5;

/// The rows of the hints.
pub fn hints_ui(ui: &mut Ui, state: &mut State) {
    let family = state.card().map(|card| card.family.clone());
    let family = family.unwrap_or_default();
    let request = &state.settings.request;
    let refined = request.refiner.is_some() || family.contains("refiner");
    let hints = request.hints;
    if !family.starts_with(XL) && hints.is_usual() {
        return;
    }
    let defaults = state.defaults();
    let drawn = [
        request.width_px.unwrap_or(defaults.width_px),
        request.height_px.unwrap_or(defaults.height_px),
    ];
    let hints = &mut state.settings.request.hints;
    let rows = [
        Pair {
            label: "Original",
            tooltip: "Original size: how large the picture is said to have been once. Small ones come out blurred.",
            names: ["Original width", "Original height"],
            between: "×",
            usual: drawn,
            least: 1,
        },
        Pair {
            label: "Cropped",
            tooltip: "Crop: how many pixels are said to be cut off on the left and at the top. 0 keeps things whole.",
            names: ["Cropped on the left", "Cropped at the top"],
            between: "·",
            usual: [0, 0],
            least: 0,
        },
        Pair {
            label: "Target",
            tooltip: "Target size: how large the picture is said to be",
            names: ["Target width", "Target height"],
            between: "×",
            usual: drawn,
            least: 1,
        },
    ];
    let places = [
        &mut hints.original_size,
        &mut hints.crop,
        &mut hints.target_size,
    ];
    for (row, place) in rows.iter().zip(places) {
        pair_ui(ui, row, place);
    }
    if refined || hints.aesthetic_score.is_some() || hints.negative_aesthetic_score.is_some() {
        scores_ui(ui, hints);
    }
}

/// A row of two numbers.
struct Pair {
    label: &'static str,
    tooltip: &'static str,
    names: [&'static str; 2],
    between: &'static str,
    /// What counts where nothing is said.
    usual: [u32; 2],
    least: u32,
}

fn pair_ui(ui: &mut Ui, row: &Pair, place: &mut Option<[u32; 2]>) {
    ui.horizontal(|ui| {
        row_label(ui, row.label, row.tooltip);
        if reset_slot(ui, row.label, place.is_some()) {
            *place = None;
        }
        let was = place.unwrap_or(row.usual);
        let mut now = was;
        ui.spacing_mut().item_spacing.x = theme::SPACE_XS;
        let width = (ui.available_width() - theme::TO_WIDTH - 2.0 * theme::SPACE_XS) / 2.0;
        for (index, (number, name)) in now.iter_mut().zip(row.names).enumerate() {
            if index > 0 {
                let between = egui::Label::new(theme::hint(ui, row.between));
                ui.add_sized(Vec2::new(theme::TO_WIDTH, theme::ROW_HEIGHT), between);
            }
            let field = DragValue::new(number)
                .range(row.least..=MAX_SIDE)
                .speed(8.0)
                .update_while_editing(false);
            ui.add_sized(Vec2::new(width, theme::ROW_HEIGHT), field)
                .on_hover_text(row.tooltip)
                .accessible_name(name);
        }
        if now != was {
            *place = Some(now);
        }
    });
}

/// Of the refiner only.
fn scores_ui(ui: &mut Ui, hints: &mut PictureHints) {
    let rows = [
        (
            "Score",
            "Aesthetic score: how beautiful the refiner is told that the picture is, 0 to 10",
            SCORE,
            &mut hints.aesthetic_score,
        ),
        (
            "Neg. score",
            "The aesthetic score of what the negative prompt draws, which the picture is led away from",
            NEGATIVE_SCORE,
            &mut hints.negative_aesthetic_score,
        ),
    ];
    for (label, tooltip, default, place) in rows {
        let number = Number {
            value: place.unwrap_or(default),
            default,
            range: 0.0..=10.0,
            typed: 0.0..=10.0,
            step: 0.1,
            decimals: 1,
        };
        if let Some(changed) = fine_row(ui, label, tooltip, number, place.is_some()) {
            *place = changed.said().map(|value| (value * 10.0).round() / 10.0);
        }
    }
}

/// How many of these rows hold something that somebody said.
pub fn changed_rows(request: &GenerationRequest) -> usize {
    let hints = &request.hints;
    [
        hints.original_size.is_some(),
        hints.crop.is_some(),
        hints.target_size.is_some(),
        hints.aesthetic_score.is_some(),
        hints.negative_aesthetic_score.is_some(),
    ]
    .into_iter()
    .filter(|said| *said)
    .count()
}
