//! What a GGUF file says of its tensors: names, shapes, types and places.
//!
//! stable-diffusion.cpp writes whole models so, in the names of latent-diffusion; ComfyUI-GGUF writes
//! UNets alone. Only the header is read, none of its numbers is believed, and reading stops at the
//! first that cannot be. Source: ggml `docs/gguf.md` (versions 2 and 3); ComfyUI-GGUF `tools/convert.py`
//! (`comfy.gguf.orig_shape`).

use std::collections::{HashMap, HashSet};
use std::io::Read;

use safetensors::Dtype;

use super::blocks::Blocks;
use super::header::{Entry, StoredType, TensorHeader};

/// More than any model has.
const MAX_TENSORS: u64 = 100_000;
const MAX_FIELDS: u64 = 100_000;
/// Names of tensors and fields.
const MAX_NAME_BYTES: u64 = 1024;
/// A large language model's vocabulary stays below it.
const MAX_HEADER_BYTES: u64 = 100_000_000;
const MAX_DIMENSIONS: u32 = 8;
const ALIGNMENT: u64 = 32;
const MAX_ALIGNMENT: u64 = 1 << 20;
/// The shape that ComfyUI-GGUF's converter keeps of a tensor that it laid out anew.
const SHAPE_FIELD: &str = "comfy.gguf.orig_shape.";

/// Whether these are the first bytes of a GGUF file.
pub(super) fn is_one(first: [u8; 8]) -> bool {
    first.starts_with(b"GGUF")
}

/// Reads and checks a header. `file` begins where the file begins and is `file_length` bytes long;
/// the tensors returned lie inside it, in the order of their places.
///
/// Errors: what is wrong, and where.
pub(super) fn parse(file: impl Read, file_length: u64) -> Result<Vec<Entry>, String> {
    let mut header = Header {
        file,
        at: 0,
        end: file_length.min(MAX_HEADER_BYTES),
    };
    let (tensors, fields) = header.beginning()?;
    let notes = header.notes(fields)?;
    let mut described = Vec::new();
    for _ in 0..tensors {
        described.push(header.tensor()?);
    }
    let begin = header
        .at
        .checked_next_multiple_of(notes.alignment)
        .ok_or("its header is too long")?;
    let mut entries = Vec::new();
    for tensor in described {
        entries.push(tensor.entry(begin, file_length, &notes)?);
    }
    entries.sort_by_key(|entry| entry.begin);
    check_apart(&entries)?;
    Ok(entries)
}

fn check_apart(entries: &[Entry]) -> Result<(), String> {
    let mut names = HashSet::new();
    let mut end = 0;
    for entry in entries {
        let name = entry.header.name.as_str();
        if !names.insert(name) {
            return Err(format!("the tensor {name} comes twice"));
        }
        if entry.begin < end {
            return Err(format!(
                "the tensor {name} begins at byte {}, inside another",
                entry.begin
            ));
        }
        end = entry.begin + entry.span;
    }
    Ok(())
}

/// What matters of the fields before the tensors.
struct Notes {
    alignment: u64,
    /// By the tensor's name.
    shapes: HashMap<String, Vec<i64>>,
}

/// A tensor as the file describes it.
struct Described {
    name: String,
    /// The last dimension first.
    sides: Vec<u64>,
    kind: u32,
    offset: u64,
}

impl Described {
    fn entry(self, data_begin: u64, file_length: u64, notes: &Notes) -> Result<Entry, String> {
        let name = &self.name;
        let dtype = stored_type(self.kind).ok_or_else(|| {
            format!(
                "its tensor {name} is stored as {}, which Easel does not read",
                type_name(self.kind)
            )
        })?;
        let impossible = || {
            format!(
                "the tensor {name} has the impossible shape {:?}",
                self.sides
            )
        };
        let sides = self.sides.iter().rev().map(|side| i64::try_from(*side));
        let shape: Vec<i64> = sides.collect::<Result<_, _>>().map_err(|_| impossible())?;
        let elements = shape
            .iter()
            .try_fold(1i64, |product, side| product.checked_mul((*side).max(1)))
            .filter(|product| product.checked_mul(64).is_some())
            .ok_or_else(impossible)?;
        let empty = shape.contains(&0);
        let elements = if empty { 0 } else { elements.unsigned_abs() };
        // Blocks run along rows.
        let row = self.sides.first().copied().unwrap_or(1);
        if !row.is_multiple_of(dtype.block_elements()) {
            return Err(format!(
                "the tensor {name} of shape {shape:?} has rows that are not whole blocks of {dtype}"
            ));
        }
        let bytes = elements / dtype.block_elements() * dtype.block_bytes();
        let begin = data_begin.checked_add(self.offset);
        let end = begin.and_then(|begin| begin.checked_add(bytes));
        let (Some(begin), Some(_)) = (begin, end.filter(|end| *end <= file_length)) else {
            return Err(format!(
                "it is cut off: the tensor {name} of {bytes} bytes begins {} bytes after byte \
                 {data_begin} of a file of {file_length}",
                self.offset
            ));
        };
        let shape = self.as_it_was(shape, notes)?;
        Ok(Entry {
            header: TensorHeader {
                name: self.name,
                shape,
                dtype,
                bytes,
            },
            begin,
            span: bytes,
            strides: None,
        })
    }

    /// The shape before the converter laid the tensor out in rows that blocks fit.
    fn as_it_was(&self, shape: Vec<i64>, notes: &Notes) -> Result<Vec<i64>, String> {
        let Some(before) = notes.shapes.get(&self.name) else {
            return Ok(shape);
        };
        let count = |shape: &[i64]| {
            shape
                .iter()
                .try_fold(1i64, |product, side| product.checked_mul(*side))
        };
        if before.iter().any(|side| *side < 0) || count(before) != count(&shape) {
            return Err(format!(
                "the tensor {} of shape {shape:?} cannot have had the shape {before:?}",
                self.name
            ));
        }
        Ok(before.clone())
    }
}

/// Reads piece by piece and knows where it is.
struct Header<R> {
    file: R,
    at: u64,
    /// Nothing of the header lies behind it.
    end: u64,
}

impl<R: Read> Header<R> {
    /// The counts of tensors and fields.
    fn beginning(&mut self) -> Result<(u64, u64), String> {
        if self.array::<4>()? != *b"GGUF" {
            return Err("it is not a GGUF file".to_owned());
        }
        match self.u32()? {
            2 | 3 => {}
            1 => {
                return Err(
                    "it is a GGUF file of version 1, which nobody writes any more".to_owned(),
                );
            }
            swapped if swapped.swap_bytes() <= 3 => {
                return Err("its numbers are big-endian, which Easel does not read".to_owned());
            }
            other => {
                return Err(format!(
                    "it is a GGUF file of version {other}; 2 and 3 are read"
                ));
            }
        }
        let (tensors, fields) = (self.u64()?, self.u64()?);
        if tensors > MAX_TENSORS || fields > MAX_FIELDS {
            return Err(format!(
                "it claims {tensors} tensors and {fields} fields, more than any model has"
            ));
        }
        Ok((tensors, fields))
    }

    fn notes(&mut self, fields: u64) -> Result<Notes, String> {
        let mut notes = Notes {
            alignment: ALIGNMENT,
            shapes: HashMap::new(),
        };
        for _ in 0..fields {
            let name = self.name()?;
            let kind = self.u32()?;
            if name == "general.alignment" {
                notes.alignment = self.alignment(kind)?;
            } else if let (Some(tensor), ARRAY) = (name.strip_prefix(SHAPE_FIELD), kind) {
                let shape = self.shape(&name)?;
                notes.shapes.insert(tensor.to_owned(), shape);
            } else {
                self.skip_value(&name, kind)?;
            }
        }
        Ok(notes)
    }

    fn alignment(&mut self, kind: u32) -> Result<u64, String> {
        /// The only type that the format allows here.
        const U32: u32 = 4;
        if kind != U32 {
            return Err(format!("its general.alignment is of type {kind}"));
        }
        let alignment = u64::from(self.u32()?);
        if alignment.is_power_of_two() && alignment <= MAX_ALIGNMENT {
            Ok(alignment)
        } else {
            Err(format!("its general.alignment is {alignment}"))
        }
    }

    /// A list of whole numbers.
    fn shape(&mut self, name: &str) -> Result<Vec<i64>, String> {
        let (kind, count) = (self.u32()?, self.u64()?);
        if count > u64::from(MAX_DIMENSIONS) {
            return Err(format!("its {name} has {count} dimensions"));
        }
        (0..count)
            .map(|_| match kind {
                4 => Ok(self.u32()?.into()),
                5 => Ok(self.u32()?.cast_signed().into()),
                10 | 11 => Ok(self.u64()?.cast_signed()),
                other => Err(format!("its {name} holds values of type {other}")),
            })
            .collect()
    }

    fn skip_value(&mut self, name: &str, kind: u32) -> Result<(), String> {
        let (kind, count) = match kind {
            ARRAY => (self.u32()?, self.u64()?),
            other => (other, 1),
        };
        if kind == STRING {
            for _ in 0..count {
                let length = self.u64()?;
                self.skip(length)?;
            }
            return Ok(());
        }
        let size = value_bytes(kind)
            .ok_or_else(|| format!("its {name} holds values of the unknown type {kind}"))?;
        let bytes = count.checked_mul(size);
        self.skip(bytes.ok_or_else(|| format!("its {name} claims {count} values"))?)
    }

    fn tensor(&mut self) -> Result<Described, String> {
        let name = self.name()?;
        let dimensions = self.u32()?;
        if dimensions > MAX_DIMENSIONS {
            return Err(format!(
                "the tensor {name} has {dimensions} dimensions, more than {MAX_DIMENSIONS}"
            ));
        }
        let sides = (0..dimensions).map(|_| self.u64());
        Ok(Described {
            sides: sides.collect::<Result<_, _>>()?,
            name,
            kind: self.u32()?,
            offset: self.u64()?,
        })
    }

    fn name(&mut self) -> Result<String, String> {
        let (begin, length) = (self.at, self.u64()?);
        if length > MAX_NAME_BYTES {
            return Err(format!(
                "at byte {begin} it claims a name of {length} bytes"
            ));
        }
        let mut bytes = vec![0; usize::try_from(length).unwrap_or_default()];
        self.read(&mut bytes)?;
        String::from_utf8(bytes)
            .map_err(|_| format!("at byte {begin} it has a name that is not text"))
    }

    fn u32(&mut self) -> Result<u32, String> {
        self.array().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Result<u64, String> {
        self.array().map(u64::from_le_bytes)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], String> {
        let mut bytes = [0; N];
        self.read(&mut bytes)?;
        Ok(bytes)
    }

    fn read(&mut self, bytes: &mut [u8]) -> Result<(), String> {
        self.claim(bytes.len() as u64)?;
        let read = self.file.read_exact(bytes);
        read.map_err(|error| format!("its header cannot be read: {error}"))
    }

    fn skip(&mut self, length: u64) -> Result<(), String> {
        self.claim(length)?;
        let mut skipped = self.file.by_ref().take(length);
        let copied = std::io::copy(&mut skipped, &mut std::io::sink());
        match copied {
            Ok(copied) if copied == length => Ok(()),
            Ok(_) => Err("its header is cut off".to_owned()),
            Err(error) => Err(format!("its header cannot be read: {error}")),
        }
    }

    /// Checked before anything is read or made room for.
    fn claim(&mut self, length: u64) -> Result<(), String> {
        match self.at.checked_add(length) {
            Some(at) if at <= self.end => {
                self.at = at;
                Ok(())
            }
            _ => Err(format!(
                "its header is cut off, or claims too much: {length} bytes at byte {} of {}",
                self.at, self.end
            )),
        }
    }
}

const STRING: u32 = 8;
const ARRAY: u32 = 9;

/// Of the types of values in fields; lists of lists are not in use.
fn value_bytes(kind: u32) -> Option<u64> {
    match kind {
        // Bytes and truth values.
        0 | 1 | 7 => Some(1),
        2 | 3 => Some(2),
        4..=6 => Some(4),
        10..=12 => Some(8),
        _ => None,
    }
}

/// ggml's numbers for types (`ggml.h`, `enum ggml_type`).
fn stored_type(kind: u32) -> Option<StoredType> {
    Some(match kind {
        0 => Dtype::F32.into(),
        1 => Dtype::F16.into(),
        2 => Blocks::Q4_0.into(),
        3 => Blocks::Q4_1.into(),
        6 => Blocks::Q5_0.into(),
        7 => Blocks::Q5_1.into(),
        8 => Blocks::Q8_0.into(),
        10 => Blocks::Q2K.into(),
        11 => Blocks::Q3K.into(),
        12 => Blocks::Q4K.into(),
        13 => Blocks::Q5K.into(),
        14 => Blocks::Q6K.into(),
        24 => Dtype::I8.into(),
        25 => Dtype::I16.into(),
        26 => Dtype::I32.into(),
        27 => Dtype::I64.into(),
        28 => Dtype::F64.into(),
        30 => Dtype::BF16.into(),
        _ => return None,
    })
}

/// What ggml calls the types that are not read.
fn type_name(kind: u32) -> String {
    let name = match kind {
        9 => "Q8_1",
        15 => "Q8_K",
        16 => "IQ2_XXS",
        17 => "IQ2_XS",
        18 => "IQ3_XXS",
        19 => "IQ1_S",
        20 => "IQ4_NL",
        21 => "IQ3_S",
        22 => "IQ2_S",
        23 => "IQ4_XS",
        29 => "IQ1_M",
        34 => "TQ1_0",
        35 => "TQ2_0",
        39 => "MXFP4",
        40 => "NVFP4",
        _ => return format!("type {kind}"),
    };
    name.to_owned()
}
