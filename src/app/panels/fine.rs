//! What hardly anybody needs to touch: the fine settings of sampler and schedule, of which only those
//! are shown that count, and those of the model's parts.

use egui::{DragValue, Ui, Vec2};

use crate::app::state::State;
use crate::app::theme;
use crate::app::widgets::{Number, combo, fine_row, fold, reset_slot, row_label};
use crate::request::{
    EMPHASES, Emphasis, GenerationRequest, KNOBS, Knob, KnobInfo, SamplerId, ScheduleId, Tuning,
};

/// The text encoder's layers that a slider reaches, and those that can be typed.
const CLIP_SKIP: (f64, f64) = (4.0, 32.0);

/// Eta, churn and their like, below the sampler.
pub fn tuning_ui(ui: &mut Ui, state: &mut State) {
    let defaults = state.defaults();
    let request = &state.settings.request;
    let sampler = request.sampler.unwrap_or(defaults.sampler);
    let schedule = request.schedule.unwrap_or(defaults.schedule);
    let tuning = request.tuning;
    let counting = || {
        let counts = |info: &&KnobInfo| info.knob.counts(sampler, schedule, &tuning);
        KNOBS.iter().filter(counts)
    };
    if counting().next().is_none() {
        return;
    }
    if !fold(ui, &mut state.settings.layout.tuning_open, "Fine settings") {
        return;
    }
    for info in counting() {
        knob_ui(
            ui,
            info,
            sampler,
            schedule,
            &mut state.settings.request.tuning,
        );
    }
}

fn knob_ui(
    ui: &mut Ui,
    info: &KnobInfo,
    sampler: SamplerId,
    schedule: ScheduleId,
    tuning: &mut Tuning,
) {
    let said = info.knob.said(tuning);
    let Some(usual) = info.knob.usual(sampler, schedule) else {
        return sigma_ui(ui, info, info.knob.place(tuning));
    };
    let decimals = if info.knob == Knob::SNoise { 3 } else { 2 };
    let number = Number {
        value: said.unwrap_or(usual),
        default: usual,
        range: info.slider.0..=info.slider.1,
        typed: info.least..=info.most,
        step: if info.slider.1 > 2.0 { 0.1 } else { 0.01 },
        decimals,
    };
    if let Some(changed) = fine_row(ui, info.label, info.tooltip, number, said.is_some()) {
        *info.knob.place(tuning) = changed.said().map(rounded);
    }
}

/// A number that follows from the model until somebody says another.
fn sigma_ui(ui: &mut Ui, info: &KnobInfo, place: &mut Option<f64>) {
    ui.horizontal(|ui| {
        let label = row_label(ui, info.label, info.tooltip);
        if reset_slot(ui, info.label, place.is_some()) {
            *place = None;
        }
        let own = place.is_none();
        // Where a hand begins to drag: the ends of Stable Diffusion's own range.
        let usual = if info.knob == Knob::SigmaMin {
            0.03
        } else {
            14.6
        };
        let mut value = place.unwrap_or(usual);
        let field = DragValue::new(&mut value)
            .range(info.least..=info.most)
            .speed(usual / 100.0)
            .update_while_editing(false)
            .custom_formatter(move |value, _| match own {
                true => "as the model has it".to_owned(),
                false => format!("{value:.3}"),
            })
            .custom_parser(|text| text.trim().parse().ok());
        let size = Vec2::new(ui.available_width(), theme::ROW_HEIGHT);
        let field = ui.add_sized(size, field).labelled_by(label.id);
        if field.on_hover_text(info.tooltip).changed() {
            *place = Some(rounded(value));
        }
    });
}

/// How many of the rows below hold something that somebody said.
pub fn changed_rows(request: &GenerationRequest) -> usize {
    [
        request.unet.is_some(),
        request.vae.is_some(),
        request.refiner.is_some(),
        request.clip_skip.is_some(),
        request.guidance_rescale.is_some(),
        !request.emphasis.is_usual(),
    ]
    .into_iter()
    .filter(|said| *said)
    .count()
}

/// Clip skip and guidance rescale.
pub fn model_rows_ui(ui: &mut Ui, request: &mut GenerationRequest) {
    let number = Number {
        value: f64::from(request.clip_skip.unwrap_or(1)),
        default: 1.0,
        range: 1.0..=CLIP_SKIP.0,
        typed: 1.0..=CLIP_SKIP.1,
        step: 1.0,
        decimals: 0,
    };
    let tooltip = "Clip skip: which of the text encoder's layers is listened to, counted from its \
                   last. Many anime models want 2.";
    let said = request.clip_skip.is_some();
    if let Some(changed) = fine_row(ui, "Clip skip", tooltip, number, said) {
        request.clip_skip = changed.said().map(|value| value.round() as u32);
    }
    let number = Number {
        value: request.guidance_rescale.unwrap_or(0.0),
        default: 0.0,
        range: 0.0..=1.0,
        typed: 0.0..=1.0,
        step: 0.05,
        decimals: 2,
    };
    let tooltip = "Guidance rescale: brings strong guidance back to the prompt's own contrast. \
                   0.7 suits models that predict v.";
    let said = request.guidance_rescale.is_some();
    if let Some(changed) = fine_row(ui, "Rescale", tooltip, number, said) {
        request.guidance_rescale = changed.said().map(rounded);
    }
}

/// How the prompts' brackets are read, and weighed.
pub fn emphasis_ui(ui: &mut Ui, request: &mut GenerationRequest) {
    ui.horizontal(|ui| {
        let tooltip =
            "Emphasis: whose brackets the prompts are read with, and how (word:1.2) weighs";
        row_label(ui, "Emphasis", tooltip);
        if reset_slot(ui, "Emphasis", !request.emphasis.is_usual()) {
            request.emphasis = Emphasis::default();
        }
        let rows: Vec<_> = EMPHASES
            .iter()
            .map(|info| (info.id, info.label, info.tooltip))
            .collect();
        if let Some(emphasis) = combo(ui, "Emphasis", request.emphasis, &rows) {
            request.emphasis = emphasis;
        }
    });
}

/// As many digits as anybody types; a slider's arithmetic leaves more.
fn rounded(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}
