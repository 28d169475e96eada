//! Broken values become a message with the way out, never a black picture.
//!
//! The starter with one value of its last layer out of all range: what overflows in half precision, and
//! what a damaged file brings in any.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods
)]

#[path = "common/drawing.rs"]
mod drawing;

use std::path::Path;

use drawing::{Keeper, root};
use easel::error::{Error, Remedy};
use easel::families::{ModelFiles, StableDiffusion};
use easel::pipeline::{GenerationPlan, generate};
use easel::request::{GenerationRequest, PictureFormat};
use tch::{Device, Kind, Tensor};

const PARTS: [&str; 5] = ["unet", "vae", "text_encoder", "tokenizer", "scheduler"];
const WEIGHTS: &str = "diffusion_pytorch_model.safetensors";

/// The starter with this value in a bias of a part's last layer.
fn with_value(folder: &Path, part: &str, bias: &str, value: f64) -> ModelFiles {
    let starter = root().join("weights/starter");
    let link =
        |name: &str| std::os::unix::fs::symlink(starter.join(name), folder.join(name)).unwrap();
    link("model_index.json");
    PARTS
        .iter()
        .filter(|name| **name != part)
        .for_each(|name| link(name));
    std::fs::create_dir(folder.join(part)).unwrap();
    link(&format!("{part}/config.json"));
    let tensors = Tensor::read_safetensors(starter.join(part).join(WEIGHTS)).unwrap();
    let changed = tensors.into_iter().map(|(name, tensor)| {
        let changed = tensor.to_kind(Kind::Float);
        if name == bias {
            let _ = changed.get(0).fill_(value);
        }
        (name, changed)
    });
    let changed: Vec<_> = changed.collect();
    Tensor::write_safetensors(&changed, folder.join(part).join(WEIGHTS)).unwrap();
    ModelFiles::open(folder).unwrap()
}

fn error_of(files: &ModelFiles, kind: Kind) -> Error {
    let mut model = StableDiffusion::load(files, false, Device::Cpu, kind, &mut |_| ()).unwrap();
    let request = GenerationRequest {
        prompt: "a star".to_owned(),
        seed: Some(1),
        steps: Some(2),
        ..GenerationRequest::default()
    };
    let plan = GenerationPlan::resolve(&request, &model, 1, PictureFormat::Png).unwrap();
    let mut keeper = Keeper::default();
    let error = generate(&mut model, &plan, None, &mut keeper).unwrap_err();
    assert!(keeper.drawn.is_empty());
    error
}

#[test]
fn a_unet_that_breaks_is_named_with_the_call_and_the_way_out() {
    let folder = tempfile::tempdir().unwrap();
    let files = with_value(folder.path(), "unet", "conv_out.bias", f64::INFINITY);
    for (kind, remedy, words) in [
        (Kind::Float, Remedy::ChooseModel, "damaged"),
        (Kind::BFloat16, Remedy::UseF32, "bf16"),
    ] {
        let error = error_of(&files, kind);
        let message = error.to_string();
        assert!(
            message.contains("the UNet was called for the 1. time"),
            "{message}"
        );
        assert!(message.contains(words), "{message}");
        assert_eq!(error.remedy(), Some(remedy), "{message}");
    }
}

#[test]
fn a_decoder_that_breaks_is_named_and_no_picture_is_handed_over() {
    let folder = tempfile::tempdir().unwrap();
    let files = with_value(folder.path(), "vae", "decoder.conv_out.bias", f64::NAN);
    let error = error_of(&files, Kind::Float);
    let message = error.to_string();
    assert!(message.contains("the picture was decoded"), "{message}");
    assert_eq!(error.remedy(), Some(Remedy::ChooseModel), "{message}");
}

#[test]
fn f16_names_the_formats_with_more_room() {
    let error = Error::NotANumber {
        when: "the picture was decoded".to_owned(),
        kind: Kind::Half,
    };
    let message = error.to_string();
    assert!(
        message.contains("f32") && message.contains("bf16"),
        "{message}"
    );
    assert_eq!(error.remedy(), Some(Remedy::UseF32));
}
