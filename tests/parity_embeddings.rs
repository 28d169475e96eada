//! Embeddings (textual inversions) on the model that ships, beside diffusers 0.42.1
//! (`tests/reference/add_ons.py`).
//!
//! Compared: the text states of prompts that name embeddings in every spelling of file, several to a
//! prompt and of several vectors; and that broken and hostile files are said and harm nothing. SDXL's pair
//! is in `parity_xl.rs`.

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
use easel::checkpoint::{embedding_shapes, load_embedding};
use easel::error::Error;
use easel::families::StableDiffusion;
use easel::request::Emphasis;
use tch::{Device, Kind, Tensor};

const PROMPTS: [&str; 3] = [
    "a star, Fancy-Style, on a red background",
    "a <cat-toy>, old style, in the snow",
    "a cat, fancy-style old STYLE modern",
];

fn states(model: &mut StableDiffusion, prompt: &str) -> Tensor {
    let _no_grad = tch::no_grad_guard();
    let encoded = model.encode(prompt, Emphasis::default(), 1);
    encoded.unwrap().states
}

fn names(model: &StableDiffusion) -> Vec<String> {
    let read = model.take_embeddings_read();
    assert_eq!(read.notes, Vec::<String>::new());
    read.used.into_iter().map(|(name, _)| name).collect()
}

/// A copy of the reference's files in a folder as A1111 has it.
fn folder(root: &Path) -> Vec<PathBuf> {
    let own = root.join("embeddings");
    std::fs::create_dir_all(&own).unwrap();
    let mut copies = Vec::new();
    for file in std::fs::read_dir(data("embeddings")).unwrap().flatten() {
        let copy = own.join(file.file_name());
        std::fs::copy(file.path(), &copy).unwrap();
        copies.push(copy);
    }
    copies.sort();
    copies
}

#[test]
fn prompts_that_name_embeddings_are_read_as_diffusers_reads_them() {
    let reference = Reference::read(&data("starter/embeddings.safetensors"));
    let mut model = drawing::starter();
    let without: Vec<Tensor> = PROMPTS.map(|prompt| states(&mut model, prompt)).into();
    let root = tempfile::tempdir().unwrap();
    let found = folder(root.path());
    assert_eq!(found.len(), 4);
    let toy = data("embeddings/learned_embeds.bin");
    model.set_embeddings(&[toy], &found).unwrap();
    model.take_embeddings_read();
    for (number, named) in [
        &["fancy-style"][..],
        &["learned_embeds", "old style"],
        &["fancy-style", "modern", "old style"],
    ]
    .iter()
    .enumerate()
    {
        both_ways(|| {
            let got = states(&mut model, PROMPTS[number]);
            let want = reference.get(&number.to_string());
            compare(PROMPTS[number], &got, want, NETWORK);
            assert!((&got - &without[number]).abs().max().double_value(&[]) > 0.1);
            assert_eq!(names(&model), *named);
        });
    }
    // A kept encoding is of the same embeddings still, and named all the same.
    let _ = states(&mut model, PROMPTS[0]);
    assert_eq!(names(&model), ["fancy-style"]);
    model.set_embeddings(&[], &[]).unwrap();
    for (prompt, before) in PROMPTS.iter().zip(&without) {
        assert!(states(&mut model, prompt).equal(before), "{prompt}");
    }
}

#[test]
fn an_embedding_that_changes_on_the_disk_is_read_again() {
    let mut model = drawing::starter();
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("thing.safetensors");
    let write = |rows: i64| {
        let vectors = Tensor::ones([rows, 192], (Kind::Float, Device::Cpu)) * 0.2;
        Tensor::write_safetensors(&[("emb_params", vectors)], &path).unwrap();
    };
    let found = [path.clone()];
    write(1);
    model.set_embeddings(&[], &found).unwrap();
    let one = states(&mut model, "a thing");
    write(4);
    model.set_embeddings(&[], &found).unwrap();
    assert!(!states(&mut model, "a thing").equal(&one));
}

#[test]
fn one_of_another_width_is_said_and_its_name_read_as_words() {
    let mut model = drawing::starter();
    let plain = states(&mut model, "a wide cat");
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("wide.safetensors");
    let vectors = Tensor::ones([2, 1024], (Kind::Float, Device::Cpu));
    Tensor::write_safetensors(&[("emb_params", vectors)], &path).unwrap();
    for (given, found) in [(vec![path.clone()], vec![]), (vec![], vec![path.clone()])] {
        model.set_embeddings(&given, &found).unwrap();
        assert!(states(&mut model, "a wide cat").equal(&plain));
        let notes = model.take_embeddings_read().notes;
        assert_eq!(notes.len(), 1);
        assert!(notes[0].contains("Stable Diffusion 2"), "{notes:?}");
        let _ = states(&mut model, "a cat");
        assert_eq!(model.take_embeddings_read().notes, Vec::<String>::new());
    }
}

#[test]
fn broken_and_hostile_files_are_refused_with_their_cause() {
    let root = tempfile::tempdir().unwrap();
    let write = |name: &str, bytes: &[u8]| {
        let path = root.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    };
    let save = |name: &str, tensors: &[(&str, Tensor)]| {
        let path = root.path().join(name);
        Tensor::write_safetensors(tensors, &path).unwrap();
        path
    };
    let ones = |shape: &[i64]| Tensor::ones(shape, (Kind::Float, Device::Cpu));
    let whole = std::fs::read(data("embeddings/fancy-style.pt")).unwrap();
    let hostile =
        b"\x80\x02}X\x0f\x00\x00\x00string_to_paramcposix\nsystem\nX\x02\x00\x00\x00id\x85Rs.";
    for (path, cause) in [
        (root.path().join("missing.pt"), "no such"),
        (write("cut.pt", &whole[..whole.len() / 2]), "cut off"),
        (write("hostile.pt", hostile), "posix.system"),
        (write("empty.pt", b""), "too short"),
        (
            write("text.safetensors", b"not a file of tensors"),
            "no file of tensors",
        ),
        (
            save("deep.safetensors", &[("x", ones(&[2, 3, 4]))]),
            "[2, 3, 4]",
        ),
        (save("none.safetensors", &[("x", ones(&[0, 4]))]), "[0, 4]"),
        (
            save("half.safetensors", &[("clip_g", ones(&[1, 4]))]),
            "clip_l and clip_g",
        ),
        (
            save(
                "uneven.safetensors",
                &[("clip_l", ones(&[1, 4])), ("clip_g", ones(&[2, 6]))],
            ),
            "different numbers",
        ),
        (
            save(
                "numbers.safetensors",
                &[("emb_params", ones(&[1, 4]).to_kind(Kind::Int64))],
            ),
            "fractions",
        ),
        (
            save("many.safetensors", &[("a", ones(&[4])), ("b", ones(&[4]))]),
            "not 2",
        ),
    ] {
        let error = load_embedding(&path, Device::Cpu, Kind::Float).unwrap_err();
        assert!(matches!(error, Error::Model { .. }), "{error:?}");
        assert!(error.to_string().contains(cause), "{cause}: {error}");
        let by_header = embedding_shapes(&path).unwrap_err();
        assert_eq!(by_header.to_string(), error.to_string());
    }
}
