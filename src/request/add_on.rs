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
    /// The network that draws, alone: it takes the rest from a model.
    Unet,
    /// A textual inversion.
    Embedding,
    Upscaler,
    /// A list that prompts draw from: `__name__`. Its name holds its folders: `animals/birds`.
    Wildcard,
}

/// One such file. Its name is what prompts and menus call it: the file's, without the ending.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AddOn {
    pub kind: AddOnKind,
    pub name: String,
    pub path: PathBuf,
    pub size_bytes: u64,
    /// The picture beside the file (`name.preview.png`, `name.png`).
    pub picture: Option<PathBuf>,
    /// Of a LoRA, the hash that it carries of itself, as in [`AddOnHashes`] but whole.
    pub hash: Option<String>,
    /// Of a LoRA, what it was called when it was trained: A1111 writes that into prompts.
    pub trained_as: Option<String>,
    /// Of a LoRA, how it is to be used.
    pub notes: LoraNotes,
}

/// How a LoRA is to be used, as far as somebody wrote it down; empty where nobody did.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct LoraNotes {
    /// What a person has added to the prompt together with it: A1111's `activation text`.
    pub activation: String,
    /// The same for the negative prompt: A1111's `negative text`.
    pub negative: String,
    /// What calls what it learnt, as its maker says: `modelspec.trigger_phrase`.
    pub trigger: String,
    /// The tags that its training's captions had most often, the most frequent first.
    pub tags: Vec<String>,
    /// The weight that a person prefers.
    pub weight: Option<f64>,
    /// What a person wrote of it.
    pub notes: String,
}

impl LoraNotes {
    /// What they say, a line each.
    pub fn lines(&self) -> Vec<String> {
        let line = |what: &str, text: &str| {
            let said = !text.is_empty();
            said.then(|| format!("{what}: {text}"))
        };
        let trigger = Some(&self.trigger).filter(|trigger| **trigger != self.activation);
        let weight = self.weight.map(|weight| weight.to_string());
        let lines = [
            line("Trigger words", &self.activation),
            trigger.and_then(|trigger| line("Trigger phrase", trigger)),
            line("Most often in its captions", &self.tags.join(", ")),
            line("Preferred weight", weight.as_deref().unwrap_or_default()),
            line("Negative prompt", &self.negative),
            Some(self.notes.clone()).filter(|notes| !notes.is_empty()),
        ];
        lines.into_iter().flatten().collect()
    }
}

impl AddOn {
    /// The one of this kind that a prompt or a picture calls `name`: exactly so, else but for capitals,
    /// else the one that has this hash, or was trained under the name. Of several the first counts.
    pub fn find<'a>(
        add_ons: &'a [Self],
        kind: AddOnKind,
        name: &str,
        hash: Option<&str>,
    ) -> Option<&'a Self> {
        let first = |fits: &dyn Fn(&Self) -> bool| {
            let mut of_kind = add_ons.iter().filter(|it| it.kind == kind);
            of_kind.find(|it| fits(it))
        };
        let hash = hash.filter(|hash| hash.len() >= SHORTEST_HASH);
        let has_hash = |it: &Self| {
            let own = it.hash.as_deref().zip(hash);
            own.is_some_and(|(own, hash)| begins_with(own, hash))
        };
        first(&|it| it.name == name)
            .or_else(|| first(&|it| it.name.eq_ignore_ascii_case(name)))
            // Of a repository (`org/name`), which pictures name without whose it is.
            .or_else(|| first(&|it| it.name.rsplit('/').next() == Some(name)))
            .or_else(|| first(&has_hash))
            .or_else(|| first(&|it| it.trained_as.as_deref() == Some(name)))
    }
}

/// A1111's oldest hashes of LoRAs; fewer digits name none.
const SHORTEST_HASH: usize = 8;

fn begins_with(own: &str, hash: &str) -> bool {
    own.get(..hash.len())
        .is_some_and(|begin| begin.eq_ignore_ascii_case(hash))
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

    /// Whether a text is one, or a longer one.
    pub fn is_hash(text: &str) -> bool {
        text.len() >= Self::LENGTH && text.bytes().all(|byte| byte.is_ascii_hexdigit())
    }

    pub fn is_empty(&self) -> bool {
        self.loras.is_empty() && self.embeddings.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lora(name: &str, hash: &str, trained_as: &str) -> AddOn {
        AddOn {
            kind: AddOnKind::Lora,
            name: name.to_owned(),
            path: PathBuf::from(name),
            size_bytes: 0,
            picture: None,
            hash: Some(hash.to_owned()),
            trained_as: Some(trained_as.to_owned()),
            notes: LoraNotes::default(),
        }
    }

    #[test]
    fn a_name_counts_before_capitals_before_a_hash_before_what_it_was_trained_as() {
        let vae = AddOn {
            kind: AddOnKind::Vae,
            ..lora("only a vae", "", "")
        };
        let all = [
            vae,
            lora("INK", "aaaaaaaaaaaa", "x"),
            lora("ink", "bbbbbbbbbbbb", "y"),
            lora("z", "cccccccccccc", "ink"),
            lora("z2", "dddddddddddd", "y"),
        ];
        for (name, hash, expected) in [
            ("ink", Some("cccccccccccc"), Some("ink")),
            ("Ink", Some("cccccccccccc"), Some("INK")),
            ("gone", Some("CCCCCCCCCC"), Some("z")),
            ("y", Some("dddddddd"), Some("z2")),
            ("y", Some("eeeeeeeeeeee"), Some("ink")),
            ("y", None, Some("ink")),
            // Too little to name a file, and longer than any is.
            ("gone", Some(""), None),
            ("gone", Some("ddd"), None),
            ("gone", Some("ddddddddddddd"), None),
            ("only a vae", None, None),
        ] {
            let found = AddOn::find(&all, AddOnKind::Lora, name, hash);
            let found = found.map(|it| it.name.as_str());
            assert_eq!(found, expected, "{name} {hash:?}");
        }
    }
}
