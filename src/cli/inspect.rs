//! `easel inspect`: what a model file or folder is, without loading it.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::{Value, json};

use super::args::Inspect;
use super::report::Streams;
use super::size_words;
use crate::error::Result;
use crate::request::{LoraNotes, ModelCard};
use crate::worker::{self, Inspected, Inspection, PlannedConvolution};

/// Writes what lies at a path to standard output.
///
/// Errors: [`crate::error::Error::Model`] that says what is wrong with it.
pub fn inspect(asked: &Inspect, to: &mut Streams<'_>) -> Result<()> {
    let path = asked.path.as_path();
    let inspected = worker::inspect(path)?;
    let plan = match asked.plan {
        true => worker::convolutions(path, asked.size)?,
        false => Vec::new(),
    };
    if asked.json {
        let mut found = json_of(path, &inspected);
        if asked.plan {
            found["plan"] = plan.iter().map(json_of_convolution).collect();
        }
        to.out(found);
        return Ok(());
    }
    match &inspected {
        Inspected::Model(model) => {
            write_card(&model.card, &model.prediction_type, to);
            to.out("");
            to.out(row(["Part", "Network", "Parameters", "On disk", "Numbers"]));
            for part in &model.components {
                to.out(row([
                    part.name,
                    &part.class,
                    &count_words(part.parameters),
                    &size_words(part.bytes),
                    &part.dtypes.join(", "),
                ]));
            }
            write_faults(model, to);
        }
        Inspected::File {
            about,
            notes,
            parameters,
            bytes,
            tensors,
            ..
        } => {
            to.out(about);
            let formats: BTreeSet<String> = tensors
                .iter()
                .map(|tensor| tensor.dtype.to_string())
                .collect();
            let formats = formats.into_iter().collect::<Vec<_>>().join(", ");
            to.out(format_args!(
                "{} parameters in {}, {} on disk, {formats}",
                count_words(*parameters),
                tensors_words(tensors.len()),
                size_words(*bytes),
            ));
            notes.lines().iter().for_each(|line| to.out(line));
        }
    }
    if asked.plan {
        write_plan(&plan, to);
    }
    Ok(())
}

/// Every 3x3 convolution with the way that it is computed.
fn write_plan(plan: &[PlannedConvolution], to: &mut Streams<'_>) {
    to.out("");
    to.out("3x3 convolutions of stride 1 on this processor:");
    for layer in plan {
        let channels = format!("{} to {}", layer.in_channels, layer.out_channels);
        let size = format!("{} x {} x {}", layer.batch, layer.width, layer.height);
        to.out(format_args!(
            "{:<5}{:<42}{channels:<14}{size:<17}{}",
            layer.part, layer.layer, layer.method
        ));
    }
}

fn json_of_convolution(layer: &PlannedConvolution) -> Value {
    json!({
        "part": layer.part,
        "layer": layer.layer,
        "in_channels": layer.in_channels,
        "out_channels": layer.out_channels,
        "batch": layer.batch,
        "width": layer.width,
        "height": layer.height,
        "method": layer.method,
    })
}

fn write_card(card: &ModelCard, prediction_type: &str, to: &mut Streams<'_>) {
    to.out(format_args!("{} ({})", card.name, card.family));
    if !card.description.is_empty() {
        to.out(&card.description);
    }
    let defaults = &card.defaults;
    to.out(format_args!(
        "Draws {} × {} in {} steps, guidance {}, sampler {}, schedule {}; sides are multiples of {}",
        defaults.width_px,
        defaults.height_px,
        defaults.steps,
        defaults.guidance_scale,
        defaults.sampler.info().name,
        defaults.schedule.info().name,
        card.latent_factor,
    ));
    to.out(format_args!(
        "Predicts {prediction_type}; reads prompts in chunks of {} tokens",
        card.chunk_tokens
    ));
    if let Some(upscaler) = &defaults.upscaler {
        to.out(format_args!("Enlarges with {upscaler}"));
    }
}

/// What is missing, what no network takes and what is no part of a model; nothing where all is well.
fn write_faults(model: &Inspection, to: &mut Streams<'_>) {
    if let Some(needs) = &model.needs {
        to.out(format_args!("Cannot draw yet: {needs}"));
    }
    for part in &model.components {
        if let Some(problem) = &part.problem {
            to.out(format_args!("{}: {problem}", part.name));
        }
        write_names(&format!("Not used in {}", part.name), &part.unused, to);
    }
    write_names("Unknown", &model.unknown, to);
}

fn tensors_words(count: usize) -> String {
    match count {
        1 => "1 tensor".to_owned(),
        count => format!("{count} tensors"),
    }
}

fn write_names(what: &str, names: &[String], to: &mut Streams<'_>) {
    /// The rest is in `--json`.
    const SHOWN: usize = 8;
    if names.is_empty() {
        return;
    }
    let shown: Vec<&str> = names.iter().take(SHOWN).map(String::as_str).collect();
    let more = if names.len() > SHOWN { ", ..." } else { "" };
    to.out(format_args!(
        "{what}: {}: {}{more}",
        tensors_words(names.len()),
        shown.join(", ")
    ));
}

fn row(cells: [&str; 5]) -> String {
    let [part, network, parameters, bytes, numbers] = cells;
    format!("{part:<16}{network:<29}{parameters:>12}{bytes:>12}  {numbers}")
}

/// `859.5 M`.
fn count_words(count: u64) -> String {
    let value = count as f64;
    for (unit, name) in [(1e9, "G"), (1e6, "M"), (1e3, "k")] {
        if value >= unit {
            return format!("{:.1} {name}", value / unit);
        }
    }
    count.to_string()
}

fn json_of(path: &Path, inspected: &Inspected) -> Value {
    match inspected {
        Inspected::Model(model) => json!({
            "path": path.to_string_lossy(),
            "kind": "model",
            "card": model.card,
            "prediction_type": model.prediction_type,
            "needs": model.needs,
            "unknown": model.unknown,
            "components": model.components.iter().map(|part| json!({
                "name": part.name,
                "class": part.class,
                "files": part.files,
                "parameters": part.parameters,
                "bytes": part.bytes,
                "dtypes": part.dtypes,
                "problem": part.problem,
                "unused": part.unused,
            })).collect::<Vec<_>>(),
        }),
        Inspected::File {
            about,
            why,
            network,
            notes,
            parameters,
            bytes,
            tensors,
        } => json!({
            "path": path.to_string_lossy(),
            "kind": "file",
            "about": about,
            "why": why,
            "network": network,
            "notes": (*notes != LoraNotes::default()).then_some(notes),
            "parameters": parameters,
            "bytes": bytes,
            "tensors": tensors.iter().map(|tensor| json!({
                "name": tensor.name,
                "shape": tensor.shape,
                "dtype": tensor.dtype.to_string(),
            })).collect::<Vec<_>>(),
        }),
    }
}
