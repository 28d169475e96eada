//! Single-file checkpoints against diffusers 0.42.1: the same tensors under the same names, the same
//! pictures.
//!
//! The checkpoints are made here, of tiny models in the layouts of Stable Diffusion 1 and 2; what
//! diffusers' own converters and pipeline make of them is in `tests/reference/data/checkpoints`
//! (`tests/reference/checkpoints.py`).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // Helpers fail as tests do.
#![allow(clippy::disallowed_methods)] // Scratch files need no atomic write; random tensors are wanted.

mod common;

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use common::{Reference, compare, data};
use easel::error::Result;
use easel::families::{ModelFiles, Part, StableDiffusion};
use easel::pipeline::{Drawn, GenerationPlan, Watcher, generate};
use easel::request::{GenerationRequest, PictureFormat, Pixels, SamplerId, Stage};
use serde::Deserialize;
use tch::{Device, Kind, Tensor};

/// Six steps with guidance, in f32, of networks whose weights are the same to the bit.
const LATENTS_TOLERANCE: f64 = 1e-4;

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
        let numbered = self.stored.iter().enumerate();
        numbered
            .map(|(index, (name, shape))| (name.clone(), value(index as u64, name, shape)))
            .collect()
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

fn value(index: u64, name: &str, shape: &[i64]) -> Tensor {
    /// libtorch has one generator for all tests.
    static GENERATOR: Mutex<()> = Mutex::new(());
    let noise = {
        let _alone = GENERATOR.lock();
        tch::manual_seed(index as i64);
        Tensor::randn(shape, (Kind::Float, Device::Cpu))
    };
    let spread = if shape.len() >= 2 {
        let fan_in: i64 = shape[1..].iter().product();
        noise / f64::from(1 << (bit_length(fan_in) / 2))
    } else if name.ends_with("weight") {
        noise * 0.25 + 1.0
    } else {
        noise * 0.25
    };
    spread.to_kind(Kind::Half)
}

fn bit_length(number: i64) -> u32 {
    i64::BITS - number.leading_zeros()
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

/// Of every tensor: the sum of its values, each times its place.
fn fingerprint(tensor: &Tensor) -> f64 {
    let flat = tensor.to_kind(Kind::Double).flatten(0, -1);
    let places = Tensor::arange_start(1, flat.numel() as i64 + 1, (Kind::Double, Device::Cpu));
    (flat * places).sum(Kind::Double).double_value(&[])
}

/// Each network has the tensors that diffusers' converters give it, no other, with the same values.
fn check_tensors(case: &Case, files: &ModelFiles) {
    for part in Part::ALL {
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
    let drawn = draw(&mut model, &case.request());
    compare(
        "latents",
        &drawn.latents,
        reference.get("latents"),
        LATENTS_TOLERANCE,
    );
    let image = model.decode(&drawn.latents).unwrap();
    compare("image", &image, reference.get("image"), LATENTS_TOLERANCE);
}

#[test]
fn a_checkpoint_of_stable_diffusion_1() {
    check("sd1", "Stable Diffusion 1");
}

#[test]
fn a_checkpoint_of_stable_diffusion_2() {
    check("sd2", "Stable Diffusion 2");
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
