//! Model files to named tensors.
//!
//! The first station of a model on its way to the networks: [`find_weights`] names the files of a
//! folder, [`headers`] tells what they hold without reading it, [`load()`] brings them onto a device
//! and [`load_pieces`] does so under other names.
//! Nothing here knows a network, and nothing in a file is executed.

mod embedding;
mod find;
mod header;
mod load;
mod lora;
mod pickle;
mod torch_file;

pub use embedding::{EmbeddingFile, load_embedding};
pub use find::{find_weights, hub_name, hub_snapshot};
pub use header::{TensorHeader, headers, metadata, tensors_begin};
pub use load::{Cut, NamedTensors, Piece, load, load_pieces};
pub use lora::{Change, Differences, LoraFile, LowRank, load_lora};
pub use safetensors::Dtype;
