//! Prompt text to embeddings: the grammar, the tokenizer and CLIP's text encoder.
//!
//! [`prompt`] reads A1111's weights out of the text, [`tokenizer`] makes token numbers of it in
//! chunks as long as the encoder, [`clip`] turns chunks into embeddings.

pub mod clip;
mod clip_vocabulary;
pub mod prompt;
pub mod tokenizer;
