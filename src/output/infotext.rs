//! A1111's infotext: the settings as one readable text, written and read.
//!
//! Prompt, a line `Negative prompt: ...`, and a last line `Steps: 20, Sampler: ..., ...`.
//! Source: AUTOMATIC1111 stable-diffusion-webui 1.10, `modules/infotext_utils.py`
//! (`parse_generation_parameters`, `quote`, `unquote`) and `modules/processing.py`
//! (`create_infotext`).

use crate::request::{
    GenerationRequest, GuidanceInterval, LoraChoice, PictureSettings, SAMPLERS, SCHEDULES,
    SEED_MODES, SamplerId, ScheduleId, SeedMode, Seeding, Tuning,
};

/// With fewer settings than this a last line is taken for prompt.
const FEWEST_SETTINGS: usize = 3;
const NEGATIVE_PROMPT: &str = "Negative prompt:";
/// What `Version` begins with.
const EASEL: &str = "Easel";

/// A1111's infotext of a picture, as it is written into the file.
pub fn write(settings: &PictureSettings) -> String {
    // Values that hold separators come last: readers that split at commas lose nothing else.
    let (mut plain, mut quoted) = (Vec::new(), Vec::new());
    for (key, value) in fields(settings) {
        match quote(&value) {
            Some(value) => quoted.push(format!("{key}: {value}")),
            None => plain.push(format!("{key}: {value}")),
        }
    }
    plain.append(&mut quoted);
    if let Some(hash) = &settings.model_hash {
        plain.push(format!("Hashes: {}", serde_json::json!({ "model": hash })));
    }
    format!(
        "{}{}\n{NEGATIVE_PROMPT} {}\n{}",
        settings.prompt,
        loras(settings),
        settings.negative_prompt,
        plain.join(", ")
    )
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
        let factor = settings
            .output_width_px
            .checked_div(settings.width_px)
            .unwrap_or(1);
        fields.push(("Postprocess upscale by", factor.to_string()));
        fields.push(("Postprocess upscaler", upscaler.clone()));
    }
    if settings.steps > 0 {
        fields.extend(tuning_fields(settings.sampler, &settings.tuning));
        fields.extend(seeding_fields(&settings.seeding));
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
    fields.push(("Model", settings.model_name.clone()));
    if let Some(vae) = &settings.vae_path {
        let name = vae.file_name().unwrap_or(vae.as_os_str());
        fields.push(("VAE", name.to_string_lossy().into_owned()));
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
    fields
}

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
    pub notes: Vec<String>,
    /// Whether there was a settings line: without, any text would pass for a prompt.
    pub has_settings: bool,
}

/// Reads an infotext.
pub fn read(text: &str) -> Reading {
    let parts = split(text);
    let mut reading = Reading {
        request: GenerationRequest {
            negative_prompt: parts.negative_prompt.clone().unwrap_or_default(),
            ..GenerationRequest::default()
        },
        notes: Vec::new(),
        has_settings: !parts.values.is_empty() || parts.negative_prompt.is_some(),
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
    "Denoising strength",
    "Version",
    "Hashes",
    "Lora hashes",
    "TI hashes",
    "VAE",
    "VAE hash",
    "Batch size",
    "Postprocess upscale by",
    "Postprocess upscaler",
    "Civitai resources",
    "Civitai metadata",
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

impl Reading {
    fn interpret(&mut self, values: &Values<'_>) {
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
        self.note_model(values);
        self.note_vae(values);
        self.note_ways_of_drawing(values);
        self.note_the_rest(values);
    }

    fn number<T: std::str::FromStr>(&mut self, values: &Values<'_>, key: &str) -> Option<T> {
        let text = values.get(key)?;
        let number = text.parse().ok();
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
        let (base, fused) = split_sampler(name);
        self.request.sampler = find_sampler(base);
        let Some(sampler) = self.request.sampler else {
            self.notes.push(format!(
                "It was drawn with the sampler {name}, which Easel does not have; the model's own is used."
            ));
            return;
        };
        let said = values
            .get("Schedule type")
            .or_else(|| values.get("Schedule"));
        self.request.schedule = match said.filter(|name| !same_name(name, "Automatic")) {
            Some(name) => find_schedule(name),
            None => Some(fused.unwrap_or(sampler.info().default_schedule)),
        };
        if let (None, Some(name)) = (self.request.schedule, said) {
            self.notes.push(format!(
                "It was drawn with the schedule {name}, which Easel does not have; the model's own is used."
            ));
        }
    }

    /// A1111 writes these where they were changed; 0 means as usual for the ends and rho.
    fn interpret_tuning(&mut self, values: &Values<'_>) {
        let eta = self.request.sampler.map_or(ETA, eta_key);
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
        let cpu = values.get(RNG).is_some_and(|rng| same_name(rng, "CPU"));
        let easel = values
            .get("Version")
            .is_some_and(|by| by.starts_with(EASEL));
        let said = values.get(SEED_MODE);
        let said = said.and_then(|name| SEED_MODES.iter().find(|info| info.name == name));
        let mode = match said {
            Some(info) => info.id,
            None if cpu && easel => SeedMode::Diffusers,
            None if cpu => SeedMode::A1111Cpu,
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

    fn note_model(&mut self, values: &Values<'_>) {
        let hash = values.get("Model hash");
        let name = match (values.get("Model"), hash) {
            (Some(name), Some(hash)) => format!("{name} ({hash})"),
            (Some(name), None) => name.to_owned(),
            (None, Some(hash)) => format!("with the hash {hash}"),
            (None, None) => return,
        };
        self.notes.push(format!(
            "It was drawn with the model {name}; choose that model to draw the same picture."
        ));
    }

    fn note_vae(&mut self, values: &Values<'_>) {
        if let Some(name) = values.get("VAE").filter(|name| !same_name(name, "None")) {
            self.notes.push(format!(
                "It was drawn with the VAE {name}; choose that VAE to draw the same picture."
            ));
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
        let mut keys: Vec<&str> = Vec::new();
        for (key, _) in values.0 {
            let known = KNOWN_KEYS.contains(&key.as_str())
                || TUNING_KEYS.contains(&key.as_str())
                || SEEDING_KEYS.contains(&key.as_str())
                || key.starts_with("Hires ");
            if !known && !keys.contains(&key.as_str()) {
                keys.push(key);
            }
        }
        if !keys.is_empty() {
            self.notes.push(format!(
                "It also names settings that Easel does not have: {}.",
                keys.join(", ")
            ));
        }
    }

    /// `<hypernet:name:weight>` in the prompt. LoRAs are applied.
    fn note_hypernetworks(&mut self, prompt: &str) {
        for tag in prompt.split('<').skip(1) {
            let Some((tag, _)) = tag.split_once('>') else {
                continue;
            };
            let mut words = tag.split(':');
            if let (Some("hypernet"), Some(name)) = (words.next(), words.next()) {
                self.notes.push(format!(
                    "The prompt names the hypernetwork {name}, which Easel does not apply."
                ));
            }
        }
    }
}

fn parse_size(text: &str) -> Option<(u32, u32)> {
    let (width, height) = text.split_once('x')?;
    Some((width.trim().parse().ok()?, height.trim().parse().ok()?))
}

/// Compares names without case, spaces and underscores: `DPM++ 2M`, `dpm++2m`, `dpm++_2m`.
fn same_name(a: &str, b: &str) -> bool {
    let letters = |text: &str| {
        text.chars()
            .filter(|c| !matches!(c, ' ' | '_'))
            .flat_map(char::to_lowercase)
            .collect::<String>()
    };
    letters(a) == letters(b)
}

/// `DPM++ 2M Karras` is the sampler `DPM++ 2M` with the schedule Karras.
fn split_sampler(name: &str) -> (&str, Option<ScheduleId>) {
    for info in SCHEDULES {
        let suffix = info.a1111_name.unwrap_or(info.name);
        let split = name
            .len()
            .checked_sub(suffix.len())
            .and_then(|at| name.split_at_checked(at))
            .filter(|(base, end)| base.ends_with([' ', '_']) && end.eq_ignore_ascii_case(suffix));
        if let Some((base, _)) = split {
            return (base.trim_end_matches([' ', '_']), Some(info.id));
        }
    }
    (name, None)
}

fn find_sampler(name: &str) -> Option<SamplerId> {
    SAMPLERS
        .iter()
        .find(|info| same_name(info.a1111_name, name) || same_name(info.name, name))
        .map(|info| info.id)
}

/// A1111's names, and the schedule that it has under another name (`modules/sd_schedulers.py`:
/// `uniform` is k-diffusion's even grid).
fn find_schedule(name: &str) -> Option<ScheduleId> {
    let table = SCHEDULES.iter().find(|info| {
        info.a1111_name.is_some_and(|own| same_name(own, name)) || same_name(info.name, name)
    });
    table
        .map(|info| info.id)
        .or_else(|| same_name("Uniform", name).then_some(ScheduleId::Linspace))
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
            ("Euler a", SamplerId::EulerA, ScheduleId::Model),
            ("euler_a", SamplerId::EulerA, ScheduleId::Model),
            ("DDIM", SamplerId::Ddim, ScheduleId::Model),
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
                ScheduleId::Linspace,
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
            ("PLMS", SamplerId::Pndm, ScheduleId::Model),
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
             VAE: kl-f8.pt, \
             Denoising strength: 0.5, Hires upscale: 2, ADetailer model: face, Version: v1.10.1",
        );
        let notes = reading.notes.join("\n");
        for named in [
            "pixel art",
            "DPM adaptive",
            "Seed: -1",
            "Size: big",
            "v1-5 (6ce0161689)",
            "the VAE kl-f8.pt",
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
    }
}
