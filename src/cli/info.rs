//! `easel info`: the settings that a picture carries.

use std::path::Path;

use serde_json::json;

use super::report::Streams;
use crate::error::Result;

/// Writes the settings of a picture to standard output and the notes to standard error.
///
/// Errors: where the picture cannot be read, or carries no settings.
pub fn info(image: &Path, as_json: bool, to: &mut Streams<'_>) -> Result<()> {
    let recipe = super::settings_from::read(image)?;
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
