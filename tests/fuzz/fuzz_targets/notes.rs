//! Any bytes as A1111's notes beside a LoRA.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| easel_fuzz::read_notes(bytes));
