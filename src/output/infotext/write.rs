//! The infotext of a picture, as it is written into its file.

use super::keys::*;
use super::text::{FEWEST_SETTINGS, NEGATIVE_PROMPT, end_of_settings, quote, settings};
use crate::output::hashes;
use crate::request::{
    Foreign, GenerationRequest, GuidanceInterval, LoraChoice, NamedFile, NamedFiles,
    PictureSettings, RefinerChoice, SamplerId, ScheduleId, SeedMode, Seeding, Tuning,
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
        plain.push(format!("Hashes: {}", serde_json::Value::from(hashes)));
    }
    format!(
        "{}{}\n{NEGATIVE_PROMPT} {}\n{}",
        settings.prompt,
        loras(settings),
        settings.negative_prompt,
        plain.join(", ")
    )
}

/// The infotext of a picture of another program, as far as it was understood.
pub fn of_request(request: &GenerationRequest, files: &NamedFiles, program: &str) -> String {
    let size = request.width_px.zip(request.height_px);
    let model = files.model.as_ref();
    let refiner = files.refiner.as_ref();
    let refined_by = |(file, _): &(NamedFile, f64)| match &file.hash {
        Some(hash) => format!("{} [{hash}]", file.name),
        None => file.name.clone(),
    };
    let hashed = files.loras.iter().filter_map(|file| {
        let hash = file.hash.as_ref()?;
        Some(format!("{}: {hash}", file.name))
    });
    let fields = [
        ("Steps", request.steps.map(|steps| steps.to_string())),
        (
            "Sampler",
            request.sampler.map(|id| id.info().a1111_name.to_owned()),
        ),
        (
            "Schedule type",
            request.schedule.map(|id| shown_schedule(id).to_owned()),
        ),
        (
            "CFG scale",
            request.guidance_scale.map(|scale| scale.to_string()),
        ),
        ("Seed", request.seed.map(|seed| seed.to_string())),
        (
            "Size",
            size.map(|(width, height)| format!("{width}x{height}")),
        ),
        ("Model hash", model.and_then(|model| model.hash.clone())),
        ("Model", model.map(|model| model.name.clone())),
        ("VAE", files.vae.as_ref().map(|vae| vae.name.clone())),
        (
            "VAE hash",
            files.vae.as_ref().and_then(|vae| vae.hash.clone()),
        ),
        (REFINER, refiner.map(refined_by)),
        (REFINER_START, refiner.map(|(_, start)| start.to_string())),
        ("Clip skip", request.clip_skip.map(|skip| skip.to_string())),
        (
            "CFG Rescale",
            request.guidance_rescale.map(|rescale| rescale.to_string()),
        ),
        (hashes::LORAS, Some(hashed.collect::<Vec<_>>().join(", "))),
        ("Version", Some(program.to_owned())),
    ];
    let line: Vec<String> = fields
        .into_iter()
        .filter_map(|(key, value)| Some((key, value.filter(|value| !value.is_empty())?)))
        .map(|(key, value)| format!("{key}: {}", quote(&value).unwrap_or(value)))
        .collect();
    let (prompt, negative) = (&request.prompt, &request.negative_prompt);
    format!(
        "{prompt}\n{NEGATIVE_PROMPT} {negative}\n{}",
        line.join(", ")
    )
}

/// The infotext of another program's picture that Easel enlarged: its own, and who enlarged it behind the
/// settings.
fn enlarged(foreign: &Foreign, now: &PictureSettings) -> String {
    let text = foreign.infotext.trim_end();
    let mut lines: Vec<String> = text.split('\n').map(str::to_owned).collect();
    let said: Vec<&str> = lines.iter().map(String::as_str).collect();
    let line = end_of_settings(&said).saturating_sub(1);
    let by = foreign.enlarged_by.max(1);
    let upscaler = now.upscaler.as_deref().unwrap_or_default();
    let added = format!("{UPSCALED_BY}: {by}, {UPSCALER}: {upscaler}");
    match lines.get_mut(line) {
        // Enlarged before.
        Some(line) if line.contains(UPSCALER) => {}
        Some(line) if settings(line).len() >= FEWEST_SETTINGS => {
            *line = format!("{}, {added}", line.trim_end().trim_end_matches(','));
        }
        // Fewer settings than three are taken for words.
        _ => {
            let [width, height] = [now.output_width_px, now.output_height_px].map(|it| it / by);
            lines.push(format!("Size: {width}x{height}, {added}"));
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
    if settings.steps > 0 {
        fields = drawing_fields(settings);
    }
    if let Some(upscaler) = &settings.upscaler {
        let factor = settings.output_width_px.checked_div(settings.width_px);
        fields.extend(factor.map(|factor| (UPSCALED_BY, factor.to_string())));
        fields.push((UPSCALER, upscaler.clone()));
    }
    if settings.steps > 0 {
        fields.extend(tuning_fields(settings.sampler, &settings.tuning));
        fields.extend(seeding_fields(&settings.seeding));
        fields.extend(hashes::fields(&settings.hashes));
    }
    fields.push(("Version", format!("{EASEL} {}", settings.version)));
    fields
}

/// What the picture was drawn with.
fn drawing_fields(settings: &PictureSettings) -> Vec<(&'static str, String)> {
    let sampler = settings.sampler.info();
    let schedule = schedule_name(settings.sampler, settings.schedule);
    let fused = match settings.schedule.info().a1111_name {
        Some(schedule) => format!("{} {schedule}", sampler.a1111_name),
        None => sampler.a1111_name.to_owned(),
    };
    let mut fields = vec![("Steps", settings.steps.to_string()), ("Sampler", fused)];
    fields.extend(schedule.map(|name| ("Schedule type", name.to_owned())));
    fields.extend([
        ("CFG scale", settings.guidance_scale.to_string()),
        ("Seed", settings.seed.to_string()),
        (
            "Size",
            format!("{}x{}", settings.width_px, settings.height_px),
        ),
    ]);
    fields.extend(
        settings
            .model_hash
            .iter()
            .map(|hash| ("Model hash", hash.clone())),
    );
    if !settings.model_name.is_empty() {
        fields.push(("Model", settings.model_name.clone()));
    }
    if let Some(vae) = &settings.vae_path {
        let name = vae.file_name().unwrap_or(vae.as_os_str());
        fields.push(("VAE", name.to_string_lossy().into_owned()));
    }
    if let Some(RefinerChoice { path, start }) = &settings.refiner {
        let name = path
            .file_stem()
            .unwrap_or(path.as_os_str())
            .to_string_lossy();
        let name = match &settings.refiner_hash {
            Some(hash) => format!("{name} [{hash}]"),
            None => name.into_owned(),
        };
        fields.push((REFINER, name));
        fields.push((REFINER_START, start.to_string()));
    }
    if settings.clip_skip > 1 {
        fields.push(("Clip skip", settings.clip_skip.to_string()));
    }
    if settings.guidance_rescale > 0.0 {
        fields.push(("CFG Rescale", settings.guidance_rescale.to_string()));
    }
    if let Some(GuidanceInterval { start, stop }) = settings.guidance_interval {
        fields.push((GUIDANCE_INTERVAL, format!("{start} to {stop}")));
    }
    if !settings.emphasis.is_usual() {
        let name = settings.emphasis.info().a1111_name;
        fields.push((EMPHASIS, name.to_owned()));
    }
    let templates = [&settings.template, &settings.negative_template];
    for (key, template) in [TEMPLATE, NEGATIVE_TEMPLATE].into_iter().zip(templates) {
        fields.extend(template.iter().map(|template| (key, template.clone())));
    }
    fields
}

fn tuning_fields(sampler: SamplerId, tuning: &Tuning) -> Vec<(&'static str, String)> {
    let said = [
        (eta_key(sampler), tuning.eta),
        ("Sigma churn", tuning.s_churn),
        ("Sigma noise", tuning.s_noise),
        ("Schedule rho", tuning.rho),
        ("Schedule min sigma", tuning.sigma_min),
        ("Schedule max sigma", tuning.sigma_max),
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
            "Batch pos",
            seeding.batch_index.map(|index| index.to_string()),
        ),
        ("Variation seed", variation.map(|seed| seed.to_string())),
        (
            "Variation seed strength",
            strength.map(|share| share.to_string()),
        ),
        (
            "Seed resize from",
            resized.map(|[width, height]| format!("{width}x{height}")),
        ),
        ("ENSD", seeding.ensd.map(|delta| delta.to_string())),
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
