//! Whole drawings of the model that ships, beside diffusers 0.42.1 (`tests/reference/pipeline.py`).
//!
//! Compared: the latents after the last step and the decoded picture. Not compared: enlarging (the
//! network alone is in `parity_models.rs`). The settings come from the reference file, so that newer
//! weights bring their own cases.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods
)]

mod common;
#[path = "common/drawing.rs"]
mod drawing;

use std::collections::HashMap;
use std::path::PathBuf;

use common::DRAWING;
use drawing::{draw, root, starter};
use easel::families::StableDiffusion;
use easel::pipeline::{Drawn, GenerationPlan};
use easel::request::{
    GenerationRequest, GuidanceInterval, PictureFormat, SamplerId, SeedMode, Seeding,
};
use serde::Deserialize;
use tch::Tensor;

#[derive(Deserialize)]
struct Case {
    prompt: String,
    negative_prompt: String,
    seeds: Vec<u64>,
    steps: u32,
    guidance: f64,
    interval: Option<(f64, f64)>,
    sampler: SamplerId,
    width: u32,
    height: u32,
}

impl Case {
    fn request(&self) -> GenerationRequest {
        GenerationRequest {
            prompt: self.prompt.clone(),
            negative_prompt: self.negative_prompt.clone(),
            steps: Some(self.steps),
            guidance_scale: Some(self.guidance),
            guidance_interval: self
                .interval
                .map(|(start, stop)| GuidanceInterval { start, stop }),
            width_px: Some(self.width),
            height_px: Some(self.height),
            seed: self.seeds.first().copied(),
            count: Some(self.seeds.len() as u32),
            sampler: Some(self.sampler),
            ..GenerationRequest::default()
        }
    }
}

fn references() -> (HashMap<String, Case>, HashMap<String, Tensor>) {
    let path: PathBuf = root().join("tests/reference/data/starter/pipeline.safetensors");
    let bytes = std::fs::read(&path).unwrap();
    let (_, metadata) = safetensors::SafeTensors::read_metadata(&bytes).unwrap();
    let cases = &metadata.metadata().as_ref().unwrap()["cases"];
    let tensors = Tensor::read_safetensors(&path).unwrap();
    (
        serde_json::from_str(cases).unwrap(),
        tensors.into_iter().collect(),
    )
}

#[test]
fn the_starter_draws_what_diffusers_draws() {
    let (cases, tensors) = references();
    assert!(cases.len() >= 5);
    let mut model = starter();
    common::both_ways(|| {
        for (name, case) in &cases {
            let drawn = draw(&mut model, &case.request()).drawn;
            assert_eq!(drawn.len(), case.seeds.len());
            let latents: Vec<_> = drawn.iter().map(|drawn| &drawn.latents).collect();
            common::compare(
                &format!("{name}: latents"),
                &Tensor::cat(&latents, 0),
                &tensors[&format!("{name}.latents")],
                DRAWING,
            );
            check_pictures(name, &drawn, &tensors[&format!("{name}.image")]);
        }
    });
}

/// Each value at most one step of a byte away.
fn check_pictures(name: &str, drawn: &[Drawn], image: &Tensor) {
    for drawn in drawn {
        let want = Vec::<u8>::try_from(image.get(drawn.index as i64).flatten(0, -1)).unwrap();
        assert_eq!(want.len(), drawn.pixels.rgb.len());
        for (at, (got, want)) in drawn.pixels.rgb.iter().zip(&want).enumerate() {
            let apart = got.abs_diff(*want);
            assert!(
                apart <= 1,
                "{name}: value {at} is {got}, diffusers has {want}"
            );
        }
    }
}

#[test]
fn a_picture_does_not_depend_on_the_batch_it_is_drawn_in() {
    let mut model = starter();
    for sampler in [SamplerId::EulerA, SamplerId::DpmPp2mSde] {
        let request = GenerationRequest {
            prompt: "a house, twemoji style".to_owned(),
            seed: Some(40),
            steps: Some(5),
            sampler: Some(sampler),
            ..GenerationRequest::default()
        };
        let together = GenerationRequest {
            count: Some(3),
            batch_size: Some(3),
            ..request.clone()
        };
        let together = draw(&mut model, &together);
        assert_eq!(together.steps, 5);
        for (index, in_batch) in together.drawn.iter().enumerate() {
            let alone = GenerationRequest {
                seed: Some(40 + index as u64),
                ..request.clone()
            };
            let alone = draw(&mut model, &alone);
            common::compare(
                &format!("{sampler:?}: picture {index}"),
                &in_batch.latents,
                &alone.drawn[0].latents,
                DRAWING,
            );
        }
    }
}

#[test]
fn a_picture_of_another_program_s_noise_is_drawn_again_from_its_settings() {
    let mut model = starter();
    for mode in [SeedMode::A1111, SeedMode::A1111Cpu, SeedMode::ComfyUi] {
        let mut seeding = Seeding {
            mode,
            ..Seeding::default()
        };
        if mode == SeedMode::A1111 {
            seeding.variation_strength = Some(0.2);
            seeding.resize_from = Some([64, 96]);
            seeding.ensd = Some(31337);
        }
        let request = GenerationRequest {
            prompt: "a house, twemoji style".to_owned(),
            seed: Some(40),
            seeding,
            steps: Some(5),
            count: Some(3),
            sampler: Some(SamplerId::DpmPp2mSde),
            ..GenerationRequest::default()
        };
        let plan = GenerationPlan::resolve(&request, &model, 1, PictureFormat::Png).unwrap();
        let resolved = GenerationRequest {
            seeding: plan.seeding,
            ..request
        };
        let together = draw(&mut model, &resolved);
        let mut all: Vec<Tensor> = Vec::new();
        for drawn in &together.drawn {
            let (seed, seeding) = plan.seed(drawn.index);
            let again = GenerationRequest {
                seed: Some(seed),
                seeding,
                count: None,
                ..resolved.clone()
            };
            let again = draw(&mut model, &again).drawn.remove(0).latents;
            let name = format!("{mode:?}: picture {}", drawn.index);
            common::compare(&name, &again, &drawn.latents, DRAWING);
            // None is another.
            for other in &all {
                let apart = (&again - other).abs().max().double_value(&[]);
                assert!(apart > 1e-2, "{name}: {apart}");
            }
            all.push(again);
        }
    }
}

#[test]
fn a_prompt_longer_than_the_encoder_still_counts_to_its_end() {
    let mut model = starter();
    let draw_prompt = |model: &mut StableDiffusion, end: &str| {
        let request = GenerationRequest {
            prompt: format!("{}{end}", "a small quiet picture of a thing, ".repeat(6)),
            seed: Some(1),
            steps: Some(3),
            ..GenerationRequest::default()
        };
        draw(model, &request).drawn.remove(0).latents
    };
    let fox = draw_prompt(&mut model, "a fox");
    let sun = draw_prompt(&mut model, "a sun");
    assert!((fox - sun).abs().max().double_value(&[]) > 1e-2);
}

#[test]
fn an_open_weight_changes_the_picture_and_a_weight_of_one_does_not() {
    let mut model = starter();
    let latents = |model: &mut StableDiffusion, prompt: &str| {
        let request = GenerationRequest {
            prompt: prompt.to_owned(),
            seed: Some(1),
            steps: Some(3),
            ..GenerationRequest::default()
        };
        draw(model, &request).drawn.remove(0).latents
    };
    let plain = latents(&mut model, "a red star");
    let same = latents(&mut model, "a (red:1.0) star");
    let more = latents(&mut model, "a (red:1.6) star");
    assert!(plain.equal(&same));
    assert!((plain - more).abs().max().double_value(&[]) > 1e-2);
}
