//! The lists of `__name__` in prompts: text files in folders, found by name and read when drawn from.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::library::{Met, Walk};
use crate::error::{Error, Result};
use crate::prompt::template::{self, Lists};
use crate::request::{AddOn, AddOnKind, GenerationRequest};

/// How deep below a folder lists are looked for, and how many are kept.
const DEPTH: usize = 8;
const MAX_FILES: usize = 50_000;
/// A list longer than this is no list of words.
const MAX_BYTES: u64 = 16 << 20;
/// Where lists lie in a folder of models or beside it; the second is sd-dynamic-prompts' in A1111.
const PLACES: [&str; 2] = ["wildcards", "extensions/sd-dynamic-prompts/wildcards"];

/// Every list, by name: `animals/birds` for `animals/birds.txt`.
#[derive(Debug, Default)]
pub(super) struct WildcardFiles(BTreeMap<String, PathBuf>);

impl WildcardFiles {
    /// The lists in `chosen` and in the places in and beside the model folders; where two have a name,
    /// the first of them counts.
    ///
    /// Errors: [`Error::Request`] where `chosen` is no folder.
    pub(super) fn find(chosen: Option<&Path>, model_folders: &[PathBuf]) -> Result<Self> {
        let mut found = Self::default();
        if let Some(folder) = chosen {
            if !folder.is_dir() {
                return Err(Error::Request(format!(
                    "The folder of wildcards {} does not exist",
                    folder.display()
                )));
            }
            found.look(folder);
        }
        for folder in model_folders {
            // A1111's checkpoints lie in models/Stable-diffusion, its extensions beside models.
            for around in folder.ancestors().take(3) {
                for place in PLACES {
                    found.look(&around.join(place));
                }
            }
        }
        Ok(found)
    }

    /// Those of a drawing: as chosen, in the model folders, and around its model.
    ///
    /// Errors: as [`Self::find`].
    pub(super) fn of(request: &GenerationRequest, model_folders: &[PathBuf]) -> Result<Self> {
        let beside = request.model.as_deref().and_then(Path::parent);
        let mut folders = model_folders.to_vec();
        folders.extend(beside.map(Path::to_path_buf));
        Self::find(request.wildcards.as_deref(), &folders)
    }

    fn look(&mut self, root: &Path) {
        let mut met = |met: Met<'_>| {
            let Met::Folder(folder, names) = met else {
                return;
            };
            let below = folder.strip_prefix(root).unwrap_or(Path::new(""));
            let steps = below
                .iter()
                .map(|step| format!("{}/", step.to_string_lossy()));
            let prefix: String = steps.collect();
            for file in &names.files {
                let name = file.to_string_lossy();
                if let Some(stem) = name.strip_suffix(".txt")
                    && self.0.len() < MAX_FILES
                {
                    let list = self.0.entry(format!("{prefix}{stem}"));
                    list.or_insert_with(|| folder.join(file));
                }
            }
        };
        // Of its own, for a place may lie in another, under other names.
        Walk::new(&|| false).folder(root, DEPTH, &mut met);
    }

    pub(super) fn names(self) -> Vec<String> {
        self.0.into_keys().collect()
    }

    /// As the window lists them.
    pub(super) fn add_ons(&self) -> impl Iterator<Item = AddOn> + '_ {
        self.0.iter().map(|(name, path)| AddOn {
            kind: AddOnKind::Wildcard,
            name: name.clone(),
            path: path.clone(),
            size_bytes: std::fs::metadata(path).map_or(0, |metadata| metadata.len()),
            picture: None,
            hash: None,
            trained_as: None,
            notes: Default::default(),
        })
    }

    fn matching(&self, pattern: &str) -> BTreeSet<String> {
        let files = self.0.iter();
        let mut values = BTreeSet::new();
        for (_, path) in files.filter(|(name, _)| template::matches(pattern, name)) {
            match text(path) {
                Ok(text) => values.extend(template::lines(&text).map(str::to_owned)),
                Err(error) => log::warn!("{}: {error}", path.display()),
            }
        }
        values
    }
}

impl Lists for WildcardFiles {
    fn values(&self, pattern: &str) -> Vec<String> {
        let mut found = self.matching(pattern);
        if found.is_empty() {
            found = self.matching(&template::below(pattern));
        }
        found.into_iter().collect()
    }
}

fn text(path: &Path) -> std::io::Result<String> {
    let length = std::fs::metadata(path)?.len();
    if length > MAX_BYTES {
        return Err(std::io::Error::other(format!(
            "a list of {length} bytes is too long and left out"
        )));
    }
    Ok(String::from_utf8_lossy(&std::fs::read(path)?).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_found_in_and_beside_model_folders_and_the_chosen_one_wins() {
        let folder = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = folder.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        write("webui/models/Stable-diffusion/x", "");
        write(
            "webui/extensions/sd-dynamic-prompts/wildcards/color.txt",
            "red\n",
        );
        write(
            "webui/models/wildcards/animals/birds.txt",
            "# none\n\n wren \nowl\nwren\n",
        );
        write("mine/color.txt", "blue\n");
        write("mine/notes.md", "x");
        let models = [folder.path().join("webui/models/Stable-diffusion")];
        let mine = folder.path().join("mine");
        let files = WildcardFiles::find(Some(&mine), &models).unwrap();
        let names: Vec<String> = files.add_ons().map(|add_on| add_on.name).collect();
        assert_eq!(names, ["animals/birds", "color"]);
        assert_eq!(files.values("color"), ["blue"]);
        assert_eq!(files.values("birds"), ["owl", "wren"]);
        assert_eq!(files.values("*"), ["blue", "owl", "wren"]);
        let files = WildcardFiles::find(None, &models).unwrap();
        assert_eq!(files.values("color"), ["red"]);
        let missing = folder.path().join("missing");
        assert!(WildcardFiles::find(Some(&missing), &models).is_err());
    }
}
