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
use crate::request::{FileRole, GoneFile, MOST_NOTES, NamedFiles, PictureSettings, Recipe};

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
    let gone = gone(&settings);
    notes.extend(gone.iter().map(GoneFile::note));
    let text = carried
        .png("parameters")
        .or(carried.user_comment.as_deref());
    Recipe {
        program: "Easel".to_owned(),
        request: settings.to_request(),
        infotext: text.map_or_else(|| infotext::write(&settings), str::to_owned),
        files: NamedFiles {
            gone,
            ..NamedFiles::default()
        },
        settings: Some(settings),
        notes,
    }
}

/// What a picture was drawn with and is not where it lay.
fn gone(settings: &PictureSettings) -> Vec<GoneFile> {
    let refiner = settings.refiner.as_ref().map(|refiner| &refiner.path);
    let single = [
        (FileRole::Model, settings.model_path.as_ref()),
        (FileRole::Unet, settings.unet_path.as_ref()),
        (FileRole::Vae, settings.vae_path.as_ref()),
        (FileRole::Refiner, refiner),
    ];
    let single = single
        .into_iter()
        .filter_map(|(role, path)| Some((role, path?)));
    let loras = settings
        .loras
        .iter()
        .map(|lora| (FileRole::Lora, &lora.path));
    let embeddings = settings.embeddings.iter();
    let embeddings = embeddings.map(|path| (FileRole::Embedding, path));
    let all = single.chain(loras).chain(embeddings).take(MOST_NOTES);
    all.filter(|(_, path)| !path.exists())
        .map(|(role, path)| GoneFile {
            role,
            path: path.clone(),
        })
        .collect()
}
