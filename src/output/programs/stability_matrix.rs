//! Stability Matrix: JSON in the PNG key `parameters-json`, beside ComfyUI's graph.
//!
//! Source: LykosAI/StabilityMatrix `StabilityMatrix.Core/Models/GenerationParameters.cs` and
//! `Helper/ImageMetadata.cs`. The graph says more (LoRAs, schedule), the record knows the model's hash.

use serde_json::{Map, Value};

use super::fields::Fields;
use super::sheet::Sheet;
use crate::request::{Emphasis, SamplerId, SeedMode};

/// Of videos, and of Civitai's catalogue.
const SILENT: &[&str] = &[
    "FrameCount",
    "MotionBucketId",
    "VideoQuality",
    "Lossless",
    "Fps",
    "OutputFps",
    "MinCfg",
    "AugmentationLevel",
    "VideoOutputMethod",
    "ModelVersionId",
    "ExtraNetworkModelVersionIds",
];

/// Whether a JSON record is Stability Matrix's.
pub fn is_record(record: &Map<String, Value>) -> bool {
    record.contains_key("PositivePrompt")
}

/// `graph`: what ComfyUI's graph in the same picture said.
pub fn read(record: &Fields<'_>, graph: Option<Sheet>) -> Sheet {
    let name = record.text("ModelName").unwrap_or_default();
    let hash = record.text("ModelHash");
    if let Some(mut sheet) = graph {
        sheet.model(name, hash);
        return sheet;
    }
    let mut sheet = Sheet::new("Stability Matrix");
    let text = |key| record.text(key).unwrap_or_default();
    sheet.prompts(text("PositivePrompt"), text("NegativePrompt"));
    sheet.request.steps = sheet.number(record, "Steps");
    sheet.request.guidance_scale = sheet.number(record, "CfgScale");
    sheet.request.seed = sheet.number(record, "Seed");
    let (width, height) = (
        sheet.number(record, "Width"),
        sheet.number(record, "Height"),
    );
    sheet.size(width, height);
    sheet.sampler(text("Sampler"));
    sheet.usual_schedule(SamplerId::automatic_schedule);
    sheet.model(name, hash);
    sheet.noise(SeedMode::ComfyUi);
    sheet.request.emphasis = Emphasis::Comfyui;
    record.skip(SILENT);
    sheet.rest(record);
    sheet
}
