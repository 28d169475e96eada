//! CLIP's own vocabulary, for model files that come without one: every Stable Diffusion was trained
//! with it.
//!
//! Source: OpenCLIP `tokenizer.py` (`SimpleTokenizer`, `bytes_to_unicode`), whose file of merges,
//! cut to the ones in use, is `assets/clip/merges.txt`.

use serde_json::json;

/// The merges in their order, a pair a line.
const MERGES: &str = include_str!("../../assets/clip/merges.txt");

/// Both markers, the last two tokens.
pub const BEGIN: &str = "<|startoftext|>";
pub const END: &str = "<|endoftext|>";
const END_OF_WORD: &str = "</w>";

/// Pairs of tokens that become one, the most frequent first.
pub fn merges() -> Vec<(String, String)> {
    MERGES
        .lines()
        .filter_map(|line| line.split_once(' '))
        .map(|(left, right)| (left.to_owned(), right.to_owned()))
        .collect()
}

/// All tokens, each at the place that is its number: the bytes, the bytes at the end of a word, what
/// the merges give, and the markers.
pub fn tokens(merges: &[(String, String)]) -> Vec<String> {
    let bytes = letters_of_bytes();
    let within = bytes.iter().map(char::to_string);
    let at_end = bytes.iter().map(|letter| format!("{letter}{END_OF_WORD}"));
    let merged = merges.iter().map(|(left, right)| format!("{left}{right}"));
    let markers = [BEGIN, END].map(str::to_owned);
    within.chain(at_end).chain(merged).chain(markers).collect()
}

/// The files of a `tokenizer` folder as transformers writes them, by name. `length`: the text encoder's
/// longest text; `pads_zero`: OpenCLIP's way to fill texts up, else OpenAI's.
pub fn files(length: i64, pads_zero: bool) -> [(&'static str, String); 4] {
    let merges = merges();
    let tokens = tokens(&merges);
    let pad = match tokens.first() {
        Some(first) if pads_zero => first.as_str(),
        _ => END,
    };
    let vocabulary: serde_json::Map<String, serde_json::Value> = tokens
        .iter()
        .zip(0..)
        .map(|(token, number): (_, u32)| (token.clone(), number.into()))
        .collect();
    let markers = json!({"bos_token": BEGIN, "eos_token": END, "unk_token": END, "pad_token": pad});
    let mut config = markers.clone();
    config["model_max_length"] = json!(length);
    config["tokenizer_class"] = json!("CLIPTokenizer");
    config["do_lower_case"] = json!(true);
    [
        ("vocab.json", json!(vocabulary).to_string()),
        ("merges.txt", format!("#version: 0.2\n{MERGES}")),
        ("tokenizer_config.json", format!("{config:#}\n")),
        ("special_tokens_map.json", format!("{markers:#}\n")),
    ]
}

/// The letters that stand for the 256 bytes, in the order of the tokens: what is printable in
/// Latin-1 for itself, then letters from U+0100 on for the rest.
fn letters_of_bytes() -> Vec<char> {
    let printable = |letter: &char| matches!(letter, '!'..='~' | '¡'..='¬' | '®'..='ÿ');
    let mut letters: Vec<char> = ('\0'..='ÿ').filter(printable).collect();
    letters.extend(('\u{100}'..).take(256 - letters.len()));
    letters
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_has_the_size_that_text_encoders_expect() {
        let merges = merges();
        assert_eq!(merges.len(), 49_152 - 256 - 2);
        let tokens = tokens(&merges);
        assert_eq!(tokens.len(), 49_408);
        assert_eq!(tokens[0], "!");
        assert_eq!(tokens[49_407], END);
    }
}
