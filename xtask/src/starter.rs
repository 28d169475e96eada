//! `cargo xtask starter FOLDER` and `cargo xtask references`: a newer starter model, and the stored
//! numbers of diffusers that the parity tests compare with (made by `tests/reference/*.py`).

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::project;
use crate::shell::{self, Result, failed, say};
use crate::system;

/// What makes the references; CONTRIBUTING.md says why these versions.
const ORACLE: [&str; 11] = [
    "torch==2.13.0",
    "diffusers==0.42.1",
    "transformers==5.23.0",
    "safetensors",
    "pillow",
    "peft==0.21.2",
    "gguf==0.19.0",
    "lycoris-lora==4.1.3",
    "scipy",
    "torchsde",
    "compel==2.5.1",
];
/// Of which one file is used: without what the rest of it needs for training.
const WITHOUT_ITS_OWN: &str = "k-diffusion==0.1.1.post1";

/// A script of `tests/reference/` and what it is called with.
struct Script {
    name: &'static str,
    arguments: &'static [&'static str],
    /// Whether its numbers depend on the starter's weights.
    draws_starter: bool,
}

const fn script(
    name: &'static str,
    arguments: &'static [&'static str],
    draws_starter: bool,
) -> Script {
    Script {
        name,
        arguments,
        draws_starter,
    }
}

const SCRIPTS: [Script; 11] = [
    script("models.py", &[], false),
    script("samplers.py", &[], false),
    script("checkpoints.py", &[], false),
    script("gguf_blocks.py", &[], false),
    script("models.py", &["--starter"], true),
    script("pipeline.py", &[], true),
    script("conditioning.py", &[], true),
    script("lora.py", &[], true),
    script("lora_kinds.py", &[], true),
    script("xl.py", &[], false),
    script("add_ons.py", &[], true),
];

/// What a folder must hold to be a starter: the diffusers layout, what Easel reads, and its licences.
const LAYOUT: [&str; 15] = [
    "easel.json",
    "model_index.json",
    "README.md",
    "NOTICE.md",
    "LICENSE-MIT",
    "LICENSE-Apache-2.0",
    "scheduler/scheduler_config.json",
    "text_encoder/config.json",
    "text_encoder/model.safetensors",
    "tokenizer/merges.txt",
    "tokenizer/vocab.json",
    "unet/config.json",
    "unet/diffusion_pytorch_model.safetensors",
    "vae/config.json",
    "vae/diffusion_pytorch_model.safetensors",
];

/// Puts a newer starter in the place of the one in `weights/starter`, then makes its references.
pub fn take_over(folder: &Path) -> Result<()> {
    validate(folder)?;
    let weights = project::root().join("weights");
    let fresh = weights.join("starter.new");
    let old = weights.join("starter.old");
    let place = weights.join("starter");
    shell::remove(&fresh)?;
    shell::copy_folder(folder, &fresh)?;
    make_writable(&fresh)?;
    swap(&fresh, &place, &old)?;
    let size = shell::readable(shell::size_of(&place)?);
    say(&format!(
        "weights/starter is now what {} held ({size}).",
        folder.display()
    ));
    make(|script| script.draws_starter)?;
    say("The starter's references are made anew; `cargo xtask test` compares with them.");
    Ok(())
}

/// Puts a whole folder in the place of another, which goes aside meanwhile and comes back where that does
/// not work.
fn swap(fresh: &Path, place: &Path, aside: &Path) -> Result<()> {
    // A run that was ended between the two names left the only one there.
    if aside.exists() && !place.exists() {
        std::fs::rename(aside, place).map_err(failed("Renaming", aside))?;
    }
    shell::remove(aside)?;
    let had_one = place.exists();
    if had_one {
        std::fs::rename(place, aside).map_err(failed("Renaming", place))?;
    }
    if let Err(error) = std::fs::rename(fresh, place) {
        if had_one {
            std::fs::rename(aside, place).map_err(failed("Renaming", aside))?;
        }
        return Err(failed("Renaming", fresh)(error));
    }
    shell::remove(aside)
}

/// Whether a folder is a starter, whole. Errors name each file that is missing or broken.
fn validate(folder: &Path) -> Result<()> {
    let mut faults: Vec<String> = LAYOUT
        .iter()
        .filter_map(|name| fault(&folder.join(name)).map(|why| format!("    {name}: {why}")))
        .collect();
    if faults.is_empty() {
        return Ok(());
    }
    faults.insert(0, format!("{} is not a starter model:", folder.display()));
    Err(faults.join("\n"))
}

/// What is wrong with a file of the layout, as far as a look at it tells.
fn fault(path: &Path) -> Option<String> {
    let bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) => return Some(error.to_string()),
    };
    let kind = path
        .extension()
        .and_then(|kind| kind.to_str())
        .unwrap_or_default();
    let first = bytes.iter().find(|byte| !byte.is_ascii_whitespace());
    match kind {
        _ if bytes.is_empty() => Some("empty".to_owned()),
        "json" if first != Some(&b'{') => Some("not a JSON object".to_owned()),
        "safetensors" => safetensors_fault(&bytes),
        _ => None,
    }
}

/// The header's length, its first byte, and that the last tensor ends where the file does.
fn safetensors_fault(bytes: &[u8]) -> Option<String> {
    let length = bytes
        .first_chunk::<8>()
        .map(|length| u64::from_le_bytes(*length));
    let header = length
        .and_then(|length| usize::try_from(length).ok())
        .and_then(|length| bytes.get(8..)?.get(..length));
    let Some(header) = header else {
        return Some("cut off, or not safetensors".to_owned());
    };
    let ends = String::from_utf8_lossy(header)
        .split("\"data_offsets\":[")
        .skip(1)
        .filter_map(|rest| {
            rest.split(']')
                .next()?
                .split(',')
                .nth(1)?
                .trim()
                .parse::<usize>()
                .ok()
        })
        .max();
    match ends {
        None => Some("names no tensors".to_owned()),
        Some(end) if end + 8 + header.len() != bytes.len() => {
            Some("cut off, or with bytes behind its end".to_owned())
        }
        Some(_) => None,
    }
}

/// A folder that was copied from a read-only place can be changed.
fn make_writable(folder: &Path) -> Result<()> {
    for file in shell::files_under(folder)? {
        let metadata = file.metadata().map_err(failed("Reading", &file))?;
        let mut permissions = metadata.permissions();
        if permissions.readonly() {
            #[cfg(unix)]
            std::os::unix::fs::PermissionsExt::set_mode(&mut permissions, 0o644);
            #[cfg(not(unix))]
            permissions.set_readonly(false);
            std::fs::set_permissions(&file, permissions).map_err(failed("Opening", &file))?;
        }
    }
    Ok(())
}

/// Makes all references anew, with diffusers.
pub fn references() -> Result<()> {
    make(|_| true)?;
    say("The references are made anew; `git diff --stat` shows which changed.");
    Ok(())
}

/// Runs the scripts that are wanted.
fn make(wanted: impl Fn(&Script) -> bool) -> Result<()> {
    let python = oracle()?;
    for script in SCRIPTS.iter().filter(|script| wanted(script)) {
        let path = format!("tests/reference/{}", script.name);
        let mut command = Command::new(&python);
        command.arg(&path).args(script.arguments);
        // Sums are split among threads: one thread gives the same last bits everywhere.
        command.env("OMP_NUM_THREADS", "1");
        say(&format!(
            "Making references: {path} {}",
            script.arguments.join(" ")
        ));
        shell::check(command.current_dir(project::root()))?;
    }
    Ok(())
}

/// The Python that has diffusers: of `EASEL_ORACLE` where it is set, else a virtual environment
/// under `target/`, made once.
pub fn oracle() -> Result<PathBuf> {
    if let Some(python) = std::env::var_os("EASEL_ORACLE") {
        return Ok(PathBuf::from(python));
    }
    let folder = project::target_folder().join("oracle");
    let python = folder.join("bin/python");
    let stamp = folder.join("stamp.txt");
    let wanted = [ORACLE.join("\n").as_str(), WITHOUT_ITS_OWN].join("\n");
    if std::fs::read_to_string(&stamp).is_ok_and(|text| text == wanted) {
        return Ok(python);
    }
    say("Installing diffusers for the references into target/oracle (some GB, once).");
    shell::check(
        Command::new(system::python()?)
            .args(["-m", "venv", "--clear"])
            .arg(&folder),
    )?;
    let install = [
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
    ];
    shell::check(Command::new(&python).args(install).args(ORACLE))?;
    let alone = ["--no-deps", WITHOUT_ITS_OWN];
    shell::check(Command::new(&python).args(install).args(alone))?;
    #[allow(clippy::disallowed_methods)] // written last; a broken one is made anew
    std::fs::write(&stamp, wanted).map_err(failed("Writing", &stamp))?;
    Ok(python)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn safetensors(end: usize, body: usize) -> Vec<u8> {
        let header =
            format!(r#"{{"a":{{"dtype":"U8","shape":[{end}],"data_offsets":[0,{end}]}}}}"#);
        let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
        bytes.extend(header.as_bytes());
        bytes.extend(vec![0; body]);
        bytes
    }

    #[test]
    fn a_cut_off_model_is_seen() {
        assert_eq!(safetensors_fault(&safetensors(16, 16)), None);
        for broken in [
            safetensors(16, 15),
            safetensors(16, 17),
            vec![1, 2, 3],
            vec![255; 64],
        ] {
            assert!(safetensors_fault(&broken).is_some());
        }
    }

    #[test]
    #[allow(clippy::disallowed_methods)]
    fn a_swap_that_fails_leaves_what_was_there() {
        let root = std::env::temp_dir().join(format!("easel-swap-{}", std::process::id()));
        let [fresh, place, aside] = ["new", "here", "old"].map(|name| root.join(name));
        let said = |folder: &Path| std::fs::read_to_string(folder.join("said")).ok();
        let holds = |folder: &Path, text: &str| {
            std::fs::create_dir_all(folder).unwrap();
            std::fs::write(folder.join("said"), text).unwrap();
        };
        holds(&place, "before");
        assert!(swap(&fresh, &place, &aside).is_err());
        assert_eq!(said(&place).as_deref(), Some("before"));
        holds(&fresh, "now");
        swap(&fresh, &place, &aside).unwrap();
        assert_eq!(said(&place).as_deref(), Some("now"));
        assert!(!aside.exists() && !fresh.exists());
        // Ended between the two names.
        std::fs::rename(&place, &aside).unwrap();
        assert!(swap(&fresh, &place, &aside).is_err());
        assert_eq!(said(&place).as_deref(), Some("now"));
        std::fs::remove_dir_all(&root).unwrap();
    }

    /// Those that need the sources of other programs, or more memory than most machines have.
    const BY_HAND: [&str; 3] = ["full_size.py", "programs_noise.py", "prompts.py"];

    #[test]
    fn every_script_of_the_references_is_called() {
        let folder = project::root().join("tests/reference");
        for entry in std::fs::read_dir(folder).unwrap() {
            let name = entry.unwrap().file_name().to_string_lossy().into_owned();
            let is_called = SCRIPTS.iter().any(|script| script.name == name)
                || BY_HAND.contains(&name.as_str());
            assert!(is_called || !name.ends_with(".py"), "{name}");
        }
    }

    #[test]
    fn the_starter_that_ships_has_the_layout() {
        validate(&project::root().join("weights/starter")).unwrap();
    }

    #[test]
    fn a_folder_that_is_no_starter_is_refused_with_the_file_named() {
        let message = validate(&project::root().join("weights/upscalers")).unwrap_err();
        assert!(message.contains("unet/config.json"), "{message}");
    }
}
