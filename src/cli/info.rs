//! `easel info`: the settings that a picture carries.

use std::path::Path;

use serde_json::json;

use super::report::Streams;
use crate::error::{Error, Result};
use crate::output;

/// Writes the settings of a picture to standard output and the notes to standard error.
///
/// Errors: where the picture cannot be read, or carries no settings.
pub fn info(image: &Path, as_json: bool, to: &mut Streams<'_>) -> Result<()> {
    let recipe = output::read_recipe(image)?.ok_or_else(|| Error::Picture {
        path: image.to_path_buf(),
        why: "it carries no settings that Easel understands".to_owned(),
    })?;
    if as_json {
        to.out(json!({
            "path": image.to_string_lossy(),
            "program": recipe.program,
            "infotext": recipe.infotext,
            "settings": recipe.settings,
            "request": recipe.request,
            "notes": recipe.notes,
        }));
        return Ok(());
    }
    to.out(&recipe.infotext);
    for note in &recipe.notes {
        to.err(note);
    }
    Ok(())
}
