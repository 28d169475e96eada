//! Chooses between the window and a headless command.

use std::process::Command as Process;

use easel::cli::{self, Command};
use easel::worker::Priority;
use easel::{app, settings};

/// What libraries read before `main` begins: a variable, and the variable of the standard that says the
/// same in other words.
const EARLY: [(&str, &str, &str); 2] = [
    // How libtorch's threads wait for each other: turns of a loop before they sleep (GCC's OpenMP). By
    // default they spin, which keeps the window and every other program from the processor: a picture
    // that takes 0.6 s on two free cores takes 11 s beside compilers, and 0.75 s with threads that spin
    // for some microseconds only. Threads that never spin take 0.85 s and 1.1 s.
    ("GOMP_SPINCOUNT", "10000", "OMP_WAIT_POLICY"),
    // glibc's allocator: large tensors in pages of 2 MB instead of 4 KB.
    ("GLIBC_TUNABLES", "glibc.malloc.hugetlb=1", ""),
];

/// Tells the program that it was started anew, and which variables were set for it.
const PREPARED: &str = "EASEL_PREPARED";

fn main() {
    let arguments = cli::parse();
    if matches!(
        arguments.command,
        None | Some(Command::Window | Command::Generate(_))
    ) {
        restart_prepared();
    }
    let code = match arguments.command {
        None | Some(Command::Window) => open_window(arguments.verbose),
        Some(command) => cli::run(command, arguments.verbose),
    };
    cli::leave(code)
}

fn open_window(verbose: bool) -> u8 {
    let start = |wake| cli::start_worker(wake, Priority::BelowWindow);
    match app::run(start, settings::default_path()) {
        Ok(()) => cli::DONE,
        Err(error) => cli::report_error(&error, verbose),
    }
}

/// Starts this program anew, in its own place, where [`EARLY`] has something to say. Who sets a variable
/// keeps what was set. Where the restart fails, Easel goes on as it is. Programs that Easel starts do not
/// inherit what was set for it.
#[cfg(unix)]
fn restart_prepared() {
    use std::os::unix::process::CommandExt;
    if let Some(set) = std::env::var_os(PREPARED) {
        let own = EARLY.iter().map(|(name, ..)| *name);
        for name in own.filter(|name| set.to_string_lossy().split(',').any(|it| it == *name)) {
            // SAFETY: no other thread runs yet that could read the environment.
            unsafe { std::env::remove_var(name) };
        }
        // SAFETY: as above.
        unsafe { std::env::remove_var(PREPARED) };
        return;
    }
    let unset = |name: &str| std::env::var_os(name).is_none();
    let missing: Vec<_> = EARLY
        .iter()
        .filter(|(name, _, same)| unset(name) && unset(same))
        .map(|(name, value, _)| (*name, *value))
        .collect();
    if missing.is_empty() {
        return;
    }
    let names: Vec<&str> = missing.iter().map(|(name, _)| *name).collect();
    if let Ok(program) = std::env::current_exe() {
        let error = Process::new(program)
            .args(std::env::args_os().skip(1))
            .env(PREPARED, names.join(","))
            .envs(missing)
            .exec();
        log::warn!("threads will spin while they wait: {error}");
    }
}

#[cfg(not(unix))]
fn restart_prepared() {}
