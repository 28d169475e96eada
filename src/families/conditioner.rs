//! The text side of a model: prompts to what its UNet looks at, through one text encoder or two.
//!
//! Source: diffusers 0.42.1 `pipeline_stable_diffusion.py` and `pipeline_stable_diffusion_xl.py`
//! (`encode_prompt`); longer prompts and weights as AUTOMATIC1111 1.10 has them
//! (`sd_hijack_clip.py`, `sd_hijack_open_clip.py`); texts that are mixed as compel 2.5.1 mixes them
//! (`compel.py`).

use std::collections::VecDeque;
use std::path::PathBuf;

use tch::{Device, Kind, Tensor};

use super::{Embeddings, EmbeddingsRead, EncoderShape, Family, ModelFiles, Part};
use crate::error::Result;
use crate::models::layers::{Exactly, Weights};
use crate::prompt::embeddings::Cut;
use crate::prompt::mixture::{self, Joined};
use crate::prompt::{Piece, pieces};
use crate::request::Emphasis;
use crate::text::clip::CLIPTextModel;
use crate::text::tokenizer::{Chunk, ClipTokenizer};
use crate::text::weighting;

/// Encoded prompts that are kept: a prompt and its negative, for a few prompts back.
const ENCODINGS_KEPT: usize = 16;

/// A prompt as the UNet takes it.
#[derive(Debug)]
pub struct Encoded {
    /// `[1, chunks * length, width]`, of two text encoders side by side.
    pub states: Tensor,
    /// What SDXL is told of the prompt as a whole, by its first chunk: `[1, projection_dim]`.
    pub pooled: Option<Tensor>,
}

impl Encoded {
    fn shallow_clone(&self) -> Self {
        Self {
            states: self.states.shallow_clone(),
            pooled: self.pooled.as_ref().map(Tensor::shallow_clone),
        }
    }

    fn zeros_like(&self) -> Result<Self> {
        Ok(Self {
            states: self.states.f_zeros_like()?,
            pooled: self.pooled.as_ref().map(Tensor::f_zeros_like).transpose()?,
        })
    }
}

/// One text, for each text encoder.
type Chunks = Vec<Vec<Chunk>>;

/// A text encoder with its tokenizer.
struct TextEncoder {
    /// Among the model's text encoders.
    place: usize,
    model: CLIPTextModel,
    tokenizer: ClipTokenizer,
}

/// Every text encoder of a model.
pub(super) struct Conditioner {
    encoders: Vec<TextEncoder>,
    family: Family,
    zeros_for_empty_prompt: bool,
    device: Device,
    embeddings: Embeddings,
    encodings: VecDeque<(String, Encoded)>,
}

impl Conditioner {
    pub fn new(files: &ModelFiles, device: Device, kind: Kind) -> Self {
        Self {
            encoders: Vec::new(),
            family: files.family,
            zeros_for_empty_prompt: files.zeros_for_empty_prompt,
            device,
            embeddings: Embeddings::new(device, kind),
            encodings: VecDeque::new(),
        }
    }

    /// Adds the next text encoder of `files`, whose weights these are.
    pub fn add(&mut self, files: &ModelFiles, part: Part, weights: &Weights) -> Result<()> {
        let encoder = TextEncoder {
            place: self.encoders.len(),
            model: files.build_encoder(part, weights)?,
            tokenizer: files.tokenizer_of(part)?,
        };
        self.embeddings.add_encoder(EncoderShape {
            part,
            width: encoder.model.config().hidden_size,
            capacity: encoder.tokenizer.capacity(),
        });
        self.encoders.push(encoder);
        Ok(())
    }

    /// Lets prompts name these embeddings; see [`Embeddings::set`].
    pub fn set_embeddings(&mut self, given: &[PathBuf], found: &[PathBuf]) -> Result<()> {
        if self.embeddings.set(given, found)? {
            self.forget();
        }
        Ok(())
    }

    /// The embeddings that prompts named since this was asked before.
    pub fn take_embeddings_read(&self) -> EmbeddingsRead {
        self.embeddings.take_read()
    }

    /// The encodings of before no longer hold: an encoder was changed.
    pub fn forget(&mut self) {
        self.encodings.clear();
    }

    /// Layers of the text encoder with the fewest.
    pub fn layers(&self) -> u32 {
        let layers = self
            .encoders
            .iter()
            .map(|encoder| encoder.model.config().num_hidden_layers);
        u32::try_from(layers.min().unwrap_or_default()).unwrap_or(u32::MAX)
    }

    /// Encodes one text of a prompt. `clip_skip`: which of the text encoders' layers is listened to,
    /// counted from the last, 1.
    ///
    /// Errors: [`crate::error::Error::Request`] where a tokenizer refuses the text.
    pub fn encode(&mut self, text: &str, emphasis: Emphasis, clip_skip: u32) -> Result<Encoded> {
        let mut mixture = Vec::new();
        // Also of a text that is known: which embeddings it names is asked anew.
        for Joined { weight, blended } in mixture::mixture(text, emphasis) {
            let chunks = blended
                .into_iter()
                .map(|it| Ok((it.share, self.chunks(&it.pieces, emphasis)?)))
                .collect::<Result<Vec<_>>>()?;
            mixture.push((weight, chunks));
        }
        let exactly = Exactly::holds();
        let key = format!("{emphasis:?}:{clip_skip}:{exactly}:{text}");
        if let Some((_, known)) = self.encodings.iter().find(|(known, _)| *known == key) {
            return Ok(known.shallow_clone());
        }
        let skip = clip_skip
            .max(self.family.least_clip_skip())
            .saturating_sub(1) as usize;
        let mut encoded = self.encode_mixture(mixture, emphasis, skip)?;
        if emphasis == Emphasis::Compel && encoded.pooled.is_some() {
            // compel is told of the prompt as a whole what was typed, its signs and all.
            let typed = self.chunks(&pieces(text, Emphasis::None), emphasis)?;
            encoded.pooled = self.encode_chunks(typed, emphasis, skip)?.pooled;
        }
        if self.encodings.len() == ENCODINGS_KEPT {
            self.encodings.pop_front();
        }
        self.encodings.push_back((key, encoded.shallow_clone()));
        Ok(encoded)
    }

    /// The chunks of one text, for each text encoder.
    fn chunks(&self, pieces: &[Piece], emphasis: Emphasis) -> Result<Chunks> {
        let of = |encoder: &TextEncoder| {
            let cut: Cut<'_> = &mut |text| self.embeddings.cut(text, emphasis);
            match emphasis {
                Emphasis::Comfyui => encoder.tokenizer.chunks_of_segments(pieces, cut),
                _ => encoder.tokenizer.chunks_with(pieces, cut),
            }
        };
        self.encoders.iter().map(of).collect()
    }

    /// Texts added up, and such sums one behind another; most prompts are one text.
    fn encode_mixture(
        &self,
        mixture: Vec<(f64, Vec<(f64, Chunks)>)>,
        emphasis: Emphasis,
        skip: usize,
    ) -> Result<Encoded> {
        let mut all = Vec::new();
        for (weight, blended) in mixture {
            let mut encoded = Vec::new();
            for (share, chunks) in blended {
                encoded.push((share, self.encode_chunks(chunks, emphasis, skip)?));
            }
            all.push((weight, encoded));
        }
        if let [(1.0, blended)] = all.as_mut_slice()
            && matches!(blended.as_slice(), [(1.0, _)])
            && let Some((_, only)) = blended.pop()
        {
            return Ok(only);
        }
        let empty = self.encode_chunks(self.chunks(&[], emphasis)?, emphasis, skip)?;
        let mut joined = Vec::new();
        for (weight, blended) in &all {
            joined.push(mixed(&empty.states, *weight, blended)?);
        }
        let first = all.first().and_then(|(_, blended)| blended.first());
        Ok(Encoded {
            states: Tensor::f_cat(&joined, 1)?,
            pooled: first.and_then(|(_, encoded)| Some(encoded.pooled.as_ref()?.shallow_clone())),
        })
    }

    /// One text.
    fn encode_chunks(&self, chunks: Chunks, emphasis: Emphasis, skip: usize) -> Result<Encoded> {
        // Two tokenizers may cut differently; the states lie side by side.
        let count = chunks.iter().map(Vec::len).max().unwrap_or_default();
        let mut states = Vec::with_capacity(self.encoders.len());
        let mut pooled = None;
        for (encoder, mut chunks) in self.encoders.iter().zip(chunks) {
            while chunks.len() < count {
                chunks.extend(encoder.tokenizer.chunks(&[])?);
            }
            let encoded = encoder.encode(&chunks, emphasis, skip, self)?;
            states.push(encoded.states);
            pooled = encoded.pooled.or(pooled);
        }
        Ok(Encoded {
            states: Tensor::f_cat(&states, -1)?,
            pooled,
        })
    }

    /// As [`Self::encode`], of a negative prompt, which is zeros for some models where it is empty.
    pub fn encode_negative(
        &mut self,
        text: &str,
        emphasis: Emphasis,
        clip_skip: u32,
    ) -> Result<Encoded> {
        let encoded = self.encode(text, emphasis, clip_skip)?;
        if self.zeros_for_empty_prompt && text.trim().is_empty() {
            return encoded.zeros_like();
        }
        Ok(encoded)
    }
}

/// Texts added up by their shares, shorter ones made longer by the empty prompt; the sum goes away from
/// the empty prompt by its weight.
fn mixed(empty: &Tensor, weight: f64, blended: &[(f64, Encoded)]) -> Result<Tensor> {
    let length = |states: &Tensor| states.size().get(1).copied().unwrap_or_default();
    let lengths = blended.iter().map(|(_, encoded)| length(&encoded.states));
    let longest = lengths.max().unwrap_or_default();
    let lengthened = |states: &Tensor| -> Result<Tensor> {
        let missing = (longest - length(states)) / length(empty).max(1);
        let mut all = vec![states];
        all.extend((0..missing).map(|_| empty));
        Ok(Tensor::f_cat(&all, 1)?)
    };
    let mut sum: Option<Tensor> = None;
    for (share, encoded) in blended {
        let part = lengthened(&encoded.states)? * *share;
        sum = Some(match sum {
            Some(sum) => sum + part,
            None => part,
        });
    }
    let nothing = lengthened(empty)?;
    let sum = sum.unwrap_or_else(|| nothing.shallow_clone());
    if weight == 1.0 {
        return Ok(sum);
    }
    Ok(&nothing + (sum - &nothing) * weight)
}

impl TextEncoder {
    fn encode(
        &self,
        chunks: &[Chunk],
        emphasis: Emphasis,
        skip: usize,
        of: &Conditioner,
    ) -> Result<Encoded> {
        let mut pooled = None;
        let mut states = |chunk: &Chunk, seen: Option<&[bool]>| -> Result<Tensor> {
            let ids = Tensor::f_from_slice(&chunk.ids)?.f_unsqueeze(0)?;
            let mut vectors = Vec::with_capacity(chunk.inserted.len());
            for place in &chunk.inserted {
                let vector = of.embeddings.vector(*place, self.place)?;
                vectors.extend(vector.map(|vector| (place.at as i64, vector)));
            }
            let ids = ids.f_to_device(of.device)?;
            let output = match seen {
                None => self.model.forward_with(&ids, &vectors)?,
                Some(seen) => self.model.forward_masked(&ids, &vectors, seen)?,
            };
            // SDXL was trained on states without the last norm.
            let layer = match of.family.is_xl() {
                true => self.model.hidden(&output, skip)?,
                false => self.model.skip_layers(&output, skip)?,
            };
            // The first chunk speaks for the whole.
            pooled = pooled.take().or(output.text_embeds);
            Ok(layer)
        };
        let empty = self.tokenizer.chunks(&[])?.remove(0);
        let states = weighting::states(chunks, emphasis, &empty, &mut states)?;
        Ok(Encoded { states, pooled })
    }
}
