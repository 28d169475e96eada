//! Fooocus: one JSON object in the PNG key `parameters`, in EXIF, or in a JPEG's comment.
//!
//! Source: lllyasviel/Fooocus `modules/meta_parser.py` (`FooocusMetadataParser.parse_string`,
//! `get_exif`) and `modules/private_logger.py`; older versions have the labels of its window as keys.

use serde_json::{Map, Value};

use super::fields::{Fields, words};
use super::sheet::{Sheet, parse, short};
use crate::request::{Emphasis, SeedMode};

/// What says nothing about how to draw.
const SILENT: &[&str] = &[
    "version",
    "Version",
    "metadata_scheme",
    "created_by",
    "performance",
    "Performance",
    "prompt_expansion",
    "Fooocus V2 Expansion",
    "loras",
    "refiner_switch",
    "Refiner Switch",
    "refiner_model_hash",
    "image_number",
    "Image Number",
    "full_prompt",
    "full_negative_prompt",
    "software",
    "Software",
];

/// Whether a JSON record is Fooocus's.
pub fn is_record(record: &Map<String, Value>) -> bool {
    ["base_model", "Base Model"]
        .iter()
        .any(|key| record.contains_key(*key))
}

pub fn read(record: &Fields<'_>) -> Sheet {
    let mut sheet = Sheet::new("Fooocus");
    prompts(&mut sheet, record);
    sheet.request.steps = either(&mut sheet, record, "steps", "Steps");
    sheet.request.guidance_scale = either(&mut sheet, record, "guidance_scale", "Guidance Scale");
    sheet.request.seed = either(&mut sheet, record, "seed", "Seed");
    let skip: Option<u32> = either(&mut sheet, record, "clip_skip", "CLIP Skip");
    sheet.request.clip_skip = skip.filter(|skip| *skip > 1);
    if let Some(size) = said(record, "resolution", "Resolution") {
        let sides: Vec<Option<u32>> = size
            .split(|c: char| !c.is_ascii_digit())
            .filter(|side| !side.is_empty())
            .map(parse)
            .collect();
        match *sides {
            [Some(width), Some(height)] => sheet.size(Some(width), Some(height)),
            _ => sheet.note(format!(
                "The size \"{}\" cannot be read and is left out.",
                short(&size)
            )),
        }
    }
    if let Some(name) = said(record, "sampler", "Sampler") {
        sheet.sampler(&name);
    }
    if let Some(name) = said(record, "scheduler", "Scheduler") {
        sheet.schedule(&name);
    }
    let model = said(record, "base_model", "Base Model").unwrap_or_default();
    sheet.model(&model, record.text("base_model_hash"));
    sheet.vae(&said(record, "vae", "VAE").unwrap_or_default());
    sheet.noise(SeedMode::ComfyUi);
    // It reads brackets as ComfyUI does, and keeps the mean beside (`modules/patch_clip.py`).
    sheet.request.emphasis = Emphasis::Comfyui;
    loras(&mut sheet, record);
    lacking(&mut sheet, record);
    record.skip(SILENT);
    sheet.rest(record);
    sheet
}

fn said(record: &Fields<'_>, key: &str, label: &str) -> Option<String> {
    let (new, old) = (record.words(key), record.words(label));
    new.or(old)
}

fn either<T: std::str::FromStr>(
    sheet: &mut Sheet,
    record: &Fields<'_>,
    key: &str,
    label: &str,
) -> Option<T> {
    let new = sheet.number(record, key);
    new.or_else(|| sheet.number(record, label))
}

/// The prompt that was drawn, with what Fooocus's styles made of it, where the record has it.
fn prompts(sheet: &mut Sheet, record: &Fields<'_>) {
    let joined = |key| {
        let parts = record.list(key).iter().filter_map(Value::as_str);
        Some(parts.collect::<Vec<_>>().join(", ")).filter(|text| !text.is_empty())
    };
    let prompt = said(record, "prompt", "Prompt").unwrap_or_default();
    let negative = said(record, "negative_prompt", "Negative Prompt").unwrap_or_default();
    let full = joined("full_prompt");
    let styles = said(record, "styles", "Styles").filter(|styles| styles.len() > 2);
    match (&full, styles) {
        (Some(full), _) if *full != prompt => {
            sheet.note("The prompt is what Fooocus's styles made of the words, as it was drawn.");
        }
        (None, Some(styles)) => sheet.lacks(format!("the styles {styles}")),
        _ => {}
    }
    sheet.prompts(
        &full.unwrap_or(prompt),
        &joined("full_negative_prompt").unwrap_or(negative),
    );
}

/// `lora_combined_1: "name : 0.5"`, in later versions `"True : name : 0.5"`, in old ones under the
/// label `LoRA 1`; `loras` holds them with their hashes.
fn loras(sheet: &mut Sheet, record: &Fields<'_>) {
    let mut hashes = Vec::new();
    for entry in record.list("loras") {
        if let Some([name, weight, hash]) = entry.as_array().map(Vec::as_slice)
            && let (Some(name), Some(hash)) = (name.as_str(), hash.as_str())
        {
            hashes.push((name, words(weight), hash));
        }
    }
    for number in 1..=32 {
        let (key, label) = (format!("lora_combined_{number}"), format!("LoRA {number}"));
        let Some(line) = said(record, &key, &label) else {
            continue;
        };
        let parts: Vec<&str> = line.split(" : ").collect();
        let (name, weight) = match *parts {
            ["False", ..] => continue,
            [name, weight] | ["True", name, weight] => (name, parse(weight)),
            _ => (line.as_str(), None),
        };
        if name != "None" {
            let weight = weight.unwrap_or(1.0);
            let known = hashes.iter().find(|(known, ..)| *known == name);
            sheet.lora(name, weight, weight, known.map(|(_, _, hash)| *hash));
        }
    }
}

/// The usual values of Fooocus's own arithmetic are still its own: a picture of it is never quite
/// Easel's.
fn lacking(sheet: &mut Sheet, record: &Fields<'_>) {
    let refiner = said(record, "refiner_model", "Refiner Model");
    if let Some(name) = refiner.filter(|name| !matches!(&**name, "" | "None")) {
        let switch = either(sheet, record, "refiner_switch", "Refiner Switch");
        sheet.refiner(&name, record.text("refiner_model_hash"), switch);
    }
    let own = [
        "sharpness",
        "Sharpness",
        "adm_guidance",
        "ADM Guidance",
        "adaptive_cfg",
        "CFG Mimicking from TSNR",
    ];
    let used = own.iter().filter(|key| record.get(key).is_some()).count();
    if used > 0 {
        sheet.lacks("Fooocus's sharpness and guidance");
    }
    record.skip(&["refiner_swap_method", "Refiner Swap Method"]);
    if let Some(freeu) = said(record, "freeu", "FreeU") {
        sheet.lacks(format!("FreeU {freeu}"));
    }
}
