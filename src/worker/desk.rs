//! The file thread: lists and reads pictures, saves, deletes. It never waits for the drawing thread, nor
//! for the library thread, which it hands searches for models to; and the window never waits for it.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crossbeam_channel::{RecvTimeoutError, Sender};

use super::WorkerConfig;
use super::handle::Ends;
use super::library::Search;
use super::message::{Event, FileCommand, OpenedPicture, Picture};
use super::token_counter::TokenCounter;
use super::watch::{LOOK_EVERY, Watched};
use crate::checkpoint;
use crate::error::{Error, Result};
use crate::families::ModelFiles;
use crate::output;
use crate::request::{PictureFormat, SaveTarget};

/// Works until the handle is dropped; what a person asked to be written then is still written.
pub(super) fn run(config: &WorkerConfig, ends: &Ends, searches: &Sender<Search>) {
    let mut desk = Desk {
        searches,
        counter: TokenCounter::default(),
        library: None,
    };
    loop {
        let command = match ends.files.recv_timeout(LOOK_EVERY) {
            Ok(command) => command,
            Err(RecvTimeoutError::Timeout) => {
                if let Some(watched) = desk.library.as_mut()
                    && watched.look()
                {
                    let listed = Event::HistoryListed(watched.pictures().to_vec());
                    super::send(&ends.events, config, listed);
                }
                continue;
            }
            Err(RecvTimeoutError::Disconnected) => return,
        };
        if ends.cancelled.closing() && !changes_files(&command) {
            continue;
        }
        let answered = guarded(command, |command| answer(config, &mut desk, command));
        if let Some(event) = answered {
            super::send(&ends.events, config, event);
        }
    }
}

/// What the thread keeps between commands.
struct Desk<'a> {
    /// To the library thread, which looks for models.
    searches: &'a Sender<Search>,
    counter: TokenCounter,
    /// The history that was asked for last.
    library: Option<Watched>,
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
fn guarded(
    command: FileCommand,
    answer: impl FnOnce(FileCommand) -> Option<Event>,
) -> Option<Event> {
    let asked = command.clone();
    catch_unwind(AssertUnwindSafe(|| answer(command))).unwrap_or_else(|panic| {
        let error = Error::from_panic(&*panic);
        log::warn!("{} failed: {}", doing(&asked), error.in_full());
        Some(match asked {
            FileCommand::Thumbnail { path, .. } | FileCommand::OpenPicture { path } => {
                unreadable(path, &error)
            }
            FileCommand::ReadPrompts { paths } => Event::PromptsRead(
                paths
                    .into_iter()
                    .map(|path| (path, String::new()))
                    .collect(),
            ),
            FileCommand::CountTokens(asked) => Event::TokensCounted {
                asked,
                tokens: None,
            },
            FileCommand::ListHistory { root } => Event::HistoryFailed {
                root,
                failure: error.into(),
            },
            _ => Event::FileFailed(error.into()),
        })
    })
}

/// What a command is, for the log.
fn doing(command: &FileCommand) -> String {
    let (doing, path) = match command {
        FileCommand::FindModels { .. } => return "looking for models".to_owned(),
        FileCommand::ReadPrompts { .. } => return "reading prompts".to_owned(),
        FileCommand::ReadEmbeddings { .. } => return "reading embeddings".to_owned(),
        FileCommand::CountTokens(_) => return "counting tokens".to_owned(),
        FileCommand::Keep { root, .. } => ("keeping a picture in", root),
        FileCommand::ListHistory { root } => ("listing", root),
        FileCommand::Thumbnail { path, .. } | FileCommand::OpenPicture { path } => {
            ("reading", path)
        }
        FileCommand::CheckModel { path } => ("looking at", path),
        FileCommand::SaveAs { to, .. } => ("saving", to),
        FileCommand::Delete { path } => ("deleting", path),
        FileCommand::Restore { path } => ("bringing back", path),
        FileCommand::ShowInFolder { path } => ("showing", path),
    };
    format!("{doing} {}", path.display())
}

/// `None`: another thread answers.
fn answer(config: &WorkerConfig, desk: &mut Desk<'_>, command: FileCommand) -> Option<Event> {
    Some(match command {
        FileCommand::CountTokens(asked) => {
            let tokens = desk.counter.count(config, &asked);
            Event::TokensCounted {
                asked,
                tokens: tokens.inspect_err(|error| log::warn!("{error}")).ok(),
            }
        }
        FileCommand::FindModels { folders, wildcards } => {
            // The library thread answers; where it is gone, nobody can.
            let _ = desk.searches.send(Search { folders, wildcards });
            return None;
        }
        FileCommand::ListHistory { root } => match Watched::list(root.clone()) {
            Ok(library) => {
                let library = desk.library.insert(library);
                Event::HistoryListed(library.pictures().to_vec())
            }
            Err(error) => {
                let library = desk.library.take();
                desk.library = library.and_then(|library| library.failed(&root));
                Event::HistoryFailed {
                    root,
                    failure: error.into(),
                }
            }
        },
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
        FileCommand::ReadPrompts { paths } => {
            Event::PromptsRead(paths.into_iter().map(with_prompt).collect())
        }
        FileCommand::ReadEmbeddings { paths } => {
            Event::EmbeddingWords(paths.into_iter().filter_map(with_word).collect())
        }
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
    })
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
        recipe: super::recipe_of(path).map(Box::new),
    })
}

fn with_prompt(path: PathBuf) -> (PathBuf, String) {
    let recipe = super::recipe_of(&path);
    let prompt = recipe.map_or_else(String::new, |recipe| recipe.request.prompt);
    (path, prompt)
}

/// What an embedding's file calls it. One that cannot be read says why when it is drawn with.
fn with_word(path: PathBuf) -> Option<(PathBuf, String)> {
    let headers = checkpoint::headers(std::slice::from_ref(&path));
    let headers = headers.inspect_err(|error| log::info!("{error}")).ok()?;
    let word = checkpoint::embedding_word(&headers)?;
    Some((path, word))
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::worker::Priority;
    use crate::worker::library::stand_in::file_of;

    #[test]
    fn a_folder_that_cannot_be_listed_is_the_answer_about_the_history() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("no folder");
        std::fs::write(&file, "").unwrap();
        let config = WorkerConfig {
            weights: folder.path().to_path_buf(),
            cache: None,
            priority: Priority::Usual,
            wake: Box::new(|| ()),
        };
        let (searches, _) = crossbeam_channel::bounded(1);
        let mut desk = Desk {
            searches: &searches,
            counter: TokenCounter::default(),
            library: Some(Watched::list(folder.path().to_path_buf()).unwrap()),
        };
        let fails = |desk: &mut Desk<'_>, root: &Path| {
            let root = root.to_path_buf();
            let event = answer(&config, desk, FileCommand::ListHistory { root });
            assert!(
                matches!(event, Some(Event::HistoryFailed { .. })),
                "{event:?}"
            );
        };
        fails(&mut desk, &file);
        assert!(desk.library.is_none(), "the old folder is not watched on");
        // A folder that is gone for a while is, and what is there then is told.
        let drive = folder.path().join("drive");
        std::fs::create_dir(&drive).unwrap();
        desk.library = Some(Watched::list(drive.clone()).unwrap());
        std::fs::remove_dir(&drive).unwrap();
        std::fs::write(&drive, "").unwrap();
        fails(&mut desk, &drive);
        let mut watched = desk.library.take().unwrap();
        assert!(!watched.look());
        std::fs::remove_file(&drive).unwrap();
        std::fs::create_dir(&drive).unwrap();
        assert!(watched.look());
        assert!(!watched.look());
    }

    #[test]
    fn the_word_in_an_embeddings_file_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let place = |name: &str| folder.path().join(name);
        let vectors: &[u64] = &[2, 768];
        for (file, tensor) in [
            ("a.safetensors", "<cat-toy>"),
            ("b.safetensors", "emb_params"),
        ] {
            file_of(&place(file), &[(tensor, vectors)]);
        }
        let paths = ["a.safetensors", "b.safetensors", "gone.pt"].map(place);
        let told: Vec<_> = paths.into_iter().filter_map(with_word).collect();
        assert_eq!(told, [(place("a.safetensors"), "<cat-toy>".to_owned())]);
    }

    #[test]
    fn a_panic_over_one_file_is_the_answer_about_that_file() {
        let path = PathBuf::from("hostile.png");
        let command = FileCommand::OpenPicture { path: path.clone() };
        let event = guarded(command, |_| panic!("index out of bounds"));
        let Some(Event::PictureUnreadable {
            path: told,
            failure,
        }) = event
        else {
            panic!("{event:?}");
        };
        assert_eq!(told, path);
        assert_eq!(failure.details, "index out of bounds");
        let event = guarded(FileCommand::Delete { path }, |_| panic!("gone"));
        assert!(matches!(event, Some(Event::FileFailed(_))), "{event:?}");
    }
}
