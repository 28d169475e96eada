//! Easel's side of `benches/compare.sh`: one piece of work a process, one JSON line with the median
//! seconds, the largest memory and a mean that shows that both sides did the same work.
//!
//! ```text
//! peer picture | unet-512 | unet-768 | vae-512 | vae-1024 | start    [exact]
//! ```
//!
//! `exact` computes by libtorch's operators alone, as `easel generate --exact` does.

mod common;

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::Instant;

use easel::error::{Error, Result};
use easel::pipeline::Exactly;

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
        Some("start") => start(),
        // `cargo bench` without a word runs every bench; this one is for compare.sh.
        None => return ExitCode::SUCCESS,
        Some(other) => Err(Error::Request(format!(
            "picture, unet-512, unet-768, vae-512, vae-1024 or start, not {other}"
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
    let seconds = timed(3, || common::call_unet(&unet, side).map(drop))?;
    report(seconds, Some(mean), peak_mb("self"));
    Ok(())
}

fn vae(side: i64) -> Result<()> {
    let vae = common::sd15_vae()?;
    let mean = common::decode(&vae, side)?
        .abs()
        .mean(None)
        .double_value(&[]);
    let seconds = timed(3, || common::decode(&vae, side).map(drop))?;
    report(seconds, Some(mean), peak_mb("self"));
    Ok(())
}

/// What the window logs when its first complete frame is on its way to the screen.
const USABLE: &str = "the window is usable";

/// The window's start on a screen in memory, with settings of its own: median of five.
fn start() -> Result<()> {
    let mut screen = Screen::start()?;
    let mut times = Vec::new();
    let mut peak = 0;
    for _ in 0..6 {
        let home = tempfile::tempdir().map_err(|error| Error::io("Making", "", error))?;
        let begin = Instant::now();
        let mut window = window(&screen.display, home.path())?;
        let errors = window.stderr.take().map(BufReader::new);
        let mut lines = errors
            .into_iter()
            .flat_map(BufRead::lines)
            .map_while(std::io::Result::ok);
        let is_usable = lines.any(|line| line.contains(USABLE));
        times.push(begin.elapsed().as_secs_f64());
        peak = peak_mb(&window.id().to_string()).max(peak);
        stop(&mut window);
        if !is_usable {
            return Err(Error::Request(
                "the window closed before it was usable".to_owned(),
            ));
        }
    }
    stop(&mut screen.server);
    times.remove(0); // the first one reads the program from the disk
    times.sort_by(f64::total_cmp);
    report(times.get(2).copied().unwrap_or_default(), None, peak);
    Ok(())
}

/// Starts the release program beside this bench with nothing remembered.
fn window(display: &str, home: &Path) -> Result<Child> {
    let target = std::env::current_exe().ok();
    let folder = target.as_deref().and_then(|path| path.ancestors().nth(2));
    let program = folder.map_or_else(|| PathBuf::from("easel"), |folder| folder.join("easel"));
    let mut command = Command::new(&program);
    command
        .env("DISPLAY", display)
        .env_remove("WAYLAND_DISPLAY");
    command
        .env("HOME", home)
        .env("XDG_CONFIG_HOME", home)
        .env("XDG_DATA_HOME", home);
    command.env("RUST_LOG", "easel=info");
    command.stdout(Stdio::null()).stderr(Stdio::piped());
    command
        .spawn()
        .map_err(|error| Error::io("Starting", &program, error))
}

/// An X server without a screen.
struct Screen {
    server: Child,
    display: String,
}

impl Screen {
    fn start() -> Result<Self> {
        let failed = |error| Error::io("Starting", "Xvfb", error);
        let mut command = Command::new("Xvfb");
        command.args([
            "-displayfd",
            "1",
            "-screen",
            "0",
            "1280x800x24",
            "-nolisten",
            "tcp",
        ]);
        command.stdout(Stdio::piped()).stderr(Stdio::null());
        let mut server = command.spawn().map_err(failed)?;
        let mut number = String::new();
        if let Some(out) = server.stdout.take() {
            BufReader::new(out).read_line(&mut number).map_err(failed)?;
        }
        let display = format!(":{}", number.trim());
        Ok(Self { server, display })
    }
}

/// Ends a program that this one started.
fn stop(program: &mut Child) {
    let _ = program.kill();
    let _ = program.wait();
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

fn report(seconds: f64, mean: Option<f64>, peak_mb: u64) {
    let mean = mean
        .map(|mean| format!("\"mean\": {mean}, "))
        .unwrap_or_default();
    println!("{{\"seconds\": {seconds}, {mean}\"peak_mb\": {peak_mb}}}");
}

/// The largest resident memory of a process so far, as Linux tells; 0 where it does not.
fn peak_mb(process: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmHWM:"));
    let kb = line.and_then(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok());
    kb.unwrap_or_default() * 1024 / 1_000_000
}
