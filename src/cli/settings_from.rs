//! `--settings-from`: the settings that a picture carries, with its files looked for in the model
//! folders. What of them Easel cannot follow is said.

use std::path::{Path, PathBuf};

use serde_json::json;

use super::generate::worker_is_gone;
use super::report::{Reporter, Streams};
use crate::error::{Error, Result};
use crate::output;
use crate::request::{GenerationRequest, Recipe};
use crate::worker::message::{Event, FileCommand};
use crate::worker::{self, Handle};

/// Reads the settings of `image`; `folders` are the model folders. With `another_prompt` nothing is said of
/// what the picture's own names.
///
/// Errors: where the picture cannot be read, carries no settings, or the worker is gone.
pub fn settings_from(
    image: &Path,
    another_prompt: bool,
    folders: Vec<PathBuf>,
    handle: &Handle,
    reporter: &Reporter,
    to: &mut Streams<'_>,
) -> Result<GenerationRequest> {
    let mut recipe = read(image)?;
    if another_prompt {
        recipe.request.prompt.clear();
    }
    look_up(&mut recipe, folders, handle)?;
    match reporter {
        Reporter::Json => to.out(json!({
            "event": "settings",
            "path": image.to_string_lossy(),
            "program": recipe.program,
            "notes": recipe.notes,
        })),
        Reporter::Quiet => {}
        Reporter::Bar(_) | Reporter::Lines(_) => recipe.notes.iter().for_each(|note| to.err(note)),
    }
    Ok(recipe.request)
}

/// The recipe of a picture, for commands that need one.
pub(super) fn read(image: &Path) -> Result<Recipe> {
    output::read_recipe(image)?.ok_or_else(|| Error::Picture {
        path: image.to_path_buf(),
        why: "it carries no settings that Easel understands".to_owned(),
    })
}

fn look_up(recipe: &mut Recipe, folders: Vec<PathBuf>, handle: &Handle) -> Result<()> {
    handle.send_file(FileCommand::FindModels {
        folders,
        wildcards: None,
    })?;
    let mut add_ons = Vec::new();
    loop {
        match handle.events().recv().map_err(|_| worker_is_gone())? {
            Event::AddOnsFound(found) => add_ons = found,
            Event::ModelsFound(models) => {
                worker::look_up(recipe, &models, &add_ons);
                return Ok(());
            }
            _ => {}
        }
    }
}
