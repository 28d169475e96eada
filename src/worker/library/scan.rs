//! Looks through folders for models and what they are drawn with, by what is in the files.
//!
//! A file is opened (its header, in milliseconds) when it is new or has changed since the last look;
//! else a look costs no more than listing the folders.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use super::lora_notes;
use super::typed::{self, Known, Typed, opened};
use super::walk::{Met, Names, Walk, may_hold_tensors};
use crate::families::ModelFiles;
use crate::files::Print;
use crate::request::{AddOn, AddOnKind, LoraNotes, ModelCard};
use crate::worker::wildcards::WildcardFiles;

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
    /// A folder of lists for prompts, where one is chosen.
    pub wildcards: Option<PathBuf>,
    known: Known<Option<Item>>,
    /// LoRAs' notes, by the files beside them that they stand in.
    notes: Known<LoraNotes>,
    /// Around models that were named alone, where only add-ons are looked for.
    around: Known<Typed>,
}

/// What a file or folder came to for the lists.
#[derive(Clone, Debug)]
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
            known: &mut self.known,
            around: &mut self.around,
            notes: &mut self.notes,
            seen: BTreeSet::new(),
            seen_around: BTreeSet::new(),
            pictures: BTreeMap::new(),
            beside: BTreeSet::new(),
            stop,
        };
        let mut walk = Walk::new(stop);
        walk.places(given, &mut |met| match met {
            Met::Model(folder) => look.model_folder(folder),
            Met::Folder(folder, names) => look.folder(folder, names, Look::file),
            Met::File(file) => look.listed_file(file),
        });
        walk.around(given, &mut |met| {
            if let Met::Folder(folder, names) = met {
                look.folder(folder, names, Look::file_around);
            }
        });
        let mut found = look.found();
        let (seen, seen_around, beside) = (look.seen, look.seen_around, look.beside);
        self.notes.retain(|path| beside.contains(path));
        self.known.retain(|path| seen.contains(path));
        self.around.retain(|path| seen_around.contains(path));
        // One that is gone is said when it is drawn from.
        let chosen = self.wildcards.as_deref().filter(|folder| folder.is_dir());
        let wildcards = WildcardFiles::find(chosen, given).unwrap_or_default();
        found.add_ons.extend(wildcards.add_ons());
        found
    }
}

struct Look<'a> {
    known: &'a mut Known<Option<Item>>,
    around: &'a mut Known<Typed>,
    notes: &'a mut Known<LoraNotes>,
    /// Files and models that are there.
    seen: BTreeSet<PathBuf>,
    seen_around: BTreeSet<PathBuf>,
    /// By the file or folder that it belongs to.
    pictures: BTreeMap<PathBuf, PathBuf>,
    /// Files that may hold notes of the one they lie beside.
    beside: BTreeSet<PathBuf>,
    stop: &'a dyn Fn() -> bool,
}

impl Look<'_> {
    fn folder(&mut self, folder: &Path, names: &Names, file: fn(&mut Self, &Path)) {
        for name in names.files.iter().chain(&names.folders) {
            self.picture(&folder.join(name), &names.files);
        }
        let is_note = |name: &&OsString| Path::new(name).extension() == Some(OsStr::new("json"));
        let notes = names.files.iter().filter(is_note);
        self.beside.extend(notes.map(|name| folder.join(name)));
        let files = names.files.iter().map(|name| folder.join(name));
        files
            .filter(|path| may_hold_tensors(path))
            .for_each(|path| file(self, &path));
    }

    /// A file that a person named alone: its neighbours are looked at for its picture only.
    fn listed_file(&mut self, file: &Path) {
        self.file(file);
        let mut neighbours: Vec<OsString> = PICTURE_ENDINGS
            .iter()
            .filter_map(|ending| with_ending(file, ending))
            .filter(|picture| picture.is_file())
            .filter_map(|picture| picture.file_name().map(Into::into))
            .collect();
        neighbours.sort();
        self.picture(file, &neighbours);
        self.beside.extend(lora_notes::beside(file));
    }

    /// `names`: of the files beside it, in order.
    fn picture(&mut self, path: &Path, names: &[OsString]) {
        let picture = PICTURE_ENDINGS.iter().find_map(|ending| {
            let picture = with_ending(path, ending)?;
            let name = picture.file_name()?.to_owned();
            names.binary_search(&name).is_ok().then_some(picture)
        });
        if let Some(picture) = picture {
            self.pictures.insert(path.to_path_buf(), picture);
        }
    }

    fn file(&mut self, path: &Path) {
        let (Ok(print), Ok(with_config)) = (Print::of(path), Print::of_model(path)) else {
            return;
        };
        self.remember(path, with_config, || match Typed::of(path, print) {
            Typed::AddOn(add_on) => Some(Item::AddOn(add_on)),
            Typed::Checkpoint => model(path),
            Typed::Other | Typed::Unknown => None,
        });
    }

    fn file_around(&mut self, path: &Path) {
        if let Ok(print) = Print::of(path)
            && !(self.stop)()
        {
            self.around.of(path, print, || Typed::of(path, print));
            self.seen_around.insert(path.to_path_buf());
        }
    }

    fn model_folder(&mut self, folder: &Path) {
        if let Ok(print) = Print::of(folder) {
            self.remember(folder, print, || model(folder));
        }
    }

    fn remember(&mut self, path: &Path, print: Print, open: impl FnOnce() -> Option<Item>) {
        if !(self.stop)() {
            self.known.of(path, print, open);
            self.seen.insert(path.to_path_buf());
        }
    }

    /// With what lies beside it.
    fn listed(&mut self, add_on: AddOn) -> AddOn {
        let beside = lora_notes::beside(&add_on.path)
            .filter(|beside| add_on.kind == AddOnKind::Lora && self.beside.contains(beside));
        let print = beside.as_deref().and_then(|path| Print::of(path).ok());
        let notes = match beside.as_deref().zip(print) {
            Some((path, print)) => {
                let read = || lora_notes::in_file(path);
                let said = self.notes.of(path, print, read).clone();
                lora_notes::both(add_on.notes, said)
            }
            None => add_on.notes,
        };
        AddOn {
            picture: self.pictures.get(&add_on.path).cloned(),
            notes,
            ..add_on
        }
    }

    fn found(&mut self) -> Found {
        let mut found = Found::default();
        let mut add_ons = Vec::new();
        for path in &self.seen {
            match self.known.get(path) {
                Some(Some(Item::Model { card, hashed })) => {
                    found.hashed.insert(path.clone(), hashed.clone());
                    let card = (**card).clone();
                    let picture = self.pictures.get(path).cloned();
                    found.models.push(ModelCard { picture, ..card });
                }
                Some(Some(Item::AddOn(add_on))) => add_ons.push(add_on.clone()),
                Some(None) | None => {}
            }
        }
        for path in &self.seen_around {
            if let Some(Typed::AddOn(add_on)) = self.around.get(path) {
                add_ons.push(add_on.clone());
            }
        }
        found.add_ons = add_ons.into_iter().map(|it| self.listed(it)).collect();
        found
            .models
            .sort_by_cached_key(|card| (card.name.to_lowercase(), card.path.clone()));
        typed::sort(&mut found.add_ons);
        found
    }
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

/// What cannot be drawn with is left out and said in the log; choosing it by hand says why.
fn model(path: &Path) -> Option<Item> {
    opened(path, || {
        let files = ModelFiles::open(path)?;
        Ok(Item::Model {
            card: Box::new(files.card(false)?),
            hashed: files.hashed_file()?,
        })
    })
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
        let ldm: &[(&str, &[u64])] = &[
            ("input_blocks.0.0.weight", &[4]),
            ("output_blocks.0.0.x", &[4]),
        ];
        file_of(&place("models/unet/small.sft"), ldm);
        let diffusers: &[(&str, &[u64])] = &[
            ("time_embedding.linear_1.bias", &[4]),
            ("down_blocks.0.x", &[4]),
        ];
        let sharded = place("models/diffusion_models/lcm");
        for (number, tensors) in [(1, diffusers), (2, &[("up_blocks.0.x", &[4][..])])] {
            let name = format!("diffusion_pytorch_model-0000{number}-of-00002.safetensors");
            file_of(&sharded.join(&name), tensors);
            // A piece without what says of which is of no use.
            file_of(&place("models/unet").join(&name), tensors);
        }
        std::fs::write(sharded.join("config.json"), "{}").unwrap();
        std::fs::write(
            sharded.join("diffusion_pytorch_model.safetensors.index.json"),
            r#"{"weight_map": {
                "a": "diffusion_pytorch_model-00001-of-00002.safetensors",
                "b": "diffusion_pytorch_model-00002-of-00002.safetensors"
            }}"#,
        )
        .unwrap();
        std::fs::write(place("models/checkpoints/broken.ckpt"), "not a checkpoint").unwrap();
        let found = Scanner::default().scan(&[root.path().to_path_buf()], GOES_ON);
        let add_ons = vec![
            (AddOnKind::Lora, "style"),
            (AddOnKind::Vae, "fine.vae"),
            (AddOnKind::TinyVae, "taesd"),
            (AddOnKind::Unet, "lcm"),
            (AddOnKind::Unet, "small"),
            (AddOnKind::Embedding, "cat"),
            (AddOnKind::Upscaler, "sharp"),
        ];
        assert_eq!(names(&found), (vec!["comfy", "mine", "theirs"], add_ons));
        let lcm = &found.add_ons[3];
        assert_eq!(lcm.path, sharded);
        let shards = std::fs::read_dir(&sharded)
            .unwrap()
            .map(|entry| entry.unwrap());
        let shards = shards.filter(|entry| entry.path().extension().unwrap() == "safetensors");
        let bytes: u64 = shards.map(|entry| entry.metadata().unwrap().len()).sum();
        assert_eq!(lcm.size_bytes, bytes);
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
        // What lies around it is for drawing with it, models aside.
        file_of(
            &place("Lora/e.safetensors"),
            &[("lora_unet_x.lora_down.weight", &[4, 8])],
        );
        std::fs::write(place("Lora/e.png"), "").unwrap();
        let around = scanner.scan(&[place("d.safetensors")], GOES_ON);
        assert_eq!(names(&around), (vec!["d"], vec![(AddOnKind::Lora, "e")]));
        assert_eq!(around.add_ons[0].picture, Some(place("Lora/e.png")));
        let all = scanner.scan(&[root.path().to_path_buf()], GOES_ON);
        assert_eq!(names(&all).0, ["a.b", "c", "d", "e"]);
    }

    #[test]
    fn what_stands_beside_a_lora_is_read_anew_when_it_changes() {
        let root = tempfile::tempdir().unwrap();
        let place = |name: &str| root.path().join(name);
        for name in ["Lora/ink.safetensors", "Lora/plain.safetensors"] {
            file_of(&place(name), &[("lora_unet_x.lora_down.weight", &[4, 8])]);
        }
        let mut scanner = Scanner::default();
        let given = [root.path().to_path_buf()];
        let mut said = |given: &[PathBuf]| {
            let found = scanner.scan(given, GOES_ON);
            let notes = found.add_ons.into_iter().map(|it| it.notes.activation);
            notes.collect::<Vec<_>>()
        };
        assert_eq!(said(&given), ["", ""]);
        for words in ["ink wash", "another, longer text"] {
            let text = format!(r#"{{"activation text": "{words}"}}"#);
            std::fs::write(place("Lora/ink.json"), text).unwrap();
            assert_eq!(said(&given), [words, ""]);
        }
        let alone = [place("Lora/ink.safetensors")];
        assert_eq!(said(&alone)[0], "another, longer text");
        std::fs::remove_file(place("Lora/ink.json")).unwrap();
        assert_eq!(said(&given), ["", ""]);
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
}
