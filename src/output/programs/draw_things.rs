//! Draw Things: JSON in the XMP packet's `exif:UserComment`.
//!
//! Source: what the app writes, as receyuki/stable-diffusion-prompt-reader `format/drawthings.py`
//! reads it; the whole configuration lies under `v2`, named as in drawthingsai/draw-things-community
//! `Libraries/DataModels/Sources/config.fbs`.

use serde_json::{Map, Value};

use super::fields::Fields;
use super::sheet::{Sheet, parse};
use crate::request::{SamplerId, SeedMode};

/// What says nothing about how to draw.
const SILENT: &[&str] = &["profile", "v2", "lora", "mask_blur"];

/// Whether a JSON record is Draw Things'.
pub fn is_record(record: &Map<String, Value>) -> bool {
    ["c", "uc", "size"]
        .iter()
        .all(|key| record.contains_key(*key))
}

pub fn read(record: &Fields<'_>) -> Sheet {
    let mut sheet = Sheet::new("Draw Things");
    let text = |key| record.text(key).unwrap_or_default();
    sheet.prompts(text("c"), text("uc"));
    sheet.request.steps = sheet.number(record, "steps");
    sheet.request.guidance_scale = sheet.number(record, "scale");
    sheet.request.seed = sheet.number(record, "seed");
    let sides = text("size").split_once('x');
    sheet.size(
        sides.and_then(|(width, _)| parse(width)),
        sides.and_then(|(_, height)| parse(height)),
    );
    sheet.sampler(text("sampler"));
    sheet.usual_schedule(SamplerId::automatic_schedule);
    sheet.model(text("model"), None);
    for lora in record.list("lora") {
        let name = lora.get("model").and_then(Value::as_str);
        let weight = lora.get("weight").and_then(Value::as_f64).unwrap_or(1.0);
        sheet.lora(name.unwrap_or_default(), weight, weight, None);
    }
    let strength: Option<f64> = sheet.number(record, "strength");
    if strength.is_some_and(|strength| strength < 1.0) {
        sheet.over_a_picture(strength);
    }
    match record.text("seed_mode") {
        Some("Torch CPU Compatible") => {}
        Some("NVIDIA GPU Compatible" | "Nvidia GPU Compatible") => sheet.noise(SeedMode::A1111),
        _ => sheet.other_noise(),
    }
    let shift: Option<f64> = sheet.number(record, "shift");
    if shift.is_some_and(|shift| shift != 1.0) {
        sheet.lacks("a shifted schedule");
    }
    if let Some(all) = record.object("v2") {
        configuration(&mut sheet, &all);
    }
    record.skip(SILENT);
    sheet.rest(record);
    sheet
}

/// What of the whole configuration the short record leaves out.
fn configuration(sheet: &mut Sheet, all: &Fields<'_>) {
    let skip: Option<u32> = sheet.number(all, "clipSkip");
    sheet.request.clip_skip = skip.filter(|skip| *skip > 1);
    if all.is_on("hiresFix") {
        sheet.second_pass();
    }
    for control in all.list("controls") {
        let file = control.get("file").and_then(Value::as_str);
        sheet.lacks(format!("the ControlNet {}", file.unwrap_or_default()));
    }
    for (key, what) in [
        ("refinerModel", "the refiner"),
        ("upscaler", "the upscaler"),
        ("faceRestoration", "the face restoration"),
    ] {
        if let Some(name) = all.text(key).filter(|name| !name.is_empty()) {
            sheet.lacks(format!("{what} {name}"));
        }
    }
}
