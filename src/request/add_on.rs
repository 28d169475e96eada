//! Files in the model folders that are no models by themselves: what the window lists beside them.

use std::collections::BTreeMap;
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
    /// A list that prompts draw from: `__name__`. Its name holds its folders: `animals/birds`.
    Wildcard,
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

/// What LoRAs and embeddings are, whatever their files are called: by the names in the prompt, the first
/// 12 hex digits that A1111 writes as `Lora hashes` and `TI hashes`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct AddOnHashes {
    /// Of the tensors of a safetensors file, without its header; of the whole of any other.
    pub loras: BTreeMap<String, String>,
    /// The sha256 of the file.
    pub embeddings: BTreeMap<String, String>,
}

impl AddOnHashes {
    /// Characters of a hash.
    pub const LENGTH: usize = 12;

    pub fn is_empty(&self) -> bool {
        self.loras.is_empty() && self.embeddings.is_empty()
    }
}
