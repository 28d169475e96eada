//! Goes through folders within limits: so deep, so many, none twice wherever links lead, and without
//! what is hidden or belongs to a program. Whoever looks for files in folders that a person named does
//! it with this.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::places::places;
use crate::checkpoint;

/// How deep below a folder that a person named.
const DEPTH: usize = 6;
/// How deep in the folder that a drawing's model lies in: it may be any, a home folder too.
const DEPTH_BESIDE: usize = 2;
/// Folders that are looked into at most: a whole disk that is chosen by mistake comes to an end.
const MAX_FOLDERS: usize = 20_000;
/// Files and folders of one folder.
const MAX_NAMES: usize = 100_000;
/// Of programs that lie beside models.
const OTHER_FOLDERS: [&str; 6] = [
    "__pycache__",
    "node_modules",
    "outputs",
    "site-packages",
    "venv",
    "custom_nodes",
];
/// The endings of files that may hold tensors.
const ENDINGS: [&str; 8] = [
    "safetensors",
    "sft",
    "gguf",
    "ckpt",
    "pt",
    "pth",
    "bin",
    "pkl",
];

/// What lies in the folder of a whole model.
const WHOLE_MODEL: &str = "model_index.json";

/// What is come across.
pub(in crate::worker) enum Met<'a> {
    /// A whole model in diffusers' layout; what lies in it is its own.
    Model(&'a Path),
    Folder(&'a Path, &'a Names),
    /// A file that a person named alone.
    File(&'a Path),
}

/// What lies in a folder, by name.
#[derive(Default)]
pub(in crate::worker) struct Names {
    pub files: Vec<OsString>,
    pub folders: Vec<OsString>,
}

/// See the module.
pub(in crate::worker) struct Walk<'a> {
    /// Real paths of the folders that were looked into.
    seen: BTreeSet<PathBuf>,
    stop: &'a dyn Fn() -> bool,
}

impl<'a> Walk<'a> {
    /// `stop` is asked between folders.
    pub fn new(stop: &'a dyn Fn() -> bool) -> Self {
        Self {
            seen: BTreeSet::new(),
            stop,
        }
    }

    /// Through what a person named: folders, the folders of other programs, single files.
    pub fn places(&mut self, given: &[PathBuf], met: &mut dyn FnMut(Met<'_>)) {
        for place in places(given) {
            if place.is_dir() {
                self.folder(&place, DEPTH, met);
            } else {
                met(Met::File(&place));
            }
        }
    }

    /// Through the folders of models that a person named alone, as drawing with them looks there.
    pub fn around(&mut self, given: &[PathBuf], met: &mut dyn FnMut(Met<'_>)) {
        let is_file = |path: &Path| may_hold_tensors(path) && path.is_file();
        let alone = |path: &Path| is_file(path) || path.join(WHOLE_MODEL).is_file();
        let alone = given.iter().filter(|path| alone(path));
        for folder in alone.filter_map(|path| path.parent()) {
            self.beside(folder, met);
        }
    }

    /// Through the folder that a model lies in, and what lies beside that.
    pub fn beside(&mut self, folder: &Path, met: &mut dyn FnMut(Met<'_>)) {
        for place in places(&[folder.to_path_buf()]) {
            let depth = if place == folder { DEPTH_BESIDE } else { DEPTH };
            self.folder(&place, depth, met);
        }
    }

    /// Through one folder and `depth` levels below.
    pub fn folder(&mut self, folder: &Path, depth: usize, met: &mut dyn FnMut(Met<'_>)) {
        if (self.stop)() || self.seen.len() >= MAX_FOLDERS {
            return;
        }
        if folder.join(WHOLE_MODEL).is_file() {
            return met(Met::Model(folder));
        }
        let Ok(real) = folder.canonicalize() else {
            return;
        };
        if !self.seen.insert(real) {
            return;
        }
        if let Some(snapshot) = checkpoint::hub_snapshot(folder) {
            return self.folder(&snapshot, depth, met);
        }
        let names = Names::of(folder);
        met(Met::Folder(folder, &names));
        if let Some(depth) = depth.checked_sub(1) {
            for name in &names.folders {
                if !OTHER_FOLDERS.iter().any(|other| name == other) {
                    self.folder(&folder.join(name), depth, met);
                }
            }
        }
    }
}

impl Names {
    /// Without hidden ones, in order; of a folder that cannot be read, none.
    fn of(folder: &Path) -> Self {
        let mut names = Self::default();
        let Ok(entries) = std::fs::read_dir(folder) else {
            log::debug!("the folder {} cannot be read", folder.display());
            return names;
        };
        for entry in entries.flatten().take(MAX_NAMES) {
            let name = entry.file_name();
            if name.as_encoded_bytes().starts_with(b".") {
                continue;
            }
            // Only of links a question of its own to the disk.
            let is_folder = match entry.file_type() {
                Ok(kind) if kind.is_symlink() => entry.path().is_dir(),
                Ok(kind) => kind.is_dir(),
                Err(_) => false,
            };
            let own = match is_folder {
                true => &mut names.folders,
                false => &mut names.files,
            };
            own.push(name);
        }
        names.files.sort();
        names.folders.sort();
        names
    }
}

/// By its name's ending.
pub(super) fn may_hold_tensors(path: &Path) -> bool {
    let ending = path.extension().and_then(|ending| ending.to_str());
    ending.is_some_and(|ending| ENDINGS.iter().any(|it| ending.eq_ignore_ascii_case(it)))
}

/// The files that may hold tensors, whole models aside, in and below the model folders, around models
/// that were named alone, and in the folder `beside` that a model lies in.
pub(in crate::worker) fn files_of_tensors(
    model_folders: &[PathBuf],
    beside: Option<&Path>,
    stop: &dyn Fn() -> bool,
) -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    let mut met = |met: Met<'_>| match met {
        Met::Folder(folder, names) => {
            let files = names.files.iter().map(|name| folder.join(name));
            found.extend(files.filter(|path| may_hold_tensors(path)));
        }
        Met::File(path) => {
            found.insert(path.to_path_buf());
        }
        Met::Model(_) => {}
    };
    let mut walk = Walk::new(stop);
    walk.places(model_folders, &mut met);
    walk.around(model_folders, &mut met);
    if let Some(folder) = beside {
        walk.beside(folder, &mut met);
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn touch(root: &Path, names: &[&str]) {
        for name in names {
            let path = root.join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "").unwrap();
        }
    }

    fn found(root: &Path, given: &[&str], beside: Option<&str>) -> Vec<String> {
        let given: Vec<PathBuf> = given.iter().map(|name| root.join(name)).collect();
        let beside = beside.map(|name| root.join(name));
        files_of_tensors(&given, beside.as_deref(), &|| false)
            .iter()
            .map(|path| path.strip_prefix(root).unwrap().display().to_string())
            .collect()
    }

    #[test]
    fn programs_hidden_folders_and_whole_models_are_left_out() {
        let root = tempfile::tempdir().unwrap();
        touch(
            root.path(),
            &[
                "b/x.pt",
                "a/x.SAFETENSORS",
                "a/notes.txt",
                "venv/lib/x.pt",
                ".git/x.pt",
                ".x.pt",
                "whole/model_index.json",
                "whole/unet/x.safetensors",
                "1/2/3/4/5/6/x.pt",
                "1/2/3/4/5/6/7/x.pt",
            ],
        );
        let expected = ["1/2/3/4/5/6/x.pt", "a/x.SAFETENSORS", "b/x.pt"];
        assert_eq!(found(root.path(), &[""], None), expected);
    }

    #[test]
    fn beside_a_model_its_neighbours_are_looked_at_and_no_whole_disk() {
        let root = tempfile::tempdir().unwrap();
        touch(
            root.path(),
            &[
                "home/model.ckpt",
                "home/Lora/style/x.pt",
                "home/a/b/c/x.pt",
                "webui/models/Stable-diffusion/model.ckpt",
                "webui/models/Lora/1/2/3/x.pt",
                "webui/models/VAE-taesd/taesd_decoder.pth",
            ],
        );
        let of = |folder| found(root.path(), &[], Some(folder));
        assert_eq!(of("home"), ["home/Lora/style/x.pt", "home/model.ckpt"]);
        assert_eq!(
            of("webui/models/Stable-diffusion"),
            [
                "webui/models/Lora/1/2/3/x.pt",
                "webui/models/Stable-diffusion/model.ckpt",
                "webui/models/VAE-taesd/taesd_decoder.pth",
            ]
        );
    }

    #[test]
    fn around_a_model_that_is_named_alone_is_looked_as_beside_it() {
        let root = tempfile::tempdir().unwrap();
        touch(
            root.path(),
            &[
                "home/model.ckpt",
                "home/Lora/x.pt",
                "home/a/b/c/x.pt",
                "other/whole/model_index.json",
                "other/y.pt",
                "lists/extra_model_paths.yaml",
                "lists/models/Lora/z.pt",
            ],
        );
        let given = [
            "home/model.ckpt",
            "other/whole",
            "lists/extra_model_paths.yaml",
        ];
        assert_eq!(
            found(root.path(), &given, None),
            ["home/Lora/x.pt", "home/model.ckpt", "other/y.pt"]
        );
    }

    #[cfg(unix)]
    #[test]
    fn links_in_a_circle_come_to_an_end() {
        let root = tempfile::tempdir().unwrap();
        touch(root.path(), &["a/m.pt"]);
        for link in ["a/x", "a/y", "a/z"] {
            std::os::unix::fs::symlink(root.path(), root.path().join(link)).unwrap();
        }
        assert_eq!(found(root.path(), &[""], None), ["a/m.pt"]);
    }

    #[test]
    fn who_stops_it_gets_what_was_found_until_then() {
        let root = tempfile::tempdir().unwrap();
        touch(root.path(), &["a/x.pt", "b/x.pt"]);
        let folders = std::cell::Cell::new(0);
        let stop = || folders.replace(folders.get() + 1) == 2;
        let found = files_of_tensors(&[root.path().to_path_buf()], None, &stop);
        assert_eq!(found, BTreeSet::from([root.path().join("a/x.pt")]));
    }
}
