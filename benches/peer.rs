//! Easel's side of `benches/compare.sh`: one piece of work a process, one JSON line with the median
//! seconds, the largest memory and a mean that shows that both sides did the same work.
//!
//! ```text
//! peer picture | unet
//! ```

mod common;

use std::process::ExitCode;
use std::time::Instant;

use easel::error::{Error, Result};

fn main() -> ExitCode {
    // `cargo bench` adds `--bench`.
    let work = std::env::args().skip(1).find(|word| !word.starts_with('-'));
    let result = match work.as_deref() {
        Some("picture") => picture(),
        Some("unet") => unet(),
        // `cargo bench` without a word runs every bench; this one is for compare.sh.
        None => return ExitCode::SUCCESS,
        Some(other) => Err(Error::Request(format!("picture or unet, not {other}"))),
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
    report(seconds, mean);
    Ok(())
}

fn unet() -> Result<()> {
    let unet = common::sd15_unet()?;
    let mean = common::call_unet(&unet)?.abs().mean(None).double_value(&[]);
    let seconds = timed(5, || common::call_unet(&unet).map(drop))?;
    report(seconds, mean);
    Ok(())
}

/// Median seconds of a piece of work, after one round that is not counted.
fn timed(rounds: usize, mut work: impl FnMut() -> Result<()>) -> Result<f64> {
    work()?;
    let mut times = Vec::with_capacity(rounds);
    for _ in 0..rounds {
        let begin = Instant::now();
        work()?;
        times.push(begin.elapsed().as_secs_f64());
    }
    times.sort_by(f64::total_cmp);
    Ok(times.get(rounds / 2).copied().unwrap_or_default())
}

fn report(seconds: f64, mean: f64) {
    let peak_mb = peak_mb().unwrap_or_default();
    println!("{{\"seconds\": {seconds}, \"mean\": {mean}, \"peak_mb\": {peak_mb}}}");
}

/// The largest resident memory of this process so far, as Linux tells.
fn peak_mb() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    let kb: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kb * 1024 / 1_000_000)
}
