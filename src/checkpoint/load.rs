//! Brings the tensors of files onto a device, in one dtype.
//!
//! libtorch maps each file itself (`from_file`, private and copy-on-write), and every tensor is a view
//! of that map. Where dtype and device fit, the view is what the network computes with: no second
//! copy, pages read when first used. The map's life is counted by libtorch with the views', so there
//! is nothing to keep alive and nothing `unsafe` here. What is converted lies in maps apart, one for each
//! [`RUN_BYTES`] of a file, so that the pages it was read from leave the memory with them. A map reaches
//! over the whole file, since `from_file` knows no beginning: where address space is counted
//! ([`maps_are_counted`]), one map a file has to do for all.
//!
//! A file must not be overwritten in place while it is mapped: the system ends a program that reads behind
//! the new end (SIGBUS), and values would mix. One that is replaced (written beside it and renamed) is
//! fine: the map keeps the old one.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use safetensors::Dtype;
use tch::{Device, Kind, Tensor};

use super::blocks::Blocks;
use super::header::{Entry, StoredType, TensorHeader, read_entries};
use crate::error::{Error, Result};

/// Blocks of numbers that are copied out of a mapped file at once: some hundred kilobytes.
const BLOCKS_AT_ONCE: u64 = 4096;
/// Of a file, what lies in one map apart.
const RUN_BYTES: u64 = 128 << 20;

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

/// What is answered to how far loading is: nothing, or an error that stops it.
pub trait GoOn {
    /// Errors: what stops it.
    fn go_on(self) -> Result<()>;
}

impl GoOn for () {
    fn go_on(self) -> Result<()> {
        Ok(())
    }
}

impl GoOn for Result<()> {
    fn go_on(self) -> Result<()> {
        self
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
/// libtorch; what `progress` answers.
pub fn load_pieces<G: GoOn>(
    files: &[PathBuf],
    pieces: &dyn Fn(&str) -> Vec<Piece>,
    device: Device,
    kind: Kind,
    progress: &mut dyn FnMut(f32) -> G,
) -> Result<NamedTensors> {
    gather(files, pieces, progress, &|stored, index, cut| {
        let apart = device != Device::Cpu || !stored.is(index, kind);
        place(stored.part(index, cut, apart)?, device, kind)
    })
}

/// As [`load_pieces`] to the CPU, but floats stay mapped, in the dtype that they are stored in, whatever
/// the network computes in (`kind`); what has to be made of blocks or bytes becomes that.
///
/// Errors: as [`load_pieces`].
pub fn map_pieces<G: GoOn>(
    files: &[PathBuf],
    pieces: &dyn Fn(&str) -> Vec<Piece>,
    kind: Kind,
    progress: &mut dyn FnMut(f32) -> G,
) -> Result<NamedTensors> {
    gather(files, pieces, progress, &|stored, index, cut| {
        let part = stored.part(index, cut, !stored.is(index, kind))?;
        let is_blocks = matches!(stored.dtype(index), Some(StoredType::Blocks(_)));
        match part.kind() {
            // Few operators know these.
            Kind::Float8e4m3fn | Kind::Float8e5m2 => place(part, Device::Cpu, kind),
            // Not mapped, but in memory already.
            _ if is_blocks => place(part, Device::Cpu, kind),
            _ => Ok(part),
        }
    })
}

/// What `read` makes of each piece.
fn gather<G: GoOn>(
    files: &[PathBuf],
    pieces: &dyn Fn(&str) -> Vec<Piece>,
    progress: &mut dyn FnMut(f32) -> G,
    read: &dyn Fn(&TensorFiles, usize, Cut) -> Result<Tensor>,
) -> Result<NamedTensors> {
    let stored = TensorFiles::open(files)?;
    let wanted: Vec<(usize, u64, Vec<Piece>)> = stored
        .headers()
        .enumerate()
        .map(|(index, header)| (index, header.bytes, pieces(&header.name)))
        .filter(|(_, _, pieces)| !pieces.is_empty())
        .collect();
    let total: u64 = wanted.iter().map(|(_, bytes, _)| bytes).sum();
    let mut done = 0;
    let mut tensors = BTreeMap::new();
    for (index, bytes, pieces) in wanted {
        for piece in pieces {
            let part = read(&stored, index, piece.cut)?;
            if tensors.insert(piece.name.clone(), part).is_some() {
                let why = format!("its tensor {} comes twice", piece.name);
                return Err(Error::model(stored.path_of(index), why));
            }
        }
        done += bytes;
        progress(done as f32 / total.max(1) as f32).go_on()?;
    }
    let path = match files {
        [file] => file.clone(),
        [file, ..] => file.parent().unwrap_or(file).to_path_buf(),
        [] => PathBuf::new(),
    };
    Ok(NamedTensors { path, tensors })
}

/// The tensors of files whose headers were read: on disk, until one is asked for.
#[derive(Debug)]
pub struct TensorFiles {
    stored: Vec<Stored>,
    /// The last map apart: the file, which run of it, and all its bytes.
    run: RefCell<Option<(PathBuf, u64, Tensor)>>,
    /// Whether there are none.
    shared: bool,
}

#[derive(Debug)]
struct Stored {
    file: PathBuf,
    /// The whole file, mapped.
    bytes: Tensor,
    entry: Entry,
}

impl Stored {
    /// `bytes`: a map of its file.
    fn whole(&self, bytes: &Tensor) -> Result<Tensor> {
        match self.entry.header.dtype {
            StoredType::Plain(dtype) => view(&self.file, bytes, &self.entry, dtype),
            StoredType::Blocks(blocks) => dequantized(bytes, &self.entry, blocks),
        }
    }
}

impl TensorFiles {
    /// Errors: [`Error::Io`]; [`Error::Model`] for a broken file.
    pub fn open(files: &[PathBuf]) -> Result<Self> {
        let mut all = Vec::new();
        for file in files {
            let entries = read_entries(file)?;
            let bytes = map(file)?;
            all.extend(entries.into_iter().map(|entry| Stored {
                file: file.clone(),
                bytes: bytes.shallow_clone(),
                entry,
            }));
        }
        Ok(Self {
            stored: all,
            run: RefCell::default(),
            shared: maps_are_counted(),
        })
    }

    /// In the order of the files and of the data in them.
    pub fn headers(&self) -> impl Iterator<Item = &TensorHeader> {
        self.stored.iter().map(|stored| &stored.entry.header)
    }

    /// A part of the tensor at this place in [`TensorFiles::headers`]: a view of the mapped file where
    /// it can be one; f32 where the numbers lie in blocks.
    ///
    /// Errors: [`Error::Model`] for a stored type that is not read (f4), or a tensor that cannot be
    /// cut as asked.
    pub fn read(&self, index: usize, cut: Cut) -> Result<Tensor> {
        let stored = self.at(index)?;
        self.cut(index, cut, &stored.whole(&stored.bytes)?)
    }

    /// As [`TensorFiles::read`], out of a map that it shares with its neighbours in the file alone: what
    /// was read leaves the memory with them.
    ///
    /// Errors: as [`TensorFiles::read`].
    pub fn read_apart(&self, index: usize, cut: Cut) -> Result<Tensor> {
        if self.shared {
            return self.read(index, cut);
        }
        let stored = self.at(index)?;
        let number = stored.entry.begin / RUN_BYTES;
        let mut run = self.run.borrow_mut();
        let bytes = match &*run {
            Some((file, same, bytes)) if (file, *same) == (&stored.file, number) => {
                bytes.shallow_clone()
            }
            _ => {
                // The one before is let go first.
                *run = None;
                let bytes = map(&stored.file)?;
                let kept = bytes.shallow_clone();
                *run = Some((stored.file.clone(), number, kept));
                bytes
            }
        };
        self.cut(index, cut, &stored.whole(&bytes)?)
    }

    fn part(&self, index: usize, cut: Cut, apart: bool) -> Result<Tensor> {
        match apart {
            true => self.read_apart(index, cut),
            false => self.read(index, cut),
        }
    }

    /// Whether a tensor lies in its file as numbers of this kind.
    fn is(&self, index: usize, kind: Kind) -> bool {
        match self.dtype(index) {
            Some(StoredType::Plain(dtype)) => stored_kind(dtype) == Some(kind),
            Some(StoredType::Blocks(_)) | None => false,
        }
    }

    fn dtype(&self, index: usize) -> Option<StoredType> {
        let stored = self.stored.get(index);
        stored.map(|stored| stored.entry.header.dtype)
    }

    fn at(&self, index: usize) -> Result<&Stored> {
        self.stored.get(index).ok_or_else(|| Error::Tensor {
            name: index.to_string(),
            why: "is missing".to_owned(),
        })
    }

    fn cut(&self, index: usize, cut: Cut, whole: &Tensor) -> Result<Tensor> {
        if cut.shape(&whole.size()).is_some() {
            return cut.of(whole.shallow_clone());
        }
        let name = self
            .stored
            .get(index)
            .map(|stored| &stored.entry.header.name);
        let why = format!(
            "its tensor {} of shape {:?} is not of the shape that such a file has",
            name.map_or("", String::as_str),
            whole.size()
        );
        Err(Error::model(self.path_of(index), why))
    }

    fn path_of(&self, index: usize) -> &Path {
        self.stored
            .get(index)
            .map_or(Path::new(""), |stored| &stored.file)
    }
}

/// Whether the address space of maps runs out: where the user limits it (`ulimit -v`), or the system
/// promises no more memory than it has (`vm.overcommit_memory` 2, and systems other than Linux).
fn maps_are_counted() -> bool {
    let read = |path: &str| std::fs::read_to_string(path).ok();
    let is_unlimited = |limits: String| {
        let mut limits = limits.lines();
        let limit = limits.find_map(|line| line.strip_prefix("Max address space"));
        limit.is_some_and(|limit| limit.trim_start().starts_with("unlimited"))
    };
    let overcommit = read("/proc/sys/vm/overcommit_memory");
    overcommit.is_none_or(|mode| mode.trim() == "2")
        || !read("/proc/self/limits").is_some_and(is_unlimited)
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

/// The floats of a tensor whose numbers lie in blocks.
fn dequantized(bytes: &Tensor, entry: &Entry, blocks: Blocks) -> Result<Tensor> {
    let header = &entry.header;
    let mut values = Vec::with_capacity(usize::try_from(header.elements()).unwrap_or_default());
    let mut buffer = Vec::new();
    let at_once = BLOCKS_AT_ONCE * blocks.bytes();
    let mut at = 0;
    while at < header.bytes {
        let length = at_once.min(header.bytes - at);
        let piece = bytes.f_narrow(0, (entry.begin + at) as i64, length as i64)?;
        buffer.resize(piece.numel(), 0);
        piece.f_copy_data_u8(&mut buffer, piece.numel())?;
        blocks.dequantize(&buffer, &mut values);
        at += length;
    }
    Ok(Tensor::f_from_slice(&values)?.f_view(header.shape.as_slice())?)
}

/// The part of the map that is this tensor. A copy only where it is not aligned to its own type.
fn view(path: &Path, bytes: &Tensor, entry: &Entry, dtype: Dtype) -> Result<Tensor> {
    let header = &entry.header;
    let kind = stored_kind(dtype).ok_or_else(|| {
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

pub(super) fn stored_kind(dtype: Dtype) -> Option<Kind> {
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
