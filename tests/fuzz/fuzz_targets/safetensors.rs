//! Any bytes as a safetensors file: its header is read, its tensors loaded, its family found.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| easel_fuzz::read_weights("model.safetensors", bytes));
