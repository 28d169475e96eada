//! What a file in the model folders is, by its header: the same for the lists of the window and for
//! drawing. Remembered until the file changes.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use super::lora_notes;
use crate::checkpoint;
use crate::error::{Error, Result};
use crate::families::FileKind;
use crate::files::{self, Print};
use crate::request::{AddOn, AddOnHashes, AddOnKind};

/// Vectors take kilobytes: the longest that fit a prompt, for SDXL in f64, one and a half million.
const MAX_EMBEDDING_BYTES: u64 = 4 << 20;
/// The folder that A1111 and ComfyUI keep embeddings in.
const EMBEDDINGS: &str = "embeddings";
/// How diffusers calls the weights of a network that has a folder of its own.
const OF_FOLDER: [&str; 2] = ["diffusion_pytorch_model", "diffusion_pytorch_model.fp16"];
/// What kohya's tools write into a LoRA's header: its hash, and its name when it was trained.
pub(in crate::worker) const HASH_IN_HEADER: &str = "sshs_model_hash";
const NAME_IN_HEADER: &str = "ss_output_name";

/// What a file is of use for.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::worker) enum Typed {
    AddOn(AddOn),
    /// A whole model.
    Checkpoint,
    /// Known, and of no use by itself.
    Other,
    /// It cannot be read, or nothing in it is known: where it is asked for by its name, loading it says
    /// why.
    Unknown,
}

impl Typed {
    /// Opens a file that may hold tensors. What it cannot read is said in the log.
    pub fn of(path: &Path, print: Print) -> Self {
        let Some(headers) = opened(path, || checkpoint::headers(&[path.to_path_buf()])) else {
            return Self::Unknown;
        };
        let kind = match FileKind::of(&headers) {
            FileKind::Checkpoint => return Self::Checkpoint,
            FileKind::TextEncoder | FileKind::Other(_) => return Self::Other,
            // A piece of one, without what says of which.
            FileKind::Unet if is_shard(path) && of_network(path).is_none() => return Self::Other,
            FileKind::Unet => AddOnKind::Unet,
            FileKind::Lora(_) => AddOnKind::Lora,
            FileKind::Vae => AddOnKind::Vae,
            FileKind::TinyVae => AddOnKind::TinyVae,
            FileKind::Upscaler => AddOnKind::Upscaler,
            FileKind::Embedding if may_be_embedding(print) => AddOnKind::Embedding,
            FileKind::Embedding => return Self::Other,
            FileKind::Unknown if may_be_embedding(print) && lies_with_embeddings(path) => {
                AddOnKind::Embedding
            }
            FileKind::Unknown => return Self::Unknown,
        };
        let words = match kind {
            AddOnKind::Lora => opened(path, || checkpoint::metadata(path)).unwrap_or_default(),
            _ => Default::default(),
        };
        let word = |key: &str| words.get(key).map(|word| word.trim().to_owned());
        Self::AddOn(AddOn {
            kind,
            name: name_of(path),
            path: of_network(path).unwrap_or(path).to_path_buf(),
            size_bytes: size_bytes(path, print),
            picture: None,
            hash: word(HASH_IN_HEADER).filter(|hash| AddOnHashes::is_hash(hash)),
            trained_as: word(NAME_IN_HEADER).filter(|name| !name.is_empty()),
            notes: lora_notes::in_header(&words),
        })
    }
}

/// What prompts and menus call a file: its name without its ending, or its folder's where it is what
/// that is for.
pub(in crate::worker) fn name_of(path: &Path) -> String {
    of_network(path).map_or_else(|| files::stem(path), files::name)
}

/// The folder in diffusers' layout that these are the weights of, or a part of them: a VAE's, a UNet's,
/// whose config says more.
fn of_network(path: &Path) -> Option<&Path> {
    let stem = path.file_stem()?.to_str()?;
    let stem = stem.split_once("-0").map_or(stem, |(whole, _)| whole);
    let folder = path.parent().filter(|_| OF_FOLDER.contains(&stem))?;
    folder.join("config.json").is_file().then_some(folder)
}

/// `name-00001-of-00002.safetensors`
fn is_shard(path: &Path) -> bool {
    let stem = path.file_stem().and_then(|stem| stem.to_str());
    let parts = stem.and_then(|stem| stem.rsplit_once("-of-"));
    let digits = |text: &str| text.len() == 5 && text.bytes().all(|byte| byte.is_ascii_digit());
    parts.is_some_and(|(before, count)| {
        let number = before.rsplit_once('-').map(|(_, number)| number);
        digits(count) && number.is_some_and(digits)
    })
}

/// What a network's files take; of one in a folder all its files.
fn size_bytes(path: &Path, print: Print) -> u64 {
    let shards = of_network(path)
        .filter(|_| is_shard(path))
        .and_then(|folder| checkpoint::find_weights(folder, OF_FOLDER[0]).ok());
    let sizes = shards
        .iter()
        .flatten()
        .filter_map(|file| std::fs::metadata(file).ok());
    match sizes.map(|file| file.len()).sum() {
        0 => print.size_bytes(),
        all => all,
    }
}

/// Whether a file is small enough.
pub(in crate::worker) fn may_be_embedding(print: Print) -> bool {
    print.size_bytes() <= MAX_EMBEDDING_BYTES
}

/// Whether a file lies where embeddings do.
pub(in crate::worker) fn lies_with_embeddings(path: &Path) -> bool {
    let mut above = path.ancestors().skip(1).filter_map(Path::file_name);
    above.any(|name| name.eq_ignore_ascii_case(EMBEDDINGS))
}

/// What `open` reads of a file. A hostile one may bring a reader down, but not whoever looks through
/// folders: that is said in the log.
pub(super) fn opened<T>(path: &Path, open: impl FnOnce() -> Result<T>) -> Option<T> {
    match catch_unwind(AssertUnwindSafe(open)) {
        Ok(read) => read
            .inspect_err(|error| log::info!("left out: {error}"))
            .ok(),
        Err(panic) => {
            let error = Error::from_panic(&*panic);
            log::warn!("{}: {}", path.display(), error.in_full());
            None
        }
    }
}

/// In the order of the lists; of several with a name, the first counts.
pub(in crate::worker) fn sort(add_ons: &mut Vec<AddOn>) {
    add_ons.sort_by_cached_key(|it| (it.kind, it.name.to_lowercase(), it.path.clone()));
    // Weights of one network in two formats.
    add_ons.dedup_by(|a, b| (a.kind, &a.path) == (b.kind, &b.path));
}

/// What was learnt of files and folders, by path.
#[derive(Debug)]
pub(in crate::worker) struct Known<T>(HashMap<PathBuf, (Print, T)>);

impl<T> Default for Known<T> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl<T> Known<T> {
    /// What `learn` says where the path is new or has changed, else what it said before.
    pub fn of(&mut self, path: &Path, print: Print, learn: impl FnOnce() -> T) -> &T {
        let known = self.0.remove(path);
        let kept = known.filter(|(before, _)| *before == print);
        let learnt = kept.unwrap_or_else(|| (print, learn()));
        let entry = self.0.entry(path.to_path_buf()).insert_entry(learnt);
        &entry.into_mut().1
    }

    /// What is known of this path.
    pub fn get(&self, path: &Path) -> Option<&T> {
        self.0.get(path).map(|(_, known)| known)
    }

    /// Forgets what is not there any more.
    pub fn retain(&mut self, is_there: impl Fn(&Path) -> bool) {
        self.0.retain(|path, _| is_there(path));
    }
}
