//! InvokeAI's three records: `invokeai_metadata` (from 3.0 on), `sd-metadata` (2.x) and the command
//! line `Dream` (1.x and 2.x).
//!
//! Source: invoke-ai/InvokeAI `invokeai/app/invocations/metadata.py` (`CoreMetadataInvocation`) and
//! `ldm/dream/args.py` (`dream_prompt_str`, `metadata_dumps`).

use serde_json::{Map, Value};

use super::fields::Fields;
use super::sheet::{Sheet, parse};
use crate::request::{Emphasis, ScheduleId, SeedMode};

const PROGRAM: &str = "InvokeAI";

/// What says nothing about how to draw, in any of its versions.
const SILENT: &[&str] = &[
    "app_version",
    "app_id",
    "canvas_v2_metadata",
    "generation_mode",
    "init_image",
    "ref_images",
    "board_id",
    "type",
    "metadata",
    "regions",
    "workflow",
    "graph",
];

/// Reads `invokeai_metadata`.
pub fn read(record: &Fields<'_>) -> Sheet {
    let mut sheet = Sheet::new(PROGRAM);
    let text = |key| record.text(key).unwrap_or_default();
    sheet.prompts(text("positive_prompt"), text("negative_prompt"));
    sheet.request.emphasis = Emphasis::Compel;
    sheet.request.steps = sheet.number(record, "steps");
    sheet.request.guidance_scale = sheet.number(record, "cfg_scale");
    sheet.request.seed = sheet.number(record, "seed");
    let rescale = sheet.number(record, "cfg_rescale_multiplier");
    sheet.request.guidance_rescale = rescale.filter(|rescale| *rescale > 0.0);
    // The number of layers left out: 0 listens to the last.
    let skipped: Option<u32> = sheet.number(record, "clip_skip");
    sheet.request.clip_skip = skipped.filter(|n| *n > 0).map(|n| n.saturating_add(1));
    let (width, height) = (
        sheet.number(record, "width"),
        sheet.number(record, "height"),
    );
    sheet.size(width, height);
    scheduler(&mut sheet, text("scheduler"));
    if let Some(model) = record.get("model") {
        sheet.model(&model_name(model), None);
    }
    if let Some(vae) = record.get("vae") {
        sheet.vae(&model_name(vae));
    }
    for lora in record.list("loras") {
        let file = lora.get("model").or_else(|| lora.get("lora"));
        let weight = lora.get("weight").and_then(Value::as_f64).unwrap_or(1.0);
        if let Some(file) = file {
            sheet.lora(&model_name(file), weight, weight, None);
        }
    }
    ways_of_drawing(&mut sheet, record);
    record.skip(SILENT);
    sheet.rest(record);
    sheet
}

/// diffusers' schedulers with the model's own config; `_k` is Karras.
fn scheduler(sheet: &mut Sheet, name: &str) {
    if !name.is_empty() {
        sheet.sampler(name);
        sheet.usual_schedule(|_| ScheduleId::Model);
    }
}

/// `{"name": ...}`, before 4.0 `{"model_name": ...}`, before 3.0 a text.
fn model_name(value: &Value) -> String {
    let named = ["name", "model_name"]
        .iter()
        .find_map(|key| value.get(key)?.as_str());
    named.or(value.as_str()).unwrap_or_default().to_owned()
}

fn ways_of_drawing(sheet: &mut Sheet, record: &Fields<'_>) {
    let mode = record.text("generation_mode").unwrap_or_default();
    if ["img2img", "inpaint", "outpaint"]
        .iter()
        .any(|over| mode.ends_with(over))
    {
        let strength = sheet.number(record, "strength");
        sheet.over_a_picture(strength);
    } else {
        record.skip(&["strength"]);
    }
    if record.text("rand_device") == Some("cuda") {
        sheet.noise(SeedMode::A1111);
    }
    if record.is_on("hrf_enabled") {
        sheet.second_pass();
    }
    record.skip(&["hrf_method", "hrf_strength"]);
    for (key, model_key, what) in [
        ("controlnets", "control_model", "the ControlNet"),
        ("controlLayers", "", "control layers"),
        ("ipAdapters", "ip_adapter_model", "the IP adapter"),
        ("t2iAdapters", "t2i_adapter_model", "the T2I adapter"),
    ] {
        for used in record.list(key) {
            let model = used.get(model_key).map(model_name).unwrap_or_default();
            sheet.lacks(format!("{what} {model}").trim_end());
        }
    }
}

/// Reads `sd-metadata`: the picture's own settings lie under `image`.
pub fn read_old(record: &Fields<'_>) -> Sheet {
    let mut sheet = Sheet::new(PROGRAM);
    sheet.model(
        record.text("model_weights").unwrap_or_default(),
        record.text("model_hash"),
    );
    let Some(image) = record.object("image") else {
        return sheet;
    };
    split_prompt(&mut sheet, &old_prompt(image.get("prompt")));
    sheet.request.steps = sheet.number(&image, "steps");
    sheet.request.guidance_scale = sheet.number(&image, "cfg_scale");
    sheet.request.seed = sheet.number(&image, "seed");
    let (width, height) = (
        sheet.number(&image, "width"),
        sheet.number(&image, "height"),
    );
    sheet.size(width, height);
    scheduler(&mut sheet, image.text("sampler").unwrap_or_default());
    if image.text("type") == Some("img2img") {
        let strength = sheet.number(&image, "strength");
        sheet.over_a_picture(strength);
    }
    if image.is_on("hires_fix") {
        sheet.second_pass();
    }
    image.skip(&[
        "type",
        "strength",
        "orig_hash",
        "init_image_path",
        "mask_image_path",
    ]);
    sheet.rest(&image);
    sheet
}

/// One text, or a list of weighted ones.
fn old_prompt(prompt: Option<&Value>) -> String {
    match prompt {
        Some(Value::Array(parts)) => {
            let texts = parts.iter().filter_map(|part| part.get("prompt")?.as_str());
            texts.collect::<Vec<_>>().join(" ")
        }
        Some(Value::String(text)) => text.clone(),
        _ => String::new(),
    }
}

/// InvokeAI 2 wrote what to keep out in brackets, into the prompt.
fn split_prompt(sheet: &mut Sheet, text: &str) {
    let negative = text
        .split_once('[')
        .and_then(|(before, rest)| Some((before, rest.rsplit_once(']')?)));
    match negative {
        Some((before, (negative, after))) => {
            let prompt = format!("{} {}", before.trim(), after.trim());
            sheet.prompts(prompt.trim(), negative.trim());
        }
        None => sheet.prompts(text.trim(), ""),
    }
}

/// Reads `Dream`: `"a prompt" -s 50 -S 1234 -W 512 -H 512 -C 7.5 -A k_lms`. Some versions left out
/// the closing quote. `None`: it holds no switches.
pub fn read_dream(line: &str) -> Option<Sheet> {
    let line = line.trim().strip_prefix('"').unwrap_or(line);
    let at = line.rfind("\" -").or_else(|| line.find(" -s "))?;
    let (prompt, switches) = line.split_at_checked(at)?;
    let mut sheet = Sheet::new(PROGRAM);
    split_prompt(&mut sheet, prompt);
    let mut switches = switches
        .trim_start_matches('"')
        .split_whitespace()
        .peekable();
    let (mut width, mut height) = (None, None);
    let mut others = Vec::new();
    while let Some(switch) = switches.next() {
        // The value stands behind its letter, with or without a space.
        let (name, attached) = match switch.char_indices().nth(2) {
            Some((at, _)) if !switch.starts_with("--") => switch.split_at(at),
            _ => (switch, ""),
        };
        let mut value = attached;
        if value.is_empty() && switches.peek().is_some_and(|next| !is_switch(next)) {
            value = switches.next().unwrap_or_default();
        }
        match name {
            "-s" => sheet.request.steps = parse(value),
            "-S" => sheet.request.seed = parse(value),
            "-W" => width = parse(value),
            "-H" => height = parse(value),
            "-C" => sheet.request.guidance_scale = parse(value),
            "-A" => scheduler(&mut sheet, value),
            "-I" => sheet.over_a_picture(None),
            "-n" | "--grid" | "-f" | "--fit" => {}
            other => others.push((other.to_owned(), Value::from(value))),
        }
    }
    sheet.size(width, height);
    let others = others.into_iter().filter(|(name, _)| is_switch(name));
    let others = others.map(|(name, _)| (name, Value::Bool(true))).collect();
    sheet.rest(&Fields::new(&others));
    sheet.request.steps.is_some().then_some(sheet)
}

fn is_switch(word: &str) -> bool {
    let name = word.strip_prefix('-');
    name.is_some_and(|name| name.starts_with(|c: char| c.is_alphabetic() || c == '-'))
}

/// Which of the keys of a JSON record is InvokeAI's.
pub fn is_record(record: &Map<String, Value>) -> bool {
    let own = ["app_version", "scheduler"]
        .iter()
        .any(|key| record.contains_key(*key));
    record.contains_key("positive_prompt") && own
}
