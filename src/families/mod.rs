//! A family is a config plus parts: how files become a model that draws.
//!
//! [`ModelFolder`] reads what a folder is without reading its weights; [`StableDiffusion`] is the
//! loaded model. A folder's own `easel.json` wins over the family's defaults.

mod folder;
mod memory;
mod sd;

pub use crate::text::tokenizer::ClipTokenizer;
pub use folder::{Component, Inspection, ModelFolder};
pub use memory::Footprint;
pub use sd::StableDiffusion;
