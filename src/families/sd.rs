//! Stable Diffusion 1 and 2: a CLIP text encoder, a UNet, a VAE and a tokenizer.

use std::collections::VecDeque;
use std::path::PathBuf;

use tch::{Device, Kind, Tensor};

use super::{Attachable, Footprint, Lora, ModelFiles, Part};
use crate::error::{Error, Result};
use crate::models::layers::Weights;
use crate::models::unet::UNet2DConditionModel;
use crate::models::vae::AutoencoderKL;
use crate::prompt::{networks, pieces};
use crate::request::{Emphasis, ModelCard};
use crate::schedule::SchedulerConfig;
use crate::text::clip::CLIPTextModel;
use crate::text::tokenizer::{Chunk, ClipTokenizer};

/// Encoded prompts that are kept: a prompt and its negative, for a few prompts back.
const ENCODINGS_KEPT: usize = 16;

/// A loaded model.
pub struct StableDiffusion {
    pub card: ModelCard,
    pub device: Device,
    /// What the networks compute in.
    pub kind: Kind,
    pub scheduler: SchedulerConfig,
    pub unet: UNet2DConditionModel,
    /// Where the VAE lies that stands in for the model's own.
    pub vae_path: Option<PathBuf>,
    /// Worth knowing, not failing for.
    pub notes: Vec<String>,
    vae: AutoencoderKL,
    text_encoder: CLIPTextModel,
    tokenizer: ClipTokenizer,
    encodings: VecDeque<(String, Tensor)>,
    attachable: Attachable,
    /// Those that are attached.
    loras: Vec<Lora>,
}

impl StableDiffusion {
    /// Loads every part of `files`. `progress` is told the share done, in `[0, 1]`.
    ///
    /// Errors: [`Error::Model`], [`Error::Tensor`] naming what is missing or broken,
    /// [`Error::OutOfMemory`], [`Error::Device`].
    pub fn load(
        files: &ModelFiles,
        shipped: bool,
        device: Device,
        kind: Kind,
        progress: &mut dyn FnMut(f32),
    ) -> Result<Self> {
        let mut notes = Vec::new();
        let mut attachable = Attachable::default();
        let mut part = |part: Part, from: f32, to: f32| -> Result<Weights> {
            let mut within = |fraction: f32| progress(from + (to - from) * fraction);
            files.load(part, device, kind, &mut within)
        };
        let weights = part(Part::TextEncoder, 0.0, 0.1)?;
        let text_encoder = CLIPTextModel::new(files.text_encoder.clone(), &weights)?;
        note_unused(Part::TextEncoder, &weights, &mut notes);
        attachable.add(Part::TextEncoder, weights.adapters());
        let weights = part(Part::Vae, 0.1, 0.2)?;
        let vae = AutoencoderKL::new(files.vae.clone(), &weights)?;
        note_unused(Part::Vae, &weights, &mut notes);
        let weights = part(Part::Unet, 0.2, 1.0)?;
        let unet = UNet2DConditionModel::new(files.unet.clone(), &weights)?;
        note_unused(Part::Unet, &weights, &mut notes);
        attachable.add(Part::Unet, weights.adapters());
        Ok(Self {
            card: files.card(shipped)?,
            device,
            kind,
            scheduler: files.scheduler.clone(),
            unet,
            notes,
            vae_path: files.vae_path(),
            vae,
            text_encoder,
            tokenizer: files.tokenizer()?,
            encodings: VecDeque::new(),
            attachable,
            loras: Vec::new(),
        })
    }

    /// Draws with exactly these LoRAs from now on; the model's own weights are not touched. Returns
    /// what is worth knowing: what of a file has no place in this model.
    ///
    /// Errors: [`Error::Model`] naming the file; then no LoRA is attached.
    pub fn set_loras(&mut self, loras: &[Lora]) -> Result<Vec<String>> {
        if self.loras == loras {
            return Ok(Vec::new());
        }
        self.attachable.clear();
        self.loras.clear();
        self.encodings.clear();
        let mut notes = Vec::new();
        for lora in loras {
            match self.attachable.attach(lora, self.device, self.kind) {
                Ok(unknown) => notes.extend(unknown.first().map(|first| {
                    let (count, path) = (unknown.len(), lora.path.display());
                    format!(
                        "{count} parts of {path} have no place in this model, {first} for example"
                    )
                })),
                Err(error) => {
                    self.attachable.clear();
                    return Err(error);
                }
            }
        }
        self.loras = loras.to_vec();
        Ok(notes)
    }

    /// Encodes a prompt and its negative to the same number of tokens. `clip_skip`: which of the text
    /// encoder's layers is listened to, counted from its last, 1; both prompts alike, as A1111 does.
    ///
    /// Returns two tensors `[1, chunks * length, hidden_size]` of the model's kind.
    /// Errors: [`Error::Request`] where the tokenizer refuses the text.
    pub fn encode_prompts(
        &mut self,
        prompt: &str,
        negative: &str,
        clip_skip: u32,
    ) -> Result<(Tensor, Tensor)> {
        let read = |prompt| pieces(&networks::without_tags(prompt), Emphasis::Original);
        let chunks = self.tokenizer.chunks(&read(prompt))?;
        let negative_chunks = self.tokenizer.chunks(&read(negative))?;
        let count = chunks.len().max(negative_chunks.len());
        Ok((
            self.encode(prompt, chunks, count, clip_skip)?,
            self.encode(negative, negative_chunks, count, clip_skip)?,
        ))
    }

    /// `prompt`'s embeddings, filled up with empty chunks to `count`.
    fn encode(
        &mut self,
        prompt: &str,
        mut chunks: Vec<Chunk>,
        count: usize,
        clip_skip: u32,
    ) -> Result<Tensor> {
        let key = format!("{count}:{clip_skip}:{prompt}");
        if let Some((_, known)) = self.encodings.iter().find(|(known, _)| *known == key) {
            return Ok(known.shallow_clone());
        }
        while chunks.len() < count {
            chunks.extend(self.tokenizer.chunks(&[])?);
        }
        let mut encoded = Vec::with_capacity(count);
        for chunk in &chunks {
            let ids = Tensor::f_from_slice(&chunk.ids)?
                .f_unsqueeze(0)?
                .f_to_device(self.device)?;
            let output = self.text_encoder.forward(&ids)?;
            let skipped = clip_skip.saturating_sub(1) as usize;
            let states = self.text_encoder.skip_layers(&output, skipped)?;
            encoded.push(weighted(states, &chunk.weights)?);
        }
        let embeds = Tensor::f_cat(&encoded, 1)?;
        if self.encodings.len() == ENCODINGS_KEPT {
            self.encodings.pop_front();
        }
        self.encodings.push_back((key, embeds.shallow_clone()));
        Ok(embeds)
    }

    /// Decodes latents to pictures.
    ///
    /// `latents`: `[batch, channels, height / factor, width / factor]`, as the sampler ends.
    /// Returns f32 `[batch, 3, height, width]` in `[0, 1]` on the model's device.
    /// Errors: [`Error::NotANumber`] where the decoder overflows in half precision.
    pub fn decode(&self, latents: &Tensor) -> Result<Tensor> {
        let latents = self.unscaled(latents)?.f_to_kind(self.kind)?;
        let decoded = self.vae.decode(&latents)?.f_to_kind(Kind::Float)?;
        if decoded.f_isfinite()?.f_all()?.f_int64_value(&[])? == 0 {
            return Err(Error::NotANumber {
                when: "the picture was decoded".to_owned(),
            });
        }
        Ok((decoded / 2.0 + 0.5).f_clamp_(0.0, 1.0)?)
    }

    /// From the UNet's latents to the VAE's (diffusers' pipelines: scaling in all, shift, mean and
    /// deviation in the later ones).
    fn unscaled(&self, latents: &Tensor) -> Result<Tensor> {
        let config = self.vae.config();
        let by_channel = |values: &[f64]| -> Result<Tensor> {
            Ok(Tensor::f_from_slice(values)?
                .f_view([1, -1, 1, 1])?
                .f_to_kind(Kind::Float)?
                .f_to_device(self.device)?)
        };
        if let (Some(mean), Some(std)) = (&config.latents_mean, &config.latents_std) {
            let scaled = latents * (by_channel(std)? / config.scaling_factor);
            return Ok(scaled + by_channel(mean)?);
        }
        let scaled = latents / config.scaling_factor;
        Ok(match config.shift_factor {
            Some(shift) => scaled + shift,
            None => scaled,
        })
    }

    /// What a drawing of this size takes beside the weights.
    pub fn footprint(&self, width_px: u32, height_px: u32, batch: usize) -> Footprint {
        let vae = self.vae.config();
        Footprint {
            batch: batch as u64,
            width_px: u64::from(width_px),
            height_px: u64::from(height_px),
            latent_factor: u64::from(self.card.latent_factor),
            unet_channels: self.unet.config().first_channels.unsigned_abs(),
            vae_channels: vae
                .block_out_channels
                .first()
                .map_or(1, |c| c.unsigned_abs()),
            bytes_a_value: self.kind.elt_size_in_bytes() as u64,
        }
    }

    /// Layers of the text encoder.
    pub fn text_layers(&self) -> u32 {
        u32::try_from(self.text_encoder.config().num_hidden_layers).unwrap_or(u32::MAX)
    }

    /// Channels of the latents.
    pub fn latent_channels(&self) -> i64 {
        self.vae.config().latent_channels
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

fn note_unused(part: Part, weights: &Weights, notes: &mut Vec<String>) {
    let unused = weights.unused();
    if let Some(first) = unused.first() {
        notes.push(format!(
            "{} tensors of the {} were not used, {first} for example",
            unused.len(),
            part.words()
        ));
    }
}
