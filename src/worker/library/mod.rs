//! The library thread: what lies in the model folders, now and when it changes.
//!
//! Answers a search at once, then looks again every few seconds by itself and tells what is new. In
//! between, while nothing is drawn, it computes the hashes that name models in pictures' settings.

mod lora_notes;
mod places;
mod scan;
mod typed;
mod walk;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError};

pub(super) use lora_notes::of as lora_notes;
use scan::{Found, Scanner};
pub(super) use typed::{
    HASH_IN_HEADER, Known, Typed, lies_with_embeddings, may_be_embedding, name_of, sort,
};
pub(super) use walk::{Met, Walk, files_of_tensors};

use super::handle::Ends;
use super::hashes::Hashes;
use super::message::Event;
use super::{WorkerConfig, starter_folder};
use crate::error::Result;
use crate::families::ModelFiles;
use crate::files::{FileHasher, Print};
use crate::request::ModelCard;

/// How long after a look the next one comes; slow disks are asked more rarely.
const LOOK_EVERY: Duration = Duration::from_secs(3);
/// A look may take this share of the time: one part in so many.
const LOOK_SHARE: u32 = 20;
/// How long the background waits for a drawing to end before it asks again.
const WHILE_BUSY: Duration = Duration::from_secs(1);
/// Pieces of a file that are hashed before commands are looked for: some hundredths of a second.
const PIECES_AT_ONCE: usize = 8;

/// Works until the file thread, which hands searches over, is gone.
pub(super) fn run(
    config: &WorkerConfig,
    hashes: Arc<Hashes>,
    searches: &Receiver<Search>,
    ends: &Ends,
) {
    let mut library = Library {
        config,
        hashes,
        ends,
        scanner: Scanner::default(),
        folders: None,
        told: Found::default(),
        next_look: Instant::now(),
        hashing: None,
        unreadable: BTreeSet::new(),
    };
    loop {
        match searches.recv_timeout(library.idle()) {
            Ok(search) => library.search(search),
            Err(RecvTimeoutError::Timeout) => library.work(),
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}

/// What is to be looked through.
pub(super) struct Search {
    pub folders: Vec<PathBuf>,
    /// Of lists for prompts, where one is chosen.
    pub wildcards: Option<PathBuf>,
}

struct Library<'a> {
    config: &'a WorkerConfig,
    hashes: Arc<Hashes>,
    ends: &'a Ends,
    scanner: Scanner,
    /// Those of the last search.
    folders: Option<Vec<PathBuf>>,
    told: Found,
    next_look: Instant,
    hashing: Option<Hashing>,
    /// Files that could not be hashed.
    unreadable: BTreeSet<PathBuf>,
}

/// A file that is hashed piece by piece.
struct Hashing {
    file: PathBuf,
    print: Print,
    hasher: FileHasher,
}

impl Library<'_> {
    /// How long to wait for a search before going on with other work.
    fn idle(&self) -> Duration {
        let until_look = self.next_look.saturating_duration_since(Instant::now());
        match (&self.folders, self.unhashed().is_some()) {
            (None, _) => Duration::from_secs(3600),
            (_, true) if !self.hashes.is_busy() => Duration::ZERO,
            (_, true) => WHILE_BUSY.min(until_look),
            (_, false) => until_look,
        }
    }

    /// Answers a search.
    fn search(&mut self, Search { folders, wildcards }: Search) {
        self.scanner.wildcards = wildcards;
        let found = self.look(&folders);
        self.folders = Some(folders);
        self.told = found;
        self.send(Event::AddOnsFound(self.told.add_ons.clone()));
        self.send(Event::ModelsFound(self.cards()));
    }

    /// One piece of what is done unasked.
    fn work(&mut self) {
        if Instant::now() >= self.next_look {
            self.look_again();
        } else if !self.hashes.is_busy() {
            self.hash_on();
        }
    }

    fn look(&mut self, folders: &[PathBuf]) -> Found {
        let begun = Instant::now();
        let found = self
            .scanner
            .scan(folders, &|| self.ends.cancelled.closing());
        self.next_look = Instant::now() + LOOK_EVERY.max(begun.elapsed() * LOOK_SHARE);
        found
    }

    fn look_again(&mut self) {
        let Some(folders) = self.folders.clone() else {
            return;
        };
        let found = self.look(&folders);
        // Half a look, while the window closes, would tell of models that are gone.
        if self.ends.cancelled.closing() {
            return;
        }
        let before = std::mem::replace(&mut self.told, found);
        if before.models != self.told.models {
            self.send(Event::ModelsChanged(self.cards()));
        }
        if before.add_ons != self.told.add_ons {
            self.send(Event::AddOnsFound(self.told.add_ons.clone()));
        }
    }

    /// The model that ships, then what was found, with the hashes that are known.
    fn cards(&self) -> Vec<ModelCard> {
        let with_hash = |card: &ModelCard| {
            let file = card.path.as_ref().and_then(|it| self.told.hashed.get(it));
            let sha256 = file.and_then(|file| self.hashes.known(file));
            ModelCard {
                sha256,
                ..card.clone()
            }
        };
        let found = self.told.models.iter().map(with_hash);
        shipped(self.config).into_iter().chain(found).collect()
    }

    /// A model's file whose hash is not known yet.
    fn unhashed(&self) -> Option<&Path> {
        if !self.hashes.are_kept() {
            return None;
        }
        let mut files = self.told.hashed.values();
        let file =
            files.find(|it| !self.unreadable.contains(*it) && self.hashes.known(it).is_none());
        file.map(PathBuf::as_path)
    }

    fn hash_on(&mut self) {
        let Some(file) = self.unhashed().map(Path::to_path_buf) else {
            return;
        };
        match self.advance(&file) {
            Ok(true) => self.send(Event::ModelsChanged(self.cards())),
            Ok(false) => {}
            Err(error) => {
                log::warn!("{error}");
                self.hashing = None;
                self.unreadable.insert(file);
            }
        }
    }

    /// Hashes on; `true` when the hash is known.
    fn advance(&mut self, file: &Path) -> Result<bool> {
        let print = Print::of(file)?;
        let mut hashing = match self.hashing.take() {
            Some(begun) if begun.file == file && begun.print == print => begun,
            _ => Hashing {
                file: file.to_path_buf(),
                print,
                hasher: FileHasher::open(file)?.in_passing(),
            },
        };
        for _ in 0..PIECES_AT_ONCE {
            if let Some(hash) = hashing.hasher.advance()? {
                self.hashes.remember(file, print, hash);
                return Ok(true);
            }
        }
        self.hashing = Some(hashing);
        Ok(false)
    }

    fn send(&self, event: Event) {
        super::send(&self.ends.events, self.config, event);
    }
}

fn shipped(config: &WorkerConfig) -> Option<ModelCard> {
    ModelFiles::open(&starter_folder(&config.weights))
        .and_then(|files| files.card(true))
        .inspect_err(|error| log::warn!("the model that ships cannot be used: {error}"))
        .ok()
}

/// What the window's lists show, for tests.
#[cfg(test)]
pub(super) fn list(folders: &[PathBuf]) -> Vec<crate::request::AddOn> {
    Scanner::default().scan(folders, &|| false).add_ons
}

/// Files of which only the header is there, for tests; the weights are a hole in the file.
#[cfg(test)]
pub(super) mod stand_in {
    use std::collections::BTreeMap;
    use std::path::Path;

    /// A file with tensors of these shapes, in f16.
    pub fn file_of(path: &Path, tensors: &[(&str, &[u64])]) {
        let tensors = tensors
            .iter()
            .map(|(name, shape)| ((*name).to_owned(), shape.to_vec()));
        write(path, tensors.collect());
    }

    /// A tiny checkpoint of Stable Diffusion 1.
    pub fn checkpoint(path: &Path) {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let case = root.join("tests/reference/data/checkpoints/sd1.json");
        let case: serde_json::Value =
            serde_json::from_slice(&std::fs::read(case).unwrap()).unwrap();
        write(
            path,
            serde_json::from_value(case["stored"].clone()).unwrap(),
        );
    }

    fn write(path: &Path, tensors: BTreeMap<String, Vec<u64>>) {
        let mut end = 0;
        let mut header = serde_json::Map::new();
        for (name, shape) in tensors {
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
}
