//! The sha256 of model files, each computed once and kept: pictures name their model by it, and a
//! large file takes longer to hash than to map.
//!
//! Kept in one file of the user's cache folder by path, size and time of change. The engine hashes the
//! model that it loads on a thread of its own; the library's thread hashes the others while nothing
//! is drawn.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::files::{self, Print};

/// Some tens of thousands of files; more is not of this program.
const MAX_STORE_BYTES: u64 = 16 << 20;

/// Known hashes, shared by the worker's threads.
#[derive(Debug, Default)]
pub(super) struct Hashes {
    /// `None`: kept in memory only.
    store: Option<PathBuf>,
    known: Mutex<Known>,
    busy: AtomicUsize,
}

/// By the file's path.
type Known = BTreeMap<PathBuf, Entry>;

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Entry {
    print: Print,
    sha256: String,
}

/// While it lives, the background waits.
pub(super) struct Busy(Arc<Hashes>);

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.busy.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Hashes {
    /// Reads what is kept in `folder`; a missing or damaged store is an empty one.
    pub fn load(folder: Option<&Path>) -> Arc<Self> {
        let store = folder.map(|folder| folder.join("model_hashes.json"));
        let known = store.as_deref().map(read).unwrap_or_default();
        Arc::new(Self {
            store,
            known: Mutex::new(known),
            busy: AtomicUsize::new(0),
        })
    }

    /// Whether hashes outlive the program, so that hashing ahead is worth it.
    pub fn are_kept(&self) -> bool {
        self.store.is_some()
    }

    /// Asks the background to wait.
    pub fn busy(self: &Arc<Self>) -> Busy {
        self.busy.fetch_add(1, Ordering::Relaxed);
        Busy(Arc::clone(self))
    }

    pub fn is_busy(&self) -> bool {
        self.busy.load(Ordering::Relaxed) > 0
    }

    /// The file's hash, where it is known and the file has not changed since.
    pub fn known(&self, file: &Path) -> Option<String> {
        let print = Print::of(file).ok()?;
        let known = self.lock();
        let entry = known.get(file).filter(|entry| entry.print == print)?;
        Some(entry.sha256.clone())
    }

    /// The file's hash, computed where it is not known; 64 hex digits.
    ///
    /// Errors: [`Error::Io`] with the path.
    pub fn of(&self, file: &Path) -> Result<String> {
        if let Some(known) = self.known(file) {
            return Ok(known);
        }
        let print = Print::of(file)?;
        let hash = files::sha256_hex(file)?;
        self.remember(file, print, hash.clone());
        Ok(hash)
    }

    /// Keeps a hash. `print` was taken before the file was read; one that changed meanwhile is
    /// computed again.
    pub fn remember(&self, file: &Path, print: Print, sha256: String) {
        let mut known = self.lock();
        known.insert(file.to_path_buf(), Entry { print, sha256 });
        let Some(store) = &self.store else { return };
        // Another Easel may have kept some meanwhile; this one's win.
        let mut all = read(store);
        all.append(&mut known.clone());
        *known = all;
        let written = serde_json::to_vec(&*known)
            .map_err(|error| Error::io("Saving", store, error.into()))
            .and_then(|json| files::atomic_write(store, &json));
        if let Err(error) = written {
            log::warn!("{error}");
        }
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

fn read(store: &Path) -> Known {
    let small = std::fs::metadata(store).is_ok_and(|it| it.len() <= MAX_STORE_BYTES);
    let bytes = small.then(|| std::fs::read(store).ok()).flatten();
    let parsed = bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok());
    parsed.unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const OF_ABC: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    #[test]
    fn a_hash_is_computed_once_and_again_when_the_file_changes() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a.safetensors");
        std::fs::write(&file, "abc").unwrap();
        let hashes = Hashes::load(Some(folder.path()));
        assert_eq!(hashes.known(&file), None);
        assert_eq!(hashes.of(&file).unwrap(), OF_ABC);
        // The next start knows it without reading the file.
        let hashes = Hashes::load(Some(folder.path()));
        assert_eq!(hashes.known(&file).as_deref(), Some(OF_ABC));
        std::fs::write(&file, "abcd").unwrap();
        assert_eq!(hashes.known(&file), None);
        assert_ne!(hashes.of(&file).unwrap(), OF_ABC);
    }

    #[test]
    fn two_programs_keep_each_others_hashes_and_a_damaged_store_is_empty() {
        let folder = tempfile::tempdir().unwrap();
        let [a, b] = ["a", "b"].map(|name| folder.path().join(name));
        for file in [&a, &b] {
            std::fs::write(file, "abc").unwrap();
        }
        let (one, other) = (
            Hashes::load(Some(folder.path())),
            Hashes::load(Some(folder.path())),
        );
        one.of(&a).unwrap();
        other.of(&b).unwrap();
        let next = Hashes::load(Some(folder.path()));
        assert!(next.known(&a).is_some() && next.known(&b).is_some());
        std::fs::write(folder.path().join("model_hashes.json"), "{\"a").unwrap();
        assert_eq!(Hashes::load(Some(folder.path())).known(&a), None);
    }

    #[test]
    fn the_background_waits_while_something_is_drawn() {
        let hashes = Hashes::load(None);
        let (one, two) = (hashes.busy(), hashes.busy());
        drop(one);
        assert!(hashes.is_busy());
        drop(two);
        assert!(!hashes.is_busy());
    }
}
