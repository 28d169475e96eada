//! The sha256 that names a model in pictures, computed on a thread of its own while the model loads
//! and draws: a large file takes longer to hash than to map.

use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;

use super::hashes::Hashes;
use crate::error::{Error, Result};
use crate::request::short_hash;

/// The hash of one file, or the thread that computes it.
pub(super) enum ModelHash {
    Running(JoinHandle<Option<String>>),
    /// `None`: the file could not be read.
    Known(Option<String>),
}

impl ModelHash {
    /// Starts to hash `file`, where its hash is not kept from before.
    ///
    /// Errors: [`Error::Panic`] where the system gives no thread.
    pub(super) fn start(file: PathBuf, hashes: &Arc<Hashes>) -> Result<Self> {
        if let Some(known) = hashes.known(&file) {
            return Ok(Self::Known(short_of(&known)));
        }
        let (hashes, busy) = (Arc::clone(hashes), hashes.busy());
        std::thread::Builder::new()
            .name("easel-hash".to_owned())
            .spawn(move || {
                let _busy = busy;
                let hash = hashes.of(&file);
                hash.inspect_err(|error| log::warn!("{error}")).ok()
            })
            .map(Self::Running)
            .map_err(|error| Error::Panic {
                details: format!("no thread could be started: {error}"),
            })
    }

    /// The first ten digits; waits for the thread where it is not done.
    pub(super) fn short(&mut self) -> Option<String> {
        if let Self::Running(_) = self
            && let Self::Running(thread) = std::mem::replace(self, Self::Known(None))
        {
            let hash = thread.join().ok().flatten();
            *self = Self::Known(hash.as_deref().and_then(short_of));
        }
        match self {
            Self::Known(hash) => hash.clone(),
            Self::Running(_) => None,
        }
    }
}

fn short_of(hash: &str) -> Option<String> {
    short_hash(hash).map(str::to_owned)
}
