//! The sha256 that names a model in pictures, computed on a thread of its own while the model loads
//! and draws: a large file takes longer to hash than to map.

use std::path::PathBuf;
use std::thread::JoinHandle;

use crate::error::{Error, Result};
use crate::files;

/// Characters of the sha256 that A1111 shows.
const SHORT_HASH: usize = 10;

/// The hash of one file, or the thread that computes it.
pub(super) enum ModelHash {
    Running(JoinHandle<Option<String>>),
    /// `None`: the file could not be read.
    Known(Option<String>),
}

impl ModelHash {
    /// Starts to hash `file`.
    ///
    /// Errors: [`Error::Panic`] where the system gives no thread.
    pub(super) fn start(file: PathBuf) -> Result<Self> {
        std::thread::Builder::new()
            .name("easel-hash".to_owned())
            .spawn(move || {
                let hash = files::sha256_hex(&file);
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
            *self = Self::Known(hash.and_then(|hash| hash.get(..SHORT_HASH).map(str::to_owned)));
        }
        match self {
            Self::Known(hash) => hash.clone(),
            Self::Running(_) => None,
        }
    }
}
