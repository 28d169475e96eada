//! The command line: the same requests, worker and files as the window, without a window.
//!
//! [`parse`] reads the words, [`run`] does what they say and gives the exit code: 0 done, 1 failed,
//! 2 wrong arguments (clap's own), 130 interrupted.

mod args;
mod convert;
mod generate;
mod info;
mod inspect;
mod models;
mod notes;
mod report;
mod settings_from;

use std::io::{IsTerminal, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use clap::Parser;
use crossbeam_channel::{Receiver, bounded};

pub use args::{Arguments, Command, Convert, Generate, Info, Inspect, Models, Output};
pub use generate::{Outcome, Session, generate};
pub use info::info;
pub use inspect::inspect;
pub use models::models;
pub use report::{Reporter, Streams, failure_line};
pub use settings_from::settings_from;

use crate::error::{Error, Result};
use crate::output;
use crate::paths;
use crate::request::GenerationRequest;
use crate::settings::{self, Settings};
use crate::worker::message::{Failure, Job, JobId, Preview, PreviewSlot};
use crate::worker::{self, Handle, Priority, WorkerConfig};

/// The exit code of what worked.
pub const DONE: u8 = 0;
const FAILED: u8 = 1;
/// What a shell expects of a program that Ctrl-C ended.
const INTERRUPTED: u8 = 130;
/// Previews that may wait to be written before the drawing waits for them.
const PREVIEWS_WAITING: usize = 16;

/// Reads the command line. Wrong arguments and `--help` end the program here.
pub fn parse() -> Arguments {
    let arguments = Arguments::parse();
    let level = if arguments.verbose {
        "easel=debug"
    } else {
        "off"
    };
    env_logger::Builder::from_env(env_logger::Env::default().default_filter_or(level)).init();
    arguments
}

/// Runs a command other than `window` and gives the exit code.
pub fn run(command: Command, verbose: bool) -> u8 {
    let (mut out, mut err) = (std::io::stdout(), std::io::stderr());
    let mut to = Streams {
        out: &mut out,
        err: &mut err,
    };
    match dispatch(command, &mut to) {
        Ok(Outcome::Done) => DONE,
        Ok(Outcome::Unsaved) => FAILED,
        Ok(Outcome::Interrupted) => INTERRUPTED,
        Ok(Outcome::Failed(failure)) => {
            write_details(&failure, verbose, &mut to);
            FAILED
        }
        Err(error) => report_error(&error, verbose),
    }
}

/// One plain line on standard error, its technical cause with `--verbose`; exit code 1.
pub fn report_error(error: &Error, verbose: bool) -> u8 {
    let (mut out, mut err) = (std::io::stdout(), std::io::stderr());
    let mut to = Streams {
        out: &mut out,
        err: &mut err,
    };
    let failure = Failure::from(error);
    to.err(&failure.message);
    write_details(&failure, verbose, &mut to);
    FAILED
}

/// Ends the program at once. A usual exit takes libtorch's globals apart while the drawing thread may
/// still compute with them, which ends in a panic's pages of text or in a crash. What had to be written
/// is written by now: settings and files when the window and the worker's handle were dropped.
pub fn leave(code: u8) -> ! {
    // A reader that has gone away is no reason to stay.
    let _ = std::io::stdout().flush();
    // SAFETY: `_exit` takes any number, touches no memory of ours and does not come back.
    unsafe { libc::_exit(code.into()) }
}

fn write_details(failure: &Failure, verbose: bool, to: &mut Streams<'_>) {
    if verbose && !failure.details.is_empty() {
        to.err(format_args!("Details: {}", failure.details));
    }
}

fn dispatch(command: Command, to: &mut Streams<'_>) -> Result<Outcome> {
    match command {
        // The caller opens the window.
        Command::Window => {}
        Command::Generate(arguments) => return generate_with_worker(&arguments, to),
        Command::Convert(arguments) => return convert::convert(&arguments, &interrupts()?, to),
        Command::Info(arguments) => info(&arguments.image, arguments.json, to)?,
        Command::Inspect(arguments) => inspect(&arguments, to)?,
        Command::Models(arguments) => {
            let handle = start_worker(Box::new(|| {}), Priority::Usual)?;
            let folders = window_settings().model_folders;
            models(folders, arguments.folders, arguments.json, &handle, to)?;
        }
    }
    Ok(Outcome::Done)
}

/// Starts the worker with the weights that come with Easel. `wake` is called after every event.
///
/// Errors: where there are no weights, or the system gives no thread.
pub fn start_worker(wake: Box<dyn Fn() + Send + Sync>, priority: Priority) -> Result<Handle> {
    let weights = paths::weights()?;
    worker::start(WorkerConfig {
        weights,
        cache: paths::cache(),
        priority,
        wake,
    })
}

fn generate_with_worker(arguments: &Generate, to: &mut Streams<'_>) -> Result<Outcome> {
    let (wake, slot, previews) = preview_queue();
    let handle = start_worker(wake, Priority::Usual)?;
    // Set once, here: nobody else has it.
    let _ = slot.set(handle.previews().clone());
    let mut reporter = reporter(arguments, std::io::stderr().is_terminal());
    let settings = window_settings();
    let base = match &arguments.settings_from {
        Some(image) => {
            let folders = settings.model_folders.clone();
            settings_from(
                image,
                arguments.prompt.is_some(),
                folders,
                &handle,
                &reporter,
                to,
            )?
        }
        None => GenerationRequest::default(),
    };
    let job = job(arguments, settings, base);
    output::check_target(&job.save_to)?;
    if arguments.refiner_start.is_some() && job.request.refiner.is_none() {
        reporter.note("--refiner-start changes nothing without --refiner", to);
    }
    for note in notes::of_prompts(&job.request, &job.model_folders) {
        reporter.note(note, to);
    }
    let session = Session {
        handle: &handle,
        previews,
        interrupts: interrupts()?,
    };
    generate(
        job,
        arguments.preview.as_deref(),
        session,
        &mut reporter,
        to,
    )
}

/// The job of a command line, with the window's own places for what it does not say.
fn job(arguments: &Generate, settings: Settings, base: GenerationRequest) -> Job {
    let (save_to, format) = arguments.target(settings.pictures_folder(), settings.format);
    Job {
        id: JobId(1),
        request: arguments.request(base),
        save_to,
        format,
        latents_to: arguments.save_latents.clone(),
        model_folders: settings.model_folders,
        previews: arguments.preview.is_some(),
        profile: arguments.profile,
    }
}

/// What was set up in the window: the pictures folder, the format, the model folders.
fn window_settings() -> Settings {
    let path = settings::default_path();
    path.as_deref().map(settings::load).unwrap_or_default()
}

fn reporter(arguments: &Generate, terminal: bool) -> Reporter {
    match (arguments.json, arguments.quiet, terminal) {
        (true, _, _) => Reporter::Json,
        (_, true, _) => Reporter::Quiet,
        (_, _, true) => Reporter::bar(),
        (_, _, false) => Reporter::Lines(None),
    }
}

type Wake = Box<dyn Fn() + Send + Sync>;

/// A wake function that empties the preview slot into a queue, from the worker's own thread: the
/// window may skip previews, `--preview` writes each one.
fn preview_queue() -> (Wake, Arc<OnceLock<PreviewSlot>>, Receiver<Preview>) {
    let slot: Arc<OnceLock<PreviewSlot>> = Arc::default();
    let (waiting, previews) = bounded(PREVIEWS_WAITING);
    let worker_slot = Arc::clone(&slot);
    let wake = move || {
        if let Some(preview) = worker_slot.get().and_then(PreviewSlot::take) {
            // Where nobody listens any more, the program is ending.
            let _ = waiting.send(preview);
        }
    };
    (Box::new(wake), slot, previews)
}

/// A message at the first Ctrl-C; the second ends the program at once.
fn interrupts() -> Result<Receiver<()>> {
    let (asked, interrupts) = bounded(1);
    let before = AtomicBool::new(false);
    ctrlc::set_handler(move || {
        if before.swap(true, Ordering::SeqCst) {
            leave(INTERRUPTED);
        }
        let _ = asked.try_send(());
    })
    .map_err(|error| Error::Panic {
        details: format!("Ctrl-C cannot be listened to: {error}"),
    })?;
    Ok(interrupts)
}

/// `1.2 GB`, as file managers count.
fn size_words(bytes: u64) -> String {
    let bytes = bytes as f64;
    for (unit, name) in [(1e9, "GB"), (1e6, "MB"), (1e3, "kB")] {
        if bytes >= unit {
            return format!("{:.1} {name}", bytes / unit);
        }
    }
    format!("{bytes} bytes")
}
