//! SwarmUI: one JSON object under `sui_image_params`, in the PNG key `parameters` or in EXIF.
//!
//! Source: mcmonkeyprojects/SwarmUI `src/Text2Image/T2IParamInput.cs` (`GenFullMetadataObject`,
//! `GenParameterMetadata`) and `docs/Image Metadata Format.md`. Its ids are parameter names in lower
//! case without spaces.

use serde_json::Value;

use super::fields::{Fields, words};
use super::sheet::{Sheet, parse};
use crate::request::{Emphasis, SeedMode};

/// What says nothing about how to draw.
const SILENT: &[&str] = &[
    "swarm_version",
    "date",
    "generation_time",
    "images",
    "batchsize",
    "nopreviews",
    "donotsave",
    "imageformat",
    "aspectratio",
    "sidelength",
    "automaticvae",
    "wildcardseed",
    "personalnote",
    "presets",
    "original_prompt",
    "original_negativeprompt",
    "variationseed",
    "outpathformat",
    "saveintermediateimages",
    "webhooks",
    "colordepth",
];

/// Reads the object under `sui_image_params`.
pub fn read(record: &Fields<'_>) -> Sheet {
    let mut sheet = Sheet::new("SwarmUI");
    let text = |key| record.text(key).unwrap_or_default();
    sheet.prompts(text("prompt"), text("negativeprompt"));
    // ComfyUI draws for it.
    sheet.request.emphasis = Emphasis::Comfyui;
    sheet.request.steps = sheet.number(record, "steps");
    sheet.request.guidance_scale = sheet.number(record, "cfgscale");
    sheet.request.seed = sheet.number(record, "seed");
    let (width, height) = (
        sheet.number(record, "width"),
        sheet.number(record, "height"),
    );
    sheet.size(width, height);
    // ComfyUI's names and, where nothing is said, ComfyUI's usual ones.
    sheet.sampler(record.text("sampler").unwrap_or("euler"));
    sheet.schedule(record.text("scheduler").unwrap_or("normal"));
    let stop: Option<i32> = sheet.number(record, "clipstopatlayer");
    sheet.request.clip_skip = stop.map(i32::unsigned_abs).filter(|skip| *skip > 1);
    sheet.model(text("model"), None);
    sheet.vae(text("vae"));
    sheet.noise(SeedMode::ComfyUi);
    loras(&mut sheet, record);
    lacking(&mut sheet, record);
    record.skip(SILENT);
    sheet.rest(record);
    tags(&mut sheet);
    sheet
}

/// Lists, or texts with commas in older versions.
fn loras(sheet: &mut Sheet, record: &Fields<'_>) {
    let list = |key| -> Vec<String> {
        match record.get(key) {
            Some(Value::Array(items)) => items.iter().filter_map(words).collect(),
            Some(Value::String(text)) => text.split(',').map(str::to_owned).collect(),
            _ => Vec::new(),
        }
    };
    let weights = list("loraweights");
    for (index, name) in list("loras").iter().enumerate() {
        let weight = weights
            .get(index)
            .and_then(|text| parse(text))
            .unwrap_or(1.0);
        sheet.lora(name, weight, weight, None);
    }
    record.skip(&["lorasectionconfinement"]);
}

fn lacking(sheet: &mut Sheet, record: &Fields<'_>) {
    if record.get("initimagecreativity").is_some() {
        let strength = sheet.number(record, "initimagecreativity");
        sheet.over_a_picture(strength);
    }
    let names = [
        ("controlnetmodel", "the ControlNet"),
        ("controlnettwomodel", "the ControlNet"),
        ("ipadaptermodel", "the IP adapter"),
    ];
    for (key, what) in names {
        if let Some(name) = record
            .text(key)
            .filter(|name| !name.eq_ignore_ascii_case("none"))
        {
            sheet.lacks(format!("{what} {name}"));
        }
    }
    refiner(sheet, record);
    let upscale: Option<f64> = sheet.number(record, "refinerupscale");
    if upscale.is_some_and(|factor| factor > 1.0) {
        sheet.second_pass();
    }
}

/// `StepSwap` hands the last steps over; any other way the refiner draws over the finished picture.
fn refiner(sheet: &mut Sheet, record: &Fields<'_>) {
    let share: Option<f64> = sheet.number(record, "refinercontrolpercentage");
    let method = record.text("refinermethod");
    let none = |name: &&str| !matches!(*name, "" | "None" | "none" | "(Use Base)");
    let Some(name) = record.text("refinermodel").filter(none) else {
        return;
    };
    match method.map(str::to_ascii_lowercase).as_deref() {
        Some("stepswap") => sheet.refiner(name, None, Some(1.0 - share.unwrap_or(0.2))),
        _ => sheet.lacks(format!("a second pass by the model {name}")),
    }
}

/// SwarmUI's prompts know tags that Easel would read as words.
fn tags(sheet: &mut Sheet) {
    let prompt = sheet.request.prompt.clone();
    for tag in prompt.split('<').skip(1) {
        let Some((tag, _)) = tag.split_once('>') else {
            continue;
        };
        let (word, _) = tag.split_once(':').unwrap_or((tag, ""));
        if !matches!(word, "lora" | "embed") && word.chars().all(char::is_alphabetic) {
            sheet.note(format!(
                "The prompt holds <{}>, which Easel does not follow.",
                super::sheet::short(tag)
            ));
        }
    }
}
