//! The network with everything around it that a sampler need not know: input scaling,
//! classifier-free guidance, the kind it computes in, cancellation, a check for broken values.
//!
//! Classifier-free guidance: Ho and Salimans, arXiv 2207.12598; its rescaling: Lin et al., arXiv
//! 2305.08891, section 3.4, as diffusers' `rescale_noise_cfg`; its interval: [`GuidanceInterval`].

use std::cell::Cell;

use tch::{Kind, Tensor};

use super::conditioning::{BatchConditions, Told};
use crate::error::{Error, Result};
use crate::families::StableDiffusion;
use crate::models::unet::UNet2DConditionModel;
use crate::request::GuidanceInterval;
use crate::samplers::{Denoiser, Prediction};
use crate::schedule::{NoiseLevel, PredictionType};

/// A UNet guided by prompts.
pub struct GuidedDenoiser<'a> {
    unet: &'a UNet2DConditionModel,
    conditions: &'a BatchConditions,
    /// `None`: the negative prompt is not asked.
    guidance: Option<Guidance>,
    /// What the network was told last, and the key that it holds for.
    told: (Vec<usize>, Vec<Told>),
    prediction_type: PredictionType,
    kind: Kind,
    /// Steps that are done.
    step: &'a Cell<usize>,
    cancelled: &'a dyn Fn() -> bool,
    calls: usize,
}

/// How the answers to the prompts are put together.
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

    fn apply(self, own: &Tensor, guided: Tensor) -> Result<Tensor> {
        if self.rescale == 0.0 {
            return Ok(guided);
        }
        // One value a picture.
        let spread = |x: &Tensor| x.f_std_dim(&[1i64, 2, 3][..], true, true);
        let factor = spread(own)? / spread(&guided)?;
        Ok(&guided * factor * self.rescale + guided * (1.0 - self.rescale))
    }
}

/// The answers for one batch, each f32 `[batch, channels, height, width]`.
struct Answers<'a> {
    negative: Option<Tensor>,
    /// Of each part of the prompts.
    parts: Vec<Tensor>,
    conditions: &'a BatchConditions,
}

impl Answers<'_> {
    /// The parts put together: from `base` towards each part by its weight times `scale`.
    ///
    /// Source: A1111 `modules/sd_samplers_cfg_denoiser.py` (`combine_denoised`), which does the same to
    /// the foreseen pictures; Liu et al., arXiv 2206.01714.
    fn together(&self, base: &Tensor, scale: f64) -> Result<Tensor> {
        let mut together = base.shallow_clone();
        for (index, part) in self.parts.iter().enumerate() {
            let weights = self.conditions.weights(index);
            let first = weights.first().copied().unwrap_or(1.0);
            let towards = part - base;
            together = if weights.iter().all(|weight| *weight == first) {
                together + towards * (first * scale)
            } else {
                let weights = Tensor::f_from_slice(&weights)?
                    .f_view([-1, 1, 1, 1])?
                    .f_to_device(base.device())?
                    .f_to_kind(Kind::Float)?;
                together + towards * weights * scale
            };
        }
        Ok(together)
    }

    /// What the prompts say without the negative one: the first part, and from it to the others.
    fn own(&self) -> Result<Tensor> {
        match self.parts.as_slice() {
            [only] => Ok(only.shallow_clone()),
            [first, ..] => self.together(first, 1.0),
            [] => Err(Error::Panic {
                details: "a picture has no prompt".to_owned(),
            }),
        }
    }
}

impl<'a> GuidedDenoiser<'a> {
    /// A scale of 1 or less skips the negative prompt, unless the sampler needs both or several prompts
    /// are put together; so does a network that takes the scale itself.
    /// `step` holds how many steps are done, `cancelled` is asked before every call of the network.
    pub fn new(
        model: &'a StableDiffusion,
        conditions: &'a BatchConditions,
        guidance: Guidance,
        (step, cancelled): (&'a Cell<usize>, &'a dyn Fn() -> bool),
    ) -> Self {
        let distilled = model.unet.config().time_cond_proj_dim.is_some();
        let asks = guidance.both || guidance.scale > 1.0 || conditions.composes();
        Self {
            unet: &model.unet,
            conditions,
            guidance: (asks && !distilled).then_some(guidance),
            told: (Vec::new(), Vec::new()),
            prediction_type: model.scheduler.prediction_type,
            kind: model.kind,
            step,
            cancelled,
            calls: 0,
        }
    }
}

impl<'a> GuidedDenoiser<'a> {
    /// Counts on from the calls of another one, which prompts that change go by.
    pub fn go_on_from(&mut self, before: &Self) {
        self.calls = self.calls.max(before.calls);
    }

    /// What the network says, guided, and without the prompt where it was asked.
    fn ask(&mut self, x: &Tensor, at: NoiseLevel) -> Result<(Tensor, Option<Tensor>)> {
        if (self.cancelled)() {
            return Err(Error::Cancelled);
        }
        let step = self.step.get();
        let asked = self
            .guidance
            .filter(|guidance| guidance.both || guidance.works_at(step));
        let answers = self.answers(x, at, asked.is_some())?;
        self.calls += 1;
        let (output, unguided) = match (asked, answers.negative.as_ref()) {
            (Some(guidance), Some(negative)) if guidance.works_at(step) => {
                // 1 and less is no guidance, as in diffusers.
                let scale = match guidance.scale > 1.0 || guidance.both {
                    true => guidance.scale,
                    false => 1.0,
                };
                let guided = answers.together(negative, scale)?;
                let own = match guidance.rescale == 0.0 {
                    true => guided.shallow_clone(),
                    false => answers.own()?,
                };
                (guidance.apply(&own, guided)?, answers.negative)
            }
            _ => (answers.own()?, answers.negative),
        };
        if output.f_isfinite()?.f_all()?.f_int64_value(&[])? == 0 {
            return Err(Error::NotANumber {
                when: format!("the UNet was called for the {}. time", self.calls),
                kind: self.kind,
            });
        }
        Ok((output, unguided))
    }

    /// Asks the network for each text that counts at this call.
    fn answers(&mut self, x: &Tensor, at: NoiseLevel, with_negative: bool) -> Result<Answers<'a>> {
        let key = self.conditions.key(self.calls, with_negative);
        if self.told.0 != key {
            self.told = (key, self.conditions.told(self.calls, with_negative)?);
        }
        let input = model_input(x, at).f_to_kind(self.kind)?;
        let batch = input.size()[0];
        let mut said = Vec::new();
        let mut order = Vec::new();
        for told in &self.told.1 {
            let pictures = Tensor::f_from_slice(&told.pictures)?.f_to_device(input.device())?;
            let input = input.f_index_select(0, &pictures)?;
            let answer = self
                .unet
                .forward(&input, at.timestep, told.conditioning())?;
            said.push(answer.f_to_kind(Kind::Float)?);
            order.extend(told.rows.iter().copied());
        }
        let mut said = Tensor::f_cat(&said, 0)?;
        if self.told.1.len() > 1 {
            let places = Tensor::f_from_slice(&order)?.f_argsort(0, false)?;
            said = said.f_index_select(0, &places.f_to_device(said.device())?)?;
        }
        let mut answers = said.f_split(batch, 0)?;
        let negative = with_negative.then(|| answers.remove(0));
        Ok(Answers {
            negative,
            parts: answers,
            conditions: self.conditions,
        })
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
