//! The text itself: prompt, negative prompt, and the line of `key: value`.

use super::keys::{NEGATIVE_TEMPLATE, TEMPLATE};
use crate::prompt::is_word;

/// With fewer settings than this a last line is taken for prompt.
pub(super) const FEWEST_SETTINGS: usize = 3;
pub(super) const NEGATIVE_PROMPT: &str = "Negative prompt:";

/// The value in JSON's quotes, where it would not be read back without them.
pub(super) fn quote(value: &str) -> Option<String> {
    let needed = value.contains([',', ':', '\n', '\r'])
        || value.starts_with(['"', '{', '['])
        || value.trim() != value;
    needed.then(|| serde_json::Value::from(value).to_string())
}

/// An infotext taken apart, nothing interpreted yet.
#[derive(Debug, PartialEq)]
pub(super) struct Parts {
    pub prompt: String,
    pub negative_prompt: Option<String>,
    /// In the order of the text.
    pub values: Vec<(String, String)>,
}

pub(super) fn split(text: &str) -> Parts {
    let mut lines: Vec<&str> = text.trim().split('\n').collect();
    lines.truncate(end_of_settings(&lines));
    let mut values = lines.last().map_or_else(Vec::new, |line| settings(line));
    if values.len() < FEWEST_SETTINGS {
        values.clear();
    } else {
        lines.pop();
    }
    let mut prompt = Vec::new();
    let mut negative: Option<Vec<&str>> = None;
    for line in lines.into_iter().map(str::trim) {
        match (&mut negative, line.strip_prefix(NEGATIVE_PROMPT)) {
            (Some(negative), Some(rest)) => negative.push(rest.trim()),
            (None, Some(rest)) => negative = Some(vec![rest.trim()]),
            (Some(negative), None) => negative.push(line),
            (None, None) => prompt.push(line),
        }
    }
    Parts {
        prompt: prompt.join("\n"),
        negative_prompt: negative.map(|lines| lines.join("\n").trim_start().to_owned()),
        values,
    }
}

/// How many lines there are without the templates that sd-dynamic-prompts puts behind the settings.
pub(super) fn end_of_settings(lines: &[&str]) -> usize {
    let is_template = |line: &&str| {
        [TEMPLATE, NEGATIVE_TEMPLATE].iter().any(|key| {
            line.strip_prefix(key)
                .is_some_and(|rest| rest.starts_with(": "))
        })
    };
    let behind_settings = lines.windows(2).rposition(|pair| match pair {
        [settings, next] => settings.starts_with("Steps: ") && is_template(next),
        _ => false,
    });
    behind_settings.map_or(lines.len(), |at| at + 1)
}

/// All `key: value` of a line, as A1111's regular expression finds them:
/// `\s*(\w[\w \-/]+):\s*("(?:\\.|[^\\"])+"|[^,]*)(?:,|$)`.
pub(super) fn settings(line: &str) -> Vec<(String, String)> {
    let mut values = Vec::new();
    let mut rest = line;
    while let Some(start) = rest.find(is_word) {
        let from = &rest[start..];
        let end = from
            .find(|c| !(is_word(c) || matches!(c, ' ' | '-' | '/')))
            .unwrap_or(from.len());
        let (key, after) = from.split_at(end);
        let Some(after) = after.strip_prefix(':').filter(|_| key.chars().count() > 1) else {
            rest = after;
            continue;
        };
        let (value, after) = value(after.trim_start());
        values.push((key.trim().to_owned(), value));
        rest = after;
    }
    values
}

/// The value at the start of `text`, and what follows its comma.
fn value(text: &str) -> (String, &str) {
    // Quoted, or the bare JSON of `Hashes` and `Civitai resources`, which holds commas itself.
    if text.starts_with(['"', '{', '[']) {
        let mut json = serde_json::Deserializer::from_str(text).into_iter::<serde_json::Value>();
        if let Some(Ok(value)) = json.next() {
            let (raw, after) = text.split_at(json.byte_offset());
            let value = match value {
                serde_json::Value::String(value) => value,
                _ => raw.to_owned(),
            };
            if after.is_empty() {
                return (value, after);
            }
            if let Some(after) = after.strip_prefix(',') {
                return (value, after);
            }
        }
    }
    let (value, after) = text.split_once(',').unwrap_or((text, ""));
    (value.trim().to_owned(), after)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(line: &str) -> Vec<(String, String)> {
        settings(line)
    }

    fn owned(values: &[(&str, &str)]) -> Vec<(String, String)> {
        values
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect()
    }

    /// The right sides are what Python's `re.findall` gives with A1111's expression, unquoted.
    #[test]
    fn a_settings_line_is_taken_apart_as_a1111_does() {
        assert_eq!(
            pairs("Steps: 20, Sampler: Euler a, CFG scale: 7, Size: 512x768"),
            owned(&[
                ("Steps", "20"),
                ("Sampler", "Euler a"),
                ("CFG scale", "7"),
                ("Size", "512x768")
            ])
        );
        assert_eq!(
            pairs(r#"Model: "a, b: \"c\" \\ d", Tiling, ControlNet 0: "x: y", Seed: 5"#),
            owned(&[
                ("Model", r#"a, b: "c" \ d"#),
                ("ControlNet 0", "x: y"),
                ("Seed", "5")
            ])
        );
        // A quoted value with something behind its quotes is taken up to its first comma.
        assert_eq!(
            pairs(r#"Note: "one, two" three, Eta: 0.5"#),
            owned(&[("Note", "\"one"), ("Eta", "0.5")])
        );
        assert_eq!(
            pairs("A: 1, !!: 2, ab: , 中文: 好"),
            owned(&[("ab", ""), ("中文", "好")])
        );
        assert_eq!(pairs(""), owned(&[]));
    }

    #[test]
    fn bare_json_values_keep_their_commas() {
        assert_eq!(
            pairs(r#"Steps: 2, Hashes: {"model": "ab", "lora:x": "cd"}, Seed: 5"#),
            owned(&[
                ("Steps", "2"),
                ("Hashes", r#"{"model": "ab", "lora:x": "cd"}"#),
                ("Seed", "5")
            ])
        );
    }

    #[test]
    fn a_short_last_line_is_prompt() {
        let parts = split("a house\nNegative prompt: blurry\nsecond: line, Steps: 3");
        assert_eq!(parts.prompt, "a house");
        assert_eq!(
            parts.negative_prompt.as_deref(),
            Some("blurry\nsecond: line, Steps: 3")
        );
        assert!(parts.values.is_empty());
    }
}
