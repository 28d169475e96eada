//! Asks the system for a file or a folder, in a thread of its own: the window never waits.

use std::path::PathBuf;
use std::sync::Arc;

use crossbeam_channel::Sender;

use super::state::file_name;
use crate::worker::message::Picture;

/// What is asked for.
#[derive(Clone, Debug)]
pub enum Question {
    ModelFolder,
    PicturesFolder,
    /// Where to, and under which name.
    SaveAs(Arc<Picture>),
}

/// A question and the path that answers it.
#[derive(Debug)]
pub struct Answer {
    pub question: Question,
    pub path: PathBuf,
}

/// Where an answer goes.
pub struct Reply {
    pub(super) answers: Sender<Answer>,
    pub(super) ctx: egui::Context,
}

impl Reply {
    /// Hands the answer to the window and wakes it.
    pub fn give(self, question: Question, path: PathBuf) {
        if self.answers.send(Answer { question, path }).is_ok() {
            self.ctx.request_repaint();
        }
    }
}

/// How the window asks; tests answer at once.
pub type Ask = Box<dyn Fn(Question, Reply)>;

/// Asks with the system's own dialogs.
pub fn system() -> Ask {
    Box::new(|question, reply| {
        let thread = std::thread::Builder::new()
            .name("easel-dialog".to_owned())
            .spawn(move || {
                if let Some(path) = show(&question) {
                    reply.give(question, path);
                }
            });
        if let Err(error) = thread {
            log::warn!("The file dialog cannot be opened: {error}");
        }
    })
}

fn show(question: &Question) -> Option<PathBuf> {
    let dialog = rfd::FileDialog::new();
    match question {
        Question::ModelFolder => dialog.set_title("Open a model folder").pick_folder(),
        Question::PicturesFolder => dialog.set_title("Where finished pictures go").pick_folder(),
        Question::SaveAs(picture) => dialog
            .set_title("Save the picture as")
            .set_file_name(suggested_name(picture))
            .add_filter("Pictures", &["png", "jpg", "webp"])
            .save_file(),
    }
}

fn suggested_name(picture: &Picture) -> String {
    match &picture.path {
        Some(path) => file_name(path),
        None => format!("easel-{}.png", picture.settings.seed),
    }
}
