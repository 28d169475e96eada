//! Prompt text to embeddings: the grammar, the tokenizer and CLIP's text encoder.
