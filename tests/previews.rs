//! The small VAE (TAESD): as a model's VAE, and for previews.
//!
//! Its numbers are diffusers' (`parity_models.rs`, `tests/reference/data/models/vae_tiny`); here they
//! must come through each way that such a file reaches a model.

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

use common::{NETWORK, Reference, both_ways, compare, data};
use drawing::{draw, root};
use easel::families::{ModelFiles, PreviewBy, StableDiffusion, vae_class};
use easel::request::GenerationRequest;
use tch::{Device, Kind, Tensor};

fn tiny() -> PathBuf {
    data("models/vae_tiny")
}

/// The ways in which its files are shared.
fn all_ways() -> [PathBuf; 4] {
    [
        "",
        "diffusion_pytorch_model.safetensors",
        "taesd_decoder.safetensors",
        "taesd_decoder.pth",
    ]
    .map(|name| tiny().join(name))
}

fn load(files: &ModelFiles) -> StableDiffusion {
    StableDiffusion::load(files, false, Device::Cpu, Kind::Float, &mut |_| ()).unwrap()
}

/// The reference's latents and what they look like.
fn reference() -> (Tensor, Tensor) {
    let reference = Reference::read(&tiny().join("reference.safetensors"));
    let picture = (reference.get("decoded") / 2.0 + 0.5).clamp(0.0, 1.0);
    (reference.get("latents").shallow_clone(), picture)
}

#[test]
fn it_stands_in_for_a_model_s_vae_whatever_its_files_are_like() {
    let starter = root().join("weights/starter");
    let (latents, picture) = reference();
    for vae in all_ways() {
        let name = vae.display().to_string();
        assert_eq!(vae_class(&vae), Some("AutoencoderTiny"), "{name}");
        let files = ModelFiles::open(&starter).unwrap().with_vae(&vae).unwrap();
        let parts = files.inspect(false).unwrap().components;
        assert!(
            parts
                .iter()
                .all(|part| part.problem.is_none() && part.unused.is_empty()),
            "{parts:?}"
        );
        let mut model = load(&files);
        assert_eq!(model.notes, Vec::<String>::new());
        both_ways(|| compare(&name, &model.decode(&latents).unwrap(), &picture, NETWORK));
        assert_eq!(model.decoder.preview_by(), PreviewBy::Vae);
        let request = GenerationRequest {
            prompt: "a star".to_owned(),
            seed: Some(1),
            steps: Some(2),
            ..GenerationRequest::default()
        };
        let drawn = draw(&mut model, &request).drawn.remove(0);
        assert_eq!((drawn.pixels.width_px, drawn.pixels.height_px), (64, 64));
    }
}

#[test]
fn an_encoder_alone_and_latents_of_another_kind_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let zeros = |shape: &[i64]| Tensor::zeros(shape, (Kind::Float, Device::Cpu));
    let file = |name: &str, tensors: &[(&str, Tensor)]| {
        let path = folder.path().join(name);
        Tensor::write_safetensors(tensors, &path).unwrap();
        path
    };
    let encoder = file(
        "taesd_encoder.safetensors",
        &[
            ("0.weight", zeros(&[8, 3, 3, 3])),
            ("1.conv.0.weight", zeros(&[8, 8, 3, 3])),
        ],
    );
    assert_eq!(vae_class(&encoder), None);
    // 16 channels, one stage.
    let other = file(
        "taesd3_decoder.safetensors",
        &[
            ("1.weight", zeros(&[8, 16, 3, 3])),
            ("3.weight", zeros(&[3, 8, 3, 3])),
        ],
    );
    let starter = ModelFiles::open(&root().join("weights/starter")).unwrap();
    let error = starter.with_vae(&other).err().unwrap().to_string();
    assert!(error.contains("16 channels"), "{error}");
}

/// The starter with latents that say that they are Stable Diffusion's.
fn like_sd(folder: &Path) -> StableDiffusion {
    let starter = root().join("weights/starter");
    for name in [
        "unet",
        "text_encoder",
        "tokenizer",
        "scheduler",
        "model_index.json",
    ] {
        std::os::unix::fs::symlink(starter.join(name), folder.join(name)).unwrap();
    }
    std::fs::create_dir(folder.join("vae")).unwrap();
    let weights = "vae/diffusion_pytorch_model.safetensors";
    std::os::unix::fs::symlink(starter.join(weights), folder.join(weights)).unwrap();
    let config = std::fs::read_to_string(starter.join("vae/config.json")).unwrap();
    let mut config: serde_json::Value = serde_json::from_str(&config).unwrap();
    config["scaling_factor"] = 0.18215.into();
    std::fs::write(folder.join("vae/config.json"), config.to_string()).unwrap();
    load(&ModelFiles::open(folder).unwrap())
}

#[test]
fn previews_use_it_where_it_is_found() {
    let folder = tempfile::tempdir().unwrap();
    let mut model = like_sd(folder.path());
    let (latents, picture) = reference();
    assert_eq!(model.decoder.preview_by(), PreviewBy::Vae);
    let own = model.decoder.preview(&latents).unwrap();
    compare("own", &own, &model.decode(&latents).unwrap(), 0.0);

    // What is broken is no reason not to draw.
    let file = folder.path().join("taesd_decoder.pth");
    std::fs::write(&file, "not a checkpoint").unwrap();
    model.decoder.set_preview_vae(Some(file.clone()));
    assert_eq!(model.decoder.preview_by(), PreviewBy::Vae);

    std::fs::copy(tiny().join("taesd_decoder.pth"), &file).unwrap();
    model.decoder.set_preview_vae(Some(file));
    assert_eq!(model.decoder.preview_by(), PreviewBy::TinyVae);
    both_ways(|| {
        let seen = model.decoder.preview(&latents).unwrap();
        compare("taesd", &seen, &picture, NETWORK);
    });
    // The finished picture is the model's own.
    compare("decoded", &model.decode(&latents).unwrap(), &own, 0.0);

    model.decoder.set_preview_vae(None);
    assert_eq!(model.decoder.preview_by(), PreviewBy::Vae);
}
