//! The infotext of a picture, as it is written into its file.

use super::keys::*;
use super::text::{FEWEST_SETTINGS, NEGATIVE_PROMPT, end_of_settings, quote, settings};
use crate::files;
use crate::output::hashes;
use crate::request::{
    AddOnHashes, Foreign, GenerationRequest, GuidanceInterval, LoraChoice, NamedFile, NamedFiles,
    PictureSettings, SamplerId, ScheduleId, SeedMode, Seeding, Tuning,
};

/// A1111's infotext of a picture, as it is written into the file.
pub fn write(settings: &PictureSettings) -> String {
    if let Some(foreign) = &settings.foreign {
        return enlarged(foreign, settings);
    }
    // Values that hold separators come last: readers that split at commas lose nothing else.
    let (mut plain, mut quoted) = (Vec::new(), Vec::new());
    for (key, value) in fields(settings) {
        match quote(&value) {
            Some(value) => quoted.push(format!("{key}: {value}")),
            None => plain.push(format!("{key}: {value}")),
        }
    }
    plain.append(&mut quoted);
    let hashes = hashes::all(settings);
    if !hashes.is_empty() {
        plain.push(format!("{HASHES}: {}", serde_json::Value::from(hashes)));
    }
    format!(
        "{}{}\n{NEGATIVE_PROMPT} {}\n{}",
        settings.prompt,
        loras(settings),
        settings.negative_prompt,
        plain.join(", ")
    )
}

/// The infotext of a picture of another program, as far as it was understood. What that program does
/// without saying is said, for it is not A1111 that draws the picture again.
pub fn of_request(request: &GenerationRequest, files: &NamedFiles, program: &str) -> String {
    let sampler = request.sampler.map(|id| id.info().a1111_name.to_owned());
    let schedule = request.schedule.map(shown_schedule);
    let mut fields = drawing_fields(request, files, (sampler, schedule));
    if request.emphasis.is_usual() {
        fields.push((EMPHASIS, request.emphasis.info().a1111_name.to_owned()));
    }
    fields.extend(tuning_fields(request.sampler, &request.tuning));
    fields.extend(seeding_fields(&request.seeding));
    if !fields.iter().any(|(key, _)| *key == SEED_MODE) {
        let mode = request.seeding.mode.info().name;
        fields.push((SEED_MODE, mode.to_owned()));
    }
    fields.extend(hashes::fields(&of_loras(request, files)));
    fields.push((VERSION, program.to_owned()));
    let said = fields.into_iter().filter(|(_, value)| !value.is_empty());
    let line: Vec<String> = said
        .map(|(key, value)| format!("{key}: {}", quote(&value).unwrap_or(value)))
        .collect();
    let (prompt, negative) = (&request.prompt, &request.negative_prompt);
    format!(
        "{prompt}\n{NEGATIVE_PROMPT} {negative}\n{}",
        line.join(", ")
    )
}

/// The hashes of a request, and of LoRAs that are known as files only.
fn of_loras(request: &GenerationRequest, files: &NamedFiles) -> AddOnHashes {
    let mut hashes = request.hashes.clone();
    for file in &files.loras {
        if let Some(hash) = &file.hash {
            let name = hashes.loras.entry(file.name.clone());
            name.or_insert_with(|| hash.clone());
        }
    }
    hashes
}

/// The infotext of another program's picture that Easel enlarged: its own, and who enlarged it behind the
/// settings, with the factor of all enlargements; readers take the last.
fn enlarged(foreign: &Foreign, now: &PictureSettings) -> String {
    let text = foreign.infotext.trim_end();
    let mut lines: Vec<String> = text.split('\n').map(str::to_owned).collect();
    let said: Vec<&str> = lines.iter().map(String::as_str).collect();
    let line = end_of_settings(&said).saturating_sub(1);
    let by = foreign.enlarged_by.max(1);
    let upscaler = now.upscaler.as_deref().unwrap_or_default();
    let added = |by: u32| format!("{UPSCALED_BY}: {by}, {UPSCALER}: {upscaler}");
    match lines.get_mut(line) {
        Some(line) if settings(line).len() >= FEWEST_SETTINGS => {
            let before = settings(line).into_iter().rev();
            let before = before
                .filter(|(key, _)| key == UPSCALED_BY)
                .find_map(|(_, by)| by.parse::<u32>().ok());
            let added = added(by.saturating_mul(before.unwrap_or(1)));
            *line = format!("{}, {added}", line.trim_end().trim_end_matches(','));
        }
        // Fewer settings than three are taken for words.
        _ => {
            let [width, height] = [now.output_width_px, now.output_height_px].map(|it| it / by);
            lines.push(format!("{SIZE}: {width}x{height}, {}", added(by)));
        }
    }
    lines.join("\n")
}

/// A1111's name of a schedule, or Easel's where A1111 has none.
fn shown_schedule(schedule: ScheduleId) -> &'static str {
    let info = schedule.info();
    info.a1111_name.unwrap_or(info.label)
}

/// LoRAs that were chosen beside the prompt, as A1111 names them in it.
fn loras(settings: &PictureSettings) -> String {
    let tag = |lora: &LoraChoice| format!(" <lora:{}:{}>", lora.name(), lora.weight);
    settings.loras.iter().map(tag).collect()
}

/// The settings line, in A1111's order.
fn fields(settings: &PictureSettings) -> Vec<(&'static str, String)> {
    let mut fields = Vec::new();
    // Easel enlarges pictures that say nothing of how they were drawn: then nothing is made up.
    let drawn = settings.steps > 0;
    if drawn {
        let names = sampler_and_schedule(settings);
        fields = drawing_fields(&settings.to_request(), &files_of(settings), names);
        let templates = [&settings.template, &settings.negative_template];
        for (key, template) in [TEMPLATE, NEGATIVE_TEMPLATE].into_iter().zip(templates) {
            fields.extend(template.iter().map(|template| (key, template.clone())));
        }
    }
    if let Some(upscaler) = &settings.upscaler {
        let factor = settings.output_width_px.checked_div(settings.width_px);
        fields.extend(factor.map(|factor| (UPSCALED_BY, factor.to_string())));
        fields.push((UPSCALER, upscaler.clone()));
    }
    if drawn {
        fields.extend(tuning_fields(Some(settings.sampler), &settings.tuning));
        fields.extend(seeding_fields(&settings.seeding));
        fields.extend(hashes::fields(&settings.hashes));
    }
    fields.push((VERSION, format!("{EASEL} {}", settings.version)));
    fields
}

/// Both in one name, for readers of A1111 before 1.9, and the schedule again.
fn sampler_and_schedule(settings: &PictureSettings) -> (Option<String>, Option<&'static str>) {
    let sampler = settings.sampler.info().a1111_name;
    let fused = match settings.schedule.info().a1111_name {
        Some(schedule) => format!("{sampler} {schedule}"),
        None => sampler.to_owned(),
    };
    let schedule = schedule_name(settings.sampler, settings.schedule);
    (Some(fused), schedule)
}

/// The files that Easel drew with, as A1111 names them: a VAE with its ending.
fn files_of(settings: &PictureSettings) -> NamedFiles {
    let vae = settings.vae_path.as_ref().map(|path| NamedFile {
        name: files::name(path),
        hash: None,
    });
    let refiner = settings.refiner.as_ref().map(|refiner| {
        let hash = settings.refiner_hash.as_deref();
        (NamedFile::of_path(&refiner.path, hash), refiner.start)
    });
    NamedFiles {
        model: Some(NamedFile {
            name: settings.model_name.clone(),
            hash: settings.model_hash.clone(),
        }),
        vae,
        refiner,
        ..NamedFiles::default()
    }
}

/// What a picture is drawn with, as far as it is known.
fn drawing_fields(
    request: &GenerationRequest,
    files: &NamedFiles,
    (sampler, schedule): (Option<String>, Option<&str>),
) -> Vec<(&'static str, String)> {
    let size = request.width_px.zip(request.height_px);
    let (model, vae, refiner) = (&files.model, &files.vae, &files.refiner);
    let name = |file: &NamedFile| Some(file.name.clone()).filter(|name| !name.is_empty());
    let hash = |file: &NamedFile| file.hash.clone();
    let refined_by = |(file, _): &(NamedFile, f64)| match &file.hash {
        Some(hash) => format!("{} [{hash}]", file.name),
        None => file.name.clone(),
    };
    let interval = request.guidance_interval;
    let emphasis = Some(request.emphasis).filter(|it| !it.is_usual());
    let fields = [
        (STEPS, request.steps.map(|steps| steps.to_string())),
        (SAMPLER, sampler),
        (SCHEDULE, schedule.map(str::to_owned)),
        (
            CFG_SCALE,
            request.guidance_scale.map(|scale| scale.to_string()),
        ),
        (SEED, request.seed.map(|seed| seed.to_string())),
        (
            SIZE,
            size.map(|(width, height)| format!("{width}x{height}")),
        ),
        (MODEL_HASH, model.as_ref().and_then(hash)),
        (MODEL, model.as_ref().and_then(name)),
        (VAE, vae.as_ref().and_then(name)),
        (VAE_HASH, vae.as_ref().and_then(hash)),
        (REFINER, refiner.as_ref().map(refined_by)),
        (
            REFINER_START,
            refiner.as_ref().map(|(_, start)| start.to_string()),
        ),
        (CLIP_SKIP, request.clip_skip.map(|skip| skip.to_string())),
        (
            CFG_RESCALE,
            request.guidance_rescale.map(|rescale| rescale.to_string()),
        ),
        (
            GUIDANCE_INTERVAL,
            interval.map(|GuidanceInterval { start, stop }| format!("{start} to {stop}")),
        ),
        (
            EMPHASIS,
            emphasis.map(|emphasis| emphasis.info().a1111_name.to_owned()),
        ),
    ];
    let said = fields.into_iter();
    said.filter_map(|(key, value)| Some((key, value?)))
        .collect()
}

fn tuning_fields(sampler: Option<SamplerId>, tuning: &Tuning) -> Vec<(&'static str, String)> {
    let said = [
        (sampler.map_or(ETA, eta_key), tuning.eta),
        (SIGMA_CHURN, tuning.s_churn),
        (SIGMA_NOISE, tuning.s_noise),
        (SCHEDULE_RHO, tuning.rho),
        (SCHEDULE_MIN_SIGMA, tuning.sigma_min),
        (SCHEDULE_MAX_SIGMA, tuning.sigma_max),
    ];
    let said = said.into_iter();
    said.filter_map(|(key, value)| Some((key, value?.to_string())))
        .collect()
}

pub(super) fn seeding_fields(seeding: &Seeding) -> Vec<(&'static str, String)> {
    // A1111 writes nothing where a card draws. ComfyUI begins with the same noise as its CPU.
    let rng = (seeding.mode != SeedMode::A1111).then(|| "CPU".to_owned());
    let mode = match seeding.mode {
        SeedMode::Diffusers | SeedMode::A1111 => None,
        SeedMode::A1111Cpu | SeedMode::ComfyUi => Some(seeding.mode.info().name.to_owned()),
    };
    let varies = seeding.varies();
    let variation = seeding.variation_seed.filter(|_| varies);
    let strength = seeding.variation_strength.filter(|_| varies);
    let resized = seeding.resize_from;
    let fields = [
        (RNG, rng),
        (SEED_MODE, mode),
        (
            BATCH_POS,
            seeding.batch_index.map(|index| index.to_string()),
        ),
        (VARIATION_SEED, variation.map(|seed| seed.to_string())),
        (VARIATION_STRENGTH, strength.map(|share| share.to_string())),
        (
            SEED_RESIZE,
            resized.map(|[width, height]| format!("{width}x{height}")),
        ),
        (ENSD, seeding.ensd.map(|delta| delta.to_string())),
    ];
    let fields = fields.into_iter();
    fields
        .filter_map(|(key, value)| Some((key, value?)))
        .collect()
}

/// `Schedule type` for A1111, which takes a picture without one for the sampler's usual schedule:
/// where that would be Karras or the like, `Uniform` (evenly spread steps) comes nearest.
fn schedule_name(sampler: SamplerId, schedule: ScheduleId) -> Option<&'static str> {
    let own = schedule.info().a1111_name;
    let misread = sampler.info().default_schedule.info().a1111_name.is_some();
    own.or(misread.then_some("Uniform"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_made_up_about_a_picture_that_says_nothing() {
        let settings: PictureSettings = serde_json::from_value(serde_json::json!({
            "prompt": "", "negative_prompt": "", "model_name": "", "steps": 0, "guidance_scale": 0.0,
            "seed": 0, "sampler": "euler", "schedule": "model", "width_px": 0, "height_px": 0,
            "upscaler": "realesr-animevideov3-x4", "output_width_px": 256, "output_height_px": 256,
            "device": "", "dtype": "", "version": "0.1.0",
        }))
        .unwrap();
        let text = write(&settings);
        assert!(text.contains("Postprocess upscaler: realesr"), "{text}");
        assert!(
            !text.contains("Sampler") && !text.contains("Seed"),
            "{text}"
        );
    }
}
