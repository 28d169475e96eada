//! The networks' numbers against diffusers 0.42.1 and transformers 5.23.
//!
//! Compared: outputs of tiny random models, one a configuration, biases and norms random too; and of
//! the starter and the upscaler in `weights/`, whatever is there. Not compared: states inside a
//! network (a difference there shows at its end). In half precision, whose rounding differs from
//! kernel to kernel, only that the networks compute about the same as in f32.
#![allow(clippy::unwrap_used, clippy::expect_used)] // Helpers fail as tests do.

mod common;

use std::cell::Cell;
use std::path::{Path, PathBuf};

use common::{NETWORK, Reference, both_ways, compare, data};
use easel::checkpoint::{Piece, find_weights, load, map_pieces};
use easel::models::esrgan::RealEsrganCompact;
use easel::models::layers::{Budget, Weights};
use easel::models::unet::{Added, Conditioning, KeyValues, UNet2DConditionModel, UNetConfig};
use easel::models::vae::{AutoencoderKL, AutoencoderTiny, TinyConfig, VaeConfig};
use easel::text::clip::{CLIPTextModel, ClipConfig};
use tch::{Device, Kind, Tensor};

fn weights(files: &[PathBuf]) -> Weights {
    weights_in(files, Kind::Float)
}

fn weights_in(files: &[PathBuf], kind: Kind) -> Weights {
    let loaded = load(files, Device::Cpu, kind, &mut |_| {}).unwrap();
    Weights::new(loaded.path, loaded.tensors)
}

/// The weights of a folder; every tensor must be of use.
fn build<T>(folder: &Path, stem: &str, new: impl FnOnce(&Weights) -> T) -> T {
    let weights = weights(&find_weights(folder, stem).unwrap());
    let model = new(&weights);
    assert_eq!(weights.unused(), Vec::<String>::new());
    model
}

fn check_unet(folder: &Path, reference: &Reference) {
    let config = UNetConfig::read(&folder.join("config.json")).unwrap();
    let unet = build(folder, "diffusion_pytorch_model", |weights| {
        UNet2DConditionModel::new(config, weights).unwrap()
    });
    let timestep = reference.get("timestep").double_value(&[0]);
    let states = reference.get("encoder_hidden_states");
    both_ways(|| {
        let kept = KeyValues::default();
        let conditioning = Conditioning {
            encoder_hidden_states: states,
            key_values: Some(&kept),
            added: reference.find("text_embeds").map(|text_embeds| Added {
                text_embeds,
                time_ids: reference.get("time_ids"),
            }),
            guidance_scale: reference
                .find("guidance_scale")
                .map(|scale| scale.double_value(&[0])),
        };
        // Twice each: the second call takes the keys and values that the first one kept.
        for call in ["output", "output from kept keys and values"] {
            let output =
                tch::no_grad(|| unet.forward(reference.get("sample"), timestep, conditioning));
            compare(call, &output.unwrap(), reference.get("output"), NETWORK);
        }
    });
}

fn check_vae(folder: &Path, reference: &Reference) {
    let config = VaeConfig::read(&folder.join("config.json")).unwrap();
    let vae = build(folder, "diffusion_pytorch_model", |weights| {
        AutoencoderKL::new(config, weights).unwrap()
    });
    both_ways(|| {
        let check = |name: &str, got: &Tensor| {
            compare(name, got, reference.get(name), NETWORK);
        };
        let encoded = tch::no_grad(|| vae.encode(reference.get("image"))).unwrap();
        check("mean", &encoded.mean);
        check("logvar", &encoded.logvar);
        let decoded = tch::no_grad(|| vae.decode(reference.get("latents"))).unwrap();
        check("decoded", &decoded);
    });
}

fn check_clip(folder: &Path, reference: &Reference) {
    let config = ClipConfig::read(&folder.join("config.json")).unwrap();
    let clip = build(folder, "model", |weights| {
        CLIPTextModel::new(config, weights).unwrap()
    });
    both_ways(|| {
        let check = |name: &str, got: &Tensor, want: &str| {
            compare(name, got, reference.get(want), NETWORK);
        };
        let output = tch::no_grad(|| clip.forward(reference.get("input_ids"))).unwrap();
        check("last", &output.last_hidden_state, "last_hidden_state");
        check("pooled", &output.pooled, "pooled");
        let skipped = clip.skip_layers(&output, 1).unwrap();
        check("skip 1", &skipped, "skip_1");
        let unskipped = clip.skip_layers(&output, 0).unwrap();
        check("skip 0", &unskipped, "last_hidden_state");
        assert!(clip.skip_layers(&output, 99).is_err());
    });
}

/// A folder of `tests/reference/data/models` with its reference.
fn tiny(name: &str) -> (PathBuf, Reference) {
    let folder = data("models").join(name);
    let reference = Reference::read(&folder.join("reference.safetensors"));
    (folder, reference)
}

fn shipped(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("weights")
        .join(name)
}

/// Large weights are not converted when a model is loaded, but when a layer uses them.
#[test]
fn weights_that_stay_in_their_file_compute_what_converted_ones_do() {
    let _no_grad = tch::no_grad_guard();
    let stem = "diffusion_pytorch_model";
    let read = |name: &str, stem: &str| {
        let (folder, reference) = tiny(name);
        let files = find_weights(&folder, stem).unwrap();
        (folder.join("config.json"), files, reference)
    };
    let (unet_config, unet_files, unet_reference) = read("unet_sd1", stem);
    let (vae_config, vae_files, vae_reference) = read("vae_plain", stem);
    let (clip_config, clip_files, clip_reference) = read("clip_quick_gelu", "model");
    let unet_config = UNetConfig::read(&unet_config).unwrap();
    let vae_config = VaeConfig::read(&vae_config).unwrap();
    let clip_config = ClipConfig::read(&clip_config).unwrap();
    let draw = |kind: Kind, weights: &dyn Fn(&[PathBuf]) -> Weights| -> Vec<Tensor> {
        let unet = UNet2DConditionModel::new(unet_config.clone(), &weights(&unet_files)).unwrap();
        let vae = AutoencoderKL::new(vae_config.clone(), &weights(&vae_files)).unwrap();
        let clip = CLIPTextModel::new(clip_config.clone(), &weights(&clip_files)).unwrap();
        assert_eq!([unet.kind(), vae.kind(), clip.kind()], [kind; 3]);
        let of = |reference: &Reference, name: &str| reference.get(name).to_kind(kind);
        let states = of(&unet_reference, "encoder_hidden_states");
        let sample = of(&unet_reference, "sample");
        let ids = clip_reference.get("input_ids");
        let mut outputs = Vec::new();
        for _ in 0..2 {
            outputs.push(unet.forward(&sample, 481.0, &states).unwrap());
            outputs.push(vae.decode(&of(&vae_reference, "latents")).unwrap());
            outputs.push(clip.forward(ids).unwrap().last_hidden_state);
        }
        outputs
    };
    for kind in [Kind::Float, Kind::BFloat16] {
        let converted = draw(kind, &|files| weights_in(files, kind));
        for room in [0, 10_000, usize::MAX] {
            let in_another = Cell::new(0);
            let mapped = draw(kind, &|files| {
                let all = |name: &str| vec![Piece::whole(name)];
                let mapped = map_pieces(files, &all, kind, &mut |_| ()).unwrap();
                let stored = mapped.tensors.values().map(Tensor::kind);
                in_another.set(in_another.get() + stored.filter(|stored| *stored != kind).count());
                Weights::new(mapped.path, mapped.tensors).computing_in(kind, Budget::of(room))
            });
            assert!(in_another.get() > 20, "{kind:?}");
            for (converted, mapped) in converted.iter().zip(&mapped) {
                assert_eq!(mapped.kind(), kind);
                assert!(mapped.equal(converted), "{kind:?}, {room}");
            }
        }
    }
}

#[test]
fn a_unet_like_stable_diffusion_1() {
    let (folder, reference) = tiny("unet_sd1");
    check_unet(&folder, &reference);
}

#[test]
fn a_unet_like_stable_diffusion_2_at_an_odd_size() {
    let (folder, reference) = tiny("unet_sd2");
    check_unet(&folder, &reference);
}

#[test]
fn a_unet_with_every_field_away_from_its_default() {
    let (folder, reference) = tiny("unet_unusual");
    check_unet(&folder, &reference);
}

#[test]
fn a_unet_like_sdxl_one_like_lcm_and_one_like_segmind() {
    for name in ["unet_xl", "unet_lcm", "unet_segmind"] {
        let (folder, reference) = tiny(name);
        check_unet(&folder, &reference);
    }
}

/// SDXL's network does not draw without what it is told beside the text.
#[test]
fn a_pooled_text_that_is_missing_or_of_another_width_is_an_error() {
    let (folder, reference) = tiny("unet_xl");
    let config = UNetConfig::read(&folder.join("config.json")).unwrap();
    let unet = build(&folder, "diffusion_pytorch_model", |weights| {
        UNet2DConditionModel::new(config, weights).unwrap()
    });
    let encoder_hidden_states = reference.get("encoder_hidden_states");
    let call = |added| {
        let conditioning = Conditioning {
            encoder_hidden_states,
            key_values: None,
            added,
            guidance_scale: None,
        };
        let error = unet.forward(reference.get("sample"), 1.0, conditioning);
        error.unwrap_err().to_string()
    };
    let (text_embeds, time_ids) = (reference.get("text_embeds"), reference.get("time_ids"));
    let narrow = text_embeds.narrow(1, 0, 9);
    for added in [
        None,
        Some(Added {
            text_embeds: &narrow,
            time_ids,
        }),
        Some(Added {
            text_embeds,
            time_ids: &time_ids.narrow(1, 0, 5),
        }),
    ] {
        let message = call(added);
        assert!(message.contains("8 m = 58"), "{message}");
    }
}

#[test]
fn a_unet_with_a_plain_middle_and_one_without() {
    for name in ["unet_plain_middle", "unet_no_middle"] {
        let (folder, reference) = tiny(name);
        check_unet(&folder, &reference);
    }
}

/// Of the real size, with random weights: `tests/reference/full_size.py` says how the folder is made.
#[test]
#[ignore = "its gigabytes are made by hand"]
fn a_unet_of_full_size() {
    let folder = PathBuf::from(std::env::var("EASEL_FULL_SIZE").unwrap());
    let reference = Reference::read(&folder.join("reference.safetensors"));
    check_unet(&folder, &reference);
}

#[test]
fn a_vae_with_attention() {
    let (folder, reference) = tiny("vae_attention");
    check_vae(&folder, &reference);
}

#[test]
fn a_vae_with_old_names_in_shards() {
    let (folder, reference) = tiny("vae_old_names");
    check_vae(&folder, &reference);
}

#[test]
fn a_vae_without_attention_and_quantisation() {
    let (folder, reference) = tiny("vae_plain");
    check_vae(&folder, &reference);
}

#[test]
fn a_text_encoder_with_quick_gelu() {
    let (folder, reference) = tiny("clip_quick_gelu");
    check_clip(&folder, &reference);
}

#[test]
fn a_text_encoder_with_gelu_old_names_and_the_old_end_token() {
    let (folder, reference) = tiny("clip_gelu");
    check_clip(&folder, &reference);
}

#[test]
fn the_upscaler_of_another_size_and_scale() {
    let (folder, reference) = tiny("esrgan");
    let model = build(&folder, "model", |weights| {
        RealEsrganCompact::new(weights).unwrap()
    });
    assert_eq!(model.scale, 3);
    both_ways(|| {
        let output = tch::no_grad(|| model.forward(reference.get("image"))).unwrap();
        compare("output", &output, reference.get("output"), NETWORK);
    });
}

#[test]
fn the_starter() {
    let reference = Reference::read(&data("starter/models.safetensors"));
    let folder = shipped("starter");
    check_clip(
        &folder.join("text_encoder"),
        &reference.part("text_encoder"),
    );
    check_unet(&folder.join("unet"), &reference.part("unet"));
    check_vae(&folder.join("vae"), &reference.part("vae"));
}

#[test]
fn the_upscaler() {
    let reference = Reference::read(&data("starter/upscaler.safetensors"));
    let file = shipped("upscalers/realesr-animevideov3-x4.safetensors");
    let weights = weights(&[file]);
    let model = RealEsrganCompact::new(&weights).unwrap();
    assert_eq!(weights.unused(), Vec::<String>::new());
    assert_eq!(model.scale, 4);
    both_ways(|| {
        let output = tch::no_grad(|| model.forward(reference.get("image"))).unwrap();
        compare("output", &output, reference.get("output"), NETWORK);
    });
}

/// Rounding of inputs, weights and every layer: 8 bits of bf16, 11 of f16, through some 30 layers.
#[test]
fn half_precision_computes_about_the_same() {
    let _no_grad = tch::no_grad_guard();
    for (kind, tolerance) in [(Kind::BFloat16, 0.1), (Kind::Half, 0.01)] {
        let weights = |folder: &Path, stem| weights_in(&find_weights(folder, stem).unwrap(), kind);
        let (folder, reference) = tiny("unet_sd1");
        let config = UNetConfig::read(&folder.join("config.json")).unwrap();
        let stem = "diffusion_pytorch_model";
        let unet = UNet2DConditionModel::new(config, &weights(&folder, stem)).unwrap();
        assert_eq!(unet.kind(), kind);
        let input = |name| reference.get(name).to_kind(kind);
        let timestep = reference.get("timestep").double_value(&[0]);
        let output = unet.forward(&input("sample"), timestep, &input("encoder_hidden_states"));
        let output = output.unwrap();
        assert_eq!(output.kind(), kind);
        compare("unet", &output, reference.get("output"), tolerance);

        let (folder, reference) = tiny("vae_attention");
        let config = VaeConfig::read(&folder.join("config.json")).unwrap();
        let vae = AutoencoderKL::new(config, &weights(&folder, stem)).unwrap();
        let decoded = vae.decode(&reference.get("latents").to_kind(kind)).unwrap();
        compare("decoded", &decoded, reference.get("decoded"), tolerance);

        let (folder, reference) = tiny("clip_quick_gelu");
        let config = ClipConfig::read(&folder.join("config.json")).unwrap();
        let clip = CLIPTextModel::new(config, &weights(&folder, "model")).unwrap();
        let states = clip.forward(reference.get("input_ids")).unwrap();
        let last = reference.get("last_hidden_state");
        compare("text", &states.last_hidden_state, last, tolerance);

        let (folder, reference) = tiny("esrgan");
        let upscaler = RealEsrganCompact::new(&weights(&folder, "model")).unwrap();
        let large = upscaler.forward(&reference.get("image").to_kind(kind));
        compare(
            "upscaled",
            &large.unwrap(),
            reference.get("output"),
            tolerance,
        );
    }
}

/// One picture of a batch does not depend on the others beyond the rounding of another kernel.
#[test]
fn a_batch_is_its_pictures() {
    let (folder, reference) = tiny("unet_sd1");
    let config = UNetConfig::read(&folder.join("config.json")).unwrap();
    let unet = build(&folder, "diffusion_pytorch_model", |weights| {
        UNet2DConditionModel::new(config, weights).unwrap()
    });
    let one = |name| reference.get(name).narrow(0, 1, 1);
    let timestep = reference.get("timestep").double_value(&[0]);
    let states = one("encoder_hidden_states");
    both_ways(|| {
        let output = tch::no_grad(|| unet.forward(&one("sample"), timestep, &states)).unwrap();
        compare("second", &output, &one("output"), NETWORK);
    });
}

#[test]
fn a_small_vae_decodes_what_diffusers_decodes() {
    let (folder, reference) = tiny("vae_tiny");
    let config = TinyConfig::read(&folder.join("config.json")).unwrap();
    let weights = weights(&find_weights(&folder, "diffusion_pytorch_model").unwrap());
    let vae = AutoencoderTiny::new(config, &weights).unwrap();
    // Its encoder is left.
    let unused = weights.unused();
    assert!(
        unused.iter().all(|name| name.starts_with("encoder.")),
        "{unused:?}"
    );
    both_ways(|| {
        let decoded = tch::no_grad(|| vae.decode(reference.get("latents"))).unwrap();
        compare("decoded", &decoded, reference.get("decoded"), NETWORK);
    });
}

#[test]
fn every_model_can_move_to_the_worker_thread() {
    fn movable<T: Send>() {}
    movable::<UNet2DConditionModel>();
    movable::<AutoencoderKL>();
    movable::<AutoencoderTiny>();
    movable::<CLIPTextModel>();
    movable::<RealEsrganCompact>();
}
