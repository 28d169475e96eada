//! Prompts that weigh words, change while they are drawn, or are several, on the model that ships,
//! beside transformers' and diffusers' parts put together as the programs do it
//! (`tests/reference/conditioning.py`); and what wildcards do to a job.
//!
//! Compared: the text encoder's weighted states, and the latents after the last step.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods
)]

mod common;
#[path = "common/drawing.rs"]
mod drawing;

use std::collections::{BTreeMap, HashMap};

use common::{DRAWING, NETWORK};
use drawing::{draw, root, starter};
use easel::families::StableDiffusion;
use easel::pipeline::{Exactly, GenerationPlan};
use easel::request::{EMPHASES, Emphasis, GenerationRequest, PictureFormat, SamplerId};
use serde::Deserialize;
use tch::Tensor;

#[derive(Deserialize)]
struct Case {
    prompt: String,
    negative: String,
    steps: u32,
    guidance: f64,
    rescale: Option<f64>,
    sampler: SamplerId,
    seed: u64,
}

impl Case {
    fn request(&self) -> GenerationRequest {
        GenerationRequest {
            prompt: self.prompt.clone(),
            negative_prompt: self.negative.clone(),
            steps: Some(self.steps),
            guidance_scale: Some(self.guidance),
            guidance_rescale: self.rescale,
            width_px: Some(64),
            height_px: Some(64),
            seed: Some(self.seed),
            sampler: Some(self.sampler),
            ..GenerationRequest::default()
        }
    }
}

/// The tensors, and one of the tables of cases.
fn reference<T: for<'a> Deserialize<'a>>(table: &str) -> (T, HashMap<String, Tensor>) {
    let path = root().join("tests/reference/data/starter/prompts.safetensors");
    let bytes = std::fs::read(&path).unwrap();
    let (_, metadata) = safetensors::SafeTensors::read_metadata(&bytes).unwrap();
    let cases = &metadata.metadata().as_ref().unwrap()[table];
    let tensors = Tensor::read_safetensors(&path).unwrap();
    (
        serde_json::from_str(cases).unwrap(),
        tensors.into_iter().collect(),
    )
}

#[test]
fn words_weigh_what_they_weigh_elsewhere() {
    let (prompts, tensors) = reference::<BTreeMap<String, String>>("weighted");
    assert_eq!(prompts.len(), EMPHASES.len());
    let mut model = starter();
    let _no_grad = tch::no_grad_guard();
    common::both_ways(|| {
        for (way, prompt) in &prompts {
            let emphasis: Emphasis = serde_json::from_value(serde_json::json!(way)).unwrap();
            let encoded = model.encode(prompt, emphasis, 1).unwrap();
            let want = &tensors[&format!("{way}.states")];
            common::compare(way, &encoded.states, want, NETWORK);
        }
    });
}

/// Encodings are kept for the next drawing: each arithmetic has its own.
#[test]
fn what_was_encoded_fast_is_not_taken_where_libtorchs_numbers_are_wanted() {
    let _no_grad = tch::no_grad_guard();
    let states = |model: &mut StableDiffusion| {
        let encoded = model.encode("a red star", Emphasis::default(), 1);
        encoded.unwrap().states
    };
    let mut model = starter();
    let fast = states(&mut model);
    let exact = {
        let _exactly = Exactly::when(true);
        let exact = states(&mut model);
        assert!(exact.equal(&states(&mut starter())));
        exact
    };
    assert!(!exact.equal(&fast));
    assert!(states(&mut model).equal(&fast));
}

#[test]
fn texts_are_blended_and_joined_as_compel_does() {
    let (prompts, tensors) = reference::<Vec<String>>("mixed");
    assert_eq!(prompts.len(), 5);
    let mut model = starter();
    let _no_grad = tch::no_grad_guard();
    common::both_ways(|| {
        for (number, prompt) in prompts.iter().enumerate() {
            let encoded = model.encode(prompt, Emphasis::Compel, 1).unwrap();
            let want = &tensors[&format!("mixed.{number}.states")];
            common::compare(prompt, &encoded.states, want, NETWORK);
        }
    });
}

#[test]
fn prompts_that_change_or_are_several_draw_what_they_draw_elsewhere() {
    let (cases, tensors) = reference::<BTreeMap<String, Case>>("cases");
    assert!(cases.len() >= 9);
    let mut model = starter();
    common::both_ways(|| {
        for (name, case) in &cases {
            let latents = draw(&mut model, &case.request()).drawn.remove(0).latents;
            let want = &tensors[&format!("{name}.latents")];
            common::compare(name, &latents, want, DRAWING);
        }
    });
}

/// Each picture of a job has its own prompt, which draws the same picture alone and in any company.
#[test]
fn a_drawn_prompt_draws_the_same_picture_again() {
    let mut model = starter();
    let request = GenerationRequest {
        prompt: "a {cat|dog AND red|fox, a very long tail that goes on and on over hill and dale \
                 until nobody sees its end any more, and then, for good measure, some more of it}"
            .to_owned(),
        negative_prompt: "{dark|bright}".to_owned(),
        steps: Some(3),
        seed: Some(3),
        count: Some(6),
        ..GenerationRequest::default()
    };
    let plan = GenerationPlan::resolve(&request, &model, 1, PictureFormat::Png).unwrap();
    let together = draw(&mut model, &request);
    let mut seen: BTreeMap<&str, usize> = BTreeMap::new();
    for drawn in &together.drawn {
        let prompts = plan.prompts(drawn.index);
        *seen.entry(prompts.prompt.as_str()).or_default() += 1;
        let alone = GenerationRequest {
            prompt: prompts.prompt.clone(),
            negative_prompt: prompts.negative_prompt.clone(),
            seed: Some(plan.seeds[drawn.index]),
            count: Some(1),
            ..request.clone()
        };
        let alone = draw(&mut model, &alone).drawn.remove(0).latents;
        common::compare("alone", &drawn.latents, &alone, DRAWING);
    }
    assert!(seen.len() > 1, "every seed chose the same: {seen:?}");
}

/// Pictures with texts of different length are asked for in calls of their own.
#[test]
fn no_picture_depends_on_the_length_of_its_neighbours_prompts() {
    let mut model = starter();
    let long = "a quiet picture of a thing that nobody knows, ".repeat(4);
    let request = GenerationRequest {
        prompt: format!("{{a fox|{long}}}"),
        steps: Some(2),
        seed: Some(1),
        count: Some(4),
        batch_size: Some(4),
        ..GenerationRequest::default()
    };
    let plan = GenerationPlan::resolve(&request, &model, 1, PictureFormat::Png).unwrap();
    assert_eq!(plan.batches().count(), 1);
    let lengths: std::collections::BTreeSet<usize> = (0..4)
        .map(|index| plan.prompts(index).prompt.len())
        .collect();
    assert_eq!(lengths.len(), 2, "every seed chose the same");
    for drawn in &draw(&mut model, &request).drawn {
        let alone = GenerationRequest {
            prompt: plan.prompts(drawn.index).prompt.clone(),
            seed: Some(plan.seeds[drawn.index]),
            count: Some(1),
            ..request.clone()
        };
        let alone = draw(&mut model, &alone).drawn.remove(0).latents;
        common::compare("alone", &drawn.latents, &alone, DRAWING);
    }
}
