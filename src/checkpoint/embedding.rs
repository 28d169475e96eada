//! Textual inversion files: vectors that stand for a word in the prompt.
//!
//! Spellings: A1111's `string_to_param` (`.pt`) and `emb_params` (`.safetensors`), Stable Diffusion XL's pair
//! `clip_l` and `clip_g`, diffusers' one tensor that is called as its word is. Source: A1111 1.10
//! `modules/textual_inversion/textual_inversion.py` (`create_embedding_from_data`); diffusers 0.42.1
//! `loaders/textual_inversion.py` (`_retrieve_tokens_and_embeddings`); Gal et al. 2208.01618.

use std::path::Path;

use tch::{Device, Kind, Tensor};

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
    if !path.is_file() {
        return Err(Error::model(path, "there is no such embedding file"));
    }
    let mut tensors = load(&[path.to_path_buf()], device, kind, &mut |_| ())?.tensors;
    let pair = PAIR.map(|name| tensors.remove(name));
    let (word, vectors) = match pair {
        [Some(first), Some(second)] => (None, vec![first, second]),
        [None, None] if tensors.len() == 1 => {
            let only = tensors.pop_first();
            let word = only.as_ref().map(|(name, _)| name.clone());
            let word = word.filter(|word| !UNNAMED.contains(&word.as_str()));
            (word, only.into_iter().map(|(_, tensor)| tensor).collect())
        }
        _ => {
            let why = format!(
                "it is no embedding: one tensor was expected, or clip_l and clip_g, not {}",
                tensors.len() + pair.iter().flatten().count()
            );
            return Err(Error::model(path, why));
        }
    };
    let vectors = vectors
        .into_iter()
        .map(|tensor| rows(path, tensor))
        .collect::<Result<Vec<Tensor>>>()?;
    let count = |tensor: &Tensor| tensor.size().first().copied();
    if vectors.windows(2).any(|pair| match pair {
        [first, second] => count(first) != count(second),
        _ => false,
    }) {
        let why = "its two text encoders have different numbers of vectors";
        return Err(Error::model(path, why));
    }
    Ok(EmbeddingFile { word, vectors })
}

/// `[count, width]`; a single vector may lie flat.
fn rows(path: &Path, tensor: Tensor) -> Result<Tensor> {
    let broken = |why: String| Err(Error::model(path, why));
    if !tensor.is_floating_point() {
        return broken("it is no embedding: its tensor holds no fractions".to_owned());
    }
    let tensor = match tensor.dim() {
        1 => tensor.f_unsqueeze(0)?,
        _ => tensor,
    };
    match tensor.size().as_slice() {
        [count, width] if *count > 0 && *width > 0 => Ok(tensor),
        shape => broken(format!(
            "it is no embedding: its tensor has the shape {shape:?} instead of [count, width]"
        )),
    }
}
