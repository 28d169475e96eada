//! A VAE on its own, which stands in for a model's: a folder in diffusers' layout, or a file with
//! diffusers' names or latent-diffusion's (with or without the prefix of a checkpoint). TAESD too, in
//! diffusers' names or its author's (`taesd_decoder.safetensors`, `.pth`).

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tch::{Device, Kind};

use super::ldm::{self, Meaning};
use super::single_file::{cut, vae_json};
use crate::checkpoint::{self, Piece, TensorHeader};
use crate::error::{Error, Result};
use crate::families::Part;
use crate::models::layers::Weights;
use crate::models::vae::{AutoencoderTiny, TinyConfig, VaeConfig};

/// A VAE whose headers were read.
#[derive(Clone, Debug)]
pub(super) struct VaeFiles {
    pub path: PathBuf,
    pub config: VaeKind,
    pub files: Vec<PathBuf>,
    /// Under diffusers' names.
    pub headers: Vec<TensorHeader>,
    names: Names,
}

/// Which network.
#[derive(Clone, Debug)]
pub(super) enum VaeKind {
    Kl(VaeConfig),
    Tiny(TinyConfig),
}

impl VaeKind {
    pub fn latent_channels(&self) -> i64 {
        match self {
            Self::Kl(config) => config.latent_channels,
            Self::Tiny(config) => config.latent_channels,
        }
    }

    pub fn factor(&self) -> i64 {
        match self {
            Self::Kl(config) => config.factor(),
            Self::Tiny(config) => config.factor(),
        }
    }

    /// What diffusers calls it.
    pub fn class(&self) -> &'static str {
        match self {
            Self::Kl(_) => "AutoencoderKL",
            Self::Tiny(_) => "AutoencoderTiny",
        }
    }
}

#[derive(Clone, Copy, Debug)]
enum Names {
    Diffusers,
    Ldm {
        prefix: &'static str,
        blocks: usize,
    },
    /// diffusers' names of TAESD, of which the decoder is taken.
    Tiny,
    /// Its author's: numbers behind this prefix.
    TinyNumbers(&'static str),
}

/// Where diffusers has TAESD's decoder.
const TINY_DECODER: &str = "decoder.";
/// What stands before the layers' numbers in files of the decoder alone, and of both halves.
const TINY_PREFIXES: [&str; 3] = ["", "taesd_decoder.", "decoder."];

impl VaeFiles {
    /// Errors: [`Error::Model`] naming the file and what is wrong with it.
    pub fn open(path: &Path) -> Result<Self> {
        if path.is_dir() {
            // A whole model's folder will do too.
            let inner = path.join(Part::Vae.name());
            Self::open_folder(if inner.is_dir() { &inner } else { path })
        } else if path.is_file() {
            Self::open_file(path)
        } else {
            Err(Error::model(path, "there is no such file or folder"))
        }
    }

    fn open_folder(folder: &Path) -> Result<Self> {
        let files = checkpoint::find_weights(folder, Part::Vae.stem())?;
        let stored = checkpoint::headers(&files)?;
        let config = folder.join("config.json");
        let tiny = stored.iter().any(|it| it.name == "decoder.layers.0.weight");
        let (config, names) = match tiny {
            true => (VaeKind::Tiny(TinyConfig::read(&config)?), Names::Tiny),
            false => (VaeKind::Kl(VaeConfig::read(&config)?), Names::Diffusers),
        };
        Ok(Self {
            path: folder.to_path_buf(),
            config,
            headers: names.headers(&stored),
            files,
            names,
        })
    }

    fn open_file(path: &Path) -> Result<Self> {
        let files = vec![path.to_path_buf()];
        let stored = checkpoint::headers(&files)?;
        let has = |prefix: &str| stored.iter().any(|header| header.name.starts_with(prefix));
        let ldm = |prefix: &'static str| Names::Ldm {
            prefix,
            blocks: ldm::vae_blocks(
                stored
                    .iter()
                    .filter_map(|header| header.name.strip_prefix(prefix)),
            ),
        };
        let names = if has(ldm::VAE) {
            ldm(ldm::VAE)
        } else if has("encoder.down_blocks.") {
            Names::Diffusers
        } else if has("encoder.down.") {
            ldm("")
        } else if let Some(names) = tiny_names(&stored) {
            names
        } else {
            return Err(Error::model(path, "it holds no VAE"));
        };
        let headers = names.headers(&stored);
        let config = match tiny_config(&headers) {
            Some(config) => VaeKind::Tiny(config),
            None => VaeKind::Kl(VaeConfig::parse(
                path,
                vae_json(&headers).to_string().as_bytes(),
            )?),
        };
        Ok(Self {
            path: path.to_path_buf(),
            config,
            files,
            headers,
            names,
        })
    }

    /// What becomes of a stored tensor.
    pub fn pieces(&self, key: &str) -> Vec<Piece> {
        self.names.pieces(key)
    }

    /// Its config as diffusers writes it; `used` is how the model uses it.
    ///
    /// Errors: [`Error::Model`] for a config that cannot be read.
    pub fn json(&self, used: &VaeConfig) -> Result<Value> {
        if self.path.is_dir() {
            return super::from_json(&self.path.join("config.json"));
        }
        let mut config = vae_json(&self.headers);
        config["scaling_factor"] = json!(used.scaling_factor);
        config["force_upcast"] = json!(used.force_upcast);
        Ok(config)
    }
}

/// Loads TAESD from a file or folder; `None` where it is another VAE.
///
/// Errors: [`Error::Model`] naming the file and what is wrong with it.
pub fn load_tiny_vae(path: &Path, device: Device, kind: Kind) -> Result<Option<AutoencoderTiny>> {
    let files = VaeFiles::open(path)?;
    let VaeKind::Tiny(config) = &files.config else {
        return Ok(None);
    };
    let pieces = |key: &str| files.pieces(key);
    let named = checkpoint::load_pieces(&files.files, &pieces, device, kind, &mut |_| ())?;
    let weights = Weights::new(named.path, named.tensors);
    AutoencoderTiny::new(config.clone(), &weights).map(Some)
}

/// The names of a file that is TAESD or its decoder.
fn tiny_names(stored: &[TensorHeader]) -> Option<Names> {
    let numbers = TINY_PREFIXES.iter().copied().map(Names::TinyNumbers);
    let mut all = std::iter::once(Names::Tiny).chain(numbers);
    all.find(|names| tiny_config(&names.headers(stored)).is_some())
}

fn tiny_config(headers: &[TensorHeader]) -> Option<TinyConfig> {
    let shape = |name: &str| {
        let name = format!("{TINY_DECODER}{name}");
        let found = headers.iter().find(|header| header.name == name);
        found.map(|header| header.shape.clone())
    };
    TinyConfig::from_shapes(&shape)
}

impl Names {
    /// What becomes of all stored tensors.
    fn headers(self, stored: &[TensorHeader]) -> Vec<TensorHeader> {
        let of = |header: &TensorHeader| -> Vec<TensorHeader> {
            let pieces = self.pieces(&header.name);
            pieces.iter().map(|piece| cut(header, piece)).collect()
        };
        stored.iter().flat_map(of).collect()
    }

    /// What becomes of a stored tensor.
    fn pieces(self, key: &str) -> Vec<Piece> {
        match self {
            Self::Diffusers => vec![Piece::whole(key)],
            Self::Ldm { prefix, blocks } => {
                let meaning = key
                    .strip_prefix(prefix)
                    .map(|key| ldm::vae_meaning(key, blocks));
                match meaning {
                    Some(Meaning::Tensors(_, pieces)) => pieces,
                    _ => Vec::new(),
                }
            }
            Self::Tiny => match key.starts_with(TINY_DECODER) {
                true => vec![Piece::whole(key)],
                false => Vec::new(),
            },
            Self::TinyNumbers(prefix) => {
                let name = key.strip_prefix(prefix).and_then(numbered);
                name.into_iter().map(|name| Piece::whole(&name)).collect()
            }
        }
    }
}

/// diffusers' name for `3.conv.0.weight`: the author's first layer has no weights there.
fn numbered(key: &str) -> Option<String> {
    let (index, rest) = key.split_once('.')?;
    let index = index.parse::<usize>().ok()?.checked_sub(1)?;
    Some(format!("{TINY_DECODER}layers.{index}.{rest}"))
}
