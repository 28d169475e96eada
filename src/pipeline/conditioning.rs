//! Which words count at which call of the network: prompts that change while they are drawn, several
//! prompts for one picture, and what the network is told of them for a batch.
//!
//! Source: AUTOMATIC1111 stable-diffusion-webui 1.10 `modules/prompt_parser.py`
//! (`reconstruct_cond_batch`, `reconstruct_multicond_batch`), `modules/processing.py` (`setup_conds`).

use std::collections::BTreeMap;

use tch::Tensor;

use super::plan::GenerationPlan;
use super::prompts::PicturePrompts;
use crate::error::Result;
use crate::families::{Encoded, StableDiffusion};
use crate::models::unet::{Added, Conditioning, KeyValues};
use crate::prompt::{networks, schedule};
use crate::request::SamplerId;

/// One text that changes with the calls of the network.
struct Timeline {
    /// The last call of each phase, as [`schedule::index_at`] takes it, and its text.
    phases: Vec<(usize, usize)>,
    texts: Vec<Encoded>,
}

impl Timeline {
    fn new(
        phases: Vec<schedule::Phase>,
        encode: &mut dyn FnMut(&str) -> Result<Encoded>,
    ) -> Result<Self> {
        let mut timeline = Self {
            phases: Vec::with_capacity(phases.len()),
            texts: Vec::new(),
        };
        let mut known: BTreeMap<String, usize> = BTreeMap::new();
        for schedule::Phase { end, text } in phases {
            let index = match known.get(&text) {
                Some(index) => *index,
                None => {
                    timeline.texts.push(encode(&text)?);
                    known.insert(text, timeline.texts.len() - 1);
                    timeline.texts.len() - 1
                }
            };
            timeline.phases.push((end, index));
        }
        Ok(timeline)
    }

    /// The number of the text at a call, counted from 0.
    fn index_at(&self, call: usize) -> usize {
        let index = schedule::index_at(self.phases.iter().map(|(end, _)| *end), call);
        self.phases.get(index).map_or(0, |(_, text)| *text)
    }
}

/// What one picture is drawn to.
pub struct Conditions {
    /// At least one; with the weight of each.
    parts: Vec<(Timeline, f64)>,
    negative: Timeline,
}

impl Conditions {
    /// Encodes the prompts of one picture of a plan.
    ///
    /// Errors: [`crate::error::Error::Request`] where a tokenizer refuses the text.
    pub fn new(
        model: &mut StableDiffusion,
        plan: &GenerationPlan,
        prompts: &PicturePrompts,
    ) -> Result<Self> {
        let (emphasis, clip_skip) = (plan.emphasis, plan.clip_skip);
        let calls = calls(plan.sampler, plan.steps);
        let phases = |text: &str| schedule::read(text, emphasis, calls);
        let mut parts = Vec::new();
        for part in prompts.parts(emphasis) {
            let mut encode = |text: &str| model.encode(text, emphasis, clip_skip);
            let timeline = Timeline::new(phases(&part.text), &mut encode)?;
            parts.push((timeline, part.weight));
        }
        let negative = networks::without_tags(&prompts.negative_prompt);
        let mut encode = |text: &str| model.encode_negative(text, emphasis, clip_skip);
        Ok(Self {
            parts,
            negative: Timeline::new(phases(&negative), &mut encode)?,
        })
    }

    /// Whether more than the prompt itself is asked for: several, or a weight.
    pub fn composes(&self) -> bool {
        !matches!(self.parts.as_slice(), [(_, weight)] if *weight == 1.0)
    }
}

/// What A1111 counts as steps: the calls of the network, of which some samplers make two a step
/// (`second_order` in `modules/sd_samplers_kdiffusion.py`).
fn calls(sampler: SamplerId, steps: usize) -> usize {
    match sampler {
        SamplerId::Heun
        | SamplerId::Dpm2
        | SamplerId::Dpm2A
        | SamplerId::DpmPp2sA
        | SamplerId::DpmPpSde
        | SamplerId::Restart => 2 * steps,
        _ => steps,
    }
}

/// The prompts of the pictures that are drawn together, and what SDXL is told of their size.
pub struct BatchConditions {
    pub pictures: Vec<Conditions>,
    /// For the prompt and for the negative prompt, f32 `[1, count]`.
    pub time_ids: Option<(Tensor, Tensor)>,
    /// For networks with distilled guidance.
    pub guidance_scale: f64,
}

/// One question to the network: a picture, and a text.
struct Row<'a> {
    picture: usize,
    encoded: &'a Encoded,
    time_ids: Option<&'a Tensor>,
}

/// What the network is told in one call.
pub struct Told {
    /// Which picture each row is of.
    pub pictures: Vec<i64>,
    /// Which of the rows asked for each is.
    pub rows: Vec<i64>,
    encoder_hidden_states: Tensor,
    key_values: KeyValues,
    text_embeds: Option<Tensor>,
    time_ids: Option<Tensor>,
    guidance_scale: f64,
}

impl Told {
    pub fn conditioning(&self) -> Conditioning<'_> {
        let added = self.text_embeds.as_ref().zip(self.time_ids.as_ref());
        Conditioning {
            encoder_hidden_states: &self.encoder_hidden_states,
            key_values: Some(&self.key_values),
            added: added.map(|(text_embeds, time_ids)| Added {
                text_embeds,
                time_ids,
            }),
            guidance_scale: Some(self.guidance_scale),
        }
    }
}

impl BatchConditions {
    /// Parts of the pictures' prompts; the pictures of a batch have equally many.
    pub fn parts(&self) -> usize {
        let parts = self.pictures.iter().map(|picture| picture.parts.len());
        parts.max().unwrap_or_default()
    }

    /// The weights of part `part`, one a picture; 0 where a picture has no such part.
    pub fn weights(&self, part: usize) -> Vec<f64> {
        let weight = |picture: &Conditions| picture.parts.get(part).map_or(0.0, |(_, it)| *it);
        self.pictures.iter().map(weight).collect()
    }

    /// Whether any picture needs the negative prompt's answer to be put together.
    pub fn composes(&self) -> bool {
        self.pictures.iter().any(Conditions::composes)
    }

    /// Tells which texts count at `call`: as long as it gives the same, so does [`Self::told`].
    pub fn key(&self, call: usize, with_negative: bool) -> Vec<usize> {
        let mut key = vec![usize::from(with_negative)];
        for picture in &self.pictures {
            key.push(picture.negative.index_at(call));
            key.extend(picture.parts.iter().map(|(part, _)| part.index_at(call)));
        }
        key
    }

    /// What the network is told at `call`, for the negative prompts of all pictures (where they are
    /// asked), then for each part of all: calls with texts of one length each. A text is never filled up,
    /// so that no picture depends on its neighbours (A1111's default, too).
    pub fn told(&self, call: usize, with_negative: bool) -> Result<Vec<Told>> {
        let rows = self.rows(call, with_negative);
        let mut by_length: BTreeMap<i64, Vec<usize>> = BTreeMap::new();
        for (index, row) in rows.iter().enumerate() {
            let tokens = row.encoded.states.size().get(1).copied();
            by_length
                .entry(tokens.unwrap_or_default())
                .or_default()
                .push(index);
        }
        let told = by_length.into_values().map(|indices| {
            let chosen: Vec<&Row<'_>> = indices.iter().filter_map(|it| rows.get(*it)).collect();
            let all = |tensors: Vec<&Tensor>| Tensor::f_cat(&tensors, 0);
            let pooled: Option<Vec<_>> = chosen
                .iter()
                .map(|row| row.encoded.pooled.as_ref())
                .collect();
            let ids: Option<Vec<_>> = chosen.iter().map(|row| row.time_ids).collect();
            Ok(Told {
                pictures: chosen.iter().map(|row| row.picture as i64).collect(),
                rows: indices.iter().map(|index| *index as i64).collect(),
                encoder_hidden_states: all(chosen.iter().map(|row| &row.encoded.states).collect())?,
                key_values: KeyValues::default(),
                text_embeds: pooled.map(all).transpose()?,
                time_ids: ids.map(all).transpose()?,
                guidance_scale: self.guidance_scale,
            })
        });
        told.collect()
    }

    fn rows(&self, call: usize, with_negative: bool) -> Vec<Row<'_>> {
        let ids = self.time_ids.as_ref();
        let mut rows: Vec<Option<Row<'_>>> = Vec::new();
        if with_negative {
            let ids = ids.map(|(_, negative)| negative);
            let pictures = self.pictures.iter().enumerate();
            rows.extend(pictures.map(|(index, it)| Row::new(index, &it.negative, call, ids)));
        }
        let ids = ids.map(|(prompt, _)| prompt);
        for part in 0..self.parts() {
            for (index, picture) in self.pictures.iter().enumerate() {
                let (timeline, _) = match picture.parts.get(part).or(picture.parts.first()) {
                    Some(part) => part,
                    None => continue,
                };
                rows.push(Row::new(index, timeline, call, ids));
            }
        }
        rows.into_iter().flatten().collect()
    }
}

impl<'a> Row<'a> {
    fn new(
        picture: usize,
        timeline: &'a Timeline,
        call: usize,
        time_ids: Option<&'a Tensor>,
    ) -> Option<Self> {
        let encoded = timeline.texts.get(timeline.index_at(call))?;
        Some(Self {
            picture,
            encoded,
            time_ids,
        })
    }
}
