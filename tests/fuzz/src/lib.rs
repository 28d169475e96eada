//! What the fuzz targets share: Easel's readers, and files made around what the fuzzer thinks of.

pub use easel::{checkpoint, families, models, output, prompt, request, schedule, text, worker};

use std::path::{Path, PathBuf};

/// A folder of this process, in memory where `TMPDIR` names such a place.
pub fn folder() -> PathBuf {
    let folder = std::env::temp_dir().join(format!("easel-fuzz-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("the temporary folder can be written");
    folder
}

/// Hands `bytes` over as a file of this name.
pub fn as_file(name: &str, bytes: &[u8], read: impl FnOnce(&Path)) {
    let path = folder().join(name);
    std::fs::write(&path, bytes).expect("the temporary folder can be written");
    read(&path);
}

/// A PNG of no pixels with these chunks.
pub fn png(chunks: &[(&[u8; 4], &[u8])]) -> Vec<u8> {
    let mut bytes = b"\x89PNG\r\n\x1a\n".to_vec();
    for (kind, data) in chunks.iter().chain(&[(b"IEND", &b""[..])]) {
        bytes.extend((data.len() as u32).to_be_bytes());
        bytes.extend(*kind);
        bytes.extend(*data);
        bytes.extend([0; 4]);
    }
    bytes
}

/// A WebP of no pixels with this EXIF block.
pub fn webp(exif: &[u8]) -> Vec<u8> {
    let padding = &[0][..exif.len() % 2];
    let length = (exif.len() as u32).to_le_bytes();
    let chunk = [&b"EXIF"[..], &length, exif, padding].concat();
    let riff = ((chunk.len() + 4) as u32).to_le_bytes();
    [&b"RIFF"[..], &riff, b"WEBP", &chunk].concat()
}

/// Reads a file as weights in every way there is: headers, tensors, LoRA, model.
pub fn read_weights(name: &str, bytes: &[u8]) {
    as_file(name, bytes, |path| {
        if let Ok(headers) = checkpoint::headers(&[path.to_path_buf()]) {
            let whole: u64 = headers.iter().map(|header| header.bytes).sum();
            assert!(
                whole <= bytes.len() as u64,
                "tensors larger than their file"
            );
        }
        let files = [path.to_path_buf()];
        let _ = checkpoint::load(&files, tch::Device::Cpu, tch::Kind::Float, &mut |_| {});
        let _ = checkpoint::load_lora(path, tch::Device::Cpu, tch::Kind::Float);
        let _ = families::ModelFiles::open(path);
        let _ = worker::inspect(path);
    });
}

/// Reads what lies beside a LoRA as A1111's notes of it.
pub fn read_notes(bytes: &[u8]) {
    as_file(
        "lora.safetensors",
        include_bytes!("../seeds/safetensors/lora"),
        |lora| {
            as_file("lora.json", bytes, |_| drop(worker::inspect(lora)));
        },
    );
}

/// A zip archive of stored files, as torch writes one.
pub fn archive(files: &[(&str, &[u8])]) -> Vec<u8> {
    let (mut bytes, mut directory) = (Vec::new(), Vec::new());
    for (name, content) in files {
        let at = (bytes.len() as u32).to_le_bytes();
        let length = (content.len() as u32).to_le_bytes();
        let mut entry = vec![20, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        entry.extend(crc32(content).to_le_bytes());
        entry.extend(length);
        entry.extend(length);
        entry.extend((name.len() as u16).to_le_bytes());
        entry.extend([0, 0]);
        bytes.extend(b"PK\x03\x04");
        bytes.extend(&entry);
        bytes.extend(name.as_bytes());
        bytes.extend(*content);
        directory.extend(b"PK\x01\x02\x14\0");
        directory.extend(&entry);
        directory.extend([0; 10]);
        directory.extend(at);
        directory.extend(name.as_bytes());
    }
    let count = (files.len() as u16).to_le_bytes();
    let at = (bytes.len() as u32).to_le_bytes();
    let length = (directory.len() as u32).to_le_bytes();
    bytes.extend(directory);
    bytes.extend(b"PK\x05\x06\0\0\0\0");
    bytes.extend([count, count].concat());
    bytes.extend(length);
    bytes.extend(at);
    bytes.extend([0, 0]);
    bytes
}

fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            (crc >> 1) ^ (0xedb8_8320 * (crc & 1))
        })
    })
}
