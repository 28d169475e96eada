//! Easel's side of `benches/compare.sh`: one piece of work a process, one JSON line with the median
//! seconds, the largest memory and a mean that shows that both sides did the same work.
//!
//! ```text
//! peer picture | unet-512 | unet-768 | vae-512 | vae-1024    [exact]
//! peer load FOLDER | unet-xl FOLDER
//! peer attention | start | smooth
//! ```
//!
//! `exact` computes by libtorch's operators alone, as `easel generate --exact` does.

mod attention;
#[path = "../common/mod.rs"]
mod common;
mod screen;
mod window;

use std::cell::RefCell;
use std::ops::Range;
use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

use easel::error::{Error, Result};
use easel::families::{ModelFiles, Part, StableDiffusion};
use easel::models::unet::{Added, Conditioning, UNet2DConditionModel};
use easel::pipeline::{Drawn, Exactly, GenerationPlan, Watcher, generate};
use easel::request::{GenerationRequest, PictureFormat, Pixels, Stage};
use tch::{Device, Kind, Tensor};

fn main() -> ExitCode {
    // `cargo bench` adds `--bench`.
    let words: Vec<String> = std::env::args()
        .skip(1)
        .filter(|word| !word.starts_with('-'))
        .collect();
    let _exactly = Exactly::when(words.iter().any(|word| word == "exact"));
    let result = match words.first().map(String::as_str) {
        Some("picture") => picture(),
        Some("unet-512") => unet(512),
        Some("unet-768") => unet(768),
        Some("vae-512") => vae(512),
        Some("vae-1024") => vae(1024),
        Some("attention") => attention::attention_speeds(),
        Some("start") => window::start(),
        Some("smooth") => window::smooth(),
        Some(work @ ("load" | "unet-xl")) => match words.get(1).map(Path::new) {
            Some(folder) if work == "load" => load(folder),
            Some(folder) => unet_xl(folder),
            None => Err(Error::Request("of which folder?".to_owned())),
        },
        // `cargo bench` without a word runs every bench; this one is for compare.sh.
        None => return ExitCode::SUCCESS,
        Some(other) => Err(Error::Request(format!(
            "picture, unet-512, unet-768, unet-xl, vae-512, vae-1024, load, attention, start or smooth, \
             not {other}"
        ))),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn picture() -> Result<()> {
    let mut model = common::starter()?;
    let picture = common::draw(&mut model)?;
    let sum: f64 = picture.rgb.iter().map(|value| f64::from(*value)).sum();
    let mean = sum / picture.rgb.len() as f64;
    let seconds = timed(9, || common::draw(&mut model).map(drop))?;
    report(seconds, Some(mean), peak_mb("self"));
    Ok(())
}

fn unet(side: i64) -> Result<()> {
    let unet = common::sd15_unet()?;
    let value = common::call_unet(&unet, side)?;
    let mean = value.abs().mean(None).double_value(&[]);
    let seconds = timed(rounds(side), || common::call_unet(&unet, side).map(drop))?;
    report(seconds, Some(mean), peak_mb("self"));
    Ok(())
}

/// SDXL's, loaded as for a drawing, at 1024 x 1024.
fn unet_xl(folder: &Path) -> Result<()> {
    let files = ModelFiles::open(folder)?;
    let weights = files.load(Part::Unet, Device::Cpu, Kind::Float, &mut |_| ())?;
    let unet = UNet2DConditionModel::new(files.unet, &weights)?;
    drop(weights);
    let side = 1024.0;
    let numbers = Tensor::from_slice(&[side, side, 0.0, 0.0, side, side]).to_kind(Kind::Float);
    let told = Added {
        text_embeds: &common::pattern(&[2, 1280]),
        time_ids: &numbers.unsqueeze(0).expand([2, 6], false),
    };
    let (latents, states) = (
        common::pattern(&[2, 4, 128, 128]),
        common::pattern(&[2, 77, 2048]),
    );
    let call = || {
        let _no_grad = tch::no_grad_guard();
        let conditioning = Conditioning {
            encoder_hidden_states: &states,
            key_values: None,
            added: Some(told),
            guidance_scale: None,
        };
        unet.forward(&latents, 500.0, conditioning)
    };
    let mean = call()?.abs().mean(None).double_value(&[]);
    let seconds = timed(rounds(1024), || call().map(drop))?;
    report(seconds, Some(mean), peak_mb("self"));
    Ok(())
}

fn vae(side: i64) -> Result<()> {
    let vae = common::sd15_vae()?;
    let mean = common::decode(&vae, side)?
        .abs()
        .mean(None)
        .double_value(&[]);
    let seconds = timed(rounds(side), || common::decode(&vae, side).map(drop))?;
    report(seconds, Some(mean), peak_mb("self"));
    Ok(())
}

/// A model in f32 from its files to the first step. `seconds`: from opening the folder to the first call
/// of the UNet, the prompt read by then; `process`: the same from the start of the process; `step`: to the
/// end of that call, at 64 x 64 pixels, after which every weight was looked at.
fn load(folder: &Path) -> Result<()> {
    let first = FirstStep {
        begin: Instant::now(),
        reached: RefCell::default(),
    };
    let files = ModelFiles::open(folder)?;
    let mut model = StableDiffusion::load(&files, false, Device::Cpu, Kind::Float, &mut |_| ())?;
    let request = GenerationRequest {
        prompt: "a penguin, 3d style".to_owned(),
        width_px: Some(64),
        height_px: Some(64),
        ..GenerationRequest::default()
    };
    let plan = GenerationPlan::resolve(&request, &model, 1, PictureFormat::Png)?;
    let mut watcher = first;
    match generate(&mut model, &plan, None, &mut watcher) {
        Err(Error::Cancelled) => {}
        other => return other,
    }
    let reached = watcher.reached.into_inner();
    println!("{{{}}}", reached.join(", "));
    Ok(())
}

/// Looks at the clock and the memory when the UNet is called first, and when that call is over; then stops.
struct FirstStep {
    begin: Instant,
    reached: RefCell<Vec<String>>,
}

impl Watcher for FirstStep {
    fn cancelled(&self) -> bool {
        let seconds = self.begin.elapsed().as_secs_f64();
        let mut reached = self.reached.borrow_mut();
        if reached.is_empty() {
            reached.push(format!("\"seconds\": {seconds}"));
            reached.push(format!("\"process\": {}", since_start()));
            reached.push(format!("\"begin_mb\": {}", memory_mb("self", "VmHWM:")));
            return false;
        }
        reached.push(format!("\"step\": {seconds}"));
        reached.push(format!(
            "\"anonymous_mb\": {}",
            memory_mb("self", "RssAnon:")
        ));
        reached.push(format!("\"peak_mb\": {}", peak_mb("self")));
        true
    }
    fn closing(&self) -> bool {
        true
    }
    fn wants_previews(&self) -> bool {
        false
    }
    fn stage(&mut self, _batch: Range<usize>, _stage: Stage) {}
    fn step(&mut self, _batch: Range<usize>, _step: usize) {}
    fn preview(&mut self, _batch: Range<usize>, _step: usize, _pictures: Vec<Pixels>) {}
    fn drawn(&mut self, _drawn: Drawn) -> Result<()> {
        Ok(())
    }
}

/// Seconds since this process was started, by the system's clock.
fn since_start() -> f64 {
    const TICKS: f64 = 100.0;
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let uptime = std::fs::read_to_string("/proc/uptime").unwrap_or_default();
    let number = |word: Option<&str>| word.and_then(|word| word.parse::<f64>().ok());
    let after_name = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let started = number(after_name.split_whitespace().nth(19)).unwrap_or_default() / TICKS;
    number(uptime.split_whitespace().next()).unwrap_or_default() - started
}

/// Large pictures take their time.
fn rounds(side: i64) -> usize {
    if side > 512 { 1 } else { 3 }
}

/// Median seconds of a piece of work that was done once before.
fn timed(rounds: usize, mut work: impl FnMut() -> Result<()>) -> Result<f64> {
    let mut times = Vec::with_capacity(rounds);
    for _ in 0..rounds {
        let begin = Instant::now();
        work()?;
        times.push(begin.elapsed().as_secs_f64());
    }
    times.sort_by(f64::total_cmp);
    Ok(times.get(rounds / 2).copied().unwrap_or_default())
}

fn report(seconds: f64, mean: Option<f64>, peak_mb: u64) {
    let mean = mean
        .map(|mean| format!("\"mean\": {mean}, "))
        .unwrap_or_default();
    println!("{{\"seconds\": {seconds}, {mean}\"peak_mb\": {peak_mb}}}");
}

/// The largest resident memory of a process so far, as Linux tells; 0 where it does not.
fn peak_mb(process: &str) -> u64 {
    memory_mb(process, "VmHWM:")
}

/// A line of Linux's account of a process's memory; 0 where there is none.
fn memory_mb(process: &str, what: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with(what));
    let kb = line.and_then(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok());
    kb.unwrap_or_default() * 1024 / 1_000_000
}
