//! The worker: threads that load, draw and keep files, behind a handle of plain messages.
//!
//! The drawing thread (`engine`) takes one [`message::Command`] after another; the file thread
//! (`desk`) answers [`message::FileCommand`]s meanwhile, the library thread (`library`) looks for models.
//! All report [`message::Event`]s into one ordered queue; previews overwrite one slot.

mod add_ons;
mod convert;
mod desk;
mod device;
mod engine;
mod handle;
mod hashes;
mod inspect;
mod job;
mod library;
mod lookup;
pub mod message;
mod model_hash;
mod pace;
mod priority;
mod queue;
mod token_counter;
mod watch;
mod wildcards;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;

use crossbeam_channel::{Sender, bounded};

pub use crate::families::{Inspection, PlannedConvolution};
pub use convert::{Conversion, Converted, convert};
pub use handle::{Cancelled, Ends, Handle, channel};
pub use inspect::{Inspected, convolutions, inspect};
pub use lookup::look_up;
pub use priority::Priority;

use crate::error::{Error, Result};
use crate::output;
use crate::request::{GenerationRequest, Recipe};
use hashes::Hashes;
use message::Event;

/// The network that enlarges where a picture's model does not name one.
const DEFAULT_UPSCALER: &str = "realesr-animevideov3-x4";

/// Searches for models that may wait for the one before; a person starts them one by one.
const SEARCHES_WAITING: usize = 1024;

/// What a worker needs to start.
pub struct WorkerConfig {
    /// The folder with `starter/` and `upscalers/`.
    pub weights: PathBuf,
    /// Where the hashes of models are kept; `None`: none is computed ahead.
    pub cache: Option<PathBuf>,
    /// Of the thread that draws.
    pub priority: Priority,
    /// Called after every event and preview, from the worker's threads: ask for a repaint here.
    pub wake: Box<dyn Fn() + Send + Sync>,
}

/// The lists that the prompts of `request` may name: `animals/birds`.
pub fn wildcard_names(request: &GenerationRequest, model_folders: &[PathBuf]) -> Vec<String> {
    // Where they cannot be read, the drawing says why.
    let found = wildcards::WildcardFiles::of(request, model_folders);
    found.unwrap_or_default().names()
}

/// Starts the worker's threads. They end when the handle is dropped.
///
/// Errors: [`Error::Panic`] where the system gives no thread.
pub fn start(config: WorkerConfig) -> Result<Handle> {
    let config = Arc::new(config);
    let (mut handle, ends) = channel();
    let hashes = Hashes::load(config.cache.as_deref());
    let (searches, searches_out) = bounded(SEARCHES_WAITING);
    let (desk_config, desk_ends) = (Arc::clone(&config), ends.clone());
    handle.desk = Some(spawn("easel-files", move || {
        desk::run(&desk_config, &desk_ends, &searches);
    })?);
    let (library_config, library_ends) = (Arc::clone(&config), ends.clone());
    let library_hashes = Arc::clone(&hashes);
    spawn("easel-library", move || {
        library::run(
            &library_config,
            library_hashes,
            &searches_out,
            &library_ends,
        );
    })?;
    let priority = config.priority;
    spawn("easel-engine", move || {
        priority.take();
        engine::Engine::new(config, ends, hashes).run();
    })?;
    Ok(handle)
}

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>> {
    std::thread::Builder::new()
        .name(name.to_owned())
        .spawn(work)
        .map_err(|error| Error::Panic {
            details: format!("the thread {name} could not be started: {error}"),
        })
}

/// Reports an event and asks the window to look. A window that is gone needs no report.
fn send(events: &Sender<Event>, config: &WorkerConfig, event: Event) {
    if events.send(event).is_ok() {
        (config.wake)();
    }
}

/// Where the model that ships lies.
fn starter_folder(weights: &Path) -> PathBuf {
    weights.join("starter")
}

/// Where an enlarging network lies that a model names.
fn upscaler_file(weights: &Path, name: &str) -> PathBuf {
    weights
        .join("upscalers")
        .join(format!("{name}.safetensors"))
}

/// The settings that a picture carries. Damaged ones keep nobody from the picture itself: they are
/// said in the log.
fn recipe_of(picture: &Path) -> Option<Recipe> {
    output::read_recipe(picture).unwrap_or_else(|error| {
        log::warn!("{error}");
        None
    })
}
