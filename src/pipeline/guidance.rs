//! The network with everything around it that a sampler need not know: input scaling,
//! classifier-free guidance, the kind it computes in, cancellation, a check for broken values.
//!
//! Classifier-free guidance: Ho and Salimans, arXiv 2207.12598.

use tch::{Kind, Tensor};

use crate::error::{Error, Result};
use crate::models::unet::UNet2DConditionModel;
use crate::samplers::{Denoiser, Prediction};
use crate::schedule::{NoiseLevel, PredictionType};

/// A UNet guided by a prompt.
pub struct GuidedDenoiser<'a> {
    unet: &'a UNet2DConditionModel,
    /// `[2 * batch, tokens, hidden]` with guidance (negative first, as in diffusers), else
    /// `[batch, tokens, hidden]`.
    encoder_hidden_states: Tensor,
    /// `None`: the negative prompt is not asked.
    guidance_scale: Option<f64>,
    prediction_type: PredictionType,
    kind: Kind,
    cancelled: &'a dyn Fn() -> bool,
    calls: usize,
}

/// What the two prompts came to, `[1, tokens, hidden]` each.
pub struct PromptEmbeds<'a> {
    pub prompt: &'a Tensor,
    pub negative: &'a Tensor,
}

impl<'a> GuidedDenoiser<'a> {
    /// `batch` pictures of the same prompt. A `guidance_scale` of 1 or less skips the second pass.
    /// `cancelled` is asked before every call of the network.
    pub fn new(
        (unet, kind, prediction_type): (&'a UNet2DConditionModel, Kind, PredictionType),
        embeds: &PromptEmbeds<'_>,
        batch: i64,
        guidance_scale: f64,
        cancelled: &'a dyn Fn() -> bool,
    ) -> Self {
        let repeated = |embeds: &Tensor| embeds.expand([batch, -1, -1], false);
        let guided = guidance_scale > 1.0;
        let encoder_hidden_states = if guided {
            Tensor::cat(&[repeated(embeds.negative), repeated(embeds.prompt)], 0)
        } else {
            repeated(embeds.prompt)
        };
        Self {
            unet,
            encoder_hidden_states,
            guidance_scale: guided.then_some(guidance_scale),
            prediction_type,
            kind,
            cancelled,
            calls: 0,
        }
    }
}

impl Denoiser for GuidedDenoiser<'_> {
    fn predict(&mut self, x: &Tensor, at: NoiseLevel) -> Result<Prediction> {
        if (self.cancelled)() {
            return Err(Error::Cancelled);
        }
        self.calls += 1;
        let input = model_input(x, at).f_to_kind(self.kind)?;
        let output = match self.guidance_scale {
            None => self
                .unet
                .forward(&input, at.timestep, &self.encoder_hidden_states)?
                .f_to_kind(Kind::Float)?,
            Some(scale) => {
                let both = self
                    .unet
                    .forward(
                        &Tensor::f_cat(&[&input, &input], 0)?,
                        at.timestep,
                        &self.encoder_hidden_states,
                    )?
                    .f_to_kind(Kind::Float)?;
                let batch = input.size()[0];
                let negative = both.f_narrow(0, 0, batch)?;
                let prompt = both.f_narrow(0, batch, batch)?;
                &negative + (prompt - &negative) * scale
            }
        };
        if output.f_isfinite()?.f_all()?.f_int64_value(&[])? == 0 {
            return Err(Error::NotANumber {
                when: format!("the UNet was called for the {}. time", self.calls),
            });
        }
        Ok(match self.prediction_type {
            PredictionType::Epsilon => Prediction::Epsilon(output),
            PredictionType::VPrediction => Prediction::V(output),
            PredictionType::Sample => Prediction::Sample(output),
        })
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
