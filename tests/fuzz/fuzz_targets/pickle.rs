//! Any bytes as a file of torch's: nothing in it is executed, whatever it says. What begins with `pickle`
//! is put into a well-formed archive, so that not every run ends at the archive's directory.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Some(pickle) = bytes.strip_prefix(b"pickle") else {
        return easel_fuzz::read_weights("model.ckpt", bytes);
    };
    let archive = easel_fuzz::archive(&[
        ("archive/data.pkl", pickle),
        ("archive/data/0", &[0; 64]),
        ("archive/version", b"3\n"),
    ]);
    easel_fuzz::read_weights("model.ckpt", &archive);
});
