//! Prompt text to embeddings: the tokenizer and CLIP's text encoder.
//!
//! [`crate::prompt`] reads weights out of the text, [`tokenizer`] makes token numbers of it in chunks
//! as long as the encoder, [`clip`] turns chunks into embeddings, [`weighting`] makes some of them count
//! more.

pub mod clip;
pub mod clip_vocabulary;
pub mod tokenizer;
pub mod weighting;
