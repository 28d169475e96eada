//! Asks the system for a file or a folder, in a thread of its own: the window never waits.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::Sender;

use super::state::file_name;
use crate::worker::message::Picture;

/// A dialog that was closed sooner was never seen: rfd does not say when there is none.
const FASTER_THAN_A_PERSON: Duration = Duration::from_millis(200);

/// What is asked for.
#[derive(Clone, Debug)]
pub enum Question {
    ModelFolder,
    ModelFile,
    Vae,
    Refiner,
    Unet,
    Wildcards,
    PicturesFolder,
    /// Where to, and under which name.
    SaveAs(Arc<Picture>),
}

/// What came of a question. Who closes the dialog without a choice is not heard of.
#[derive(Debug)]
pub enum Answer {
    Chosen {
        question: Question,
        path: PathBuf,
    },
    /// The system has no dialog to ask with.
    NoDialog(Question),
}

/// Where an answer goes.
pub struct Reply {
    pub(super) answers: Sender<Answer>,
    pub(super) ctx: egui::Context,
}

impl Reply {
    /// Hands the answer to the window and wakes it.
    pub fn give(self, question: Question, path: PathBuf) {
        self.send(Answer::Chosen { question, path });
    }

    /// Says that nobody can be asked.
    pub fn no_dialog(self, question: Question) {
        self.send(Answer::NoDialog(question));
    }

    fn send(self, answer: Answer) {
        if self.answers.send(answer).is_ok() {
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
                let asked = Instant::now();
                match show(&question) {
                    Some(path) => reply.give(question, path),
                    None if asked.elapsed() < FASTER_THAN_A_PERSON => reply.no_dialog(question),
                    None => {}
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
        Question::ModelFile => dialog
            .set_title("Open a model file")
            .add_filter("Models", &["safetensors", "ckpt"])
            .pick_file(),
        Question::Vae => dialog
            .set_title("Choose a VAE")
            .add_filter("VAEs", &["safetensors", "ckpt", "pt", "bin"])
            .pick_file(),
        Question::Refiner => dialog
            .set_title("Choose a refiner")
            .add_filter("Models", &["safetensors", "ckpt"])
            .pick_file(),
        Question::Unet => dialog
            .set_title("Choose a UNet")
            .add_filter(
                "UNets",
                &["safetensors", "sft", "gguf", "ckpt", "pt", "bin"],
            )
            .pick_file(),
        Question::Wildcards => dialog
            .set_title("Where the lists of __names__ lie")
            .pick_folder(),
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
        None => match picture.settings.known_seed() {
            Some(seed) => format!("easel-{seed}.png"),
            None => "easel.png".to_owned(),
        },
    }
}
