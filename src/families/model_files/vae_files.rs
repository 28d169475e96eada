//! A VAE on its own, which stands in for a model's: a folder in diffusers' layout, or a file with
//! diffusers' names or latent-diffusion's (with or without the prefix of a checkpoint).

use std::path::{Path, PathBuf};

use tch::{Device, Kind};

use super::ldm::{self, Meaning};
use super::single_file::{cut, vae_config};
use crate::checkpoint::{self, NamedTensors, Piece, TensorHeader};
use crate::error::{Error, Result};
use crate::families::Part;
use crate::models::vae::VaeConfig;

/// A VAE whose headers were read.
#[derive(Clone, Debug)]
pub(super) struct VaeFiles {
    pub path: PathBuf,
    pub config: VaeConfig,
    pub files: Vec<PathBuf>,
    /// Under diffusers' names.
    pub headers: Vec<TensorHeader>,
    names: Names,
}

#[derive(Clone, Copy, Debug)]
enum Names {
    Diffusers,
    Ldm { prefix: &'static str, blocks: usize },
}

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
        Ok(Self {
            path: folder.to_path_buf(),
            config: VaeConfig::read(&folder.join("config.json"))?,
            headers: checkpoint::headers(&files)?,
            files,
            names: Names::Diffusers,
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
        } else {
            return Err(Error::model(path, "it holds no VAE"));
        };
        let headers: Vec<TensorHeader> = stored
            .iter()
            .flat_map(|header| {
                let pieces = names.pieces(&header.name);
                pieces.into_iter().map(|piece| cut(header, &piece))
            })
            .collect();
        Ok(Self {
            path: path.to_path_buf(),
            config: vae_config(path, &headers)?,
            files,
            headers,
            names,
        })
    }

    pub fn load(
        &self,
        device: Device,
        kind: Kind,
        progress: &mut dyn FnMut(f32),
    ) -> Result<NamedTensors> {
        let pieces = |key: &str| self.names.pieces(key);
        checkpoint::load_pieces(&self.files, &pieces, device, kind, progress)
    }
}

impl Names {
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
        }
    }
}
