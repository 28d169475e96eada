//! The settings inside a picture: as text for people and other programs, and read back.
//!
//! Easel's own record comes back field for field from every format; from A1111's and Forge's
//! pictures comes what Easel can draw, and a note for each thing that it cannot.

use std::path::Path;

use super::{carried, infotext};
use crate::error::Result;
use crate::request::{PictureSettings, Recipe};

/// The settings that a PNG, JPEG or WebP file carries; `None` where it carries none that Easel
/// understands.
///
/// Errors: [`crate::error::Error::Io`] where the file cannot be read,
/// [`crate::error::Error::Picture`] where it is no picture, damaged, or its text is over 2 MB.
pub fn read_recipe(path: &Path) -> Result<Option<Recipe>> {
    let carried = carried::read(path)?;
    let mut damaged = false;
    if let Some(json) = &carried.easel_json {
        match serde_json::from_str::<PictureSettings>(json) {
            Ok(settings) => return Ok(Some(own_recipe(settings, carried.parameters))),
            Err(error) => {
                log::warn!("{}: Easel's record cannot be read: {error}", path.display());
                damaged = true;
            }
        }
    }
    let recipe = carried
        .parameters
        .and_then(|text| foreign_recipe(text, carried.from_png_key));
    Ok(recipe.map(|mut recipe| {
        if damaged {
            recipe.notes.insert(
                0,
                "Easel's own record in this picture cannot be read; the settings come from its text."
                    .to_owned(),
            );
        }
        recipe
    }))
}

/// The recipe of settings that were written with this text, as a file would give them back.
fn own_recipe(settings: PictureSettings, text: Option<String>) -> Recipe {
    let mut notes = Vec::new();
    if let Some(step) = settings.cancelled_after {
        notes.push(format!(
            "The drawing was stopped after step {step} of {}.",
            settings.steps
        ));
    }
    for (what, path) in [("model", &settings.model_path), ("VAE", &settings.vae_path)] {
        if let Some(path) = path.as_ref().filter(|path| !path.exists()) {
            notes.push(format!(
                "Its {what} lay at {}, where there is none now.",
                path.display()
            ));
        }
    }
    Recipe {
        request: settings.to_request(),
        infotext: text.unwrap_or_else(|| infotext::write(&settings)),
        settings: Some(settings),
        notes,
    }
}

/// The recipe of a text that another program wrote. A comment of a camera is none, nor is the JSON
/// that other generators put under A1111's key.
fn foreign_recipe(text: String, from_png_key: bool) -> Option<Recipe> {
    let reading = infotext::read(&text);
    let bare_prompt = from_png_key
        && !text.trim().is_empty()
        && serde_json::from_str::<serde_json::Value>(&text).is_err();
    (reading.has_settings || bare_prompt).then_some(Recipe {
        request: reading.request,
        settings: None,
        infotext: text,
        notes: reading.notes,
    })
}
