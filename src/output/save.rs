//! Puts finished pictures on the disk: whole or not at all, never over another one.

use std::path::{Path, PathBuf};

use super::encode;
use super::infotext;
use crate::error::{Error, Result};
use crate::files;
use crate::request::{PictureFormat, PictureSettings, Pixels, SaveTarget};

/// Refuses a picture that the format cannot hold; to be asked before drawing, not after.
///
/// Errors: [`Error::Request`] that names the limit and the way out.
pub fn check_size(format: PictureFormat, width_px: u32, height_px: u32) -> Result<()> {
    let limit = format.max_side_px();
    if width_px.max(height_px) <= limit {
        return Ok(());
    }
    let name = match format {
        PictureFormat::Png => "PNG",
        PictureFormat::Jpeg => "JPEG",
        PictureFormat::Webp => "WebP",
    };
    Err(Error::Request(format!(
        "{width_px} × {height_px} is too large for {name}, which holds at most {limit} pixels a side; save as PNG or choose a smaller size"
    )))
}

/// Refuses a place that cannot be written; to be asked before drawing, where nobody could choose another one
/// afterwards.
///
/// Errors: [`Error::Io`] ("Saving") with the path.
pub fn check_target(target: &SaveTarget) -> Result<()> {
    match target {
        SaveTarget::File(file) => files::check_writable(file),
        SaveTarget::Library(folder) | SaveTarget::Folder(folder) => {
            files::check_writable(&folder.join("picture"))
        }
    }
}

/// Worth saying to the person after saving: a JPEG has no room for very long prompts.
pub fn long_prompt_note(settings: &PictureSettings, format: PictureFormat) -> Option<String> {
    let long = format == PictureFormat::Jpeg && !encode::fits_jpeg(&infotext::write(settings));
    long.then(|| {
        "The settings are too long for a JPEG that other programs read; they are in a .txt file beside it."
            .to_owned()
    })
}

/// Saves picture `index` of a job, with its settings inside.
///
/// Returns where it lies. Errors: [`Error::Io`] ("Saving") with the path: a full disk, a folder
/// that cannot be written or made; [`Error::Request`] where the format cannot hold the size.
pub fn save_picture(
    pixels: &Pixels,
    settings: &PictureSettings,
    target: &SaveTarget,
    format: PictureFormat,
    index: usize,
) -> Result<PathBuf> {
    check_size(format, pixels.width_px, pixels.height_px)?;
    match target {
        SaveTarget::Library(root) => {
            let today = jiff::ZonedDateTime::now().date().to_string();
            save_numbered(pixels, settings, &root.join(today), format, "")
        }
        SaveTarget::Folder(folder) => save_numbered(pixels, settings, folder, format, ""),
        SaveTarget::File(file) => {
            let path = files::numbered(file, index);
            write(pixels, settings, &path, format)?;
            Ok(path)
        }
    }
}

/// Saves a picture that was made `factor` times as large, numbered like its neighbours; its name ends
/// in `-4x`, so that it is told from the one it was made of.
///
/// Errors: as [`save_picture`].
pub fn save_enlarged(
    pixels: &Pixels,
    settings: &PictureSettings,
    folder: &Path,
    format: PictureFormat,
    factor: u32,
) -> Result<PathBuf> {
    check_size(format, pixels.width_px, pixels.height_px)?;
    save_numbered(pixels, settings, folder, format, &format!("-{factor}x"))
}

/// 4 of `00013-1234-4x.png`.
pub fn enlarged_by(path: &Path) -> Option<u32> {
    let (_, last) = path.file_stem()?.to_str()?.rsplit_once('-')?;
    last.strip_suffix('x')?.parse().ok().filter(|by| *by > 1)
}

/// Writes a picture where the person said; the format follows the ending.
///
/// Errors: as [`save_picture`], and [`Error::Request`] for an ending that is none of the three.
pub fn save_as(pixels: &Pixels, settings: &PictureSettings, to: &Path) -> Result<()> {
    let format = PictureFormat::from_path(to).ok_or_else(|| {
        Error::Request(format!(
            "The name {} does not say which format; let it end in .png, .jpg or .webp",
            to.display()
        ))
    })?;
    check_size(format, pixels.width_px, pixels.height_px)?;
    write(pixels, settings, to, format)
}

/// Writes a forming picture as a PNG without settings.
///
/// Errors: [`Error::Io`] ("Saving") with the path.
pub fn save_plain_png(pixels: &Pixels, path: &Path) -> Result<()> {
    let bytes = encode::plain_png(pixels).map_err(|source| Error::io("Saving", path, source))?;
    files::atomic_write(path, &bytes)
}

fn write(
    pixels: &Pixels,
    settings: &PictureSettings,
    path: &Path,
    format: PictureFormat,
) -> Result<()> {
    let encoded = encode::encode(pixels, settings, format)
        .map_err(|source| Error::io("Saving", path, source))?;
    files::atomic_write(path, &encoded.bytes)?;
    write_text_beside(path, encoded.text_beside.as_deref())
}

/// `FOLDER/00001-seed{mark}.png`, without a seed that nobody knows, one above the highest number there; another program that takes the
/// same name in this moment keeps it, and this picture gets the next.
fn save_numbered(
    pixels: &Pixels,
    settings: &PictureSettings,
    folder: &Path,
    format: PictureFormat,
    mark: &str,
) -> Result<PathBuf> {
    let encoded = encode::encode(pixels, settings, format)
        .map_err(|source| Error::io("Saving", folder, source))?;
    let mut number = next_number(folder)?;
    loop {
        let seed = settings.known_seed();
        let seed = seed.map_or_else(String::new, |seed| format!("-{seed}"));
        let name = format!("{number:05}{seed}{mark}.{}", format.extension());
        let path = folder.join(name);
        if files::atomic_write_new(&path, &encoded.bytes)? {
            write_text_beside(&path, encoded.text_beside.as_deref())?;
            return Ok(path);
        }
        number = next_number(folder)?.max(number + 1);
    }
}

/// One above the highest number that a name in the folder begins with; 1 where there is none.
fn next_number(folder: &Path) -> Result<u64> {
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(1),
        Err(error) => return Err(Error::io("Saving", folder, error)),
    };
    let numbers = entries
        .flatten()
        .filter_map(|entry| number_of(Path::new(&entry.file_name())));
    Ok(numbers.max().map_or(1, |highest| highest.saturating_add(1)))
}

/// 7 of `00007-1234.png`: five digits or more, then a hyphen.
pub(super) fn number_of(path: &Path) -> Option<u64> {
    let (digits, _) = path.file_name()?.to_str()?.split_once('-')?;
    let plain = digits.len() >= 5 && digits.bytes().all(|byte| byte.is_ascii_digit());
    plain.then(|| digits.parse().ok()).flatten()
}

fn write_text_beside(picture: &Path, text: Option<&str>) -> Result<()> {
    match text {
        Some(text) => files::atomic_write(&picture.with_extension("txt"), text.as_bytes()),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_numbered_names_count() {
        for (name, number) in [
            ("00007-1234.png", Some(7)),
            ("100000-1.webp", Some(100_000)),
            ("007-1.png", None),
            ("00007.png", None),
            ("cat-1.png", None),
            ("99999999999999999999999-1.png", None),
        ] {
            assert_eq!(number_of(Path::new(name)), number, "{name}");
        }
    }

    #[test]
    fn an_enlarged_copy_is_known_by_its_name() {
        for (name, by) in [
            ("00013-1234-4x.png", Some(4)),
            ("00013-1234-16x.webp", Some(16)),
            ("00013-1234.png", None),
            ("00013-1234-x.png", None),
            ("4x.png", None),
            ("a-1x.png", None),
        ] {
            assert_eq!(enlarged_by(Path::new(name)), by, "{name}");
        }
    }

    #[test]
    fn sizes_are_refused_at_the_format_s_limit() {
        assert!(check_size(PictureFormat::Webp, 16_383, 1).is_ok());
        let error = check_size(PictureFormat::Webp, 64, 16_384).unwrap_err();
        assert!(error.to_string().contains("16383"), "{error}");
        assert!(check_size(PictureFormat::Jpeg, 65_535, 65_535).is_ok());
        assert!(check_size(PictureFormat::Jpeg, 65_536, 1).is_err());
        assert!(check_size(PictureFormat::Png, 65_536, 1).is_ok());
    }
}
