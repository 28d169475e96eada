//! Model files to named tensors.
