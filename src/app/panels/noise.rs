//! How seeds become noise, and where the prompt guides: the rows below Advanced for people who repeat
//! or vary pictures of other programs.

use egui::{DragValue, Ui, Vec2};

use crate::app::widgets::{Number, bare_icon, combo, fine_row, reset_slot, row_label};
use crate::app::{icons, theme};
use crate::request::{
    GenerationRequest, GuidanceInterval, SEED_MODES, SeedMode, Seeding, new_seed,
};

/// Longest side that can be typed, in pixels.
const MAX_SIDE: u32 = 4096;
/// What a float, as the fields count, holds exactly.
const MAX_TYPED_SEED: u64 = 1 << 53;

/// From which share of the steps on, and up to which, the prompt guides.
pub fn interval_ui(ui: &mut Ui, request: &mut GenerationRequest) {
    ui.horizontal(|ui| {
        let tooltip = "Guidance interval: the part of the steps in which guidance works. Without it in the \
                       first steps pictures vary more; without it in the last they are drawn faster.";
        row_label(ui, "Guide from", tooltip);
        if reset_slot(ui, "Guide from", request.guidance_interval.is_some()) {
            request.guidance_interval = None;
        }
        let whole = GuidanceInterval {
            start: 0.0,
            stop: 1.0,
        };
        let was = request.guidance_interval.unwrap_or(whole);
        let mut now = was;
        ui.spacing_mut().item_spacing.x = theme::SPACE_XS;
        let width = (ui.available_width() - theme::TO_WIDTH - 2.0 * theme::SPACE_XS) / 2.0;
        percent_field(ui, &mut now.start, 0.0..=now.stop, width, "Guided from");
        let to = egui::Label::new(theme::hint(ui, "to"));
        ui.add_sized(Vec2::new(theme::TO_WIDTH, theme::ROW_HEIGHT), to);
        percent_field(ui, &mut now.stop, now.start..=1.0, width, "Guided to");
        if now != was {
            request.guidance_interval = (now != whole).then_some(now);
        }
    });
}

/// A share, as a percentage.
fn percent_field(
    ui: &mut Ui,
    share: &mut f64,
    range: std::ops::RangeInclusive<f64>,
    width: f32,
    name: &str,
) {
    let mut percent = (*share * 100.0).round();
    let field = DragValue::new(&mut percent)
        .range((range.start() * 100.0).round()..=(range.end() * 100.0).round())
        .speed(1.0)
        .suffix(" %")
        .update_while_editing(false);
    let response = ui.add_sized(Vec2::new(width, theme::ROW_HEIGHT), field);
    if response.changed() {
        *share = percent / 100.0;
    }
    response.accessible_name(name);
}

/// Whose noise, and what is mixed into it.
pub fn seeding_ui(ui: &mut Ui, seeding: &mut Seeding) {
    ui.horizontal(|ui| {
        let tooltip = "Whose noise grows from a seed: choose a program to repeat its pictures";
        row_label(ui, "Noise as in", tooltip);
        if reset_slot(ui, "Noise as in", seeding.mode != SeedMode::default()) {
            seeding.mode = SeedMode::default();
        }
        let rows: Vec<_> = SEED_MODES
            .iter()
            .map(|info| (info.id, info.label, info.tooltip))
            .collect();
        if let Some(mode) = combo(ui, "Noise as in", seeding.mode, &rows) {
            seeding.mode = mode;
        }
    });
    let number = Number {
        value: seeding.variation_strength.unwrap_or(0.0),
        default: 0.0,
        range: 0.0..=1.0,
        typed: 0.0..=1.0,
        step: 0.01,
        decimals: 2,
    };
    let tooltip = "Variation strength: how much noise of a second seed is mixed in. A little changes \
                   details, 1 is the other picture.";
    let said = seeding.variation_strength.is_some();
    if let Some(changed) = fine_row(ui, "Variation", tooltip, number, said) {
        seeding.variation_strength = changed.said().map(|value| (value * 100.0).round() / 100.0);
    }
    if seeding.varies() || seeding.variation_seed.is_some() {
        variation_seed_ui(ui, seeding);
    }
    resize_ui(ui, seeding);
    if matches!(seeding.mode, SeedMode::A1111 | SeedMode::A1111Cpu) || seeding.ensd.is_some() {
        ensd_ui(ui, seeding);
    }
}

fn variation_seed_ui(ui: &mut Ui, seeding: &mut Seeding) {
    ui.horizontal(|ui| {
        let tooltip =
            "The second seed, whose noise is mixed in; random: a new one for every drawing";
        let label = row_label(ui, "Its seed", tooltip);
        let said = seeding.variation_seed;
        if reset_slot(ui, "Its seed", said.is_some()) {
            seeding.variation_seed = None;
        }
        ui.spacing_mut().item_spacing.x = theme::SPACE_XS;
        let width = ui.available_width() - theme::ROW_HEIGHT - theme::SPACE_XS;
        let mut seed = said.unwrap_or_default();
        let field = DragValue::new(&mut seed)
            .speed(1.0)
            .update_while_editing(false)
            .range(0..=MAX_TYPED_SEED)
            .clamp_existing_to_range(false)
            .custom_formatter(move |_, _| said.map_or("random".to_owned(), |seed| seed.to_string()))
            .custom_parser(|text| text.trim().parse::<u64>().ok().map(|seed| seed as f64));
        let field = ui.add_sized(Vec2::new(width, theme::ROW_HEIGHT), field);
        if field.labelled_by(label.id).changed() {
            seeding.variation_seed = Some(seed);
        }
        let dice = bare_icon(
            ui,
            icons::DICE,
            "New variation seed",
            "Draw a new second seed",
        );
        if dice.clicked() {
            seeding.variation_seed = Some(new_seed());
        }
    });
}

/// Seed resize: the noise of another size in the middle of this one's.
fn resize_ui(ui: &mut Ui, seeding: &mut Seeding) {
    ui.horizontal(|ui| {
        let tooltip = "Seed resize: the size a seed's picture was drawn at; another size then keeps its \
                       composition. 0 × 0 turns it off.";
        row_label(ui, "Seed size", tooltip);
        if reset_slot(ui, "Seed size", seeding.resize_from.is_some()) {
            seeding.resize_from = None;
        }
        let was = seeding.resize_from.unwrap_or([0, 0]);
        let mut now = was;
        ui.spacing_mut().item_spacing.x = theme::SPACE_XS;
        let width = (ui.available_width() - theme::TO_WIDTH - 2.0 * theme::SPACE_XS) / 2.0;
        for (index, side) in now.iter_mut().enumerate() {
            if index > 0 {
                let times = egui::Label::new(theme::hint(ui, "×"));
                ui.add_sized(Vec2::new(theme::TO_WIDTH, theme::ROW_HEIGHT), times);
            }
            let field = DragValue::new(side)
                .range(0..=MAX_SIDE)
                .speed(8.0)
                .update_while_editing(false)
                .custom_formatter(|value, _| match value {
                    0.0 => "off".to_owned(),
                    value => format!("{value:.0}"),
                });
            let name = ["Seed size, width", "Seed size, height"].get(index);
            ui.add_sized(Vec2::new(width, theme::ROW_HEIGHT), field)
                .on_hover_text(tooltip)
                .accessible_name(name.copied().unwrap_or_default());
        }
        if now != was {
            // One side alone means a square.
            let [width, height] = now;
            let square = match was {
                [0, 0] => [width.max(height); 2],
                _ => now,
            };
            seeding.resize_from = (!square.contains(&0)).then_some(square);
        }
    });
}

fn ensd_ui(ui: &mut Ui, seeding: &mut Seeding) {
    ui.horizontal(|ui| {
        let tooltip = "ENSD (eta noise seed delta): added to the seed for the noise that samplers add on \
                       the way; many A1111 pictures were drawn with 31337";
        let label = row_label(ui, "ENSD", tooltip);
        if reset_slot(ui, "ENSD", seeding.ensd.is_some()) {
            seeding.ensd = None;
        }
        let mut value = seeding.ensd.unwrap_or(0);
        let field = DragValue::new(&mut value).update_while_editing(false);
        let size = Vec2::new(ui.available_width(), theme::ROW_HEIGHT);
        let field = ui.add_sized(size, field).labelled_by(label.id);
        if field.on_hover_text(tooltip).changed() {
            seeding.ensd = Some(value).filter(|value| *value != 0);
        }
    });
}

/// How many of these rows hold something that somebody said.
pub fn changed_rows(request: &GenerationRequest) -> usize {
    let seeding = &request.seeding;
    [
        request.guidance_interval.is_some(),
        seeding.mode != SeedMode::default(),
        seeding.varies(),
        seeding.resize_from.is_some(),
        seeding.ensd.is_some(),
    ]
    .into_iter()
    .filter(|said| *said)
    .count()
}
