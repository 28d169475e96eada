//! `cargo xtask run`: sets up, builds the release program and becomes it.

use std::process::{Command, ExitCode};

use crate::libtorch::{self, Device};
use crate::project;
use crate::shell::{self, Result, say};
use crate::system::{self, Need};

/// Runs Easel with these arguments; without any, its window.
pub fn run(arguments: &[String], device: Option<Device>) -> Result<ExitCode> {
    let first = arguments.first().map(String::as_str);
    let wants_window = matches!(first, None | Some("window"));
    if wants_window && !system::has_display() {
        return Err(
            "There is no display here, so no window can open; this draws without one: \
             cargo xtask run -- generate \"a penguin, 3d style\""
                .to_owned(),
        );
    }
    system::ensure(if wants_window {
        Need::Window
    } else {
        Need::Build
    })?;
    libtorch::ensure(device)?;
    build()?;
    let mut easel = Command::new(project::target_folder().join("release/easel"));
    easel.args(arguments);
    // A build folder elsewhere (`CARGO_TARGET_DIR`) says nothing about where the repository is.
    let is_inside = project::target_folder().starts_with(project::root());
    if !is_inside && std::env::var_os("EASEL_WEIGHTS").is_none() {
        easel.env("EASEL_WEIGHTS", project::root().join("weights"));
    }
    become_program(&mut easel)
}

/// Builds the release program.
pub fn build() -> Result<()> {
    say("Building Easel (release); the first time takes some minutes.");
    shell::check(&mut project::cargo(&[
        "build",
        "--release",
        "--package",
        "easel",
    ]))
}

/// Hands this process over: signals and the exit code are the program's own.
#[cfg(unix)]
fn become_program(command: &mut Command) -> Result<ExitCode> {
    use std::os::unix::process::CommandExt;
    let error = command.exec();
    Err(format!(
        "{} cannot be started: {error}",
        shell::describe(command)
    ))
}

/// Runs the program and passes its exit code on.
#[cfg(not(unix))]
fn become_program(command: &mut Command) -> Result<ExitCode> {
    let status = command
        .status()
        .map_err(|error| format!("{} cannot be started: {error}", shell::describe(command)))?;
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    Ok(ExitCode::from(code.unwrap_or(1)))
}
