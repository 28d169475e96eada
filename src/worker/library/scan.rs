//! Looks through folders for models and what they are drawn with, by what is in the files.
//!
//! A file is opened (its header, in milliseconds) when it is new or has changed since the last look;
//! else a look costs no more than listing the folders.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ffi::OsString;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use super::places::places;
use crate::checkpoint;
use crate::error::Error;
use crate::families::{FileKind, ModelFiles};
use crate::files::Print;
use crate::request::{AddOn, AddOnKind, ModelCard};
use crate::worker::wildcards::WildcardFiles;

/// How deep below a folder models are looked for.
const DEPTH: usize = 6;
/// Folders that are looked into at most: a whole disk that is chosen by mistake comes to an end.
const MAX_FOLDERS: usize = 20_000;
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
/// A picture beside a file is called as the file, with one of these, in A1111's order.
const PICTURE_ENDINGS: [&str; 8] = [
    "png",
    "preview.png",
    "jpg",
    "preview.jpg",
    "jpeg",
    "preview.jpeg",
    "webp",
    "preview.webp",
];

/// What a look found.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Found {
    /// By name.
    pub models: Vec<ModelCard>,
    /// By kind, then name.
    pub add_ons: Vec<AddOn>,
    /// Beside each model's path: the file that names it in pictures' settings.
    pub hashed: BTreeMap<PathBuf, PathBuf>,
}

/// Remembers what it saw.
#[derive(Default)]
pub(super) struct Scanner {
    known: HashMap<PathBuf, (Print, Option<Item>)>,
}

/// What a file or folder came to; `None` in the table: nothing for the lists.
#[derive(Clone)]
enum Item {
    Model {
        card: Box<ModelCard>,
        hashed: PathBuf,
    },
    AddOn(AddOn),
}

impl Scanner {
    /// Looks through what a person named: folders, the folders of other programs, single files.
    /// `stop` is asked between files.
    pub fn scan(&mut self, given: &[PathBuf], stop: &dyn Fn() -> bool) -> Found {
        let mut look = Look {
            known: std::mem::take(&mut self.known),
            seen: HashMap::new(),
            folders: BTreeSet::new(),
            pictures: BTreeMap::new(),
            stop,
        };
        for place in places(given) {
            if place.is_dir() {
                look.folder(&place, DEPTH);
            } else {
                look.listed_file(&place);
            }
        }
        let mut found = look.found();
        self.known = look.seen;
        // Without a chosen folder none can be missing.
        let wildcards = WildcardFiles::find(None, given).unwrap_or_default();
        found.add_ons.extend(wildcards.add_ons());
        found
    }
}

struct Look<'a> {
    known: HashMap<PathBuf, (Print, Option<Item>)>,
    seen: HashMap<PathBuf, (Print, Option<Item>)>,
    /// Real paths of folders that were looked into: links may lead in circles.
    folders: BTreeSet<PathBuf>,
    /// By the file or folder that it belongs to.
    pictures: BTreeMap<PathBuf, PathBuf>,
    stop: &'a dyn Fn() -> bool,
}

impl Look<'_> {
    fn folder(&mut self, folder: &Path, depth: usize) {
        if (self.stop)() || self.folders.len() >= MAX_FOLDERS {
            return;
        }
        if folder.join("model_index.json").is_file() {
            return self.model_folder(folder);
        }
        let Ok(real) = folder.canonicalize() else {
            return;
        };
        if !self.folders.insert(real) {
            return;
        }
        if let Some(snapshot) = checkpoint::hub_snapshot(folder) {
            return self.folder(&snapshot, depth);
        }
        let Ok(entries) = std::fs::read_dir(folder) else {
            log::debug!("the model folder {} cannot be read", folder.display());
            return;
        };
        let mut names: Vec<OsString> = entries.flatten().map(|entry| entry.file_name()).collect();
        names.sort();
        for name in &names {
            let path = folder.join(name);
            let hidden = name.to_string_lossy().starts_with('.');
            if path.is_dir() {
                let other = OTHER_FOLDERS.iter().any(|other| name == *other);
                if let (false, false, Some(depth)) = (hidden, other, depth.checked_sub(1)) {
                    self.folder(&path, depth);
                }
            } else if !hidden && may_hold_tensors(&path) {
                self.file(&path);
            }
            self.picture(&path, &names);
        }
    }

    /// A file that a person named alone: its neighbours are looked at for its picture only.
    fn listed_file(&mut self, file: &Path) {
        self.file(file);
        let neighbours = PICTURE_ENDINGS.iter().filter_map(|ending| {
            let picture = with_ending(file, ending)?;
            picture
                .is_file()
                .then(|| picture.file_name().map(Into::into))?
        });
        let neighbours: Vec<OsString> = neighbours.collect();
        self.picture(file, &neighbours);
    }

    fn picture(&mut self, path: &Path, names: &[OsString]) {
        if !self.seen.contains_key(path) {
            return;
        }
        let picture = PICTURE_ENDINGS.iter().find_map(|ending| {
            let picture = with_ending(path, ending)?;
            let name = picture.file_name()?;
            names.iter().any(|known| known == name).then_some(picture)
        });
        if let Some(picture) = picture {
            self.pictures.insert(path.to_path_buf(), picture);
        }
    }

    fn file(&mut self, path: &Path) {
        if (self.stop)() {
            return;
        }
        let Ok(metadata) = std::fs::metadata(path) else {
            return;
        };
        let print = Print::of_file(&metadata);
        self.remember(path, print, || item_of_file(path, print.size_bytes()));
    }

    fn model_folder(&mut self, folder: &Path) {
        if let Ok(print) = Print::of(folder) {
            self.remember(folder, print, || model(folder));
        }
    }

    fn remember(&mut self, path: &Path, print: Print, open: impl FnOnce() -> Option<Item>) {
        if self.seen.contains_key(path) {
            return;
        }
        let item = match self.known.remove(path) {
            Some((before, item)) if before == print => item,
            // A hostile file may bring a reader down, but not the list of the others.
            _ => catch_unwind(AssertUnwindSafe(open)).unwrap_or_else(|panic| {
                let error = Error::from_panic(&*panic);
                log::warn!("{}: {}", path.display(), error.details());
                None
            }),
        };
        self.seen.insert(path.to_path_buf(), (print, item));
    }

    fn found(&mut self) -> Found {
        let mut found = Found::default();
        for (path, (_, item)) in &self.seen {
            let picture = self.pictures.get(path).cloned();
            match item {
                Some(Item::Model { card, hashed }) => {
                    found.hashed.insert(path.clone(), hashed.clone());
                    let card = (**card).clone();
                    found.models.push(ModelCard { picture, ..card });
                }
                Some(Item::AddOn(add_on)) => found.add_ons.push(AddOn {
                    picture,
                    ..add_on.clone()
                }),
                None => {}
            }
        }
        found
            .models
            .sort_by_cached_key(|card| (card.name.to_lowercase(), card.path.clone()));
        found
            .add_ons
            .sort_by_cached_key(|it| (it.kind, it.name.to_lowercase(), it.path.clone()));
        found
    }
}

fn may_hold_tensors(path: &Path) -> bool {
    let ending = path.extension().and_then(|ending| ending.to_str());
    ending.is_some_and(|ending| ENDINGS.iter().any(|it| ending.eq_ignore_ascii_case(it)))
}

/// `a/name.safetensors` to `a/name.preview.png`; a folder's name has no ending.
fn with_ending(path: &Path, ending: &str) -> Option<PathBuf> {
    let stem = if may_hold_tensors(path) {
        path.file_stem()?
    } else {
        path.file_name()?
    };
    let mut name = stem.to_owned();
    name.push(".");
    name.push(ending);
    Some(path.with_file_name(name))
}

fn item_of_file(path: &Path, size_bytes: u64) -> Option<Item> {
    let kind = checkpoint::headers(&[path.to_path_buf()])
        .map(|headers| FileKind::of(&headers))
        .inspect_err(|error| log::info!("left out: {error}"))
        .ok()?;
    let kind = match kind {
        FileKind::Checkpoint => return model(path),
        FileKind::Lora(_) => AddOnKind::Lora,
        FileKind::Vae => AddOnKind::Vae,
        FileKind::TinyVae => AddOnKind::TinyVae,
        FileKind::Embedding => AddOnKind::Embedding,
        FileKind::Upscaler => AddOnKind::Upscaler,
        FileKind::Unet | FileKind::TextEncoder | FileKind::Other(_) | FileKind::Unknown => {
            return None;
        }
    };
    Some(Item::AddOn(AddOn {
        kind,
        name: path.file_stem()?.to_string_lossy().into_owned(),
        path: path.to_path_buf(),
        size_bytes,
        picture: None,
    }))
}

/// What cannot be drawn with is left out and said in the log; choosing it by hand says why.
fn model(path: &Path) -> Option<Item> {
    let item = ModelFiles::open(path).and_then(|files| {
        Ok(Item::Model {
            card: Box::new(files.card(false)?),
            hashed: files.hashed_file()?,
        })
    });
    item.inspect_err(|error| log::info!("left out: {error}"))
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::worker::library::stand_in::{checkpoint, file_of};

    const GOES_ON: &dyn Fn() -> bool = &|| false;

    fn names(found: &Found) -> (Vec<&str>, Vec<(AddOnKind, &str)>) {
        (
            found.models.iter().map(|card| card.name.as_str()).collect(),
            found
                .add_ons
                .iter()
                .map(|it| (it.kind, it.name.as_str()))
                .collect(),
        )
    }

    #[test]
    fn the_folders_of_other_programs_are_taken_as_they_are() {
        let root = tempfile::tempdir().unwrap();
        let place = |name: &str| root.path().join(name);
        checkpoint(&place("models/Stable-diffusion/mine.safetensors"));
        checkpoint(&place("models/Stable-diffusion/anime/theirs.SAFETENSORS"));
        checkpoint(&place("models/checkpoints/comfy.safetensors"));
        checkpoint(&place("venv/not looked at.safetensors"));
        file_of(
            &place("models/Lora/style.safetensors"),
            &[
                ("lora_unet_x.lora_down.weight", &[4, 8]),
                ("lora_unet_x.lora_up.weight", &[8, 4]),
            ],
        );
        file_of(
            &place("embeddings/cat.safetensors"),
            &[("emb_params", &[2, 768])],
        );
        file_of(
            &place("models/VAE/fine.vae.safetensors"),
            &[
                ("encoder.down.0.block.0.conv1.weight", &[4]),
                ("decoder.conv_in.weight", &[4]),
            ],
        );
        file_of(
            &place("models/VAE-approx/taesd.safetensors"),
            &[
                ("decoder.layers.0.weight", &[4]),
                ("decoder.layers.2.conv.0.weight", &[4]),
            ],
        );
        file_of(
            &place("models/ESRGAN/sharp.safetensors"),
            &[
                ("body.0.weight", &[4]),
                ("body.0.bias", &[4]),
                ("body.1.weight", &[4]),
            ],
        );
        std::fs::write(place("models/checkpoints/broken.ckpt"), "not a checkpoint").unwrap();
        let found = Scanner::default().scan(&[root.path().to_path_buf()], GOES_ON);
        let add_ons = vec![
            (AddOnKind::Lora, "style"),
            (AddOnKind::Vae, "fine.vae"),
            (AddOnKind::TinyVae, "taesd"),
            (AddOnKind::Embedding, "cat"),
            (AddOnKind::Upscaler, "sharp"),
        ];
        assert_eq!(names(&found), (vec!["comfy", "mine", "theirs"], add_ons));
        let mine = &found.models[1];
        let path = place("models/Stable-diffusion/mine.safetensors");
        assert_eq!(mine.path.as_ref(), Some(&path));
        assert_eq!(found.hashed.get(&path), Some(&path));
        assert_eq!(mine.family, "Stable Diffusion 1");
        assert_eq!((mine.chunk_tokens, mine.latent_factor), (75, 2));
    }

    #[test]
    fn a_picture_beside_a_model_is_its_picture() {
        let root = tempfile::tempdir().unwrap();
        let place = |name: &str| root.path().join(name);
        for name in ["a.b", "c", "d", "e"] {
            checkpoint(&place(&format!("{name}.safetensors")));
        }
        for name in [
            "a.b.preview.png",
            "a.png",
            "c.jpg",
            "c.preview.png",
            "d.webp",
            "f.png",
        ] {
            std::fs::write(place(name), "").unwrap();
        }
        let pictures = |found: Found| -> Vec<Option<PathBuf>> {
            found.models.into_iter().map(|card| card.picture).collect()
        };
        let expected = vec![
            Some(place("a.b.preview.png")),
            Some(place("c.preview.png")),
            Some(place("d.webp")),
            None,
        ];
        let mut scanner = Scanner::default();
        assert_eq!(
            pictures(scanner.scan(&[root.path().to_path_buf()], GOES_ON)),
            expected
        );
        let alone = scanner.scan(&[place("d.safetensors")], GOES_ON);
        assert_eq!(pictures(alone), [Some(place("d.webp"))]);
    }

    #[test]
    fn what_is_new_gone_or_changed_is_seen_at_the_next_look() {
        let root = tempfile::tempdir().unwrap();
        let given = [root.path().to_path_buf()];
        let place = |name: &str| root.path().join(name);
        checkpoint(&place("a.safetensors"));
        std::fs::write(place("b.safetensors"), "still being copied").unwrap();
        let mut scanner = Scanner::default();
        let first = scanner.scan(&given, GOES_ON);
        assert_eq!(names(&first).0, ["a"]);
        assert_eq!(scanner.scan(&given, GOES_ON), first);
        checkpoint(&place("b.safetensors"));
        std::fs::remove_file(place("a.safetensors")).unwrap();
        assert_eq!(names(&scanner.scan(&given, GOES_ON)).0, ["b"]);
    }

    #[cfg(unix)]
    #[test]
    fn links_in_a_circle_come_to_an_end() {
        let root = tempfile::tempdir().unwrap();
        checkpoint(&root.path().join("a/m.safetensors"));
        for link in ["a/x", "a/y", "a/z"] {
            std::os::unix::fs::symlink(root.path(), root.path().join(link)).unwrap();
        }
        let found = Scanner::default().scan(&[root.path().to_path_buf()], GOES_ON);
        assert_eq!(names(&found).0, ["m"]);
    }
}
