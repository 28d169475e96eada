//! The tensors of a file that `torch.save` wrote (`.ckpt`, `.pt`, `.pth`, `.bin`): what they are and
//! where their bytes lie.
//!
//! Since torch 1.6 such a file is a ZIP archive that compresses nothing: `NAME/data.pkl` describes the
//! tensors, `NAME/data/KEY` are the storages they are views of. Before, it was five pickles and the
//! storages one after another. Source: torch 2.13 `serialization.py` (`_save`, `_legacy_save`);
//! PKWARE's APPNOTE 6.3.10 (4.3, 4.5.3).

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use super::header::{Entry, TensorHeader};
use super::pickle::{self, Pickled, PickledTensor};
use crate::error::{Error, Result};

/// The pickle of a large model is below 2 MB.
const MAX_PICKLE_BYTES: u64 = 8 << 20;
/// A directory of 100 000 entries is below this.
const MAX_DIRECTORY_BYTES: u64 = 16 << 20;
/// More dimensions than any network has.
const MAX_DIMENSIONS: usize = 8;
/// Tensors may share a storage, but not as many as it takes to fill the memory from a small file.
const MAX_SHARING: u64 = 4;

/// Where a storage lies in the file, and how long it is there.
#[derive(Clone, Copy, Debug)]
struct Place {
    begin: u64,
    bytes: u64,
}

/// Whether these are the first bytes of a file that `torch.save` wrote. A safetensors file begins
/// with its header's length, of which the upper half is zero.
pub(super) fn is_one(first: [u8; 8]) -> bool {
    let [a, b, c, d, rest @ ..] = first;
    ([a, b, c, d] == *b"PK\x03\x04" || (a == 0x80 && (1..=5).contains(&b))) && rest != [0; 4]
}

/// Reads and checks what the file says of its tensors. They lie inside the file.
pub(super) fn read_entries(path: &Path) -> Result<Vec<Entry>> {
    let mut file = Source::open(path).map_err(|error| Error::io("Reading", path, error))?;
    let entries = if file.starts_with(b"PK") {
        entries_of_zip(&mut file)
    } else {
        entries_of_pickles(&mut file)
    };
    entries.map_err(|fault| match fault {
        Fault::Io(error) => Error::io("Reading", path, error),
        Fault::Why(why) => Error::model(path, why),
    })
}

/// Why a file could not be read.
enum Fault {
    Io(std::io::Error),
    Why(String),
}

impl From<String> for Fault {
    fn from(why: String) -> Self {
        Self::Why(why)
    }
}

impl From<&str> for Fault {
    fn from(why: &str) -> Self {
        Self::Why(why.to_owned())
    }
}

/// A file that is read piece by piece.
struct Source {
    file: File,
    length: u64,
}

impl Source {
    fn open(path: &Path) -> std::io::Result<Self> {
        let file = File::open(path)?;
        let length = file.metadata()?.len();
        Ok(Self { file, length })
    }

    fn starts_with(&mut self, bytes: &[u8]) -> bool {
        self.read(0, bytes.len() as u64)
            .is_ok_and(|read| read == bytes)
    }

    /// `length` bytes from `begin`; the caller bounds `length`.
    fn read(&mut self, begin: u64, length: u64) -> Result<Vec<u8>, Fault> {
        if begin
            .checked_add(length)
            .is_none_or(|end| end > self.length)
        {
            return Err(Fault::Why(format!(
                "it is cut off: bytes {begin} to {} of a file of {}",
                begin.saturating_add(length),
                self.length
            )));
        }
        let mut bytes = vec![0; usize::try_from(length).unwrap_or_default()];
        self.file.seek(SeekFrom::Start(begin)).map_err(Fault::Io)?;
        self.file.read_exact(&mut bytes).map_err(Fault::Io)?;
        Ok(bytes)
    }
}

fn entries_of_zip(file: &mut Source) -> Result<Vec<Entry>, Fault> {
    let places = zip_entries(file)?;
    let (name, pickle) = places
        .iter()
        .find(|(name, _)| name.ends_with("/data.pkl") || *name == "data.pkl")
        .ok_or("it is a ZIP archive without data.pkl: not one of torch's files")?;
    let prefix = name.trim_end_matches("data.pkl").to_owned();
    if let Some(order) = places.get(&format!("{prefix}byteorder"))
        && file.read(order.begin, order.bytes.min(16))? != b"little"
    {
        return Err("its numbers are big-endian, which Easel does not read".into());
    }
    if pickle.bytes > MAX_PICKLE_BYTES {
        return Err(format!("its data.pkl of {} bytes is too large", pickle.bytes).into());
    }
    let pickled = pickle::read(&file.read(pickle.begin, pickle.bytes)?)?;
    let place = |key: &str| places.get(&format!("{prefix}data/{key}")).copied();
    entries(&pickled, &place, file.length)
}

/// Where the files of the archive lie, by name.
fn zip_entries(file: &mut Source) -> Result<HashMap<String, Place>, Fault> {
    let (begin, bytes) = zip_directory(file)?;
    if bytes > MAX_DIRECTORY_BYTES {
        return Err(format!("its ZIP directory of {bytes} bytes is too large").into());
    }
    let directory = file.read(begin, bytes)?;
    let mut places = HashMap::new();
    let mut rest = directory.as_slice();
    while rest.starts_with(b"PK\x01\x02") {
        let (name, header, place, after) =
            directory_entry(rest).ok_or("its ZIP directory is damaged")?;
        rest = after;
        // The data follow a header of their own, whose two lengths may differ from the directory's.
        let local = file.read(header, 30)?;
        let lengths = u64::from(u16_at(&local, 26).unwrap_or_default())
            + u64::from(u16_at(&local, 28).unwrap_or_default());
        let begin = header + 30 + lengths;
        let end = begin.checked_add(place);
        if !local.starts_with(b"PK\x03\x04") || end.is_none_or(|end| end > file.length) {
            return Err(format!("its part {name} is cut off or damaged").into());
        }
        if places
            .insert(
                name.clone(),
                Place {
                    begin,
                    bytes: place,
                },
            )
            .is_some()
        {
            return Err(format!("its part {name} comes twice").into());
        }
    }
    Ok(places)
}

/// Where the archive's directory begins and how long it is, from the record at the file's end.
fn zip_directory(file: &mut Source) -> Result<(u64, u64), Fault> {
    /// The record and the longest comment after it.
    const LONGEST_END: u64 = 22 + 65_535;
    let tail_begin = file.length.saturating_sub(LONGEST_END);
    let tail = file.read(tail_begin, file.length - tail_begin)?;
    let damaged = "it is a ZIP archive without an end: cut off";
    let at = tail
        .windows(4)
        .rposition(|bytes| bytes == b"PK\x05\x06")
        .ok_or(damaged)?;
    let bytes = u32_at(&tail, at + 12).ok_or(damaged)?;
    let begin = u32_at(&tail, at + 16).ok_or(damaged)?;
    // Files above 4 GB have a second record, and a pointer to it before the first.
    let locator = at.checked_sub(20).and_then(|at| tail.get(at..));
    match locator {
        Some(locator) if locator.starts_with(b"PK\x06\x07") => {
            let record = file.read(u64_at(locator, 8).ok_or(damaged)?, 56)?;
            let place = |at| u64_at(&record, at).ok_or(Fault::from(damaged));
            Ok((place(48)?, place(40)?))
        }
        _ => Ok((u64::from(begin), u64::from(bytes))),
    }
}

/// Name, place of its own header, size, and what follows, of the first entry of a directory. `None`
/// for a damaged one and for one that is compressed.
fn directory_entry(entry: &[u8]) -> Option<(String, u64, u64, &[u8])> {
    let method = u16_at(entry, 10)?;
    let (name, extra, comment) = (u16_at(entry, 28)?, u16_at(entry, 30)?, u16_at(entry, 32)?);
    let name_end = 46 + usize::from(name);
    let extra_end = name_end + usize::from(extra);
    let mut numbers = Numbers64::of(entry.get(name_end..extra_end)?);
    let unpacked = numbers.number(u32_at(entry, 24)?)?;
    let packed = numbers.number(u32_at(entry, 20)?)?;
    let header = numbers.number(u32_at(entry, 42)?)?;
    let name = String::from_utf8_lossy(entry.get(46..name_end)?).into_owned();
    let rest = entry.get(extra_end + usize::from(comment)..)?;
    (method == 0 && packed == unpacked).then_some((name, header, packed, rest))
}

/// The numbers of an entry that do not fit 32 bits, in the order in which they are wanted.
struct Numbers64<'a>(&'a [u8]);

impl<'a> Numbers64<'a> {
    fn of(mut extra: &'a [u8]) -> Self {
        while let (Some(id), Some(length)) = (u16_at(extra, 0), u16_at(extra, 2)) {
            let end = (4 + usize::from(length)).min(extra.len());
            let (field, rest) = extra.split_at(end);
            if id == 1 {
                return Self(field.get(4..).unwrap_or_default());
            }
            extra = rest;
        }
        Self(&[])
    }

    fn number(&mut self, short: u32) -> Option<u64> {
        if short != u32::MAX {
            return Some(u64::from(short));
        }
        let number = u64_at(self.0, 0)?;
        self.0 = self.0.get(8..)?;
        Some(number)
    }
}

/// The form before torch 1.6: a magic number, a version, the system, the tensors, the storages' keys,
/// each a pickle; then each storage with its length in elements before it.
fn entries_of_pickles(file: &mut Source) -> Result<Vec<Entry>, Fault> {
    let head = file.read(0, file.length.min(MAX_PICKLE_BYTES))?;
    let mut at = 0;
    let mut next = || -> Result<Pickled, Fault> {
        let pickled = pickle::read(head.get(at..).unwrap_or_default())?;
        at += pickled.length;
        Ok(pickled)
    };
    for _ in 0..3 {
        next()?;
    }
    let (pickled, keys) = (next()?, next()?);
    let keys = keys.texts().ok_or("it lacks the list of its storages")?;
    let sizes: HashMap<&str, u64> = pickled
        .storages()
        .map(|(key, dtype)| (key, dtype.bitsize() as u64 / 8))
        .collect();
    let mut places = HashMap::new();
    let mut begin = at as u64;
    for key in keys {
        let size = *sizes
            .get(key)
            .ok_or("it lists a storage that nothing refers to")?;
        let length = u64_at(&file.read(begin, 8)?, 0).unwrap_or_default();
        let bytes = length
            .checked_mul(size)
            .filter(|bytes| *bytes <= file.length - begin - 8);
        let bytes = bytes.ok_or("one of its storages is cut off")?;
        places.insert(
            key.to_owned(),
            Place {
                begin: begin + 8,
                bytes,
            },
        );
        begin += 8 + bytes;
    }
    entries(&pickled, &|key| places.get(key).copied(), file.length)
}

/// The tensors with their places, in the order of the places.
fn entries(
    pickled: &Pickled,
    place: &dyn Fn(&str) -> Option<Place>,
    file_length: u64,
) -> Result<Vec<Entry>, Fault> {
    let mut seen = HashSet::new();
    let mut entries = Vec::new();
    let mut total = 0u64;
    for (name, tensor) in pickled.tensors() {
        if !seen.insert(name) {
            return Err(format!("its tensor {name} comes twice").into());
        }
        let storage = place(&tensor.storage).ok_or_else(|| {
            format!(
                "its tensor {name} lies in {:?}, which is missing",
                tensor.storage
            )
        })?;
        let entry = entry(name, tensor, storage).ok_or_else(|| {
            format!(
                "its tensor {name} of shape {:?} does not fit its storage of {} bytes",
                tensor.shape, storage.bytes
            )
        })?;
        total = total.saturating_add(entry.header.bytes);
        entries.push(entry);
    }
    if entries.is_empty() {
        return Err("it holds no tensors".into());
    }
    if total > file_length.saturating_mul(MAX_SHARING) {
        return Err(format!("its tensors claim {total} bytes of a file of {file_length}").into());
    }
    entries.sort_by_key(|entry| entry.begin);
    Ok(entries)
}

/// `None` where the tensor reaches out of its storage, or has an impossible shape.
fn entry(name: &str, tensor: &PickledTensor, storage: Place) -> Option<Entry> {
    let (shape, strides) = (&tensor.shape, &tensor.strides);
    if shape.len() != strides.len() || shape.len() > MAX_DIMENSIONS {
        return None;
    }
    let size = i64::try_from(tensor.dtype.bitsize() / 8).ok()?;
    let mut elements = 1i64;
    let mut last = 0i64;
    let mut dense = true;
    for (&side, &stride) in shape.iter().zip(strides).rev() {
        if side < 0 || stride < 0 {
            return None;
        }
        // The stride of a side of one says nothing.
        dense &= side == 1 || stride == elements;
        last = last.checked_add((side - 1).max(0).checked_mul(stride)?)?;
        // As for every tensor: a product that fits even where another side is 0.
        elements.checked_mul(side.max(1))?.checked_mul(64)?;
        elements *= side;
    }
    let span = if elements == 0 {
        0
    } else {
        last.checked_add(1)?
    };
    let begin = tensor.offset.checked_mul(size)?;
    let end = begin.checked_add(span.checked_mul(size)?)?;
    // Views that repeat elements would need more memory than the file has.
    if begin < 0 || u64::try_from(end).ok()? > storage.bytes || elements > span {
        return None;
    }
    Some(Entry {
        header: TensorHeader {
            name: name.to_owned(),
            shape: shape.clone(),
            dtype: tensor.dtype.into(),
            bytes: (elements * size).unsigned_abs(),
        },
        begin: storage.begin + begin.unsigned_abs(),
        span: (span * size).unsigned_abs(),
        strides: (!dense && elements > 0).then(|| strides.clone()),
    })
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    let bytes = bytes.get(at..at.checked_add(2)?)?;
    bytes.try_into().ok().map(u16::from_le_bytes)
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    let bytes = bytes.get(at..at.checked_add(4)?)?;
    bytes.try_into().ok().map(u32::from_le_bytes)
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    let bytes = bytes.get(at..at.checked_add(8)?)?;
    bytes.try_into().ok().map(u64::from_le_bytes)
}
