//! stable-diffusion.cpp: A1111's text with names of its own, in newer versions with a JSON record
//! behind `SDCPP:`.
//!
//! Source: leejet/stable-diffusion.cpp `examples/common/common.cpp` (`get_image_params`,
//! `build_sdcpp_image_metadata_json`, schema `sdcpp.image.params/v1`).

use serde_json::{Map, Value};

use super::fields::Fields;
use super::sheet::Sheet;
use crate::request::{ScheduleId, SeedMode};

/// What says nothing about how to draw.
const SILENT: &[&str] = &[
    "schema",
    "mode",
    "generator",
    "vae_tiling",
    "sampler_rng",
    "auto_resize_ref_image",
    "increase_ref_index",
    "control_strength",
];

/// Whether a JSON record is stable-diffusion.cpp's.
pub fn is_record(record: &Map<String, Value>) -> bool {
    let schema = record.get("schema").and_then(Value::as_str);
    schema.is_some_and(|schema| schema.starts_with("sdcpp."))
}

pub fn read(record: &Fields<'_>) -> Sheet {
    let mut sheet = Sheet::new("stable-diffusion.cpp");
    if let Some(prompt) = record.object("prompt") {
        let text = |key| prompt.text(key).unwrap_or_default();
        sheet.prompts(text("positive"), text("negative"));
    }
    sheet.request.seed = sheet.number(record, "seed");
    let (width, height) = (
        sheet.number(record, "width"),
        sheet.number(record, "height"),
    );
    sheet.size(width, height);
    // -1: as the model has it.
    let skip: Option<i64> = sheet.number(record, "clip_skip");
    sheet.request.clip_skip = skip
        .and_then(|skip| u32::try_from(skip).ok())
        .filter(|n| *n > 1);
    if let Some(sampling) = record.object("sampling") {
        self::sampling(&mut sheet, &sampling);
    }
    if let Some(models) = record.object("models") {
        files(&mut sheet, &models);
    }
    for lora in record.list("loras") {
        let name = lora.get("name").and_then(Value::as_str);
        let weight = lora
            .get("multiplier")
            .and_then(Value::as_f64)
            .unwrap_or(1.0);
        sheet.lora(name.unwrap_or_default(), weight, weight, None);
    }
    match record.text("rng") {
        Some("cpu") => sheet.noise(SeedMode::A1111Cpu),
        Some("cuda") => sheet.noise(SeedMode::A1111),
        _ => sheet.other_noise(),
    }
    if record
        .object("hires")
        .is_some_and(|hires| hires.is_on("enabled"))
    {
        sheet.second_pass();
    }
    if record.object("cache").is_some() {
        sheet.lacks("cached steps");
    }
    // Of a picture drawn over another; nothing says whether one was.
    record.skip(&["strength"]);
    record.skip(SILENT);
    sheet.rest(record);
    sheet
}

fn sampling(sheet: &mut Sheet, sampling: &Fields<'_>) {
    sheet.request.steps = sheet.number(sampling, "steps");
    if let Some(guidance) = sampling.object("guidance") {
        sheet.request.guidance_scale = sheet.number(&guidance, "txt_cfg");
        let layers = guidance.object("slg");
        if layers.is_some_and(|slg| slg.get("scale").and_then(|s| s.as_f64()) > Some(0.0)) {
            sheet.lacks("skip-layer guidance");
        }
    }
    if let Some(name) = sampling.text("scheduler") {
        sheet.schedule(name);
    }
    if let Some(name) = sampling.text("method") {
        sheet.sampler(name);
        if sampling.get("scheduler").is_none() {
            sheet.usual_schedule(|_| ScheduleId::Normal);
        }
    }
    if !sampling.list("custom_sigmas").is_empty() {
        sheet.lacks("noise levels given one by one");
    }
}

fn files(sheet: &mut Sheet, models: &Fields<'_>) {
    let unet = models.text("diffusion_model");
    sheet.model(models.text("model").or(unet).unwrap_or_default(), None);
    sheet.vae(models.text("vae").unwrap_or_default());
    if let Some(name) = models.text("control_net") {
        sheet.lacks(format!("the ControlNet {name}"));
    }
    for key in ["clip_l", "clip_g", "t5xxl", "llm"] {
        if let Some(name) = models.text(key) {
            sheet.note(format!(
                "It was drawn with the separate text encoder {}; Easel takes the model's own.",
                super::sheet::short(name)
            ));
        }
    }
    models.skip(&["taesd"]);
    sheet.rest(models);
}
