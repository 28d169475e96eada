//! What a request means for one model: every open question answered once, everything checked.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::PathBuf;

use super::prompts::PicturePrompts;
use crate::error::{Error, Result};
use crate::families::{Family, Lora, StableDiffusion};
use crate::output;
use crate::prompt::template::{self, Lists};
use crate::request::{
    Emphasis, GenerationRequest, GuidanceInterval, LoraChoice, PictureFormat, PictureHints,
    RefinerChoice, SamplerId, ScheduleId, SeedMode, Seeding, Tuning, new_seed,
};
use crate::schedule::{self, Schedule};

/// More than anyone waits for; keeps a typing mistake from filling the disk.
const MAX_COUNT: u32 = 1000;
/// The latents of a picture of this size fit into memory many times.
const MAX_RESIZE_PX: u32 = 16_384;
/// The noise of the pictures before is gone through too.
const MAX_BATCH: u32 = 1024;
/// Values of latents' area that are drawn together: 16 of the starter's pictures, one of 512 px.
const BATCH_AREA_CPU: u32 = 64 * 64;
const BATCH_AREA_CUDA: u32 = 4 * 64 * 64;

/// A request resolved for one model.
#[derive(Clone, Debug)]
pub struct GenerationPlan {
    /// Of each picture, or of all alike: [`Self::prompts`].
    pictures: Vec<PicturePrompts>,
    /// What the prompts are drawn from, where they hold wildcards or choices.
    pub template: Option<String>,
    pub negative_template: Option<String>,
    pub emphasis: Emphasis,
    /// Beside those that the prompt names.
    pub loras: Vec<LoraChoice>,
    /// Files that the prompts may name, beside those of the model folders.
    pub embeddings: Vec<PathBuf>,
    pub refiner: Option<RefinerChoice>,
    /// How many steps are done before the refiner goes on.
    pub steps_before_refiner: usize,
    pub hints: PictureHints,
    pub steps: usize,
    pub guidance_scale: f64,
    /// 0 to 1.
    pub guidance_rescale: f64,
    /// `None`: all steps.
    pub guidance_interval: Option<GuidanceInterval>,
    /// 1 is the text encoder's last layer; SDXL never listens to it.
    pub clip_skip: u32,
    /// Of the drawing.
    pub width_px: u32,
    pub height_px: u32,
    /// Of the finished picture.
    pub output_width_px: u32,
    pub output_height_px: u32,
    /// One a picture.
    pub seeds: Vec<u64>,
    /// Of the first picture; a variation has its seed.
    pub seeding: Seeding,
    pub batch_size: usize,
    pub sampler: SamplerId,
    pub schedule_id: ScheduleId,
    pub schedule: Schedule,
    pub tuning: Tuning,
}

impl GenerationPlan {
    /// Resolves `request` for `model`. `upscale_factor` is 1 where nothing enlarges the picture.
    /// Wildcards stay as they were typed until [`Self::draw_prompts`].
    ///
    /// Errors: [`Error::Request`] saying what cannot be and what could; [`Error::OutOfMemory`].
    pub fn resolve(
        request: &GenerationRequest,
        model: &StableDiffusion,
        upscale_factor: u32,
        format: PictureFormat,
    ) -> Result<Self> {
        let card = &model.card;
        if let Some(needs) = &model.needs {
            let path = card.path.clone().unwrap_or_default();
            return Err(Error::model(path, needs));
        }
        let defaults = &card.defaults;
        let steps = checked_steps(request.steps.unwrap_or(defaults.steps))?;
        let guidance_scale = request.guidance_scale.unwrap_or(defaults.guidance_scale);
        if !guidance_scale.is_finite() || !(0.0..=100.0).contains(&guidance_scale) {
            return Err(Error::Request(format!(
                "Guidance must be from 0 to 100; {guidance_scale} was asked for"
            )));
        }
        let guidance_rescale = request.guidance_rescale.unwrap_or_default();
        if !(0.0..=1.0).contains(&guidance_rescale) {
            return Err(Error::Request(format!(
                "Guidance rescale must be from 0 to 1; {guidance_rescale} was asked for"
            )));
        }
        let clip_skip = request.clip_skip.unwrap_or(1);
        let clip_skip = clip_skip.max(model.family.least_clip_skip());
        let layers = model.text_layers();
        if !(1..=layers).contains(&clip_skip) {
            return Err(Error::Request(format!(
                "Clip skip must be from 1 to {layers}, the layers of this model's text encoder; \
                 {clip_skip} was asked for"
            )));
        }
        let width_px = side(
            "width",
            request.width_px,
            defaults.width_px,
            card.latent_factor,
        )?;
        let height_px = side(
            "height",
            request.height_px,
            defaults.height_px,
            card.latent_factor,
        )?;
        let output_width_px = width_px.saturating_mul(upscale_factor);
        let output_height_px = height_px.saturating_mul(upscale_factor);
        output::check_size(format, output_width_px, output_height_px)?;
        let sampler = request.sampler.unwrap_or(defaults.sampler);
        let schedule_id = request.schedule.unwrap_or(defaults.schedule);
        let schedule_id = match schedule_id {
            ScheduleId::Automatic => automatic_schedule(model, sampler),
            chosen => chosen,
        };
        let count = request.count.unwrap_or(1);
        if !(1..=MAX_COUNT).contains(&count) {
            return Err(Error::Request(format!(
                "One job draws 1 to {MAX_COUNT} pictures; {count} were asked for"
            )));
        }
        let seeding = checked_seeding(request.seeding)?;
        let schedule = schedule::tuned_schedule(
            &model.scheduler,
            sampler,
            of_family(schedule_id, model.family),
            steps,
            &request.tuning,
        )?;
        let template = |prompt: &String| template::is_template(prompt).then(|| prompt.clone());
        let mut plan = Self {
            pictures: Vec::new(),
            template: template(&request.prompt),
            negative_template: template(&request.negative_prompt),
            emphasis: request.emphasis,
            loras: request.loras.clone(),
            embeddings: request.embeddings.clone(),
            steps_before_refiner: steps_before_refiner(request, model, &schedule)?,
            refiner: request.refiner.clone(),
            hints: checked_hints(request.hints)?,
            steps,
            guidance_scale,
            guidance_rescale,
            guidance_interval: guidance_interval(request.guidance_interval)?,
            clip_skip,
            width_px,
            height_px,
            output_width_px,
            output_height_px,
            seeds: seeds(request.seed, seeding, count),
            seeding,
            batch_size: batch_size(request, model, width_px, height_px, count),
            sampler,
            schedule_id,
            tuning: request.tuning,
            schedule,
        };
        plan.draw_prompts(request, &BTreeMap::new(), &|_| Ok(None))?;
        plan.make_room(model)?;
        Ok(plan)
    }

    /// Refuses what cannot fit into the memory that is free now: LoRAs take some after the plan was made.
    ///
    /// Errors: [`Error::OutOfMemory`].
    pub fn make_room(&self, model: &StableDiffusion) -> Result<()> {
        model.make_room(self.width_px, self.height_px, self.batch_size)
    }

    /// Draws each picture's prompts anew, with these lists for its wildcards, and asks `loras` for what
    /// the prompt of each picture is drawn with.
    ///
    /// Errors: [`Error::Request`] where lists name each other without end; what `loras` says.
    pub fn draw_prompts(
        &mut self,
        request: &GenerationRequest,
        lists: &dyn Lists,
        loras: &dyn Fn(&str) -> Result<Option<Vec<Lora>>>,
    ) -> Result<()> {
        let is_template = self.template.is_some() || self.negative_template.is_some();
        let different = if is_template { self.seeds.len() } else { 1 };
        self.pictures = (0..different)
            .map(|index| {
                let drawn = PicturePrompts::draw(request, prompt_seed(self.seed(index)), lists)?;
                let loras = loras(&drawn.prompt)?;
                Ok(PicturePrompts { loras, ..drawn })
            })
            .collect::<Result<_>>()?;
        let suit = |pair: &[PicturePrompts]| match pair {
            [one, other] => one.suits(other, self.emphasis),
            _ => true,
        };
        if !self.pictures.windows(2).all(suit) {
            self.batch_size = 1;
        }
        Ok(())
    }

    /// The prompts of picture `index`.
    pub fn prompts(&self, index: usize) -> &PicturePrompts {
        const NONE: &PicturePrompts = &PicturePrompts {
            prompt: String::new(),
            negative_prompt: String::new(),
            loras: None,
        };
        let own = self.pictures.get(index).or(self.pictures.first());
        own.unwrap_or(NONE)
    }

    /// What picture `index` grows from.
    pub fn seed(&self, index: usize) -> (u64, Seeding) {
        let first = self.seeds.first().copied().unwrap_or_default();
        self.seeding.of_picture(first, index as u32)
    }

    /// The pictures drawn together, as ranges of indices into `seeds`.
    pub fn batches(&self) -> impl Iterator<Item = Range<usize>> + use<> {
        let (count, size) = (self.seeds.len(), self.batch_size.max(1));
        (0..count)
            .step_by(size)
            .map(move |first| first..(first + size).min(count))
    }
}

/// What `Automatic` comes to: A1111's choice for the sampler, but the model's own levels where it was
/// distilled to a few of them, or trained down to pure noise.
fn automatic_schedule(model: &StableDiffusion, sampler: SamplerId) -> ScheduleId {
    if model.is_distilled || model.scheduler.rescale_betas_zero_snr {
        ScheduleId::Model
    } else {
        sampler.automatic_schedule()
    }
}

/// Align Your Steps is a table for each family.
fn of_family(schedule: ScheduleId, family: Family) -> ScheduleId {
    match schedule {
        ScheduleId::AlignYourSteps if family.is_xl() => ScheduleId::AlignYourStepsXl,
        other => other,
    }
}

/// Those that begin above the noise at which the refiner takes over: diffusers'
/// `denoising_end`, `StableDiffusionXLPipeline.__call__` 8.1.
fn steps_before_refiner(
    request: &GenerationRequest,
    model: &StableDiffusion,
    schedule: &Schedule,
) -> Result<usize> {
    let all = schedule.step_count();
    let Some(refiner) = &request.refiner else {
        return Ok(all);
    };
    if !(0.0..=1.0).contains(&refiner.start) {
        return Err(Error::Request(format!(
            "The refiner can begin from 0 (all steps) to 1 (none); {} was asked for",
            refiner.start
        )));
    }
    let trained = model.scheduler.num_train_timesteps() as f64;
    let cutoff = (trained - refiner.start * trained).round_ties_even();
    let begins = schedule.levels.iter().take(all);
    Ok(begins.take_while(|level| level.timestep >= cutoff).count())
}

fn checked_hints(hints: PictureHints) -> Result<PictureHints> {
    let scores = [hints.aesthetic_score, hints.negative_aesthetic_score];
    let wrong = scores
        .into_iter()
        .flatten()
        .find(|score| !(0.0..=10.0).contains(score));
    if let Some(score) = wrong {
        return Err(Error::Request(format!(
            "An aesthetic score must be from 0 to 10; {score} was asked for"
        )));
    }
    Ok(hints)
}

fn checked_steps(steps: u32) -> Result<usize> {
    if (1..=1000).contains(&steps) {
        Ok(steps as usize)
    } else {
        Err(Error::Request(format!(
            "Steps must be from 1 to 1000; {steps} were asked for"
        )))
    }
}

fn side(name: &str, asked: Option<u32>, default: u32, factor: u32) -> Result<u32> {
    let px = asked.unwrap_or(default);
    let factor = factor.max(1);
    let largest = u32::from(u16::MAX) / factor * factor;
    if px >= factor && px.is_multiple_of(factor) && px <= largest {
        return Ok(px);
    }
    let nearest = ((px.min(largest) + factor / 2) / factor).max(1) * factor;
    Err(Error::Request(format!(
        "The {name} must be a multiple of {factor} and at most {largest}; {px} was asked for, \
         {nearest} would do"
    )))
}

/// What a picture draws its words with: ComfyUI's pictures share a seed, so their places count.
fn prompt_seed((seed, seeding): (u64, Seeding)) -> u64 {
    match seeding.mode {
        SeedMode::ComfyUi => seed.wrapping_add(u64::from(seeding.batch_index.unwrap_or(0))),
        _ => seed,
    }
}

/// One a picture.
fn seeds(asked: Option<u64>, seeding: Seeding, count: u32) -> Vec<u64> {
    let first = asked.unwrap_or_else(new_seed);
    (0..count)
        .map(|index| seeding.of_picture(first, index).0)
        .collect()
}

/// `seeding` with a seed for its variation, where one is asked for.
fn checked_seeding(seeding: Seeding) -> Result<Seeding> {
    let wrong = |why: String| Err(Error::Request(why));
    let strength = seeding.variation_strength.unwrap_or_default();
    if !(0.0..=1.0).contains(&strength) {
        return wrong(format!(
            "The variation's strength must be from 0 to 1; {strength} was asked for"
        ));
    }
    if let Some([width, height]) = seeding.resize_from
        && !(1..=MAX_RESIZE_PX).contains(&width.min(height))
            | !(1..=MAX_RESIZE_PX).contains(&width.max(height))
    {
        return wrong(format!(
            "The size that the seed is taken from must have sides of 1 to {MAX_RESIZE_PX}; \
             {width}x{height} was asked for"
        ));
    }
    if seeding.batch_index.is_some_and(|index| index >= MAX_BATCH) {
        return wrong(format!("A place in a batch must be below {MAX_BATCH}"));
    }
    let of_a1111 = seeding.varies() || seeding.resize_from.is_some() || seeding.ensd.is_some();
    if seeding.mode == SeedMode::ComfyUi && of_a1111 {
        return wrong(
            "ComfyUI's seeds know no variation, no resizing and no ENSD: choose another seed mode"
                .to_owned(),
        );
    }
    let drawn = seeding.varies().then(new_seed);
    Ok(Seeding {
        variation_seed: seeding.variation_seed.or(drawn),
        ..seeding
    })
}

fn guidance_interval(asked: Option<GuidanceInterval>) -> Result<Option<GuidanceInterval>> {
    match asked {
        Some(GuidanceInterval { start, stop })
            if !(0.0 <= start && start <= stop && stop <= 1.0) =>
        {
            Err(Error::Request(format!(
                "The interval of guidance must lie between 0 and 1; {start} to {stop} was asked for"
            )))
        }
        asked => Ok(asked),
    }
}

fn batch_size(
    request: &GenerationRequest,
    model: &StableDiffusion,
    width_px: u32,
    height_px: u32,
    count: u32,
) -> usize {
    let area = if model.device.is_cuda() {
        BATCH_AREA_CUDA
    } else {
        BATCH_AREA_CPU
    };
    let factor = model.card.latent_factor.max(1);
    let latents = (width_px / factor)
        .saturating_mul(height_px / factor)
        .max(1);
    let suits = (area / latents).max(1);
    request.batch_size.unwrap_or(suits).clamp(1, count) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_that_does_not_fit_is_refused_with_one_that_does() {
        assert_eq!(side("width", Some(512), 64, 8).unwrap(), 512);
        assert_eq!(side("width", None, 64, 8).unwrap(), 64);
        let error = side("width", Some(515), 64, 8).unwrap_err();
        assert!(error.to_string().contains("512 would do"), "{error}");
        let error = side("height", Some(0), 64, 8).unwrap_err();
        assert!(error.to_string().contains("8 would do"), "{error}");
        let error = side("width", Some(70_000), 64, 8).unwrap_err();
        assert!(error.to_string().contains("65528 would do"), "{error}");
        assert_eq!(side("width", Some(65_528), 64, 8).unwrap(), 65_528);
    }

    #[test]
    fn picture_i_has_the_seed_plus_i() {
        let plain = Seeding::default();
        assert_eq!(seeds(Some(7), plain, 3), [7, 8, 9]);
        assert_eq!(seeds(Some(u64::MAX), plain, 2), [u64::MAX, 0]);
        assert_ne!(seeds(None, plain, 1), seeds(None, plain, 1));
    }

    #[test]
    fn the_pictures_of_every_seed_mode_draw_words_of_their_own() {
        for info in crate::request::SEED_MODES {
            let seeding = Seeding {
                mode: info.id,
                ..Seeding::default()
            };
            let words = |index| prompt_seed(seeding.of_picture(7, index));
            assert_eq!([0, 1, 2].map(words), [7, 8, 9], "{}", info.name);
        }
    }
}
