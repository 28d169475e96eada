//! The network with everything around it that a sampler need not know: input scaling,
//! classifier-free guidance, the kind it computes in, cancellation, a check for broken values.
//!
//! Classifier-free guidance: Ho and Salimans, arXiv 2207.12598; its rescaling: Lin et al., arXiv
//! 2305.08891, section 3.4, as diffusers' `rescale_noise_cfg`; its interval: [`GuidanceInterval`].

use std::cell::Cell;

use tch::{Kind, Tensor};

use crate::error::{Error, Result};
use crate::models::unet::UNet2DConditionModel;
use crate::request::GuidanceInterval;
use crate::samplers::{Denoiser, Prediction};
use crate::schedule::{NoiseLevel, PredictionType};

/// A UNet guided by a prompt.
pub struct GuidedDenoiser<'a> {
    unet: &'a UNet2DConditionModel,
    /// `[2 * batch, tokens, hidden]` with guidance (negative first, as in diffusers), else
    /// `[batch, tokens, hidden]`.
    encoder_hidden_states: Tensor,
    /// `None`: the negative prompt is not asked.
    guidance: Option<Guidance>,
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

/// What the two prompts came to, `[1, tokens, hidden]` each.
pub struct PromptEmbeds<'a> {
    pub prompt: &'a Tensor,
    pub negative: &'a Tensor,
}

impl<'a> GuidedDenoiser<'a> {
    /// `batch` pictures of the same prompt. A scale of 1 or less skips the second pass, unless the
    /// sampler needs both.
    /// `step` holds how many steps are done, `cancelled` is asked before every call of the network.
    pub fn new(
        (unet, kind, prediction_type): (&'a UNet2DConditionModel, Kind, PredictionType),
        embeds: &PromptEmbeds<'_>,
        batch: i64,
        guidance: Guidance,
        (step, cancelled): (&'a Cell<usize>, &'a dyn Fn() -> bool),
    ) -> Self {
        let repeated = |embeds: &Tensor| embeds.expand([batch, -1, -1], false);
        let guided = guidance.both || guidance.scale > 1.0;
        let encoder_hidden_states = if guided {
            Tensor::cat(&[repeated(embeds.negative), repeated(embeds.prompt)], 0)
        } else {
            repeated(embeds.prompt)
        };
        Self {
            unet,
            encoder_hidden_states,
            guidance: guided.then_some(guidance),
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
        let states = &self.encoder_hidden_states;
        let forward = |input: &Tensor, states: &Tensor| -> Result<Tensor> {
            let said = self.unet.forward(input, at.timestep, states)?;
            Ok(said.f_to_kind(Kind::Float)?)
        };
        let (output, unguided) = match self.guidance {
            None => (forward(&input, states)?, None),
            Some(guidance) if !guidance.both && !guidance.works_at(self.step.get()) => {
                (forward(&input, &states.f_narrow(0, batch, batch)?)?, None)
            }
            Some(guidance) => {
                let both = forward(&Tensor::f_cat(&[&input, &input], 0)?, states)?;
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
