//! Files that `torch.save` wrote (`tests/reference/checkpoints.py`): the same tensors as the safetensors
//! file beside them; hostile, cut and altered ones are refused, and nothing in them is executed.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // Helpers fail as tests do.
#![allow(clippy::disallowed_methods)] // Scratch files need no atomic write.

mod common;

use std::path::PathBuf;

use common::data;
use easel::checkpoint::{NamedTensors, headers, load};
use easel::error::{Error, Result};
use easel::families::ModelFiles;
use proptest::prelude::*;
use tch::{Device, Kind};

const FILES: [&str; 3] = ["torch_zip.ckpt", "torch_legacy.ckpt", "torch_plain.bin"];

fn file(name: &str) -> PathBuf {
    data("checkpoints").join(name)
}

fn bytes(name: &str) -> Vec<u8> {
    std::fs::read(file(name)).unwrap()
}

fn read(bytes: &[u8]) -> Result<NamedTensors> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("broken.ckpt");
    std::fs::write(&path, bytes).unwrap();
    let listed = headers(std::slice::from_ref(&path));
    let loaded = load(&[path], Device::Cpu, Kind::Float, &mut |_| {});
    if let (Ok(listed), Ok(loaded)) = (&listed, &loaded) {
        for header in listed {
            assert_eq!(header.shape, loaded.tensors[&header.name].size());
        }
    }
    loaded
}

fn refusal(bytes: &[u8]) -> String {
    let error = read(bytes).expect_err("a broken file was taken");
    assert!(matches!(error, Error::Model { .. }), "{error:?}");
    error.to_string()
}

#[test]
fn torch_and_safetensors_files_hold_the_same() {
    let load = |name: &str| load(&[file(name)], Device::Cpu, Kind::Float, &mut |_| {}).unwrap();
    let expected = load("torch.safetensors").tensors;
    assert!(expected.len() >= 13);
    for name in FILES {
        let got = load(name).tensors;
        let names = |tensors: &std::collections::BTreeMap<String, _>| -> Vec<String> {
            tensors.keys().cloned().collect()
        };
        assert_eq!(names(&got), names(&expected), "{name}");
        for (key, tensor) in &got {
            assert_eq!(tensor.kind(), expected[key].kind(), "{name}: {key}");
            assert_eq!(tensor.size(), expected[key].size(), "{name}: {key}");
            assert!(tensor.equal(&expected[key]), "{name}: {key}");
            assert!(tensor.is_contiguous(), "{name}: {key}");
        }
    }
}

#[test]
fn a_hostile_file_is_refused_by_what_it_names_and_not_run() {
    let message = refusal(&bytes("torch_hostile.ckpt"));
    assert!(message.contains("posix.system"), "{message}");
    let error = ModelFiles::open(&file("torch_hostile.ckpt")).err().unwrap();
    assert!(error.to_string().contains("posix.system"), "{error}");
    assert!(!PathBuf::from("hostile-file-was-run").exists());
}

#[test]
fn a_file_that_is_cut_off_anywhere_is_refused() {
    for name in FILES {
        let whole = bytes(name);
        let step = whole.len() / 61;
        for end in (8..whole.len() - 1).step_by(step) {
            refusal(&whole[..end]);
        }
    }
}

/// A tensor that reaches out of its storage, or repeats it, has no place in the file.
#[test]
fn a_shape_that_does_not_fit_is_refused() {
    let whole = bytes("torch_zip.ckpt");
    // The shape (6, 8) with the strides (8, 1): BININT1 6, BININT1 8, TUPLE2, ..., as torch writes them.
    let shape = [b'K', 6, b'K', 8, 0x86];
    let at = whole.windows(5).position(|bytes| bytes == shape).unwrap();
    for (place, value) in [(at + 1, 200), (at + 3, 200)] {
        let mut altered = whole.clone();
        altered[place] = value;
        let message = refusal(&altered);
        assert!(message.contains("does not fit"), "{message}");
    }
    let strides = [b'K', 8, b'K', 1, 0x86];
    let at = whole.windows(5).position(|bytes| bytes == strides).unwrap();
    let mut repeats = whole.clone();
    repeats[at + 1] = 0;
    let message = refusal(&repeats);
    assert!(message.contains("does not fit"), "{message}");
}

#[test]
fn a_zip_archive_of_something_else_is_said_to_be_one() {
    // An empty archive of Python's zipfile, and one whose only file is not the pickle.
    let mut other = bytes("torch_zip.ckpt");
    for at in 0..other.len() - 8 {
        if other[at..].starts_with(b"data.pkl") {
            other[at..at + 8].copy_from_slice(b"data.txt");
        }
    }
    let message = refusal(&other);
    assert!(message.contains("without data.pkl"), "{message}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]

    #[test]
    fn altered_bytes_give_tensors_or_an_error(
        which in 0..FILES.len(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        let mut altered = bytes(FILES[which]);
        for (at, value) in changes {
            let at = at.index(altered.len());
            altered[at] = value;
        }
        let _ = read(&altered);
    }

    #[test]
    fn random_bytes_after_a_good_beginning_give_an_error(
        zip in any::<bool>(),
        rest in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        let begin: &[u8] = if zip { b"PK\x03\x04\0\0\x08\x08" } else { b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46" };
        prop_assert!(read(&[begin, &rest].concat()).is_err());
    }
}
