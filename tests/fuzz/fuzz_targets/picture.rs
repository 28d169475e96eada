//! Any bytes as a picture file: its settings are read or refused.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    easel_fuzz::as_file("picture", bytes, |path| {
        let _ = easel_fuzz::output::read_recipe(path);
    });
});
