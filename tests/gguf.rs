//! GGUF files: every type of number against ggml's own values, the names that other programs write, and
//! headers that lie.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods
)]

use std::path::{Path, PathBuf};

use easel::checkpoint::{Piece, StoredType, headers, load, map_pieces};
use easel::error::Error;
use proptest::prelude::*;
use tch::{Device, Kind};

fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/reference/data/gguf")
        .join(name)
}

/// The file was written and its values computed by the `gguf` package. Equal to the last bit: the same
/// operations in the same order, each rounded once.
#[test]
fn every_type_gives_ggmls_values_to_the_last_bit() {
    let files = [data("types.gguf")];
    let stored = headers(&files).unwrap();
    let loaded = load(&files, Device::Cpu, Kind::Float, &mut |_| ()).unwrap();
    let expected = load(
        &[data("types.safetensors")],
        Device::Cpu,
        Kind::Float,
        &mut |_| (),
    )
    .unwrap();
    assert_eq!(stored.len(), 14);
    for header in &stored {
        let name = &header.name;
        let (ours, theirs) = (&loaded.tensors[name], &expected.tensors[name]);
        assert_eq!(ours.size(), theirs.size(), "{name}");
        assert_eq!(header.shape, theirs.size(), "{name}");
        let bits = |tensor: &tch::Tensor| -> Vec<u32> {
            let values: Vec<f32> = Vec::try_from(tensor.contiguous().view(-1)).unwrap();
            values.into_iter().map(f32::to_bits).collect()
        };
        let (ours, theirs) = (bits(ours), bits(theirs));
        let first = ours.iter().zip(&theirs).position(|(a, b)| a != b);
        assert_eq!(first, None, "{name}: the first value that differs");
        if name != "conv" {
            assert_eq!(header.dtype.to_string(), *name);
        }
    }
    assert_eq!(loaded.tensors["conv"].size(), [16, 16, 3, 1]);
}

/// What is made of blocks is in memory: in f32 it would take twice as much as the network needs.
#[test]
fn blocks_become_what_the_network_computes_in_also_where_floats_stay_mapped() {
    let files = [data("types.gguf")];
    let all = |name: &str| vec![Piece::whole(name)];
    let mapped = map_pieces(&files, &all, Kind::BFloat16, &mut |_| ()).unwrap();
    for header in headers(&files).unwrap() {
        if let StoredType::Blocks(_) = header.dtype {
            let kind = mapped.tensors[&header.name].kind();
            assert_eq!(kind, Kind::BFloat16, "{}", header.name);
        }
    }
}

/// A GGUF file made by hand.
#[derive(Clone, Default)]
struct Gguf {
    fields: Vec<u8>,
    field_count: u64,
    tensors: Vec<u8>,
    tensor_count: u64,
    data: Vec<u8>,
}

impl Gguf {
    fn text(text: &str) -> Vec<u8> {
        [&(text.len() as u64).to_le_bytes()[..], text.as_bytes()].concat()
    }

    fn field(mut self, name: &str, kind: u32, value: &[u8]) -> Self {
        self.fields.extend(Self::text(name));
        self.fields.extend(kind.to_le_bytes());
        self.fields.extend(value);
        self.field_count += 1;
        self
    }

    fn tensor(mut self, name: &str, sides: &[u64], kind: u32, offset: u64) -> Self {
        self.tensors.extend(Self::text(name));
        self.tensors.extend((sides.len() as u32).to_le_bytes());
        sides
            .iter()
            .for_each(|side| self.tensors.extend(side.to_le_bytes()));
        self.tensors.extend(kind.to_le_bytes());
        self.tensors.extend(offset.to_le_bytes());
        self.tensor_count += 1;
        self
    }

    fn data(mut self, bytes: usize) -> Self {
        self.data = vec![0; bytes];
        self
    }

    fn bytes(&self) -> Vec<u8> {
        let mut bytes = b"GGUF".to_vec();
        bytes.extend(3u32.to_le_bytes());
        bytes.extend(self.tensor_count.to_le_bytes());
        bytes.extend(self.field_count.to_le_bytes());
        bytes.extend(&self.fields);
        bytes.extend(&self.tensors);
        bytes.resize(bytes.len().next_multiple_of(32), 0);
        bytes.extend(&self.data);
        bytes
    }
}

fn read(bytes: &[u8]) -> Result<usize, Error> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("broken.gguf");
    std::fs::write(&file, bytes).unwrap();
    let listed = headers(std::slice::from_ref(&file));
    let loaded = load(&[file], Device::Cpu, Kind::Float, &mut |_| {});
    assert_eq!(listed.is_ok(), loaded.is_ok(), "{listed:?}");
    let listed = listed?;
    for header in &listed {
        assert_eq!(
            header.shape,
            loaded.as_ref().unwrap().tensors[&header.name].size()
        );
    }
    Ok(listed.len())
}

#[test]
fn headers_that_lie_are_told_apart() {
    const F32: u32 = 0;
    const Q8_0: u32 = 8;
    let one = |sides: &[u64], kind, offset| {
        Gguf::default()
            .tensor("x.weight", sides, kind, offset)
            .data(136)
            .bytes()
    };
    let field = |name: &str, kind, value: &[u8]| Gguf::default().field(name, kind, value).bytes();
    let list = |kind: u32, count: u64| [&kind.to_le_bytes()[..], &count.to_le_bytes()].concat();
    let with = |at: usize, bytes: &[u8]| {
        let mut file = one(&[4], F32, 0);
        file[at..at + bytes.len()].copy_from_slice(bytes);
        file
    };
    let shape = |sides: &[i32]| {
        let sides: Vec<u8> = sides.iter().flat_map(|side| side.to_le_bytes()).collect();
        let count = (sides.len() / 4) as u64;
        Gguf::default()
            .field(
                "comfy.gguf.orig_shape.x",
                9,
                &[list(5, count), sides].concat(),
            )
            .tensor("x", &[16], F32, 0)
            .data(64)
            .bytes()
    };
    assert_eq!(read(&one(&[32, 4], Q8_0, 0)).unwrap(), 1);
    assert_eq!(read(&shape(&[2, 8])).unwrap(), 1);
    let huge = u64::MAX / 2;
    let cases: Vec<(Vec<u8>, &str)> = vec![
        (b"GGUF".to_vec(), "too short"),
        (b"GGUF\x03\0\0\0".to_vec(), "cut off"),
        (with(4, &1u32.to_le_bytes()), "version 1"),
        (with(4, &9u32.to_le_bytes()), "version 9"),
        (with(4, &3u32.to_be_bytes()), "big-endian"),
        (with(8, &u64::MAX.to_le_bytes()), "more than any model"),
        (with(16, &u64::MAX.to_le_bytes()), "more than any model"),
        (with(24, &u64::MAX.to_le_bytes()), "a name of"),
        (with(32, &[0xff]), "not text"),
        (one(&[1; 9], F32, 0), "9 dimensions"),
        (one(&[huge, 4], F32, 0), "impossible shape"),
        (one(&[u64::MAX], F32, 0), "impossible shape"),
        (one(&[0, huge, huge], F32, 0), "impossible shape"),
        (one(&[35], F32, 0), "cut off"),
        (one(&[4], F32, 136), "cut off"),
        (one(&[4], F32, u64::MAX), "cut off"),
        (one(&[33], Q8_0, 0), "whole blocks of Q8_0"),
        (one(&[4, 32], Q8_0, 0), "whole blocks of Q8_0"),
        (one(&[32], 16, 0), "IQ2_XXS, which Easel does not read"),
        (one(&[32], 99, 0), "type 99"),
        (
            field("general.alignment", 4, &3u32.to_le_bytes()),
            "general.alignment is 3",
        ),
        (
            field("general.alignment", 4, &0u32.to_le_bytes()),
            "general.alignment is 0",
        ),
        (
            field("general.alignment", 10, &32u64.to_le_bytes()),
            "of type 10",
        ),
        (field("x", 77, &[0; 8]), "unknown type 77"),
        (field("x", 8, &u64::MAX.to_le_bytes()), "claims too much"),
        (field("x", 9, &list(10, huge)), "claims"),
        (field("x", 9, &list(8, huge)), "claims too much"),
        (field("x", 9, &list(9, 1)), "unknown type 9"),
        (shape(&[3, 8]), "cannot have had the shape"),
        (shape(&[-2, -8]), "cannot have had the shape"),
        (shape(&[1; 9]), "9 dimensions"),
    ];
    for (bytes, expected) in cases {
        let error = read(&bytes).expect_err(expected);
        assert!(matches!(error, Error::Model { .. }), "{error:?}");
        let message = error.to_string();
        assert!(
            message.contains(expected) && message.contains("broken.gguf"),
            "{expected:?}: {message}"
        );
    }
}

#[test]
fn tensors_that_overlap_or_come_twice_are_named() {
    let overlap = Gguf::default()
        .tensor("x", &[4], 0, 0)
        .tensor("y", &[4], 0, 8)
        .data(32);
    let twice = Gguf::default()
        .tensor("x", &[4], 0, 0)
        .tensor("x", &[4], 0, 16)
        .data(32);
    for (file, expected) in [(overlap, "tensor y begins"), (twice, "x comes twice")] {
        let message = read(&file.bytes()).unwrap_err().to_string();
        assert!(message.contains(expected), "{message}");
    }
}

#[test]
fn a_file_cut_off_anywhere_is_an_error() {
    let whole = std::fs::read(data("types.gguf")).unwrap();
    for length in (0..whole.len()).step_by(97) {
        assert!(
            read(&whole[..length]).is_err(),
            "{length} bytes of it were taken"
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn altered_files_never_panic(
        changes in prop::collection::vec((0usize..1100, any::<u8>()), 1..6),
    ) {
        let mut bytes = std::fs::read(data("types.gguf")).unwrap();
        for (at, byte) in changes {
            bytes[at] = byte;
        }
        let _ = read(&bytes);
    }
}
