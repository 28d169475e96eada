//! Files in the model folders that are no models by themselves: what the window lists beside them.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// What a model can be drawn with, beside its own weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AddOnKind {
    Lora,
    Vae,
    /// A small VAE for quick previews (TAESD).
    TinyVae,
    /// A textual inversion.
    Embedding,
    Upscaler,
}

/// One such file. Its name is what prompts and menus call it: the file's, without the ending.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AddOn {
    pub kind: AddOnKind,
    pub name: String,
    pub path: PathBuf,
    pub size_bytes: u64,
    /// The picture beside the file (`name.preview.png`, `name.png`).
    pub picture: Option<PathBuf>,
}
