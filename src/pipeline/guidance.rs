//! The network with everything around it that a sampler need not know: input scaling,
//! classifier-free guidance, the kind it computes in, cancellation, a check for broken values.
//!
//! Classifier-free guidance: Ho and Salimans, arXiv 2207.12598; its rescaling: Lin et al., arXiv
//! 2305.08891, section 3.4, as diffusers' `rescale_noise_cfg`; its interval: [`GuidanceInterval`].

use std::cell::Cell;

use tch::{Kind, Tensor};

use crate::error::{Error, Result};
use crate::families::Encoded;
use crate::models::unet::{Added, Conditioning, KeyValues, UNet2DConditionModel};
use crate::request::GuidanceInterval;
use crate::samplers::{Denoiser, Prediction};
use crate::schedule::{NoiseLevel, PredictionType};

/// A UNet guided by a prompt.
pub struct GuidedDenoiser<'a> {
    unet: &'a UNet2DConditionModel,
    prompt: Told,
    /// Both prompts, the negative one first, as in diffusers. `None`: the negative one is not asked.
    guided: Option<(Told, Guidance)>,
    prediction_type: PredictionType,
    kind: Kind,
    /// Steps that are done.
    step: &'a Cell<usize>,
    cancelled: &'a dyn Fn() -> bool,
    calls: usize,
}

/// How the answers to the two prompts are put together.
#[derive(Clone, Copy, Debug)]
pub struct Guidance {
    /// 1 and less: the negative prompt is not asked.
    pub scale: f64,
    /// 0: not at all; 1: to the contrast of the prompt's own answer.
    pub rescale: f64,
    /// Outside of it the prompt's own answer counts.
    pub interval: Option<GuidanceInterval>,
    /// Steps of the whole drawing.
    pub steps: usize,
    /// Ask the negative prompt whatever the scale and the interval: the sampler wants to know.
    pub both: bool,
}

impl Guidance {
    fn works_at(self, step: usize) -> bool {
        let within = |interval: GuidanceInterval| interval.contains(step, self.steps);
        self.interval.is_none_or(within)
    }

    fn apply(self, prompt: &Tensor, negative: &Tensor) -> Result<Tensor> {
        let guided = negative + (prompt - negative) * self.scale;
        if self.rescale == 0.0 {
            return Ok(guided);
        }
        // One value a picture.
        let spread = |x: &Tensor| x.f_std_dim(&[1i64, 2, 3][..], true, true);
        let factor = spread(prompt)? / spread(&guided)?;
        Ok(&guided * factor * self.rescale + guided * (1.0 - self.rescale))
    }
}

/// What the two prompts came to, and what SDXL is told of the picture's size.
pub struct PromptEmbeds<'a> {
    pub prompt: &'a Encoded,
    pub negative: &'a Encoded,
    /// For the prompt and for the negative prompt, f32 `[1, count]`.
    pub time_ids: Option<(Tensor, Tensor)>,
}

/// What the network is told at each call, for a whole batch.
struct Told {
    encoder_hidden_states: Tensor,
    key_values: KeyValues,
    text_embeds: Option<Tensor>,
    time_ids: Option<Tensor>,
    guidance_scale: f64,
}

impl Told {
    /// For `batch` pictures of each of `prompts`, with their numbers about the picture.
    fn new(prompts: &[(&Encoded, Option<&Tensor>)], batch: i64, guidance_scale: f64) -> Self {
        let repeated = |one: &Tensor| {
            let shape: Vec<i64> = one.size().iter().skip(1).copied().collect();
            one.expand([&[batch], &shape[..]].concat(), false)
        };
        let all = |tensors: Vec<&Tensor>| {
            let tensors: Vec<Tensor> = tensors.into_iter().map(repeated).collect();
            Tensor::cat(&tensors, 0)
        };
        let prompts = || prompts.iter();
        let pooled: Option<_> = prompts()
            .map(|(prompt, _)| prompt.pooled.as_ref())
            .collect();
        let ids: Option<_> = prompts().map(|(_, ids)| *ids).collect();
        Self {
            key_values: KeyValues::default(),
            encoder_hidden_states: all(prompts().map(|(prompt, _)| &prompt.states).collect()),
            text_embeds: pooled.map(all),
            time_ids: ids.map(all),
            guidance_scale,
        }
    }

    fn conditioning(&self) -> Conditioning<'_> {
        let added = self.text_embeds.as_ref().zip(self.time_ids.as_ref());
        Conditioning {
            encoder_hidden_states: &self.encoder_hidden_states,
            key_values: Some(&self.key_values),
            added: added.map(|(text_embeds, time_ids)| Added {
                text_embeds,
                time_ids,
            }),
            guidance_scale: Some(self.guidance_scale),
        }
    }
}

impl<'a> GuidedDenoiser<'a> {
    /// `batch` pictures of the same prompt. A scale of 1 or less skips the second pass, unless the
    /// sampler needs both; so does a network that takes the scale itself.
    /// `step` holds how many steps are done, `cancelled` is asked before every call of the network.
    pub fn new(
        (unet, kind, prediction_type): (&'a UNet2DConditionModel, Kind, PredictionType),
        embeds: &PromptEmbeds<'_>,
        batch: i64,
        guidance: Guidance,
        (step, cancelled): (&'a Cell<usize>, &'a dyn Fn() -> bool),
    ) -> Self {
        let distilled = unet.config().time_cond_proj_dim.is_some();
        let asks_both = (guidance.both || guidance.scale > 1.0) && !distilled;
        let ids = embeds.time_ids.as_ref();
        let prompt = (embeds.prompt, ids.map(|(prompt, _)| prompt));
        let negative = (embeds.negative, ids.map(|(_, negative)| negative));
        let told = |prompts: &[_]| Told::new(prompts, batch, guidance.scale);
        Self {
            unet,
            prompt: told(&[prompt]),
            guided: asks_both.then(|| (told(&[negative, prompt]), guidance)),
            prediction_type,
            kind,
            step,
            cancelled,
            calls: 0,
        }
    }
}

impl GuidedDenoiser<'_> {
    /// What the network says, guided, and without the prompt where it was asked.
    fn ask(&mut self, x: &Tensor, at: NoiseLevel) -> Result<(Tensor, Option<Tensor>)> {
        if (self.cancelled)() {
            return Err(Error::Cancelled);
        }
        self.calls += 1;
        let input = model_input(x, at).f_to_kind(self.kind)?;
        let batch = input.size()[0];
        let forward = |input: &Tensor, told: &Told| -> Result<Tensor> {
            let said = self.unet.forward(input, at.timestep, told.conditioning())?;
            Ok(said.f_to_kind(Kind::Float)?)
        };
        let (output, unguided) = match &self.guided {
            None => (forward(&input, &self.prompt)?, None),
            Some((_, guidance)) if !guidance.both && !guidance.works_at(self.step.get()) => {
                (forward(&input, &self.prompt)?, None)
            }
            Some((told, guidance)) => {
                let both = forward(&Tensor::f_cat(&[&input, &input], 0)?, told)?;
                let negative = both.f_narrow(0, 0, batch)?;
                let prompt = both.f_narrow(0, batch, batch)?;
                let guided = match guidance.works_at(self.step.get()) {
                    true => guidance.apply(&prompt, &negative)?,
                    false => prompt,
                };
                (guided, Some(negative))
            }
        };
        if output.f_isfinite()?.f_all()?.f_int64_value(&[])? == 0 {
            return Err(Error::NotANumber {
                when: format!("the UNet was called for the {}. time", self.calls),
                kind: self.kind,
            });
        }
        Ok((output, unguided))
    }

    fn prediction(&self, output: Tensor) -> Prediction {
        match self.prediction_type {
            PredictionType::Epsilon => Prediction::Epsilon(output),
            PredictionType::VPrediction => Prediction::V(output),
            PredictionType::Sample => Prediction::Sample(output),
        }
    }
}

impl Denoiser for GuidedDenoiser<'_> {
    fn predict(&mut self, x: &Tensor, at: NoiseLevel) -> Result<Prediction> {
        let (output, _) = self.ask(x, at)?;
        Ok(self.prediction(output))
    }

    fn predict_both(&mut self, x: &Tensor, at: NoiseLevel) -> Result<(Prediction, Prediction)> {
        let (output, unguided) = self.ask(x, at)?;
        let unguided = unguided.unwrap_or_else(|| output.shallow_clone());
        Ok((self.prediction(output), self.prediction(unguided)))
    }
}

/// `x` scaled to unit variance, which is what networks are trained on. In the
/// variance-preserving space it has that already.
fn model_input(x: &Tensor, at: NoiseLevel) -> Tensor {
    let scale = at.alpha.hypot(at.sigma);
    if (scale - 1.0).abs() < 1e-6 {
        x.shallow_clone()
    } else {
        x / scale
    }
}
