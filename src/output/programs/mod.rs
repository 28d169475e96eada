//! The records of other programs, one file a program: from the texts that a picture carries to a
//! recipe in Easel's words.
//!
//! Each reader says where its knowledge is from. A record is known by its keys, never by the file's
//! name, so that one that was moved (from a PNG's text to a JPEG's comment) is still read. What is
//! told: settings, the files it names, and what Easel does not have.

mod comfyui;
mod draw_things;
mod fields;
mod fooocus;
mod graph;
mod invokeai;
mod novelai;
mod sdcpp;
mod sheet;
mod stability_matrix;
mod stealth;
mod swarmui;

use std::io::{BufRead, Seek};

use serde_json::Value;

use super::carried::Carried;
use super::{infotext, xmp};
use crate::request::Recipe;
use fields::{Fields, json};
use graph::Graph;
use sheet::Sheet;

/// The recipe of a picture that Easel did not draw; `None` where no text of it is understood.
pub fn read(carried: &Carried) -> Option<Recipe> {
    let png = |key| carried.png(key);
    stability_matrix(carried)
        .or_else(|| invokeai(carried))
        .or_else(|| novelai(carried))
        .map(Sheet::into_recipe)
        .or_else(|| png("parameters").and_then(|text| read_text(text, true)))
        .or_else(|| comfyui(carried).map(Sheet::into_recipe))
        .or_else(|| draw_things(carried).map(Sheet::into_recipe))
        .or_else(|| {
            carried
                .user_comment
                .as_deref()
                .and_then(|text| read_text(text, false))
        })
        .or_else(|| {
            carried
                .jpeg_comment
                .as_deref()
                .and_then(|text| read_text(text, false))
        })
}

/// The recipe in the lowest bits of the picture itself, for a picture whose texts were taken away.
pub fn read_hidden(file: &mut (impl BufRead + Seek)) -> Option<Recipe> {
    read_text(&stealth::read(file)?, true)
}

/// A text of unknown kind: a JSON record, or A1111's infotext. `bare_prompt`: whether a text without
/// any settings is a prompt, as A1111 takes it.
fn read_text(text: &str, bare_prompt: bool) -> Option<Recipe> {
    match json(text) {
        Some(value) => read_record(&value, 0).map(Sheet::into_recipe),
        None => read_infotext(text, bare_prompt),
    }
}

/// How deep a record may lie in records: NovelAI's `Comment`, Civitai's graphs.
const DEEPEST_RECORD: usize = 3;

/// A JSON record, known by its keys.
fn read_record(value: &Value, depth: usize) -> Option<Sheet> {
    let map = value.as_object()?;
    let record = Fields::new(map);
    if let Some(inner) = map.get("sui_image_params").and_then(Value::as_object) {
        Some(swarmui::read(&Fields::new(inner)))
    } else if stability_matrix::is_record(map) {
        Some(stability_matrix::read(&record, None))
    } else if sdcpp::is_record(map) {
        Some(sdcpp::read(&record))
    } else if invokeai::is_record(map) {
        Some(invokeai::read(&record))
    } else if draw_things::is_record(map) {
        Some(draw_things::read(&record))
    } else if novelai::is_record(map) {
        Some(novelai::read(&record, None, None))
    } else if fooocus::is_record(map) {
        Some(fooocus::read(&record))
    } else if let Some(comment) = record.text("Comment").and_then(json) {
        let comment = comment.as_object().filter(|map| novelai::is_record(map))?;
        let (description, source) = (record.text("Description"), record.text("Source"));
        Some(novelai::read(&Fields::new(comment), description, source))
    } else {
        graph_record(value, depth)
    }
}

/// ComfyUI's graph itself, or a record that holds it under `prompt` or `workflow`, as extensions write
/// it into EXIF.
fn graph_record(value: &Value, depth: usize) -> Option<Sheet> {
    let graph = Graph::of_prompt(value).or_else(|| Graph::of_workflow(value));
    let mut sheet = graph.as_ref().and_then(comfyui::read);
    if sheet.is_none() && depth < DEEPEST_RECORD {
        let inner = |key: &str| match value.get(key)? {
            Value::String(text) => graph_record(&json(text)?, depth + 1),
            value => graph_record(value, depth + 1),
        };
        sheet = inner("prompt").or_else(|| inner("workflow"));
    }
    let extra = value
        .get("extraMetadata")
        .and_then(Value::as_str)
        .and_then(json);
    if let (Some(sheet), Some(Value::Object(extra))) = (&mut sheet, &extra) {
        comfyui::extra_metadata(sheet, &Fields::new(extra));
    }
    sheet
}

/// ComfyUI writes the graph as JSON under two keys, into a WebP as `prompt:{...}` and
/// `workflow:{...}` into texts of the camera's (`comfy_extras/nodes_images.py`).
fn comfyui(carried: &Carried) -> Option<Sheet> {
    ["prompt", "workflow"].iter().find_map(|key| {
        let in_exif = || {
            carried.exif_texts.iter().find_map(|text| {
                let (name, json) = text.split_once(':')?;
                name.trim().eq_ignore_ascii_case(key).then_some(json)
            })
        };
        let text = carried.png(key).or_else(in_exif)?;
        graph_record(&json(text)?, 0)
    })
}

fn stability_matrix(carried: &Carried) -> Option<Sheet> {
    let value = json(carried.png("parameters-json")?)?;
    let record = value
        .as_object()
        .filter(|map| stability_matrix::is_record(map))?;
    Some(stability_matrix::read(
        &Fields::new(record),
        comfyui(carried),
    ))
}

fn invokeai(carried: &Carried) -> Option<Sheet> {
    let record = |key| match json(carried.png(key)?)? {
        Value::Object(map) => Some(map),
        _ => None,
    };
    if let Some(map) = record("invokeai_metadata") {
        return Some(invokeai::read(&Fields::new(&map)));
    }
    if let Some(map) = record("sd-metadata") {
        return Some(invokeai::read_old(&Fields::new(&map)));
    }
    carried.png("Dream").and_then(invokeai::read_dream)
}

fn novelai(carried: &Carried) -> Option<Sheet> {
    let comment = json(carried.png("Comment")?)?;
    let record = comment.as_object().filter(|map| novelai::is_record(map))?;
    let (description, source) = (carried.png("Description"), carried.png("Source"));
    Some(novelai::read(&Fields::new(record), description, source))
}

fn draw_things(carried: &Carried) -> Option<Sheet> {
    let comment = |packet: &String| json(&xmp::property(packet, "exif:UserComment")?);
    let value = carried.xmp.iter().find_map(comment)?;
    let record = value
        .as_object()
        .filter(|map| draw_things::is_record(map))?;
    Some(draw_things::read(&Fields::new(record)))
}

/// A1111's text, and that of the programs that write it after A1111's fashion.
fn read_infotext(text: &str, bare_prompt: bool) -> Option<Recipe> {
    let reading = infotext::read(text);
    if let Some(record) = reading.sdcpp.as_deref().and_then(json)
        && let Some(sheet) = record.as_object().filter(|map| sdcpp::is_record(map))
    {
        return Some(sdcpp::read(&Fields::new(sheet)).into_recipe());
    }
    let understood = reading.has_settings || (bare_prompt && !text.trim().is_empty());
    understood.then(|| reading.into_recipe(text))
}
