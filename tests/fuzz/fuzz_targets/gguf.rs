//! Any bytes as a GGUF file: its header is read, its blocks dequantised, its family found.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| easel_fuzz::read_weights("model.gguf", bytes));
