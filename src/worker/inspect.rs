//! What a model file or folder is, from its configs and headers alone.

use std::path::Path;

use crate::checkpoint::{self, TensorHeader};
use crate::error::Result;
use crate::families::{Inspection, ModelFolder};

/// What lies at a path.
#[derive(Clone, Debug)]
pub enum Inspected {
    /// A model that Easel draws with.
    Model(Inspection),
    /// A single file of tensors: an upscaler, or something Easel does not draw with.
    File {
        /// `Real-ESRGAN compact` where it is one.
        network: Option<&'static str>,
        parameters: u64,
        bytes: u64,
        tensors: Vec<TensorHeader>,
    },
}

/// Looks at a model folder or a safetensors file; reads no weights.
///
/// Errors: [`crate::error::Error::Model`] naming the file and what is wrong with it.
pub fn inspect(path: &Path) -> Result<Inspected> {
    if !path.is_file() {
        return ModelFolder::open(path)?
            .inspect(false)
            .map(Inspected::Model);
    }
    let tensors = checkpoint::headers(&[path.to_path_buf()])?;
    let is_compact = ["body.0.weight", "body.0.bias", "body.1.weight"]
        .iter()
        .all(|key| tensors.iter().any(|tensor| tensor.name == *key));
    Ok(Inspected::File {
        network: is_compact.then_some("Real-ESRGAN compact"),
        parameters: tensors.iter().map(TensorHeader::elements).sum(),
        bytes: tensors.iter().map(|tensor| tensor.bytes).sum(),
        tensors,
    })
}
