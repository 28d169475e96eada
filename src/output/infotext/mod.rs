//! A1111's infotext: the settings as one readable text, written and read.
//!
//! Prompt, a line `Negative prompt: ...`, and a last line `Steps: 20, Sampler: ..., ...`.
//! Source: AUTOMATIC1111 stable-diffusion-webui 1.10, `modules/infotext_utils.py`
//! (`parse_generation_parameters`, `quote`, `unquote`) and `modules/processing.py`
//! (`create_infotext`).

mod keys;
mod read;
mod text;
mod write;

pub use read::read;
pub use write::{of_request, write};
