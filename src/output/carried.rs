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

/// The keys of PNG texts that hold settings, each with the programs that write it.
const PNG_KEYS: &[&str] = &[
    "parameters",        // A1111 and most others, SwarmUI and Fooocus as JSON
    "easel",             // Easel
    "XML:com.adobe.xmp", // Easel, Draw Things
    "prompt",            // ComfyUI
    "workflow",          // ComfyUI
    "invokeai_metadata", // InvokeAI from 3.0 on
    "sd-metadata",       // InvokeAI 2
    "Dream",             // InvokeAI 1 and 2
    "Comment",           // NovelAI
    "Description",       // NovelAI
    "Software",          // NovelAI
    "Source",            // NovelAI
    "parameters-json",   // Stability Matrix
];

/// The texts of a picture file that can say how it was drawn.
#[derive(Debug, Default)]
pub struct Carried {
    /// Easel's own record: the PNG key `easel`, or inside the XMP packet.
    pub easel_json: Option<String>,
    /// EXIF `UserComment`.
    pub user_comment: Option<String>,
    /// The other texts of the EXIF block: where ComfyUI puts its graph in a WebP.
    pub exif_texts: Vec<String>,
    /// The comment segment of a JPEG.
    pub jpeg_comment: Option<String>,
    /// XMP packets: the one, and the one that extends it.
    pub xmp: Vec<String>,
    /// Whether a text was left out that is damaged or longer than 2 MB.
    pub left_out: bool,
    /// Each of [`PNG_KEYS`] at most once.
    png: Vec<(&'static str, String)>,
}

impl Carried {
    /// The text of a PNG under one of [`PNG_KEYS`].
    pub fn png(&self, key: &str) -> Option<&str> {
        let mut found = self.png.iter().filter(|(known, _)| *known == key);
        found.next().map(|(_, text)| text.as_str())
    }

    fn take_exif(&mut self, tiff: Vec<u8>) {
        let texts = exif::texts(tiff);
        self.user_comment = self.user_comment.take().or(texts.user_comment);
        if self.exif_texts.is_empty() {
            self.exif_texts = texts.others;
        }
    }

    fn take_xmp(&mut self, packet: &[u8]) {
        let packet = String::from_utf8_lossy(packet).into_owned();
        let json = || xmp::easel_json(&packet);
        self.easel_json = self.easel_json.take().or_else(json);
        self.xmp.push(packet);
    }
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
    file.seek(SeekFrom::Start(8))?;
    loop {
        let length = u64::from(u32::from_be_bytes(read_array(file)?));
        let kind: [u8; 4] = read_array(file)?;
        match &kind {
            b"IEND" => break,
            b"tEXt" | b"zTXt" | b"iTXt" => read_png_text(file, &kind, length, &mut carried)?,
            b"eXIf" if length <= MAX_UTF16_BYTES as u64 => {
                let tiff = read_text_bytes(file, length, MAX_UTF16_BYTES)?;
                carried.take_exif(tiff);
            }
            _ => skip(file, length)?,
        }
        let _checksum: [u8; 4] = read_array(file)?;
    }
    if let Some(packet) = carried.png("XML:com.adobe.xmp").map(str::to_owned) {
        carried.take_xmp(packet.as_bytes());
    }
    let easel_json = carried.png("easel").map(str::to_owned);
    carried.easel_json = easel_json.or(carried.easel_json);
    Ok(carried)
}

/// Keeps a text chunk under a known key; nothing is read into memory where the key is another's, or
/// was there before. What is too long is an error where A1111 or Easel wrote it, else left out.
fn read_png_text(
    file: &mut (impl Read + Seek),
    kind: &[u8; 4],
    length: u64,
    carried: &mut Carried,
) -> Result<(), Trouble> {
    const LONGEST_KEY: u64 = 80; // 79 bytes and the 0 behind them
    let mut head = Vec::new();
    let head_bytes = length.min(LONGEST_KEY);
    file.by_ref().take(head_bytes).read_to_end(&mut head)?;
    if (head.len() as u64) < head_bytes {
        return Err(Trouble::Broken("it ends too early"));
    }
    let rest = length - head_bytes;
    let name = head.split(|byte| *byte == 0).next().unwrap_or_default();
    let known = PNG_KEYS.iter().find(|key| key.as_bytes() == name);
    let Some(key) = known.filter(|key| carried.png(key).is_none()) else {
        return skip(file, rest);
    };
    let needed = matches!(*key, "parameters" | "easel");
    if !needed && rest > MAX_TEXT_BYTES as u64 {
        carried.left_out = true;
        return skip(file, rest);
    }
    let mut chunk = head;
    chunk.extend(read_text_bytes(file, rest, MAX_TEXT_BYTES)?);
    match decode_png_text(kind, &chunk) {
        Ok(text) => carried.png.push((key, text)),
        Err(trouble) if needed => return Err(trouble),
        Err(_) => carried.left_out = true,
    }
    Ok(())
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
        if !matches!(kind, 0xe1 | 0xfe) {
            skip(file, length)?;
            continue;
        }
        let segment = read_text_bytes(file, length, MAX_UTF16_BYTES)?;
        if kind == 0xfe {
            let comment = String::from_utf8_lossy(&segment);
            let comment = comment.trim_end_matches('\0');
            carried
                .jpeg_comment
                .get_or_insert_with(|| comment.to_owned());
        } else if let Some(tiff) = segment.strip_prefix(b"Exif\0\0") {
            carried.take_exif(tiff.to_vec());
        } else if let Some(packet) = segment.strip_prefix(XMP_PREFIX) {
            if carried.xmp.is_empty() {
                carried.take_xmp(packet);
            }
        } else if let Some(piece) = segment.strip_prefix(EXTENDED_XMP_PREFIX) {
            extended.add(piece)?;
        }
    }
    if !extended.0.is_empty() {
        carried.take_xmp(&extended.0);
    }
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
                let tiff = block.strip_prefix(b"Exif\0\0").unwrap_or(&block);
                carried.take_exif(tiff.to_vec());
            }
            b"XMP " if carried.xmp.is_empty() => {
                let packet = read_text_bytes(file, length, MAX_UTF16_BYTES)?;
                carried.take_xmp(&packet);
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
