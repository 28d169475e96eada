//! Chooses between the window and a headless command.

use std::process::ExitCode;

use easel::cli::{self, Command};
use easel::{app, settings};

fn main() -> ExitCode {
    let arguments = cli::parse();
    match arguments.command {
        None | Some(Command::Window) => open_window(arguments.verbose),
        Some(command) => cli::run(command, arguments.verbose),
    }
}

fn open_window(verbose: bool) -> ExitCode {
    match app::run(cli::start_worker, settings::default_path()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => cli::report_error(&error, verbose),
    }
}
