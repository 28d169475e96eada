//! The networks, each built from its own `config.json` and named tensors.
