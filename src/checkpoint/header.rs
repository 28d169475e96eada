//! What a file says of its tensors: names, shapes, types and places.
//!
//! Of a file it reads the header's bytes only and believes none of them. Which kind of file it is follows
//! from its first bytes; torch's and GGUF's have readers of their own, this one is safetensors'. The `safetensors` crate's types are used,
//! its reader is not: it takes the last of two equal names and does not say which tensor is wrong.
//! Source: the format's description, <https://github.com/huggingface/safetensors> (README, "Format").

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};

use safetensors::Dtype;
use safetensors::tensor::TensorInfo;
use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};

use super::blocks::Blocks;
use super::{gguf, torch_file};
use crate::error::{Error, Result};

/// The format's own limit.
const MAX_HEADER_BYTES: u64 = 100_000_000;
/// Where ModelSpec 1.0 notes what a model predicts: `epsilon` or `v`.
pub const PREDICTION_NOTE: &str = "modelspec.prediction_type";
/// More dimensions than any network has; libtorch takes more, at a price.
const MAX_DIMENSIONS: usize = 8;

/// What a file says of one tensor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorHeader {
    pub name: String,
    pub shape: Vec<i64>,
    /// As stored, not as computed with.
    pub dtype: StoredType,
    /// Size in the file.
    pub bytes: u64,
}

/// How the values of a tensor lie in its file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoredType {
    /// One number after another.
    Plain(Dtype),
    /// A few bits each, with a scale for every block: GGUF's.
    Blocks(Blocks),
}

impl StoredType {
    /// Values that are stored together.
    pub(super) fn block_elements(self) -> u64 {
        match self {
            Self::Plain(_) => 1,
            Self::Blocks(blocks) => blocks.elements(),
        }
    }

    /// Whether the values are fractions.
    pub(super) fn is_float(self) -> bool {
        match self {
            Self::Blocks(_) => true,
            Self::Plain(dtype) => !matches!(
                dtype,
                Dtype::BOOL
                    | Dtype::U8
                    | Dtype::I8
                    | Dtype::I16
                    | Dtype::U16
                    | Dtype::I32
                    | Dtype::U32
                    | Dtype::I64
                    | Dtype::U64
            ),
        }
    }

    /// Bytes of those.
    pub(super) fn block_bytes(self) -> u64 {
        match self {
            Self::Plain(dtype) => dtype.bitsize() as u64 / 8,
            Self::Blocks(blocks) => blocks.bytes(),
        }
    }
}

impl From<Dtype> for StoredType {
    fn from(dtype: Dtype) -> Self {
        Self::Plain(dtype)
    }
}

impl From<Blocks> for StoredType {
    fn from(blocks: Blocks) -> Self {
        Self::Blocks(blocks)
    }
}

impl fmt::Display for StoredType {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Plain(dtype) => dtype.fmt(formatter),
            Self::Blocks(blocks) => blocks.fmt(formatter),
        }
    }
}

impl TensorHeader {
    /// How many values it holds.
    pub fn elements(&self) -> u64 {
        self.shape.iter().map(|side| side.unsigned_abs()).product()
    }
}

/// A tensor with its place: `begin` counts from the beginning of the file.
#[derive(Debug)]
pub(super) struct Entry {
    pub header: TensorHeader,
    pub begin: u64,
    /// Bytes from there to the last of its values.
    pub span: u64,
    /// In elements, where the values do not lie one after another.
    pub strides: Option<Vec<i64>>,
}

/// What the tensors of `files` are, in the order of the files and of the data in them.
///
/// Reads no tensor data. Errors: [`Error::Io`]; [`Error::Model`] that names the file and what is
/// wrong with it, also for a tensor that two files hold.
pub fn headers(files: &[PathBuf]) -> Result<Vec<TensorHeader>> {
    let mut all = Vec::new();
    let mut seen = BTreeMap::new();
    for file in files {
        for entry in read_entries(file)? {
            if let Some(other) = seen.insert(entry.header.name.clone(), file) {
                return Err(Error::model(
                    file,
                    format!(
                        "its tensor {} is also in {}",
                        entry.header.name,
                        other.display()
                    ),
                ));
            }
            all.push(entry.header);
        }
    }
    Ok(all)
}

/// Reads and checks one file's header. The tensors returned lie inside the file.
pub(super) fn read_entries(path: &Path) -> Result<Vec<Entry>> {
    let wrong = |why| Error::model(path, why);
    match head(path)? {
        Head::Torch => torch_file::read_entries(path),
        Head::Gguf { length } => {
            let file = File::open(path).map_err(|source| Error::io("Reading", path, source))?;
            gguf::parse(BufReader::new(file), length).map_err(wrong)
        }
        Head::Safetensors {
            text,
            data_begin,
            length,
        } => parse(&text, data_begin, length).map_err(wrong),
    }
}

/// What a file is by its first bytes.
enum Head {
    Torch,
    Gguf {
        length: u64,
    },
    /// With the text of its header, unchecked.
    Safetensors {
        text: Vec<u8>,
        data_begin: u64,
        length: u64,
    },
}

fn head(path: &Path) -> Result<Head> {
    let failed = |source| Error::io("Reading", path, source);
    // Before opening: a pipe would block, a folder gives an unclear error.
    let metadata = std::fs::metadata(path).map_err(failed)?;
    if !metadata.is_file() {
        return Err(Error::model(path, "it is not a file"));
    }
    let mut file = File::open(path).map_err(failed)?;
    let length = metadata.len();
    let mut size = [0; 8];
    if length < size.len() as u64 {
        return Err(Error::model(
            path,
            format!("it is {length} bytes long, too short for a safetensors file"),
        ));
    }
    file.read_exact(&mut size).map_err(failed)?;
    if torch_file::is_one(size) {
        return Ok(Head::Torch);
    }
    if gguf::is_one(size) {
        return Ok(Head::Gguf { length });
    }
    if let Some(name) = picture(size) {
        return Err(Error::model(
            path,
            format!("it is a {name} picture; easel info tells the settings in it"),
        ));
    }
    let size = u64::from_le_bytes(size);
    if size > MAX_HEADER_BYTES {
        return Err(Error::model(
            path,
            "it is no file of tensors: it begins neither as .safetensors, .ckpt nor .gguf files do",
        ));
    }
    if size > length - 8 {
        return Err(Error::model(
            path,
            format!(
                "it is not a safetensors file, or it is cut off: its header claims {size} bytes of a \
                 file of {length}"
            ),
        ));
    }
    // At most the length of the file and 100 MB: checked above.
    let mut text = Vec::new();
    file.take(size).read_to_end(&mut text).map_err(failed)?;
    Ok(Head::Safetensors {
        text,
        data_begin: 8 + size,
        length,
    })
}

/// What a picture's first bytes say.
fn picture(first: [u8; 8]) -> Option<&'static str> {
    let signs: [(&[u8], &str); 4] = [
        (b"\x89PNG\r\n\x1a\n", "PNG"),
        (b"\xff\xd8\xff", "JPEG"),
        // The kind stands behind the length; sounds and films are no models either.
        (b"RIFF", "WebP"),
        (b"GIF8", "GIF"),
    ];
    let found = signs.iter().find(|(sign, _)| first.starts_with(sign));
    found.map(|(_, name)| *name)
}

/// What a safetensors file says of itself in words (`__metadata__`); nothing for another file.
///
/// Errors: [`Error::Io`]; [`Error::Model`] for a header that cannot be read.
pub fn metadata(path: &Path) -> Result<BTreeMap<String, String>> {
    #[derive(Deserialize)]
    struct Words {
        #[serde(default, rename = "__metadata__")]
        words: BTreeMap<String, String>,
    }
    let Head::Safetensors { text, .. } = head(path)? else {
        return Ok(BTreeMap::new());
    };
    let Words { words } = serde_json::from_slice(&text)
        .map_err(|error| Error::model(path, format!("its header cannot be read: {error}")))?;
    Ok(words)
}

/// Where the tensors of a safetensors file begin; `None` for another file.
///
/// Errors: [`Error::Io`].
pub fn tensors_begin(path: &Path) -> Result<Option<u64>> {
    Ok(match head(path)? {
        Head::Safetensors { data_begin, .. } => Some(data_begin),
        Head::Torch | Head::Gguf { .. } => None,
    })
}

/// Checks everything the header says against the file's length.
fn parse(text: &[u8], data_begin: u64, file_length: u64) -> Result<Vec<Entry>, String> {
    let Header(tensors) = serde_json::from_slice(text)
        .map_err(|error| format!("its header is not that of a safetensors file: {error}"))?;
    let mut tensors: Vec<(String, TensorInfo)> = tensors.into_iter().collect();
    tensors.sort_by_key(|(_, info)| info.data_offsets);
    let mut end = data_begin;
    let mut entries = Vec::new();
    for (name, info) in tensors {
        let entry = entry(name, &info, data_begin)?;
        if entry.begin != end {
            return Err(format!(
                "the tensor {} begins at byte {} where {end} was expected: tensors overlap or \
                 leave a gap",
                entry.header.name, entry.begin
            ));
        }
        end += entry.header.bytes;
        if end > file_length {
            return Err(format!(
                "it is cut off: the tensor {} ends at byte {end} of a file of {file_length}",
                entry.header.name
            ));
        }
        entries.push(entry);
    }
    if end != file_length {
        return Err(format!(
            "its tensors end at byte {end} of a file of {file_length}"
        ));
    }
    Ok(entries)
}

fn entry(name: String, info: &TensorInfo, data_begin: u64) -> Result<Entry, String> {
    if info.shape.len() > MAX_DIMENSIONS {
        return Err(format!(
            "the tensor {name} has {} dimensions, more than {MAX_DIMENSIONS}",
            info.shape.len()
        ));
    }
    let too_large = || {
        format!(
            "the tensor {name} has the impossible shape {:?}",
            info.shape
        )
    };
    let shape = info
        .shape
        .iter()
        .map(|&size| i64::try_from(size))
        .collect::<Result<Vec<i64>, _>>()
        .map_err(|_| too_large())?;
    // Strides are products too: they must fit even where another size is 0.
    shape
        .iter()
        .try_fold(64i64, |product, &size| product.checked_mul(size.max(1)))
        .ok_or_else(too_large)?;
    let bits = shape.iter().product::<i64>() as u64 * info.dtype.bitsize() as u64;
    let (begin, end) = (info.data_offsets.0 as u64, info.data_offsets.1 as u64);
    if !bits.is_multiple_of(8) || end.checked_sub(begin) != Some(bits / 8) {
        return Err(format!(
            "the tensor {name} of shape {shape:?} and type {} does not fit its place, bytes {begin} \
             to {end}",
            info.dtype
        ));
    }
    let begin = begin
        .checked_add(data_begin)
        .ok_or_else(|| format!("the tensor {name} begins at the impossible byte {begin}"))?;
    let header = TensorHeader {
        name,
        shape,
        dtype: info.dtype.into(),
        bytes: bits / 8,
    };
    Ok(Entry {
        span: header.bytes,
        strides: None,
        header,
        begin,
    })
}

/// The header's JSON object without `__metadata__`; a name that comes twice is an error.
struct Header(BTreeMap<String, TensorInfo>);

impl<'de> Deserialize<'de> for Header {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Names;
        impl<'de> Visitor<'de> for Names {
            type Value = Header;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a table of tensors")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Header, A::Error> {
                let mut tensors = BTreeMap::new();
                while let Some(name) = map.next_key::<String>()? {
                    if name == "__metadata__" {
                        map.next_value::<IgnoredAny>()?;
                        continue;
                    }
                    let info = map.next_value::<TensorInfo>()?;
                    if tensors.contains_key(&name) {
                        let message = format!("the tensor {name} comes twice");
                        return Err(serde::de::Error::custom(message));
                    }
                    tensors.insert(name, info);
                }
                Ok(Header(tensors))
            }
        }
        deserializer.deserialize_map(Names)
    }
}
