//! `easel convert`: from every layout to every other and back, tensor by tensor; and models whose parts
//! lie in different files.
//!
//! The checkpoints are the tiny ones of `tests/parity_checkpoints.rs` and `tests/parity_xl.rs`, whose
//! tensors and pictures are compared with diffusers there.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods
)]

mod common;
#[path = "common/generated.rs"]
mod generated;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use common::data;
use easel::checkpoint::{Dtype, headers};
use easel::error::Error;
use easel::families::ModelFiles;
use easel::request::DtypeChoice;
use easel::worker::{Conversion, Converted, convert};
use serde_json::Value;
use tch::{Kind, Tensor};

const CASES: [&str; 5] = [
    "checkpoints/sd1",
    "checkpoints/sd2",
    "xl/sdxl",
    "xl/refiner",
    "xl/segmind",
];

/// The tensors of a checkpoint, by name, and its file in `folder`.
fn checkpoint(case: &str, folder: &Path) -> (BTreeMap<String, Tensor>, PathBuf) {
    let text = std::fs::read(data(case).with_extension("json")).unwrap();
    let described: Value = serde_json::from_slice(&text).unwrap();
    let stored = serde_json::from_value(described["stored"].clone()).unwrap();
    let tensors = generated::tensors(&stored);
    let path = folder.join("model.safetensors");
    Tensor::write_safetensors(&tensors, &path).unwrap();
    (tensors.into_iter().collect(), path)
}

fn conversion(from: &Path, to: &Path) -> Conversion {
    Conversion {
        from: from.to_path_buf(),
        unet: None,
        vae: None,
        to: to.to_path_buf(),
        dtype: DtypeChoice::Auto,
    }
}

fn converted(from: &Path, to: &Path) -> Converted {
    convert(&conversion(from, to), &mut |_| Ok(())).unwrap()
}

fn read(path: &Path) -> BTreeMap<String, Tensor> {
    let tensors = Tensor::read_safetensors(path).unwrap();
    tensors.into_iter().collect()
}

/// Every network of both has the same tensors, and the same configs as far as drawing goes.
fn assert_same_model(one: &ModelFiles, other: &ModelFiles) {
    assert_eq!(one.parts(), other.parts());
    assert_eq!(one.unet, other.unet);
    assert_eq!(one.vae, other.vae);
    assert_eq!(one.text_encoders, other.text_encoders);
    assert_eq!(one.zeros_for_empty_prompt, other.zeros_for_empty_prompt);
    assert_eq!(
        one.scheduler.prediction_type,
        other.scheduler.prediction_type
    );
    for part in one.parts() {
        let (one, other) = (one.tensors(part).unwrap(), other.tensors(part).unwrap());
        let names = |it: &easel::families::PartTensors| {
            let mut names: Vec<String> = it.headers().iter().map(|it| it.name.clone()).collect();
            names.sort();
            names
        };
        assert_eq!(names(&one), names(&other), "{}", part.name());
        for name in names(&one) {
            let (a, b) = (one.read(&name).unwrap(), other.read(&name).unwrap());
            assert!(
                a.size() == b.size() && a.equal(&b),
                "{} {name}",
                part.name()
            );
        }
    }
}

#[test]
fn every_family_goes_from_a_single_file_to_a_folder_and_back_unchanged() {
    for case in CASES {
        let folder = tempfile::tempdir().unwrap();
        let (stored, file) = checkpoint(case, folder.path());
        let diffusers = folder.path().join("folder");
        assert_eq!(converted(&file, &diffusers), Converted::Folder, "{case}");
        let (from_file, from_folder) = (
            ModelFiles::open(&file).unwrap(),
            ModelFiles::open(&diffusers).unwrap(),
        );
        assert_same_model(&from_file, &from_folder);
        for part in from_folder.inspect(false).unwrap().components {
            assert_eq!((part.problem, part.unused), (None, vec![]), "{case}");
        }
        // Tokens come out alike, also the ones that fill a prompt up.
        for part in from_file.text_encoders.keys() {
            let chunks = |files: &ModelFiles| {
                let tokenizer = files.tokenizer_of(*part).unwrap();
                tokenizer
                    .count(
                        "a photo of an (astronaut)",
                        easel::request::Emphasis::Original,
                        &mut |text| easel::prompt::embeddings::words_only(text),
                    )
                    .unwrap()
            };
            assert_eq!(chunks(&from_file), chunks(&from_folder));
        }

        let back = folder.path().join("back.safetensors");
        assert_eq!(
            converted(&diffusers, &back),
            Converted::SingleFile,
            "{case}"
        );
        assert_same_model(&from_file, &ModelFiles::open(&back).unwrap());
        let written = read(&back);
        for (name, tensor) in &written {
            assert!(tensor.equal(&stored[name]), "{case}: {name}");
        }
        // What is missing was of no use: notes of the training, a layer that nothing listens to.
        for name in stored.keys().filter(|name| !written.contains_key(*name)) {
            let of_no_use = [
                "model_ema.",
                "betas",
                "alphas_cumprod",
                "logit_scale",
                "position_ids",
            ];
            let unheard = name.contains(".resblocks.23.") || name.ends_with(".text_projection");
            assert!(
                unheard || of_no_use.iter().any(|part| name.contains(part)),
                "{case}: {name} is missing"
            );
        }
    }
}

#[test]
fn a_unet_that_takes_the_guidance_scale_stays_one() {
    let folder = tempfile::tempdir().unwrap();
    let (mut stored, _) = checkpoint("checkpoints/sd1", folder.path());
    let values = Tensor::arange(32 * 256, (Kind::Half, tch::Device::Cpu)).view([32, 256]);
    let name = "model.diffusion_model.time_embed.cond_proj.weight";
    stored.insert(name.to_owned(), values);
    let stored: Vec<_> = stored.into_iter().collect();
    let place = |name: &str| folder.path().join(name);
    Tensor::write_safetensors(&stored, place("lcm.safetensors")).unwrap();
    converted(&place("lcm.safetensors"), &place("folder"));
    converted(&place("folder"), &place("back.safetensors"));
    let open = |name: &str| ModelFiles::open(&place(name)).unwrap();
    let first = open("lcm.safetensors");
    for files in [&first, &open("folder"), &open("back.safetensors")] {
        assert_eq!(files.unet.time_cond_proj_dim, Some(256));
        let class = files.scheduler.class_name.as_deref();
        assert_eq!(class, Some("LCMScheduler"));
        assert_same_model(&first, files);
    }
}

#[test]
fn what_a_model_predicts_survives_a_single_file() {
    let folder = tempfile::tempdir().unwrap();
    let (_, file) = checkpoint("checkpoints/sd2", folder.path());
    std::fs::write(file.with_extension("yaml"), "parameterization: eps").unwrap();
    let other = folder.path().join("other.safetensors");
    converted(&file, &other);
    let predicts = |path: &Path| {
        let files = ModelFiles::open(path).unwrap();
        files.inspect(false).unwrap().prediction_type
    };
    assert_eq!(
        (predicts(&file), predicts(&other)),
        ("epsilon".into(), "epsilon".into())
    );
}

#[test]
fn numbers_are_written_as_asked() {
    let folder = tempfile::tempdir().unwrap();
    let (stored, file) = checkpoint("checkpoints/sd1", folder.path());
    for (name, dtype, expected) in [
        ("auto.safetensors", DtypeChoice::Auto, Dtype::F16),
        ("half.safetensors", DtypeChoice::F16, Dtype::F16),
        ("brain.safetensors", DtypeChoice::Bf16, Dtype::BF16),
        ("whole.safetensors", DtypeChoice::F32, Dtype::F32),
    ] {
        let to = folder.path().join(name);
        let asked = Conversion {
            dtype,
            ..conversion(&file, &to)
        };
        convert(&asked, &mut |_| Ok(())).unwrap();
        for header in headers(std::slice::from_ref(&to)).unwrap() {
            assert_eq!(header.dtype, expected.into(), "{name}: {}", header.name);
        }
        let key = "model.diffusion_model.out.2.weight";
        let wanted = stored[key].to_kind(match dtype {
            DtypeChoice::Bf16 => Kind::BFloat16,
            _ => Kind::Float,
        });
        assert!(
            read(&to)[key].to_kind(wanted.kind()).equal(&wanted),
            "{name}"
        );
    }
}

/// The header and the tensors of a GGUF file, in f16; as `ggml` the last dimension first.
fn write_gguf(path: &Path, tensors: &[(String, Tensor)]) {
    const F16: u32 = 1;
    let text = |text: &str| [&(text.len() as u64).to_le_bytes()[..], text.as_bytes()].concat();
    let mut bytes = [&b"GGUF"[..], &3u32.to_le_bytes()].concat();
    bytes.extend((tensors.len() as u64).to_le_bytes());
    bytes.extend(0u64.to_le_bytes());
    let mut data = Vec::new();
    for (name, tensor) in tensors {
        let shape = tensor.size();
        bytes.extend(text(name));
        bytes.extend((shape.len() as u32).to_le_bytes());
        shape
            .iter()
            .rev()
            .for_each(|side| bytes.extend(side.to_le_bytes()));
        bytes.extend(F16.to_le_bytes());
        bytes.extend((data.len() as u64).to_le_bytes());
        let flat = tensor
            .to_kind(Kind::Half)
            .contiguous()
            .view(-1)
            .view_dtype(Kind::Uint8);
        data.extend(Vec::<u8>::try_from(flat).unwrap());
        data.resize(data.len().next_multiple_of(32), 0);
    }
    bytes.resize(bytes.len().next_multiple_of(32), 0);
    bytes.extend(data);
    std::fs::write(path, bytes).unwrap();
}

/// As stable-diffusion.cpp writes whole models: in latent-diffusion's names, or with both text encoders
/// in transformers' names, query, key and value still in one.
fn renamed(name: &str, case: &str) -> String {
    let name = match case {
        "xl/sdxl" => name
            .replace(
                "conditioner.embedders.0.transformer.",
                "cond_stage_model.transformer.",
            )
            .replace(
                "conditioner.embedders.1.model.",
                "cond_stage_model.1.transformer.text_model.",
            ),
        _ => name.replace(
            "cond_stage_model.model.",
            "cond_stage_model.transformer.text_model.",
        ),
    };
    if !name.starts_with("cond_stage_model.") || !name.contains("text_model.") {
        return name;
    }
    let mut name = name.replace("transformer.resblocks.", "encoder.layers.");
    for (open_clip, clip) in [
        (
            "text_model.positional_embedding",
            "text_model.embeddings.position_embedding.weight",
        ),
        (
            "text_model.token_embedding.",
            "text_model.embeddings.token_embedding.",
        ),
        (".ln_final.", ".final_layer_norm."),
        (".ln_1.", ".layer_norm1."),
        (".ln_2.", ".layer_norm2."),
        (".mlp.c_fc.", ".mlp.fc1."),
        (".mlp.c_proj.", ".mlp.fc2."),
        (".attn.in_proj_", ".self_attn.in_proj."),
        (".attn.out_proj.", ".self_attn.out_proj."),
    ] {
        name = name.replace(open_clip, clip);
    }
    name
}

#[test]
fn gguf_models_of_stable_diffusion_cpp_are_the_same_models() {
    for case in ["checkpoints/sd1", "xl/sdxl"] {
        let folder = tempfile::tempdir().unwrap();
        let (stored, file) = checkpoint(case, folder.path());
        let expected = ModelFiles::open(&file).unwrap();
        for rename in [false, true] {
            let tensors: Vec<_> = stored
                .iter()
                .filter(|(name, _)| !name.contains("model_ema.") && !name.ends_with("betas"))
                .map(|(name, tensor)| {
                    let name = if rename {
                        renamed(name, case)
                    } else {
                        name.clone()
                    };
                    (name, tensor.shallow_clone())
                })
                .collect();
            let gguf = folder.path().join(format!("{rename}.gguf"));
            write_gguf(&gguf, &tensors);
            assert_same_model(&expected, &ModelFiles::open(&gguf).unwrap());
        }
    }
}

/// ComfyUI-GGUF leaves out the prefix and everything but the UNet; others keep the prefix, or write
/// diffusers' names.
#[test]
fn a_unet_alone_says_what_it_lacks_and_draws_with_the_rest_of_another_model() {
    const PREFIX: &str = "model.diffusion_model.";
    let folder = tempfile::tempdir().unwrap();
    let (stored, file) = checkpoint("checkpoints/sd1", folder.path());
    let whole = ModelFiles::open(&file).unwrap();
    let of_unet = stored.iter().filter(|(name, _)| name.starts_with(PREFIX));
    let with_prefix: Vec<_> = of_unet
        .map(|(name, tensor)| (name.clone(), tensor.shallow_clone()))
        .collect();
    let bare: Vec<_> = with_prefix
        .iter()
        .map(|(name, tensor)| (name[PREFIX.len()..].to_owned(), tensor.shallow_clone()))
        .collect();
    let place = |name: &str| folder.path().join(name);
    write_gguf(&place("bare.gguf"), &bare);
    Tensor::write_safetensors(&with_prefix, place("prefix.safetensors")).unwrap();
    let diffusers = place("folder");
    converted(&file, &diffusers);
    // Another model to lend the rest: the same with another UNet.
    let base = place("base.safetensors");
    let mut other: Vec<_> = stored
        .iter()
        .map(|(name, tensor)| match name.starts_with(PREFIX) {
            true => (name.clone(), tensor.zeros_like()),
            false => (name.clone(), tensor.shallow_clone()),
        })
        .collect();
    other.sort_by(|(a, _), (b, _)| a.cmp(b));
    Tensor::write_safetensors(&other, &base).unwrap();
    for unet in [
        place("bare.gguf"),
        place("prefix.safetensors"),
        diffusers.join("unet"),
        diffusers.join("unet/diffusion_pytorch_model.safetensors"),
        diffusers.clone(),
    ] {
        if unet.is_file() {
            let message = ModelFiles::open(&unet).unwrap_err().to_string();
            for part in ["lacks the text encoder and the VAE", "--unet", "convert"] {
                assert!(message.contains(part), "{message}");
            }
        }
        let lent = ModelFiles::open(&base).unwrap().with_unet(&unet).unwrap();
        assert_same_model(&whole, &lent);
        for part in lent.inspect(false).unwrap().components {
            assert_eq!(
                (part.problem, part.unused),
                (None, vec![]),
                "{}",
                unet.display()
            );
        }
    }
    let made = place("made.safetensors");
    let asked = Conversion {
        unet: Some(place("bare.gguf")),
        ..conversion(&base, &made)
    };
    convert(&asked, &mut |_| Ok(())).unwrap();
    assert_same_model(&whole, &ModelFiles::open(&made).unwrap());
    // What it was trained on comes with it, and goes into what is written.
    let mut marked = with_prefix;
    let mark = || Tensor::zeros([1], (Kind::Float, tch::Device::Cpu));
    marked.extend(["v_pred", "ztsnr"].map(|name| (name.to_owned(), mark())));
    Tensor::write_safetensors(&marked, place("marked.safetensors")).unwrap();
    let written = place("written");
    let asked = Conversion {
        unet: Some(place("marked.safetensors")),
        ..conversion(&base, &written)
    };
    convert(&asked, &mut |_| Ok(())).unwrap();
    let base = ModelFiles::open(&base).unwrap();
    for model in [
        base.with_unet(&place("marked.safetensors")).unwrap(),
        ModelFiles::open(&written).unwrap(),
    ] {
        assert_eq!(model.scheduler.prediction_type.name(), "v_prediction");
        assert!(model.scheduler.rescale_betas_zero_snr);
    }
    let (_, xl) = checkpoint("xl/sdxl", &tempfile::tempdir().unwrap().keep());
    let misfit = ModelFiles::open(&xl)
        .unwrap()
        .with_unet(&place("bare.gguf"));
    let message = misfit.unwrap_err().to_string();
    assert!(
        message.contains("bare.gguf") && message.contains("with the rest of"),
        "{message}"
    );
    std::fs::remove_dir_all(xl.parent().unwrap()).unwrap();
}

#[test]
fn nothing_is_replaced_and_nothing_is_left_half_written() {
    let folder = tempfile::tempdir().unwrap();
    let (_, file) = checkpoint("checkpoints/sd1", folder.path());
    let names = || -> Vec<String> {
        let entries = std::fs::read_dir(folder.path()).unwrap();
        let mut names: Vec<String> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    };
    let error = convert(&conversion(&file, &file), &mut |_| Ok(())).unwrap_err();
    assert!(error.to_string().contains("it is there already"), "{error}");
    for to in ["new", "new.safetensors"] {
        let mut told = Vec::new();
        let stopped = convert(&conversion(&file, &folder.path().join(to)), &mut |share| {
            told.push(share);
            if share > 0.5 {
                Err(Error::Cancelled)
            } else {
                Ok(())
            }
        });
        assert!(matches!(stopped, Err(Error::Cancelled)), "{stopped:?}");
        assert!(told.is_sorted() && told.len() > 1, "{told:?}");
        assert_eq!(names(), ["model.safetensors"]);
    }
}

#[test]
fn a_model_that_a_single_file_cannot_tell_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let (_, file) = checkpoint("checkpoints/sd1", folder.path());
    let diffusers = folder.path().join("folder");
    converted(&file, &diffusers);
    let config = diffusers.join("unet/config.json");
    let mut unusual: Value = serde_json::from_slice(&std::fs::read(&config).unwrap()).unwrap();
    unusual["attention_head_dim"] = 4.into();
    std::fs::write(&config, unusual.to_string()).unwrap();
    let to = folder.path().join("back.safetensors");
    let error = convert(&conversion(&diffusers, &to), &mut |_| Ok(())).unwrap_err();
    let message = error.to_string();
    assert!(
        message.contains("settings of its UNet") && message.contains("write a folder"),
        "{message}"
    );
    assert!(!to.exists());
}

/// A VAE in a pickle becomes a file that runs nothing.
#[test]
fn other_files_keep_their_names_and_values() {
    let folder = tempfile::tempdir().unwrap();
    let (stored, _) = checkpoint("checkpoints/sd1", folder.path());
    let vae: Vec<_> = stored
        .iter()
        .filter(|(name, _)| name.starts_with("first_stage_model."))
        .map(|(name, tensor)| (name.clone(), tensor.shallow_clone()))
        .collect();
    let (from, to) = (
        folder.path().join("vae.gguf"),
        folder.path().join("vae.safetensors"),
    );
    write_gguf(&from, &vae);
    assert_eq!(converted(&from, &to), Converted::Tensors);
    let written = read(&to);
    assert_eq!(written.len(), vae.len());
    for (name, tensor) in vae {
        assert!(written[&name].equal(&tensor), "{name}");
    }
    let unknown = convert(
        &conversion(
            &data("checkpoints/torch_plain.bin"),
            &folder.path().join("x.safetensors"),
        ),
        &mut |_| Ok(()),
    );
    assert!(unknown.unwrap_err().to_string().contains("holds no UNet"));
}

/// The published checkpoints' names: what is written is read back as the same tensors.
#[test]
fn the_names_of_full_size_models_come_back() {
    for case in ["full_sd1", "full_sd2"] {
        let text = std::fs::read(data("checkpoints").join(case).with_extension("json")).unwrap();
        let described: Value = serde_json::from_slice(&text).unwrap();
        let stored: BTreeMap<String, Vec<u64>> =
            serde_json::from_value(described["stored"].clone()).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("full.safetensors");
        write_hole(&file, &stored);
        let files = ModelFiles::open(&file).unwrap();
        let mut written = BTreeMap::new();
        for (tensors, assembled) in files.single_file(&folder.path().join("new")).unwrap() {
            assert!(!tensors.headers().is_empty());
            written.extend(assembled.into_iter().map(|it| (it.name, it.shape)));
        }
        let networks = [
            "model.diffusion_model.",
            "first_stage_model.",
            "cond_stage_model.",
        ];
        for (name, shape) in &stored {
            let used = networks.iter().any(|prefix| name.starts_with(prefix))
                && !name.contains(".resblocks.23.")
                && !name.ends_with("text_projection")
                && !name.ends_with("logit_scale");
            let shape: Vec<i64> = shape.iter().map(|side| *side as i64).collect();
            assert_eq!(written.get(name), used.then_some(&shape), "{case}: {name}");
        }
    }
}

/// A safetensors file whose values are a hole of f16.
fn write_hole(path: &Path, stored: &BTreeMap<String, Vec<u64>>) {
    let mut end = 0;
    let mut header = serde_json::Map::new();
    for (name, shape) in stored {
        let begin = end;
        end += 2 * shape.iter().product::<u64>();
        let tensor =
            serde_json::json!({"dtype": "F16", "shape": shape, "data_offsets": [begin, end]});
        header.insert(name.clone(), tensor);
    }
    let header = Value::from(header).to_string();
    let bytes = [&(header.len() as u64).to_le_bytes()[..], header.as_bytes()].concat();
    std::fs::write(path, &bytes).unwrap();
    let file = std::fs::OpenOptions::new().write(true).open(path).unwrap();
    file.set_len(bytes.len() as u64 + end).unwrap();
}

/// Files are links to blobs there, and `refs/main` names the snapshot.
#[cfg(unix)]
#[test]
fn a_repository_of_the_hugging_face_cache_is_a_model() {
    let cache = tempfile::tempdir().unwrap();
    let starter = Path::new(env!("CARGO_MANIFEST_DIR")).join("weights/starter");
    let repository = cache.path().join("models--some-org--tiny");
    let snapshot = repository.join("snapshots/0123abc");
    for folder in ["blobs", "refs", "snapshots/older"] {
        std::fs::create_dir_all(repository.join(folder)).unwrap();
    }
    std::fs::write(repository.join("refs/main"), "0123abc").unwrap();
    for part in ["", "unet", "vae", "text_encoder", "tokenizer", "scheduler"] {
        std::fs::create_dir_all(snapshot.join(part)).unwrap();
        for entry in std::fs::read_dir(starter.join(part)).unwrap().flatten() {
            let (from, name) = (entry.path(), entry.file_name());
            if from.is_file() && name != "easel.json" {
                let blob = repository.join(format!("blobs/{part}-{}", name.display()));
                std::fs::copy(&from, &blob).unwrap();
                std::os::unix::fs::symlink(&blob, snapshot.join(part).join(name)).unwrap();
            }
        }
    }
    let files = ModelFiles::open(&repository).unwrap();
    assert_eq!(files.card(false).unwrap().name, "some-org/tiny");
    assert_same_model(&ModelFiles::open(&starter).unwrap(), &files);
}
