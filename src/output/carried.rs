//! The settings texts that a PNG, JPEG or WebP file carries, found without decoding the picture.
//!
//! Walks the file's chunks or segments and reads only those that can hold settings, each bounded,
//! so that a hostile file costs neither time nor memory.
//! Source: PNG specification (third edition) 11.3.3, JPEG T.81 B.1, WebP container specification.

use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::path::Path;

use super::encode::{EXTENDED_XMP_PREFIX, XMP_PREFIX};
use super::{MAX_TEXT_BYTES, exif, xmp};
use crate::error::{Error, Result};

/// What a picture file says about how it was drawn.
#[derive(Debug, Default)]
pub struct Carried {
    /// A1111's infotext: the PNG key `parameters`, or EXIF `UserComment`.
    pub parameters: Option<String>,
    /// Easel's own record: the PNG key `easel`, or inside the XMP packet.
    pub easel_json: Option<String>,
    /// Whether `parameters` came from a key that only picture generators write.
    pub from_png_key: bool,
}

/// Why a file cannot be read, before its path is known.
enum Trouble {
    Io(std::io::Error),
    Broken(&'static str),
}

impl From<std::io::Error> for Trouble {
    fn from(error: std::io::Error) -> Self {
        match error.kind() {
            std::io::ErrorKind::UnexpectedEof => Self::Broken("it ends too early"),
            _ => Self::Io(error),
        }
    }
}

/// UTF-16 takes twice the bytes.
const MAX_UTF16_BYTES: usize = 2 * MAX_TEXT_BYTES;
const TEXT_TOO_LONG: Trouble = Trouble::Broken("its settings text is longer than 2 MB");

/// Reads what the file at `path` carries; its kind is told by its content, not by its name.
///
/// Errors: [`Error::Io`] ("Reading"), [`Error::Picture`] where it is no picture, broken, or its
/// text is longer than 2 MB.
pub fn read(path: &Path) -> Result<Carried> {
    let walk = || -> Result<Carried, Trouble> {
        let mut file = BufReader::new(File::open(path)?);
        let mut magic = [0; 12];
        file.read_exact(&mut magic)?;
        match &magic {
            [0x89, b'P', b'N', b'G', b'\r', b'\n', 0x1a, b'\n', ..] => read_png(&mut file),
            [0xff, 0xd8, 0xff, ..] => read_jpeg(&mut file),
            [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P'] => read_webp(&mut file),
            _ => Err(Trouble::Broken("it is not a PNG, JPEG or WebP picture")),
        }
    };
    walk().map_err(|trouble| match trouble {
        Trouble::Io(source) => Error::io("Reading", path, source),
        Trouble::Broken(why) => Error::Picture {
            path: path.to_path_buf(),
            why: why.to_owned(),
        },
    })
}

fn read_png(file: &mut (impl Read + Seek)) -> Result<Carried, Trouble> {
    let mut carried = Carried::default();
    let mut xmp_packet = None;
    file.seek(SeekFrom::Start(8))?;
    loop {
        let length = u64::from(u32::from_be_bytes(read_array(file)?));
        let kind: [u8; 4] = read_array(file)?;
        match &kind {
            b"IEND" => break,
            b"tEXt" | b"zTXt" | b"iTXt" => {
                if let Some((key, text)) = read_png_text(file, &kind, length)? {
                    let slot = match key {
                        PngKey::Parameters => &mut carried.parameters,
                        PngKey::Easel => &mut carried.easel_json,
                        PngKey::Xmp => &mut xmp_packet,
                    };
                    slot.get_or_insert(text);
                }
            }
            _ => skip(file, length)?,
        }
        let _checksum: [u8; 4] = read_array(file)?;
    }
    carried.from_png_key = carried.parameters.is_some();
    if carried.easel_json.is_none() {
        carried.easel_json = xmp_packet.as_deref().and_then(xmp::easel_json);
    }
    Ok(carried)
}

enum PngKey {
    Parameters,
    Easel,
    Xmp,
}

/// A text chunk's key and text; `None`, and nothing read into memory, where the key is another's.
fn read_png_text(
    file: &mut (impl Read + Seek),
    kind: &[u8; 4],
    length: u64,
) -> Result<Option<(PngKey, String)>, Trouble> {
    const LONGEST_KEY: u64 = 80; // 79 bytes and the 0 behind them
    let mut head = Vec::new();
    let head_bytes = length.min(LONGEST_KEY);
    file.by_ref().take(head_bytes).read_to_end(&mut head)?;
    if (head.len() as u64) < head_bytes {
        return Err(Trouble::Broken("it ends too early"));
    }
    let key = match head.split(|byte| *byte == 0).next() {
        Some(b"parameters") => PngKey::Parameters,
        Some(b"easel") => PngKey::Easel,
        Some(b"XML:com.adobe.xmp") => PngKey::Xmp,
        _ => {
            skip(file, length - head_bytes)?;
            return Ok(None);
        }
    };
    let rest = read_text_bytes(file, length - head_bytes, MAX_TEXT_BYTES)?;
    let mut chunk = head;
    chunk.extend(rest);
    let text = decode_png_text(kind, &chunk)?;
    Ok(Some((key, text)))
}

fn decode_png_text(kind: &[u8; 4], chunk: &[u8]) -> Result<String, Trouble> {
    const BROKEN: Trouble = Trouble::Broken("its settings text is damaged");
    let (_key, value) = split_at_zero(chunk).ok_or(BROKEN)?;
    match kind {
        b"tEXt" => Ok(latin1(value)),
        b"zTXt" => match value {
            [0, packed @ ..] => inflate(packed).map(|text| latin1(&text)),
            _ => Err(BROKEN),
        },
        _ => {
            let (compressed, value) = match value {
                [flag @ (0 | 1), 0, value @ ..] => (*flag == 1, value),
                _ => return Err(BROKEN),
            };
            let (_language, value) = split_at_zero(value).ok_or(BROKEN)?;
            let (_translated_key, value) = split_at_zero(value).ok_or(BROKEN)?;
            let text = if compressed {
                inflate(value)?
            } else {
                value.to_vec()
            };
            String::from_utf8(text).map_err(|_| BROKEN)
        }
    }
}

fn split_at_zero(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let at = bytes.iter().position(|byte| *byte == 0)?;
    Some((bytes.get(..at)?, bytes.get(at + 1..)?))
}

/// PNG's `tEXt` is Latin-1; some programs put UTF-8 there all the same.
fn latin1(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) => text.to_owned(),
        Err(_) => bytes.iter().map(|byte| char::from(*byte)).collect(),
    }
}

fn inflate(packed: &[u8]) -> Result<Vec<u8>, Trouble> {
    use fdeflate::BoundedDecompressionError::{DecompressionError, OutputTooLarge};
    fdeflate::decompress_to_vec_bounded(packed, MAX_TEXT_BYTES).map_err(|error| match error {
        OutputTooLarge { .. } => TEXT_TOO_LONG,
        DecompressionError { .. } => Trouble::Broken("its settings text is damaged"),
    })
}

fn read_jpeg(file: &mut (impl Read + Seek)) -> Result<Carried, Trouble> {
    let mut carried = Carried::default();
    let mut extended = ExtendedXmp::default();
    file.seek(SeekFrom::Start(2))?;
    loop {
        let [mark] = read_array(file)?;
        if mark != 0xff {
            return Err(Trouble::Broken("its JPEG structure is damaged"));
        }
        let mut kind = 0xff;
        while kind == 0xff {
            [kind] = read_array(file)?;
        }
        match kind {
            // The picture itself begins, or the file ends: no settings behind.
            0xda | 0xd9 => break,
            0x01 | 0xd0..=0xd7 => continue,
            _ => {}
        }
        let length = u64::from(u16::from_be_bytes(read_array(file)?));
        let length = length
            .checked_sub(2)
            .ok_or(Trouble::Broken("its JPEG structure is damaged"))?;
        if kind != 0xe1 {
            skip(file, length)?;
            continue;
        }
        let segment = read_text_bytes(file, length, MAX_UTF16_BYTES)?;
        if let Some(tiff) = segment.strip_prefix(b"Exif\0\0") {
            carried.parameters = carried
                .parameters
                .or_else(|| exif::user_comment(tiff.to_vec()));
        } else if let Some(packet) = segment.strip_prefix(XMP_PREFIX) {
            let packet = String::from_utf8_lossy(packet);
            carried.easel_json = carried.easel_json.or_else(|| xmp::easel_json(&packet));
        } else if let Some(piece) = segment.strip_prefix(EXTENDED_XMP_PREFIX) {
            extended.add(piece)?;
        }
    }
    carried.easel_json = carried.easel_json.or_else(|| extended.easel_json());
    Ok(carried)
}

/// The pieces of an XMP packet that is too long for one segment, put together in order.
#[derive(Default)]
struct ExtendedXmp(Vec<u8>);

impl ExtendedXmp {
    /// `piece`: GUID, whole length, offset, content. Other orders than the written one do not
    /// occur in practice and end the packet.
    fn add(&mut self, piece: &[u8]) -> Result<(), Trouble> {
        let Some((header, content)) = piece.split_first_chunk::<40>() else {
            return Ok(());
        };
        let [.., o3, o2, o1, o0] = *header;
        let offset = u32::from_be_bytes([o3, o2, o1, o0]) as usize;
        if offset == self.0.len() {
            self.0.extend(content);
        }
        if self.0.len() > MAX_TEXT_BYTES {
            return Err(TEXT_TOO_LONG);
        }
        Ok(())
    }

    fn easel_json(&self) -> Option<String> {
        xmp::easel_json(&String::from_utf8_lossy(&self.0))
    }
}

fn read_webp(file: &mut (impl Read + Seek)) -> Result<Carried, Trouble> {
    let mut carried = Carried::default();
    file.seek(SeekFrom::Start(4))?;
    let riff_bytes = u64::from(u32::from_le_bytes(read_array(file)?));
    let end = 8 + riff_bytes;
    let mut at = 12;
    file.seek(SeekFrom::Start(at))?;
    // The last chunk may lack its padding.
    while at + 8 <= end {
        let kind: [u8; 4] = read_array(file)?;
        let length = u64::from(u32::from_le_bytes(read_array(file)?));
        match &kind {
            b"EXIF" => {
                let block = read_text_bytes(file, length, MAX_UTF16_BYTES)?;
                let tiff = block.strip_prefix(b"Exif\0\0").unwrap_or(&block).to_vec();
                carried.parameters = carried.parameters.or_else(|| exif::user_comment(tiff));
            }
            b"XMP " => {
                let packet = read_text_bytes(file, length, MAX_UTF16_BYTES)?;
                let packet = String::from_utf8_lossy(&packet);
                carried.easel_json = carried.easel_json.or_else(|| xmp::easel_json(&packet));
            }
            _ => skip(file, length)?,
        }
        let padded = length + length % 2;
        at += 8 + padded;
        file.seek(SeekFrom::Start(at))?;
    }
    Ok(carried)
}

fn read_array<const N: usize>(file: &mut impl Read) -> Result<[u8; N], Trouble> {
    let mut bytes = [0; N];
    file.read_exact(&mut bytes)?;
    Ok(bytes)
}

/// Reads `length` bytes of text; memory grows with what is there, not with what is claimed.
fn read_text_bytes(file: &mut impl Read, length: u64, limit: usize) -> Result<Vec<u8>, Trouble> {
    if length > limit as u64 {
        return Err(TEXT_TOO_LONG);
    }
    let mut bytes = Vec::new();
    file.by_ref().take(length).read_to_end(&mut bytes)?;
    if (bytes.len() as u64) < length {
        return Err(Trouble::Broken("it ends too early"));
    }
    Ok(bytes)
}

/// Steps over `length` bytes, which must be there.
fn skip(file: &mut (impl Read + Seek), length: u64) -> Result<(), Trouble> {
    let Some(before_last) = length.checked_sub(1) else {
        return Ok(());
    };
    file.seek_relative(before_last as i64)?;
    let [_] = read_array(file)?;
    Ok(())
}
