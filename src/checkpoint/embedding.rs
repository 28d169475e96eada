//! Textual inversion files: vectors that stand for a word in the prompt.
//!
//! Spellings: A1111's `string_to_param` (`.pt`) and `emb_params` (`.safetensors`), Stable Diffusion XL's pair
//! `clip_l` and `clip_g`, diffusers' one tensor that is called as its word is. Source: A1111 1.10
//! `modules/textual_inversion/textual_inversion.py` (`create_embedding_from_data`); diffusers 0.42.1
//! `loaders/textual_inversion.py` (`_retrieve_tokens_and_embeddings`); Gal et al. 2208.01618.

use std::path::Path;

use tch::{Device, Kind, Tensor};

use super::header::{TensorHeader, headers};
use super::load::load;
use crate::error::{Error, Result};

/// Names that say nothing of the word.
const UNNAMED: [&str; 2] = ["emb_params", "*"];
const PAIR: [&str; 2] = ["clip_l", "clip_g"];

/// A textual inversion.
#[derive(Debug)]
pub struct EmbeddingFile {
    /// What the file itself calls it, where it does: `<cat-toy>`.
    pub word: Option<String>,
    /// `[count, width]`: one, or those of SDXL's two text encoders in their order.
    pub vectors: Vec<Tensor>,
}

/// Reads a textual inversion. Nothing in a `.pt` is executed.
///
/// Errors: [`Error::Io`]; [`Error::Model`] naming what is broken, or that it is none.
pub fn load_embedding(path: &Path, device: Device, kind: Kind) -> Result<EmbeddingFile> {
    check_is_there(path)?;
    let mut tensors = load(&[path.to_path_buf()], device, kind, &mut |_| ())?.tensors;
    let names: Vec<String> = tensors.keys().cloned().collect();
    let chosen = chosen(path, &names)?;
    let word = word(&chosen);
    let vectors = chosen
        .into_iter()
        .filter_map(|name| tensors.remove(name))
        .map(|tensor| rows(path, tensor))
        .collect::<Result<Vec<Tensor>>>()?;
    let shapes: Vec<_> = vectors.iter().map(Tensor::size).collect();
    checked(path, shapes.iter().map(Vec::as_slice))?;
    Ok(EmbeddingFile { word, vectors })
}

/// What an embedding's file itself calls it, where it does, from its header alone.
pub fn embedding_word(headers: &[TensorHeader]) -> Option<String> {
    let names: Vec<&str> = headers.iter().map(|header| header.name.as_str()).collect();
    word(&names)
}

fn word(names: &[&str]) -> Option<String> {
    match names {
        [only] if !UNNAMED.contains(only) => Some((*only).to_owned()),
        _ => None,
    }
}

/// The shapes `[count, width]` that [`load_embedding`] would give, from the file's header alone.
///
/// Errors: as [`load_embedding`].
pub fn embedding_shapes(path: &Path) -> Result<Vec<[i64; 2]>> {
    check_is_there(path)?;
    let headers = headers(&[path.to_path_buf()])?;
    let names: Vec<String> = headers.iter().map(|header| header.name.clone()).collect();
    let mut shapes = Vec::new();
    for name in chosen(path, &names)? {
        if let Some(header) = headers.iter().find(|header| header.name == name) {
            if !header.dtype.is_float() {
                return Err(no_fractions(path));
            }
            shapes.push(header.shape.as_slice());
        }
    }
    checked(path, shapes.into_iter())
}

/// Shapes of vectors for one text encoder or two, as many for each; a single vector may lie flat.
fn checked<'a>(path: &Path, shapes: impl Iterator<Item = &'a [i64]>) -> Result<Vec<[i64; 2]>> {
    let rows = |shape: &[i64]| match *shape {
        [width] if width > 0 => Ok([1, width]),
        [count, width] if count > 0 && width > 0 => Ok([count, width]),
        _ => Err(no_rows(path, shape)),
    };
    let shapes = shapes.map(rows).collect::<Result<Vec<_>>>()?;
    match shapes.as_slice() {
        [[first, _], [second, _]] if first != second => Err(Error::model(
            path,
            "its two text encoders have different numbers of vectors",
        )),
        _ => Ok(shapes),
    }
}

fn check_is_there(path: &Path) -> Result<()> {
    if path.is_file() {
        return Ok(());
    }
    Err(Error::model(path, "there is no such embedding file"))
}

/// Which of a file's tensors are the vectors, in their order.
fn chosen<'a>(path: &Path, names: &'a [String]) -> Result<Vec<&'a str>> {
    let of_pair = |wanted: &str| names.iter().map(String::as_str).find(|it| *it == wanted);
    match (PAIR.map(of_pair), names) {
        ([Some(first), Some(second)], _) => Ok(vec![first, second]),
        ([None, None], [only]) => Ok(vec![only]),
        _ => {
            let why = format!(
                "it is no embedding: one tensor was expected, or clip_l and clip_g, not {}",
                names.len()
            );
            Err(Error::model(path, why))
        }
    }
}

fn no_fractions(path: &Path) -> Error {
    Error::model(path, "it is no embedding: its tensor holds no fractions")
}

fn no_rows(path: &Path, shape: &[i64]) -> Error {
    let why =
        format!("it is no embedding: its tensor has the shape {shape:?} instead of [count, width]");
    Error::model(path, why)
}

/// A tensor's vectors as rows.
fn rows(path: &Path, tensor: Tensor) -> Result<Tensor> {
    if !tensor.is_floating_point() {
        return Err(no_fractions(path));
    }
    Ok(match tensor.dim() {
        1 => tensor.f_unsqueeze(0)?,
        _ => tensor,
    })
}
