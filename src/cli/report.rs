//! What a person or a script sees while a job runs: a bar on a terminal, plain lines elsewhere,
//! JSON on request.

use std::io::Write;
use std::path::Path;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};

use crate::error::Remedy;
use crate::output;
use crate::request::PictureFormat;
use crate::worker::message::{
    Event, Failure, JobPlan, LayerTime, LoadedModel, Picture, Progress, Stage,
};

/// Positions of the bar from begin to end.
const BAR_LENGTH: u64 = 1000;

/// Standard output for results, standard error for everything else.
pub struct Streams<'a> {
    pub out: &'a mut dyn Write,
    pub err: &'a mut dyn Write,
}

// A reader that has gone away is no reason to stop drawing: write errors are not looked at.
impl Streams<'_> {
    pub fn out(&mut self, line: impl std::fmt::Display) {
        let _ = writeln!(self.out, "{line}").and_then(|()| self.out.flush());
    }

    pub fn err(&mut self, line: impl std::fmt::Display) {
        let _ = writeln!(self.err, "{line}");
    }
}

/// How a job is reported.
pub enum Reporter {
    Bar(ProgressBar),
    /// The last line's stage and tenth of the whole.
    Lines(Option<(Stage, u32)>),
    Quiet,
    Json,
}

impl Reporter {
    /// A bar on the terminal that standard error is.
    pub fn bar() -> Self {
        let bar = ProgressBar::new(BAR_LENGTH);
        let style = ProgressStyle::with_template("{bar:24} {percent:>3} %  {msg}")
            .unwrap_or_else(|_| ProgressStyle::default_bar());
        bar.set_style(style.progress_chars("=> "));
        Self::Bar(bar)
    }

    /// Reports one event of the job.
    pub fn event(&mut self, event: &Event, to: &mut Streams<'_>) {
        if let Self::Json = self {
            if let Some(value) = json_of(event) {
                to.out(value);
            }
            if let Event::PictureDone { picture, .. } = event {
                picture
                    .save_failure
                    .iter()
                    .for_each(|failure| to.err(failure_line(failure)));
            }
            return;
        }
        match event {
            Event::ModelLoading { name, fraction } => self.loading(name, *fraction, to),
            Event::ModelReady(model) => {
                for note in &model.notes {
                    self.say(format!("{}: {note}", model.card.name), to);
                }
            }
            Event::Started { plan, .. } => self.say(plan_line(plan), to),
            Event::Profiled { layers, .. } => self.say(profile_table(layers), to),
            Event::Progress { progress, .. } => self.progress(progress, to),
            Event::PictureDone { picture, .. } => {
                self.picture(picture, to);
                if let Some(note) = note_of(picture) {
                    self.say(note, to);
                }
            }
            _ => {}
        }
    }

    /// Something to know that stops nothing.
    pub fn note(&mut self, note: impl Into<String>, to: &mut Streams<'_>) {
        let note = note.into();
        match self {
            Self::Json => to.out(json!({ "event": "note", "message": note })),
            _ => self.say(format!("Note: {note}"), to),
        }
    }

    pub fn preview(&mut self, index: usize, step: usize, path: &Path, to: &mut Streams<'_>) {
        if let Self::Json = self {
            to.out(json!({
                "event": "preview", "index": index, "step": step, "path": path.to_string_lossy(),
            }));
        }
    }

    pub fn stopping(&mut self, to: &mut Streams<'_>) {
        const STOPPING: &str = "Stopping after this step; press Ctrl-C again to stop at once";
        match self {
            Self::Bar(bar) => bar.set_message(STOPPING),
            Self::Lines(_) => to.err(STOPPING),
            Self::Quiet | Self::Json => {}
        }
    }

    /// Takes the bar away.
    pub fn end(&mut self) {
        if let Self::Bar(bar) = self {
            bar.finish_and_clear();
        }
    }

    fn loading(&mut self, name: &str, fraction: f32, to: &mut Streams<'_>) {
        match self {
            Self::Bar(bar) => bar.set_message(format!("Loading {name}, {:.0} %", fraction * 100.0)),
            Self::Lines(last) if last.is_none() => {
                *last = Some((Stage::LoadingModel, 0));
                to.err(format!("Loading {name}"));
            }
            Self::Lines(_) | Self::Quiet | Self::Json => {}
        }
    }

    /// A bar moves with every event; lines come with a new stage and every tenth of the whole.
    fn progress(&mut self, progress: &Progress, to: &mut Streams<'_>) {
        match self {
            Self::Bar(bar) => {
                let fraction = f64::from(progress.fraction.clamp(0.0, 1.0));
                bar.set_position((fraction * BAR_LENGTH as f64) as u64);
                bar.set_message(progress_line(progress));
            }
            Self::Lines(last) => {
                let now = (progress.stage, (progress.fraction * 10.0) as u32);
                if *last != Some(now) {
                    *last = Some(now);
                    to.err(progress_line(progress));
                }
            }
            Self::Quiet | Self::Json => {}
        }
    }

    fn picture(&mut self, picture: &Picture, to: &mut Streams<'_>) {
        let mut write = || match (&picture.path, &picture.save_failure) {
            (Some(path), _) => to.out(path.display()),
            (None, Some(failure)) => to.err(failure_line(failure)),
            (None, None) => {}
        };
        match self {
            Self::Bar(bar) => bar.suspend(write),
            Self::Lines(_) | Self::Quiet | Self::Json => write(),
        }
    }

    fn say(&mut self, line: String, to: &mut Streams<'_>) {
        match self {
            Self::Bar(bar) => bar.suspend(|| to.err(line)),
            Self::Lines(_) => to.err(line),
            Self::Quiet | Self::Json => {}
        }
    }
}

/// What a person should know of a picture that was saved.
fn note_of(picture: &Picture) -> Option<String> {
    let format = PictureFormat::from_path(picture.path.as_deref()?)?;
    output::long_prompt_note(&picture.settings, format)
}

/// `Drawing 2 pictures with Starter: 64 × 64, enlarged to 256 × 256, 20 steps, seeds 7 and 8`.
fn plan_line(plan: &JobPlan) -> String {
    let count = match plan.seeds.len() {
        1 => "1 picture".to_owned(),
        count => format!("{count} pictures"),
    };
    let drawn = (plan.width_px, plan.height_px);
    let size = match (plan.output_width_px, plan.output_height_px) {
        output if output == drawn => format!("{} × {}", drawn.0, drawn.1),
        (width, height) => {
            format!("{} × {}, enlarged to {width} × {height}", drawn.0, drawn.1)
        }
    };
    let seeds = match plan.seeds.as_slice() {
        [] => String::new(),
        [seed] => format!(", seed {seed}"),
        // A batch of ComfyUI's, or variations of one seed.
        [first, .., last] if first == last => format!(", seed {first}"),
        [first, second] => format!(", seeds {first} and {second}"),
        [first, .., last] => format!(", seeds {first} to {last}"),
    };
    let steps = match plan.steps {
        1 => "1 step".to_owned(),
        steps => format!("{steps} steps"),
    };
    let model = &plan.model_name;
    format!("Drawing {count} with {model}: {size}, {steps}{seeds}")
}

/// `Drawing, step 5 of 20, 3.1 it/s, 4 s left`.
fn progress_line(progress: &Progress) -> String {
    let mut line = stage_words(progress.stage).to_owned();
    if progress.stage == Stage::Drawing && progress.step == 0 {
        line.push_str(&match progress.steps {
            1 => ", the one step".to_owned(),
            steps => format!(", first of {steps} steps"),
        });
    } else if progress.stage == Stage::Drawing {
        line.push_str(&format!(", step {} of {}", progress.step, progress.steps));
        if let Some(speed) = progress.steps_per_sec.filter(|speed| *speed > 0.0) {
            line.push_str(&if speed >= 1.0 {
                format!(", {speed:.1} it/s")
            } else {
                format!(", {:.1} s/it", speed.recip())
            });
        }
    }
    if let Some(seconds) = progress.remaining_secs {
        let is_guess = progress.is_told_by_another();
        let about = if is_guess { "about " } else { "" };
        line.push_str(&format!(", {about}{} left", duration_words(seconds)));
    }
    line
}

fn stage_words(stage: Stage) -> &'static str {
    match stage {
        Stage::LoadingModel => "Loading the model",
        Stage::ReadingPrompt => "Reading the prompt",
        Stage::Drawing => "Drawing",
        Stage::Decoding => "Decoding",
        Stage::Enlarging => "Enlarging",
        Stage::Saving => "Saving",
    }
}

fn stage_name(stage: Stage) -> &'static str {
    match stage {
        Stage::LoadingModel => "loading_model",
        Stage::ReadingPrompt => "reading_prompt",
        Stage::Drawing => "drawing",
        Stage::Decoding => "decoding",
        Stage::Enlarging => "enlarging",
        Stage::Saving => "saving",
    }
}

/// `4 s`, `2 min 5 s`, `1 h 3 min`.
fn duration_words(seconds: f64) -> String {
    let whole = Duration::try_from_secs_f64(seconds.max(0.0).ceil()).unwrap_or_default();
    let seconds = whole.as_secs();
    match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
        (0, 0, seconds) => format!("{seconds} s"),
        (0, minutes, seconds) => format!("{minutes} min {seconds} s"),
        (hours, minutes, _) => format!("{hours} h {minutes} min"),
    }
}

/// What happened and the way out, in one line.
pub fn failure_line(failure: &Failure) -> String {
    let message = failure.message.trim_end_matches('.');
    match failure.remedy {
        Some(remedy) => format!("{message}. {}", remedy_words(remedy)),
        None => message.to_owned(),
    }
}

fn remedy_words(remedy: Remedy) -> &'static str {
    match remedy {
        Remedy::UseCpu => "With --device cpu the processor draws it.",
        Remedy::UseF32 => {
            "With --dtype f32 it is computed exactly, with --dtype bf16 without such limits."
        }
        Remedy::ReduceSize => "A smaller size can be set with --width and --height.",
        Remedy::ChooseModel => "Another model can be named with --model.",
        Remedy::ChooseFolder => "Another place can be named with --output.",
    }
}

fn remedy_name(remedy: Remedy) -> &'static str {
    match remedy {
        Remedy::UseCpu => "use_cpu",
        Remedy::UseF32 => "use_f32",
        Remedy::ReduceSize => "reduce_size",
        Remedy::ChooseModel => "choose_model",
        Remedy::ChooseFolder => "choose_folder",
    }
}

/// The line of `--json` for an event; `None` for events of the window's other work.
fn json_of(event: &Event) -> Option<Value> {
    Some(match event {
        Event::ModelLoading { name, fraction } => {
            json!({ "event": "loading", "model": name, "fraction": fraction })
        }
        Event::ModelReady(model) => json_of_model(model),
        Event::Started { plan, .. } => json!({
            "event": "started",
            "model": plan.model_name,
            "seeds": plan.seeds,
            "steps": plan.steps,
            "width": plan.width_px,
            "height": plan.height_px,
            "output_width": plan.output_width_px,
            "output_height": plan.output_height_px,
        }),
        Event::Progress { progress, .. } => json!({
            "event": "progress",
            "stage": stage_name(progress.stage),
            "fraction": progress.fraction,
            "first": progress.first,
            "batch": progress.batch,
            "step": progress.step,
            "steps": progress.steps,
            "steps_per_sec": progress.steps_per_sec,
            "remaining_secs": progress.remaining_secs,
        }),
        Event::PictureDone { index, picture, .. } => json!({
            "event": "picture",
            "index": index,
            "path": picture.path.as_ref().map(|path| path.to_string_lossy()),
            "settings": picture.settings,
            "error": picture.save_failure.as_ref().map(|failure| &failure.message),
        }),
        Event::Profiled { layers, .. } => json_of_profile(layers),
        Event::Finished { elapsed_secs, .. } => {
            json!({ "event": "finished", "elapsed_secs": elapsed_secs })
        }
        Event::Failed { failure, .. } => json_of_failure(failure),
        Event::Cancelled { .. } => json!({ "event": "cancelled" }),
        _ => return None,
    })
}

fn json_of_model(model: &LoadedModel) -> Value {
    json!({
        "event": "model",
        "name": model.card.name,
        "device": model.device,
        "dtype": model.dtype,
        "notes": model.notes,
    })
}

fn json_of_profile(layers: &[LayerTime]) -> Value {
    let row = |time: &LayerTime| json!({ "part": time.part, "layer": time.layer, "calls": time.calls, "secs": time.secs });
    json!({ "event": "profile", "layers": layers.iter().map(row).collect::<Vec<_>>() })
}

/// Seconds, their share of the whole, calls, the network and the kind of layer; the dearest first.
fn profile_table(layers: &[LayerTime]) -> String {
    let whole: f64 = layers.iter().map(|time| time.secs).sum();
    let row = |time: &LayerTime| {
        let share = 100.0 * time.secs / whole.max(f64::MIN_POSITIVE);
        let layer = time.layer.as_deref().unwrap_or("between its layers");
        format!(
            "{:>9.3} s  {share:>4.1} %  {:>7} calls  {}: {layer}",
            time.secs, time.calls, time.part
        )
    };
    layers.iter().map(row).collect::<Vec<_>>().join("\n")
}

fn json_of_failure(failure: &Failure) -> Value {
    json!({
        "event": "failed",
        "message": failure.message,
        "details": failure.details,
        "remedy": failure.remedy.map(remedy_name),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(seeds: &[u64], output: u32) -> JobPlan {
        JobPlan {
            model_name: "Starter".to_owned(),
            seeds: seeds.to_vec(),
            steps: 20,
            width_px: 64,
            height_px: 64,
            output_width_px: output,
            output_height_px: output,
        }
    }

    #[test]
    fn a_plan_reads_as_a_sentence() {
        assert_eq!(
            plan_line(&plan(&[7], 64)),
            "Drawing 1 picture with Starter: 64 × 64, 20 steps, seed 7"
        );
        let short = JobPlan {
            steps: 1,
            ..plan(&[7], 64)
        };
        assert_eq!(
            plan_line(&short),
            "Drawing 1 picture with Starter: 64 × 64, 1 step, seed 7"
        );
        assert_eq!(
            plan_line(&plan(&[7, 8, 9], 256)),
            "Drawing 3 pictures with Starter: 64 × 64, enlarged to 256 × 256, 20 steps, seeds 7 to 9"
        );
    }

    #[test]
    fn progress_names_stage_step_speed_and_time_left() {
        let mut progress = Progress {
            stage: Stage::Drawing,
            fraction: 0.25,
            first: 0,
            batch: 1,
            step: 5,
            steps: 20,
            steps_per_sec: Some(3.12),
            remaining_secs: Some(4.2),
        };
        assert_eq!(
            progress_line(&progress),
            "Drawing, step 5 of 20, 3.1 it/s, 5 s left"
        );
        progress.steps_per_sec = Some(0.4);
        progress.remaining_secs = Some(125.0);
        assert_eq!(
            progress_line(&progress),
            "Drawing, step 5 of 20, 2.5 s/it, 2 min 5 s left"
        );
        let first = Progress {
            step: 0,
            steps_per_sec: None,
            ..progress
        };
        assert_eq!(
            progress_line(&first),
            "Drawing, first of 20 steps, about 2 min 5 s left"
        );
        let only = Progress { steps: 1, ..first };
        assert_eq!(
            progress_line(&only),
            "Drawing, the one step, about 2 min 5 s left"
        );
        progress.stage = Stage::Enlarging;
        progress.remaining_secs = None;
        assert_eq!(progress_line(&progress), "Enlarging");
        assert_eq!(duration_words(3780.0), "1 h 3 min");
        assert_eq!(duration_words(f64::INFINITY), "0 s");
    }

    #[test]
    fn every_failure_is_one_line_and_names_the_flag_that_helps() {
        for (remedy, flag) in [
            (Remedy::UseCpu, "--device"),
            (Remedy::UseF32, "--dtype"),
            (Remedy::ReduceSize, "--width"),
            (Remedy::ChooseModel, "--model"),
            (Remedy::ChooseFolder, "--output"),
        ] {
            let failure = Failure {
                message: "It did not work".to_owned(),
                details: "at line 5".to_owned(),
                remedy: Some(remedy),
            };
            let line = failure_line(&failure);
            assert!(
                line.starts_with("It did not work. ") && line.contains(flag),
                "{line}"
            );
            assert!(
                !line.contains("at line 5") && !line.contains('\n'),
                "{line}"
            );
        }
    }
}
