//! The settings inside a picture: as text for people and other programs, and read back.
//!
//! Easel's own record comes back field for field from every format; from other programs' pictures
//! comes what Easel can draw, and a note for each thing that it cannot.

use std::fs::File;
use std::io::BufReader;
use std::path::Path;

use super::carried::{self, Carried};
use super::{infotext, programs};
use crate::error::{Error, Result};
use crate::request::{MODEL_LAY_AT, NamedFile, NamedFiles, PictureSettings, Recipe};

/// The settings that a PNG, JPEG or WebP file carries; `None` where it carries none that Easel
/// understands.
///
/// Errors: [`Error::Io`] where the file cannot be read, [`Error::Picture`] where it is no picture,
/// damaged, or its text is over 2 MB.
pub fn read_recipe(path: &Path) -> Result<Option<Recipe>> {
    let carried = carried::read(path)?;
    let mut damaged = false;
    if let Some(json) = &carried.easel_json {
        match serde_json::from_str::<PictureSettings>(json) {
            Ok(settings) => return Ok(Some(own_recipe(settings, &carried))),
            Err(error) => {
                log::warn!("{}: Easel's record cannot be read: {error}", path.display());
                damaged = true;
            }
        }
    }
    let recipe = programs::read(&carried).or_else(|| hidden(path));
    if recipe.is_none() && carried.left_out {
        return Err(Error::Picture {
            path: path.to_path_buf(),
            why: "its settings text is damaged or longer than 2 MB".to_owned(),
        });
    }
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

fn hidden(path: &Path) -> Option<Recipe> {
    programs::read_hidden(&mut BufReader::new(File::open(path).ok()?))
}

/// The recipe of settings that were written with this text, as a file would give them back.
fn own_recipe(settings: PictureSettings, carried: &Carried) -> Recipe {
    let mut notes = Vec::new();
    if let Some(step) = settings.cancelled_after {
        notes.push(format!(
            "The drawing was stopped after step {step} of {}.",
            settings.steps
        ));
    }
    let refiner = settings.refiner.as_ref();
    let refiner = refiner.map(|refiner| refiner.path.clone());
    for (lay_at, path) in [
        (MODEL_LAY_AT, &settings.model_path),
        ("Its UNet lay at", &settings.unet_path),
        ("Its VAE lay at", &settings.vae_path),
        ("Its refiner lay at", &refiner),
    ] {
        if let Some(path) = path.as_ref().filter(|path| !path.exists()) {
            let path = path.display();
            notes.push(format!("{lay_at} {path}, where there is none now."));
        }
    }
    let text = carried
        .png("parameters")
        .or(carried.user_comment.as_deref());
    let lost_model = settings.model_path.as_ref().filter(|path| !path.exists());
    let hash = settings.model_hash.as_deref();
    Recipe {
        program: "Easel".to_owned(),
        request: settings.to_request(),
        infotext: text.map_or_else(|| infotext::write(&settings), str::to_owned),
        files: NamedFiles {
            model: lost_model.map(|path| NamedFile::new(&path.to_string_lossy(), hash)),
            ..NamedFiles::default()
        },
        settings: Some(settings),
        notes,
    }
}
