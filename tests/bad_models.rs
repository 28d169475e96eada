//! Broken, wrong and hostile model files: each is a clear error, none a panic, none takes long.
//!
//! Random bytes, cut and altered real files, headers that lie, configs with anything in any field.
#![allow(clippy::unwrap_used, clippy::expect_used)] // Helpers fail as tests do.
#![allow(clippy::disallowed_methods)] // Scratch files need no atomic write.

use std::path::{Path, PathBuf};

use easel::checkpoint::{Piece, headers, load, map_pieces};
use easel::error::Error;
use easel::models::esrgan::RealEsrganCompact;
use easel::models::layers::Weights;
use easel::models::unet::{UNet2DConditionModel, UNetConfig};
use easel::models::vae::{AutoencoderKL, VaeConfig};
use easel::text::clip::{CLIPTextModel, ClipConfig};
use proptest::prelude::*;
use serde_json::{Value, json};
use tch::{Device, Kind, Tensor};

/// A file of these bytes, read both ways. Both must agree on whether it is one.
fn read(bytes: &[u8]) -> Result<usize, Error> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("broken.safetensors");
    std::fs::write(&file, bytes).unwrap();
    let listed = headers(std::slice::from_ref(&file));
    let loaded = load(&[file], Device::Cpu, Kind::Float, &mut |_| {});
    match (&listed, &loaded) {
        (Ok(listed), Ok(loaded)) => {
            for header in listed {
                assert_eq!(header.shape, loaded.tensors[&header.name].size());
            }
        }
        // A stored type that is listed but not read.
        (Ok(_), Err(error)) => assert!(error.to_string().contains("does not read"), "{error}"),
        (Err(_), loaded) => assert!(loaded.is_err()),
    }
    loaded.map(|loaded| loaded.tensors.len())
}

/// The message, which must name the file.
fn refusal(bytes: &[u8]) -> String {
    let error = read(bytes).expect_err("a broken file was taken");
    assert!(matches!(error, Error::Model { .. }), "{error:?}");
    let message = error.to_string();
    assert!(message.contains("broken.safetensors"), "{message}");
    message
}

fn file(header: &str, data: &[u8]) -> Vec<u8> {
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.as_bytes());
    bytes.extend(data);
    bytes
}

fn tensor(dtype: &str, shape: Value, begin: u64, end: u64) -> Value {
    json!({"dtype": dtype, "shape": shape, "data_offsets": [begin, end]})
}

fn good() -> Vec<u8> {
    let header = json!({
        "__metadata__": {"format": "pt"},
        "a": tensor("F32", json!([2, 2]), 0, 16),
        "b": tensor("BF16", json!([3]), 16, 22),
        "c": tensor("I64", json!([]), 22, 30),
        "empty": tensor("F16", json!([0, 4]), 30, 30),
    });
    file(&header.to_string(), &[7; 30])
}

#[test]
fn a_good_file_is_read_whatever_its_alignment() {
    for padding in 0..8 {
        let header = json!({
            "a": tensor("U8", json!([1]), 0, 1),
            "b": tensor("F32", json!([2]), 1, 9),
            "c": tensor("F64", json!([1]), 9, 17),
            "d": tensor("BOOL", json!([1]), 17, 18),
        });
        let header = header.to_string() + &" ".repeat(padding);
        let mut data = vec![9];
        data.extend(1.5f32.to_le_bytes());
        data.extend((-2f32).to_le_bytes());
        data.extend(0.1f64.to_le_bytes());
        data.push(1);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.safetensors");
        std::fs::write(&path, file(&header, &data)).unwrap();
        let mut progress = Vec::new();
        let loaded = load(&[path], Device::Cpu, Kind::Float, &mut |part| {
            progress.push(part);
        });
        let tensors = loaded.unwrap().tensors;
        assert_eq!(Vec::<f32>::try_from(&tensors["b"]).unwrap(), [1.5, -2.0]);
        assert_eq!(Vec::<f32>::try_from(&tensors["c"]).unwrap(), [0.1]);
        assert_eq!(tensors["a"].kind(), Kind::Uint8);
        assert_eq!(tensors["d"].kind(), Kind::Bool);
        assert!(
            progress.is_sorted() && progress.last() == Some(&1.0),
            "{progress:?}"
        );
    }
    assert_eq!(read(&good()).unwrap(), 4);
}

#[test]
fn tensors_outlive_the_file_and_each_other() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.safetensors");
    let header =
        json!({"a": tensor("F32", json!([1]), 0, 4), "b": tensor("F32", json!([1]), 4, 8)});
    let data = [1.5f32.to_le_bytes(), 2.5f32.to_le_bytes()].concat();
    std::fs::write(&path, file(&header.to_string(), &data)).unwrap();
    let mut tensors = load(&[path], Device::Cpu, Kind::Float, &mut |_| {})
        .unwrap()
        .tensors;
    drop(folder);
    let kept = tensors.remove("b").unwrap();
    drop(tensors);
    assert_eq!(Vec::<f32>::try_from(&kept).unwrap(), [2.5]);
}

#[test]
fn aligned_tensors_of_the_right_type_are_views_of_the_mapped_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.safetensors");
    let header = json!({
        "a": tensor("F32", json!([3]), 0, 12),
        "b": tensor("F32", json!([5]), 12, 32),
        "c": tensor("F16", json!([2]), 32, 36),
    });
    let mut header = header.to_string();
    header += &" ".repeat((8 - header.len() % 8) % 8);
    std::fs::write(&path, file(&header, &[0; 36])).unwrap();
    let tensors = load(&[path], Device::Cpu, Kind::Float, &mut |_| {})
        .unwrap()
        .tensors;
    let place = |name: &str| tensors[name].data_ptr() as usize;
    assert_eq!(place("b") - place("a"), 12);
    assert_ne!(
        place("c").wrapping_sub(place("b")),
        20,
        "f16 was not converted"
    );
}

/// An own map of the whole file for each tensor takes a thousand times the file of address space.
#[test]
fn tensors_that_are_converted_later_share_a_map() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.safetensors");
    let header =
        json!({"a": tensor("F16", json!([8]), 0, 16), "b": tensor("F16", json!([8]), 16, 32)});
    let mut header = header.to_string();
    header += &" ".repeat((8 - header.len() % 8) % 8);
    std::fs::write(&path, file(&header, &[0; 32])).unwrap();
    let all = |name: &str| vec![Piece::whole(name)];
    let mapped = map_pieces(&[path], &all, Kind::Float, &mut |_| ()).unwrap();
    let place = |name: &str| mapped.tensors[name].data_ptr() as usize;
    assert_eq!(place("b").wrapping_sub(place("a")), 16);
}

#[test]
fn headers_that_lie_are_told_apart() {
    let one = |value: Value| file(&json!({"x.weight": value}).to_string(), &[0; 16]);
    let huge = u64::MAX / 2;
    let cases: Vec<(Vec<u8>, &str)> = vec![
        (vec![], "too short"),
        (vec![1, 2, 3], "too short"),
        (u64::MAX.to_le_bytes().to_vec(), "no file of tensors"),
        (file("{}", &[]).into_iter().take(9).collect(), "cut off"),
        (file("not json at all", &[]), "header"),
        (file("[1, 2]", &[]), "header"),
        (file("\u{1}\u{2}", &[]), "header"),
        (file(&"[".repeat(100_000), &[]), "header"),
        (file("{}", &[1]), "end at byte"),
        (one(tensor("F32", json!([5]), 0, 20)), "cut off"),
        (one(tensor("F32", json!([3]), 0, 12)), "end at byte"),
        (one(tensor("F32", json!([4]), 0, 15)), "does not fit"),
        (one(tensor("F32", json!([4]), 16, 0)), "does not fit"),
        (one(tensor("F32", json!([4]), 4, 20)), "overlap"),
        (
            one(tensor("F32", json!([huge, 4]), 0, 16)),
            "impossible shape",
        ),
        (
            one(tensor("F32", json!([0, huge, huge]), 0, 0)),
            "impossible shape",
        ),
        (
            one(tensor("F32", json!([u64::MAX]), 0, 16)),
            "impossible shape",
        ),
        (one(tensor("F32", json!(vec![1; 9]), 0, 4)), "9 dimensions"),
        (one(tensor("F32", json!([4]), huge, huge + 16)), "overlap"),
        (
            one(tensor("F32", json!([4]), u64::MAX - 16, u64::MAX)),
            "impossible byte",
        ),
        (one(tensor("F4", json!([1]), 0, 1)), "does not fit"),
        (one(tensor("F32", json!([-4]), 0, 16)), "header"),
        (one(tensor("F99", json!([4]), 0, 16)), "header"),
        (one(tensor("F8_E8M0", json!([16]), 0, 16)), "F8_E8M0"),
        (one(json!("text")), "header"),
    ];
    for (bytes, expected) in cases {
        let message = refusal(&bytes);
        assert!(message.contains(expected), "{expected:?}: {message}");
    }
}

#[test]
fn tensors_that_overlap_or_come_twice_are_named() {
    let overlap = json!({
        "x": tensor("F32", json!([2]), 0, 8),
        "y": tensor("F32", json!([2]), 4, 12),
    });
    assert!(refusal(&file(&overlap.to_string(), &[0; 12])).contains("tensor y"));
    let x = tensor("F32", json!([0]), 0, 0);
    let twice = format!(r#"{{"x": {x}, "x": {x}}}"#);
    assert!(refusal(&file(&twice, &[])).contains("x comes twice"));
}

#[test]
fn a_tensor_in_two_files_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let files = ["one.safetensors", "two.safetensors"].map(|name| folder.path().join(name));
    for path in &files {
        std::fs::write(path, good()).unwrap();
    }
    for error in [
        headers(&files).map(|_| ()).unwrap_err(),
        load(&files, Device::Cpu, Kind::Float, &mut |_| {})
            .map(|_| ())
            .unwrap_err(),
    ] {
        assert!(error.to_string().contains("two.safetensors"), "{error}");
    }
}

#[test]
fn what_is_no_file_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let gone = folder.path().join("gone.safetensors");
    for path in [gone, folder.path().to_path_buf()] {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let error = load(&[path], Device::Cpu, Kind::Float, &mut |_| {}).map(|_| ());
        let message = error.unwrap_err().to_string();
        assert!(message.contains(&name), "{message}");
    }
}

#[cfg(unix)]
#[test]
fn a_pipe_does_not_block() {
    let folder = tempfile::tempdir().unwrap();
    let pipe = folder.path().join("pipe.safetensors");
    let made = std::process::Command::new("mkfifo").arg(&pipe).status();
    assert!(made.unwrap().success());
    let error = headers(&[pipe]).unwrap_err();
    assert!(error.to_string().contains("not a file"), "{error}");
}

fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/reference/data/models")
        .join(name)
}

fn weights_of(folder: &str, stem: &str) -> Weights {
    let file = data(folder).join(format!("{stem}.safetensors"));
    let loaded = load(&[file], Device::Cpu, Kind::Float, &mut |_| {}).unwrap();
    Weights::new(loaded.path, loaded.tensors)
}

/// Parses a config and builds its network on tensors that fit another.
type Build = fn(&[u8], &Weights) -> Result<(), Error>;

fn unet(text: &[u8], weights: &Weights) -> Result<(), Error> {
    let config = UNetConfig::parse(Path::new("config.json"), text)?;
    UNet2DConditionModel::new(config, weights).map(|_| ())
}

fn vae(text: &[u8], weights: &Weights) -> Result<(), Error> {
    let config = VaeConfig::parse(Path::new("config.json"), text)?;
    AutoencoderKL::new(config, weights).map(|_| ())
}

fn clip(text: &[u8], weights: &Weights) -> Result<(), Error> {
    let config = ClipConfig::parse(Path::new("config.json"), text)?;
    CLIPTextModel::new(config, weights).map(|_| ())
}

fn networks() -> [(&'static str, &'static str, Build); 3] {
    [
        ("unet_sd1", "diffusion_pytorch_model", unet),
        ("vae_attention", "diffusion_pytorch_model", vae),
        ("clip_quick_gelu", "model", clip),
    ]
}

#[test]
fn the_wrong_file_names_what_is_missing() {
    for (folder, _, build) in networks() {
        let config = std::fs::read(data(folder).join("config.json")).unwrap();
        let upscaler = weights_of("esrgan", "model");
        let message = build(&config, &upscaler).unwrap_err().to_string();
        assert!(
            message.contains("missing") && message.contains(".weight"),
            "{message}"
        );
        let error = RealEsrganCompact::new(&weights_of("vae_attention", "diffusion_pytorch_model"));
        let message = error.unwrap_err().to_string();
        assert!(message.contains("not a compact Real-ESRGAN"), "{message}");
    }
}

#[test]
fn inputs_of_another_shape_are_errors_before_any_arithmetic() {
    let float = |shape: &[i64]| Tensor::zeros(shape, (Kind::Float, Device::Cpu));
    let config = |folder: &str| data(folder).join("config.json");
    let stem = "diffusion_pytorch_model";

    let unet = UNetConfig::read(&config("unet_sd1")).unwrap();
    let unet = UNet2DConditionModel::new(unet, &weights_of("unet_sd1", stem)).unwrap();
    let states = float(&[1, 7, 12]);
    for sample in [&[4, 8, 8][..], &[1, 3, 8, 8], &[1, 4, 0, 8], &[2, 4, 8, 8]] {
        let error = unet.forward(&float(sample), 1.0, &states).unwrap_err();
        assert!(matches!(error, Error::Shape { .. }), "{sample:?}: {error}");
    }
    let error = unet.forward(&float(&[1, 4, 8, 8]), 1.0, &float(&[1, 7, 13]));
    assert!(error.unwrap_err().to_string().contains("[1, tokens, 12]"));

    let vae = VaeConfig::read(&config("vae_attention")).unwrap();
    let vae = AutoencoderKL::new(vae, &weights_of("vae_attention", stem)).unwrap();
    for image in [&[1, 3, 9, 8][..], &[1, 4, 8, 8], &[3, 8, 8]] {
        let error = vae.encode(&float(image)).unwrap_err();
        assert!(matches!(error, Error::Shape { .. }), "{image:?}: {error}");
    }
    assert!(vae.decode(&float(&[1, 5, 8, 8])).is_err());

    let clip = ClipConfig::read(&config("clip_quick_gelu")).unwrap();
    let clip = CLIPTextModel::new(clip, &weights_of("clip_quick_gelu", "model")).unwrap();
    let ids = |count: i64, id: i64| Tensor::full([1, count], id, (Kind::Int64, Device::Cpu));
    assert!(clip.forward(&ids(9, 39)).is_ok());
    for (count, id) in [(10, 1), (0, 1), (9, 40), (9, -1)] {
        assert!(clip.forward(&ids(count, id)).is_err(), "{count} times {id}");
    }

    let upscaler = RealEsrganCompact::new(&weights_of("esrgan", "model")).unwrap();
    for image in [&[3, 8, 8][..], &[1, 4, 8, 8], &[1, 3, 0, 8]] {
        let error = upscaler.forward(&float(image)).unwrap_err();
        assert!(matches!(error, Error::Shape { .. }), "{image:?}: {error}");
    }
}

/// Whatever a field holds: wrong types, hostile numbers, deep lists.
fn any_value() -> impl Strategy<Value = Value> {
    let number = prop_oneof![
        any::<i64>().prop_map(Value::from),
        (-2i64..200).prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        Just(json!(1u64 << 63)),
    ];
    let leaf = prop_oneof![
        number,
        any::<bool>().prop_map(Value::from),
        "[a-zA-Z0-9_]{0,12}".prop_map(Value::from),
        Just(Value::Null),
    ];
    leaf.prop_recursive(2, 8, 5, |inner| {
        prop::collection::vec(inner, 0..5).prop_map(Value::from)
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn random_bytes_are_no_model(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        // Without a header that fits, nothing random is a file of tensors.
        prop_assert!(read(&bytes).is_err());
    }

    #[test]
    fn random_headers_never_panic(header in "\\PC{0,200}", data in prop::collection::vec(any::<u8>(), 0..40)) {
        let _ = read(&file(&header, &data));
    }

    #[test]
    fn random_tensor_entries_never_panic(
        dtype in prop::sample::select(vec!["F64", "F32", "F16", "BF16", "I8", "U64", "BOOL", "F4", "C64"]),
        shape in prop::collection::vec(prop_oneof![0u64..5, any::<u64>()], 0..4),
        begin in prop_oneof![0u64..40, any::<u64>()],
        end in prop_oneof![0u64..40, any::<u64>()],
        length in 0usize..40,
    ) {
        let header = json!({"x": tensor(dtype, json!(shape), begin, end)}).to_string();
        let _ = read(&file(&header, &vec![1; length]));
    }

    #[test]
    fn a_cut_file_is_an_error(keep in 0.0f64..1.0) {
        let bytes = good();
        let kept = (bytes.len() as f64 * keep) as usize;
        refusal(&bytes[..kept]);
    }

    #[test]
    fn an_altered_file_never_panics(changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6)) {
        let mut bytes = good();
        for (index, value) in changes {
            let place = index.index(bytes.len());
            bytes[place] = value;
        }
        let _ = read(&bytes);
    }

    #[test]
    fn a_config_of_any_bytes_never_panics(text in prop::collection::vec(any::<u8>(), 0..200)) {
        for (folder, stem, build) in networks() {
            prop_assert!(build(&text, &weights_of(folder, stem)).is_err());
        }
    }

    #[test]
    fn a_config_with_any_value_in_a_field_is_built_or_refused_by_name(
        field in any::<prop::sample::Index>(),
        value in any_value(),
    ) {
        for (folder, stem, build) in networks() {
            let text = std::fs::read(data(folder).join("config.json")).unwrap();
            let mut config: serde_json::Map<String, Value> = serde_json::from_slice(&text).unwrap();
            let names: Vec<String> = config.keys().cloned().collect();
            let name = field.get(&names);
            config.insert(name.clone(), value.clone());
            let text = Value::from(config).to_string();
            if let Err(error) = build(text.as_bytes(), &weights_of(folder, stem)) {
                let message = error.to_string();
                // By the field, or by the tensors that do not fit what it asks for.
                let named = ["`", "tensor", "channels"].iter().any(|word| message.contains(word));
                prop_assert!(named, "{} = {}: {}", name, value, message);
            }
        }
    }
}
