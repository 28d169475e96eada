//! How much words count: what becomes of a text encoder's states where a prompt weighs its tokens.
//!
//! Sources: AUTOMATIC1111 stable-diffusion-webui 1.10 `modules/sd_emphasis.py`; ComfyUI
//! `comfy/sd1_clip.py` (`encode_token_weights`); compel 2.5.1 `embeddings_provider.py`
//! (`get_embeddings_for_weighted_prompt_fragments`, with its defaults).

use std::collections::BTreeMap;
use std::f64::consts::FRAC_PI_2;

use tch::{Kind, Tensor};

use super::tokenizer::Chunk;
use crate::error::Result;
use crate::request::Emphasis;

/// compel's smallest weight: its tangent is infinite at 0.
const LEAST_WEIGHT: f64 = 1e-5;

/// Encodes one chunk to `[1, n, width]`; `seen` says which of its tokens are there.
pub type Encode<'a> = dyn FnMut(&Chunk, Option<&[bool]>) -> Result<Tensor> + 'a;

/// The weighted states of chunks, `[1, chunks * n, width]`. `empty`: an empty prompt.
/// Weights of 1 change nothing at all.
///
/// Errors: what `encode` says.
pub fn states(
    chunks: &[Chunk],
    emphasis: Emphasis,
    empty: &Chunk,
    encode: &mut Encode<'_>,
) -> Result<Tensor> {
    let mut plain = Vec::with_capacity(chunks.len());
    for chunk in chunks {
        plain.push(encode(chunk, None)?);
    }
    let weighs = |chunk: &Chunk| chunk.weights.iter().any(|weight| *weight != 1.0);
    if !chunks.iter().any(weighs) {
        return Ok(Tensor::f_cat(&plain, 1)?);
    }
    let each = |weigh: &dyn Fn(&Tensor, &Chunk) -> Result<Tensor>| -> Result<Vec<Tensor>> {
        let pairs = plain.iter().zip(chunks);
        pairs
            .map(|(states, chunk)| match weighs(chunk) {
                true => weigh(states, chunk),
                false => Ok(states.shallow_clone()),
            })
            .collect()
    };
    let weighted = match emphasis {
        Emphasis::Original => each(&|states, chunk| keep_mean(states, &scaled(states, chunk)?))?,
        Emphasis::NoNorm => each(&scaled)?,
        Emphasis::Ignore | Emphasis::None => plain,
        Emphasis::Comfyui => {
            let empty = encode(empty, None)?;
            each(&|states, chunk| away_from(&empty, states, chunk))?
        }
        Emphasis::Compel => {
            let empty = encode(empty, None)?;
            let base = each(&|states, chunk| away_from(&empty, states, chunk))?;
            return without_the_light(&Tensor::f_cat(&base, 1)?, chunks, &empty, encode);
        }
    };
    Ok(Tensor::f_cat(&weighted, 1)?)
}

/// `[1, n, 1]`, of the states' kind.
fn weights(states: &Tensor, chunk: &Chunk) -> Result<Tensor> {
    Ok(Tensor::f_from_slice(&chunk.weights)?
        .f_view([1, -1, 1])?
        .f_to_device(states.device())?
        .f_to_kind(states.kind())?)
}

/// A1111: each token's states times its weight.
fn scaled(states: &Tensor, chunk: &Chunk) -> Result<Tensor> {
    Ok(states * weights(states, chunk)?)
}

/// A1111: with the mean of the chunk that it had before.
fn keep_mean(states: &Tensor, scaled: &Tensor) -> Result<Tensor> {
    let (before, after) = (states.mean(Kind::Float), scaled.mean(Kind::Float));
    Ok((scaled * (before / after)).f_to_kind(states.kind())?)
}

/// ComfyUI, compel: each token goes away from the empty prompt's by its weight.
fn away_from(empty: &Tensor, states: &Tensor, chunk: &Chunk) -> Result<Tensor> {
    let weights = weights(states, chunk)?;
    let moved = (states - empty) * &weights + empty;
    Ok(states.f_where_self(&weights.f_eq(1.0)?, &moved)?)
}

/// compel: towards the prompt without each piece that weighs less than 1, the more the less it weighs.
fn without_the_light(
    base: &Tensor,
    chunks: &[Chunk],
    empty: &Tensor,
    encode: &mut Encode<'_>,
) -> Result<Tensor> {
    let mut light: BTreeMap<usize, f64> = BTreeMap::new();
    for chunk in chunks {
        for (piece, weight) in chunk.pieces.iter().zip(&chunk.weights) {
            light.extend(
                piece
                    .filter(|_| *weight < 1.0)
                    .map(|it| (it, f64::from(*weight))),
            );
        }
    }
    let (mut sum, mut total) = (base.shallow_clone(), 1.0);
    for (piece, weight) in light {
        let mut without = Vec::with_capacity(chunks.len());
        for chunk in chunks {
            let seen: Vec<bool> = chunk.pieces.iter().map(|it| *it != Some(piece)).collect();
            let states = encode(chunk, Some(&seen))?;
            without.push(away_from(empty, &states, chunk)?);
        }
        let share = ((1.0 - weight.max(LEAST_WEIGHT)) * FRAC_PI_2).tan();
        sum += Tensor::f_cat(&without, 1)? * share;
        total += share;
    }
    Ok(sum / total)
}
