//! One job from a plan to its pictures: noise, denoising, decoding, enlarging.

use std::cell::{Cell, RefCell};
use std::ops::Range;

use tch::{Kind, Tensor};

use super::conditioning::{BatchConditions, Conditions};
use super::guidance::{Guidance, GuidedDenoiser};
use super::picture::pixels_from_tensor;
use super::plan::GenerationPlan;
use super::previews::Previews;
use super::refined::Refined;
use super::upscale::Upscaler;
use crate::error::{Error, Result};
use crate::families::{EmbeddingsRead, StableDiffusion};
use crate::request::{Pixels, Stage};
use crate::samplers::{self, Run, Seeds, Step};

/// Who wants to know, and may stop it. Called on the drawing thread.
pub trait Watcher {
    /// Asked before every call of the UNet and every tile of the upscaler.
    fn cancelled(&self) -> bool;
    /// Whether nobody will look at what a cancelled job reached.
    fn closing(&self) -> bool;
    /// Whether previews are wanted.
    fn wants_previews(&self) -> bool;
    /// The prompts of the next batch are read, and named these embeddings.
    fn prompts_read(&mut self, _read: EmbeddingsRead) {}
    /// The pictures `batch` of the job enter a stage.
    fn stage(&mut self, batch: Range<usize>, stage: Stage);
    /// `step` of the plan's steps are done for `batch`.
    fn step(&mut self, batch: Range<usize>, step: usize);
    /// The pictures `batch` as they look after `step`.
    fn preview(&mut self, batch: Range<usize>, step: usize, pictures: Vec<Pixels>);
    /// A picture is drawn. An error ends the job.
    fn drawn(&mut self, drawn: Drawn) -> Result<()>;
}

/// A picture that is finished, or was reached when the job was cancelled.
#[derive(Debug)]
pub struct Drawn {
    /// In the job.
    pub index: usize,
    pub pixels: Pixels,
    /// f32 `[1, channels, h, w]` on the CPU, as the sampler ended.
    pub latents: Tensor,
    /// Steps reached, where it was cancelled.
    pub cancelled_after: Option<usize>,
}

/// Draws all pictures of `plan`.
///
/// Errors: [`Error::Cancelled`] after what was reached went to [`Watcher::drawn`]; otherwise
/// whatever stopped the drawing. Pictures that were finished before stay finished.
pub fn generate(
    model: &mut StableDiffusion,
    plan: &GenerationPlan,
    upscaler: Option<&Upscaler>,
    watcher: &mut dyn Watcher,
) -> Result<()> {
    let _no_grad = tch::no_grad_guard();
    watcher.stage(
        0..plan.batch_size.min(plan.seeds.len()),
        Stage::ReadingPrompt,
    );
    for batch in plan.batches() {
        let first = conditions(model, plan, &batch)?;
        let conditions = ModelConditions {
            first,
            refiner: match model.refiner.as_deref_mut() {
                Some(refiner) => Some(encoded(refiner, plan, &batch)?),
                None => None,
            },
        };
        watcher.prompts_read(model.take_embeddings_read());
        let job = BatchJob {
            model,
            plan,
            upscaler,
            batch,
        };
        job.draw(&conditions, watcher)?;
    }
    Ok(())
}

/// Encodes the prompts of a batch, with the LoRAs that they name.
fn conditions(
    model: &mut StableDiffusion,
    plan: &GenerationPlan,
    batch: &Range<usize>,
) -> Result<BatchConditions> {
    if let Some(loras) = &plan.prompts(batch.start).loras {
        // What LoRAs take is missed once they are there, as those of the first pictures may be already. With
        // no new ones nothing is asked: what is free later lacks what this drawing took itself.
        let are_new = batch.start == 0 || !(loras.is_empty() || model.has_loras(loras));
        for note in model.set_loras(loras)? {
            log::info!("{note}");
        }
        if are_new && let Err(error) = plan.make_room(model) {
            // Their copies of layers took it: the next drawing has it back.
            model.set_loras(&[])?;
            return Err(error);
        }
    }
    encoded(model, plan, batch)
}

/// Encodes the prompts of a batch.
fn encoded(
    model: &mut StableDiffusion,
    plan: &GenerationPlan,
    batch: &Range<usize>,
) -> Result<BatchConditions> {
    let _keep = model.encoding();
    // One encoding serves pictures that share a prompt.
    let pictures = batch
        .clone()
        .map(|index| Conditions::new(model, plan, plan.prompts(index)));
    Ok(BatchConditions {
        pictures: pictures.collect::<Result<_>>()?,
        time_ids: model.time_ids(plan.width_px, plan.height_px, &plan.hints)?,
        guidance_scale: plan.guidance_scale,
    })
}

/// The prompts as each of the models takes them.
struct ModelConditions {
    first: BatchConditions,
    refiner: Option<BatchConditions>,
}

/// Pictures that are drawn together.
struct BatchJob<'a> {
    model: &'a StableDiffusion,
    plan: &'a GenerationPlan,
    upscaler: Option<&'a Upscaler>,
    batch: Range<usize>,
}

/// What the last step foresaw, kept for a cancel.
struct Reached {
    step: usize,
    denoised: Tensor,
}

impl BatchJob<'_> {
    fn draw(&self, conditions: &ModelConditions, watcher: &mut dyn Watcher) -> Result<()> {
        watcher.stage(self.batch.clone(), Stage::Drawing);
        let mut reached = None;
        match self.denoise(conditions, watcher, &mut reached) {
            Ok(latents) => self.finish(&latents, None, watcher),
            Err(Error::Cancelled) => {
                if let Some(Reached { step, denoised }) = reached
                    && !watcher.closing()
                {
                    self.finish(&denoised, Some(step), watcher)?;
                }
                Err(Error::Cancelled)
            }
            Err(error) => Err(error),
        }
    }

    fn denoise(
        &self,
        conditions: &ModelConditions,
        watcher: &mut dyn Watcher,
        reached: &mut Option<Reached>,
    ) -> Result<Tensor> {
        let (model, plan) = (self.model, self.plan);
        let pictures: Vec<_> = self.batch.clone().map(|index| plan.seed(index)).collect();
        let mut noise = samplers::noise_source(Seeds {
            pictures: &pictures,
            latent_factor: model.card.latent_factor,
            sigmas: plan.schedule.sigma_ends(),
        });
        let factor = i64::from(model.card.latent_factor.max(1));
        let shape = [
            pictures.len() as i64,
            model.latent_channels(),
            i64::from(plan.height_px) / factor,
            i64::from(plan.width_px) / factor,
        ];
        let like = Tensor::f_zeros(shape, (Kind::Float, model.device))?;
        let latents = noise.sample(&like)? * plan.schedule.init_noise_sigma;
        // Two closures look at the watcher; never at the same time.
        let watcher = RefCell::new(watcher);
        let cancelled = || watcher.borrow().cancelled();
        let steps_done = Cell::new(0);
        let guidance = Guidance {
            scale: plan.guidance_scale,
            rescale: plan.guidance_rescale,
            interval: plan.guidance_interval,
            steps: plan.steps,
            both: plan.sampler.needs_unguided(),
        };
        let guided = |model, conditions| {
            GuidedDenoiser::new(model, conditions, guidance, (&steps_done, &cancelled))
        };
        let refiner = model.refiner.as_deref().zip(conditions.refiner.as_ref());
        let mut denoiser = Refined {
            first: guided(model, &conditions.first),
            refiner: refiner
                .map(|(refiner, own)| (plan.steps_before_refiner, guided(refiner, own))),
            step: &steps_done,
        };
        let mut previews = Previews::start(watcher.borrow().wants_previews());
        let mut on_step = |step: Step<'_>| -> Result<()> {
            let done = step.index + 1;
            steps_done.set(done);
            *reached = Some(Reached {
                step: done,
                denoised: step.denoised.shallow_clone(),
            });
            let mut watcher = watcher.borrow_mut();
            watcher.step(self.batch.clone(), done);
            if done < step.count
                && let Some(pictures) = previews.show(model, step.denoised)?
            {
                watcher.preview(self.batch.clone(), done, pictures);
            }
            Ok(())
        };
        let run = Run {
            denoiser: &mut denoiser,
            schedule: &plan.schedule,
            noise: noise.as_mut(),
            on_step: &mut on_step,
        };
        samplers::sample(plan.sampler, run, latents)
    }

    /// Decodes, enlarges and hands over one picture after another: the decoder's memory is the
    /// largest of all, so it never sees more than one.
    fn finish(
        &self,
        latents: &Tensor,
        cancelled_after: Option<usize>,
        watcher: &mut dyn Watcher,
    ) -> Result<()> {
        let mut interrupted = false;
        // Who cancels does not wait for a picture to be enlarged that was never finished.
        let upscaler = self.upscaler.filter(|_| cancelled_after.is_none());
        for (offset, index) in self.batch.clone().enumerate() {
            if cancelled_after.is_some() && watcher.closing() {
                break;
            }
            let latents = latents.f_narrow(0, offset as i64, 1)?;
            watcher.stage(index..index + 1, Stage::Decoding);
            let mut picture = self.model.decode(&latents)?;
            if let Some(upscaler) = upscaler.filter(|_| !interrupted) {
                watcher.stage(index..index + 1, Stage::Enlarging);
                match upscaler.enlarge(&picture, &|_| watcher.cancelled()) {
                    Ok(enlarged) => picture = enlarged,
                    // The batch is drawn to its end: it is shown as it is.
                    Err(Error::Cancelled) if !watcher.closing() => interrupted = true,
                    Err(error) => return Err(error),
                }
            }
            if cancelled_after.is_none() {
                watcher.stage(index..index + 1, Stage::Saving);
            }
            for pixels in pixels_from_tensor(&picture)? {
                watcher.drawn(Drawn {
                    index,
                    pixels,
                    latents: latents
                        .f_to_device(tch::Device::Cpu)?
                        .f_to_kind(Kind::Float)?,
                    cancelled_after: cancelled_after.or(interrupted.then_some(self.plan.steps)),
                })?;
            }
        }
        if interrupted {
            return Err(Error::Cancelled);
        }
        Ok(())
    }
}
