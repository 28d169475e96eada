//! Any text under a key of a PNG: the records of every program that Easel reads. The first byte picks the
//! key, the second the kind of chunk.
#![no_main]

const KEYS: &[&str] = &[
    "parameters",
    "easel",
    "XML:com.adobe.xmp",
    "prompt",
    "workflow",
    "invokeai_metadata",
    "sd-metadata",
    "Dream",
    "Comment",
    "parameters-json",
];

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let [key, kind, text @ ..] = bytes else {
        return;
    };
    let key = KEYS[usize::from(*key) % KEYS.len()].as_bytes();
    let packed = fdeflate::compress_to_vec(text);
    let (kind, head, text): (_, &[u8], _) = match kind % 3 {
        0 => (b"tEXt", b"\0", text),
        1 => (b"iTXt", b"\0\0\0\0\0", text),
        _ => (b"zTXt", b"\0\0", packed.as_slice()),
    };
    let picture = easel_fuzz::png(&[(kind, &[key, head, text].concat())]);
    easel_fuzz::as_file("text.png", &picture, |path| {
        let Ok(Some(recipe)) = easel_fuzz::output::read_recipe(path) else {
            return;
        };
        assert!(recipe.notes.len() < 1000, "notes without end");
    });
});
