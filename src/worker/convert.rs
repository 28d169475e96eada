//! Rewrites a model: from any file or folder that Easel opens into a folder in diffusers' layout, or
//! into one file in latent-diffusion's. Reads and writes one tensor after another.

use std::collections::BTreeMap;
use std::io::BufWriter;
use std::path::{Path, PathBuf};

use crate::checkpoint::{self, Cut, Dtype, Outline, StoredType, TensorFiles, TensorHeader};
use crate::error::{Error, Result};
use crate::families::{FileKind, ModelFiles};
use crate::files;
use crate::request::DtypeChoice;

/// What is asked for.
#[derive(Clone, Debug)]
pub struct Conversion {
    pub from: PathBuf,
    /// A UNet or a VAE, file or folder, in place of the model's own.
    pub unet: Option<PathBuf>,
    pub vae: Option<PathBuf>,
    /// `NAME.safetensors`: one file; no ending: a folder. Nothing may be there.
    pub to: PathBuf,
    /// `Auto`: each tensor as it is stored; what few programs read (f8, blocks of GGUF) as f16.
    pub dtype: DtypeChoice,
}

/// What was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Converted {
    /// A folder in diffusers' layout.
    Folder,
    /// One file in latent-diffusion's layout.
    SingleFile,
    /// A file of tensors that is no model, under the names it had.
    Tensors,
}

/// Endings of other files of weights, which are read only.
const NOT_WRITTEN: [&str; 6] = ["ckpt", "pt", "pth", "bin", "gguf", "sft"];

/// How far the writing is; an error stops it, and nothing is left behind.
pub type Progress<'a> = &'a mut dyn FnMut(f32) -> Result<()>;

/// Writes the model anew. `progress` is told the share done, from 0 to 1.
///
/// Errors: [`Error::Model`] for what cannot be read or has no name in the other layout, or where
/// something is at `to` already; [`Error::Io`] where it cannot be written; what `progress` returns.
pub fn convert(conversion: &Conversion, progress: Progress<'_>) -> Result<Converted> {
    let to = &conversion.to;
    if to.symlink_metadata().is_ok() {
        return Err(Error::model(
            to,
            "it is there already, and converting replaces nothing; choose another name",
        ));
    }
    let one_file = to
        .extension()
        .is_some_and(|ending| ending.eq_ignore_ascii_case("safetensors"));
    let ending = to.extension().unwrap_or_default().to_string_lossy();
    if NOT_WRITTEN.iter().any(|it| ending.eq_ignore_ascii_case(it)) {
        return Err(Error::model(
            to,
            format!(
                ".{ending} files are not written: let the name end in .safetensors for one file, or in \
                 nothing for a folder"
            ),
        ));
    }
    let mut count = Count::new(progress);
    let model = match open(conversion) {
        // A LoRA, a VAE, an embedding: the same tensors in a file that runs nothing.
        Err(Error::Model { .. }) if one_file && is_other(conversion) => {
            write_tensors(conversion, &mut count)?;
            return Ok(Converted::Tensors);
        }
        Err(Error::Model { path, .. }) if is_other(conversion) => {
            return Err(Error::model(
                path,
                "it is no whole model and becomes one file: let the new name end in .safetensors",
            ));
        }
        opened => opened?,
    };
    if one_file {
        write_file(&model, conversion, &mut count)?;
        Ok(Converted::SingleFile)
    } else {
        write_folder(&model, conversion, &mut count)?;
        Ok(Converted::Folder)
    }
}

fn open(conversion: &Conversion) -> Result<ModelFiles> {
    let mut model = ModelFiles::open(&conversion.from)?;
    if let Some(unet) = &conversion.unet {
        model = model.with_unet(unet)?;
    }
    if let Some(vae) = &conversion.vae {
        model = model.with_vae(vae)?;
    }
    if model.tiny_vae().is_some() {
        return Err(Error::model(
            &model.path,
            "TAESD draws quickly, but cannot be written as a model's VAE",
        ));
    }
    Ok(model)
}

fn is_other(conversion: &Conversion) -> bool {
    let kind = || {
        let headers = checkpoint::headers(std::slice::from_ref(&conversion.from)).ok()?;
        Some(FileKind::of(&headers))
    };
    conversion.unet.is_none()
        && conversion.vae.is_none()
        && conversion.from.is_file()
        && kind().is_some_and(|kind| {
            !matches!(
                kind,
                FileKind::Checkpoint | FileKind::Unet | FileKind::Unknown
            )
        })
}

/// Tells how far the writing is, by bytes.
struct Count<'a> {
    progress: Progress<'a>,
    done: u64,
    total: u64,
}

impl<'a> Count<'a> {
    fn new(progress: Progress<'a>) -> Self {
        Self {
            progress,
            done: 0,
            total: 0,
        }
    }

    fn add(&mut self, header: Option<&TensorHeader>) -> Result<()> {
        self.done += header.map_or(0, |header| header.bytes);
        (self.progress)(self.done as f32 / self.total.max(1) as f32)
    }
}

fn write_folder(model: &ModelFiles, conversion: &Conversion, count: &mut Count<'_>) -> Result<()> {
    let parts: Vec<_> = model
        .parts()
        .into_iter()
        .map(|part| Ok((part, model.tensors(part)?)))
        .collect::<Result<_>>()?;
    count.total = parts.iter().map(|(_, it)| bytes(it.headers())).sum();
    files::new_folder(&conversion.to, &mut |folder| {
        for config in model.config_files()? {
            files::atomic_write(&folder.join(&config.path), config.text.as_bytes())?;
        }
        for (part, tensors) in &parts {
            let path = folder.join(format!("{}/{}.safetensors", part.name(), part.stem()));
            let outlines = tensors.headers().iter().map(|header| Outline {
                name: header.name.clone(),
                shape: header.shape.clone(),
                dtype: written_type(header.dtype, conversion.dtype),
            });
            write(&path, &[FORMAT], outlines.collect(), &mut |outline| {
                count.add(tensors.header(&outline.name))?;
                tensors.read(&outline.name)
            })?;
        }
        Ok(())
    })
}

fn write_file(model: &ModelFiles, conversion: &Conversion, count: &mut Count<'_>) -> Result<()> {
    let (mut outlines, mut sources) = (Vec::new(), BTreeMap::new());
    let parts = model.single_file(&conversion.to)?;
    count.total = parts.iter().map(|(it, _)| bytes(it.headers())).sum();
    for (tensors, assembled) in &parts {
        for one in assembled {
            let stored = one.from.first().and_then(|first| tensors.header(first));
            outlines.push(Outline {
                name: one.name.clone(),
                shape: one.shape.clone(),
                dtype: written_type(
                    stored.map_or(Dtype::F32.into(), |header| header.dtype),
                    conversion.dtype,
                ),
            });
            sources.insert(one.name.as_str(), (tensors, one));
        }
    }
    let predicts = model.scheduler.prediction_type.name();
    let notes = [FORMAT, (checkpoint::PREDICTION_NOTE, predicts)];
    write(&conversion.to, &notes, outlines, &mut |outline| {
        let (tensors, one) = sources
            .get(outline.name.as_str())
            .ok_or_else(|| Error::Tensor {
                name: outline.name.clone(),
                why: "is missing".to_owned(),
            })?;
        for name in &one.from {
            count.add(tensors.header(name))?;
        }
        tensors.assemble(one)
    })
}

fn write_tensors(conversion: &Conversion, count: &mut Count<'_>) -> Result<()> {
    let files = TensorFiles::open(std::slice::from_ref(&conversion.from))?;
    let headers: Vec<TensorHeader> = files.headers().cloned().collect();
    count.total = bytes(&headers);
    let outlines = headers.iter().map(|header| Outline {
        name: header.name.clone(),
        shape: header.shape.clone(),
        dtype: written_type(header.dtype, conversion.dtype),
    });
    let places: BTreeMap<&str, usize> = headers
        .iter()
        .zip(0..)
        .map(|(header, index)| (header.name.as_str(), index))
        .collect();
    // What trainers noted: a LoRA's scale, the names and hashes that it is found by.
    let said = checkpoint::metadata(&conversion.from)?;
    let notes: Vec<(&str, &str)> = said
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .filter(|(name, _)| *name != FORMAT.0)
        .chain([FORMAT])
        .collect();
    write(&conversion.to, &notes, outlines.collect(), &mut |outline| {
        let index = places
            .get(outline.name.as_str())
            .copied()
            .unwrap_or_default();
        count.add(headers.get(index))?;
        files.read_apart(index, Cut::Whole)
    })
}

/// diffusers and transformers refuse files that do not say so.
const FORMAT: (&str, &str) = ("format", "pt");

fn write(
    path: &Path,
    notes: &[(&str, &str)],
    outlines: Vec<Outline>,
    read: &mut dyn FnMut(&Outline) -> Result<tch::Tensor>,
) -> Result<()> {
    files::new_file(path, &mut |file| {
        let mut buffered = BufWriter::new(file);
        checkpoint::write_safetensors(path, &mut buffered, notes, outlines.clone(), read)
    })
}

fn bytes(headers: &[TensorHeader]) -> u64 {
    headers.iter().map(|header| header.bytes).sum()
}

/// Whole numbers stay what they are.
fn written_type(stored: StoredType, asked: DtypeChoice) -> Dtype {
    let is_float = match stored {
        StoredType::Blocks(_) => true,
        StoredType::Plain(dtype) => matches!(
            dtype,
            Dtype::F64 | Dtype::F32 | Dtype::F16 | Dtype::BF16 | Dtype::F8_E4M3 | Dtype::F8_E5M2
        ),
    };
    match (stored, asked) {
        (StoredType::Plain(dtype), _) if !is_float => dtype,
        (_, DtypeChoice::F32) => Dtype::F32,
        (_, DtypeChoice::F16) => Dtype::F16,
        (_, DtypeChoice::Bf16) => Dtype::BF16,
        (StoredType::Plain(kept @ (Dtype::F32 | Dtype::F16 | Dtype::BF16)), DtypeChoice::Auto) => {
            kept
        }
        (StoredType::Plain(Dtype::F64), DtypeChoice::Auto) => Dtype::F32,
        (_, DtypeChoice::Auto) => Dtype::F16,
    }
}
