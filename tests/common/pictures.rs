//! Picture files with texts in them, as other programs lay them out: PNG chunks, EXIF, JPEG segments,
//! WebP chunks.

#![allow(dead_code, reason = "each test file uses some of them")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

/// A PNG of one pixel with these chunks before (`true`) or behind its picture.
pub fn png_with(chunks: &[(&[u8; 4], Vec<u8>, bool)]) -> Vec<u8> {
    let mut plain = Vec::new();
    let mut encoder = png::Encoder::new(&mut plain, 1, 1);
    encoder.set_color(png::ColorType::Rgb);
    let mut writer = encoder.write_header().unwrap();
    writer.write_image_data(&[1, 2, 3]).unwrap();
    writer.finish().unwrap();
    let added = |first: bool| -> Vec<u8> {
        let wanted = chunks.iter().filter(|(_, _, before)| *before == first);
        wanted
            .flat_map(|(kind, data, _)| {
                let length = (data.len() as u32).to_be_bytes();
                [&length[..], &kind[..], data, &[0; 4]].concat()
            })
            .collect()
    };
    let (head, rest) = plain.split_at(8 + 25);
    let (picture, end) = rest.split_at(rest.len() - 12);
    [head, &added(true), picture, &added(false), end].concat()
}

/// A PNG with these texts: Latin-1 or ASCII as `tEXt`, anything else as `iTXt`, as Pillow writes them.
pub fn png_texts(texts: &[(&str, &str)]) -> Vec<u8> {
    let chunks: Vec<(&[u8; 4], Vec<u8>, bool)> = texts
        .iter()
        .map(|(key, text)| {
            if text.chars().all(|c| u32::from(c) < 256) {
                let latin1: Vec<u8> = text.chars().map(|c| c as u8).collect();
                (b"tEXt", [key.as_bytes(), b"\0", &latin1].concat(), true)
            } else {
                let data = [key.as_bytes(), b"\0\0\0\0\0", text.as_bytes()].concat();
                (b"iTXt", data, true)
            }
        })
        .collect();
    png_with(&chunks)
}

pub const ASCII: u16 = 2;
pub const LONG: u16 = 4;
pub const UNDEFINED: u16 = 7;

/// A TIFF block with fields in its first directory and in its EXIF directory: tag, type, content.
pub fn tiff(first: &[(u16, u16, &[u8])], exif: &[(u16, u16, &[u8])], little: bool) -> Vec<u8> {
    let two = |value: u16| {
        if little {
            value.to_le_bytes()
        } else {
            value.to_be_bytes()
        }
    };
    let four = |value: u32| {
        if little {
            value.to_le_bytes()
        } else {
            value.to_be_bytes()
        }
    };
    let directory_bytes = |count: usize| 2 + 12 * count + 4;
    let pointer = u16::from(!exif.is_empty());
    let exif_at = 8 + directory_bytes(first.len() + usize::from(pointer));
    let mut data_at = exif_at
        + if exif.is_empty() {
            0
        } else {
            directory_bytes(exif.len())
        };
    let mut block = if little {
        b"II".to_vec()
    } else {
        b"MM".to_vec()
    };
    block.extend(two(42));
    block.extend(four(8));
    let mut data = Vec::new();
    let mut directory = |fields: &[(u16, u16, &[u8])], pointer: bool| {
        let count = fields.len() + usize::from(pointer);
        block.extend(two(count as u16));
        for (tag, kind, content) in fields {
            block.extend(two(*tag));
            block.extend(two(*kind));
            block.extend(four(content.len() as u32));
            if content.len() <= 4 {
                let mut inline = content.to_vec();
                inline.resize(4, 0);
                block.extend(inline);
            } else {
                block.extend(four(data_at as u32));
                data_at += content.len();
                data.extend_from_slice(content);
            }
        }
        if pointer {
            block.extend(two(0x8769));
            block.extend(two(LONG));
            block.extend(four(1));
            block.extend(four(exif_at as u32));
        }
        block.extend(four(0));
    };
    directory(first, pointer == 1);
    if pointer == 1 {
        directory(exif, false);
    }
    block.extend(data);
    block
}

/// A TIFF block whose EXIF directory holds `comment` as UserComment.
pub fn tiff_with(comment: &[u8], kind: u16, little: bool) -> Vec<u8> {
    tiff(&[], &[(0x9286, kind, comment)], little)
}

/// `UNICODE` and UTF-16 in the order of the block, big first as piexif has it.
pub fn unicode(text: &str) -> Vec<u8> {
    let text = text.encode_utf16().flat_map(u16::to_be_bytes);
    b"UNICODE\0".iter().copied().chain(text).collect()
}

/// A JPEG without a picture: its markers and segments up to where the picture would begin.
pub fn jpeg(segments: &[(u8, Vec<u8>)]) -> Vec<u8> {
    let mut bytes = vec![0xff, 0xd8];
    for (kind, content) in segments {
        bytes.extend([0xff, *kind]);
        bytes.extend((content.len() as u16 + 2).to_be_bytes());
        bytes.extend(content);
    }
    bytes.extend([0xff, 0xd9]);
    bytes
}

/// A JPEG with this EXIF block.
pub fn jpeg_exif(tiff: &[u8]) -> Vec<u8> {
    jpeg(&[(0xe1, [b"Exif\0\0", tiff].concat())])
}

/// A WebP without a picture, with this EXIF block.
pub fn webp_exif(tiff: &[u8]) -> Vec<u8> {
    let padding = &[0][..tiff.len() % 2];
    let length = (tiff.len() as u32).to_le_bytes();
    let chunk = [&b"EXIF"[..], &length, tiff, padding].concat();
    let riff = ((chunk.len() + 4) as u32).to_le_bytes();
    [&b"RIFF"[..], &riff, b"WEBP", &chunk].concat()
}
