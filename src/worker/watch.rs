//! Notices pictures that somebody else puts into the library or takes out of it: the command line,
//! another program, a file manager. Part of the file thread, which looks when it has nothing to do.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use crate::error::Result;
use crate::output;

/// How often the thread looks while nothing is asked of it.
pub(super) const LOOK_EVERY: Duration = Duration::from_secs(2);

/// A library as it was listed last.
#[derive(Debug)]
pub(super) struct Watched {
    root: PathBuf,
    folders: Vec<(PathBuf, SystemTime)>,
    listed: Vec<PathBuf>,
    /// It could not be listed since.
    failed: bool,
}

impl Watched {
    /// Lists the pictures below `root`.
    ///
    /// Errors: as [`output::list_pictures`].
    pub(super) fn list(root: PathBuf) -> Result<Self> {
        // Looked at before the list is made: what comes in between is seen the next time.
        let folders = changes(&root);
        Ok(Self {
            listed: output::list_pictures(&root)?,
            folders,
            root,
            failed: false,
        })
    }

    /// `root` could not be listed: where it is this one, how it is when it can be again is told then. `None`:
    /// another folder is asked for now.
    pub(super) fn failed(self, root: &Path) -> Option<Self> {
        (self.root == root).then_some(Self {
            failed: true,
            ..self
        })
    }

    /// Newest first.
    pub(super) fn pictures(&self) -> &[PathBuf] {
        &self.listed
    }

    /// Looks again; whether there is something to tell: other pictures, or that they are there again. Costs one
    /// question a folder while nothing has changed.
    pub(super) fn look(&mut self) -> bool {
        if !self.failed && changes(&self.root) == self.folders {
            return false;
        }
        match Self::list(self.root.clone()) {
            Ok(now) => {
                let other = self.failed || now.listed != self.listed;
                *self = now;
                other
            }
            Err(error) => {
                if !self.failed {
                    log::warn!("{error}");
                }
                self.failed = true;
                false
            }
        }
    }
}

/// When the root and the folders in it changed last: a folder changes with the files in it.
fn changes(root: &Path) -> Vec<(PathBuf, SystemTime)> {
    let below = std::fs::read_dir(root).into_iter().flatten().flatten();
    let below = below.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    let folders = std::iter::once(root.to_path_buf()).chain(below.map(|entry| entry.path()));
    let mut changes: Vec<_> = folders
        .filter_map(|folder| {
            let changed = folder.metadata().and_then(|data| data.modified()).ok()?;
            Some((folder, changed))
        })
        .collect();
    changes.sort();
    changes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pictures_that_others_add_or_take_away_are_noticed() {
        let root = tempfile::tempdir().unwrap();
        let day = root.path().join("2026-11-25");
        let mut watched = Watched::list(root.path().to_path_buf()).unwrap();
        assert!(watched.pictures().is_empty() && !watched.look());
        std::fs::create_dir(&day).unwrap();
        assert!(!watched.look(), "a folder is no picture");
        let path = day.join("00001-7.png");
        std::fs::write(&path, b"").unwrap();
        // A folder's time may be coarser than this test is fast.
        let later = SystemTime::now() + Duration::from_secs(5);
        std::fs::File::open(&day)
            .unwrap()
            .set_modified(later)
            .unwrap();
        assert!(watched.look());
        assert_eq!(watched.pictures(), std::slice::from_ref(&path));
        assert!(!watched.look());
        std::fs::remove_file(&path).unwrap();
        assert!(watched.look());
        assert!(watched.pictures().is_empty());
    }
}
