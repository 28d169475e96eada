//! `easel models`: what is found to draw with.

use std::path::PathBuf;

use serde_json::json;

use super::generate::worker_is_gone;
use super::report::Streams;
use crate::error::{Error, Result};
use crate::request::ModelCard;
use crate::worker::Handle;
use crate::worker::message::{Event, FileCommand};

/// Lists the models in the window's `folders` and in those that were `asked` for, beside the one that comes
/// with Easel.
///
/// Errors: [`Error::Request`] where what was asked for is no folder; where the worker is gone.
pub fn models(
    mut folders: Vec<PathBuf>,
    asked: Vec<PathBuf>,
    as_json: bool,
    handle: &Handle,
    to: &mut Streams<'_>,
) -> Result<()> {
    if let Some(path) = asked.iter().find(|path| !path.is_dir()) {
        let why = match path.exists() {
            true => "is no folder; easel inspect tells what a file is",
            false => "does not exist",
        };
        return Err(Error::Request(format!("{} {why}", path.display())));
    }
    folders.extend(asked);
    handle.send_file(FileCommand::FindModels {
        folders,
        wildcards: None,
    })?;
    loop {
        match handle.events().recv().map_err(|_| worker_is_gone())? {
            Event::ModelsFound(cards) => {
                for card in &cards {
                    write(card, as_json, to);
                }
                return Ok(());
            }
            Event::FileFailed(failure) => return Err(Error::Request(failure.message)),
            _ => {}
        }
    }
}

fn write(card: &ModelCard, as_json: bool, to: &mut Streams<'_>) {
    if as_json {
        to.out(json!(card));
        return;
    }
    let place = match &card.path {
        Some(path) => path.display().to_string(),
        None => "comes with Easel".to_owned(),
    };
    let size = super::size_words(card.size_bytes);
    to.out(format_args!(
        "{}  ({}, {size}, {place})",
        card.name, card.family
    ));
}
