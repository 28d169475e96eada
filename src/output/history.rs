//! The pictures that are there: listed newest first, shown small, opened whole.

use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use image::imageops::{self, FilterType};
use image::{DynamicImage, ImageDecoder, ImageReader, Rgb, RgbImage};

use super::save::number_of;
use crate::error::{Error, Result};
use crate::request::{PictureFormat, Pixels};

/// Side and memory that a picture may take when it is opened: a small file can claim any size.
const MAX_SIDE_PX: u32 = 65_535;
const MAX_DECODED_BYTES: u64 = 1 << 30;

/// Every saved picture in `root` and the folders in it, newest first: by the date of the folder and
/// the number of the file where they have them, by the time of the last change otherwise.
///
/// A root that does not exist yet holds nothing. Errors: [`Error::Io`] ("Reading").
pub fn list(root: &Path) -> Result<Vec<PathBuf>> {
    let mut pictures = Vec::new();
    let entries = match std::fs::read_dir(root) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(Error::io("Reading", root, error)),
    };
    for entry in entries.flatten().filter(|entry| !is_hidden(&entry.path())) {
        let path = entry.path();
        if PictureFormat::from_path(&path).is_some() && path.is_file() {
            pictures.push(Listed::new(path, None));
        } else if path.is_dir() {
            list_folder(&path, &mut pictures);
        }
    }
    pictures.sort_by(|a, b| b.age().cmp(&a.age()).then_with(|| b.path.cmp(&a.path)));
    Ok(pictures.into_iter().map(|picture| picture.path).collect())
}

/// One folder that cannot be read hides its own pictures, not the others.
fn list_folder(folder: &Path, pictures: &mut Vec<Listed>) {
    let date = folder
        .file_name()
        .and_then(|name| name.to_str()?.parse::<jiff::civil::Date>().ok());
    match std::fs::read_dir(folder) {
        Ok(entries) => pictures.extend(
            entries
                .flatten()
                .map(|entry| entry.path())
                .filter(|path| !is_hidden(path) && PictureFormat::from_path(path).is_some())
                .filter(|path| path.is_file())
                .map(|path| Listed::new(path, date)),
        ),
        Err(error) => log::warn!("{} is not listed: {error}", folder.display()),
    }
}

fn is_hidden(path: &Path) -> bool {
    path.file_name()
        .is_some_and(|name| name.as_encoded_bytes().starts_with(b"."))
}

struct Listed {
    path: PathBuf,
    date: jiff::civil::Date,
    number: Option<u64>,
    changed: SystemTime,
}

impl Listed {
    fn new(path: PathBuf, folder_date: Option<jiff::civil::Date>) -> Self {
        let number = number_of(&path);
        let changed = match (folder_date, number) {
            // Known already: thousands of files need not be asked.
            (Some(_), Some(_)) => SystemTime::UNIX_EPOCH,
            _ => path
                .metadata()
                .and_then(|file| file.modified())
                .unwrap_or(SystemTime::UNIX_EPOCH),
        };
        let date = folder_date.unwrap_or_else(|| {
            let time = jiff::Timestamp::try_from(changed).unwrap_or_default();
            time.to_zoned_datetime(jiff::tz::TimeZone::system()).date()
        });
        Self {
            path,
            date,
            number,
            changed,
        }
    }

    fn age(&self) -> impl Ord + use<> {
        (self.date, self.number, self.changed)
    }
}

/// The picture scaled down to fit a square of `size_px`; a smaller one stays as it is.
///
/// Errors: as [`open_picture`].
pub fn thumbnail(path: &Path, size_px: u32) -> Result<Pixels> {
    let picture = decode(path)?;
    let size_px = size_px.max(1);
    let (width, height) = picture.dimensions();
    let longest = width.max(height);
    if longest <= size_px {
        return Ok(pixels(picture));
    }
    let fit = |side: u32, box_px: u32| {
        let fitted = u64::from(side) * u64::from(box_px) / u64::from(longest);
        (fitted as u32).max(1)
    };
    // Averaging is fast and fair to every pixel; the good filter then has little left to do.
    let twice = size_px.saturating_mul(2);
    let picture = if longest > twice {
        imageops::thumbnail(&picture, fit(width, twice), fit(height, twice))
    } else {
        picture
    };
    let small = imageops::resize(
        &picture,
        fit(width, size_px),
        fit(height, size_px),
        FilterType::CatmullRom,
    );
    Ok(pixels(small))
}

/// The whole picture as 8-bit RGB: upright, transparency on white, 16 bits reduced to 8.
///
/// Errors: [`Error::Io`] ("Reading"), [`Error::Picture`] where it is no picture, damaged, or too
/// large for the memory.
pub fn open_picture(path: &Path) -> Result<Pixels> {
    decode(path).map(pixels)
}

fn decode(path: &Path) -> Result<RgbImage> {
    let unusable = |why: String| Error::Picture {
        path: path.to_path_buf(),
        why,
    };
    let reading = |source| Error::io("Reading", path, source);
    let file = File::open(path).map_err(reading)?;
    let mut reader = ImageReader::new(BufReader::new(file))
        .with_guessed_format()
        .map_err(reading)?;
    if reader.format().is_none_or(|format| !is_ours(format)) {
        return Err(unusable("it is not a PNG, JPEG or WebP picture".to_owned()));
    }
    reader.limits(limits());
    let decoded = || -> image::ImageResult<DynamicImage> {
        let mut decoder = reader.into_decoder()?;
        limits().check_dimensions(decoder.dimensions().0, decoder.dimensions().1)?;
        limits().reserve(decoder.total_bytes())?;
        let orientation = decoder.orientation()?;
        let mut picture = DynamicImage::from_decoder(decoder)?;
        picture.apply_orientation(orientation);
        Ok(picture)
    };
    let picture = decoded().map_err(|error| match error {
        image::ImageError::Limits(_) => unusable("it is too large to open".to_owned()),
        other => unusable(format!("it is damaged ({other})")),
    })?;
    Ok(flatten(picture))
}

fn is_ours(format: image::ImageFormat) -> bool {
    use image::ImageFormat::{Jpeg, Png, WebP};
    matches!(format, Png | Jpeg | WebP)
}

pub(super) fn limits() -> image::Limits {
    let mut limits = image::Limits::default();
    limits.max_image_width = Some(MAX_SIDE_PX);
    limits.max_image_height = Some(MAX_SIDE_PX);
    limits.max_alloc = Some(MAX_DECODED_BYTES);
    limits
}

fn flatten(picture: DynamicImage) -> RgbImage {
    if !picture.color().has_alpha() {
        return picture.into_rgb8();
    }
    let picture = picture.into_rgba8();
    let mut flat = RgbImage::new(picture.width(), picture.height());
    for (to, from) in flat.pixels_mut().zip(picture.pixels()) {
        let [red, green, blue, alpha] = from.0;
        let on_white = |value: u8| {
            let (value, alpha) = (u32::from(value), u32::from(alpha));
            ((value * alpha + 255 * (255 - alpha) + 127) / 255) as u8
        };
        *to = Rgb([on_white(red), on_white(green), on_white(blue)]);
    }
    flat
}

fn pixels(picture: RgbImage) -> Pixels {
    Pixels {
        width_px: picture.width(),
        height_px: picture.height(),
        rgb: picture.into_raw(),
    }
}
