//! LoRAs on the model that ships, beside diffusers 0.42.1 with peft (`tests/reference/lora.py`), and
//! their kin beside LyCORIS 4.1.3 and peft 0.21.2 (`tests/reference/lora_kinds.py`).
//!
//! Compared: the latents after four steps, with the same LoRA in kohya's and in peft's spelling, on
//! linear layers, a projection that may be a convolution, a 3x3 convolution, and the text encoder; each
//! kind's weight on single layers; and the latents with one file that has every kind.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods
)]

mod common;
#[path = "common/drawing.rs"]
mod drawing;

use std::path::{Path, PathBuf};

use common::DRAWING;
use easel::checkpoint::load_lora;
use easel::error::Error;
use easel::families::{Lora, StableDiffusion};
use easel::request::{GenerationRequest, SamplerId};
use tch::{Device, Kind, Tensor};

/// One layer's weight: the order of a few products of f32.
const OF_A_WEIGHT: f64 = 1e-6;

fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/reference/data/starter")
        .join(name)
}

fn tensors(path: &Path) -> std::collections::BTreeMap<String, Tensor> {
    let read = Tensor::read_safetensors(path).unwrap();
    read.into_iter().collect()
}

fn lora(path: PathBuf, weight: f64) -> Lora {
    Lora {
        path,
        unet_weight: weight,
        text_encoder_weight: weight,
    }
}

fn latents(model: &mut StableDiffusion) -> Tensor {
    let request = GenerationRequest {
        prompt: "a star, 3d style".to_owned(),
        steps: Some(4),
        guidance_scale: Some(3.0),
        seed: Some(2),
        sampler: Some(SamplerId::DpmPp2m),
        ..GenerationRequest::default()
    };
    drawing::draw(model, &request).drawn.remove(0).latents
}

#[test]
fn both_spellings_draw_what_diffusers_draws_and_come_and_go() {
    let want: std::collections::HashMap<_, _> = Tensor::read_safetensors(file("lora.safetensors"))
        .unwrap()
        .into_iter()
        .collect();
    let mut model = drawing::starter();
    let without = latents(&mut model);
    for spelling in ["kohya", "peft"] {
        let path = file(&format!("lora_{spelling}.safetensors"));
        let loras = [lora(path, 0.8)];
        assert!(!model.has_loras(&loras));
        let notes = model.set_loras(&loras).unwrap();
        assert!(model.has_loras(&loras));
        assert_eq!(notes, Vec::<String>::new());
        common::both_ways(|| {
            let with = latents(&mut model);
            let name = format!("{spelling}.latents");
            common::compare(&name, &with, &want[&name], DRAWING);
            assert!((&with - &without).abs().max().double_value(&[]) > 0.05);
        });
    }
    model.set_loras(&[]).unwrap();
    assert!(model.has_loras(&[]));
    assert!(latents(&mut model).equal(&without));
}

#[test]
fn two_at_once_add_up() {
    let mut model = drawing::starter();
    let path = || file("lora_peft.safetensors");
    model.set_loras(&[lora(path(), 0.5)]).unwrap();
    let once = latents(&mut model);
    model
        .set_loras(&[lora(path(), 0.2), lora(path(), 0.3)])
        .unwrap();
    common::compare("two branches", &latents(&mut model), &once, DRAWING);
}

#[test]
fn a_file_that_is_no_lora_or_of_another_model_is_refused_and_nothing_stays_attached() {
    let mut model = drawing::starter();
    let without = latents(&mut model);
    let folder = tempfile::tempdir().unwrap();
    let other = folder.path().join("other.safetensors");
    let tensor = || Tensor::ones([2, 2], (Kind::Float, Device::Cpu));
    let pair = |layer: &str| {
        [("lora_down", tensor()), ("lora_up", tensor())]
            .map(|(half, tensor)| (format!("{layer}.{half}.weight"), tensor))
    };
    Tensor::write_safetensors(&pair("lora_unet_input_blocks_1_to_q"), &other).unwrap();
    let misfit = folder.path().join("misfit.safetensors");
    let layer = "lora_te_text_model_encoder_layers_0_self_attn_q_proj";
    Tensor::write_safetensors(&pair(layer), &misfit).unwrap();
    let half = folder.path().join("half.safetensors");
    Tensor::write_safetensors(&pair(layer)[..1], &half).unwrap();
    let checkpoint = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("weights/upscalers/realesr-animevideov3-x4.safetensors");
    let good = lora(file("lora_kohya.safetensors"), 1.0);
    for path in [
        other,
        misfit,
        half,
        checkpoint,
        folder.path().join("missing"),
    ] {
        let error = model.set_loras(&[good.clone(), lora(path.clone(), 1.0)]);
        assert!(
            matches!(error, Err(Error::AddOn { what: "LoRA", .. })),
            "{}",
            path.display()
        );
        assert!(latents(&mut model).equal(&without));
    }
}

#[test]
fn each_kind_changes_a_layer_as_lycoris_and_peft_do() {
    let kinds =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/reference/data/lora/kinds.safetensors");
    let all = tensors(&kinds);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("kind.safetensors");
    let (mut weights, mut biases) = (0, 0);
    for (name, base) in &all {
        let Some(case) = name.strip_suffix("/base") else {
            continue;
        };
        let prefix = format!("{case}/file/");
        let file: Vec<(String, Tensor)> = all
            .iter()
            .filter_map(|(name, tensor)| Some((name.strip_prefix(&prefix)?, tensor)))
            .map(|(name, tensor)| (format!("unet.layer.{name}"), tensor.shallow_clone()))
            .collect();
        Tensor::write_safetensors(&file, &path).unwrap();
        let read = load_lora(&path, Device::Cpu, Kind::Float).unwrap();
        assert_eq!(read.ignored, Vec::<String>::new(), "{case}");
        let change = &read.layers["unet.layer"];
        for strength in ["1.0", "0.7"] {
            let added = change.differences(base, strength.parse().unwrap()).unwrap();
            let name = format!("{case}/merged/{strength}");
            if let Some(want) = all.get(&name) {
                common::compare(&name, &(base + added.weight.unwrap()), want, OF_A_WEIGHT);
                weights += 1;
            }
            let name = format!("{case}/bias/{strength}");
            if let Some(want) = all.get(&name) {
                common::compare(&name, &added.bias.unwrap(), want, OF_A_WEIGHT);
                biases += 1;
            }
        }
    }
    assert_eq!((weights, biases), (54, 4));
}

#[test]
fn a_file_of_every_kind_draws_what_diffusers_draws_with_lycoris_weights() {
    let want = tensors(&file("lora_kinds_latents.safetensors"));
    let mut model = drawing::starter();
    let without = latents(&mut model);
    let kinds = || lora(file("lora_kinds.safetensors"), 1.0);
    let notes = model.set_loras(&[kinds()]).unwrap();
    assert_eq!(notes, Vec::<String>::new());
    common::both_ways(|| {
        let with = latents(&mut model);
        common::compare("every kind", &with, &want["latents"], DRAWING);
        assert!((&with - &without).abs().max().double_value(&[]) > 0.05);
    });
    let with = latents(&mut model);
    let kohya = lora(file("lora_kohya.safetensors"), 0.8);
    model.set_loras(&[kinds(), kohya.clone()]).unwrap();
    let both = latents(&mut model);
    assert!((&both - &with).abs().max().double_value(&[]) > 0.05);
    model.set_loras(&[kohya, kinds()]).unwrap();
    common::compare("the other order", &latents(&mut model), &both, DRAWING);
    model.set_loras(&[]).unwrap();
    assert!(latents(&mut model).equal(&without));
}
