//! A1111's infotext: the settings as one readable text, written and read.
//!
//! Prompt, a line `Negative prompt: ...`, and a last line `Steps: 20, Sampler: ..., ...`.
//! Source: AUTOMATIC1111 stable-diffusion-webui 1.10, `modules/infotext_utils.py`
//! (`parse_generation_parameters`, `quote`, `unquote`) and `modules/processing.py`
//! (`create_infotext`).

use std::collections::{BTreeMap, BTreeSet};

use super::{hashes, names};
use crate::request::{
    EMPHASES, Emphasis, Foreign, GenerationRequest, GuidanceInterval, LoraChoice, MOST_NOTES,
    NamedFile, NamedFiles, PictureSettings, Recipe, RefinerChoice, SEED_MODES, SamplerId,
    ScheduleId, SeedMode, Seeding, Tuning,
};

/// With fewer settings than this a last line is taken for prompt.
const FEWEST_SETTINGS: usize = 3;
/// Of Civitai's files that a text names, more are not told of.
const MOST_RESOURCES: usize = 30;
/// Of the LoRAs whose hashes a text names, more are not looked at.
const MOST_LORAS: usize = 1000;
const NEGATIVE_PROMPT: &str = "Negative prompt:";
/// What `Version` begins with.
const EASEL: &str = "Easel";

/// A1111's infotext of a picture, as it is written into the file.
pub fn write(settings: &PictureSettings) -> String {
    if let Some(foreign) = &settings.foreign {
        return enlarged(foreign, settings);
    }
    // Values that hold separators come last: readers that split at commas lose nothing else.
    let (mut plain, mut quoted) = (Vec::new(), Vec::new());
    for (key, value) in fields(settings) {
        match quote(&value) {
            Some(value) => quoted.push(format!("{key}: {value}")),
            None => plain.push(format!("{key}: {value}")),
        }
    }
    plain.append(&mut quoted);
    let hashes = hashes::all(settings);
    if !hashes.is_empty() {
        plain.push(format!("Hashes: {}", serde_json::Value::from(hashes)));
    }
    format!(
        "{}{}\n{NEGATIVE_PROMPT} {}\n{}",
        settings.prompt,
        loras(settings),
        settings.negative_prompt,
        plain.join(", ")
    )
}

/// The infotext of a picture of another program, as far as it was understood.
pub fn of_request(request: &GenerationRequest, files: &NamedFiles, program: &str) -> String {
    let size = request.width_px.zip(request.height_px);
    let model = files.model.as_ref();
    let refiner = files.refiner.as_ref();
    let refined_by = |(file, _): &(NamedFile, f64)| match &file.hash {
        Some(hash) => format!("{} [{hash}]", file.name),
        None => file.name.clone(),
    };
    let hashed = files.loras.iter().filter_map(|file| {
        let hash = file.hash.as_ref()?;
        Some(format!("{}: {hash}", file.name))
    });
    let fields = [
        ("Steps", request.steps.map(|steps| steps.to_string())),
        (
            "Sampler",
            request.sampler.map(|id| id.info().a1111_name.to_owned()),
        ),
        (
            "Schedule type",
            request.schedule.map(|id| shown_schedule(id).to_owned()),
        ),
        (
            "CFG scale",
            request.guidance_scale.map(|scale| scale.to_string()),
        ),
        ("Seed", request.seed.map(|seed| seed.to_string())),
        (
            "Size",
            size.map(|(width, height)| format!("{width}x{height}")),
        ),
        ("Model hash", model.and_then(|model| model.hash.clone())),
        ("Model", model.map(|model| model.name.clone())),
        ("VAE", files.vae.as_ref().map(|vae| vae.name.clone())),
        (
            "VAE hash",
            files.vae.as_ref().and_then(|vae| vae.hash.clone()),
        ),
        (REFINER, refiner.map(refined_by)),
        (REFINER_START, refiner.map(|(_, start)| start.to_string())),
        ("Clip skip", request.clip_skip.map(|skip| skip.to_string())),
        (
            "CFG Rescale",
            request.guidance_rescale.map(|rescale| rescale.to_string()),
        ),
        (hashes::LORAS, Some(hashed.collect::<Vec<_>>().join(", "))),
        ("Version", Some(program.to_owned())),
    ];
    let line: Vec<String> = fields
        .into_iter()
        .filter_map(|(key, value)| Some((key, value.filter(|value| !value.is_empty())?)))
        .map(|(key, value)| format!("{key}: {}", quote(&value).unwrap_or(value)))
        .collect();
    let (prompt, negative) = (&request.prompt, &request.negative_prompt);
    format!(
        "{prompt}\n{NEGATIVE_PROMPT} {negative}\n{}",
        line.join(", ")
    )
}

/// The infotext of another program's picture that Easel enlarged: its own, and who enlarged it behind the
/// settings.
fn enlarged(foreign: &Foreign, now: &PictureSettings) -> String {
    let text = foreign.infotext.trim_end();
    let mut lines: Vec<String> = text.split('\n').map(str::to_owned).collect();
    let said: Vec<&str> = lines.iter().map(String::as_str).collect();
    let line = end_of_settings(&said).saturating_sub(1);
    let by = foreign.enlarged_by.max(1);
    let upscaler = now.upscaler.as_deref().unwrap_or_default();
    let added = format!("{UPSCALED_BY}: {by}, {UPSCALER}: {upscaler}");
    match lines.get_mut(line) {
        // Enlarged before.
        Some(line) if line.contains(UPSCALER) => {}
        Some(line) if settings(line).len() >= FEWEST_SETTINGS => {
            *line = format!("{}, {added}", line.trim_end().trim_end_matches(','));
        }
        // Fewer settings than three are taken for words.
        _ => {
            let [width, height] = [now.output_width_px, now.output_height_px].map(|it| it / by);
            lines.push(format!("Size: {width}x{height}, {added}"));
        }
    }
    lines.join("\n")
}

const UPSCALED_BY: &str = "Postprocess upscale by";
const UPSCALER: &str = "Postprocess upscaler";

/// A1111's name of a schedule, or Easel's where A1111 has none.
fn shown_schedule(schedule: ScheduleId) -> &'static str {
    let info = schedule.info();
    info.a1111_name.unwrap_or(info.label)
}

/// LoRAs that were chosen beside the prompt, as A1111 names them in it.
fn loras(settings: &PictureSettings) -> String {
    let tag = |lora: &LoraChoice| format!(" <lora:{}:{}>", lora.name(), lora.weight);
    settings.loras.iter().map(tag).collect()
}

/// The settings line, in A1111's order.
fn fields(settings: &PictureSettings) -> Vec<(&'static str, String)> {
    let mut fields = Vec::new();
    // Easel enlarges pictures that say nothing of how they were drawn: then nothing is made up.
    if settings.steps > 0 {
        fields = drawing_fields(settings);
    }
    if let Some(upscaler) = &settings.upscaler {
        let factor = settings.output_width_px.checked_div(settings.width_px);
        fields.extend(factor.map(|factor| (UPSCALED_BY, factor.to_string())));
        fields.push((UPSCALER, upscaler.clone()));
    }
    if settings.steps > 0 {
        fields.extend(tuning_fields(settings.sampler, &settings.tuning));
        fields.extend(seeding_fields(&settings.seeding));
        fields.extend(hashes::fields(&settings.hashes));
    }
    fields.push(("Version", format!("{EASEL} {}", settings.version)));
    fields
}

/// What the picture was drawn with.
fn drawing_fields(settings: &PictureSettings) -> Vec<(&'static str, String)> {
    let sampler = settings.sampler.info();
    let schedule = schedule_name(settings.sampler, settings.schedule);
    let fused = match settings.schedule.info().a1111_name {
        Some(schedule) => format!("{} {schedule}", sampler.a1111_name),
        None => sampler.a1111_name.to_owned(),
    };
    let mut fields = vec![("Steps", settings.steps.to_string()), ("Sampler", fused)];
    fields.extend(schedule.map(|name| ("Schedule type", name.to_owned())));
    fields.extend([
        ("CFG scale", settings.guidance_scale.to_string()),
        ("Seed", settings.seed.to_string()),
        (
            "Size",
            format!("{}x{}", settings.width_px, settings.height_px),
        ),
    ]);
    fields.extend(
        settings
            .model_hash
            .iter()
            .map(|hash| ("Model hash", hash.clone())),
    );
    if !settings.model_name.is_empty() {
        fields.push(("Model", settings.model_name.clone()));
    }
    if let Some(vae) = &settings.vae_path {
        let name = vae.file_name().unwrap_or(vae.as_os_str());
        fields.push(("VAE", name.to_string_lossy().into_owned()));
    }
    if let Some(RefinerChoice { path, start }) = &settings.refiner {
        let name = path
            .file_stem()
            .unwrap_or(path.as_os_str())
            .to_string_lossy();
        let name = match &settings.refiner_hash {
            Some(hash) => format!("{name} [{hash}]"),
            None => name.into_owned(),
        };
        fields.push((REFINER, name));
        fields.push((REFINER_START, start.to_string()));
    }
    if settings.clip_skip > 1 {
        fields.push(("Clip skip", settings.clip_skip.to_string()));
    }
    if settings.guidance_rescale > 0.0 {
        fields.push(("CFG Rescale", settings.guidance_rescale.to_string()));
    }
    if let Some(GuidanceInterval { start, stop }) = settings.guidance_interval {
        fields.push((GUIDANCE_INTERVAL, format!("{start} to {stop}")));
    }
    if !settings.emphasis.is_usual() {
        let name = settings.emphasis.info().a1111_name;
        fields.push((EMPHASIS, name.to_owned()));
    }
    let templates = [&settings.template, &settings.negative_template];
    for (key, template) in [TEMPLATE, NEGATIVE_TEMPLATE].into_iter().zip(templates) {
        fields.extend(template.iter().map(|template| (key, template.clone())));
    }
    fields
}

const EMPHASIS: &str = "Emphasis";
/// sd-dynamic-prompts' keys, which it writes in lines of their own behind the settings.
const TEMPLATE: &str = "Template";
const NEGATIVE_TEMPLATE: &str = "Negative Template";
/// A1111's (`modules/processing_scripts/refiner.py`).
const REFINER: &str = "Refiner";
const REFINER_START: &str = "Refiner switch at";

/// Easel's own: A1111 has `Skip Early CFG` for the beginning only.
const GUIDANCE_INTERVAL: &str = "CFG interval";
const SKIP_EARLY: &str = "Skip Early CFG";

/// A1111's keys of the fine settings (`modules/shared_options.py`).
const TUNING_KEYS: &[&str] = &[
    ETA,
    ETA_DDIM,
    "Sigma churn",
    "Sigma noise",
    "Schedule rho",
    "Schedule min sigma",
    "Schedule max sigma",
];
const ETA: &str = "Eta";
const ETA_DDIM: &str = "Eta DDIM";

/// DDIM has a key of its own in A1111, whose value for it is otherwise 0 as Easel's.
fn eta_key(sampler: SamplerId) -> &'static str {
    match sampler {
        SamplerId::Ddim => ETA_DDIM,
        _ => ETA,
    }
}

fn tuning_fields(sampler: SamplerId, tuning: &Tuning) -> Vec<(&'static str, String)> {
    let said = [
        (eta_key(sampler), tuning.eta),
        ("Sigma churn", tuning.s_churn),
        ("Sigma noise", tuning.s_noise),
        ("Schedule rho", tuning.rho),
        ("Schedule min sigma", tuning.sigma_min),
        ("Schedule max sigma", tuning.sigma_max),
    ];
    let said = said.into_iter();
    said.filter_map(|(key, value)| Some((key, value?.to_string())))
        .collect()
}

/// A1111's keys of how the seed becomes noise (`modules/processing.py`, `create_infotext`).
const SEEDING_KEYS: &[&str] = &[
    RNG,
    SEED_MODE,
    "ENSD",
    "Variation seed",
    "Variation seed strength",
    "Seed resize from",
    "Batch pos",
];
const RNG: &str = "RNG";
/// Easel's own, where none of A1111's says it.
const SEED_MODE: &str = "Seed mode";

fn seeding_fields(seeding: &Seeding) -> Vec<(&'static str, String)> {
    // A1111 writes nothing where a card draws. ComfyUI begins with the same noise as its CPU.
    let rng = (seeding.mode != SeedMode::A1111).then(|| "CPU".to_owned());
    let mode = match seeding.mode {
        SeedMode::Diffusers | SeedMode::A1111 => None,
        SeedMode::A1111Cpu | SeedMode::ComfyUi => Some(seeding.mode.info().name.to_owned()),
    };
    let varies = seeding.varies();
    let variation = seeding.variation_seed.filter(|_| varies);
    let strength = seeding.variation_strength.filter(|_| varies);
    let resized = seeding.resize_from;
    let fields = [
        (RNG, rng),
        (SEED_MODE, mode),
        (
            "Batch pos",
            seeding.batch_index.map(|index| index.to_string()),
        ),
        ("Variation seed", variation.map(|seed| seed.to_string())),
        (
            "Variation seed strength",
            strength.map(|share| share.to_string()),
        ),
        (
            "Seed resize from",
            resized.map(|[width, height]| format!("{width}x{height}")),
        ),
        ("ENSD", seeding.ensd.map(|delta| delta.to_string())),
    ];
    let fields = fields.into_iter();
    fields
        .filter_map(|(key, value)| Some((key, value?)))
        .collect()
}

/// `Schedule type` for A1111, which takes a picture without one for the sampler's usual schedule:
/// where that would be Karras or the like, `Uniform` (evenly spread steps) comes nearest.
fn schedule_name(sampler: SamplerId, schedule: ScheduleId) -> Option<&'static str> {
    let own = schedule.info().a1111_name;
    let misread = sampler.info().default_schedule.info().a1111_name.is_some();
    own.or(misread.then_some("Uniform"))
}

/// The value in JSON's quotes, where it would not be read back without them.
fn quote(value: &str) -> Option<String> {
    let needed = value.contains([',', ':', '\n', '\r'])
        || value.starts_with(['"', '{', '['])
        || value.trim() != value;
    needed.then(|| serde_json::Value::from(value).to_string())
}

/// An infotext taken apart, nothing interpreted yet.
#[derive(Debug, PartialEq)]
struct Parts {
    prompt: String,
    negative_prompt: Option<String>,
    /// In the order of the text.
    values: Vec<(String, String)>,
}

fn split(text: &str) -> Parts {
    let mut lines: Vec<&str> = text.trim().split('\n').collect();
    lines.truncate(end_of_settings(&lines));
    let mut values = lines.last().map_or_else(Vec::new, |line| settings(line));
    if values.len() < FEWEST_SETTINGS {
        values.clear();
    } else {
        lines.pop();
    }
    let mut prompt = Vec::new();
    let mut negative: Option<Vec<&str>> = None;
    for line in lines.into_iter().map(str::trim) {
        match (&mut negative, line.strip_prefix(NEGATIVE_PROMPT)) {
            (Some(negative), Some(rest)) => negative.push(rest.trim()),
            (None, Some(rest)) => negative = Some(vec![rest.trim()]),
            (Some(negative), None) => negative.push(line),
            (None, None) => prompt.push(line),
        }
    }
    Parts {
        prompt: prompt.join("\n"),
        negative_prompt: negative.map(|lines| lines.join("\n").trim_start().to_owned()),
        values,
    }
}

/// How many lines there are without the templates that sd-dynamic-prompts puts behind the settings.
fn end_of_settings(lines: &[&str]) -> usize {
    let is_template = |line: &&str| {
        [TEMPLATE, NEGATIVE_TEMPLATE].iter().any(|key| {
            line.strip_prefix(key)
                .is_some_and(|rest| rest.starts_with(": "))
        })
    };
    let behind_settings = lines.windows(2).rposition(|pair| match pair {
        [settings, next] => settings.starts_with("Steps: ") && is_template(next),
        _ => false,
    });
    behind_settings.map_or(lines.len(), |at| at + 1)
}

/// All `key: value` of a line, as A1111's regular expression finds them:
/// `\s*(\w[\w \-/]+):\s*("(?:\\.|[^\\"])+"|[^,]*)(?:,|$)`.
fn settings(line: &str) -> Vec<(String, String)> {
    let mut values = Vec::new();
    let mut rest = line;
    while let Some(start) = rest.find(is_word) {
        let from = &rest[start..];
        let end = from
            .find(|c| !(is_word(c) || matches!(c, ' ' | '-' | '/')))
            .unwrap_or(from.len());
        let (key, after) = from.split_at(end);
        let Some(after) = after.strip_prefix(':').filter(|_| key.chars().count() > 1) else {
            rest = after;
            continue;
        };
        let (value, after) = value(after.trim_start());
        values.push((key.trim().to_owned(), value));
        rest = after;
    }
    values
}

fn is_word(character: char) -> bool {
    character.is_alphanumeric() || character == '_'
}

/// The value at the start of `text`, and what follows its comma.
fn value(text: &str) -> (String, &str) {
    // Quoted, or the bare JSON of `Hashes` and `Civitai resources`, which holds commas itself.
    if text.starts_with(['"', '{', '[']) {
        let mut json = serde_json::Deserializer::from_str(text).into_iter::<serde_json::Value>();
        if let Some(Ok(value)) = json.next() {
            let (raw, after) = text.split_at(json.byte_offset());
            let value = match value {
                serde_json::Value::String(value) => value,
                _ => raw.to_owned(),
            };
            if after.is_empty() {
                return (value, after);
            }
            if let Some(after) = after.strip_prefix(',') {
                return (value, after);
            }
        }
    }
    let (value, after) = text.split_once(',').unwrap_or((text, ""));
    (value.trim().to_owned(), after)
}

/// What an infotext asks for, and what of it Easel has no answer to.
#[derive(Debug, PartialEq)]
pub struct Reading {
    pub request: GenerationRequest,
    pub files: NamedFiles,
    pub notes: Vec<String>,
    /// Whether there was a settings line: without, any text would pass for a prompt.
    pub has_settings: bool,
    /// The record of stable-diffusion.cpp, which says more than its text.
    pub sdcpp: Option<String>,
    program: &'static str,
}

/// Reads an infotext.
pub fn read(text: &str) -> Reading {
    let parts = split(text);
    let mut reading = Reading {
        request: GenerationRequest {
            negative_prompt: parts.negative_prompt.clone().unwrap_or_default(),
            ..GenerationRequest::default()
        },
        files: NamedFiles::default(),
        notes: Vec::new(),
        has_settings: !parts.values.is_empty() || parts.negative_prompt.is_some(),
        sdcpp: None,
        program: "another program",
    };
    reading.note_hypernetworks(&parts.prompt);
    reading.request.prompt = parts.prompt;
    if !parts.values.is_empty() {
        reading.interpret(&Values(&parts.values));
    }
    reading
}

/// Settings that say nothing about how to draw, or that [`Reading`] deals with one by one.
const KNOWN_KEYS: &[&str] = &[
    "Steps",
    "Sampler",
    "Schedule type",
    "Schedule",
    "CFG scale",
    "Seed",
    "Size",
    "Model",
    "Model hash",
    "Clip skip",
    "CFG Rescale",
    GUIDANCE_INTERVAL,
    SKIP_EARLY,
    EMPHASIS,
    TEMPLATE,
    NEGATIVE_TEMPLATE,
    "Denoising strength",
    "Version",
    "Hashes",
    hashes::LORAS,
    hashes::EMBEDDINGS,
    "VAE",
    "VAE hash",
    REFINER,
    REFINER_START,
    "Batch size",
    UPSCALED_BY,
    UPSCALER,
    "Lora weights",
    "Civitai resources",
    "Civitai metadata",
    "SDCPP",
    "Generator",
    "Created Date",
    "User",
];

struct Values<'a>(&'a [(String, String)]);

impl Values<'_> {
    /// The last one wins, as in A1111's dictionary.
    fn get(&self, key: &str) -> Option<&str> {
        let mut found = self.0.iter().rev().filter(|(name, _)| name == key);
        found.next().map(|(_, value)| value.as_str())
    }
}

/// Who writes such a text, by `Version`: A1111 `v1.10.1`, Forge `f2.0.1`, others by their names.
fn program(version: Option<&str>) -> &'static str {
    let version = version.unwrap_or_default();
    let begins = |start: &str| version.starts_with(start);
    match version {
        _ if begins("Easel") => "Easel",
        _ if begins("stable-diffusion.cpp") => "stable-diffusion.cpp",
        _ if begins("Fooocus") => "Fooocus",
        _ if begins("ComfyUI") => "ComfyUI",
        _ if begins("f") || begins("neo") => "Forge",
        _ if begins("v1.") => "AUTOMATIC1111",
        _ => "another program",
    }
}

impl Reading {
    /// The recipe of a picture that carries this text.
    pub fn into_recipe(self, text: &str) -> Recipe {
        Recipe {
            program: self.program.to_owned(),
            request: self.request,
            settings: None,
            infotext: text.to_owned(),
            files: self.files,
            notes: self.notes,
        }
    }

    fn interpret(&mut self, values: &Values<'_>) {
        self.program = program(values.get("Version"));
        self.sdcpp = values.get("SDCPP").map(str::to_owned);
        self.request.count = Some(1);
        self.request.steps = self.number(values, "Steps");
        self.request.guidance_scale = self.number(values, "CFG scale");
        // Of an extension of A1111's; it means the same.
        self.request.guidance_rescale = self
            .number(values, "CFG Rescale")
            .filter(|rescale| *rescale > 0.0);
        self.request.clip_skip = self.number(values, "Clip skip").filter(|skip| *skip > 1);
        self.request.seed = self.number(values, "Seed");
        if let Some(size) = values.get("Size") {
            match parse_size(size) {
                Some((width, height)) => {
                    self.request.width_px = Some(width);
                    self.request.height_px = Some(height);
                }
                None => self.unreadable("Size", size),
            }
        }
        self.interpret_sampler(values);
        self.interpret_tuning(values);
        self.interpret_seeding(values);
        self.interpret_interval(values);
        self.interpret_emphasis(values);
        self.name_files(values);
        self.request.hashes = hashes::read(&|key| values.get(key));
        self.note_civitai(values);
        self.note_ways_of_drawing(values);
        self.note_the_rest(values);
    }

    fn number<T: std::str::FromStr>(&mut self, values: &Values<'_>, key: &str) -> Option<T> {
        let text = values.get(key)?;
        // No setting is infinite, but Rust reads `inf` as a number.
        let infinite = text.parse::<f64>().is_ok_and(|number| !number.is_finite());
        let number = text.parse().ok().filter(|_| !infinite);
        if number.is_none() {
            self.unreadable(key, text);
        }
        number
    }

    fn unreadable(&mut self, key: &str, value: &str) {
        let value: String = value.chars().take(40).collect();
        self.notes.push(format!(
            "\"{key}: {value}\" cannot be read and is left out."
        ));
    }

    /// Old pictures fuse the two names (`DPM++ 2M Karras`), new ones have `Schedule type` beside.
    fn interpret_sampler(&mut self, values: &Values<'_>) {
        let Some(name) = values.get("Sampler") else {
            return;
        };
        let Some((sampler, fused)) = names::sampler(name) else {
            self.notes.push(format!(
                "It was drawn with the sampler {name}, which Easel does not have; the model's own is used."
            ));
            return;
        };
        self.request.sampler = Some(sampler);
        // `Schedule`: Forge before it was merged; `Scheduler`: Fooocus in A1111's fashion.
        let said = ["Schedule type", "Schedule", "Scheduler"]
            .iter()
            .find_map(|key| values.get(key))
            .filter(|name| !names::same(name, "Automatic"));
        self.request.schedule = match said {
            // Easel calls schedules so that A1111 does not have.
            Some(name) if self.is_ours() && names::same(name, "Uniform") => Some(ScheduleId::Model),
            Some(name) => names::schedule(name),
            None if self.is_ours() => Some(fused.unwrap_or(sampler.info().default_schedule)),
            None => Some(fused.unwrap_or_else(|| names::automatic(sampler))),
        };
        if let (None, Some(name)) = (self.request.schedule, said) {
            self.notes.push(format!(
                "It was drawn with the schedule {name}, which Easel does not have; the model's own is used."
            ));
        }
    }

    /// Whether noise and brackets are ComfyUI's, as `programs` reads its graphs and Fooocus's records.
    fn draws_like_comfyui(&self) -> bool {
        matches!(self.program, "ComfyUI" | "Fooocus")
    }

    fn is_ours(&self) -> bool {
        self.program == "Easel"
    }

    /// A1111 writes these where they were changed; 0 means as usual for the ends and rho.
    fn interpret_tuning(&mut self, values: &Values<'_>) {
        // stable-diffusion.cpp writes an eta that only its DDIM and TCD look at.
        let looked_at = matches!(self.request.sampler, Some(SamplerId::Ddim | SamplerId::Tcd));
        let eta = match self.request.sampler {
            _ if self.program == "stable-diffusion.cpp" && !looked_at => "",
            _ if self.program == "stable-diffusion.cpp" => ETA,
            sampler => sampler.map_or(ETA, eta_key),
        };
        let said = |number: Option<f64>| number.filter(|number| *number > 0.0);
        self.request.tuning = Tuning {
            eta: self.number(values, eta),
            s_churn: self.number(values, "Sigma churn"),
            s_noise: self.number(values, "Sigma noise"),
            rho: said(self.number(values, "Schedule rho")),
            sigma_min: said(self.number(values, "Schedule min sigma")),
            sigma_max: said(self.number(values, "Schedule max sigma")),
        };
    }

    /// A1111 draws noise as a card does where nothing else is said; `NV` is the same on a processor.
    fn interpret_seeding(&mut self, values: &Values<'_>) {
        let cpu = values.get(RNG).is_some_and(|rng| names::same(rng, "CPU"));
        let easel = values
            .get("Version")
            .is_some_and(|by| by.starts_with(EASEL));
        let said = values.get(SEED_MODE);
        let said = said.and_then(|name| SEED_MODES.iter().find(|info| info.name == name));
        let mode = match said {
            Some(info) => info.id,
            None if cpu && easel => SeedMode::Diffusers,
            None if cpu => SeedMode::A1111Cpu,
            None if values.get(RNG).is_some() => SeedMode::A1111,
            None if self.draws_like_comfyui() => SeedMode::ComfyUi,
            None => SeedMode::A1111,
        };
        let strength: Option<f64> = self.number(values, "Variation seed strength");
        let strength = strength.filter(|share| *share != 0.0);
        let resized = values.get("Seed resize from").and_then(parse_size);
        self.request.seeding = Seeding {
            mode,
            variation_seed: self.number(values, "Variation seed"),
            variation_strength: strength,
            resize_from: resized.map(|(width, height)| [width, height]),
            ensd: self.number(values, "ENSD").filter(|delta| *delta != 0),
            batch_index: match mode {
                SeedMode::ComfyUi => self.number(values, "Batch pos"),
                // A1111's seeds say it already.
                _ => None,
            },
        };
    }

    /// A1111 leaves the negative prompt out up to and including the step at that share.
    fn interpret_interval(&mut self, values: &Values<'_>) {
        if let Some(text) = values.get(GUIDANCE_INTERVAL) {
            let bounds = text.split_once(" to ");
            self.request.guidance_interval = bounds.and_then(|(start, stop)| {
                let (start, stop) = (start.parse().ok()?, stop.parse().ok()?);
                Some(GuidanceInterval { start, stop })
            });
            if self.request.guidance_interval.is_none() {
                self.unreadable(GUIDANCE_INTERVAL, text);
            }
        } else if let Some(share) = self.number::<f64>(values, SKIP_EARLY)
            && share > 0.0
        {
            let steps = f64::from(self.request.steps.unwrap_or(1).max(1));
            // Half a step on, so that rounding down finds the step.
            let start = ((share * steps).floor() + 1.5) / steps;
            let start = start.min(1.0);
            self.request.guidance_interval = Some(GuidanceInterval { start, stop: 1.0 });
        }
    }

    /// The model, VAE and LoRAs with their hashes, which a renamed file keeps.
    fn name_files(&mut self, values: &Values<'_>) {
        let hashes = values
            .get("Hashes")
            .and_then(|json| serde_json::from_str(json).ok());
        let hashes: BTreeMap<String, String> = hashes.unwrap_or_default();
        let hash = |key: &str| hashes.get(key).map(String::as_str);
        let (name, short) = (values.get("Model"), values.get("Model hash"));
        if name.or(short).is_some() {
            let file = NamedFile::new(name.unwrap_or_default(), short.or(hash("model")));
            self.files.model = Some(file);
        }
        if let Some(name) = values.get("VAE").filter(|name| !names::same(name, "None")) {
            let hash = values.get("VAE hash").or(hash("vae"));
            self.files.vae = Some(NamedFile::new(name, hash));
        }
        if let Some(name) = values
            .get(REFINER)
            .filter(|name| !names::same(name, "None"))
        {
            // `name [hash]`
            let parts = name.split_once(" [");
            let (name, hash) = parts.map_or((name, None), |(name, hash)| {
                (name, Some(hash.trim_end_matches(']')))
            });
            let start = self.number(values, REFINER_START);
            let file = NamedFile::new(name, hash);
            self.files.refiner = Some((file, start.unwrap_or(RefinerChoice::START)));
        }
        // `name: hash, name: hash`; the same under `lora:name` is another way to say it.
        let listed = values.get("Lora hashes").unwrap_or_default().split(',');
        let listed = listed.filter_map(|pair| pair.rsplit_once(':'));
        let named = hashes
            .iter()
            .filter_map(|(key, hash)| Some((key.strip_prefix("lora:")?, &**hash)));
        for (name, hash) in listed.chain(named).take(MOST_LORAS) {
            let file = NamedFile::new(name.trim(), Some(hash.trim()));
            if !self.files.loras.contains(&file) {
                self.files.loras.push(file);
            }
        }
    }

    /// Civitai's own generator names files by their place in its catalogue, and its LoRAs nowhere else.
    fn note_civitai(&mut self, values: &Values<'_>) {
        let resources = values.get("Civitai resources").map(serde_json::from_str);
        let Some(Ok(serde_json::Value::Array(resources))) = resources else {
            return;
        };
        for resource in resources.iter().take(MOST_RESOURCES) {
            let text = |key| resource.get(key).and_then(serde_json::Value::as_str);
            let (kind, name) = (text("type"), text("modelName").unwrap_or_default());
            if kind == Some("checkpoint") {
                let file = || NamedFile::new(name, None);
                self.files.model.get_or_insert_with(file);
                continue;
            }
            let version = text("modelVersionName").map_or_else(String::new, |v| format!(" ({v})"));
            let weight = resource.get("weight").and_then(serde_json::Value::as_f64);
            let weight = weight.map_or_else(String::new, |weight| format!(" at {weight}"));
            let kind = match kind {
                Some("lora" | "lycoris" | "dora") => "LoRA",
                Some("embed" | "embedding") => "embedding",
                _ => "file",
            };
            if !self.request.prompt.contains(name) || name.is_empty() {
                self.notes.push(format!(
                    "It was drawn with the {kind} {name}{version}{weight} of Civitai's catalogue, which its prompt does not name."
                ));
            }
        }
    }

    fn interpret_emphasis(&mut self, values: &Values<'_>) {
        let Some(name) = values.get(EMPHASIS) else {
            if self.draws_like_comfyui() {
                self.request.emphasis = Emphasis::Comfyui;
            }
            return;
        };
        match EMPHASES
            .iter()
            .find(|info| names::same(info.a1111_name, name))
        {
            Some(info) => self.request.emphasis = info.id,
            None => self.unreadable(EMPHASIS, name),
        }
    }

    fn note_ways_of_drawing(&mut self, values: &Values<'_>) {
        let hires = values.0.iter().any(|(key, _)| key.starts_with("Hires "));
        if hires {
            self.notes.push(
                "A second, larger pass (Hires fix) was used, which Easel does not have.".to_owned(),
            );
        } else if let Some(strength) = values.get("Denoising strength") {
            self.notes.push(format!(
                "It was drawn from another picture (denoising strength {strength}), which it does not carry."
            ));
        }
    }

    fn note_the_rest(&mut self, values: &Values<'_>) {
        let (mut seen, mut keys) = (BTreeSet::new(), Vec::new());
        for (key, _) in values.0 {
            let known = KNOWN_KEYS.contains(&key.as_str())
                || TUNING_KEYS.contains(&key.as_str())
                || SEEDING_KEYS.contains(&key.as_str())
                || key.starts_with("Hires ");
            if !known && seen.insert(key) {
                keys.push(key.as_str());
            }
        }
        let more = keys.len().saturating_sub(MOST_NOTES);
        keys.truncate(MOST_NOTES);
        let more = (more > 0).then(|| format!("and {more} more"));
        keys.extend(more.as_deref());
        if !keys.is_empty() {
            self.notes.push(format!(
                "It also names settings that Easel does not have: {}.",
                keys.join(", ")
            ));
        }
    }

    /// `<hypernet:name:weight>` in the prompt. LoRAs are applied.
    fn note_hypernetworks(&mut self, prompt: &str) {
        let tags = prompt.split('<').skip(1);
        let named = tags.filter_map(|tag| {
            let mut words = tag.split_once('>')?.0.split(':');
            words.next().filter(|word| *word == "hypernet")?;
            words.next()
        });
        self.notes.extend(named.take(MOST_NOTES).map(|name| {
            format!("The prompt names the hypernetwork {name}, which Easel does not apply.")
        }));
    }
}

fn parse_size(text: &str) -> Option<(u32, u32)> {
    let (width, height) = text.split_once('x')?;
    Some((width.trim().parse().ok()?, height.trim().parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(line: &str) -> Vec<(String, String)> {
        settings(line)
    }

    fn owned(values: &[(&str, &str)]) -> Vec<(String, String)> {
        values
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect()
    }

    /// The right sides are what Python's `re.findall` gives with A1111's expression, unquoted.
    #[test]
    fn a_settings_line_is_taken_apart_as_a1111_does() {
        assert_eq!(
            pairs("Steps: 20, Sampler: Euler a, CFG scale: 7, Size: 512x768"),
            owned(&[
                ("Steps", "20"),
                ("Sampler", "Euler a"),
                ("CFG scale", "7"),
                ("Size", "512x768")
            ])
        );
        assert_eq!(
            pairs(r#"Model: "a, b: \"c\" \\ d", Tiling, ControlNet 0: "x: y", Seed: 5"#),
            owned(&[
                ("Model", r#"a, b: "c" \ d"#),
                ("ControlNet 0", "x: y"),
                ("Seed", "5")
            ])
        );
        // A quoted value with something behind its quotes is taken up to its first comma.
        assert_eq!(
            pairs(r#"Note: "one, two" three, Eta: 0.5"#),
            owned(&[("Note", "\"one"), ("Eta", "0.5")])
        );
        assert_eq!(
            pairs("A: 1, !!: 2, ab: , 中文: 好"),
            owned(&[("ab", ""), ("中文", "好")])
        );
        assert_eq!(pairs(""), owned(&[]));
    }

    #[test]
    fn bare_json_values_keep_their_commas() {
        assert_eq!(
            pairs(r#"Steps: 2, Hashes: {"model": "ab", "lora:x": "cd"}, Seed: 5"#),
            owned(&[
                ("Steps", "2"),
                ("Hashes", r#"{"model": "ab", "lora:x": "cd"}"#),
                ("Seed", "5")
            ])
        );
    }

    #[test]
    fn a_short_last_line_is_prompt() {
        let parts = split("a house\nNegative prompt: blurry\nsecond: line, Steps: 3");
        assert_eq!(parts.prompt, "a house");
        assert_eq!(
            parts.negative_prompt.as_deref(),
            Some("blurry\nsecond: line, Steps: 3")
        );
        assert!(parts.values.is_empty());
    }

    #[test]
    fn fused_and_separate_schedules_are_the_same() {
        for (text, sampler, schedule) in [
            ("DPM++ 2M Karras", SamplerId::DpmPp2m, ScheduleId::Karras),
            ("DPM++ 2M", SamplerId::DpmPp2m, ScheduleId::Karras),
            (
                "DPM++ 2M SDE Exponential",
                SamplerId::DpmPp2mSde,
                ScheduleId::Exponential,
            ),
            ("Euler a", SamplerId::EulerA, ScheduleId::Normal),
            ("euler_a", SamplerId::EulerA, ScheduleId::Normal),
            ("DDIM", SamplerId::Ddim, ScheduleId::Leading),
            (
                "DPM++ 2M Karras, Schedule type: Karras",
                SamplerId::DpmPp2m,
                ScheduleId::Karras,
            ),
            (
                "DPM++ 2M, Schedule type: Automatic",
                SamplerId::DpmPp2m,
                ScheduleId::Karras,
            ),
            (
                "DPM++ 2M, Schedule type: Uniform",
                SamplerId::DpmPp2m,
                ScheduleId::Normal,
            ),
            (
                "Euler, Schedule type: SGM Uniform",
                SamplerId::Euler,
                ScheduleId::SgmUniform,
            ),
            (
                "DPM++ 2M SDE Heun Exponential",
                SamplerId::DpmPp2mSdeHeun,
                ScheduleId::Exponential,
            ),
            ("DPM++ SDE Karras", SamplerId::DpmPpSde, ScheduleId::Karras),
            (
                "DPM2 a, Schedule type: Align Your Steps",
                SamplerId::Dpm2A,
                ScheduleId::AlignYourSteps,
            ),
            ("PLMS", SamplerId::Pndm, ScheduleId::Leading),
        ] {
            let reading = read(&format!("x\nSteps: 20, Sampler: {text}, Seed: 1, RNG: CPU"));
            assert_eq!(reading.request.sampler, Some(sampler), "{text}");
            assert_eq!(reading.request.schedule, Some(schedule), "{text}");
            assert_eq!(reading.notes, Vec::<String>::new(), "{text}");
        }
    }

    #[test]
    fn the_fine_settings_are_read_and_none_is_named_as_lacking() {
        let reading = read(
            "x\nSteps: 20, Sampler: Euler a, Schedule type: Karras, Seed: 1, Eta: 0.6, Sigma churn: 2, \
             Sigma noise: 1.1, Schedule rho: 5, Schedule min sigma: 0.1, Schedule max sigma: 0, RNG: CPU",
        );
        let want = Tuning {
            eta: Some(0.6),
            s_churn: Some(2.0),
            s_noise: Some(1.1),
            rho: Some(5.0),
            sigma_min: Some(0.1),
            sigma_max: None,
        };
        assert_eq!(reading.request.tuning, want);
        assert_eq!(reading.notes, Vec::<String>::new());
        let ddim = read("x\nSteps: 20, Sampler: DDIM, Seed: 1, Eta: 0.6, Eta DDIM: 0.2, RNG: CPU");
        assert_eq!(ddim.request.tuning.eta, Some(0.2));
    }

    #[test]
    fn of_a_hostile_text_a_bounded_part_is_told() {
        let keys: Vec<String> = (0..100_000).map(|i| format!("K{i:06}: 1")).collect();
        let tags = "<hypernet:x:1>".repeat(1000);
        let reading = read(&format!("{tags}\nSteps: 1, {}", keys.join(", ")));
        assert_eq!(reading.notes.len(), MOST_NOTES + 1);
        let last = reading.notes.last().unwrap();
        assert!(last.ends_with("K000029, and 99970 more."), "{last}");
    }

    #[test]
    fn whose_noise_it_was_is_read_from_what_each_program_writes() {
        let seeding = |settings: &str| {
            let reading = read(&format!(
                "x\nSteps: 20, Sampler: Euler a, Seed: 1, {settings}"
            ));
            assert_eq!(reading.notes, Vec::<String>::new(), "{settings}");
            reading.request.seeding
        };
        let plain = Seeding::default();
        for (settings, mode) in [
            ("Version: v1.10.1", SeedMode::A1111),
            ("RNG: NV, Version: v1.10.1", SeedMode::A1111),
            ("RNG: CPU, Version: v1.10.1", SeedMode::A1111Cpu),
            ("RNG: CPU, Version: Easel 0.1.0", SeedMode::Diffusers),
            ("Version: Easel 0.1.0", SeedMode::A1111),
            ("Version: ComfyUI", SeedMode::ComfyUi),
            ("Version: Fooocus v2.5.5", SeedMode::ComfyUi),
            ("RNG: NV, Version: ComfyUI", SeedMode::A1111),
            (
                "RNG: CPU, Seed mode: a1111_cpu, Version: Easel 0.1.0",
                SeedMode::A1111Cpu,
            ),
        ] {
            assert_eq!(seeding(settings), Seeding { mode, ..plain }, "{settings}");
        }
        let varied = "Variation seed: 5, Variation seed strength: 0.25, Seed resize from: 512x768, \
                      ENSD: -31337, Batch pos: 3";
        let want = Seeding {
            mode: SeedMode::A1111,
            variation_seed: Some(5),
            variation_strength: Some(0.25),
            resize_from: Some([512, 768]),
            ensd: Some(-31337),
            batch_index: None,
        };
        assert_eq!(seeding(varied), want);
        let batch = seeding("Seed mode: comfyui, Batch pos: 3");
        assert_eq!(
            (batch.mode, batch.batch_index),
            (SeedMode::ComfyUi, Some(3))
        );
    }

    #[test]
    fn every_seeding_is_read_back_from_its_fields() {
        let of = |mode| Seeding {
            mode,
            ..Seeding::default()
        };
        let whole = Seeding {
            variation_seed: Some(7),
            variation_strength: Some(0.5),
            resize_from: Some([64, 96]),
            ensd: Some(3),
            ..of(SeedMode::A1111Cpu)
        };
        let batch = Seeding {
            batch_index: Some(2),
            ..of(SeedMode::ComfyUi)
        };
        let modes = SEED_MODES.iter().map(|info| of(info.id));
        for seeding in modes.chain([whole, batch]) {
            let fields = seeding_fields(&seeding).into_iter();
            let line: Vec<_> = fields
                .map(|(key, value)| format!("{key}: {value}"))
                .collect();
            let line = format!(
                "x\nSteps: 1, Sampler: Euler, Seed: 1, Version: Easel 1, {}",
                line.join(", ")
            );
            assert_eq!(read(&line).request.seeding, seeding, "{line}");
        }
    }

    #[test]
    fn guidance_left_out_at_the_beginning_is_an_interval() {
        let interval = |settings: &str| {
            let line = format!("x\nSteps: 10, Sampler: Euler, Seed: 1, {settings}");
            read(&line).request.guidance_interval
        };
        // A1111 guides where step / 10 > 0.3: from step 4, counted from 0.
        let skipped = interval("Skip Early CFG: 0.3").unwrap();
        assert_eq!((0..10).find(|step| skipped.contains(*step, 10)), Some(4));
        assert!(skipped.contains(9, 10));
        assert_eq!(interval("Skip Early CFG: 0"), None);
        let own = GuidanceInterval {
            start: 0.25,
            stop: 0.75,
        };
        assert_eq!(interval("CFG interval: 0.25 to 0.75"), Some(own));
    }

    #[test]
    fn nothing_is_made_up_about_a_picture_that_says_nothing() {
        let settings: PictureSettings = serde_json::from_value(serde_json::json!({
            "prompt": "", "negative_prompt": "", "model_name": "", "steps": 0, "guidance_scale": 0.0,
            "seed": 0, "sampler": "euler", "schedule": "model", "width_px": 0, "height_px": 0,
            "upscaler": "realesr-animevideov3-x4", "output_width_px": 256, "output_height_px": 256,
            "device": "", "dtype": "", "version": "0.1.0",
        }))
        .unwrap();
        let text = write(&settings);
        assert!(text.contains("Postprocess upscaler: realesr"), "{text}");
        assert!(
            !text.contains("Sampler") && !text.contains("Seed"),
            "{text}"
        );
    }

    #[test]
    fn what_easel_lacks_is_said() {
        let reading = read(
            "a <lora:x:0.8> <hypernet:pixel art:0.8> house\nNegative prompt: blurry\nSteps: 20, Sampler: DPM adaptive, \
             CFG scale: 7, Seed: -1, Size: big, Model hash: 6ce0161689, Model: v1-5, Clip skip: 2, \
             VAE: kl-f8.pt, Refiner: sd_xl_refiner [7440042bbd], Refiner switch at: 0.75, \
             Denoising strength: 0.5, Hires upscale: 2, ADetailer model: face, Version: v1.10.1",
        );
        let notes = reading.notes.join("\n");
        for named in [
            "pixel art",
            "DPM adaptive",
            "Seed: -1",
            "Size: big",
            "Hires fix",
            "ADetailer model",
        ] {
            assert!(notes.contains(named), "{named} is not in:\n{notes}");
        }
        assert!(!notes.contains("Version"), "{notes}");
        assert_eq!(reading.request.steps, Some(20));
        assert_eq!(reading.request.clip_skip, Some(2));
        assert_eq!(reading.request.seed, None);
        assert_eq!(reading.request.sampler, None);
        let (refiner, start) = reading.files.refiner.clone().unwrap();
        let said = NamedFile::new("sd_xl_refiner", Some("7440042bbd"));
        assert_eq!((refiner, start), (said, 0.75));
    }

    #[test]
    fn templates_behind_the_settings_do_not_hide_them() {
        let reading = read(
            "a red cat\nNegative prompt: x\nSteps: 20, Sampler: Euler a, CFG scale: 7, Seed: 1, RNG: CPU, Emphasis: No norm\n\
             Template: a {red|blue} cat,\nsecond line: of it, Steps: 3\nNegative Template: __bad__",
        );
        assert_eq!(reading.request.prompt, "a red cat");
        assert_eq!(reading.request.negative_prompt, "x");
        assert_eq!(reading.request.steps, Some(20));
        assert_eq!(reading.request.emphasis, Emphasis::NoNorm);
        assert_eq!(reading.notes, Vec::<String>::new());
        let reading = read("a cat\nSteps: 20, Seed: 1, RNG: CPU, Template: \"a {cat|dog}, x\"");
        assert_eq!(reading.request.prompt, "a cat");
        assert_eq!(reading.notes, Vec::<String>::new());
    }
}
