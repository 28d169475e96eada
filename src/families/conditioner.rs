//! The text side of a model: prompts to what its UNet looks at, through one text encoder or two.
//!
//! Source: diffusers 0.42.1 `pipeline_stable_diffusion.py` and `pipeline_stable_diffusion_xl.py`
//! (`encode_prompt`); longer prompts and weights as AUTOMATIC1111 1.10 has them
//! (`sd_hijack_clip.py`, `sd_hijack_open_clip.py`).

use std::collections::VecDeque;
use std::path::PathBuf;

use tch::{Device, Kind, Tensor};

use super::{Embeddings, EmbeddingsRead, EncoderShape, Family, ModelFiles, Part};
use crate::error::Result;
use crate::models::layers::Weights;
use crate::prompt::{networks, pieces};
use crate::request::Emphasis;
use crate::text::clip::CLIPTextModel;
use crate::text::embeddings::Cut;
use crate::text::tokenizer::{Chunk, ClipTokenizer};

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

    /// Encodes a prompt and its negative to the same number of tokens. `clip_skip`: which of the text
    /// encoders' layers is listened to, counted from the last, 1; both prompts alike, as A1111 does.
    ///
    /// Errors: [`crate::error::Error::Request`] where a tokenizer refuses the text.
    pub fn encode_prompts(
        &mut self,
        prompt: &str,
        negative: &str,
        clip_skip: u32,
    ) -> Result<(Encoded, Encoded)> {
        let mut count = 1;
        for text in [prompt, negative] {
            for encoder in &self.encoders {
                count = count.max(encoder.chunks(text, &self.embeddings)?.len());
            }
        }
        let encoded = self.encode(prompt, count, clip_skip)?;
        let negative = if self.zeros_for_empty_prompt && negative.trim().is_empty() {
            encoded.zeros_like()?
        } else {
            self.encode(negative, count, clip_skip)?
        };
        Ok((encoded, negative))
    }

    /// A prompt's encoding, filled up with empty chunks to `count`.
    fn encode(&mut self, prompt: &str, count: usize, clip_skip: u32) -> Result<Encoded> {
        let key = format!("{count}:{clip_skip}:{prompt}");
        if let Some((_, known)) = self.encodings.iter().find(|(known, _)| *known == key) {
            return Ok(known.shallow_clone());
        }
        let mut states = Vec::with_capacity(self.encoders.len());
        let mut pooled = None;
        for encoder in &self.encoders {
            let encoded = encoder.encode(prompt, count, clip_skip, self)?;
            states.push(encoded.states);
            pooled = encoded.pooled.or(pooled);
        }
        let encoded = Encoded {
            states: Tensor::f_cat(&states, -1)?,
            pooled,
        };
        if self.encodings.len() == ENCODINGS_KEPT {
            self.encodings.pop_front();
        }
        self.encodings.push_back((key, encoded.shallow_clone()));
        Ok(encoded)
    }
}

impl TextEncoder {
    fn chunks(&self, prompt: &str, embeddings: &Embeddings) -> Result<Vec<Chunk>> {
        let pieces = pieces(&networks::without_tags(prompt), Emphasis::Original);
        let cut: Cut<'_> = &mut |text| embeddings.cut(text);
        self.tokenizer.chunks_with(&pieces, cut)
    }

    fn encode(
        &self,
        prompt: &str,
        count: usize,
        clip_skip: u32,
        of: &Conditioner,
    ) -> Result<Encoded> {
        let mut chunks = self.chunks(prompt, &of.embeddings)?;
        while chunks.len() < count {
            chunks.extend(self.tokenizer.chunks(&[])?);
        }
        let skipped = clip_skip.max(of.family.least_clip_skip()).saturating_sub(1) as usize;
        let mut states = Vec::with_capacity(count);
        let mut pooled = None;
        for Chunk {
            ids,
            weights,
            inserted,
        } in &chunks
        {
            let ids = Tensor::f_from_slice(ids)?.f_unsqueeze(0)?;
            let mut vectors = Vec::with_capacity(inserted.len());
            for place in inserted {
                let vector = of.embeddings.vector(*place, self.place)?;
                vectors.extend(vector.map(|vector| (place.at as i64, vector)));
            }
            let ids = ids.f_to_device(of.device)?;
            let output = self.model.forward_with(&ids, &vectors)?;
            // SDXL was trained on states without the last norm.
            let layer = match of.family.is_xl() {
                true => self.model.hidden(&output, skipped)?,
                false => self.model.skip_layers(&output, skipped)?,
            };
            states.push(weighted(layer, weights)?);
            pooled = pooled.or(output.text_embeds);
        }
        Ok(Encoded {
            states: Tensor::f_cat(&states, 1)?,
            pooled,
        })
    }
}

/// A1111's emphasis: each token's states times its weight, the mean of the chunk kept
/// (`sd_hijack_clip.py`, `EmphasisOriginal`). Weights of 1 change nothing at all.
fn weighted(states: Tensor, weights: &[f32]) -> Result<Tensor> {
    if weights.iter().all(|weight| *weight == 1.0) {
        return Ok(states);
    }
    let weights = Tensor::f_from_slice(weights)?
        .f_view([1, -1, 1])?
        .f_to_device(states.device())?
        .f_to_kind(states.kind())?;
    let scaled = &states * weights;
    let (before, after) = (states.mean(Kind::Float), scaled.mean(Kind::Float));
    Ok((scaled * (before / after)).f_to_kind(states.kind())?)
}
