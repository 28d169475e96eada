//! A family is a config plus parts: how files become a model that draws.
//!
//! [`ModelFiles`] reads what a folder or a file is without reading its weights; [`StableDiffusion`] is
//! the loaded model. A folder's own `easel.json` wins over the family's defaults.

mod conditioner;
mod decoder;
mod embeddings;
mod family;
mod file_kind;
mod latent_space;
mod lora;
mod memory;
mod model_files;
mod part;
mod safe_vae;
mod sd;

pub use crate::text::tokenizer::ClipTokenizer;
use conditioner::Conditioner;
pub use conditioner::Encoded;
pub use decoder::{Decoder, PreviewBy};
use embeddings::{Embeddings, EncoderShape};
pub use embeddings::{EmbeddingsRead, embedding_vectors};
pub use family::Family;
pub use file_kind::FileKind;
use latent_space::LatentSpace;
use lora::Attachable;
pub use lora::Lora;
pub use memory::check_free;
use memory::{
    Footprint, available_bytes, check_room, decoder_values, leave_free, room_for_weights,
};
use model_files::load_tiny_vae;
pub use model_files::{
    Assembled, Component, ConfigFile, Inspection, ModelFiles, PartTensors, PlannedConvolution,
    vae_class,
};
pub use part::Part;
use safe_vae::{SafeVae, is_finite};
pub use sd::StableDiffusion;
