//! Model files to named tensors.
//!
//! The first station of a model on its way to the networks: [`find_weights`] names the files of a
//! folder, [`headers`] tells what they hold without reading it, [`load()`] brings them onto a device
//! and [`load_pieces`] does so under other names. [`write_safetensors`] is the way back.
//! Nothing here knows a network, and nothing in a file is executed.

mod blocks;
mod embedding;
mod find;
mod gguf;
mod header;
mod load;
mod lora;
mod pickle;
mod torch_file;
mod write;

pub use blocks::Blocks;
pub use embedding::{EmbeddingFile, embedding_shapes, embedding_word, load_embedding};
pub use find::{find_weights, hub_snapshot};
pub use header::{PREDICTION_NOTE, StoredType, TensorHeader, headers, metadata, tensors_begin};
pub use load::{Cut, GoOn, NamedTensors, Piece, TensorFiles, load, load_pieces, map_pieces};
pub use lora::{Change, Differences, LoraFile, LowRank, load_lora};
pub use safetensors::Dtype;
pub use write::{Outline, write_safetensors};
