//! What the words of a prompt mean, before any token or tensor: pure text in, plain data out.
//!
//! A prompt goes through these in order:
//!
//! 1. [`template`]: wildcards `__name__` and choices `{a|b}` are drawn, seeded by the picture;
//! 2. [`networks`]: `<lora:name:0.8>` is taken out;
//! 3. [`compose`]: `AND` parts it into prompts with weights;
//! 4. [`schedule`]: `[a:b:0.5]` and `[a|b]` say which text counts at which step;
//! 5. [`mixture`]: compel's `.blend()` and `.and()` are several texts at once;
//! 6. [`attention`]: `(x:1.2)` weighs words;
//! 7. [`embeddings`]: names of files are cut out of the words. No file is read: paths come in, and who
//!    asks says how many tokens each takes.
//!
//! [`read`] looks at the whole of it at once, for people who type:
//!
//! ```no_run,standalone_crate
//! use easel::prompt::{Known, SpanKind, read};
//! use easel::request::Emphasis;
//!
//! let loras = ["pixel".to_owned()];
//! let known = Known { loras: Some(&loras), ..Known::default() };
//! let prompt = "a (red:1.2) cat <lora:pxel:1>";
//! let reading = read(prompt, Emphasis::Original, &known);
//!
//! // Spans lie side by side and cover all of the text: colour each by its kind.
//! let weight = reading.spans.iter().find(|span| span.kind == SpanKind::Weight).unwrap();
//! assert_eq!(&prompt[weight.range.clone()], ":1.2");
//!
//! // Warnings never keep anybody from drawing: underline `range`, show `message`.
//! assert_eq!(&prompt[reading.warnings[0].range.clone()], "pxel");
//!
//! // What is being typed at the cursor, to offer names for it.
//! let typed = easel::prompt::name_at("a cat, <lora:pi", 15).unwrap();
//! assert_eq!(typed.prefix, "pi");
//! ```

pub mod attention;
mod check;
mod comfyui;
mod compel;
pub mod compose;
pub mod embeddings;
pub mod mixture;
mod name;
pub mod networks;
mod python_random;
pub mod schedule;
pub mod template;
pub mod weigh;

pub use attention::{Piece, pieces};
pub use check::{Known, Reading, Span, SpanKind, Warning, read};
pub use name::{Named, TypedName, name_at};

/// Whether the character is one of a word, as regular expressions see it (`\w`).
pub fn is_word(character: char) -> bool {
    character.is_alphanumeric() || character == '_'
}

/// Every place where `word` stands by itself (`\bword\b`), as byte offsets.
pub fn whole_words<'a>(text: &'a str, word: &'a str) -> impl Iterator<Item = usize> + 'a {
    text.match_indices(word).filter_map(move |(at, _)| {
        let before = text.get(..at)?.chars().next_back();
        let after = text.get(at + word.len()..)?.chars().next();
        (!before.is_some_and(is_word) && !after.is_some_and(is_word)).then_some(at)
    })
}
