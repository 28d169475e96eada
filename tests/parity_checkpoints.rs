//! Single-file checkpoints against diffusers 0.42.1: the same tensors under the same names, the same
//! pictures.
//!
//! The checkpoints are made here, of tiny models in the layouts of Stable Diffusion 1 and 2; what
//! diffusers' own converters and pipeline make of them is in `tests/reference/data/checkpoints`
//! (`tests/reference/checkpoints.py`).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // Helpers fail as tests do.
#![allow(clippy::disallowed_methods)] // Scratch files need no atomic write; random tensors are wanted.

mod common;
#[path = "common/generated.rs"]
mod generated;

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};

use common::{DRAWING, Reference, both_ways, compare, data};
use easel::error::Result;
use easel::families::{ModelFiles, Part, StableDiffusion};
use easel::models::unet::BlockSpec;
use easel::pipeline::{Drawn, GenerationPlan, Watcher, generate};
use easel::request::{GenerationRequest, PictureFormat, Pixels, SamplerId, Stage};
use generated::fingerprint;
use safetensors::Dtype;
use safetensors::tensor::TensorView;
use serde::Deserialize;
use tch::{Device, Kind, Tensor};

#[derive(Deserialize)]
struct Case {
    prompt: String,
    negative_prompt: String,
    seed: u64,
    steps: u32,
    guidance: f64,
    size: u32,
    prediction: String,
    stored: BTreeMap<String, Vec<i64>>,
    /// By part and diffusers' name: shape and fingerprint.
    parts: BTreeMap<String, BTreeMap<String, (Vec<i64>, f64)>>,
}

impl Case {
    fn read(name: &str) -> (Self, Reference) {
        let folder = data("checkpoints");
        let text = std::fs::read(folder.join(name).with_extension("json")).unwrap();
        let reference = Reference::read(&folder.join(name).with_extension("safetensors"));
        (serde_json::from_slice(&text).unwrap(), reference)
    }

    /// The tensors of the checkpoint, as `value` of the script makes them.
    fn tensors(&self) -> Vec<(String, Tensor)> {
        generated::tensors(&self.stored)
    }

    fn request(&self) -> GenerationRequest {
        GenerationRequest {
            prompt: self.prompt.clone(),
            negative_prompt: self.negative_prompt.clone(),
            seed: Some(self.seed),
            steps: Some(self.steps),
            guidance_scale: Some(self.guidance),
            width_px: Some(self.size),
            height_px: Some(self.size),
            sampler: Some(SamplerId::Ddim),
            ..GenerationRequest::default()
        }
    }
}

/// The checkpoint as a file in a folder that goes away.
fn written(case: &Case) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("A person's model.safetensors");
    Tensor::write_safetensors(&case.tensors(), &path).unwrap();
    (folder, path)
}

fn loaded(path: &Path) -> StableDiffusion {
    let files = ModelFiles::open(path).unwrap();
    let model = StableDiffusion::load(&files, false, Device::Cpu, Kind::Float, &mut |_| ());
    let model = model.unwrap();
    assert_eq!(model.notes, Vec::<String>::new());
    model
}

/// Keeps the last latents.
#[derive(Default)]
struct Keeper(Option<Drawn>);

impl Watcher for Keeper {
    fn cancelled(&self) -> bool {
        false
    }
    fn closing(&self) -> bool {
        false
    }
    fn wants_previews(&self) -> bool {
        false
    }
    fn stage(&mut self, _batch: Range<usize>, _stage: Stage) {}
    fn step(&mut self, _batch: Range<usize>, _step: usize) {}
    fn preview(&mut self, _batch: Range<usize>, _step: usize, _pictures: Vec<Pixels>) {}
    fn drawn(&mut self, drawn: Drawn) -> Result<()> {
        self.0 = Some(drawn);
        Ok(())
    }
}

fn draw(model: &mut StableDiffusion, request: &GenerationRequest) -> Drawn {
    let plan = GenerationPlan::resolve(request, model, 1, PictureFormat::Png).unwrap();
    let mut keeper = Keeper::default();
    generate(model, &plan, None, &mut keeper).unwrap();
    keeper.0.unwrap()
}

/// Each network has the tensors that diffusers' converters give it, no other, with the same values.
fn check_tensors(case: &Case, files: &ModelFiles) {
    for part in [Part::Unet, Part::Vae, Part::TextEncoder] {
        let expected = &case.parts[part.name()];
        let weights = files.load(part, Device::Cpu, Kind::Float, &mut |_| ());
        let weights = weights.unwrap();
        let root = weights.root();
        for (name, (shape, sum)) in expected {
            // Stored as a convolution, of use as a linear map; transformers dropped its prefix.
            let name = match part {
                Part::TextEncoder => format!("text_model.{name}"),
                _ => name.clone(),
            };
            let stored = root
                .shape(&name)
                .unwrap_or_else(|| panic!("{name} is missing"));
            let without_ones = stored.strip_suffix(&[1, 1]).unwrap_or(&stored);
            assert!(
                stored == *shape || without_ones == shape,
                "{name}: {stored:?}"
            );
            let got = fingerprint(&root.tensor(&name, &stored).unwrap());
            assert!(
                (got - sum).abs() <= 1e-9 * sum.abs().max(1.0),
                "{name}: {got}, not {sum}"
            );
        }
        assert_eq!(weights.unused(), Vec::<String>::new(), "{part:?}");
    }
}

fn check(name: &str, family: &str) {
    let (case, reference) = Case::read(name);
    let (_folder, path) = written(&case);
    let files = ModelFiles::open(&path).unwrap();
    check_tensors(&case, &files);
    let inspection = files.inspect(false).unwrap();
    assert_eq!(inspection.card.name, "A person's model");
    assert_eq!(inspection.card.family, family);
    assert_eq!(inspection.prediction_type, case.prediction);
    assert_eq!(inspection.unknown, Vec::<String>::new());
    for part in &inspection.components {
        assert_eq!(part.problem, None);
        assert_eq!(part.unused, Vec::<String>::new());
        assert_eq!(part.dtypes, ["F16"]);
    }
    let mut model = loaded(&path);
    both_ways(|| {
        let latents = draw(&mut model, &case.request()).latents;
        let expected = reference.get("latents");
        compare("latents", &latents, expected, DRAWING);
        let image = model.decode(&latents).unwrap();
        compare("image", &image, reference.get("image"), DRAWING);
    });
}

/// What the file holds in each format is what is computed with, to the last bit.
#[test]
fn a_checkpoint_is_read_in_every_format_of_numbers() {
    let (case, _) = Case::read("sd1");
    let (folder, path) = written(&case);
    let unet = |path: &Path| {
        let files = ModelFiles::open(path).unwrap();
        let headers = files.inspect(false).unwrap().components.remove(0);
        assert_eq!((headers.problem, headers.unused), (None, vec![]));
        let weights = files.load(Part::Unet, Device::Cpu, Kind::Float, &mut |_| ());
        (weights.unwrap(), headers.dtypes)
    };
    let (original, _) = unet(&path);
    for (kind, dtype) in [
        (Kind::Float, Dtype::F32),
        (Kind::BFloat16, Dtype::BF16),
        (Kind::Float8e4m3fn, Dtype::F8_E4M3),
        (Kind::Float8e5m2, Dtype::F8_E5M2),
    ] {
        let stored: Vec<(String, Vec<usize>, Vec<u8>)> = case
            .tensors()
            .into_iter()
            .map(|(name, tensor)| {
                let shape = tensor.size().iter().map(|side| *side as usize).collect();
                let flat = tensor.to_kind(kind).flatten(0, -1);
                let bytes = Vec::try_from(flat.view_dtype(Kind::Uint8)).unwrap();
                (name, shape, bytes)
            })
            .collect();
        let views = stored.iter().map(|(name, shape, bytes)| {
            let view = TensorView::new(dtype, shape.clone(), bytes).unwrap();
            (name.as_str(), view)
        });
        let file = folder.path().join("other.safetensors");
        safetensors::serialize_to_file(views, None, &file).unwrap();
        let (weights, dtypes) = unet(&file);
        assert_eq!(dtypes.len(), 1, "{dtypes:?}");
        let names = weights.unused();
        assert!(names.len() > 100);
        for name in names {
            let shape = original.root().shape(&name).unwrap();
            let exact = original.root().tensor(&name, &shape).unwrap();
            let expected = exact.to_kind(kind).to_kind(Kind::Float);
            let got = weights.root().tensor(&name, &shape).unwrap();
            assert!(got.equal(&expected), "{kind:?}: {name}");
        }
    }
}

#[test]
fn a_checkpoint_of_stable_diffusion_1() {
    check("sd1", "Stable Diffusion 1");
}

#[test]
fn a_checkpoint_of_stable_diffusion_2() {
    check("sd2", "Stable Diffusion 2");
}

/// The same checkpoint as torch writes it.
#[test]
fn a_ckpt_draws_the_same_picture() {
    let (case, reference) = Case::read("sd1");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.ckpt");
    std::fs::write(&path, torch_zip(&case.tensors())).unwrap();
    let files = ModelFiles::open(&path).unwrap();
    assert_eq!(files.card(false).unwrap().family, "Stable Diffusion 1");
    check_tensors(&case, &files);
    let mut model = loaded(&path);
    both_ways(|| {
        let latents = draw(&mut model, &case.request()).latents;
        let expected = reference.get("latents");
        compare("latents", &latents, expected, DRAWING);
    });
}

/// What `torch.save` writes of tensors in f16 (without checksums, which nobody reads here).
fn torch_zip(tensors: &[(String, Tensor)]) -> Vec<u8> {
    let text = |text: &str| {
        [
            b"X",
            &(text.len() as u32).to_le_bytes()[..],
            text.as_bytes(),
        ]
        .concat()
    };
    let int = |number: i64| [b"J", &(number as i32).to_le_bytes()[..]].concat();
    let ints = |numbers: &[i64]| {
        let items: Vec<u8> = numbers.iter().flat_map(|number| int(*number)).collect();
        [b"(", &items[..], b"t"].concat()
    };
    let mut pickle = b"\x80\x02}".to_vec();
    pickle.extend([text("state_dict"), b"}(".to_vec()].concat());
    let mut parts = Vec::new();
    for (index, (name, tensor)) in tensors.iter().enumerate() {
        let elements = tensor.numel();
        pickle.extend(text(name));
        pickle.extend(b"ctorch._utils\n_rebuild_tensor_v2\n((");
        pickle.extend([text("storage"), b"ctorch\nHalfStorage\n".to_vec()].concat());
        pickle.extend([text(&index.to_string()), text("cpu"), int(elements as i64)].concat());
        pickle.extend(
            [
                b"tQ".to_vec(),
                int(0),
                ints(&tensor.size()),
                ints(&tensor.stride()),
            ]
            .concat(),
        );
        pickle.extend(b"\x89ccollections\nOrderedDict\n)RtR");
        let mut bytes = vec![0; 2 * elements];
        tensor.copy_data_u8(&mut bytes, elements);
        parts.push((format!("archive/data/{index}"), bytes));
    }
    pickle.extend(b"us.");
    parts.push(("archive/data.pkl".to_owned(), pickle));
    let (mut zip, mut directory) = (Vec::new(), Vec::new());
    for (name, bytes) in &parts {
        let begin = zip.len() as u32;
        let size = (bytes.len() as u32).to_le_bytes();
        // From "version needed" on, the same in both headers.
        let common = [
            &[0, 0, 8, 8][..],
            &[0; 10],
            &size,
            &size,
            &(name.len() as u16).to_le_bytes(),
        ]
        .concat();
        zip.extend([&b"PK\x03\x04"[..], &common, &[0; 2], name.as_bytes(), bytes].concat());
        let place = begin.to_le_bytes();
        let entry = [
            &b"PK\x01\x02\0\0"[..],
            &common,
            &[0; 12],
            &place,
            name.as_bytes(),
        ];
        directory.extend(entry.concat());
    }
    let (begin, size) = (zip.len() as u32, directory.len() as u32);
    zip.extend(directory);
    zip.extend(
        [
            &b"PK\x05\x06"[..],
            &[0; 8],
            &size.to_le_bytes(),
            &begin.to_le_bytes(),
            &[0; 2],
        ]
        .concat(),
    );
    zip
}

#[test]
fn clip_skip_and_guidance_rescale_draw_what_diffusers_draws() {
    for name in ["sd1", "sd2"] {
        let (case, reference) = Case::read(name);
        let (_folder, path) = written(&case);
        let mut model = loaded(&path);
        let mut check = |request: &GenerationRequest, expected: &str| {
            both_ways(|| {
                let latents = draw(&mut model, request).latents;
                let expected = reference.get(expected);
                compare(name, &latents, expected, DRAWING);
            });
        };
        let skipped = GenerationRequest {
            clip_skip: Some(2),
            ..case.request()
        };
        check(&skipped, "latents_clip_skip_2");
        // The embeddings of before are not taken for these.
        check(&case.request(), "latents");
        let rescaled = GenerationRequest {
            guidance_rescale: Some(0.7),
            ..case.request()
        };
        check(&rescaled, "latents_guidance_rescale");
        let too_deep = GenerationRequest {
            clip_skip: Some(99),
            ..case.request()
        };
        let refused = GenerationPlan::resolve(&too_deep, &model, 1, PictureFormat::Png);
        let message = refused.err().unwrap().to_string();
        assert!(message.contains("Clip skip must be from 1 to"), "{message}");
    }
}

/// The VAE of one model in another, from a checkpoint, from files of both kinds of names and from a
/// folder: each decodes as diffusers does in the model it came from.
#[test]
fn a_vae_of_its_own_stands_in_for_the_models() {
    let (case, _) = Case::read("sd1");
    let (_model_folder, path) = written(&case);
    let (other, reference) = Case::read("sd2");
    let (folder, checkpoint) = written(&other);
    let prefix = "first_stage_model.";
    let tensors = other.tensors().into_iter();
    let own = tensors.filter_map(|(name, tensor)| {
        let name = name.strip_prefix(prefix)?;
        Some((name.to_owned(), tensor))
    });
    let own: Vec<_> = own.collect();
    let ldm = folder.path().join("ldm.safetensors");
    Tensor::write_safetensors(&own, &ldm).unwrap();
    let weights = ModelFiles::open(&checkpoint).unwrap();
    let weights = weights.load(Part::Vae, Device::Cpu, Kind::Half, &mut |_| ());
    let (weights, names) = (weights.unwrap(), &other.parts["vae"]);
    let renamed: Vec<_> = names
        .iter()
        .map(|(name, (shape, _))| {
            let stored = weights.root().shape(name).unwrap();
            let tensor = weights.root().tensor(name, &stored).unwrap();
            (name.clone(), tensor.view(shape.as_slice()))
        })
        .collect();
    let diffusers = folder
        .path()
        .join("vae/diffusion_pytorch_model.safetensors");
    std::fs::create_dir(diffusers.parent().unwrap()).unwrap();
    Tensor::write_safetensors(&renamed, &diffusers).unwrap();
    let config = r#"{"_class_name": "AutoencoderKL", "block_out_channels": [32, 64],
        "down_block_types": ["DownEncoderBlock2D", "DownEncoderBlock2D"],
        "up_block_types": ["UpDecoderBlock2D", "UpDecoderBlock2D"]}"#;
    std::fs::write(folder.path().join("vae/config.json"), config).unwrap();
    for vae in [
        &checkpoint,
        &ldm,
        &diffusers,
        &folder.path().join("vae"),
        &folder.path().to_path_buf(),
    ] {
        let files = ModelFiles::open(&path).unwrap().with_vae(vae).unwrap();
        let problems = files.inspect(false).unwrap().components;
        assert!(
            problems.iter().all(|part| part.problem.is_none()),
            "{problems:?}"
        );
        let model = StableDiffusion::load(&files, false, Device::Cpu, Kind::Float, &mut |_| ());
        let model = model.unwrap();
        assert_eq!(model.notes, Vec::<String>::new());
        let name = vae.display().to_string();
        both_ways(|| {
            let image = model.decode(reference.get("latents")).unwrap();
            compare(&name, &image, reference.get("image"), DRAWING);
        });
    }
    let error = ModelFiles::open(&path)
        .unwrap()
        .with_vae(&folder.path().join("none"));
    assert!(error.err().unwrap().to_string().contains("no such file"));
}

/// The published checkpoints' names and shapes, by the configs of their folders in diffusers; the
/// weights are a hole in the file.
#[test]
fn checkpoints_of_full_size_come_to_the_published_configs() {
    for (name, heads, text, size) in [
        ("full_sd1", [8, 8, 8, 8], (768, 12, 12), 512),
        ("full_sd2", [5, 10, 20, 20], (1024, 23, 16), 768),
    ] {
        let json = std::fs::read(data("checkpoints").join(name).with_extension("json")).unwrap();
        let json: serde_json::Value = serde_json::from_slice(&json).unwrap();
        let stored: BTreeMap<String, Vec<u64>> =
            serde_json::from_value(json["stored"].clone()).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.safetensors");
        write_header(&stored, &path);
        let files = ModelFiles::open(&path).unwrap();
        let heads_of = |block: &BlockSpec| Some(block.transformers.first()?.heads);
        let down = files.unet.down_blocks.iter();
        let got: Vec<Option<i64>> = down.map(heads_of).collect();
        assert_eq!(got, [Some(heads[0]), Some(heads[1]), Some(heads[2]), None]);
        let up = files.unet.up_blocks.iter();
        let got: Vec<Option<i64>> = up.map(heads_of).collect();
        assert_eq!(got, [None, Some(heads[2]), Some(heads[1]), Some(heads[0])]);
        let encoder = &files.text_encoders[&Part::TextEncoder];
        let got = (
            encoder.hidden_size,
            encoder.num_hidden_layers,
            encoder.num_attention_heads,
        );
        assert_eq!(got, text);
        let inspection = files.inspect(false).unwrap();
        for part in &inspection.components {
            assert_eq!((&part.problem, part.unused.len()), (&None, 0), "{name}");
        }
        assert_eq!(inspection.unknown, Vec::<String>::new());
        let unet = &inspection.components[0];
        let published = [("full_sd1", 859_520_964), ("full_sd2", 865_910_724)];
        assert!(
            published.contains(&(name, unet.parameters)),
            "{}",
            unet.parameters
        );
        let defaults = &inspection.card.defaults;
        assert_eq!((defaults.width_px, defaults.height_px), (size, size));
    }
}

/// A safetensors file in f16 whose data nobody wrote.
fn write_header(stored: &BTreeMap<String, Vec<u64>>, path: &Path) {
    let mut end = 0;
    let mut header = serde_json::Map::new();
    for (name, shape) in stored {
        let begin = end;
        end += 2 * shape.iter().product::<u64>();
        let place =
            serde_json::json!({"dtype": "F16", "shape": shape, "data_offsets": [begin, end]});
        header.insert(name.clone(), place);
    }
    let header = serde_json::Value::from(header).to_string();
    let bytes = [&(header.len() as u64).to_le_bytes(), header.as_bytes()].concat();
    std::fs::write(path, &bytes).unwrap();
    let file = std::fs::OpenOptions::new().write(true).open(path).unwrap();
    file.set_len(bytes.len() as u64 + end).unwrap();
}

#[test]
fn a_config_beside_the_file_wins() {
    let (case, _) = Case::read("sd2");
    let (folder, path) = written(&case);
    let yaml = folder.path().join("A person's model.yaml");
    std::fs::write(&yaml, "model:\n  params:\n    scale_factor: 0.18215\n").unwrap();
    let inspection = ModelFiles::open(&path).unwrap().inspect(false).unwrap();
    assert_eq!(inspection.prediction_type, "epsilon");
}

#[test]
fn what_is_missing_and_what_is_unknown_is_named_without_loading() {
    let (case, _) = Case::read("sd1");
    let mut tensors = case.tensors();
    let missing = "model.diffusion_model.middle_block.0.in_layers.2.weight";
    tensors.retain(|(name, _)| name != missing);
    let strange = Tensor::zeros([2], (Kind::Half, Device::Cpu));
    tensors.push(("somebodys.extra".to_owned(), strange));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("broken.safetensors");
    Tensor::write_safetensors(&tensors, &path).unwrap();
    let files = ModelFiles::open(&path).unwrap();
    let inspection = files.inspect(false).unwrap();
    assert_eq!(inspection.unknown, ["somebodys.extra"]);
    let problem = inspection.components[0].problem.as_deref().unwrap();
    assert!(
        problem.contains("mid_block.resnets.0.conv1.weight"),
        "{problem}"
    );
    let error = StableDiffusion::load(&files, false, Device::Cpu, Kind::Float, &mut |_| ());
    let message = error.err().unwrap().to_string();
    for part in ["broken.safetensors", "mid_block.resnets.0.conv1.weight"] {
        assert!(message.contains(part), "{message}");
    }
}
