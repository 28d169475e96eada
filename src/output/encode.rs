//! Pixels and settings to the bytes of a PNG, JPEG or WebP file.
//!
//! The keys, their order and their encodings are those of A1111's `modules/images.py` and
//! `piexif`, so that the programs people use already read them.

use std::io;

use image::ExtendedColorType::Rgb8;
use image::codecs::jpeg::JpegEncoder;
use image::codecs::webp::WebPEncoder;
use sha2::{Digest, Sha256};

use super::xmp::{self, Source};
use super::{exif, infotext};
use crate::request::{PictureFormat, PictureSettings, Pixels};

/// Out of 100: no visible loss.
const JPEG_QUALITY: u8 = 95;
/// The bytes that one JPEG segment can hold.
const JPEG_SEGMENT_BYTES: usize = 65_533;
const XMP_KEY: &str = "XML:com.adobe.xmp";
const EXIF_PREFIX: &[u8] = b"Exif\0\0";
pub(super) const XMP_PREFIX: &[u8] = b"http://ns.adobe.com/xap/1.0/\0";
pub(super) const EXTENDED_XMP_PREFIX: &[u8] = b"http://ns.adobe.com/xmp/extension/\0";
/// Prefix, GUID, whole length, offset.
const EXTENDED_XMP_HEADER_BYTES: usize = EXTENDED_XMP_PREFIX.len() + 32 + 4 + 4;

/// A picture file in memory.
pub(super) struct Encoded {
    pub bytes: Vec<u8>,
    /// The infotext, where the format has no room for it: goes into a `.txt` file beside.
    pub text_beside: Option<String>,
}

/// Encodes a picture with its settings inside.
///
/// Errors: of kind `InvalidInput` where the pixels do not fit their size or the format's limits.
pub(super) fn encode(
    pixels: &Pixels,
    settings: &PictureSettings,
    format: PictureFormat,
) -> io::Result<Encoded> {
    check_data(pixels)?;
    // No text format can carry the character 0.
    let text = infotext::write(settings).replace('\0', "");
    // Of another program's picture nothing is on record but its text.
    let json = match settings.foreign {
        Some(_) => None,
        None => Some(serde_json::to_string(settings).map_err(io::Error::other)?),
    };
    let json = json.as_deref();
    let source = Source::of(settings);
    let whole = |bytes| Encoded {
        bytes,
        text_beside: None,
    };
    match format {
        PictureFormat::Png => {
            let xmp = xmp::packet(source, None, None);
            let mut texts = vec![("parameters", &*text)];
            texts.extend(json.map(|json| ("easel", json)));
            texts.push((XMP_KEY, &xmp));
            png(pixels, &texts).map(whole)
        }
        PictureFormat::Jpeg => jpeg(pixels, text, json, source),
        PictureFormat::Webp => webp(pixels, &text, json, source).map(whole),
    }
}

fn check_data(pixels: &Pixels) -> io::Result<()> {
    let wanted = 3 * u64::from(pixels.width_px) * u64::from(pixels.height_px);
    if pixels.rgb.len() as u64 == wanted {
        Ok(())
    } else {
        Err(invalid("the picture's data does not fit its size"))
    }
}

/// Whether a JPEG has room for the infotext.
pub(super) fn fits_jpeg(infotext: &str) -> bool {
    // The layout of `exif::with_user_comment`: 52 bytes, then two a UTF-16 unit.
    EXIF_PREFIX.len() + 52 + 2 * infotext.encode_utf16().count() <= JPEG_SEGMENT_BYTES
}

/// A PNG without settings: a forming picture.
pub(super) fn plain_png(pixels: &Pixels) -> io::Result<Vec<u8>> {
    check_data(pixels)?;
    png(pixels, &[])
}

/// `texts`: keys and texts, as `tEXt` where they are ASCII.
fn png(pixels: &Pixels, texts: &[(&str, &str)]) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, pixels.width_px, pixels.height_px);
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_depth(png::BitDepth::Eight);
    for (key, text) in texts {
        // Every reader looks for XMP in `iTXt`.
        if text.is_ascii() && *key != XMP_KEY {
            encoder.add_text_chunk((*key).to_owned(), (*text).to_owned())?;
        } else {
            encoder.add_itxt_chunk((*key).to_owned(), (*text).to_owned())?;
        }
    }
    let mut writer = encoder.write_header()?;
    writer.write_image_data(&pixels.rgb)?;
    writer.finish()?;
    Ok(bytes)
}

fn jpeg(pixels: &Pixels, text: String, json: Option<&str>, source: Source) -> io::Result<Encoded> {
    let mut drawn = Vec::new();
    JpegEncoder::new_with_quality(&mut drawn, JPEG_QUALITY)
        .encode(&pixels.rgb, pixels.width_px, pixels.height_px, Rgb8)
        .map_err(encoding_failed)?;

    let mut segments = Vec::new();
    let fits = fits_jpeg(&text);
    if let Some(tiff) = exif::with_user_comment(&text).filter(|_| fits) {
        push_app1(&mut segments, &[EXIF_PREFIX, &tiff]);
    }
    push_xmp(&mut segments, json, source);

    // After the JFIF header, where the encoder wrote one.
    let at = match drawn.get(2..6) {
        Some([0xff, 0xe0, high, low]) => 4 + usize::from(u16::from_be_bytes([*high, *low])),
        _ => 2,
    };
    let (head, tail) = drawn
        .split_at_checked(at)
        .ok_or_else(|| invalid("the JPEG encoder wrote no picture"))?;
    Ok(Encoded {
        bytes: [head, &segments, tail].concat(),
        text_beside: (!fits).then_some(text),
    })
}

/// Easel's record in the XMP packet, or in as many extension segments as it needs.
fn push_xmp(segments: &mut Vec<u8>, json: Option<&str>, source: Source) {
    let packet = xmp::packet(source, json, None);
    let fits = XMP_PREFIX.len() + packet.len() <= JPEG_SEGMENT_BYTES;
    let Some(json) = json.filter(|_| !fits) else {
        push_app1(segments, &[XMP_PREFIX, packet.as_bytes()]);
        return;
    };
    let extended = xmp::extended_packet(json);
    // The specification wants 32 hex digits that name the content (it suggests MD5).
    let guid: String = Sha256::digest(extended.as_bytes())
        .iter()
        .take(16)
        .map(|byte| format!("{byte:02X}"))
        .collect();
    let packet = xmp::packet(source, None, Some(&guid));
    push_app1(segments, &[XMP_PREFIX, packet.as_bytes()]);
    let length = (extended.len() as u32).to_be_bytes();
    let piece_bytes = JPEG_SEGMENT_BYTES - EXTENDED_XMP_HEADER_BYTES;
    for (index, piece) in extended.as_bytes().chunks(piece_bytes).enumerate() {
        let offset = ((index * piece_bytes) as u32).to_be_bytes();
        let parts = [
            EXTENDED_XMP_PREFIX,
            guid.as_bytes(),
            &length,
            &offset,
            piece,
        ];
        push_app1(segments, &parts);
    }
}

/// `parts` together hold at most [`JPEG_SEGMENT_BYTES`].
fn push_app1(segments: &mut Vec<u8>, parts: &[&[u8]]) {
    let content = parts.concat();
    segments.extend([0xff, 0xe1]);
    segments.extend((content.len() as u16 + 2).to_be_bytes());
    segments.extend(content);
}

fn webp(pixels: &Pixels, text: &str, json: Option<&str>, source: Source) -> io::Result<Vec<u8>> {
    let mut drawn = Vec::new();
    WebPEncoder::new_lossless(&mut drawn)
        .encode(&pixels.rgb, pixels.width_px, pixels.height_px, Rgb8)
        .map_err(encoding_failed)?;
    let picture = drawn
        .get(12..)
        .ok_or_else(|| invalid("the WebP encoder wrote no picture"))?;

    let mut chunks = b"WEBP".to_vec();
    push_chunk(&mut chunks, b"VP8X", &webp_header(pixels));
    chunks.extend(picture);
    if let Some(tiff) = exif::with_user_comment(text) {
        push_chunk(&mut chunks, b"EXIF", &tiff);
    }
    push_chunk(
        &mut chunks,
        b"XMP ",
        xmp::packet(source, json, None).as_bytes(),
    );
    let length =
        u32::try_from(chunks.len()).map_err(|_| invalid("a WebP file holds at most 4 GB"))?;
    Ok([b"RIFF", &length.to_le_bytes()[..], &chunks].concat())
}

/// Flags (EXIF and XMP follow, no alpha), then the size less one in 24 bits each.
fn webp_header(pixels: &Pixels) -> [u8; 10] {
    const EXIF_AND_XMP: u8 = 0x08 | 0x04;
    let [w0, w1, w2, _] = pixels.width_px.saturating_sub(1).to_le_bytes();
    let [h0, h1, h2, _] = pixels.height_px.saturating_sub(1).to_le_bytes();
    [EXIF_AND_XMP, 0, 0, 0, w0, w1, w2, h0, h1, h2]
}

fn push_chunk(chunks: &mut Vec<u8>, name: &[u8; 4], content: &[u8]) {
    chunks.extend(name);
    chunks.extend((content.len() as u32).to_le_bytes());
    chunks.extend(content);
    if content.len() % 2 == 1 {
        chunks.push(0);
    }
}

fn invalid(why: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, why)
}

fn encoding_failed(error: image::ImageError) -> io::Error {
    match error {
        image::ImageError::IoError(error) => error,
        other => io::Error::new(io::ErrorKind::InvalidInput, other),
    }
}
