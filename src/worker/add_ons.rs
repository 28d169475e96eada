//! The LoRAs and embeddings of a job: where those lie that its prompts name, and the hashes that name
//! them in pictures.
//!
//! Source of the hashes: A1111 1.10 `extensions-builtin/Lora/network.py` (`set_hash`),
//! `modules/hashes.py` (`addnet_hash_safetensors`), `modules/textual_inversion/textual_inversion.py`.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;

use super::hashes::Hashes;
use super::library;
use super::message::Job;
use crate::checkpoint;
use crate::error::{Error, Result};
use crate::families::{Lora, find_embeddings, find_lora, find_lora_as};
use crate::files;
use crate::prompt::networks;
use crate::request::{AddOnHashes, GenerationRequest, LoraChoice};

/// kohya's tools write the hash of the tensors into the header.
const HASH_IN_HEADER: &str = "sshs_model_hash";

/// What a job draws with beside its model.
pub(super) struct AddOns {
    /// Where what belongs to a model is looked for: the model folders, what lies beside them, and the
    /// folder that the model lies in.
    pub folders: Vec<PathBuf>,
    /// Embeddings that the prompts may name.
    pub embeddings: Vec<PathBuf>,
    /// Where LoRAs were found that prompts name: every picture's may name the same.
    found: RefCell<BTreeMap<String, PathBuf>>,
}

impl AddOns {
    /// Every embedding of the model folders and of those beside the model.
    pub fn of(job: &Job) -> Self {
        let beside = job.request.model.as_deref().and_then(Path::parent);
        let given = job.model_folders.iter().map(PathBuf::as_path).chain(beside);
        let given: Vec<PathBuf> = given.map(Path::to_path_buf).collect();
        let places = library::places(&given);
        let folders: Vec<&Path> = places.iter().map(PathBuf::as_path).collect();
        Self {
            embeddings: find_embeddings(&folders),
            folders: places,
            found: RefCell::default(),
        }
    }

    /// The LoRAs of a picture, with what its prompt or its settings call each: those that the request
    /// lists, then those that the prompt names.
    ///
    /// Errors: [`Error::Request`] naming a LoRA that is in none of the folders.
    pub fn loras(&self, request: &GenerationRequest, prompt: &str) -> Result<Vec<(String, Lora)>> {
        let chosen = request.loras.iter().map(|choice: &LoraChoice| {
            let lora = Lora {
                path: choice.path.clone(),
                unet_weight: choice.weight,
                text_encoder_weight: choice.weight,
            };
            (choice.name(), lora)
        });
        let mut loras: Vec<(String, Lora)> = chosen.collect();
        for named in networks::loras(prompt) {
            let hash = request.hashes.loras.get(&named.name);
            let path = self.find(&named.name, hash)?;
            let lora = Lora {
                path,
                unet_weight: named.unet_weight,
                text_encoder_weight: named.text_encoder_weight,
            };
            loras.push((named.name, lora));
        }
        Ok(loras)
    }

    fn find(&self, name: &str, hash: Option<&String>) -> Result<PathBuf> {
        if let Some(path) = self.found.borrow().get(name) {
            return Ok(path.clone());
        }
        let folders: Vec<&Path> = self.folders.iter().map(PathBuf::as_path).collect();
        let path = find_lora(name, &folders)
            .or_else(|| find_lora_as(name, hash.map(String::as_str), &folders))
            .ok_or_else(|| missing(name, hash))?;
        self.found
            .borrow_mut()
            .insert(name.to_owned(), path.clone());
        Ok(path)
    }
}

fn missing(name: &str, hash: Option<&String>) -> Error {
    let hash = hash.map_or_else(String::new, |hash| format!(" (hash {hash})"));
    Error::Request(format!(
        "The prompt names the LoRA {name}{hash}, which is in none of the model folders; \
         put its file there, or take <lora:{name}> out of the prompt"
    ))
}

/// The hashes of a job's LoRAs, computed on a thread of their own while it draws, and those of the
/// embeddings that its prompts named.
pub(super) struct AddOnRecord {
    loras: Running,
    embeddings: Vec<(String, PathBuf)>,
    hashes: Arc<Hashes>,
}

enum Running {
    Thread(JoinHandle<BTreeMap<String, String>>),
    Done(BTreeMap<String, String>),
}

impl AddOnRecord {
    /// Errors: [`Error::Panic`] where the system gives no thread.
    pub fn start(loras: &[(String, Lora)], hashes: &Arc<Hashes>) -> Result<Self> {
        let files: Vec<(String, PathBuf)> = loras
            .iter()
            .map(|(name, lora)| (name.clone(), lora.path.clone()))
            .collect();
        let loras = if files.is_empty() {
            Running::Done(BTreeMap::new())
        } else {
            let thread = std::thread::Builder::new().name("easel-lora-hash".to_owned());
            let (of, busy) = (Arc::clone(hashes), hashes.busy());
            let spawned = thread.spawn(move || {
                let _busy = busy;
                all(files, &|file| lora_hash(file, &of))
            });
            Running::Thread(spawned.map_err(|error| Error::Panic {
                details: format!("no thread could be started: {error}"),
            })?)
        };
        Ok(Self {
            loras,
            embeddings: Vec::new(),
            hashes: Arc::clone(hashes),
        })
    }

    /// The prompts named these.
    pub fn embeddings(&mut self, used: Vec<(String, PathBuf)>) {
        self.embeddings = used;
    }

    /// What goes into the pictures; waits for the thread where it is not done. A file that cannot be
    /// read any more has none.
    pub fn hashes(&mut self) -> AddOnHashes {
        if let Running::Thread(_) = self.loras
            && let Running::Thread(thread) =
                std::mem::replace(&mut self.loras, Running::Done(BTreeMap::new()))
        {
            self.loras = Running::Done(thread.join().unwrap_or_default());
        }
        let loras = match &self.loras {
            Running::Done(loras) => loras.clone(),
            Running::Thread(_) => BTreeMap::new(),
        };
        AddOnHashes {
            loras,
            embeddings: all(self.embeddings.clone(), &|file| self.hashes.of(file)),
        }
    }
}

fn all(
    files: Vec<(String, PathBuf)>,
    hash: &dyn Fn(&Path) -> Result<String>,
) -> BTreeMap<String, String> {
    let short = |(name, file): (String, PathBuf)| {
        let hash = hash(&file)
            .inspect_err(|error| log::warn!("{error}"))
            .ok()?;
        Some((name, hash.get(..AddOnHashes::LENGTH)?.to_owned()))
    };
    files.into_iter().filter_map(short).collect()
}

/// A1111's: what the header says, else the sha256 of a safetensors file without its header, else of the
/// whole file.
fn lora_hash(file: &Path, hashes: &Hashes) -> Result<String> {
    let said = checkpoint::metadata(file)?.remove(HASH_IN_HEADER);
    if let Some(said) = said.filter(|said| is_hash(said)) {
        return Ok(said.to_ascii_lowercase());
    }
    match checkpoint::tensors_begin(file)? {
        Some(begin) => files::sha256_hex_from(file, begin),
        None => hashes.of(file),
    }
}

fn is_hash(text: &str) -> bool {
    text.len() >= AddOnHashes::LENGTH && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A safetensors file without tensors but with these bytes behind its header.
    fn file(folder: &Path, name: &str, header: &str, data: &str) -> PathBuf {
        let path = folder.join(name);
        let length = (header.len() as u64).to_le_bytes();
        let bytes = [&length[..], header.as_bytes(), data.as_bytes()].concat();
        std::fs::write(&path, bytes).unwrap();
        path
    }

    #[test]
    fn a_lora_has_the_hash_that_a1111_gives_it() {
        let folder = tempfile::tempdir().unwrap();
        let hashes = Hashes::load(None);
        // sha256 of "abc".
        let of_abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        let plain = file(folder.path(), "plain.safetensors", "{}", "abc");
        assert_eq!(lora_hash(&plain, &hashes).unwrap(), of_abc);
        let said = format!(
            r#"{{"__metadata__":{{"sshs_model_hash":"{}"}}}}"#,
            "AB".repeat(32)
        );
        let said = file(folder.path(), "said.safetensors", &said, "abc");
        assert_eq!(lora_hash(&said, &hashes).unwrap(), "ab".repeat(32));
        let hostile = r#"{"__metadata__":{"sshs_model_hash":"x, <lora:y:1>"}}"#;
        let hostile = file(folder.path(), "hostile.safetensors", hostile, "abc");
        assert_eq!(lora_hash(&hostile, &hashes).unwrap(), of_abc);
    }
}
