//! What a model file or folder is, from its configs and headers alone.

use std::path::Path;

use crate::checkpoint::{self, TensorHeader};
use crate::error::{Error, Result};
use crate::families::{Inspection, ModelFiles, vae_class};

/// What lies at a path.
#[derive(Clone, Debug)]
pub enum Inspected {
    /// A model that Easel draws with.
    Model(Inspection),
    /// A single file of tensors: an upscaler, or something Easel does not draw with.
    File {
        /// Why it is no model by itself.
        why: String,
        /// `Real-ESRGAN compact`, `AutoencoderKL` or `AutoencoderTiny` where it is one.
        network: Option<&'static str>,
        parameters: u64,
        bytes: u64,
        tensors: Vec<TensorHeader>,
    },
}

/// Looks at a model folder, a checkpoint or another file of tensors; reads no weights.
///
/// Errors: [`Error::Model`] naming the file and what is wrong with it.
pub fn inspect(path: &Path) -> Result<Inspected> {
    let opened = ModelFiles::open(path).and_then(|files| files.inspect(false));
    let why = match opened {
        Ok(inspection) => return Ok(Inspected::Model(inspection)),
        Err(Error::Model { why, .. }) if path.is_file() => why,
        Err(error) => return Err(error),
    };
    let tensors = checkpoint::headers(&[path.to_path_buf()])?;
    let is_compact = ["body.0.weight", "body.0.bias", "body.1.weight"]
        .iter()
        .all(|key| tensors.iter().any(|tensor| tensor.name == *key));
    Ok(Inspected::File {
        why,
        network: if is_compact {
            Some("Real-ESRGAN compact")
        } else {
            vae_class(path)
        },
        parameters: tensors.iter().map(TensorHeader::elements).sum(),
        bytes: tensors.iter().map(|tensor| tensor.bytes).sum(),
        tensors,
    })
}
