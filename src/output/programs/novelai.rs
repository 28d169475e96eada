//! NovelAI: PNG texts (`Software`, `Source`, `Description`, `Comment` with JSON), and the same in the
//! lowest bits of the picture's transparency.
//!
//! Source: NovelAI/novelai-image-metadata `nai_meta.py` and `nai_meta_writer.py`. Its words weigh by
//! brackets of their own: `{x}` is 1.05, `[x]` is 1/1.05; round brackets are letters.

use serde_json::{Map, Value};

use super::fields::Fields;
use super::sheet::Sheet;
use crate::request::SamplerId;

/// What says nothing about how to draw.
const SILENT: &[&str] = &[
    "request_type",
    "signed_hash",
    "n_samples",
    "version",
    "uc",
    "prompt",
    "v4_prompt",
    "v4_negative_prompt",
    "params_version",
    "legacy",
    "legacy_v3_extend",
    "width",
    "height",
    "lora_unet_weights",
    "lora_clip_weights",
    "skip_cfg_below_sigma",
    "uncond_per_vibe",
    "wonky_vibe_correlation",
    "stream",
    "deliberate_euler_ancestral_bug",
    "prefer_brownian",
    "explike_fine_detail",
    "minimize_sigma_inf",
    "cfg_sched_eligibility",
    "hide_debug_overlay",
    "uncond_scale",
    "use_coords",
    "cnet_strength",
    "controlnet_strength",
    "legacy_uc",
];

/// Whether a JSON record is NovelAI's `Comment`.
pub fn is_record(record: &Map<String, Value>) -> bool {
    let names = ["uc", "scale", "sampler", "steps"];
    names.iter().all(|key| record.contains_key(*key))
}

/// Reads `Comment`; `description` is the prompt where `Comment` has none, `source` names the model.
pub fn read(record: &Fields<'_>, description: Option<&str>, source: Option<&str>) -> Sheet {
    let mut sheet = Sheet::new("NovelAI");
    let prompt = record.text("prompt").or(description).unwrap_or_default();
    let (prompt, negative) = (
        weights(prompt),
        weights(record.text("uc").unwrap_or_default()),
    );
    sheet.prompts(&prompt, &negative);
    sheet.request.steps = sheet.number(record, "steps");
    sheet.request.guidance_scale = sheet.number(record, "scale");
    sheet.request.seed = sheet.number(record, "seed");
    let (width, height) = (
        sheet.number(record, "width"),
        sheet.number(record, "height"),
    );
    sheet.size(width, height);
    let rescale: Option<f64> = sheet.number(record, "cfg_rescale");
    sheet.request.guidance_rescale = rescale.filter(|rescale| *rescale > 0.0);
    sheet.sampler(record.text("sampler").unwrap_or_default());
    match record.text("noise_schedule") {
        Some("native") | None => sheet.usual_schedule(SamplerId::automatic_schedule),
        Some(name) => sheet.schedule(name),
    }
    sheet.model(source.unwrap_or("NovelAI's"), None);
    sheet.other_noise();
    if record.get("strength").is_some() && record.get("noise").is_some() {
        let strength = sheet.number(record, "strength");
        sheet.over_a_picture(strength);
    }
    for (key, what) in [
        ("sm", "SMEA"),
        ("sm_dyn", "SMEA DYN"),
        ("dynamic_thresholding", "Decrisper"),
    ] {
        if record.is_on(key) {
            sheet.lacks(format!("NovelAI's {what}"));
        }
    }
    record.skip(SILENT);
    sheet.rest(record);
    sheet
}

/// NovelAI's brackets as A1111's: `{x}` to `(x:1.05)`, `[x]` to `(x:0.952)`, `(x)` to `\(x\)`. Brackets
/// without their partner count to the end, as there.
fn weights(prompt: &str) -> String {
    let mut text = String::with_capacity(prompt.len() + 16);
    let mut open = Vec::new();
    for character in prompt.chars() {
        match character {
            '{' => {
                open.push(":1.05)");
                text.push('(');
            }
            '[' => {
                open.push(":0.952)");
                text.push('(');
            }
            '}' | ']' => text.push_str(open.pop().unwrap_or_default()),
            '(' => text.push_str("\\("),
            ')' => text.push_str("\\)"),
            other => text.push(other),
        }
    }
    while let Some(end) = open.pop() {
        text.push_str(end);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn novelai_s_brackets_become_a1111_s() {
        assert_eq!(
            weights("{{a}}, [b] (c) {d"),
            "((a:1.05):1.05), (b:0.952) \\(c\\) (d:1.05)"
        );
        assert_eq!(weights("a] b}"), "a b");
    }
}
