//! A text in the lowest bits of a picture's transparency, column by column: NovelAI's, and that of the
//! extension "stealth pnginfo" of A1111.
//!
//! Source: NovelAI/novelai-image-metadata `nai_meta.py` (`LSBExtractor`): a name of 15 bytes, the
//! length in bits as 32 of them, then the text, which gzip packed.

use std::io::{BufRead, Read, Seek};

use image::{ColorType, DynamicImage, ImageDecoder, ImageReader, RgbaImage};

use crate::output::{MAX_TEXT_BYTES, history};

const PACKED: &[u8] = b"stealth_pngcomp";
const PLAIN: &[u8] = b"stealth_pnginfo";

/// The hidden text of a picture with 8 bits of transparency; anything else holds none.
pub fn read(file: &mut (impl BufRead + Seek)) -> Option<String> {
    let mut reader = ImageReader::new(file).with_guessed_format().ok()?;
    reader.limits(history::limits());
    let decoder = reader.into_decoder().ok()?;
    let (width, height) = decoder.dimensions();
    history::limits().check_dimensions(width, height).ok()?;
    history::limits().reserve(decoder.total_bytes()).ok()?;
    if decoder.color_type() != ColorType::Rgba8 {
        return None;
    }
    let picture = DynamicImage::from_decoder(decoder).ok()?.into_rgba8();
    text(&picture)
}

fn text(picture: &RgbaImage) -> Option<String> {
    let mut bytes = hidden_bytes(picture);
    let mut take = |length: usize| -> Option<Vec<u8>> {
        let taken: Vec<u8> = bytes.by_ref().take(length).collect();
        (taken.len() == length).then_some(taken)
    };
    let name = take(PACKED.len())?;
    if name != PACKED && name != PLAIN {
        return None;
    }
    let bits = u32::from_be_bytes(take(4)?.try_into().ok()?);
    let length = usize::try_from(bits / 8).ok()?;
    if length > MAX_TEXT_BYTES {
        return None;
    }
    let content = take(length)?;
    if name == PLAIN {
        return String::from_utf8(content).ok();
    }
    let mut text = String::new();
    let packed = flate2::read::GzDecoder::new(content.as_slice());
    let read = packed
        .take(MAX_TEXT_BYTES as u64 + 1)
        .read_to_string(&mut text);
    (read.ok()? <= MAX_TEXT_BYTES).then_some(text)
}

/// Eight pixels a byte, the highest bit first, down the columns.
fn hidden_bytes(picture: &RgbaImage) -> impl Iterator<Item = u8> {
    let (width, height) = picture.dimensions();
    let bit = move |index: u64| {
        let (x, y) = (index / u64::from(height), index % u64::from(height));
        picture.get_pixel(x as u32, y as u32).0[3] & 1
    };
    let count = u64::from(width) * u64::from(height) / 8;
    (0..count).map(move |byte| (0..8).fold(0, |value, at| (value << 1) | bit(8 * byte + at)))
}
