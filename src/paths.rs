//! Where the weights lie that come with Easel, and where it may keep what it computed. Everything that
//! draws asks here once, at the start.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

/// Names the folder of weights, before any other place.
const VARIABLE: &str = "EASEL_WEIGHTS";
/// What lies in a folder of weights, whatever else does.
const STARTER: &str = "starter/model_index.json";

/// The folder with `starter/` and `upscalers/`: the one that `EASEL_WEIGHTS` names, else `weights`
/// beside the program, else that of the repository whose `target` folder the program lies in.
///
/// Errors: [`Error::Model`] that names where it was looked for.
pub fn weights() -> Result<PathBuf> {
    let program = std::env::current_exe().unwrap_or_default();
    find_weights(std::env::var_os(VARIABLE), &program)
}

/// Where Easel keeps what it can compute again; `None` where the system names no such folder.
pub fn cache() -> Option<PathBuf> {
    let dirs = directories::ProjectDirs::from("", "", "Easel")?;
    Some(dirs.cache_dir().to_path_buf())
}

fn find_weights(named: Option<OsString>, program: &Path) -> Result<PathBuf> {
    if let Some(named) = named.filter(|named| !named.is_empty()) {
        let folder = PathBuf::from(named);
        return if folder.join(STARTER).is_file() {
            Ok(folder)
        } else {
            Err(Error::model(
                &folder,
                format!("{VARIABLE} names this folder, but there is no {STARTER} in it"),
            ))
        };
    }
    let beside = program.parent().unwrap_or(Path::new(""));
    let repository = program
        .ancestors()
        .find(|folder| folder.file_name().is_some_and(|name| name == "target"))
        .and_then(Path::parent);
    let folders = [Some(beside), repository];
    let found = folders
        .into_iter()
        .flatten()
        .map(|folder| folder.join("weights"))
        .find(|folder| folder.join(STARTER).is_file());
    found.ok_or_else(|| {
        Error::model(
            beside.join("weights"),
            format!(
                "the weights that come with Easel are not there; {VARIABLE} can name their folder"
            ),
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_starter(folder: &Path) -> PathBuf {
        let weights = folder.join("weights");
        std::fs::create_dir_all(weights.join("starter")).unwrap();
        std::fs::write(weights.join(STARTER), "{}").unwrap();
        weights
    }

    #[test]
    fn a_named_folder_wins_and_must_hold_the_starter() {
        let folder = tempfile::tempdir().unwrap();
        let weights = with_starter(folder.path());
        let named = |path: &Path| find_weights(Some(path.into()), Path::new("/nowhere/easel"));
        assert_eq!(named(&weights).unwrap(), weights);
        let error = named(folder.path()).unwrap_err();
        assert!(error.to_string().contains(VARIABLE), "{error}");
    }

    #[test]
    fn weights_are_found_beside_the_program_and_from_the_build_folder() {
        let folder = tempfile::tempdir().unwrap();
        let weights = with_starter(folder.path());
        for program in [
            "easel",
            "target/release/easel",
            "target/debug/deps/cli-0123",
            "target/x86_64-unknown-linux-gnu/release/easel",
        ] {
            let found = find_weights(None, &folder.path().join(program));
            assert_eq!(found.unwrap(), weights, "{program}");
        }
        let error = find_weights(None, &folder.path().join("bin/easel")).unwrap_err();
        assert!(error.to_string().contains("EASEL_WEIGHTS"), "{error}");
    }
}
