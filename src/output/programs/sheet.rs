//! What another program's record comes to: a request in Easel's words, the files that it names, and a
//! sentence for each thing that Easel lacks. Every reader beside this one fills such a sheet.

use crate::output::{infotext, names};
use crate::request::{
    GenerationRequest, MOST_NOTES, NamedFile, NamedFiles, Recipe, RefinerChoice, SamplerId,
    ScheduleId, SeedMode,
};

use super::fields::Fields;

/// Longer values are not repeated whole in a note.
const SHOWN_CHARACTERS: usize = 60;

/// What was read so far.
#[derive(Debug)]
pub struct Sheet {
    program: &'static str,
    pub request: GenerationRequest,
    pub files: NamedFiles,
    notes: Vec<String>,
    /// `<lora:...>` of the LoRAs, behind the prompt.
    tags: String,
}

impl Sheet {
    pub fn new(program: &'static str) -> Self {
        Self {
            program,
            request: GenerationRequest {
                count: Some(1),
                ..GenerationRequest::default()
            },
            files: NamedFiles::default(),
            notes: Vec::new(),
            tags: String::new(),
        }
    }

    /// Notes a sentence, once.
    pub fn note(&mut self, sentence: impl Into<String>) {
        let sentence = sentence.into();
        if self.notes.len() < MOST_NOTES && !self.notes.contains(&sentence) {
            self.notes.push(sentence);
        }
    }

    /// Notes what was used and Easel does not have: `the ControlNet canny`.
    pub fn lacks(&mut self, what: impl std::fmt::Display) {
        let what = short(&what.to_string());
        self.note(format!(
            "It was drawn with {what}, which Easel does not have."
        ));
    }

    /// A number of a record; one that cannot be read is noted.
    pub fn number<T: std::str::FromStr>(&mut self, fields: &Fields<'_>, key: &str) -> Option<T> {
        let text = fields.words(key)?;
        let number = parse(&text);
        if number.is_none() {
            let value = short(&text);
            self.note(format!(
                "\"{key}: {value}\" cannot be read and is left out."
            ));
        }
        number
    }

    pub fn prompts(&mut self, prompt: &str, negative_prompt: &str) {
        prompt.clone_into(&mut self.request.prompt);
        negative_prompt.clone_into(&mut self.request.negative_prompt);
    }

    pub fn size(&mut self, width_px: Option<u32>, height_px: Option<u32>) {
        self.request.width_px = width_px.filter(|px| *px > 0);
        self.request.height_px = height_px.filter(|px| *px > 0);
    }

    /// A sampler by the program's name for it, which may hold the schedule too.
    pub fn sampler(&mut self, name: &str) {
        match names::sampler(name) {
            Some((sampler, schedule)) => {
                self.request.sampler = Some(sampler);
                self.request.schedule = schedule.or(self.request.schedule);
            }
            None => {
                let name = short(name);
                self.note(format!(
                    "It was drawn with the sampler {name}, which Easel does not have; the model's own is used."
                ));
            }
        }
    }

    pub fn schedule(&mut self, name: &str) {
        match names::schedule(name) {
            Some(schedule) => self.request.schedule = Some(schedule),
            None => {
                let name = short(name);
                self.note(format!(
                    "It was drawn with the schedule {name}, which Easel does not have; the model's own is used."
                ));
            }
        }
    }

    /// What the program takes where the picture names no schedule.
    pub fn usual_schedule(&mut self, usual: impl FnOnce(SamplerId) -> ScheduleId) {
        if let (Some(sampler), None) = (self.request.sampler, self.request.schedule) {
            self.request.schedule = Some(usual(sampler));
        }
    }

    pub fn model(&mut self, name: &str, hash: Option<&str>) {
        let file = NamedFile::new(name, hash);
        if !file.name.is_empty() || file.hash.is_some() {
            self.files.model = Some(file);
        }
    }

    /// The model that drew from `start` of the noise on.
    pub fn refiner(&mut self, name: &str, hash: Option<&str>, start: Option<f64>) {
        let file = NamedFile::new(name, hash);
        let start = start.filter(|start| (0.0..=1.0).contains(start));
        self.files.refiner = Some((file, start.unwrap_or(RefinerChoice::START)));
    }

    /// A VAE in place of the model's own; the names that mean none say nothing.
    pub fn vae(&mut self, name: &str) {
        const NONE: &[&str] = &["", "none", "automatic", "default", "default (model)"];
        let file = NamedFile::new(name, None);
        if !NONE.iter().any(|none| file.name.eq_ignore_ascii_case(none)) {
            self.files.vae = Some(file);
        }
    }

    /// A LoRA, named in the prompt as A1111 would; one weight for both networks where they are equal.
    pub fn lora(&mut self, name: &str, weight: f64, text_encoder_weight: f64, hash: Option<&str>) {
        let file = NamedFile::new(name, hash);
        if file.name.is_empty() || (weight == 0.0 && text_encoder_weight == 0.0) {
            return;
        }
        if file.name.contains([':', '<', '>']) {
            self.note(format!(
                "It was drawn with the LoRA {} at {weight}, which no prompt can name; --lora takes its file.",
                short(&file.name)
            ));
            return;
        }
        let weights = if weight == text_encoder_weight {
            weight.to_string()
        } else {
            format!("{text_encoder_weight}:{weight}")
        };
        let tag = format!(" <lora:{}:{weights}>", file.name);
        self.tags.push_str(&tag);
        self.files.loras.push(file);
    }

    /// A picture was drawn over another.
    pub fn over_a_picture(&mut self, strength: Option<f64>) {
        let strength = strength.map_or_else(String::new, |s| format!(" (denoising strength {s})"));
        self.note(format!(
            "It was drawn from another picture{strength}, which it does not carry."
        ));
    }

    pub fn second_pass(&mut self) {
        self.note("A second, larger pass (Hires fix) was used, which Easel does not have.");
    }

    /// Whose noise grows from the seed.
    pub fn noise(&mut self, mode: SeedMode) {
        self.request.seeding.mode = mode;
    }

    /// The noise of this program comes from elsewhere.
    pub fn other_noise(&mut self) {
        self.note(format!(
            "{} draws its noise in a way of its own, so the same seed gives another picture.",
            self.program
        ));
    }

    /// What nobody asked for and says something.
    pub fn rest(&mut self, fields: &Fields<'_>) {
        let keys = fields.rest();
        if !keys.is_empty() {
            let more = keys.len().saturating_sub(MOST_NOTES);
            let mut names = keys
                .iter()
                .take(MOST_NOTES)
                .map(|key| short(key))
                .collect::<Vec<_>>();
            if more > 0 {
                names.push(format!("and {more} more"));
            }
            self.note(format!(
                "It also names settings that Easel does not have: {}.",
                names.join(", ")
            ));
        }
    }

    pub fn into_recipe(mut self) -> Recipe {
        let words = format!("{}{}", self.request.prompt, self.tags);
        self.request.prompt = words.trim().to_owned();
        let infotext = infotext::of_request(&self.request, &self.files, self.program);
        Recipe {
            program: self.program.to_owned(),
            request: self.request,
            settings: None,
            infotext,
            files: self.files,
            notes: self.notes,
        }
    }
}

/// A number that a request can hold: `20`, `20.0` where whole numbers are asked for, never infinite.
pub fn parse<T: std::str::FromStr>(text: &str) -> Option<T> {
    let text = text.trim();
    if text.parse::<f64>().is_ok_and(|number| !number.is_finite()) {
        return None;
    }
    let whole = || {
        text.split_once('.')
            .filter(|(_, rest)| rest.bytes().all(|b| b == b'0'))
    };
    text.parse().ok().or_else(|| whole()?.0.parse().ok())
}

/// The beginning of a text, for a note.
pub fn short(text: &str) -> String {
    let mut shown: String = text
        .chars()
        .take(SHOWN_CHARACTERS)
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    if text.chars().nth(SHOWN_CHARACTERS).is_some() {
        shown.push('…');
    }
    shown
}
