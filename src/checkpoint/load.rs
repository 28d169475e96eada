//! Brings the tensors of files onto a device, in one dtype.
//!
//! libtorch maps each file itself (`from_file`, private and copy-on-write), and every tensor is a view
//! of that map. Where dtype and device fit, the view is what the network computes with: no second
//! copy, pages read when first used. The map's life is counted by libtorch with the views', so there
//! is nothing to keep alive and nothing `unsafe` here.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use safetensors::Dtype;
use tch::{Device, Kind, Tensor};

use super::header::{Entry, read_entries};
use crate::error::{Error, Result};

/// The tensors of a model by the names they have in its files.
#[derive(Debug)]
pub struct NamedTensors {
    /// What messages name: the file, or the folder of several.
    pub path: PathBuf,
    pub tensors: BTreeMap<String, Tensor>,
}

/// A tensor under the name that a network asks for, cut out of a stored one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    pub name: String,
    pub cut: Cut,
}

/// Which part of a stored tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    Whole,
    /// The first, second or last third of its rows.
    Third(i64),
    /// Rows for columns, of a matrix.
    Transposed,
}

impl Piece {
    pub fn whole(name: impl Into<String>) -> Self {
        let name = name.into();
        Self {
            name,
            cut: Cut::Whole,
        }
    }
}

impl Cut {
    /// The shape of the part of a tensor of this shape; `None` where it cannot be cut so.
    pub fn shape(self, stored: &[i64]) -> Option<Vec<i64>> {
        match (self, stored) {
            (Self::Whole, _) => Some(stored.to_vec()),
            (Self::Third(_), [rows, rest @ ..]) if rows % 3 == 0 => {
                Some([&[rows / 3], rest].concat())
            }
            (Self::Transposed, &[rows, columns]) => Some(vec![columns, rows]),
            (Self::Third(_) | Self::Transposed, _) => None,
        }
    }

    fn of(self, tensor: Tensor) -> Result<Tensor> {
        match self {
            Self::Whole => Ok(tensor),
            Self::Third(third) => {
                let rows = tensor.size().first().copied().unwrap_or_default() / 3;
                Ok(tensor.f_narrow(0, third * rows, rows)?)
            }
            Self::Transposed => Ok(tensor.f_transpose(0, 1)?.f_contiguous()?),
        }
    }
}

/// Loads every tensor of `files` to `device` under its own name; see [`load_pieces`].
pub fn load(
    files: &[PathBuf],
    device: Device,
    kind: Kind,
    progress: &mut dyn FnMut(f32),
) -> Result<NamedTensors> {
    let all = |name: &str| vec![Piece::whole(name)];
    load_pieces(files, &all, device, kind, progress)
}

/// Loads to `device` what `pieces` makes of each tensor of `files`; nothing is read of the others.
///
/// Floating tensors become `kind`; integers and booleans stay what they are. `progress` receives the
/// part done, by bytes, from 0 to 1.
///
/// Errors: [`Error::Io`]; [`Error::Model`] for a broken file, a stored type that is not read (f4), a
/// tensor that cannot be cut as asked, or a name that comes twice; `OutOfMemory` or `Device` from
/// libtorch.
pub fn load_pieces(
    files: &[PathBuf],
    pieces: &dyn Fn(&str) -> Vec<Piece>,
    device: Device,
    kind: Kind,
    progress: &mut dyn FnMut(f32),
) -> Result<NamedTensors> {
    let mut wanted = Vec::new();
    for file in files {
        let stored = read_entries(file)?;
        let bytes = map(file)?;
        for entry in stored {
            let pieces = pieces(&entry.header.name);
            if !pieces.is_empty() {
                wanted.push((file, bytes.shallow_clone(), entry, pieces));
            }
        }
    }
    let sizes = wanted.iter().map(|(_, _, entry, _)| entry.header.bytes);
    let total: u64 = sizes.sum();
    let mut done = 0;
    let mut tensors = BTreeMap::new();
    for (file, bytes, entry, pieces) in wanted {
        let stored = view(file, &bytes, &entry)?;
        for piece in pieces {
            if piece.cut.shape(&entry.header.shape).is_none() {
                let header = &entry.header;
                let why = format!(
                    "its tensor {} of shape {:?} is not of the shape that such a file has",
                    header.name, header.shape
                );
                return Err(Error::model(file, why));
            }
            let part = piece.cut.of(stored.shallow_clone())?;
            let name = piece.name.clone();
            if tensors.insert(name, place(part, device, kind)?).is_some() {
                let why = format!("its tensor {} comes twice", piece.name);
                return Err(Error::model(file, why));
            }
        }
        done += entry.header.bytes;
        progress(done as f32 / total.max(1) as f32);
    }
    let path = match files {
        [file] => file.clone(),
        [file, ..] => file.parent().unwrap_or(file).to_path_buf(),
        [] => PathBuf::new(),
    };
    Ok(NamedTensors { path, tensors })
}

/// The file's bytes, mapped.
fn map(path: &Path) -> Result<Tensor> {
    let length = std::fs::metadata(path)
        .map_err(|error| Error::io("Reading", path, error))?
        .len();
    let name = path
        .to_str()
        .ok_or_else(|| Error::model(path, "its name is not Unicode"))?;
    Ok(Tensor::f_from_file(
        name,
        false,
        length as i64,
        (Kind::Uint8, Device::Cpu),
    )?)
}

/// The part of the map that is this tensor. A copy only where it is not aligned to its own type.
fn view(path: &Path, bytes: &Tensor, entry: &Entry) -> Result<Tensor> {
    let header = &entry.header;
    let kind = stored_kind(header.dtype).ok_or_else(|| {
        let why = format!(
            "its tensor {} is stored as {}, which Easel does not read",
            header.name, header.dtype
        );
        Error::model(path, why)
    })?;
    if header.bytes == 0 {
        return Ok(Tensor::f_zeros(&header.shape, (kind, Device::Cpu))?);
    }
    let mut own = bytes.f_narrow(0, entry.begin as i64, entry.span as i64)?;
    if !entry.begin.is_multiple_of(kind.elt_size_in_bytes() as u64) {
        own = own.f_alias_copy()?;
    }
    let own = own.f_view_dtype(kind)?;
    Ok(match &entry.strides {
        None => own.f_view(header.shape.as_slice())?,
        Some(strides) => own
            .f_as_strided(&header.shape, strides, None)?
            .f_contiguous()?,
    })
}

fn stored_kind(dtype: Dtype) -> Option<Kind> {
    match dtype {
        Dtype::F64 => Some(Kind::Double),
        Dtype::F32 => Some(Kind::Float),
        Dtype::F16 => Some(Kind::Half),
        Dtype::BF16 => Some(Kind::BFloat16),
        Dtype::I64 => Some(Kind::Int64),
        Dtype::I32 => Some(Kind::Int),
        Dtype::I16 => Some(Kind::Int16),
        Dtype::I8 => Some(Kind::Int8),
        Dtype::U8 => Some(Kind::Uint8),
        Dtype::BOOL => Some(Kind::Bool),
        Dtype::F8_E4M3 => Some(Kind::Float8e4m3fn),
        Dtype::F8_E5M2 => Some(Kind::Float8e5m2),
        _ => None,
    }
}

/// Moves first and converts there: the device converts faster, and f16 files are half the transfer.
fn place(tensor: Tensor, device: Device, kind: Kind) -> Result<Tensor> {
    let tensor = tensor.f_to_device(device)?;
    if tensor.is_floating_point() {
        Ok(tensor.f_to_kind(kind)?)
    } else {
        Ok(tensor)
    }
}
