//! What an infotext asks for: A1111's, and of the programs that write in its fashion.

use std::collections::{BTreeMap, BTreeSet};

use super::keys::*;
use super::text::split;
use crate::output::{hashes, names};
use crate::request::{
    EMPHASES, Emphasis, GenerationRequest, GuidanceInterval, MOST_NOTES, NamedFile, NamedFiles,
    Recipe, RefinerChoice, SEED_MODES, SamplerId, ScheduleId, SeedMode, Seeding, Tuning,
};

/// Of Civitai's files that a text names, more are not told of.
const MOST_RESOURCES: usize = 30;
/// Of the LoRAs whose hashes a text names, more are not looked at.
const MOST_LORAS: usize = 1000;

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
    STEPS,
    SAMPLER,
    SCHEDULE,
    "Schedule",
    CFG_SCALE,
    SEED,
    SIZE,
    MODEL,
    MODEL_HASH,
    CLIP_SKIP,
    CFG_RESCALE,
    GUIDANCE_INTERVAL,
    SKIP_EARLY,
    EMPHASIS,
    TEMPLATE,
    NEGATIVE_TEMPLATE,
    "Denoising strength",
    VERSION,
    HASHES,
    hashes::LORAS,
    hashes::EMBEDDINGS,
    VAE,
    VAE_HASH,
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

/// Whose records are written as an infotext where Easel enlarges their pictures.
const OTHERS: [&str; 5] = [
    "InvokeAI",
    "SwarmUI",
    "NovelAI",
    "Draw Things",
    "Stability Matrix",
];

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
        _ => OTHERS
            .iter()
            .find(|name| begins(name))
            .unwrap_or(&"another program"),
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
        self.program = program(values.get(VERSION));
        self.sdcpp = values.get("SDCPP").map(str::to_owned);
        self.request.count = Some(1);
        self.request.steps = self.number(values, STEPS);
        self.request.guidance_scale = self.number(values, CFG_SCALE);
        self.request.guidance_rescale = self
            .number(values, CFG_RESCALE)
            .filter(|rescale| *rescale > 0.0);
        self.request.clip_skip = self.number(values, CLIP_SKIP).filter(|skip| *skip > 1);
        self.request.seed = self.number(values, SEED);
        if let Some(size) = values.get(SIZE) {
            match parse_size(size) {
                Some((width, height)) => {
                    self.request.width_px = Some(width);
                    self.request.height_px = Some(height);
                }
                None => self.unreadable(SIZE, size),
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
        let known = values.get(SAMPLER).and_then(names::sampler);
        if let (None, Some(name)) = (known, values.get(SAMPLER)) {
            self.notes.push(format!(
                "It was drawn with the sampler {name}, which Easel does not have; the model's own is used."
            ));
        }
        self.request.sampler = known.map(|(sampler, _)| sampler);
        // `Schedule`: Forge before it was merged; `Scheduler`: Fooocus in A1111's fashion.
        let said = [SCHEDULE, "Schedule", "Scheduler"]
            .iter()
            .find_map(|key| values.get(key))
            .filter(|name| !names::same(name, "Automatic"));
        self.request.schedule = match (said, known) {
            // Easel calls schedules so that A1111 does not have.
            (Some(name), _) if self.is_ours() && names::same(name, "Uniform") => {
                Some(ScheduleId::Model)
            }
            (Some(name), _) => names::schedule(name),
            (None, None) => None,
            (None, Some((_, Some(fused)))) => Some(fused),
            (None, Some((sampler, None))) if self.is_ours() => {
                Some(sampler.info().default_schedule)
            }
            (None, Some((sampler, None))) => Some(sampler.automatic_schedule()),
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
            s_churn: self.number(values, SIGMA_CHURN),
            s_noise: self.number(values, SIGMA_NOISE),
            rho: said(self.number(values, SCHEDULE_RHO)),
            sigma_min: said(self.number(values, SCHEDULE_MIN_SIGMA)),
            sigma_max: said(self.number(values, SCHEDULE_MAX_SIGMA)),
        };
    }

    /// A1111 draws noise as a card does where nothing else is said; `NV` is the same on a processor.
    fn interpret_seeding(&mut self, values: &Values<'_>) {
        let cpu = values.get(RNG).is_some_and(|rng| names::same(rng, "CPU"));
        let easel = values.get(VERSION).is_some_and(|by| by.starts_with(EASEL));
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
        let strength: Option<f64> = self.number(values, VARIATION_STRENGTH);
        let strength = strength.filter(|share| *share != 0.0);
        let resized = values.get(SEED_RESIZE).and_then(parse_size);
        self.request.seeding = Seeding {
            mode,
            variation_seed: self.number(values, VARIATION_SEED),
            variation_strength: strength,
            resize_from: resized.map(|(width, height)| [width, height]),
            ensd: self.number(values, ENSD).filter(|delta| *delta != 0),
            batch_index: match mode {
                SeedMode::ComfyUi => self.number(values, BATCH_POS),
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
            .get(HASHES)
            .and_then(|json| serde_json::from_str(json).ok());
        let hashes: BTreeMap<String, String> = hashes.unwrap_or_default();
        let hash = |key: &str| hashes.get(key).map(String::as_str);
        let (name, short) = (values.get(MODEL), values.get(MODEL_HASH));
        if name.or(short).is_some() {
            let file = NamedFile::new(name.unwrap_or_default(), short.or(hash("model")));
            self.files.model = Some(file);
        }
        if let Some(name) = values.get(VAE).filter(|name| !names::same(name, "None")) {
            let hash = values.get(VAE_HASH).or(hash("vae"));
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
        let listed = values.get(hashes::LORAS).unwrap_or_default().split(',');
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
    use crate::output::infotext::write::seeding_fields;

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
