//! `easel generate`: one job from the command to its last event.

use std::path::Path;

use crossbeam_channel::{Receiver, RecvError, never, select};

use super::notes;
use super::report::{Reporter, Streams, failure_line};
use crate::error::{Error, Result};
use crate::output;
use crate::worker::Handle;
use crate::worker::message::{Command, Event, Failure, Job, Preview};

/// The worker as the command line sees it.
pub struct Session<'a> {
    pub handle: &'a Handle,
    /// Every preview, in order: none is skipped, unlike in the window.
    pub previews: Receiver<Preview>,
    /// One message each time the person asks to stop.
    pub interrupts: Receiver<()>,
}

/// How a job ended.
#[derive(Debug, PartialEq, Eq)]
pub enum Outcome {
    Done,
    /// Drawn, but a picture could not be saved; that was said when it happened.
    Unsaved,
    Failed(Failure),
    Interrupted,
}

/// Draws, reporting what happens, until the job's last event.
///
/// `preview_folder`: where each step's forming pictures are written.
/// Errors: where the worker is gone, or a preview cannot be written.
pub fn generate(
    job: Job,
    preview_folder: Option<&Path>,
    session: Session<'_>,
    reporter: &mut Reporter,
    to: &mut Streams<'_>,
) -> Result<Outcome> {
    let outcome = run(job, preview_folder, session, reporter, to);
    reporter.end();
    let outcome = outcome?;
    if let Outcome::Failed(failure) = &outcome {
        to.err(failure_line(failure));
    }
    Ok(outcome)
}

fn run(
    job: Job,
    preview_folder: Option<&Path>,
    mut session: Session<'_>,
    reporter: &mut Reporter,
    to: &mut Streams<'_>,
) -> Result<Outcome> {
    let id = job.id;
    // Which options count is known with the model.
    let mut asked = Some(job.request.clone());
    session.handle.send(Command::Generate(job))?;
    let mut unsaved = 0;
    loop {
        select! {
            recv(session.previews) -> preview => match preview {
                Ok(preview) => write_previews(&preview, preview_folder, reporter, to)?,
                Err(RecvError) => session.previews = never(),
            },
            recv(session.interrupts) -> interrupt => match interrupt {
                Ok(()) => {
                    session.handle.cancel(id);
                    reporter.stopping(to);
                }
                Err(RecvError) => session.interrupts = never(),
            },
            recv(session.handle.events()) -> event => {
                let event = event.map_err(|RecvError| worker_is_gone())?;
                let end = end_of(&event);
                if end.is_some() {
                    for preview in session.previews.try_iter() {
                        write_previews(&preview, preview_folder, reporter, to)?;
                    }
                }
                reporter.event(&event, to);
                if let Event::ModelReady(model) = &event
                    && let Some(request) = asked.take()
                {
                    for note in notes::of_options(&request, &model.card) {
                        reporter.note(note, to);
                    }
                }
                if let Event::PictureDone { picture, .. } = &event {
                    unsaved += usize::from(picture.save_failure.is_some());
                }
                match end {
                    Some(Outcome::Done) if unsaved > 0 => return Ok(Outcome::Unsaved),
                    Some(outcome) => return Ok(outcome),
                    None => {}
                }
            }
        }
    }
}

/// Each job ends in exactly one of these three.
fn end_of(event: &Event) -> Option<Outcome> {
    match event {
        Event::Finished { .. } => Some(Outcome::Done),
        Event::Failed { failure, .. } => Some(Outcome::Failed(failure.clone())),
        Event::Cancelled { .. } => Some(Outcome::Interrupted),
        _ => None,
    }
}

/// `FOLDER/00001-step0005.png`: the picture's number in the job, then the step.
fn write_previews(
    preview: &Preview,
    folder: Option<&Path>,
    reporter: &mut Reporter,
    to: &mut Streams<'_>,
) -> Result<()> {
    let Some(folder) = folder else {
        return Ok(());
    };
    for (offset, pixels) in preview.pictures.iter().enumerate() {
        let index = preview.first + offset;
        let name = format!("{:05}-step{:04}.png", index + 1, preview.step);
        let path = folder.join(name);
        output::save_plain_png(pixels, &path)?;
        reporter.preview(index, preview.step, &path, to);
    }
    Ok(())
}

pub(super) fn worker_is_gone() -> Error {
    Error::Panic {
        details: "the worker ended before the job did".to_owned(),
    }
}
