//! Writing files so that a crash or a full disk never leaves half of one, hashing them, and telling
//! whether one has changed.

use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use serde::{Deserialize, Serialize};
use tempfile::NamedTempFile;

use crate::error::{Error, Result};

/// Bytes read at once while a file is hashed.
const HASHED_AT_ONCE: usize = 1 << 20;

/// Writes `bytes` to `path`: a temporary file in the same folder, flushed to the disk, then renamed.
/// The folder is made where it is missing. What was at `path` is replaced whole or not at all.
///
/// Errors: [`Error::Io`] ("Saving") with the path.
pub fn atomic_write(path: &Path, bytes: &[u8]) -> Result<()> {
    let failed = |source| Error::io("Saving", path, source);
    let file = write_beside(path, bytes).map_err(failed)?;
    file.persist(path).map_err(|error| failed(error.error))?;
    sync_folder(path);
    Ok(())
}

/// As [`atomic_write`], but never replaces: `false` where something is at `path` already.
///
/// Errors: [`Error::Io`] ("Saving") with the path.
pub fn atomic_write_new(path: &Path, bytes: &[u8]) -> Result<bool> {
    let failed = |source| Error::io("Saving", path, source);
    let file = write_beside(path, bytes).map_err(failed)?;
    let written = match file.persist_noclobber(path) {
        Ok(_) => true,
        Err(error) if error.error.kind() == std::io::ErrorKind::AlreadyExists => false,
        // Some network drives know neither hard links nor a rename that refuses to replace.
        Err(error) => claim_and_persist(error.file, path).map_err(failed)?,
    };
    if written {
        sync_folder(path);
    }
    Ok(written)
}

/// Makes the file `path` of what `write` writes, whole or not at all; never replaces anything.
///
/// Errors: [`Error::Io`] ("Saving") with the path; what `write` fails with, and then nothing is left.
pub fn new_file(
    path: &Path,
    write: &mut dyn FnMut(&mut std::fs::File) -> Result<()>,
) -> Result<()> {
    let failed = |source| Error::io("Saving", path, source);
    let mut file = write_beside(path, b"").map_err(failed)?;
    write(file.as_file_mut())?;
    file.as_file().sync_all().map_err(failed)?;
    match file.persist_noclobber(path) {
        Ok(_) => {}
        Err(error) if error.error.kind() == std::io::ErrorKind::AlreadyExists => {
            return Err(failed(error.error));
        }
        // Some network drives know neither hard links nor a rename that refuses to replace.
        Err(error) => {
            if !claim_and_persist(error.file, path).map_err(failed)? {
                return Err(failed(std::io::ErrorKind::AlreadyExists.into()));
            }
        }
    }
    sync_folder(path);
    Ok(())
}

/// Makes the folder `path` of what `fill` puts into it, whole or not at all; never replaces anything.
///
/// Errors: [`Error::Io`] ("Saving") with the path; what `fill` fails with, and then nothing is left.
pub fn new_folder(path: &Path, fill: &mut dyn FnMut(&Path) -> Result<()>) -> Result<()> {
    let failed = |source| Error::io("Saving", path, source);
    let around = folder_of(path);
    std::fs::create_dir_all(around).map_err(failed)?;
    let folder = tempfile::Builder::new()
        .prefix(".easel-")
        .tempdir_in(around)
        .map_err(failed)?;
    // What failed is told by the name that it was to have.
    fill(folder.path()).map_err(|error| match error {
        Error::Io {
            doing,
            path: inside,
            source,
        } => {
            let named = inside.strip_prefix(folder.path()).map(|it| path.join(it));
            Error::io(doing, named.unwrap_or(inside), source)
        }
        other => other,
    })?;
    allow_entering(folder.path()).map_err(failed)?;
    // A rename would replace an empty folder, and nothing else.
    if path.symlink_metadata().is_ok() {
        return Err(failed(std::io::ErrorKind::AlreadyExists.into()));
    }
    std::fs::rename(folder.path(), path).map_err(failed)?;
    // It is not there any more under its first name.
    let _ = folder.keep();
    sync_folder(path);
    Ok(())
}

/// A temporary file beside `path` that holds `bytes` and is on the disk.
/// Whether `path` can be written, before there is something to write: in its folder, or in the one that
/// its folder would be made in. Nothing is left there.
///
/// Errors: [`Error::Io`] ("Saving") with the path.
pub fn check_writable(path: &Path) -> Result<()> {
    let failed = |source| Error::io("Saving", path, source);
    if path.is_dir() {
        return Err(failed(std::io::ErrorKind::IsADirectory.into()));
    }
    let there = folder_of(path).ancestors().find(|folder| folder.exists());
    let made = tempfile::Builder::new()
        .prefix(".easel-")
        .tempfile_in(there.unwrap_or(Path::new(".")));
    made.map_err(failed).map(drop)
}

fn write_beside(path: &Path, bytes: &[u8]) -> std::io::Result<NamedTempFile> {
    let folder = folder_of(path);
    std::fs::create_dir_all(folder)?;
    let mut file = tempfile::Builder::new()
        .prefix(".easel-")
        .tempfile_in(folder)?;
    file.write_all(bytes)?;
    allow_reading(file.as_file())?;
    file.as_file().sync_all()?;
    Ok(file)
}

/// Takes the name with an empty file, which no two programs can do at once, then replaces that.
fn claim_and_persist(file: NamedTempFile, path: &Path) -> std::io::Result<bool> {
    match std::fs::File::create_new(path) {
        Ok(_) => {}
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => return Ok(false),
        Err(error) => return Err(error),
    }
    file.persist(path).map_err(|error| error.error)?;
    Ok(true)
}

/// What changes when a file, or one of the files of a folder, does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Print {
    /// Of a folder the sum over its files, of the times too: any of them may be exchanged for an older one.
    size_bytes: u64,
    modified_ns: u64,
}

impl Print {
    /// Of a file, or of the files in a folder and in those directly in it, as models have them.
    ///
    /// Errors: [`Error::Io`] ("Reading") with the path.
    pub fn of(path: &Path) -> Result<Self> {
        let metadata =
            std::fs::metadata(path).map_err(|source| Error::io("Reading", path, source))?;
        if !metadata.is_dir() {
            return Ok(Self::of_file(&metadata));
        }
        let mut sum = Self {
            size_bytes: 0,
            modified_ns: 0,
        };
        let entries =
            std::fs::read_dir(path).map_err(|source| Error::io("Reading", path, source))?;
        for inside in entries.flatten().map(|entry| entry.path()) {
            if !sum.add(&inside) {
                let entries = std::fs::read_dir(inside).into_iter().flatten().flatten();
                entries.for_each(|entry| {
                    sum.add(&entry.path());
                });
            }
        }
        Ok(sum)
    }

    /// As [`Self::of`], of a model: with the config that may lie beside a checkpoint, `NAME.yaml`.
    ///
    /// Errors: as [`Self::of`].
    pub fn of_model(path: &Path) -> Result<Self> {
        let mut sum = Self::of(path)?;
        let config = path.with_extension("yaml");
        if config.is_file() && path.is_file() {
            sum.add(&config);
        }
        Ok(sum)
    }

    /// Of the file that `metadata` is of.
    pub fn of_file(metadata: &std::fs::Metadata) -> Self {
        let modified = metadata.modified().unwrap_or(UNIX_EPOCH);
        let since = modified.duration_since(UNIX_EPOCH).unwrap_or_default();
        Self {
            size_bytes: metadata.len(),
            modified_ns: u64::try_from(since.as_nanos()).unwrap_or(u64::MAX),
        }
    }

    /// How large it is.
    pub fn size_bytes(self) -> u64 {
        self.size_bytes
    }

    /// Adds one file to those of a folder; `false` for a folder in it.
    fn add(&mut self, path: &Path) -> bool {
        let Ok(metadata) = std::fs::metadata(path) else {
            return true;
        };
        if metadata.is_dir() {
            return false;
        }
        let one = Self::of_file(&metadata);
        self.size_bytes = self.size_bytes.wrapping_add(one.size_bytes);
        self.modified_ns = self.modified_ns.wrapping_add(one.modified_ns);
        true
    }
}

/// What prompts and menus call a file: its name without its ending.
pub fn stem(path: &Path) -> String {
    let stem = path.file_stem().unwrap_or_default();
    stem.to_string_lossy().into_owned()
}

/// What other programs call a model's file or folder: its name, of the Hugging Face cache its repository's.
pub fn name(path: &Path) -> String {
    hub_name(path).unwrap_or_else(|| {
        let name = path.file_name().unwrap_or(path.as_os_str());
        name.to_string_lossy().into_owned()
    })
}

/// `org/name` of a snapshot in the Hugging Face cache; `None` for any other folder.
pub fn hub_name(snapshot: &Path) -> Option<String> {
    let snapshots = snapshot.parent().filter(|it| it.ends_with("snapshots"))?;
    let repository = snapshots.parent()?.file_name()?.to_str()?;
    Some(repository.strip_prefix("models--")?.replace("--", "/"))
}

/// The file of thing `index`, counted from 0: `cat.png`, then `cat-2.png`, `cat-3.png`.
pub fn numbered(file: &Path, index: usize) -> PathBuf {
    if index == 0 {
        return file.to_path_buf();
    }
    let mut name = file.file_stem().unwrap_or_default().to_owned();
    name.push(format!("-{}", index + 1));
    if let Some(ending) = file.extension() {
        name.push(".");
        name.push(ending);
    }
    file.with_file_name(name)
}

fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

/// Makes a rename last through a power failure, where the system can do that.
fn sync_folder(path: &Path) {
    #[cfg(unix)]
    if let Ok(folder) = std::fs::File::open(folder_of(path)) {
        // The file itself is safe already; not every file system syncs folders.
        let _ = folder.sync_all();
    }
    #[cfg(not(unix))]
    let _ = path;
}

/// Computes the sha256 of a file a piece at a time.
#[derive(Debug)]
pub struct FileHasher {
    path: PathBuf,
    file: std::fs::File,
    sha256: sha2::Sha256,
    piece: Vec<u8>,
    /// Whether the system need not keep what was read.
    in_passing: bool,
}

impl FileHasher {
    /// Errors: [`Error::Io`] ("Reading") with the path.
    pub fn open(path: &Path) -> Result<Self> {
        Ok(Self {
            path: path.to_path_buf(),
            file: std::fs::File::open(path).map_err(|source| Error::io("Reading", path, source))?,
            sha256: sha2::Sha256::default(),
            piece: vec![0; HASHED_AT_ONCE],
            in_passing: false,
        })
    }

    /// Reads without filling the system's cache: what is in use stays there.
    pub fn in_passing(mut self) -> Self {
        self.in_passing = true;
        self
    }

    /// Reads the next piece; the hash, 64 hex digits, after the last one.
    ///
    /// Errors: [`Error::Io`] ("Reading") with the path.
    pub fn advance(&mut self) -> Result<Option<String>> {
        use sha2::Digest;
        let read = self.file.read(&mut self.piece);
        let length = read.map_err(|source| Error::io("Reading", &self.path, source))?;
        if length > 0 {
            self.sha256
                .update(self.piece.get(..length).unwrap_or_default());
            if self.in_passing {
                forget_cached(&self.file);
            }
            return Ok(None);
        }
        let digest = std::mem::take(&mut self.sha256).finalize();
        Ok(Some(
            digest.iter().map(|byte| format!("{byte:02x}")).collect(),
        ))
    }
}

/// The sha256 of a file, 64 hex digits. Reads it whole, a piece at a time.
///
/// Errors: [`Error::Io`] ("Reading") with the path.
pub fn sha256_hex(path: &Path) -> Result<String> {
    sha256_hex_from(path, 0)
}

/// The sha256 of a file from byte `begin` on.
///
/// Errors: [`Error::Io`] ("Reading") with the path.
pub fn sha256_hex_from(path: &Path, begin: u64) -> Result<String> {
    let mut hasher = FileHasher::open(path)?;
    let skipped = hasher.file.seek(SeekFrom::Start(begin));
    skipped.map_err(|source| Error::io("Reading", path, source))?;
    loop {
        if let Some(hash) = hasher.advance()? {
            return Ok(hash);
        }
    }
}

/// Tells the system that what was read so far is not needed again.
#[cfg(target_os = "linux")]
fn forget_cached(file: &std::fs::File) {
    use std::os::fd::AsRawFd;
    // SAFETY: an open file's descriptor and plain numbers; the call changes no memory of ours, and a
    // refusal only means that the pages stay.
    unsafe { libc::posix_fadvise(file.as_raw_fd(), 0, 0, libc::POSIX_FADV_DONTNEED) };
}

#[cfg(not(target_os = "linux"))]
fn forget_cached(_file: &std::fs::File) {}

/// Temporary files are private to their owner; a finished file is as readable as any other.
#[cfg(unix)]
fn allow_reading(file: &std::fs::File) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    file.set_permissions(std::fs::Permissions::from_mode(0o644))
}

#[cfg(unix)]
fn allow_entering(folder: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o755))
}

#[cfg(not(unix))]
fn allow_entering(_folder: &Path) -> std::io::Result<()> {
    Ok(())
}

#[cfg(not(unix))]
fn allow_reading(_file: &std::fs::File) -> std::io::Result<()> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn later_pictures_of_a_job_get_a_number_before_the_ending() {
        assert_eq!(numbered(Path::new("a/cat.png"), 0), Path::new("a/cat.png"));
        assert_eq!(
            numbered(Path::new("a/cat.png"), 1),
            Path::new("a/cat-2.png")
        );
        assert_eq!(numbered(Path::new("cat"), 2), Path::new("cat-3"));
    }

    #[test]
    fn a_folder_changes_with_any_of_its_files_and_of_those_one_level_below() {
        let folder = tempfile::tempdir().unwrap();
        let place = |name: &str| folder.path().join(name);
        let write = |name: &str, text: &str, seconds: u64| {
            atomic_write(&place(name), text.as_bytes()).unwrap();
            let file = std::fs::File::options().append(true).open(place(name));
            let time = UNIX_EPOCH + std::time::Duration::from_secs(seconds);
            file.unwrap().set_modified(time).unwrap();
            Print::of(folder.path()).unwrap()
        };
        write("model_index.json", "{}", 9);
        let first = write("unet/weights", "abc", 5);
        assert_eq!(first.size_bytes(), 5);
        // Exchanged for an older one of its size, while another is newer.
        let second = write("unet/weights", "xyz", 4);
        assert_ne!(second, first);
        assert_eq!(write("unet/weights", "abc", 5), first);
        assert_ne!(write("unet/weights", "abcd", 5), first);
        let file = Print::of(&place("model_index.json")).unwrap();
        assert_eq!((file.size_bytes, file.modified_ns), (2, 9_000_000_000));
        assert!(Print::of(&place("missing")).is_err());
    }

    #[test]
    fn a_checkpoint_changes_with_the_config_beside_it() {
        let folder = tempfile::tempdir().unwrap();
        let model = folder.path().join("v1.5.safetensors");
        atomic_write(&model, b"weights").unwrap();
        let alone = Print::of_model(&model).unwrap();
        assert_eq!(alone, Print::of(&model).unwrap());
        atomic_write(&folder.path().join("v1.5.yaml"), b"parameterization: v").unwrap();
        assert_ne!(alone, Print::of_model(&model).unwrap());
    }

    #[test]
    fn a_failed_write_leaves_the_old_file_and_no_other() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a/b.txt");
        atomic_write(&path, b"first").unwrap();
        atomic_write(&path, b"second").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"second");
        // A folder in the way of the rename.
        let blocked = folder.path().join("a/c");
        std::fs::create_dir_all(blocked.join("full")).unwrap();
        let error = atomic_write(&blocked, b"x").unwrap_err();
        assert!(error.to_string().contains("Saving"), "{error}");
        let names: Vec<_> = std::fs::read_dir(folder.path().join("a"))
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        assert_eq!(names.len(), 2, "{names:?}");
    }

    #[test]
    fn a_new_file_never_replaces_another_whichever_way_the_name_is_taken() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("picture.png");
        assert!(atomic_write_new(&path, b"first").unwrap());
        assert!(!atomic_write_new(&path, b"second").unwrap());
        let file = write_beside(&path, b"third").unwrap();
        assert!(!claim_and_persist(file, &path).unwrap());
        assert_eq!(std::fs::read(&path).unwrap(), b"first");

        let other = folder.path().join("other.png");
        let file = write_beside(&other, b"fourth").unwrap();
        assert!(claim_and_persist(file, &other).unwrap());
        assert_eq!(std::fs::read(&other).unwrap(), b"fourth");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 2);
    }
}
