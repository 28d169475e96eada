//! SDXL, its refiner, Segmind's smaller UNets and LCM against diffusers 0.42.1.
//!
//! Compared, of tiny random models: the tensors of a single file, text states and pooled text, one call
//! of the UNet, latents after 20 steps and the picture; as a single file and as a folder. The models are
//! made here; what diffusers makes of them is in `tests/reference/data/xl` (`tests/reference/xl.py`).
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods
)]

mod common;
#[path = "common/drawing.rs"]
mod drawing;
#[path = "common/generated.rs"]
mod generated;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use common::{DRAWING, NETWORK, Reference, both_ways, compare, data};
use drawing::{draw, root};
use easel::families::{Family, Lora, ModelFiles, Part, StableDiffusion};
use easel::models::layers::{Exactly, embed_guidance_scale};
use easel::models::unet::{Added, Conditioning};
use easel::pipeline::GenerationPlan;
use easel::request::{
    Emphasis, GenerationRequest, PictureFormat, PictureHints, RefinerChoice, SamplerId, ScheduleId,
};
use serde::Deserialize;
use serde_json::{Value, json};
use tch::{Device, Kind, Tensor};

#[derive(Deserialize)]
struct Case {
    prompt: String,
    negative_prompt: String,
    seed: u64,
    steps: u32,
    guidance: f64,
    width: u32,
    height: u32,
    /// From where on the refiner draws.
    switch: f64,
    /// By part, as `config.json` has them.
    configs: BTreeMap<String, Value>,
    scheduler: Value,
    stored: BTreeMap<String, Vec<i64>>,
    /// By part and diffusers' name: shape and fingerprint.
    parts: BTreeMap<String, BTreeMap<String, (Vec<i64>, f64)>>,
}

impl Case {
    fn read(name: &str) -> (Self, Reference) {
        let file = data("xl").join(name);
        let text = std::fs::read(file.with_extension("json")).unwrap();
        let reference = Reference::read(&file.with_extension("safetensors"));
        (serde_json::from_slice(&text).unwrap(), reference)
    }

    fn request(&self) -> GenerationRequest {
        GenerationRequest {
            prompt: self.prompt.clone(),
            negative_prompt: self.negative_prompt.clone(),
            seed: Some(self.seed),
            steps: Some(self.steps),
            guidance_scale: Some(self.guidance),
            width_px: Some(self.width),
            height_px: Some(self.height),
            ..GenerationRequest::default()
        }
    }

    /// The single file in `folder`.
    fn write(&self, folder: &Path) -> PathBuf {
        let path = folder.join("a file of some name.safetensors");
        Tensor::write_safetensors(&generated::tensors(&self.stored), &path).unwrap();
        path
    }
}

fn loaded(files: &ModelFiles) -> StableDiffusion {
    let model = StableDiffusion::load(files, false, Device::Cpu, Kind::Float, &mut |_| ()).unwrap();
    assert_eq!(model.notes, Vec::<String>::new());
    model
}

fn latents(model: &mut StableDiffusion, request: &GenerationRequest) -> Tensor {
    draw(model, request).drawn.remove(0).latents
}

/// The same model as a diffusers folder: its tensors under diffusers' names, its configs, tokenizers.
fn write_folder(files: &ModelFiles, case: &Case, index: &Value, folder: &Path) {
    for part in files.parts() {
        let own = folder.join(part.name());
        std::fs::create_dir_all(&own).unwrap();
        let weights = files.load(part, Device::Cpu, Kind::Half, &mut |_| ());
        let weights = weights.unwrap();
        let names = weights.unused();
        let tensor = |name: &String| {
            let shape = weights.root().shape(name).unwrap();
            let tensor = weights.root().tensor(name, &shape).unwrap();
            (name.clone(), tensor.contiguous())
        };
        let tensors: Vec<_> = names.iter().map(tensor).collect();
        let file = format!("{}.safetensors", part.stem());
        Tensor::write_safetensors(&tensors, own.join(file)).unwrap();
        let config = case.configs[part.name()].to_string();
        std::fs::write(own.join("config.json"), config).unwrap();
        if matches!(part, Part::TextEncoder | Part::TextEncoder2) {
            let pad = if part == Part::TextEncoder {
                "<|endoftext|>"
            } else {
                "!"
            };
            write_tokenizer(pad, &folder.join(part.tokenizer_folder()));
        }
    }
    let scheduler = folder.join("scheduler");
    std::fs::create_dir_all(&scheduler).unwrap();
    let text = case.scheduler.to_string();
    std::fs::write(scheduler.join("scheduler_config.json"), text).unwrap();
    std::fs::write(folder.join("model_index.json"), index.to_string()).unwrap();
}

/// CLIP's tokenizer as transformers saves it.
fn write_tokenizer(pad: &str, folder: &Path) {
    let merges = std::fs::read_to_string(root().join("assets/clip/merges.txt")).unwrap();
    let printable = |c: &char| matches!(c, '!'..='~' | '¡'..='¬' | '®'..='ÿ');
    let letters: Vec<char> = ('\0'..='\u{ff}').filter(printable).collect();
    let rest = (0..256 - letters.len() as u32).map(|n| char::from_u32(256 + n).unwrap());
    let letters: Vec<String> = letters.into_iter().chain(rest).map(String::from).collect();
    let ends = letters.iter().map(|letter| format!("{letter}</w>"));
    let pairs = merges.lines().map(|line| line.replace(' ', ""));
    let special = ["<|startoftext|>", "<|endoftext|>"].map(String::from);
    let tokens = letters
        .iter()
        .cloned()
        .chain(ends)
        .chain(pairs)
        .chain(special);
    let vocab: BTreeMap<String, usize> = tokens.zip(0..).collect();
    std::fs::create_dir_all(folder).unwrap();
    std::fs::write(folder.join("vocab.json"), json!(vocab).to_string()).unwrap();
    std::fs::write(
        folder.join("merges.txt"),
        format!("#version: 0.2\n{merges}"),
    )
    .unwrap();
    let config = json!({"pad_token": pad, "model_max_length": 77});
    std::fs::write(folder.join("tokenizer_config.json"), config.to_string()).unwrap();
}

/// A model that draws from words: text, one call of the network, 20 steps.
fn check_base(case: &Case, reference: &Reference, files: &ModelFiles) -> StableDiffusion {
    assert_eq!(files.family, Family::Xl);
    for part in files.inspect(false).unwrap().components {
        assert_eq!((part.problem, part.unused), (None, vec![]), "{}", part.name);
    }
    let mut model = loaded(files);
    let _no_grad = tch::no_grad_guard();
    let half = "(\"a cat\").blend(0.5, no_normalize)";
    let half = model.encode(half, Emphasis::Compel, 1).unwrap();
    assert!(half.pooled.is_some(), "one text of a share of its own");
    check_networks(case, reference, &mut model);
    model
}

/// By libtorch's arithmetic too: once a model, however its files lie.
fn check_exactly(case: &Case, reference: &Reference, model: &mut StableDiffusion) {
    let _no_grad = tch::no_grad_guard();
    let _exactly = Exactly::when(true);
    check_networks(case, reference, model);
}

fn check_networks(case: &Case, reference: &Reference, model: &mut StableDiffusion) {
    let usual = Emphasis::default();
    let prompt = model.encode(&case.prompt, usual, 1).unwrap();
    let negative = model.encode_negative(&case.negative_prompt, usual, 1);
    let negative = negative.unwrap();
    compare("states", &prompt.states, reference.get("prompt"), NETWORK);
    let pooled = prompt.pooled.unwrap();
    compare("pooled", &pooled, reference.get("pooled"), NETWORK);
    if let Some(expected) = reference.find("negative_pooled") {
        compare("negative", &negative.pooled.unwrap(), expected, NETWORK);
    }
    let conditioning = Conditioning {
        encoder_hidden_states: &prompt.states,
        key_values: None,
        added: Some(Added {
            text_embeds: &pooled,
            time_ids: reference.get("time_ids"),
        }),
        guidance_scale: None,
    };
    let output = model
        .unet
        .forward(reference.get("sample"), 481.0, conditioning);
    compare("output", &output.unwrap(), reference.get("output"), NETWORK);
    let got = latents(model, &case.request());
    compare("latents", &got, reference.get("latents"), DRAWING);
}

#[test]
fn a_checkpoint_of_sdxl_draws_what_diffusers_draws() {
    let (case, reference) = Case::read("sdxl");
    let folder = tempfile::tempdir().unwrap();
    let files = ModelFiles::open(&case.write(folder.path())).unwrap();
    for (part, expected) in &case.parts {
        let part = Part::ALL
            .into_iter()
            .find(|known| known.name() == part)
            .unwrap();
        let weights = files
            .load(part, Device::Cpu, Kind::Float, &mut |_| ())
            .unwrap();
        let root = weights.root();
        for (name, (shape, sum)) in expected {
            // Stored as a convolution, of use as a linear map; transformers dropped a prefix.
            let name = match part {
                Part::TextEncoder => format!("text_model.{name}"),
                _ => name.clone(),
            };
            let stored = root
                .shape(&name)
                .unwrap_or_else(|| panic!("{name} is missing"));
            let bare = |shape: &[i64]| shape.strip_suffix(&[1, 1]).unwrap_or(shape).to_vec();
            assert_eq!(bare(&stored), bare(shape), "{name}");
            let got = generated::fingerprint(&root.tensor(&name, &stored).unwrap());
            assert!(
                (got - sum).abs() <= 1e-9 * sum.abs().max(1.0),
                "{name}: {got}, not {sum}"
            );
        }
        assert_eq!(weights.unused(), Vec::<String>::new(), "{part:?}");
    }
    let mut model = check_base(&case, &reference, &files);
    check_exactly(&case, &reference, &mut model);
    // Sides of the latents are known from the family, not from the file.
    let defaults = &model.card.defaults;
    assert_eq!((defaults.width_px, defaults.height_px), (1024, 1024));
    assert_eq!(
        (defaults.sampler, defaults.schedule),
        (SamplerId::Euler, ScheduleId::Model)
    );
    let no_negative = GenerationRequest {
        negative_prompt: String::new(),
        ..case.request()
    };
    // diffusers counts the layers that are skipped beyond the one that it never listens to.
    let skip = GenerationRequest {
        clip_skip: Some(3),
        ..no_negative.clone()
    };
    let sizes = GenerationRequest {
        hints: PictureHints {
            original_size: Some([300, 512]),
            crop: Some([8, 40]),
            target_size: Some([100, 200]),
            ..PictureHints::default()
        },
        ..case.request()
    };
    both_ways(|| {
        for (request, name) in [
            (&no_negative, "latents_no_negative"),
            (&skip, "latents_clip_skip"),
            (&sizes, "latents_sizes"),
        ] {
            let got = latents(&mut model, request);
            compare(name, &got, reference.get(name), DRAWING);
        }
        let image = model.decode(reference.get("latents")).unwrap();
        let sparse = image.slice(2, None, None, 4).slice(3, None, None, 4);
        compare("image", &sparse, reference.get("image"), DRAWING);
    });
}

#[test]
fn a_folder_of_sdxl_draws_what_diffusers_draws() {
    let (case, reference) = Case::read("sdxl");
    let folder = tempfile::tempdir().unwrap();
    let files = ModelFiles::open(&case.write(folder.path())).unwrap();
    let index = json!({
        "_class_name": "StableDiffusionXLPipeline",
        "force_zeros_for_empty_prompt": true,
        "text_encoder": ["transformers", "CLIPTextModel"],
        "text_encoder_2": ["transformers", "CLIPTextModelWithProjection"],
    });
    let own = folder.path().join("model");
    write_folder(&files, &case, &index, &own);
    let files = ModelFiles::open(&own).unwrap();
    assert_eq!(files.card(false).unwrap().family, "Stable Diffusion XL");
    check_base(&case, &reference, &files);
}

/// kohya's names for SDXL, of the UNet and both text encoders; the pair that embeddings for SDXL are.
#[test]
fn a_lora_and_an_embedding_for_sdxl_change_what_they_change_in_diffusers() {
    let (case, _) = Case::read("sdxl");
    let reference = Reference::read(&data("xl/add_ons.safetensors"));
    let folder = tempfile::tempdir().unwrap();
    let mut model = loaded(&ModelFiles::open(&case.write(folder.path())).unwrap());
    let request = GenerationRequest {
        steps: Some(4),
        ..case.request()
    };
    let without = latents(&mut model, &request);
    let lora = Lora {
        path: data("xl/lora.safetensors"),
        unet_weight: 0.7,
        text_encoder_weight: 0.7,
    };
    let notes = model.set_loras(&[lora]).unwrap();
    assert_eq!(notes, Vec::<String>::new());
    both_ways(|| {
        let got = latents(&mut model, &request);
        let expected = reference.get("lora_latents");
        compare("LoRA", &got, expected, DRAWING);
    });
    model.set_loras(&[]).unwrap();
    assert!(latents(&mut model, &request).equal(&without));
    model
        .set_embeddings(&[], &[data("xl/pair.safetensors")])
        .unwrap();
    let _no_grad = tch::no_grad_guard();
    both_ways(|| {
        let prompt = model
            .encode("a horse, pair of them", Emphasis::default(), 1)
            .unwrap();
        compare("pair", &prompt.states, reference.get("pair"), NETWORK);
        let pooled = prompt.pooled.unwrap();
        compare("pooled", &pooled, reference.get("pair_pooled"), NETWORK);
    });
}

/// SDXL's own VAE overflows in f16; `sdxl-vae-fp16-fix` does not, and its config says so.
#[test]
fn a_vaes_folder_says_itself_whether_it_overflows() {
    let (case, _) = Case::read("sdxl");
    let folder = tempfile::tempdir().unwrap();
    let file = case.write(folder.path());
    let files = ModelFiles::open(&file).unwrap();
    assert!(files.vae.force_upcast);
    let own = folder.path().join("model");
    write_folder(&files, &case, &json!({}), &own);
    let vae = own.join("vae");
    for (said, upcast) in [
        (json!(false), false),
        (json!(true), true),
        (Value::Null, true),
    ] {
        let mut config = case.configs["vae"].clone();
        match said {
            Value::Null => drop(config.as_object_mut().unwrap().remove("force_upcast")),
            said => config["force_upcast"] = said,
        }
        std::fs::write(vae.join("config.json"), config.to_string()).unwrap();
        let of_folder = files.clone().with_vae(&vae).unwrap();
        assert_eq!(of_folder.vae.force_upcast, upcast);
        // Of its file alone nobody knows.
        let weights = vae.join("diffusion_pytorch_model.safetensors");
        let of_file = files.clone().with_vae(&weights).unwrap();
        assert!(of_file.vae.force_upcast);
    }
}

/// SSD-1B's and Vega's way: layers of different depths, no attention in the middle.
#[test]
fn segminds_smaller_unets_draw_what_diffusers_draws_from_either_layout() {
    let (case, reference) = Case::read("segmind");
    let folder = tempfile::tempdir().unwrap();
    let files = ModelFiles::open(&case.write(folder.path())).unwrap();
    let mut model = check_base(&case, &reference, &files);
    check_exactly(&case, &reference, &mut model);
    let own = folder.path().join("model");
    let index = json!({"_class_name": "StableDiffusionXLPipeline"});
    write_folder(&files, &case, &index, &own);
    check_base(&case, &reference, &ModelFiles::open(&own).unwrap());
}

/// A refiner has one text encoder and is told how beautiful the picture is.
#[test]
fn a_refiner_is_known_by_its_keys_and_draws_alone() {
    let (case, _) = Case::read("refiner");
    let folder = tempfile::tempdir().unwrap();
    let files = ModelFiles::open(&case.write(folder.path())).unwrap();
    let inspection = files.inspect(false).unwrap();
    assert_eq!(inspection.card.family, "Stable Diffusion XL refiner");
    let names: Vec<_> = inspection.components.iter().map(|part| part.name).collect();
    assert_eq!(names, ["unet", "vae", "text_encoder_2"]);
    for part in inspection.components {
        assert_eq!((part.problem, part.unused), (None, vec![]), "{}", part.name);
    }
    let mut single = loaded(&files);
    let own = folder.path().join("model");
    let index = json!({
        "_class_name": "StableDiffusionXLImg2ImgPipeline",
        "force_zeros_for_empty_prompt": false,
        "text_encoder": [null, null],
    });
    write_folder(&files, &case, &index, &own);
    let folder_files = ModelFiles::open(&own).unwrap();
    assert_eq!(folder_files.family, Family::XlRefiner);
    let request = GenerationRequest {
        steps: Some(3),
        ..case.request()
    };
    let (got, same) = (
        latents(&mut single, &request),
        latents(&mut loaded(&folder_files), &request),
    );
    compare("folder", &same, &got, NETWORK);
}

/// The base draws down to a noise level, the refiner from there on, as two pipelines of diffusers do
/// (`denoising_end`, `denoising_start`), with samplers that keep no history.
#[test]
fn a_refiner_goes_on_where_the_base_stops() {
    let (case, _) = Case::read("sdxl");
    let (refiner_case, reference) = Case::read("refiner");
    let (folder, refiner_folder) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut model = loaded(&ModelFiles::open(&case.write(folder.path())).unwrap());
    let file = refiner_case.write(refiner_folder.path());
    let refiner = loaded(&ModelFiles::open(&file).unwrap());
    model.set_refiner(Some(refiner)).unwrap();
    let request = |start, sampler, hints| GenerationRequest {
        refiner: Some(RefinerChoice {
            path: file.clone(),
            start,
        }),
        sampler: Some(sampler),
        hints,
        ..case.request()
    };
    let usual = PictureHints::default();
    let scores = PictureHints {
        aesthetic_score: Some(9.0),
        negative_aesthetic_score: Some(1.0),
        ..usual
    };
    for (name, sampler) in [("euler", SamplerId::Euler), ("ddim", SamplerId::Ddim)] {
        for (what, hints) in [("refined", usual), ("scores", scores)] {
            let name = format!("{name}_{what}");
            let mut check = || {
                let got = latents(&mut model, &request(case.switch, sampler, hints));
                compare(&name, &got, reference.get(&name), DRAWING);
            };
            // Scores are numbers that both arithmetics are told alike.
            match what {
                "refined" => both_ways(check),
                _ => check(),
            }
        }
    }
    let resolve = |request: &GenerationRequest, model: &StableDiffusion| {
        GenerationPlan::resolve(request, model, 1, PictureFormat::Png)
    };
    let steps = |start| {
        let plan = resolve(&request(start, SamplerId::Euler, usual), &model);
        plan.unwrap().steps_before_refiner
    };
    assert_eq!([steps(0.0), steps(case.switch), steps(1.0)], [0, 14, 20]);
    let message = |request: GenerationRequest| resolve(&request, &model).unwrap_err().to_string();
    let message_of_start = message(request(1.5, SamplerId::Euler, usual));
    assert!(message_of_start.contains("from 0"), "{message_of_start}");
    let absurd = PictureHints {
        aesthetic_score: Some(11.0),
        ..usual
    };
    let message_of_score = message(request(0.5, SamplerId::Euler, absurd));
    assert!(
        message_of_score.contains("from 0 to 10"),
        "{message_of_score}"
    );
    // Latents of another kind are not gone on with.
    let other = sd1_file(folder.path(), |_| {});
    let mut other = loaded(&ModelFiles::open(&other).unwrap());
    let refiner = loaded(&ModelFiles::open(&file).unwrap());
    let message = other.set_refiner(Some(refiner)).unwrap_err().to_string();
    assert!(message.contains("latents are not those of"), "{message}");
}

/// Of the pair that embeddings for SDXL are, the second is for its encoder.
#[test]
fn a_refiner_reads_the_embeddings_that_a_prompt_names() {
    let reference = Reference::read(&data("xl/add_ons.safetensors"));
    let folder = tempfile::tempdir().unwrap();
    let [mut model, refiner] = ["sdxl", "refiner"].map(|name| {
        let own = folder.path().join(name);
        std::fs::create_dir(&own).unwrap();
        let (case, _) = Case::read(name);
        loaded(&ModelFiles::open(&case.write(&own)).unwrap())
    });
    model.set_refiner(Some(refiner)).unwrap();
    let pair = [data("xl/pair.safetensors")];
    model.set_embeddings(&[], &pair).unwrap();
    let _no_grad = tch::no_grad_guard();
    let refiner = model.refiner.as_mut().unwrap();
    both_ways(|| {
        let prompt = refiner
            .encode("a horse, pair of them", Emphasis::default(), 1)
            .unwrap();
        let states = reference.get("refiner_pair");
        compare("states", &prompt.states, states, NETWORK);
        let pooled = prompt.pooled.unwrap();
        let expected = reference.get("refiner_pair_pooled");
        compare("pooled", &pooled, expected, NETWORK);
    });
}

/// The whole program, from files to the picture, and from the picture to the same again.
#[test]
fn the_command_line_hands_over_to_a_refiner_and_its_picture_names_it() {
    let (case, _) = Case::read("sdxl");
    let (refiner_case, reference) = Case::read("refiner");
    let home = tempfile::tempdir().unwrap();
    std::fs::create_dir(home.path().join("refiner")).unwrap();
    let base = case.write(home.path());
    let refiner = refiner_case.write(&home.path().join("refiner"));
    let run = |words: &[&str]| -> Tensor {
        let mut command = Command::new(env!("CARGO_BIN_EXE_easel"));
        command.arg("generate").args(words);
        command.args(["--device=cpu", "--save-latents=latents.safetensors"]);
        for folder in ["HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_CACHE_HOME"] {
            command.env(folder, home.path());
        }
        let done = command.current_dir(home.path()).output().unwrap();
        let errors = String::from_utf8_lossy(&done.stderr);
        assert!(done.status.success(), "{errors}");
        let all = Tensor::read_safetensors(home.path().join("latents.safetensors")).unwrap();
        all.into_iter().next().unwrap().1
    };
    let words = [
        case.prompt.clone(),
        format!("--negative={}", case.negative_prompt),
        format!("--model={}", base.display()),
        format!("--refiner={}", refiner.display()),
        format!("--refiner-start={}", case.switch),
        format!("--steps={}", case.steps),
        format!("--guidance={}", case.guidance),
        format!("--seed={}", case.seed),
        format!("--width={}", case.width),
        format!("--height={}", case.height),
        "--sampler=euler".to_owned(),
        "--output=refined.png".to_owned(),
    ];
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let expected = reference.get("euler_refined");
    let fast = run(&words);
    compare("refined", &fast, expected, DRAWING);
    let again = run(&["--settings-from=refined.png", "--output=again.png"]);
    compare("again", &again, expected, DRAWING);
    let exact = run(&[
        "--settings-from=refined.png",
        "--exact",
        "--output=exact.png",
    ]);
    let _exactly = Exactly::when(true);
    compare("refined", &exact, expected, DRAWING);
    assert!(!exact.equal(&fast));
}

/// The tiny checkpoint of Stable Diffusion 1 of `tests/reference/checkpoints.py`, its tensors changed.
fn sd1_file(folder: &Path, change: impl Fn(&mut Vec<(String, Tensor)>)) -> PathBuf {
    let text = std::fs::read(data("checkpoints/sd1.json")).unwrap();
    let like: Value = serde_json::from_slice(&text).unwrap();
    let stored = serde_json::from_value(like["stored"].clone()).unwrap();
    let mut tensors = generated::tensors(&stored);
    change(&mut tensors);
    let file = folder.join("sd1.safetensors");
    Tensor::write_safetensors(&tensors, &file).unwrap();
    file
}

/// A decoder whose activations leave f16's range, and stay in f32's.
#[test]
fn a_vae_that_overflows_in_half_precision_goes_on_in_f32() {
    let folder = tempfile::tempdir().unwrap();
    let file = sd1_file(folder.path(), |tensors| {
        let input = "first_stage_model.decoder.conv_in.weight";
        let found = tensors.iter_mut().find(|(name, _)| name == input);
        let weight = &mut found.unwrap().1;
        *weight = &*weight * 30_000.0;
    });
    let files = ModelFiles::open(&file).unwrap();
    let load = |kind| StableDiffusion::load(&files, false, Device::Cpu, kind, &mut |_| ());
    let (half, full) = (load(Kind::Half).unwrap(), load(Kind::Float).unwrap());
    let latents = generated::value(5, "", &[1, 4, 6, 8]).to_kind(Kind::Float) * 10.0;
    let _no_grad = tch::no_grad_guard();
    assert_eq!(half.decoder.note_of_overflow(), None);
    for _ in 0..2 {
        let expected = full.decode(&latents).unwrap();
        compare(
            "decoded",
            &half.decode(&latents).unwrap(),
            &expected,
            NETWORK,
        );
        assert!(half.decoder.note_of_overflow().unwrap().contains("f32"));
    }
    assert_eq!(full.decoder.note_of_overflow(), None);
}

/// diffusers decodes with SDXL's VAE in f32 where its config says so.
#[test]
fn sdxls_vae_never_computes_in_f16() {
    let (case, reference) = Case::read("sdxl");
    let folder = tempfile::tempdir().unwrap();
    let files = ModelFiles::open(&case.write(folder.path())).unwrap();
    let model = StableDiffusion::load(&files, false, Device::Cpu, Kind::Half, &mut |_| ());
    let model = model.unwrap();
    both_ways(|| {
        let image = tch::no_grad(|| model.decode(reference.get("latents"))).unwrap();
        let sparse = image.slice(2, None, None, 4).slice(3, None, None, 4);
        compare("image", &sparse, reference.get("image"), DRAWING);
    });
}

/// A UNet that takes the guidance scale draws without a negative prompt.
#[test]
fn lcm_is_told_the_guidance_scale() {
    let reference = Reference::read(&data("xl/lcm.safetensors"));
    let embedded = embed_guidance_scale(8.5, 256, Device::Cpu).unwrap();
    compare("w", &embedded, reference.get("w"), NETWORK);
    let text = std::fs::read(data("checkpoints/sd1.json")).unwrap();
    let like: Value = serde_json::from_slice(&text).unwrap();
    let stored = serde_json::from_value(like["stored"].clone()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("sd1.safetensors");
    Tensor::write_safetensors(&generated::tensors(&stored), &file).unwrap();
    let files = ModelFiles::open(&file).unwrap();
    let clip = json!({
        "hidden_size": 128, "intermediate_size": 96, "num_hidden_layers": 12, "num_attention_heads": 2,
    });
    let blocks = |kind: &str| json!([format!("{kind}Block2D"), format!("{kind}Block2D")]);
    let case = Case {
        prompt: like["prompt"].as_str().unwrap().to_owned(),
        negative_prompt: "of no effect".to_owned(),
        seed: like["seed"].as_u64().unwrap(),
        steps: 4,
        guidance: 8.5,
        width: 64,
        height: 64,
        switch: 1.0,
        configs: BTreeMap::from([
            (
                "unet".to_owned(),
                json!({
                    "sample_size": 64, "layers_per_block": 1, "cross_attention_dim": 128,
                    "block_out_channels": [32, 64], "attention_head_dim": 8, "time_cond_proj_dim": 256,
                    "down_block_types": ["CrossAttnDownBlock2D", "DownBlock2D"],
                    "up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D"],
                }),
            ),
            (
                "vae".to_owned(),
                json!({
                    "block_out_channels": [32, 64],
                    "down_block_types": blocks("DownEncoder"), "up_block_types": blocks("UpDecoder"),
                }),
            ),
            ("text_encoder".to_owned(), clip),
        ]),
        scheduler: json!({
            "_class_name": "LCMScheduler", "beta_start": 0.00085, "beta_end": 0.012,
            "beta_schedule": "scaled_linear", "original_inference_steps": 50, "clip_sample": false,
            "set_alpha_to_one": true, "steps_offset": 1,
        }),
        stored,
        parts: BTreeMap::new(),
    };
    let own = folder.path().join("lcm");
    let index = json!({"_class_name": "LatentConsistencyModelPipeline"});
    write_folder(&files, &case, &index, &own);
    let unet = own.join("unet/diffusion_pytorch_model.safetensors");
    let mut tensors = Tensor::read_safetensors(&unet).unwrap();
    let name = "time_embedding.cond_proj.weight";
    tensors.push((name.to_owned(), generated::value(1000, "", &[32, 256])));
    Tensor::write_safetensors(&tensors, &unet).unwrap();
    check_lcm(&ModelFiles::open(&own).unwrap(), &case, &reference);
    // The UNet with the rest of another model.
    let whole = sd1_file(folder.path(), |_| {});
    let files = ModelFiles::open(&whole).unwrap();
    check_lcm(
        &files.with_unet(&own.join("unet")).unwrap(),
        &case,
        &reference,
    );
    // The other way round it is no such model any more.
    let plain = ModelFiles::open(&own).unwrap().with_unet(&whole).unwrap();
    assert_eq!(plain.scheduler.set_alpha_to_one, Some(false));
    let defaults = plain.card(false).unwrap().defaults;
    assert_eq!((defaults.steps, defaults.guidance_scale), (25, 7.0));
    assert_eq!(defaults.sampler, SamplerId::Pndm);
    // A single file, as latent-diffusion would name the layer and as diffusers' script leaves it.
    for name in ["time_embed", "time_embedding"] {
        let name = format!("model.diffusion_model.{name}.cond_proj.weight");
        let file = sd1_file(folder.path(), |tensors| {
            let tensor = generated::value(1000, "", &[32, 256]);
            tensors.push((name.clone(), tensor));
        });
        check_lcm(&ModelFiles::open(&file).unwrap(), &case, &reference);
    }
}

fn check_lcm(files: &ModelFiles, case: &Case, reference: &Reference) {
    for part in files.inspect(false).unwrap().components {
        assert_eq!((part.problem, part.unused), (None, vec![]), "{}", part.name);
    }
    let mut model = loaded(files);
    let defaults = &model.card.defaults;
    assert_eq!((defaults.steps, defaults.guidance_scale), (4, 8.5));
    assert_eq!(defaults.sampler, SamplerId::Lcm);
    for (guidance, expected) in [(8.5, "latents"), (2.0, "latents_gently")] {
        let request = GenerationRequest {
            guidance_scale: Some(guidance),
            ..case.request()
        };
        both_ways(|| {
            let got = latents(&mut model, &request);
            compare(expected, &got, reference.get(expected), DRAWING);
        });
    }
}

/// `v_pred` and `ztsnr` are how single files say that they were trained so.
#[test]
fn a_file_that_is_marked_for_pure_noise_draws_what_diffusers_draws_with_such_a_schedule() {
    let text = std::fs::read(data("checkpoints/sd1.json")).unwrap();
    let like: Value = serde_json::from_slice(&text).unwrap();
    let (case, _) = Case::read("sdxl");
    let folder = tempfile::tempdir().unwrap();
    let file = sd1_file(folder.path(), |tensors| {
        let mark = || Tensor::zeros([0], (Kind::Float, Device::Cpu));
        tensors.extend(["v_pred", "ztsnr"].map(|name| (name.to_owned(), mark())));
    });
    let files = ModelFiles::open(&file).unwrap();
    assert_eq!(files.inspect(false).unwrap().unknown, Vec::<String>::new());
    let mut model = loaded(&files);
    let request = GenerationRequest {
        prompt: like["prompt"].as_str().unwrap().to_owned(),
        width_px: Some(64),
        height_px: Some(64),
        sampler: Some(SamplerId::Ddim),
        guidance_rescale: Some(0.7),
        ..case.request()
    };
    let reference = Reference::read(&data("xl/zero_snr.safetensors"));
    let expected = reference.get("latents");
    both_ways(|| {
        let got = latents(&mut model, &request);
        compare("latents", &got, expected, DRAWING);
    });
    // A1111's choice for a sampler would not begin at pure noise.
    let automatic = GenerationRequest {
        schedule: Some(ScheduleId::Automatic),
        ..request
    };
    let got = latents(&mut model, &automatic);
    compare("automatic", &got, expected, DRAWING);
}

#[test]
fn schedules_suit_the_family_and_automatic_the_sampler() {
    let (case, _) = Case::read("sdxl");
    let folder = tempfile::tempdir().unwrap();
    let xl = loaded(&ModelFiles::open(&case.write(folder.path())).unwrap());
    let sd1 = loaded(&ModelFiles::open(&sd1_file(folder.path(), |_| {})).unwrap());
    let levels = |model: &StableDiffusion, sampler: SamplerId, schedule: ScheduleId| {
        let request = GenerationRequest {
            steps: Some(11),
            sampler: Some(sampler),
            schedule: Some(schedule),
            ..case.request()
        };
        let plan = GenerationPlan::resolve(&request, model, 1, PictureFormat::Png).unwrap();
        let levels = plan.schedule.levels.iter();
        let levels = levels.map(|level| level.sigma / level.alpha);
        levels.collect::<Vec<_>>()
    };
    // The second of each family's levels (Align Your Steps, 2404.14507, tables of A1111 1.10).
    for (model, second) in [(&sd1, 6.475), (&xl, 6.315)] {
        let levels = levels(model, SamplerId::Euler, ScheduleId::AlignYourSteps);
        assert!((levels[1] - second).abs() < 1e-3, "{levels:?}");
    }
    for info in easel::request::SAMPLERS {
        let own = info.id.automatic_schedule();
        let automatic = levels(&xl, info.id, ScheduleId::Automatic);
        assert_eq!(automatic, levels(&xl, info.id, own), "{}", info.name);
    }
}

/// Models that need a picture are opened, inspected and loaded; drawing says what they need.
#[test]
fn models_for_inpainting_and_editing_say_what_they_need() {
    let text = std::fs::read(data("checkpoints/sd1.json")).unwrap();
    let like: Value = serde_json::from_slice(&text).unwrap();
    for (channels, word) in [(9, "mask"), (8, "instruct-pix2pix")] {
        let mut stored: BTreeMap<String, Vec<i64>> =
            serde_json::from_value(like["stored"].clone()).unwrap();
        let input = "model.diffusion_model.input_blocks.0.0.weight";
        stored.get_mut(input).unwrap()[1] = channels;
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("model.safetensors");
        Tensor::write_safetensors(&generated::tensors(&stored), &file).unwrap();
        let files = ModelFiles::open(&file).unwrap();
        let inspection = files.inspect(false).unwrap();
        assert!(
            inspection
                .components
                .iter()
                .all(|part| part.problem.is_none())
        );
        assert!(inspection.needs.unwrap().contains(word));
        let model = StableDiffusion::load(&files, false, Device::Cpu, Kind::Float, &mut |_| ());
        let model = model.unwrap();
        assert!(model.notes[0].contains(word), "{:?}", model.notes);
        let request = GenerationRequest::default();
        let refused = GenerationPlan::resolve(&request, &model, 1, PictureFormat::Png);
        let message = refused.err().unwrap().to_string();
        assert!(
            message.contains(word) && message.contains("model.safetensors"),
            "{message}"
        );
    }
}
