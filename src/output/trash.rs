//! Deleting a picture so that it can be brought back.
//!
//! To the system's trash where it can give a file back (Linux, Windows); to the hidden folder
//! `.deleted` beside the pictures where it cannot (macOS, or no trash on that drive).

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

/// The folder for what the system's trash does not take.
const OWN_TRASH: &str = ".deleted";

/// Moves a picture to the trash.
///
/// Errors: [`Error::Io`] ("Deleting") where it is not there or cannot be moved.
pub fn delete(path: &Path) -> Result<()> {
    let failed = |source| Error::io("Deleting", path, source);
    path.symlink_metadata().map_err(failed)?;
    match system::delete(path) {
        Ok(()) => Ok(()),
        Err(why) => {
            log::info!("{} goes to {OWN_TRASH}: {why}", path.display());
            move_to_own_trash(path).map_err(failed)
        }
    }
}

/// Brings the picture back that was last deleted from this path.
///
/// Errors: [`Error::Io`] ("Restoring") where it is no longer in the trash, or another file has
/// taken its place.
pub fn restore(path: &Path) -> Result<()> {
    let failed = |source| Error::io("Restoring", path, source);
    if path.symlink_metadata().is_ok() {
        return Err(failed(std::io::Error::new(
            std::io::ErrorKind::AlreadyExists,
            "another file lies there now",
        )));
    }
    match newest_in_own_trash(path).map_err(failed)? {
        Some(kept) => std::fs::rename(kept, path).map_err(failed),
        None => system::restore(path).map_err(failed),
    }
}

fn own_trash(path: &Path) -> PathBuf {
    path.parent().unwrap_or(Path::new("")).join(OWN_TRASH)
}

/// `.deleted/cat.png`, then `.deleted/cat.png.2`, ...: nothing there is ever replaced.
fn move_to_own_trash(path: &Path) -> std::io::Result<()> {
    let folder = own_trash(path);
    std::fs::create_dir_all(&folder)?;
    let mut copy = 1;
    loop {
        let kept = folder.join(kept_name(path, copy));
        match std::fs::File::create_new(&kept) {
            // The name is taken by an empty file; the picture replaces that.
            Ok(_) => {
                return std::fs::rename(path, &kept).inspect_err(|_| {
                    let _ = std::fs::remove_file(&kept);
                });
            }
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => copy += 1,
            Err(error) => return Err(error),
        }
    }
}

fn newest_in_own_trash(path: &Path) -> std::io::Result<Option<PathBuf>> {
    let folder = own_trash(path);
    let mut newest = None;
    for copy in 1.. {
        let kept = folder.join(kept_name(path, copy));
        if !kept.try_exists()? {
            break;
        }
        newest = Some(kept);
    }
    Ok(newest)
}

fn kept_name(path: &Path, copy: u32) -> OsString {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    if copy > 1 {
        name.push(format!(".{copy}"));
    }
    name
}

#[cfg(any(windows, all(unix, not(target_os = "macos"))))]
mod system {
    use std::io::{Error, ErrorKind};
    use std::path::Path;

    use trash::os_limited;

    pub fn delete(path: &Path) -> Result<(), trash::Error> {
        trash::delete(path)
    }

    pub fn restore(path: &Path) -> Result<(), Error> {
        let wanted = absolute(path)?;
        let items = os_limited::list().map_err(Error::other)?;
        let newest = items
            .into_iter()
            .filter(|item| item.original_path() == wanted)
            // Times are whole seconds; of two in one second the later name is the later one.
            .max_by_key(|item| (item.time_deleted, item.id.len(), item.id.clone()))
            .ok_or_else(|| Error::new(ErrorKind::NotFound, "it is no longer in the trash"))?;
        os_limited::restore_all([newest]).map_err(Error::other)
    }

    /// As the trash noted it: the folder without links, the name as it was.
    fn absolute(path: &Path) -> Result<std::path::PathBuf, Error> {
        let path = std::path::absolute(path)?;
        match (path.parent(), path.file_name()) {
            (Some(folder), Some(name)) if folder.exists() => Ok(folder.canonicalize()?.join(name)),
            _ => Ok(path),
        }
    }
}

#[cfg(not(any(windows, all(unix, not(target_os = "macos")))))]
mod system {
    use std::io::{Error, ErrorKind};
    use std::path::Path;

    pub fn delete(_path: &Path) -> Result<(), &'static str> {
        Err("this system's trash gives nothing back")
    }

    pub fn restore(_path: &Path) -> Result<(), Error> {
        Err(Error::new(ErrorKind::NotFound, "it is no longer there"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_own_trash_gives_back_the_last_deleted_of_a_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("cat.png");
        for text in ["first", "second", "third"] {
            std::fs::write(&path, text).unwrap();
            move_to_own_trash(&path).unwrap();
            assert!(!path.exists());
        }
        for text in ["third", "second", "first"] {
            restore(&path).unwrap();
            assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
            std::fs::remove_file(&path).unwrap();
        }
        assert_eq!(newest_in_own_trash(&path).unwrap(), None);
    }

    #[test]
    fn a_restored_picture_replaces_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("cat.png");
        std::fs::write(&path, "old").unwrap();
        move_to_own_trash(&path).unwrap();
        std::fs::write(&path, "new").unwrap();
        let error = restore(&path).unwrap_err();
        assert!(error.to_string().contains("another file"), "{error}");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "new");
    }

    #[test]
    fn deleting_what_is_not_there_says_so() {
        let folder = tempfile::tempdir().unwrap();
        let error = delete(&folder.path().join("none.png")).unwrap_err();
        assert!(error.to_string().starts_with("Deleting"), "{error}");
    }
}
