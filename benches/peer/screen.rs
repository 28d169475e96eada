//! A screen in memory, and what is on it: Xvfb, which keeps its pixels in a file.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom};
use std::ops::Range;
use std::path::Path;
use std::process::{Command, Stdio};

use easel::error::{Error, Result};

use crate::window::Program;

/// Bytes of a pixel.
const PIXEL: usize = 4;

/// Ends with this value.
pub struct Screen {
    pub display: String,
    pub whole: Area,
    pixels: File,
    /// Where they begin in the file.
    first: usize,
    /// Bytes of a row.
    row: usize,
    _server: Program,
    _folder: tempfile::TempDir,
}

/// Pixels of the screen.
pub struct Area {
    columns: Range<usize>,
    rows: Range<usize>,
}

impl Screen {
    pub fn start() -> Result<Self> {
        let failed = |error| Error::io("Starting", "Xvfb", error);
        let folder = tempfile::tempdir().map_err(failed)?;
        let mut command = Command::new("Xvfb");
        command.args(["-displayfd", "1", "-screen", "0", "1280x800x24"]);
        command
            .args(["-nolisten", "tcp", "-fbdir"])
            .arg(folder.path());
        command.stdout(Stdio::piped()).stderr(Stdio::null());
        let mut server = Program(command.spawn().map_err(failed)?);
        let mut number = String::new();
        if let Some(out) = server.0.stdout.take() {
            BufReader::new(out).read_line(&mut number).map_err(failed)?;
        }
        let (pixels, header) = read_header(&folder.path().join("Xvfb_screen0"))?;
        let [size, width, height, row, colours] = [0, 4, 5, 12, 19].map(|at| header[at] as usize);
        Ok(Self {
            display: format!(":{}", number.trim()),
            whole: Area {
                columns: 0..width,
                rows: 0..height,
            },
            pixels,
            first: size + 12 * colours,
            row,
            _server: server,
            _folder: folder,
        })
    }

    /// What is there now.
    pub fn picture(&self, area: &Area) -> Result<Vec<u8>> {
        let bytes = PIXEL * area.columns.len();
        let mut picture = vec![0; bytes * area.rows.len()];
        for (row, line) in area.rows.clone().zip(picture.chunks_exact_mut(bytes)) {
            let at = self.first + row * self.row + PIXEL * area.columns.start;
            let mut pixels = &self.pixels;
            pixels
                .seek(SeekFrom::Start(at as u64))
                .and_then(|_| pixels.read_exact(line))
                .map_err(|error| Error::io("Reading", "the screen", error))?;
        }
        Ok(picture)
    }
}

impl Area {
    /// Its first rows.
    pub fn top(self, rows: usize) -> Self {
        let end = self.rows.end.min(self.rows.start + rows);
        Self {
            rows: self.rows.start..end,
            ..self
        }
    }

    /// The smallest part outside of which two pictures of it are the same.
    pub fn changed(&self, one: &[u8], other: &[u8]) -> Option<Self> {
        let width = self.columns.len();
        let pixels = one.chunks_exact(PIXEL).zip(other.chunks_exact(PIXEL));
        let differ = pixels.enumerate().filter(|(_, (one, other))| one != other);
        let places: Vec<[usize; 2]> = differ.map(|(at, _)| [at % width, at / width]).collect();
        let [columns, rows] = [(0, &self.columns), (1, &self.rows)].map(|(axis, of)| {
            let along = places.iter().filter_map(|place| place.get(axis));
            Some(of.start + along.clone().min()?..of.start + along.max()? + 1)
        });
        Some(Self {
            columns: columns?,
            rows: rows?,
        })
    }
}

/// The 25 numbers of X's format of window dumps (`XWDFile.h`) that such a file begins with.
fn read_header(path: &Path) -> Result<(File, [u32; 25])> {
    let failed = |error| Error::io("Reading", path, error);
    let mut file = File::open(path).map_err(failed)?;
    let mut header = [0; 25];
    for number in &mut header {
        let mut bytes = [0; 4];
        file.read_exact(&mut bytes).map_err(failed)?;
        *number = u32::from_be_bytes(bytes);
    }
    Ok((file, header))
}
