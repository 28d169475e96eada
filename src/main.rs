//! Chooses between the window and a headless command.

use std::process::Command as Process;

use easel::cli::{self, Command};
use easel::{app, settings};

/// How libtorch's threads wait for each other: turns of a loop before they sleep. OpenMP (GCC's) reads
/// it before `main` begins.
const SPIN_COUNT: (&str, &str) = ("GOMP_SPINCOUNT", "10000");
/// The standard's word for the same.
const WAIT_POLICY: &str = "OMP_WAIT_POLICY";

fn main() {
    let arguments = cli::parse();
    if matches!(
        arguments.command,
        None | Some(Command::Window | Command::Generate(_))
    ) {
        restart_with_patient_threads();
    }
    let code = match arguments.command {
        None | Some(Command::Window) => open_window(arguments.verbose),
        Some(command) => cli::run(command, arguments.verbose),
    };
    cli::leave(code)
}

fn open_window(verbose: bool) -> u8 {
    match app::run(cli::start_worker, settings::default_path()) {
        Ok(()) => cli::DONE,
        Err(error) => cli::report_error(&error, verbose),
    }
}

/// Starts this program anew, in its own place, with threads that soon sleep while they wait.
///
/// By default they spin, which keeps the window and every other program from the processor: a picture
/// that takes 0.6 s on two free cores takes 11 s beside compilers, and 0.75 s with threads that spin
/// for some microseconds only. Threads that never spin take 0.85 s and 1.1 s. Who sets a variable
/// keeps what was set. Where the restart fails, Easel goes on as it is.
#[cfg(unix)]
fn restart_with_patient_threads() {
    use std::os::unix::process::CommandExt;
    let (name, count) = SPIN_COUNT;
    if [name, WAIT_POLICY]
        .map(std::env::var_os)
        .iter()
        .any(Option::is_some)
    {
        return;
    }
    if let Ok(program) = std::env::current_exe() {
        let error = Process::new(program)
            .args(std::env::args_os().skip(1))
            .env(name, count)
            .exec();
        log::warn!("threads will spin while they wait: {error}");
    }
}

#[cfg(not(unix))]
fn restart_with_patient_threads() {}
