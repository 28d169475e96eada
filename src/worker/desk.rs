//! The file thread: finds models, lists and reads pictures, saves, deletes. It never waits for the
//! drawing thread, and the window never waits for it.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::WorkerConfig;
use super::handle::Ends;
use super::message::{Event, FileCommand, OpenedPicture, Picture};
use crate::error::{Error, Result};
use crate::families::{ClipTokenizer, ModelFiles};
use crate::output;
use crate::request::{ModelCard, PictureFormat, SaveTarget};

/// How deep below a model folder models are looked for.
const SEARCH_DEPTH: usize = 3;

/// Works until the handle is dropped; what a person asked to be written then is still written.
pub(super) fn run(config: &WorkerConfig, ends: &Ends) {
    let mut counter = TokenCounter::default();
    while let Ok(command) = ends.files.recv() {
        if ends.cancelled.closing() && !changes_files(&command) {
            continue;
        }
        let event = guarded(command, |command| answer(config, &mut counter, command));
        super::send(&ends.events, config, event);
    }
}

fn changes_files(command: &FileCommand) -> bool {
    use FileCommand::{Delete, Keep, Restore, SaveAs};
    matches!(
        command,
        Keep { .. } | SaveAs { .. } | Delete { .. } | Restore { .. }
    )
}

/// Turns a panic, as a hostile file may bring about in some decoder, into the answer that the
/// command did not work: the thread lives on.
fn guarded(command: FileCommand, answer: impl FnOnce(FileCommand) -> Event) -> Event {
    let asked = command.clone();
    catch_unwind(AssertUnwindSafe(|| answer(command))).unwrap_or_else(|panic| {
        let error = Error::from_panic(&*panic);
        log::warn!("{asked:?}: {}", error.details());
        match asked {
            FileCommand::Thumbnail { path, .. } | FileCommand::OpenPicture { path } => {
                unreadable(path, &error)
            }
            FileCommand::CountTokens { prompt, .. } => Event::TokensCounted {
                prompt,
                tokens: None,
            },
            _ => Event::FileFailed(error.into()),
        }
    })
}

/// Counts tokens with the tokenizer of one model, kept between questions.
#[derive(Default)]
struct TokenCounter {
    tokenizer: Option<(Option<PathBuf>, ClipTokenizer)>,
}

impl TokenCounter {
    /// What cannot be counted is left unknown: drawing with the model says why.
    fn count(&mut self, config: &WorkerConfig, model: Option<PathBuf>, prompt: String) -> Event {
        let tokens = self
            .tokenizer(config, model)
            .and_then(|tokenizer| tokenizer.count(&prompt));
        Event::TokensCounted {
            prompt,
            tokens: tokens.inspect_err(|error| log::warn!("{error}")).ok(),
        }
    }

    fn tokenizer(
        &mut self,
        config: &WorkerConfig,
        model: Option<PathBuf>,
    ) -> Result<&ClipTokenizer> {
        let known = match self.tokenizer.take() {
            Some((path, tokenizer)) if path == model => tokenizer,
            _ => {
                let folder = model
                    .clone()
                    .unwrap_or_else(|| super::starter_folder(&config.weights));
                ModelFiles::open(&folder)?.tokenizer()?
            }
        };
        Ok(&self.tokenizer.insert((model, known)).1)
    }
}

fn answer(config: &WorkerConfig, counter: &mut TokenCounter, command: FileCommand) -> Event {
    match command {
        FileCommand::CountTokens { model, prompt } => counter.count(config, model, prompt),
        FileCommand::FindModels { folders } => Event::ModelsFound(find_models(config, &folders)),
        FileCommand::ListHistory { root } => {
            or_failed(output::list_pictures(&root).map(Event::HistoryListed))
        }
        FileCommand::Thumbnail { path, size_px } => match output::thumbnail(&path, size_px) {
            Ok(pixels) => Event::ThumbnailReady {
                path,
                pixels: Arc::new(pixels),
            },
            Err(error) => unreadable(path, &error),
        },
        FileCommand::OpenPicture { path } => match open(&path) {
            Ok(opened) => Event::PictureOpened { path, opened },
            Err(error) => unreadable(path, &error),
        },
        FileCommand::CheckModel { path } => check_model(&path),
        FileCommand::Keep {
            picture,
            root,
            format,
        } => or_failed(keep(&picture, root, format).map(|path| Event::Kept { picture, path })),
        FileCommand::SaveAs { picture, to } => {
            or_failed(save_as(&picture, &to).map(|()| Event::SavedAs { path: to }))
        }
        FileCommand::Delete { path } => {
            or_failed(output::delete(&path).map(|()| Event::Deleted { path }))
        }
        FileCommand::Restore { path } => {
            or_failed(output::restore(&path).map(|()| Event::Restored { path }))
        }
        FileCommand::ShowInFolder { path } => {
            or_failed(show_in_folder(&path).map(|()| Event::ShownInFolder { path }))
        }
    }
}

fn or_failed(result: Result<Event>) -> Event {
    result.unwrap_or_else(|error| Event::FileFailed(error.into()))
}

fn unreadable(path: PathBuf, error: &Error) -> Event {
    Event::PictureUnreadable {
        path,
        failure: error.into(),
    }
}

fn open(path: &Path) -> Result<OpenedPicture> {
    Ok(OpenedPicture {
        pixels: Arc::new(output::open_picture(path)?),
        recipe: super::recipe_of(path),
    })
}

fn check_model(path: &Path) -> Event {
    let checked = ModelFiles::open(path).and_then(|files| files.card(false));
    // A folder may have been completed in this moment.
    let error = checked
        .err()
        .unwrap_or_else(|| Error::model(path, "it was not found in time; choose it once more"));
    Event::FileFailed(error.into())
}

fn keep(picture: &Picture, root: PathBuf, format: PictureFormat) -> Result<PathBuf> {
    let target = SaveTarget::Library(root);
    output::save_picture(&picture.pixels, &picture.settings, &target, format, 0)
}

fn save_as(picture: &Picture, to: &Path) -> Result<()> {
    output::save_as(&picture.pixels, &picture.settings, to)
}

fn show_in_folder(path: &Path) -> Result<()> {
    let folder = path.parent().unwrap_or(path);
    open::that_detached(folder).map_err(|error| Error::io("Opening", folder, error))
}

/// The model that ships, then what lies in the folders, by name. What cannot be used is left out
/// and said in the log; choosing it by hand says why.
fn find_models(config: &WorkerConfig, folders: &[PathBuf]) -> Vec<ModelCard> {
    let starter = super::starter_folder(&config.weights);
    let mut found: Vec<ModelCard> = Vec::new();
    for folder in folders {
        collect(folder, SEARCH_DEPTH, &mut found);
    }
    found.sort_by_key(|card| (card.name.to_lowercase(), card.path.clone()));
    found.dedup_by(|a, b| a.path == b.path);
    match ModelFiles::open(&starter).and_then(|folder| folder.card(true)) {
        Ok(card) => found.insert(0, card),
        Err(error) => log::warn!("the model that ships cannot be used: {error}"),
    }
    found
}

fn collect(folder: &Path, depth: usize, found: &mut Vec<ModelCard>) {
    if folder.join("model_index.json").is_file() {
        found.extend(card(folder));
        return;
    }
    let Ok(entries) = std::fs::read_dir(folder) else {
        log::warn!("the model folder {} cannot be read", folder.display());
        return;
    };
    for entry in entries.flatten() {
        let path = entry.path();
        if path.is_dir() {
            if depth > 0 {
                collect(&path, depth - 1, found);
            }
        } else if is_checkpoint(&path) {
            found.extend(card(&path));
        }
    }
}

fn is_checkpoint(path: &Path) -> bool {
    let ending = path.extension().and_then(|ending| ending.to_str());
    ending.is_some_and(|ending| {
        let known = ["safetensors", "ckpt"];
        known.iter().any(|known| ending.eq_ignore_ascii_case(known))
    })
}

/// Model folders are full of other things (LoRAs, VAEs): what cannot be drawn with is left out.
fn card(path: &Path) -> Option<ModelCard> {
    ModelFiles::open(path)
        .and_then(|files| files.card(false))
        .inspect_err(|error| log::info!("left out: {error}"))
        .ok()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    /// A checkpoint of which only the header is there; its weights are a hole in the file.
    fn checkpoint(path: &Path) {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let case = root.join("tests/reference/data/checkpoints/sd1.json");
        let case: serde_json::Value =
            serde_json::from_slice(&std::fs::read(case).unwrap()).unwrap();
        let stored: BTreeMap<String, Vec<u64>> =
            serde_json::from_value(case["stored"].clone()).unwrap();
        let mut end = 0;
        let mut header = serde_json::Map::new();
        for (name, shape) in stored {
            let begin = end;
            end += 2 * shape.iter().product::<u64>();
            let tensor =
                serde_json::json!({"dtype": "F16", "shape": shape, "data_offsets": [begin, end]});
            header.insert(name, tensor);
        }
        let header = serde_json::Value::from(header).to_string();
        let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
        bytes.extend(header.as_bytes());
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, &bytes).unwrap();
        let file = std::fs::OpenOptions::new().write(true).open(path).unwrap();
        file.set_len(bytes.len() as u64 + end).unwrap();
    }

    #[test]
    fn the_folders_of_other_programs_are_taken_as_they_are() {
        let root = tempfile::tempdir().unwrap();
        let place = |name: &str| root.path().join(name);
        checkpoint(&place("models/Stable-diffusion/mine.safetensors"));
        checkpoint(&place("models/Stable-diffusion/anime/theirs.SAFETENSORS"));
        checkpoint(&place("checkpoints/comfy.safetensors"));
        for other in [
            "models/VAE/vae.safetensors",
            "models/Lora/style.safetensors",
            "checkpoints/broken.ckpt",
        ] {
            std::fs::create_dir_all(place(other).parent().unwrap()).unwrap();
            std::fs::write(place(other), "not a checkpoint").unwrap();
        }
        let mut found = Vec::new();
        collect(root.path(), SEARCH_DEPTH, &mut found);
        found.sort_by_key(|card| card.name.clone());
        let names: Vec<&str> = found.iter().map(|card| card.name.as_str()).collect();
        assert_eq!(names, ["comfy", "mine", "theirs"]);
        let mine = &found[1];
        assert_eq!(
            mine.path,
            Some(place("models/Stable-diffusion/mine.safetensors"))
        );
        assert_eq!(mine.family, "Stable Diffusion 1");
        assert_eq!((mine.chunk_tokens, mine.latent_factor), (75, 2));
    }

    #[test]
    fn a_panic_over_one_file_is_the_answer_about_that_file() {
        let path = PathBuf::from("hostile.png");
        let command = FileCommand::OpenPicture { path: path.clone() };
        let event = guarded(command, |_| panic!("index out of bounds"));
        let Event::PictureUnreadable {
            path: told,
            failure,
        } = event
        else {
            panic!("{event:?}");
        };
        assert_eq!(told, path);
        assert_eq!(failure.details, "index out of bounds");
        let event = guarded(FileCommand::Delete { path }, |_| panic!("gone"));
        assert!(matches!(event, Event::FileFailed(_)), "{event:?}");
    }
}
