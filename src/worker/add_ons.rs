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
use super::library::{self, Known, Typed};
use super::message::Job;
use crate::checkpoint;
use crate::error::{Error, Result};
use crate::families::Lora;
use crate::files::{self, Print};
use crate::prompt::networks;
use crate::request::{AddOn, AddOnHashes, AddOnKind, GenerationRequest, LoraChoice};

/// Files by what they are, as far as drawings asked.
pub(super) type KnownFiles = Known<Typed>;

/// What a job may draw with beside its model: what lies in the model folders and beside the model, by
/// the same rules as in the window's lists. Only headers are read, each once, and of large files only
/// where a prompt names them.
pub(super) struct AddOns<'a> {
    /// What prompts call each file that may hold tensors, and the file.
    files: Vec<(String, PathBuf)>,
    known: RefCell<&'a mut KnownFiles>,
    /// Where LoRAs were found that prompts name: every picture's may name the same.
    found: RefCell<BTreeMap<String, PathBuf>>,
    /// Asked before each file: thousands of headers are read the first time.
    stop: &'a dyn Fn() -> bool,
}

impl<'a> AddOns<'a> {
    /// Looks through the folders; `stop` is asked meanwhile, and with each file that is opened later.
    pub fn of(job: &Job, known: &'a mut KnownFiles, stop: &'a dyn Fn() -> bool) -> Self {
        let beside = job.request.model.as_deref().and_then(Path::parent);
        let files = library::files_of_tensors(&job.model_folders, beside, stop);
        known.retain(|path| files.contains(path));
        let named = |path: PathBuf| (library::name_of(&path), path);
        Self {
            files: files.into_iter().map(named).collect(),
            known: RefCell::new(known),
            found: RefCell::default(),
            stop,
        }
    }

    /// What the prompts may name as embeddings. One that cannot be read is among them where embeddings
    /// lie: naming it says why.
    ///
    /// Errors: [`Error::Cancelled`].
    pub fn embeddings(&self) -> Result<Vec<PathBuf>> {
        let files = self.files.iter().map(|(_, path)| path);
        let small = files.filter(|path| Print::of(path).is_ok_and(library::may_be_embedding));
        let (mut embeddings, mut unknown) = (Vec::new(), Vec::new());
        for path in small {
            self.go_on()?;
            match self.typed(path) {
                Some(Typed::AddOn(it)) if it.kind == AddOnKind::Embedding => embeddings.push(it),
                Some(Typed::Unknown) if library::lies_with_embeddings(path) => {
                    unknown.push(path.clone());
                }
                _ => {}
            }
        }
        library::sort(&mut embeddings);
        let embeddings = embeddings.into_iter().map(|it| it.path);
        Ok(embeddings.chain(unknown).collect())
    }

    /// The small VAE that shows drawings while they form, by the name of the one for the model's latents.
    pub fn preview_vae(&self, name: &str) -> Option<PathBuf> {
        let names = [format!("{name}_decoder"), name.to_owned()];
        let found = names.iter().find_map(|name| {
            let typed = self.of_name(name).add_ons;
            AddOn::find(&typed, AddOnKind::TinyVae, name, None).cloned()
        });
        found.map(|it| it.path)
    }

    /// The LoRAs of a picture, with what its prompt or its settings call each: those that the request
    /// lists, then those that the prompt names.
    ///
    /// Errors: [`Error::Request`] naming a LoRA that is in none of the folders; [`Error::Cancelled`].
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
            let hash = request.hashes.loras.get(&named.name).map(String::as_str);
            let lora = Lora {
                path: self.lora(&named.name, hash)?,
                unet_weight: named.unet_weight,
                text_encoder_weight: named.text_encoder_weight,
            };
            loras.push((named.name, lora));
        }
        Ok(loras)
    }

    fn lora(&self, name: &str, hash: Option<&str>) -> Result<PathBuf> {
        if let Some(path) = self.found.borrow().get(name) {
            return Ok(path.clone());
        }
        let find = |add_ons: &[AddOn]| {
            let found = AddOn::find(add_ons, AddOnKind::Lora, name, hash);
            found.map(|lora| lora.path.clone())
        };
        let OfName { add_ons, unknown } = self.of_name(name);
        let path = find(&add_ons).or(unknown).or_else(|| find(&self.all()));
        // A look that was stopped has not found everything.
        self.go_on()?;
        let path = path.ok_or_else(|| missing(name, hash))?;
        let mut found = self.found.borrow_mut();
        found.insert(name.to_owned(), path.clone());
        Ok(path)
    }

    /// The files that are called so, capitals aside.
    fn of_name(&self, name: &str) -> OfName {
        let mut of_name = OfName::default();
        let files = self.files.iter();
        for (_, path) in files.filter(|(own, _)| own.eq_ignore_ascii_case(name)) {
            match self.typed(path) {
                Some(Typed::AddOn(add_on)) => of_name.add_ons.push(add_on),
                Some(Typed::Unknown) => {
                    of_name.unknown.get_or_insert(path.clone());
                }
                _ => {}
            }
        }
        library::sort(&mut of_name.add_ons);
        of_name
    }

    fn all(&self) -> Vec<AddOn> {
        let typed = self.files.iter().map(|(_, path)| self.typed(path));
        let mut add_ons: Vec<AddOn> = typed
            .filter_map(|typed| match typed {
                Some(Typed::AddOn(add_on)) => Some(add_on),
                _ => None,
            })
            .collect();
        library::sort(&mut add_ons);
        add_ons
    }

    fn go_on(&self) -> Result<()> {
        match (self.stop)() {
            true => Err(Error::Cancelled),
            false => Ok(()),
        }
    }

    /// `None`: it is gone, or nobody waits for it any more.
    fn typed(&self, path: &Path) -> Option<Typed> {
        self.go_on().ok()?;
        let print = Print::of(path).ok()?;
        let mut known = self.known.borrow_mut();
        Some(known.of(path, print, || Typed::of(path, print)).clone())
    }
}

/// What is called by a name.
#[derive(Default)]
struct OfName {
    add_ons: Vec<AddOn>,
    /// A file of which is not known what it is: loading it says why.
    unknown: Option<PathBuf>,
}

fn missing(name: &str, hash: Option<&str>) -> Error {
    let hash = hash.map_or_else(String::new, |hash| format!(" (hash {hash})"));
    Error::Request(format!(
        "The prompt names the LoRA {name}{hash}, which is in none of the model folders; \
         put its file there, or leave <lora:{name}> out of the prompt"
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
    let said = checkpoint::metadata(file)?.remove(library::HASH_IN_HEADER);
    if let Some(said) = said.filter(|said| AddOnHashes::is_hash(said)) {
        return Ok(said.to_ascii_lowercase());
    }
    match checkpoint::tensors_begin(file)? {
        Some(begin) => files::sha256_hex_from(file, begin),
        None => hashes.of(file),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::{PictureFormat, SaveTarget};
    use crate::worker::library::stand_in::{checkpoint, file_of};
    use crate::worker::message::JobId;

    const GOES_ON: &dyn Fn() -> bool = &|| false;
    const LORA: &[(&str, &[u64])] = &[
        ("lora_unet_x.lora_down.weight", &[4, 8]),
        ("lora_unet_x.lora_up.weight", &[8, 4]),
    ];

    fn job(model_folders: &[PathBuf]) -> Job {
        Job {
            id: JobId(1),
            request: GenerationRequest::default(),
            save_to: SaveTarget::Folder(PathBuf::new()),
            format: PictureFormat::Png,
            latents_to: None,
            model_folders: model_folders.to_vec(),
            previews: false,
            profile: false,
        }
    }

    #[test]
    fn drawing_finds_what_the_lists_show() {
        let root = tempfile::tempdir().unwrap();
        let place = |name: &str| root.path().join(name);
        for lora in [
            "Lora/b/ink.safetensors",
            "Lora/a/ink.pt",
            "x/Wash.safetensors",
        ] {
            file_of(&place(lora), LORA);
        }
        let vectors: &[(&str, &[u64])] = &[("emb_params", &[2, 768])];
        for embedding in ["embeddings/Neg.safetensors", "x/neg.safetensors"] {
            file_of(&place(embedding), vectors);
        }
        // Of a width that says nothing, and too large to be one.
        file_of(&place("Embeddings/sub/odd.pt"), &[("odd", &[2, 5])]);
        file_of(&place("embeddings/big.pt"), &[("emb_params", &[4000, 768])]);
        let given = [root.path().to_path_buf()];
        let listed = library::list(&given);
        let of_kind = |kind| {
            let listed = listed.iter().filter(move |it| it.kind == kind);
            listed.map(|it| it.path.clone()).collect::<Vec<_>>()
        };
        let mut known = KnownFiles::default();
        let add_ons = AddOns::of(&job(&given), &mut known, GOES_ON);
        let embeddings = of_kind(AddOnKind::Embedding);
        assert_eq!(embeddings.len(), 3);
        assert_eq!(add_ons.embeddings().unwrap(), embeddings);
        assert_eq!(of_kind(AddOnKind::Lora).len(), 3);
        for name in ["ink", "INK", "Wash", "wash"] {
            let shown = AddOn::find(&listed, AddOnKind::Lora, name, None).unwrap();
            assert_eq!(add_ons.lora(name, None).unwrap(), shown.path, "{name}");
        }
    }

    #[test]
    fn what_has_a_loras_name_and_is_none_is_not_taken_for_it() {
        let root = tempfile::tempdir().unwrap();
        let place = |name: &str| root.path().join(name);
        checkpoint(&place("ink.safetensors"));
        file_of(&place("embeddings/ink.pt"), &[("emb_params", &[2, 768])]);
        let given = [root.path().to_path_buf()];
        let mut known = KnownFiles::default();
        let mut find = || AddOns::of(&job(&given), &mut known, GOES_ON).lora("ink", None);
        let error = find().unwrap_err().to_string();
        assert!(error.contains("is in none of the model folders"), "{error}");
        // One that cannot be read is left to who loads it, and says why.
        std::fs::write(place("INK.ckpt"), "half a file").unwrap();
        assert_eq!(find().unwrap(), place("INK.ckpt"));
        file_of(&place("z/ink.safetensors"), LORA);
        assert_eq!(find().unwrap(), place("z/ink.safetensors"));
    }

    #[test]
    fn a_look_that_is_cancelled_opens_no_more_files() {
        let root = tempfile::tempdir().unwrap();
        for name in ["a", "b", "c"] {
            file_of(&root.path().join(format!("{name}.safetensors")), LORA);
        }
        let given = [root.path().to_path_buf()];
        let mut known = KnownFiles::default();
        let cancelled = std::cell::Cell::new(false);
        let stop = || cancelled.get();
        let add_ons = AddOns::of(&job(&given), &mut known, &stop);
        cancelled.set(true);
        assert!(matches!(add_ons.embeddings(), Err(Error::Cancelled)));
        assert!(matches!(add_ons.lora("d", None), Err(Error::Cancelled)));
        drop(add_ons);
        assert!(known.get(&root.path().join("a.safetensors")).is_none());
    }

    #[test]
    fn the_model_s_own_folder_is_looked_through_too() {
        let root = tempfile::tempdir().unwrap();
        let place = |name: &str| root.path().join(name);
        file_of(&place("mine/Lora/ink.safetensors"), LORA);
        let mut job = job(&[]);
        job.request.model = Some(place("mine/model.safetensors"));
        let mut known = KnownFiles::default();
        let add_ons = AddOns::of(&job, &mut known, GOES_ON);
        let path = add_ons.lora("ink", None).unwrap();
        assert_eq!(path, place("mine/Lora/ink.safetensors"));
    }

    #[test]
    fn a_file_is_opened_once_until_it_changes() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("ink.safetensors");
        let given = [root.path().to_path_buf()];
        let mut known = KnownFiles::default();
        let mut is_found = || {
            let add_ons = AddOns::of(&job(&given), &mut known, GOES_ON);
            add_ons.lora("ink", None).is_ok()
        };
        file_of(&path, LORA);
        assert!(is_found());
        let modified = std::fs::metadata(&path).unwrap().modified().unwrap();
        let at = |time: std::time::SystemTime| {
            // As long, and a network that Easel does not draw with.
            let names = LORA.iter().map(|(name, shape)| {
                let rest = "x".repeat(name.len() - "adapter.body.".len());
                (format!("adapter.body.{rest}"), *shape)
            });
            let names: Vec<_> = names.collect();
            let tensors = names.iter().map(|(name, shape)| (name.as_str(), *shape));
            file_of(&path, &tensors.collect::<Vec<_>>());
            let file = std::fs::File::options().write(true).open(&path).unwrap();
            file.set_modified(time).unwrap();
        };
        at(modified);
        assert!(is_found());
        at(modified + std::time::Duration::from_secs(1));
        assert!(!is_found());
    }

    #[test]
    fn the_small_vae_for_previews_is_found_in_each_of_its_forms() {
        let root = tempfile::tempdir().unwrap();
        let place = |name: &str| root.path().join(name);
        let tiny: &[(&str, &[u64])] = &[("1.weight", &[4]), ("3.conv.0.weight", &[4])];
        let in_folder: &[(&str, &[u64])] = &[
            ("decoder.layers.0.weight", &[4]),
            ("decoder.layers.2.conv.0.weight", &[4]),
        ];
        let models = place("models/Stable-diffusion");
        std::fs::create_dir_all(&models).unwrap();
        file_of(&place("models/VAE-taesd/taesdxl_decoder.pth"), tiny);
        let folder = place("models/vae_approx/taesd3");
        file_of(
            &folder.join("diffusion_pytorch_model.safetensors"),
            in_folder,
        );
        std::fs::write(folder.join("config.json"), "{}").unwrap();
        // Not what its name says.
        checkpoint(&place("models/vae_approx/taesd_decoder.safetensors"));
        let given = [models];
        let mut known = KnownFiles::default();
        let add_ons = AddOns::of(&job(&given), &mut known, GOES_ON);
        let file = place("models/VAE-taesd/taesdxl_decoder.pth");
        assert_eq!(add_ons.preview_vae("taesdxl"), Some(file));
        assert_eq!(add_ons.preview_vae("taesd3"), Some(folder));
        assert_eq!(add_ons.preview_vae("taesd"), None);
    }

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
