//! The EXIF block of a JPEG or WebP, as far as it can hold settings: the `UserComment` field, and the
//! plain texts of the first directory, where ComfyUI puts its graph.
//!
//! Source: EXIF 2.32 (TIFF 6.0 layout); the same bytes as `piexif.helper.UserComment` writes for
//! A1111: big-endian, `UNICODE\0`, UTF-16 without a byte order mark.

const UNICODE: &[u8; 8] = b"UNICODE\0";
const ASCII: &[u8; 8] = b"ASCII\0\0\0";
const UNDEFINED: &[u8; 8] = &[0; 8];
const USER_COMMENT: u16 = 0x9286;
/// `DocumentName`, `ImageDescription`, `Make`, `Model`: ComfyUI counts down from `Model`.
const PLAIN_TEXTS: std::ops::RangeInclusive<u16> = 0x010c..=0x0110;

/// A TIFF block with `text` as its only field, without the `Exif\0\0` prefix of JPEG.
///
/// `None` where it would be larger than the 4 GB that its offsets reach.
pub fn with_user_comment(text: &str) -> Option<Vec<u8>> {
    let mut comment = UNICODE.to_vec();
    comment.extend(text.encode_utf16().flat_map(u16::to_be_bytes));
    let count = u32::try_from(comment.len()).ok()?;

    let mut tiff = b"MM\0\x2a".to_vec();
    tiff.extend(8u32.to_be_bytes()); // where the first directory lies
    // The first directory: one entry, the place of the EXIF directory.
    tiff.extend(1u16.to_be_bytes());
    push_entry(&mut tiff, 0x8769, 4, 1, 26);
    tiff.extend(0u32.to_be_bytes()); // no further directory
    // The EXIF directory, at 26: one entry, UserComment, whose bytes follow at 44.
    tiff.extend(1u16.to_be_bytes());
    push_entry(&mut tiff, 0x9286, 7, count, 44);
    tiff.extend(0u32.to_be_bytes());
    tiff.extend(comment);
    Some(tiff)
}

fn push_entry(tiff: &mut Vec<u8>, tag: u16, kind: u16, count: u32, value: u32) {
    tiff.extend(tag.to_be_bytes());
    tiff.extend(kind.to_be_bytes());
    tiff.extend(count.to_be_bytes());
    tiff.extend(value.to_be_bytes());
}

/// What an EXIF block says in words.
#[derive(Debug, Default, PartialEq)]
pub struct ExifTexts {
    pub user_comment: Option<String>,
    /// The fields of [`PLAIN_TEXTS`].
    pub others: Vec<String>,
}

/// The texts of an EXIF block; `UserComment` in either byte order and any of the encodings that
/// programs write, also where it stands in the first directory (Fooocus, by Pillow).
///
/// `tiff`: the block without the `Exif\0\0` prefix.
pub fn texts(tiff: Vec<u8>) -> ExifTexts {
    let mut reader = exif::Reader::new();
    reader.continue_on_error(true);
    let block = reader
        .read_raw(tiff)
        .or_else(|error| error.distill_partial_result(|_| ()));
    let Ok(block) = block else {
        return ExifTexts::default();
    };
    // Field by field, not all: a hostile block holds thousands that share the same megabytes.
    let field = |context, number| {
        let tag = exif::Tag(context, number);
        block.get_field(tag, exif::In::PRIMARY)
    };
    let comment = [exif::Context::Exif, exif::Context::Tiff]
        .into_iter()
        .find_map(|context| bytes_of(&field(context, USER_COMMENT)?.value));
    let others = PLAIN_TEXTS
        .filter_map(|number| bytes_of(&field(exif::Context::Tiff, number)?.value))
        .map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    ExifTexts {
        user_comment: comment.map(|bytes| decode(&bytes, block.little_endian())),
        others: others.collect(),
    }
}

/// The bytes of a field that holds some kind of text.
fn bytes_of(value: &exif::Value) -> Option<Vec<u8>> {
    match value {
        // Pillow calls a comment a list of bytes, some phones a text.
        exif::Value::Undefined(bytes, _) | exif::Value::Byte(bytes) => Some(bytes.clone()),
        exif::Value::Ascii(texts) => Some(texts.join(&0)),
        _ => None,
    }
}

fn decode(bytes: &[u8], little_endian: bool) -> String {
    let text = match bytes.split_first_chunk::<8>() {
        Some((UNICODE, text)) => decode_utf16(text, little_endian),
        Some((ASCII | UNDEFINED, text)) => String::from_utf8_lossy(text).into_owned(),
        _ => String::from_utf8_lossy(bytes).into_owned(),
    };
    text.trim_end_matches('\0').to_owned()
}

/// The standard leaves the byte order open, and programs differ: the order that gives more ASCII
/// is meant, for every settings line is ASCII; the block's own order decides where none does.
fn decode_utf16(bytes: &[u8], little_endian: bool) -> String {
    match bytes {
        [0xfe, 0xff, text @ ..] => return utf16(text, u16::from_be_bytes),
        [0xff, 0xfe, text @ ..] => return utf16(text, u16::from_le_bytes),
        _ => {}
    }
    let big = utf16(bytes, u16::from_be_bytes);
    let little = utf16(bytes, u16::from_le_bytes);
    let ascii = |text: &str| text.chars().filter(char::is_ascii).count();
    match ascii(&big).cmp(&ascii(&little)) {
        std::cmp::Ordering::Greater => big,
        std::cmp::Ordering::Less => little,
        std::cmp::Ordering::Equal if little_endian => little,
        std::cmp::Ordering::Equal => big,
    }
}

fn utf16(bytes: &[u8], unit: fn([u8; 2]) -> u16) -> String {
    let (pairs, _odd) = bytes.as_chunks::<2>();
    let units = pairs.iter().map(|pair| unit(*pair));
    char::decode_utf16(units)
        .map(|unit| unit.unwrap_or(char::REPLACEMENT_CHARACTER))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_what_piexif_writes() {
        let tiff = with_user_comment("a\u{4e2d}").unwrap();
        // From: piexif.dump({"Exif": {0x9286: UserComment.dump("a中", "unicode")}})[6:]
        let expected = b"MM\x00\x2a\x00\x00\x00\x08\
            \x00\x01\x87\x69\x00\x04\x00\x00\x00\x01\x00\x00\x00\x1a\x00\x00\x00\x00\
            \x00\x01\x92\x86\x00\x07\x00\x00\x00\x0c\x00\x00\x00\x2c\x00\x00\x00\x00\
            UNICODE\x00\x00a\x4e\x2d";
        assert_eq!(tiff, expected);
        assert_eq!(texts(tiff).user_comment.as_deref(), Some("a\u{4e2d}"));
    }

    #[test]
    fn every_encoding_and_byte_order_is_read() {
        let big: Vec<u8> = "Steps: 20, 中"
            .encode_utf16()
            .flat_map(u16::to_be_bytes)
            .collect();
        let little: Vec<u8> = "Steps: 20, 中"
            .encode_utf16()
            .flat_map(u16::to_le_bytes)
            .collect();
        for (prefix, text, wanted) in [
            (&UNICODE[..], &big[..], "Steps: 20, 中"),
            (&UNICODE[..], &little[..], "Steps: 20, 中"),
            (&b"UNICODE\0\xff\xfe"[..], &little[..], "Steps: 20, 中"),
            (&b"UNICODE\0\xfe\xff"[..], &big[..], "Steps: 20, 中"),
            (&ASCII[..], b"Steps: 20", "Steps: 20"),
            (&UNDEFINED[..], "Steps: 20, 中".as_bytes(), "Steps: 20, 中"),
            (&b""[..], b"Steps: 20, no prefix", "Steps: 20, no prefix"),
        ] {
            for little_endian in [false, true] {
                let bytes = [prefix, text].concat();
                assert_eq!(decode(&bytes, little_endian), wanted);
            }
        }
        assert_eq!(decode(b"UNICODE\0\x00", false), "");
    }

    #[test]
    fn rubbish_is_no_comment_and_no_panic() {
        for bytes in [&b""[..], b"MM", b"MM\0\x2a\xff\xff\xff\xff", &[0xff; 64]] {
            assert_eq!(texts(bytes.to_vec()), ExifTexts::default());
        }
        let mut cut = with_user_comment("Steps: 20").unwrap();
        cut.truncate(50);
        assert_eq!(texts(cut), ExifTexts::default());
    }
}
