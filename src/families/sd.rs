//! Stable Diffusion 1, 2 and XL: text encoders, a UNet and a VAE.

use std::path::PathBuf;

use tch::{Device, Kind, Tensor};

use super::{
    Attachable, Conditioner, Decoder, EmbeddingsRead, Encoded, Family, Footprint, Lora, ModelFiles,
    Part, check_room, leave_free, room_for_weights,
};
use crate::checkpoint::GoOn;
use crate::error::{Error, Result};
use crate::files::Print;
use crate::models::layers::{Budget, KeepConverted, Weights};
use crate::models::unet::UNet2DConditionModel;
use crate::request::{Emphasis, ModelCard, PictureHints};
use crate::schedule::SchedulerConfig;

/// How beautiful a picture SDXL's refiner is told that it is, and its opposite: diffusers' defaults.
const AESTHETIC_SCORE: f64 = 6.0;
const NEGATIVE_AESTHETIC_SCORE: f64 = 2.5;

/// A loaded model.
pub struct StableDiffusion {
    pub card: ModelCard,
    pub family: Family,
    pub device: Device,
    /// What the networks compute in.
    pub kind: Kind,
    pub scheduler: SchedulerConfig,
    pub unet: UNet2DConditionModel,
    /// Where the UNet and the VAE lie that stand in for the model's own.
    pub unet_path: Option<PathBuf>,
    pub vae_path: Option<PathBuf>,
    /// Worth knowing, not failing for.
    pub notes: Vec<String>,
    /// Whether it was trained to draw in a few steps.
    pub is_distilled: bool,
    /// The model that draws the last steps.
    pub refiner: Option<Box<StableDiffusion>>,
    /// What drawing with it takes that Easel does not do.
    pub needs: Option<String>,
    pub decoder: Decoder,
    conditioner: Conditioner,
    /// How many numbers about the picture the UNet takes.
    time_ids: Option<i64>,
    attachable: Attachable,
    /// The UNet's memory for converted weights.
    room: Budget,
    /// Those that are attached, and how their files were then.
    loras: Vec<(Lora, Option<Print>)>,
}

impl StableDiffusion {
    /// Loads every part of `files`. `progress` is told the share done, in `[0, 1]`.
    ///
    /// Errors: [`crate::error::Error::Model`], [`crate::error::Error::Tensor`] naming what is missing or broken,
    /// [`crate::error::Error::OutOfMemory`], [`crate::error::Error::Device`]; what `progress` answers.
    pub fn load<G: GoOn>(
        files: &ModelFiles,
        shipped: bool,
        device: Device,
        kind: Kind,
        progress: &mut dyn FnMut(f32) -> G,
    ) -> Result<Self> {
        /// Of the time that loading takes, that of the text encoders; the VAE's is the same.
        const TEXT_SHARE: f32 = 0.1;
        let needs = files.needs();
        let mut notes: Vec<String> = needs
            .iter()
            .map(|needs| format!("This model cannot draw yet: {needs}"))
            .collect();
        let mut attachable = Attachable::default();
        let mut part = |part: Part, from: f32, to: f32| -> Result<Weights> {
            let mut within = |fraction: f32| progress(from + (to - from) * fraction);
            let kind = match part {
                Part::Vae => Decoder::kind(files, kind),
                Part::Unet | Part::TextEncoder | Part::TextEncoder2 => kind,
            };
            files.load(part, device, kind, &mut within)
        };
        let mut conditioner = Conditioner::new(files, device, kind);
        let mut done = 0.0;
        for encoder in files.text_encoders.keys().copied() {
            let share = TEXT_SHARE / files.text_encoders.len() as f32;
            let weights = part(encoder, done, done + share)?;
            done += share;
            conditioner.add(files, encoder, &weights)?;
            note_unused(encoder, &weights, &mut notes);
            attachable.add(encoder, weights.adapters());
        }
        let weights = part(Part::Vae, TEXT_SHARE, 2.0 * TEXT_SHARE)?;
        let decoder = Decoder::new(files, &weights, device, kind)?;
        note_unused(Part::Vae, &weights, &mut notes);
        let weights = part(Part::Unet, 2.0 * TEXT_SHARE, 1.0)?;
        let unet = UNet2DConditionModel::new(files.unet.clone(), &weights)?;
        note_unused(Part::Unet, &weights, &mut notes);
        attachable.add(Part::Unet, weights.adapters());
        Ok(Self {
            card: files.card(shipped)?,
            family: files.family,
            device,
            kind,
            scheduler: files.scheduler.clone(),
            unet,
            room: weights.room(),
            notes,
            unet_path: files.unet_path(),
            vae_path: files.vae_path(),
            is_distilled: files.family.is_distilled(&files.unet, &files.scheduler),
            refiner: None,
            needs,
            decoder,
            conditioner,
            time_ids: files.time_ids(),
            attachable,
            loras: Vec::new(),
        })
    }

    /// Draws with exactly these LoRAs from now on; the model's own weights are not touched. Returns
    /// what is worth knowing: what of a file has no place in this model.
    ///
    /// Errors: [`crate::error::Error::AddOn`] naming the file; then no LoRA is attached.
    pub fn set_loras(&mut self, loras: &[Lora]) -> Result<Vec<String>> {
        let wanted = as_they_are(loras);
        if self.loras == wanted {
            return Ok(Vec::new());
        }
        self.attachable.clear();
        self.loras.clear();
        self.conditioner.forget();
        let mut notes = Vec::new();
        let is_cuda = self.device.is_cuda();
        let make_room = |bytes: u64| match is_cuda {
            true => Ok(()),
            false => check_room(bytes).map(|()| leave_free(bytes, self.rooms())),
        };
        for lora in loras {
            match self
                .attachable
                .attach(lora, self.device, self.kind, &make_room)
            {
                Ok(unknown) => notes.extend(unknown.first().map(|first| {
                    let (count, path) = (unknown.len(), lora.path.display());
                    format!(
                        "{count} parts of {path} have no place in this model, {first} for example"
                    )
                })),
                Err(error) => {
                    self.attachable.clear();
                    return Err(error.of_add_on("LoRA"));
                }
            }
        }
        self.loras = wanted;
        Ok(notes)
    }

    /// Whether it draws with exactly these LoRAs, as their files are now.
    pub fn has_loras(&self, loras: &[Lora]) -> bool {
        self.loras == as_they_are(loras)
    }

    /// Lets prompts name these embeddings from now on: those `given` by their path, then those `found`.
    ///
    /// Errors: [`crate::error::Error::AddOn`] where a given file is none.
    pub fn set_embeddings(&mut self, given: &[PathBuf], found: &[PathBuf]) -> Result<()> {
        if let Some(refiner) = &mut self.refiner {
            refiner.set_embeddings(given, found)?;
        }
        self.conditioner.set_embeddings(given, found)
    }

    /// The embeddings that prompts named since this was asked before.
    pub fn take_embeddings_read(&self) -> EmbeddingsRead {
        self.conditioner.take_embeddings_read()
    }

    /// While it is held, the text encoders' weights stay converted, as far as there is room: for the texts
    /// of a picture, one after another.
    pub fn encoding(&self) -> KeepConverted {
        KeepConverted::within(room_for_weights())
    }

    /// Encodes one text of a prompt, without `<lora:...>`, `AND` and editing. `clip_skip`: which of the
    /// text encoders' layers is listened to, counted from the last, 1.
    ///
    /// Errors: [`crate::error::Error::Request`] where the tokenizer refuses the text.
    pub fn encode(&mut self, text: &str, emphasis: Emphasis, clip_skip: u32) -> Result<Encoded> {
        self.conditioner.encode(text, emphasis, clip_skip)
    }

    /// As [`Self::encode`], of a negative prompt, which is zeros for some models where it is empty.
    pub fn encode_negative(
        &mut self,
        text: &str,
        emphasis: Emphasis,
        clip_skip: u32,
    ) -> Result<Encoded> {
        self.conditioner.encode_negative(text, emphasis, clip_skip)
    }

    /// The numbers about a picture of this size that SDXL takes, f32 `[1, count]`, for the prompt and
    /// for the negative prompt: the size of the original, where it was cropped, and the size it is to
    /// have, or for the refiner how beautiful it is.
    ///
    /// Source: diffusers 0.42.1 `_get_add_time_ids`.
    pub fn time_ids(
        &self,
        width_px: u32,
        height_px: u32,
        hints: &PictureHints,
    ) -> Result<Option<(Tensor, Tensor)>> {
        let Some(count) = self.time_ids else {
            return Ok(None);
        };
        let drawn = [width_px, height_px];
        // They go down before they go across.
        let numbers = |[across, down]: [u32; 2]| [f64::from(down), f64::from(across)];
        let ids = |score: f64| -> Result<Tensor> {
            let original = numbers(hints.original_size.unwrap_or(drawn));
            let crop = numbers(hints.crop.unwrap_or_default());
            let target = numbers(hints.target_size.unwrap_or(drawn));
            let last = if count == 5 { &[score][..] } else { &target };
            let all = [&original[..], &crop, last].concat();
            let ids = Tensor::f_from_slice(&all)?.f_unsqueeze(0)?;
            Ok(ids.f_to_kind(Kind::Float)?.f_to_device(self.device)?)
        };
        let score = hints.aesthetic_score.unwrap_or(AESTHETIC_SCORE);
        let negative = hints
            .negative_aesthetic_score
            .unwrap_or(NEGATIVE_AESTHETIC_SCORE);
        Ok(Some((ids(score)?, ids(negative)?)))
    }

    /// Lets another model draw the last steps, or none.
    ///
    /// Errors: [`Error::Model`] naming it where it cannot go on with what this one begins.
    pub fn set_refiner(&mut self, refiner: Option<StableDiffusion>) -> Result<()> {
        self.refiner = None;
        let Some(refiner) = refiner else {
            return Ok(());
        };
        let path = refiner.card.path.clone().unwrap_or_default();
        if let Some(needs) = &refiner.needs {
            return Err(Error::model(path, needs));
        }
        let same = (
            refiner.family.is_xl(),
            refiner.latent_channels(),
            refiner.card.latent_factor,
        ) == (
            self.family.is_xl(),
            self.latent_channels(),
            self.card.latent_factor,
        );
        if !same {
            return Err(Error::model(
                path,
                format!(
                    "it is {}, whose latents are not those of {}: it cannot go on with them",
                    refiner.card.family, self.card.family
                ),
            ));
        }
        self.refiner = Some(Box::new(refiner));
        Ok(())
    }

    /// As [`Decoder::decode`].
    pub fn decode(&self, latents: &Tensor) -> Result<Tensor> {
        self.decoder.decode(latents)
    }

    /// Refuses a drawing of this size that cannot fit into the machine's free memory beside the weights. Of
    /// those, no more are kept converted from now on than fit beside it.
    ///
    /// Errors: [`Error::OutOfMemory`].
    pub fn make_room(&self, width_px: u32, height_px: u32, batch: usize) -> Result<()> {
        // A card's memory is another one, and libtorch says when it is full.
        if self.device.is_cuda() {
            return Ok(());
        }
        let footprint = self.footprint(width_px, height_px, batch);
        footprint.check()?;
        leave_free(footprint.bytes(), self.rooms());
        Ok(())
    }

    fn rooms(&self) -> impl Iterator<Item = &Budget> {
        let refiner = self.refiner.as_ref().map(|refiner| &refiner.room);
        std::iter::once(&self.room).chain(refiner)
    }

    /// What a drawing of this size takes beside the weights.
    fn footprint(&self, width_px: u32, height_px: u32, batch: usize) -> Footprint {
        Footprint {
            batch: batch as u64,
            width_px: u64::from(width_px),
            height_px: u64::from(height_px),
            latent_factor: u64::from(self.card.latent_factor),
            unet_channels: self.unet.config().first_channels.unsigned_abs(),
            vae_channels: self.decoder.first_channels().unsigned_abs(),
            bytes_a_value: self.kind.elt_size_in_bytes() as u64,
        }
    }

    /// Layers of the text encoder with the fewest.
    pub fn text_layers(&self) -> u32 {
        self.conditioner.layers()
    }

    /// Channels of the latents.
    pub fn latent_channels(&self) -> i64 {
        self.decoder.config().latent_channels
    }
}

/// LoRAs and how their files are now.
fn as_they_are(loras: &[Lora]) -> Vec<(Lora, Option<Print>)> {
    let print = |lora: &Lora| (lora.clone(), Print::of(&lora.path).ok());
    loras.iter().map(print).collect()
}

fn note_unused(part: Part, weights: &Weights, notes: &mut Vec<String>) {
    let unused = weights.unused();
    if let [only] = unused.as_slice() {
        notes.push(format!(
            "The tensor {only} of the {} was not used",
            part.words()
        ));
    } else if let Some(first) = unused.first() {
        notes.push(format!(
            "{} tensors of the {} were not used, {first} for example",
            unused.len(),
            part.words()
        ));
    }
}
