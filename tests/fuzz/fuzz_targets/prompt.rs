//! Any text as a prompt: every reader of the grammar takes it.
#![no_main]

use std::collections::BTreeMap;

use easel_fuzz::prompt::{self, Known, template};
use easel_fuzz::request::Emphasis;

const EMPHASES: [Emphasis; 6] = [
    Emphasis::Original,
    Emphasis::NoNorm,
    Emphasis::Ignore,
    Emphasis::None,
    Emphasis::Comfyui,
    Emphasis::Compel,
];

libfuzzer_sys::fuzz_target!(|text: &str| {
    let lists = BTreeMap::from([("a".to_owned(), vec!["{b|__a__}".to_owned(), "c".to_owned()])]);
    let _ = template::resolve(text, 1, &lists);
    let _ = prompt::networks::loras(text);
    for part in prompt::compose::parts(&prompt::networks::without_tags(text)) {
        let _ = prompt::schedule::phases(&part.text, 20);
    }
    for emphasis in EMPHASES {
        let _ = prompt::pieces(text, emphasis);
        let reading = prompt::read(text, emphasis, &Known::default());
        let spans = reading.spans.iter().map(|span| &text[span.range.clone()]);
        assert_eq!(spans.collect::<String>(), text, "spans cover the text");
        for warning in &reading.warnings {
            assert!(!text[warning.range.clone()].is_empty());
        }
    }
    let _ = prompt::name_at(text, text.len() / 2);
});
