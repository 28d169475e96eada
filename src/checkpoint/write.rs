//! Writes tensors into a safetensors file one after another: at most one of them is in memory.
//!
//! Source: the format's description, <https://github.com/huggingface/safetensors> (README, "Format").

use std::io::Write;
use std::path::Path;

use safetensors::Dtype;
use serde_json::{Map, Value, json};
use tch::{Kind, Tensor};

use super::load::stored_kind;
use crate::error::{Error, Result};

/// Bytes of a tensor that are handed on at once.
const WRITTEN_AT_ONCE: i64 = 16 << 20;
/// Headers end on a multiple of it, and so do the numbers behind them lie on theirs.
const ALIGNMENT: usize = 8;

/// A tensor that is to be written.
#[derive(Clone, Debug, PartialEq)]
pub struct Outline {
    pub name: String,
    pub shape: Vec<i64>,
    pub dtype: Dtype,
}

impl Outline {
    fn bytes(&self) -> u64 {
        let elements: i64 = self.shape.iter().product();
        elements.unsigned_abs() * (self.dtype.bitsize() as u64 / 8)
    }
}

/// Writes a whole file. `read` gives each tensor when it is its turn, in any floating type; `notes` are
/// the file's own.
///
/// The wider types come first, as the format's library writes them: every number lies on a multiple of
/// its size.
///
/// Errors: [`Error::Io`] ("Saving") with `path`, which `to` belongs to, also where the disk is full;
/// what `read` fails with; [`Error::Model`] for a tensor of another shape than said.
pub fn write_safetensors(
    path: &Path,
    to: &mut dyn Write,
    notes: &[(&str, &str)],
    mut outlines: Vec<Outline>,
    read: &mut dyn FnMut(&Outline) -> Result<Tensor>,
) -> Result<()> {
    let failed = |source| Error::io("Saving", path, source);
    outlines.sort_by(|a, b| {
        let width = |outline: &Outline| std::cmp::Reverse(outline.dtype.bitsize());
        (width(a), &a.name).cmp(&(width(b), &b.name))
    });
    let header = header(notes, &outlines);
    to.write_all(&(header.len() as u64).to_le_bytes())
        .and_then(|()| to.write_all(&header))
        .map_err(failed)?;
    for outline in &outlines {
        let tensor = read(outline)?;
        if tensor.size() != outline.shape {
            return Err(Error::model(
                path,
                format!(
                    "the tensor {} has the shape {:?}, not {:?}",
                    outline.name,
                    tensor.size(),
                    outline.shape
                ),
            ));
        }
        write_values(&tensor, outline, &mut |bytes| {
            to.write_all(bytes).map_err(failed)
        })?;
    }
    to.flush().map_err(failed)
}

/// The JSON that tells names, types, shapes and places, filled up with spaces.
fn header(notes: &[(&str, &str)], outlines: &[Outline]) -> Vec<u8> {
    let notes: Map<String, Value> = notes
        .iter()
        .map(|(name, value)| ((*name).to_owned(), json!(value)))
        .collect();
    let mut header = Map::new();
    header.insert("__metadata__".to_owned(), notes.into());
    let mut end = 0;
    for outline in outlines {
        let begin = end;
        end += outline.bytes();
        let place = json!({
            "dtype": outline.dtype, "shape": outline.shape, "data_offsets": [begin, end],
        });
        header.insert(outline.name.clone(), place);
    }
    let mut text = Value::from(header).to_string().into_bytes();
    text.resize(text.len().next_multiple_of(ALIGNMENT), b' ');
    text
}

fn write_values(
    tensor: &Tensor,
    outline: &Outline,
    to: &mut dyn FnMut(&[u8]) -> Result<()>,
) -> Result<()> {
    let kind = stored_kind(outline.dtype)
        .ok_or_else(|| Error::Request(format!("{} cannot be written", outline.dtype)))?;
    let count: i64 = outline.shape.iter().product();
    let flat = tensor.f_contiguous()?.f_view([count])?;
    let at_once = WRITTEN_AT_ONCE / kind.elt_size_in_bytes() as i64;
    let mut bytes = Vec::new();
    let mut at = 0;
    while at < count {
        let length = at_once.min(count - at);
        let piece = flat.f_narrow(0, at, length)?.f_to_kind(kind)?;
        let piece = piece.f_view_dtype(Kind::Uint8)?;
        bytes.resize(piece.numel(), 0);
        piece.f_copy_data_u8(&mut bytes, piece.numel())?;
        to(&bytes)?;
        at += length;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use tch::Device;

    use super::super::{headers, load};
    use super::*;

    fn outline(name: &str, shape: &[i64], dtype: Dtype) -> Outline {
        Outline {
            name: name.to_owned(),
            shape: shape.to_vec(),
            dtype,
        }
    }

    #[test]
    fn what_is_written_is_read_back_with_the_wider_types_first() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.safetensors");
        let outlines = vec![
            outline("b.half", &[3], Dtype::F16),
            outline("byte", &[5], Dtype::U8),
            outline("a.whole", &[2, 2], Dtype::F32),
            outline("none", &[0, 4], Dtype::BF16),
            outline("scalar", &[], Dtype::F32),
        ];
        let values = Tensor::from_slice(&[1.5f32, -2.0, 0.25, 1e-3]);
        let mut file = std::fs::File::create(&path).unwrap();
        let read = &mut |outline: &Outline| {
            let count: i64 = outline.shape.iter().product();
            Ok(values
                .repeat([2])
                .narrow(0, 0, count)
                .view(outline.shape.as_slice()))
        };
        write_safetensors(&path, &mut file, &[("format", "pt")], outlines, read).unwrap();
        let order: Vec<String> = headers(std::slice::from_ref(&path))
            .unwrap()
            .into_iter()
            .map(|header| header.name)
            .collect();
        assert_eq!(order, ["a.whole", "scalar", "b.half", "none", "byte"]);
        let tensors = load(&[path], Device::Cpu, Kind::Float, &mut |_| ())
            .unwrap()
            .tensors;
        let whole: Vec<f32> = Vec::try_from(tensors["a.whole"].view(-1)).unwrap();
        assert_eq!(whole, [1.5, -2.0, 0.25, 1e-3]);
        assert_eq!(
            Vec::<f32>::try_from(&tensors["b.half"]).unwrap(),
            [1.5, -2.0, 0.25]
        );
        assert_eq!(tensors["scalar"].double_value(&[]), 1.5);
        assert_eq!(
            Vec::<u8>::try_from(&tensors["byte"]).unwrap(),
            [1, 254, 0, 0, 1]
        );
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_full_disk_says_so() {
        let path = Path::new("/dev/full");
        let mut full = std::fs::OpenOptions::new().write(true).open(path).unwrap();
        let outlines = vec![outline("a", &[4], Dtype::F32)];
        let read = &mut |_: &Outline| Ok(Tensor::zeros([4], (Kind::Float, Device::Cpu)));
        let error = write_safetensors(path, &mut full, &[], outlines, read).unwrap_err();
        let message = error.to_string();
        assert!(
            message.contains("Saving /dev/full") && message.contains("the disk is full"),
            "{message}"
        );
    }
}
