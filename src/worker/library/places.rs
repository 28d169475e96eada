//! Where models lie in the folders of other programs, given as they are.
//!
//! A folder that a person names may be AUTOMATIC1111's or ComfyUI's own (of which only the folders of
//! models are looked through, not the thousands of files of the program), one of its folders of
//! checkpoints (whose neighbours hold its LoRAs and VAEs), or ComfyUI's list of further folders.
//! Source: A1111 1.10 `modules/paths_internal.py`, `modules/shared_cmd_options.py`; ComfyUI 0.3
//! `folder_paths.py`, `utils/extra_config.py`.

use std::path::{Path, PathBuf};

use saphyr_parser::{Event as YamlEvent, Parser};

/// ComfyUI's list of further folders; a page of text.
const EXTRA_PATHS: &str = "extra_model_paths.yaml";
const MAX_YAML_BYTES: u64 = 1 << 20;
/// A list may name a folder with a list, but not for ever.
const MAX_PLACES: usize = 256;

/// Folders of whole models, as A1111, ComfyUI and Forge name them.
const CHECKPOINTS: [&str; 2] = ["Stable-diffusion", "checkpoints"];
/// Folders of UNets alone, and of whole models too.
const UNETS: [&str; 2] = ["diffusion_models", "unet"];
/// Folders of what models are drawn with.
const ADD_ONS: [&str; 14] = [
    "Lora",
    "loras",
    "LyCORIS",
    "VAE",
    "vae",
    "VAE-approx",
    "vae_approx",
    "VAE-taesd",
    "embeddings",
    "ESRGAN",
    "RealESRGAN",
    "upscale_models",
    "text_encoders",
    "clip",
];

/// The folders and files to look through for what a person named; each exists.
pub(super) fn places(given: &[PathBuf]) -> Vec<PathBuf> {
    let mut places = Vec::new();
    for path in given {
        expand(path, &mut places);
    }
    places
}

fn expand(path: &Path, places: &mut Vec<PathBuf>) {
    if places.len() >= MAX_PLACES {
        return;
    }
    if is_list(path) {
        listed(path, places);
        return;
    }
    if let Some(inner) = of_program(path) {
        inner.into_iter().for_each(|inner| add(inner, places));
    } else {
        add(path.to_path_buf(), places);
        beside(path)
            .into_iter()
            .for_each(|place| add(place, places));
    }
    listed(&path.join(EXTRA_PATHS), places);
}

fn add(place: PathBuf, places: &mut Vec<PathBuf>) {
    if !places.contains(&place) {
        places.push(place);
    }
}

/// Whether this is ComfyUI's list of folders and not a model.
fn is_list(path: &Path) -> bool {
    let ending = path.extension().and_then(|ending| ending.to_str());
    matches!(ending, Some("yaml" | "yml")) && path.is_file()
}

/// The folders of models in the folder of a program; `None` for any other folder.
fn of_program(folder: &Path) -> Option<Vec<PathBuf>> {
    let models = folder.join("models");
    let known = CHECKPOINTS.iter().chain(&UNETS).chain(&ADD_ONS);
    known.map(|name| models.join(name)).find(|it| it.is_dir())?;
    let embeddings = folder.join("embeddings");
    Some(
        [models, embeddings]
            .into_iter()
            .filter(|it| it.is_dir())
            .collect(),
    )
}

/// A folder of checkpoints has its LoRAs, VAEs, UNets and embeddings beside it.
fn beside(folder: &Path) -> Vec<PathBuf> {
    let mut checkpoints = CHECKPOINTS.iter().chain(&UNETS);
    let is_checkpoints = folder
        .file_name()
        .is_some_and(|name| checkpoints.any(|known| name == *known));
    let Some(models) = folder.parent().filter(|_| is_checkpoints) else {
        return Vec::new();
    };
    let of_models = ADD_ONS.iter().chain(&UNETS).map(|name| models.join(name));
    let of_program = models.parent().map(|program| program.join("embeddings"));
    of_models
        .chain(of_program)
        .filter(|place| place.is_dir())
        .collect()
}

/// The folders that a list names. What is wrong with it is said in the log: the rest is still found.
fn listed(list: &Path, places: &mut Vec<PathBuf>) {
    match std::fs::metadata(list) {
        Ok(metadata) if metadata.is_file() && metadata.len() <= MAX_YAML_BYTES => {}
        _ => return,
    }
    let read = std::fs::read_to_string(list).map_err(|error| error.to_string());
    let programs = match read.and_then(|text| programs(&text)) {
        Ok(programs) => programs,
        Err(why) => {
            log::warn!("{} is no list of folders: {why}", list.display());
            return;
        }
    };
    let here = list.parent().unwrap_or(Path::new("."));
    for program in programs {
        let base = program.iter().find(|(kind, _)| kind == "base_path");
        let base = base.map_or_else(
            || here.to_path_buf(),
            |(_, it)| here.join(without_tilde(it)),
        );
        for (kind, folders) in &program {
            if ["base_path", "is_default", "custom_nodes"].contains(&kind.as_str()) {
                continue;
            }
            let folders = folders.lines().map(str::trim);
            for folder in folders.filter(|folder| !folder.is_empty()) {
                let place = base.join(folder);
                if place.is_dir() && places.len() < MAX_PLACES {
                    add(place, places);
                }
            }
        }
    }
}

/// What a list says of each program: its `base_path`, and by kind one folder or several, a line each.
/// Follows the parser's events: no tree is built, so that no reference in it can grow.
fn programs(text: &str) -> Result<Vec<Vec<(String, String)>>, String> {
    let mut programs = Vec::new();
    let (mut depth, mut key) = (0usize, None);
    for event in Parser::new_from_str(text) {
        let (event, _) = event.map_err(|error| error.to_string())?;
        match event {
            YamlEvent::MappingStart(..) | YamlEvent::SequenceStart(..) => {
                depth += 1;
                if depth == 2 {
                    programs.push(Vec::new());
                    key = None;
                }
            }
            YamlEvent::MappingEnd | YamlEvent::SequenceEnd => {
                depth = depth.saturating_sub(1);
                // The value of the last key was a list or a table.
                key = None;
            }
            YamlEvent::Scalar(text, ..) if depth == 2 => match (key.take(), programs.last_mut()) {
                (Some(key), Some(program)) => program.push((key, text.into_owned())),
                _ => key = Some(text.into_owned()),
            },
            _ => {}
        }
    }
    Ok(programs)
}

/// `~/models`: in the home folder.
fn without_tilde(path: &str) -> PathBuf {
    match (path.strip_prefix("~/"), directories::UserDirs::new()) {
        (Some(rest), Some(users)) => users.home_dir().join(rest),
        _ => PathBuf::from(path),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folders(root: &Path, names: &[&str]) {
        for name in names {
            std::fs::create_dir_all(root.join(name)).unwrap();
        }
    }

    fn found(root: &Path, given: &Path) -> Vec<String> {
        places(&[given.to_path_buf()])
            .iter()
            .map(|place| place.strip_prefix(root).unwrap().display().to_string())
            .collect()
    }

    #[test]
    fn of_a_programs_own_folder_only_the_models_are_looked_through() {
        let root = tempfile::tempdir().unwrap();
        folders(
            root.path(),
            &[
                "webui/models/Stable-diffusion",
                "webui/models/Lora",
                "webui/embeddings",
                "webui/venv/lib",
            ],
        );
        let webui = root.path().join("webui");
        assert_eq!(
            found(root.path(), &webui),
            ["webui/models", "webui/embeddings"]
        );
    }

    #[test]
    fn a_folder_of_checkpoints_brings_its_neighbours() {
        let root = tempfile::tempdir().unwrap();
        folders(
            root.path(),
            &[
                "models/checkpoints",
                "models/loras",
                "models/vae",
                "models/unet",
                "models/custom",
                "embeddings",
            ],
        );
        let checkpoints = root.path().join("models/checkpoints");
        assert_eq!(
            found(root.path(), &checkpoints),
            [
                "models/checkpoints",
                "models/loras",
                "models/vae",
                "models/unet",
                "embeddings"
            ]
        );
        let unets = root.path().join("models/unet");
        assert_eq!(
            found(root.path(), &unets),
            ["models/unet", "models/loras", "models/vae", "embeddings"]
        );
        let mine = root.path().join("models/custom");
        assert_eq!(found(root.path(), &mine), ["models/custom"]);
    }

    #[test]
    fn comfyuis_list_of_folders_is_followed() {
        let root = tempfile::tempdir().unwrap();
        folders(
            root.path(),
            &[
                "comfy/models/checkpoints",
                "webui/a",
                "webui/b",
                "webui/c",
                "x",
            ],
        );
        let list = root.path().join("comfy").join(EXTRA_PATHS);
        let elsewhere = root.path().join("x");
        let text = format!(
            "# comment\na111:\n  base_path: ../webui/\n  is_default: true\n  checkpoints: a\n  \
             loras: |\n    b\n    c\n    missing\n\nempty:\n\nother:\n  vae: {}\n",
            elsewhere.display()
        );
        std::fs::write(&list, text).unwrap();
        let expected = [
            "comfy/models",
            "comfy/../webui/a",
            "comfy/../webui/b",
            "comfy/../webui/c",
            "x",
        ];
        assert_eq!(found(root.path(), &root.path().join("comfy")), expected);
        // The list itself may be given too.
        assert_eq!(found(root.path(), &list), expected[1..]);
    }

    #[test]
    fn a_hostile_list_is_no_list() {
        let root = tempfile::tempdir().unwrap();
        let list = root.path().join(EXTRA_PATHS);
        let bomb = "a: &a [x,x,x,x,x,x,x,x,x]\n".to_owned()
            + &('b'..='z')
                .map(|letter| {
                    let before = (letter as u8 - 1) as char;
                    format!(
                        "{letter}: &{letter} [*{before},*{before},*{before},*{before},*{before}]\n"
                    )
                })
                .collect::<String>();
        for text in ["[1, 2", "a: [", "just text", &"[".repeat(100_000), &bomb] {
            std::fs::write(&list, text).unwrap();
            assert_eq!(places(std::slice::from_ref(&list)), Vec::<PathBuf>::new());
        }
    }
}
