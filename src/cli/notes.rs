//! What is worth a line before a picture is drawn: slips in the prompts, which the window marks while one
//! types, and options that change nothing. Nothing here stops a drawing.

use std::path::PathBuf;

use crate::prompt::{self, Known};
use crate::request::{GenerationRequest, Knob, ModelCard};
use crate::worker;

/// More slips than these are not told one by one.
const MOST: usize = 20;
/// Letters that are shown of the place that a slip is about.
const EXCERPT: usize = 30;
/// How the names of SDXL's families begin, and its refiner's ends.
const XL: &str = "Stable Diffusion XL";
const REFINER: &str = "refiner";

/// What in the prompts probably is not meant so; `folders`: the model folders. LoRAs and embeddings that
/// are not there the drawing itself tells.
pub(super) fn of_prompts(request: &GenerationRequest, folders: &[PathBuf]) -> Vec<String> {
    let prompts = [
        ("In the prompt", &request.prompt),
        ("In the negative prompt", &request.negative_prompt),
    ];
    // Folders are walked for those alone who name a list.
    let names = prompts.iter().any(|(_, prompt)| prompt.contains("__"));
    let wildcards = names.then(|| worker::wildcard_names(request, folders));
    let known = Known {
        wildcards: wildcards.as_deref(),
        ..Known::default()
    };
    let slips = prompts.iter().flat_map(|(which, prompt)| {
        let warnings = prompt::read(prompt, request.emphasis, &known).warnings;
        warnings.into_iter().map(move |warning| {
            let place = prompt.get(warning.range).unwrap_or_default();
            let place: String = place.chars().take(EXCERPT).collect();
            format!("{which}, \"{place}\": {}", warning.message)
        })
    });
    slips.take(MOST).collect()
}

/// What was asked for and counts for nothing with this model.
pub(super) fn of_options(request: &GenerationRequest, card: &ModelCard) -> Vec<String> {
    let sampler = request.sampler.unwrap_or(card.defaults.sampler);
    let schedule = request.schedule.unwrap_or(card.defaults.schedule);
    let counts = |knob: Knob| knob.counts(sampler, schedule, &request.tuning);
    let hints = &request.hints;
    let sizes = [hints.original_size, hints.crop, hints.target_size];
    let scores = [hints.aesthetic_score, hints.negative_aesthetic_score];
    let is_xl = card.family.starts_with(XL);
    let has_refiner = request.refiner.is_some() || card.family.ends_with(REFINER);
    let mut notes = Vec::new();
    if request.tuning.eta.is_some() && !counts(Knob::Eta) {
        notes.push(format!(
            "--eta changes nothing with the sampler {}",
            sampler.info().label
        ));
    }
    if request.seeding.ensd.is_some() && !counts(Knob::SNoise) {
        notes.push(format!(
            "--ensd changes nothing: the sampler {} adds no noise on the way",
            sampler.info().label
        ));
    }
    if sizes.iter().any(Option::is_some) && !is_xl && !has_refiner {
        notes.push(format!(
            "--original-size, --crop and --target-size change nothing with {}: only SDXL is told them",
            card.name
        ));
    }
    if scores.iter().any(Option::is_some) && !has_refiner {
        notes.push(
            "The aesthetic scores change nothing without SDXL's refiner, which alone is told them"
                .to_owned(),
        );
    }
    notes
}
