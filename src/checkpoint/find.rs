//! Finds the weight files of a model's folder: one file, a half-precision variant, or shards with an
//! index. The naming is that of diffusers (`utils/constants.py`, 0.42.1) and transformers.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::error::{Error, Result};

/// An index of a million tensors stays below this.
const MAX_INDEX_BYTES: u64 = 100_000_000;

/// The part of `*.safetensors.index.json` that matters here: which file holds which tensor.
#[derive(Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

/// The weight files of `folder` whose names begin with `stem` ("diffusion_pytorch_model", "model").
///
/// Looks for, in this order, `stem.safetensors`, `stem.fp16.safetensors`, the shards that
/// `stem.safetensors.index.json` (or its fp16 variant) lists, and the same with `.bin`, where
/// transformers' stem is `pytorch_model`. Every file named exists.
///
/// Errors: [`Error::Model`] if there is none, a shard is missing, or the index is not one.
pub fn find_weights(folder: &Path, stem: &str) -> Result<Vec<PathBuf>> {
    let pickled = if stem == "model" {
        "pytorch_model"
    } else {
        stem
    };
    for (stem, ending) in [(stem, "safetensors"), (pickled, "bin")] {
        for name in [format!("{stem}.{ending}"), format!("{stem}.fp16.{ending}")] {
            let file = folder.join(name);
            if file.is_file() {
                return Ok(vec![file]);
            }
        }
        for name in [
            format!("{stem}.{ending}.index.json"),
            format!("{stem}.{ending}.index.fp16.json"),
        ] {
            let file = folder.join(name);
            if file.is_file() {
                return shards(folder, &file);
            }
        }
    }
    let why = format!("there is no {stem}.safetensors in it, and no {pickled}.bin");
    Err(Error::model(folder, why))
}

fn shards(folder: &Path, index: &Path) -> Result<Vec<PathBuf>> {
    let length = std::fs::metadata(index)
        .map_err(|source| Error::io("Reading", index, source))?
        .len();
    if length > MAX_INDEX_BYTES {
        return Err(Error::model(
            index,
            format!("an index of {length} bytes is too large"),
        ));
    }
    let text = std::fs::read(index).map_err(|source| Error::io("Reading", index, source))?;
    let parsed: Index = serde_json::from_slice(&text)
        .map_err(|error| Error::model(index, format!("it is not an index of weights: {error}")))?;
    let names: BTreeSet<String> = parsed.weight_map.into_values().collect();
    if names.is_empty() {
        return Err(Error::model(index, "it lists no tensors"));
    }
    names
        .into_iter()
        .map(|name| shard(folder, index, &name))
        .collect()
}

/// A shard is a plain file name beside its index: an index may not reach into other folders.
fn shard(folder: &Path, index: &Path, name: &str) -> Result<PathBuf> {
    if Path::new(name).file_name() != Some(name.as_ref()) {
        return Err(Error::model(
            index,
            format!("it names {name:?}, which is not a file beside it"),
        ));
    }
    let file = folder.join(name);
    if file.is_file() {
        Ok(file)
    } else {
        Err(Error::model(
            index,
            format!("it names {name}, which is missing"),
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn touch(folder: &Path, name: &str, text: &str) {
        std::fs::write(folder.join(name), text).unwrap();
    }

    #[test]
    fn one_file_wins_over_the_variant_and_the_variant_over_shards() {
        let folder = tempfile::tempdir().unwrap();
        let index = r#"{"weight_map": {"b": "m-2.safetensors", "a": "m-1.safetensors", "c": "m-1.safetensors"}}"#;
        touch(folder.path(), "m.safetensors.index.json", index);
        touch(folder.path(), "m-1.safetensors", "");
        touch(folder.path(), "m-2.safetensors", "");
        let names = |found: Vec<PathBuf>| -> Vec<String> {
            found
                .iter()
                .map(|file| file.file_name().unwrap().to_string_lossy().into_owned())
                .collect()
        };
        let find = || names(find_weights(folder.path(), "m").unwrap());
        assert_eq!(find(), ["m-1.safetensors", "m-2.safetensors"]);
        touch(folder.path(), "m.fp16.safetensors", "");
        assert_eq!(find(), ["m.fp16.safetensors"]);
        touch(folder.path(), "m.bin", "");
        touch(folder.path(), "m.safetensors", "");
        assert_eq!(find(), ["m.safetensors"]);
        let bins = tempfile::tempdir().unwrap();
        touch(bins.path(), "pytorch_model.bin", "");
        assert_eq!(
            names(find_weights(bins.path(), "model").unwrap()),
            ["pytorch_model.bin"]
        );
    }

    #[test]
    fn what_is_missing_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let message = || find_weights(folder.path(), "m").unwrap_err().to_string();
        assert!(message().contains("no m.safetensors"), "{}", message());
        let index = folder.path().join("m.safetensors.index.json");
        for (text, expected) in [
            (
                r#"{"weight_map": {"a": "gone.safetensors"}}"#,
                "gone.safetensors, which is missing",
            ),
            (
                r#"{"weight_map": {"a": "../x.safetensors"}}"#,
                "not a file beside it",
            ),
            (
                r#"{"weight_map": {"a": "/etc/passwd"}}"#,
                "not a file beside it",
            ),
            (r#"{"weight_map": {"a": ".."}}"#, "not a file beside it"),
            (r#"{"weight_map": {}}"#, "no tensors"),
            ("[1, 2", "not an index"),
        ] {
            std::fs::write(&index, text).unwrap();
            assert!(message().contains(expected), "{text}: {}", message());
        }
    }
}
