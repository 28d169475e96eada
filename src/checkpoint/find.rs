//! Finds the weight files of a model's folder: one file, a half-precision variant, or shards with an
//! index. The naming is that of diffusers (`utils/constants.py`, 0.42.1) and transformers.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::error::{Error, Result};
use crate::files;

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

/// What a repository's folder in the Hugging Face cache (`models--org--name`) stands for: the
/// snapshot that `refs/main` names, else the newest. `None` for any other folder, and where nothing
/// was downloaded.
///
/// Source: huggingface_hub 1.x, "Understand caching" (`guides/manage-cache`).
pub fn hub_snapshot(folder: &Path) -> Option<PathBuf> {
    let snapshots = folder.join("snapshots");
    if !snapshots.is_dir() || files::hub_name(&snapshots.join("any")).is_none() {
        return None;
    }
    let named = std::fs::read_to_string(folder.join("refs/main")).ok();
    let named = named.map(|revision| snapshots.join(revision.trim()));
    let is_one = |path: &PathBuf| path.is_dir() && path.parent() == Some(snapshots.as_path());
    named.filter(is_one).or_else(|| {
        let all = std::fs::read_dir(&snapshots).ok()?.flatten();
        all.map(|entry| entry.path())
            .filter(is_one)
            .max_by_key(|path| std::fs::metadata(path).and_then(|it| it.modified()).ok())
    })
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
    fn a_repository_of_the_hugging_face_cache_is_its_snapshot() {
        let cache = tempfile::tempdir().unwrap();
        let repository = cache.path().join("models--some-org--tiny--model");
        let snapshot = |revision: &str| repository.join("snapshots").join(revision);
        assert_eq!(hub_snapshot(&repository), None);
        std::fs::create_dir_all(snapshot("aaa")).unwrap();
        assert_eq!(hub_snapshot(&repository), Some(snapshot("aaa")));
        std::fs::create_dir_all(snapshot("bbb")).unwrap();
        std::fs::create_dir_all(repository.join("refs")).unwrap();
        for (named, revision) in [("aaa", "aaa"), ("bbb\n", "bbb")] {
            touch(&repository, "refs/main", named);
            assert_eq!(hub_snapshot(&repository), Some(snapshot(revision)));
        }
        // A name that leads out of the snapshots is none of them.
        touch(&repository, "refs/main", "../..");
        assert!(
            hub_snapshot(&repository)
                .is_some_and(|it| it.starts_with(snapshot("x").parent().unwrap()))
        );
        assert_eq!(
            files::hub_name(&snapshot("aaa")).as_deref(),
            Some("some-org/tiny/model")
        );
        assert_eq!(files::hub_name(&repository), None);
        std::fs::create_dir_all(cache.path().join("own/snapshots/a")).unwrap();
        assert_eq!(hub_snapshot(&cache.path().join("own")), None);
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
