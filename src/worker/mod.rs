//! The worker: threads that load, draw and keep files, behind a handle of plain messages.

mod handle;
pub mod message;

use std::path::PathBuf;

pub use handle::{Cancelled, Ends, Handle, channel};

/// What a worker needs to start.
pub struct WorkerConfig {
    /// The folder with `starter/` and `upscalers/`.
    pub weights: PathBuf,
    /// Called after every event and preview, from the worker's threads: ask for a repaint here.
    pub wake: Box<dyn Fn() + Send + Sync>,
}
