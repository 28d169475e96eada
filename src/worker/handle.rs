//! The window's end of the worker: sends commands, receives events, cancels jobs.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use crossbeam_channel::{Receiver, Sender, bounded, never};

use super::message::{Command, Event, FileCommand, JobId, PreviewSlot};
use crate::error::{Error, Result};

/// Commands that may wait; far more than a person queues.
const COMMANDS_WAITING: usize = 1024;
/// Events that may wait for the window before the worker waits for it.
const EVENTS_WAITING: usize = 4096;

/// Talks to the worker. Dropping it stops the drawing after the UNet call it is in, and waits for the
/// files that are still to be written.
#[derive(Debug)]
pub struct Handle {
    commands: Sender<Command>,
    files: Sender<FileCommand>,
    events: Receiver<Event>,
    previews: PreviewSlot,
    cancelled: Cancelled,
    /// The file thread; `None` where a test's script stands in for it.
    pub(super) desk: Option<JoinHandle<()>>,
}

/// The worker's end; in tests, the script's.
#[derive(Clone, Debug)]
pub struct Ends {
    pub commands: Receiver<Command>,
    pub files: Receiver<FileCommand>,
    pub events: Sender<Event>,
    pub previews: PreviewSlot,
    pub cancelled: Cancelled,
}

/// The jobs that were asked to stop, seen by both ends at once (it overtakes the queue).
#[derive(Clone, Debug, Default)]
pub struct Cancelled(Arc<Mutex<CancelledJobs>>);

#[derive(Debug, Default)]
struct CancelledJobs {
    jobs: HashSet<JobId>,
    everything: bool,
}

impl Cancelled {
    /// Asks one job to stop.
    pub fn insert(&self, job: JobId) {
        self.lock().jobs.insert(job);
    }

    /// Whether the job was asked to stop, or the worker is closing.
    pub fn contains(&self, job: JobId) -> bool {
        let jobs = self.lock();
        jobs.everything || jobs.jobs.contains(&job)
    }

    /// Whether the worker is closing.
    pub fn closing(&self) -> bool {
        self.lock().everything
    }

    /// Asks every job to stop, for good.
    fn close(&self) {
        self.lock().everything = true;
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, CancelledJobs> {
        self.0
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

/// A handle and the ends that a worker (or a test's script) holds.
pub fn channel() -> (Handle, Ends) {
    let (commands, commands_out) = bounded(COMMANDS_WAITING);
    let (files, files_out) = bounded(COMMANDS_WAITING);
    let (events_in, events) = bounded(EVENTS_WAITING);
    let previews = PreviewSlot::default();
    let cancelled = Cancelled::default();
    let ends = Ends {
        commands: commands_out,
        files: files_out,
        events: events_in,
        previews: previews.clone(),
        cancelled: cancelled.clone(),
    };
    let handle = Handle {
        commands,
        files,
        events,
        previews,
        cancelled,
        desk: None,
    };
    (handle, ends)
}

impl Handle {
    /// Queues a command for the engine; never waits.
    ///
    /// Errors: [`Error::Panic`] where the worker is gone, [`Error::Request`] where too much waits.
    pub fn send(&self, command: Command) -> Result<()> {
        self.commands.try_send(command).map_err(unsent)
    }

    /// Queues a command for the file thread; never waits. Errors as [`Handle::send`].
    pub fn send_file(&self, command: FileCommand) -> Result<()> {
        self.files.try_send(command).map_err(unsent)
    }

    /// Asks a job to stop: one whose model is loaded at once, a drawing one after the UNet call it is in, a
    /// waiting one at its turn, or while a model is loaded that nothing is drawn with yet.
    pub fn cancel(&self, job: JobId) {
        self.cancelled.insert(job);
    }

    /// What the worker reports, in order. Drain it with `try_recv` under a time budget.
    pub fn events(&self) -> &Receiver<Event> {
        &self.events
    }

    /// The newest forming pictures.
    pub fn previews(&self) -> &PreviewSlot {
        &self.previews
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.cancelled.close();
        // Without these ends the file thread comes to the end of its queue and reports to nobody.
        self.files = bounded(0).0;
        self.events = never();
        if let Some(desk) = self.desk.take()
            && desk.join().is_err()
        {
            log::warn!("the file thread stopped unexpectedly");
        }
    }
}

fn unsent<T>(error: crossbeam_channel::TrySendError<T>) -> Error {
    match error {
        crossbeam_channel::TrySendError::Full(_) => {
            Error::Request("Too many jobs are waiting; let some finish first".to_owned())
        }
        crossbeam_channel::TrySendError::Disconnected(_) => Error::Panic {
            details: "the worker thread has ended".to_owned(),
        },
    }
}
