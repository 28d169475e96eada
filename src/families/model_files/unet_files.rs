//! A UNet on its own, which stands in for a model's: a folder in diffusers' layout, or a file with
//! latent-diffusion's names (with or without the prefix of a checkpoint, as ComfyUI-GGUF leaves it out) or
//! diffusers'.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::ldm::{self, LdmNames, Meaning};
use super::single_file::{SingleFile, Training, cut, generation_of_unet, training};
use crate::checkpoint::{self, Piece, TensorHeader};
use crate::error::{Error, Result};
use crate::families::Part;
use crate::models::unet::UNetConfig;

/// A UNet whose headers were read.
#[derive(Clone, Debug)]
pub(super) struct UnetFiles {
    pub path: PathBuf,
    pub config: UNetConfig,
    /// The same as diffusers writes it.
    pub json: Value,
    pub files: Vec<PathBuf>,
    /// Under diffusers' names.
    pub headers: Vec<TensorHeader>,
    pub training: Training,
    names: Names,
}

#[derive(Clone, Copy, Debug)]
enum Names {
    Diffusers,
    Ldm { names: LdmNames, bare: bool },
}

impl UnetFiles {
    /// Errors: [`Error::Model`] naming the file and what is wrong with it.
    pub fn open(path: &Path) -> Result<Self> {
        if path.is_dir() {
            // A whole model's folder will do too.
            let inner = path.join(Part::Unet.name());
            Self::open_folder(if inner.is_dir() { &inner } else { path })
        } else if path.is_file() {
            Self::open_file(path)
        } else {
            Err(Error::model(path, "there is no such file or folder"))
        }
    }

    fn open_folder(folder: &Path) -> Result<Self> {
        let files = checkpoint::find_weights(folder, Part::Unet.stem())?;
        let config = folder.join("config.json");
        Ok(Self {
            path: folder.to_path_buf(),
            config: UNetConfig::read(&config)?,
            json: super::from_json(&config)?,
            headers: checkpoint::headers(&files)?,
            files,
            training: Training::default(),
            names: Names::Diffusers,
        })
    }

    fn open_file(path: &Path) -> Result<Self> {
        let files = vec![path.to_path_buf()];
        let stored = checkpoint::headers(&files)?;
        let has = |prefix: &str| stored.iter().any(|header| header.name.starts_with(prefix));
        let names = if has("down_blocks.") && has("time_embedding.") {
            Names::Diffusers
        } else if has(ldm::UNET) || has("input_blocks.") {
            let bare = !has(ldm::UNET);
            let full: Vec<String> = stored.iter().map(|it| full(bare, &it.name)).collect();
            Names::Ldm {
                names: LdmNames::of(full.iter().map(String::as_str)),
                bare,
            }
        } else {
            return Err(Error::model(path, "it holds no UNet of Stable Diffusion"));
        };
        let headers: Vec<TensorHeader> = stored
            .iter()
            .flat_map(|header| {
                let pieces = names.pieces(&header.name);
                pieces.into_iter().map(|piece| cut(header, &piece))
            })
            .collect();
        let json = json_of(path, &headers)?;
        let training = training(path, &stored)?;
        Ok(Self {
            path: path.to_path_buf(),
            config: UNetConfig::parse(path, json.to_string().as_bytes())?,
            json,
            files,
            headers,
            training,
            names,
        })
    }

    /// A file does not say which size it was trained on: that of the model whose VAE it draws with.
    pub fn draws_as(&mut self, sample_size: Option<[i64; 2]>) {
        self.config.sample_size = sample_size;
        self.json["sample_size"] = serde_json::json!(sample_size);
    }

    /// What becomes of a stored tensor.
    pub fn pieces(&self, key: &str) -> Vec<Piece> {
        self.names.pieces(key)
    }
}

impl Names {
    fn pieces(self, key: &str) -> Vec<Piece> {
        match self {
            Self::Diffusers => vec![Piece::whole(key)],
            Self::Ldm { names, bare } => match names.meaning(&full(bare, key)) {
                Meaning::Tensors(Part::Unet, pieces) => pieces,
                _ => Vec::new(),
            },
        }
    }
}

fn full(bare: bool, key: &str) -> String {
    if bare {
        format!("{}{key}", ldm::UNET)
    } else {
        key.to_owned()
    }
}

/// The config that follows from names and shapes; `headers` under diffusers' names.
fn json_of(path: &Path, headers: &[TensorHeader]) -> Result<Value> {
    let cross = headers
        .iter()
        .find(|header| header.name.ends_with("attn2.to_k.weight"))
        .and_then(|header| header.shape.get(1).copied());
    let added = headers
        .iter()
        .any(|header| header.name.starts_with("add_embedding."));
    let single = SingleFile::of_unet(path, headers.to_vec(), generation_of_unet(cross, added))?;
    Ok(single.unet_json())
}
