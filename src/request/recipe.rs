//! The settings that a picture file carries, as read back from it.
//!
//! Made by `output/metadata`; shown by the window and printed by `easel info`.

use std::path::{Path, PathBuf};

use crate::files;

use super::{GenerationRequest, PictureSettings};

/// The settings that a picture file carries.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Recipe {
    /// Who wrote them: `Easel`, `ComfyUI`, ...; where that is not known, `another program`.
    pub program: String,
    /// Draws the picture again.
    pub request: GenerationRequest,
    /// Easel's own record, where Easel drew the picture.
    pub settings: Option<PictureSettings>,
    /// As A1111 would show it.
    pub infotext: String,
    /// The files that it was drawn with, by name: where they lie here is not known yet.
    pub files: NamedFiles,
    /// What the picture names and Easel lacks, one sentence each.
    pub notes: Vec<String>,
}

/// More notes help nobody; a hostile picture could ask for thousands.
pub const MOST_NOTES: usize = 30;

/// The files that a picture of another program, or of another machine, names.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NamedFiles {
    pub model: Option<NamedFile>,
    pub vae: Option<NamedFile>,
    /// With the share of the noise from which on it drew.
    pub refiner: Option<(NamedFile, f64)>,
    /// LoRAs that the prompt names, where more than the name is known of them.
    pub loras: Vec<NamedFile>,
    /// Of a picture that Easel drew, what is not where it lay.
    pub gone: Vec<GoneFile>,
}

/// A file or folder that Easel drew a picture with, and that is not there any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GoneFile {
    pub role: FileRole,
    pub path: PathBuf,
}

/// What a file was to a picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileRole {
    Model,
    Unet,
    Vae,
    Refiner,
    Lora,
    Embedding,
}

impl GoneFile {
    /// What is to be said of it where it is nowhere else.
    pub fn note(&self) -> String {
        let role = match self.role {
            FileRole::Model => "model",
            FileRole::Unet => "UNet",
            FileRole::Vae => "VAE",
            FileRole::Refiner => "refiner",
            FileRole::Lora => "LoRA",
            FileRole::Embedding => "embedding",
        };
        let path = self.path.display();
        format!("Its {role} lay at {path}, where there is none now.")
    }
}

/// A file as a picture names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedFile {
    /// Without folders and without its ending. Empty where only the hash is known.
    pub name: String,
    /// The beginning of its sha256, or all of it, in hex digits.
    pub hash: Option<String>,
}

/// The endings of files with weights.
const ENDINGS: &[&str] = &["safetensors", "sft", "ckpt", "pt", "pth", "bin", "gguf"];

impl NamedFile {
    /// `name`: as a program writes it, perhaps with folders of either system and an ending.
    pub fn new(name: &str, hash: Option<&str>) -> Self {
        let file = name.rsplit(['/', '\\']).next().unwrap_or(name).trim();
        let bare = file.rsplit_once('.').filter(|(_, ending)| {
            ENDINGS
                .iter()
                .any(|known| ending.eq_ignore_ascii_case(known))
        });
        Self {
            name: bare.map_or(file, |(bare, _)| bare).to_owned(),
            hash: hash.filter(|hash| is_hash(hash)).map(str::to_lowercase),
        }
    }

    /// What Easel drew with: a file, a folder, or a repository in the Hugging Face cache.
    pub fn of_path(path: &Path, hash: Option<&str>) -> Self {
        Self::new(&files::name(path), hash)
    }
}

/// The beginning of a sha256, long enough to name a file. A1111's first hashes (8 digits, of a part of
/// the file) and other sums are none.
fn is_hash(text: &str) -> bool {
    (10..=64).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

impl std::fmt::Display for NamedFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (&*self.name, &self.hash) {
            ("", Some(hash)) => write!(f, "with the hash {hash}"),
            (name, Some(hash)) => write!(f, "{name} ({hash})"),
            (name, None) => write!(f, "{name}"),
        }
    }
}
