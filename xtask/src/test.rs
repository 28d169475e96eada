//! `cargo xtask test`: every check and test there is, with the time that each part took.

use std::process::Command;
use std::time::{Duration, Instant};

use crate::libtorch::{self, Device};
use crate::project;
use crate::shell::{self, Result, say};
use crate::system::{self, Need};

/// Sets up, then runs the checks from the quickest to the slowest; stops at the first that fails.
pub fn test(device: Option<Device>) -> Result<()> {
    let mut times = Vec::new();
    let mut timed = |name: &'static str, work: &mut dyn FnMut() -> Result<()>| {
        say(name);
        let start = Instant::now();
        let result = work();
        times.push((name, start.elapsed()));
        result
    };
    timed("set-up", &mut || {
        system::ensure(Need::Tests)?;
        ensure_tools()?;
        libtorch::ensure(device)
    })?;
    timed("format", &mut || {
        shell::check(&mut project::cargo(&["fmt", "--all", "--check"]))
    })?;
    timed("lints", &mut || {
        let arguments = [
            "clippy",
            "--workspace",
            "--all-targets",
            "--",
            "--deny",
            "warnings",
        ];
        shell::check(&mut project::cargo(&arguments))
    })?;
    timed("documentation", &mut || {
        let mut doc = project::cargo(&["doc", "--workspace", "--no-deps", "--quiet"]);
        shell::check(doc.env("RUSTDOCFLAGS", "--deny warnings"))
    })?;
    timed("tests", &mut || {
        // Tests run side by side already; libtorch's own threads would only wait for each other.
        let mut tests = project::cargo(&["test", "--workspace"]);
        shell::check(tests.env("OMP_NUM_THREADS", "1"))
    })?;
    report(&times);
    Ok(())
}

/// rustfmt and clippy: not in every Rust installation.
fn ensure_tools() -> Result<()> {
    let works = |tool| {
        let output = project::cargo(&[tool, "--version"]).output();
        output.is_ok_and(|output| output.status.success())
    };
    if works("fmt") && works("clippy") {
        return Ok(());
    }
    if shell::has_program("rustup") {
        say("Installing rustfmt and clippy");
        let mut rustup = Command::new("rustup");
        let add = rustup.args(["component", "add", "rustfmt", "clippy"]);
        return shell::check(add.current_dir(project::root()));
    }
    Err("cargo fmt and cargo clippy are needed, and rustup, which would install them, is not here. Install both.".to_owned())
}

fn report(times: &[(&str, Duration)]) {
    eprintln!();
    for (name, time) in times {
        say(&format!("{:>5} s  {name}", time.as_secs()));
    }
    let total: Duration = times.iter().map(|(_, time)| *time).sum();
    say(&format!("{:>5} s  all checks passed", total.as_secs()));
}
