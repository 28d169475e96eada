//! Any bytes as the EXIF block of a picture, with a byte order in front.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let picture = easel_fuzz::webp(bytes);
    easel_fuzz::as_file("exif.webp", &picture, |path| {
        let _ = easel_fuzz::output::read_recipe(path);
    });
});
