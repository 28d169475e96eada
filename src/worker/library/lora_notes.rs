//! How a LoRA is to be used, as far as somebody wrote it down: in the header of its file (kohya's tools,
//! ModelSpec), and in the file that A1111 keeps beside it, `NAME.json`.
//!
//! Source: A1111 1.10 `extensions-builtin/Lora/ui_edit_user_metadata.py` (`build_tags`,
//! `save_lora_user_metadata`), `ui_extra_networks_lora.py`; kohya's sd-scripts `train_network.py`
//! (`ss_tag_frequency`); Stability's ModelSpec 1.0.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::Value;

use crate::checkpoint;
use crate::request::LoraNotes;

/// Where ModelSpec has the words that call what was learnt.
const TRIGGER: &str = "modelspec.trigger_phrase";
/// Where kohya's tools count the tags of all captions, by folder; JSON in a text.
const TAG_FREQUENCY: &str = "ss_tag_frequency";
/// That of a hundred thousand pictures stays below this.
const MAX_TAGS_BYTES: usize = 16 << 20;
/// A page of text.
const MAX_BESIDE_BYTES: u64 = 1 << 20;
/// Tags that are kept, the most frequent first.
const MOST_TAGS: usize = 12;
/// Letters of each text that are kept.
const MOST_LETTERS: usize = 2_000;
/// Tags longer than this on average are whole sentences: their words count.
const LETTERS_OF_SENTENCES: usize = 16;
const LEAST_LETTERS_OF_A_WORD: usize = 3;
/// A preferred weight beyond is a slip.
const STRONGEST: f64 = 10.0;

/// All that is written of the LoRA at `path`.
pub(in crate::worker) fn of(path: &Path) -> LoraNotes {
    let words = checkpoint::metadata(path).unwrap_or_default();
    let beside = beside(path).map(|beside| in_file(&beside));
    both(in_header(&words), beside.unwrap_or_default())
}

/// What the header says and what the file beside says.
pub(super) fn both(header: LoraNotes, beside: LoraNotes) -> LoraNotes {
    let LoraNotes { trigger, tags, .. } = header;
    LoraNotes {
        trigger,
        tags,
        ..beside
    }
}

/// The file that A1111 keeps beside one of this name, where there may be one.
pub(super) fn beside(path: &Path) -> Option<PathBuf> {
    Some(path.with_extension("json")).filter(|beside| beside != path)
}

/// What the header says.
pub(super) fn in_header(words: &BTreeMap<String, String>) -> LoraNotes {
    let tags = words.get(TAG_FREQUENCY);
    let tags = tags.filter(|text| text.len() <= MAX_TAGS_BYTES);
    LoraNotes {
        trigger: words
            .get(TRIGGER)
            .map(|text| plain(text))
            .unwrap_or_default(),
        tags: tags.map(|text| most_frequent(text)).unwrap_or_default(),
        ..LoraNotes::default()
    }
}

/// What the file beside says; one that cannot be read says nothing.
pub(super) fn in_file(beside: &Path) -> LoraNotes {
    let said = read(beside).unwrap_or_default();
    let text = |key: &str| said.get(key).and_then(Value::as_str).unwrap_or_default();
    let weight = said.get("preferred weight").and_then(Value::as_f64);
    let both = [text("description"), text("notes")].map(str::trim);
    let notes: Vec<&str> = both.into_iter().filter(|text| !text.is_empty()).collect();
    LoraNotes {
        activation: plain(text("activation text")),
        negative: plain(text("negative text")),
        // 0 is what A1111 writes where nothing is preferred.
        weight: weight.filter(|weight| *weight != 0.0 && weight.abs() <= STRONGEST),
        notes: notes.join("\n").chars().take(MOST_LETTERS).collect(),
        ..LoraNotes::default()
    }
}

fn read(path: &Path) -> Option<HashMap<String, Value>> {
    let metadata = std::fs::metadata(path).ok()?;
    let is_page = metadata.is_file() && metadata.len() <= MAX_BESIDE_BYTES;
    let bytes = std::fs::read(path).ok().filter(|_| is_page)?;
    serde_json::from_slice(&bytes).ok()
}

/// In one line.
fn plain(text: &str) -> String {
    let words: Vec<&str> = text.split_whitespace().collect();
    words.join(" ").chars().take(MOST_LETTERS).collect()
}

/// The tags of all folders together.
fn most_frequent(text: &str) -> Vec<String> {
    #[derive(Deserialize)]
    #[serde(transparent)]
    struct Folders(BTreeMap<String, BTreeMap<String, Value>>);
    let Ok(Folders(folders)) = serde_json::from_str(text) else {
        return Vec::new();
    };
    let mut counts: BTreeMap<String, u64> = BTreeMap::new();
    for (tag, count) in folders.into_values().flatten() {
        let count = count.as_u64().or_else(|| count.as_str()?.parse().ok());
        let (tag, count) = (plain(&tag), count.unwrap_or_default());
        if !tag.is_empty() {
            let all = counts.entry(tag).or_default();
            *all = all.saturating_add(count);
        }
    }
    let letters: usize = counts.keys().map(|tag| tag.chars().count()).sum();
    if letters >= counts.len().saturating_mul(LETTERS_OF_SENTENCES) {
        counts = words_of(&counts);
    }
    let mut tags: Vec<(String, u64)> = counts.into_iter().collect();
    tags.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    tags.truncate(MOST_TAGS);
    tags.into_iter().map(|(tag, _)| tag).collect()
}

fn words_of(sentences: &BTreeMap<String, u64>) -> BTreeMap<String, u64> {
    let mut words: BTreeMap<String, u64> = BTreeMap::new();
    for (sentence, count) in sentences {
        let is_letter = |c: char| c.is_alphanumeric() || "-_'".contains(c);
        let long = |word: &&str| word.chars().count() >= LEAST_LETTERS_OF_A_WORD;
        for word in sentence.split(|c| !is_letter(c)).filter(long) {
            let all = words.entry(word.to_owned()).or_default();
            *all = all.saturating_add(*count);
        }
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        let owned = |(key, text): &(&str, &str)| ((*key).to_owned(), (*text).to_owned());
        pairs.iter().map(owned).collect()
    }

    #[test]
    fn the_tags_of_all_folders_count_together_and_the_most_frequent_come_first() {
        let tags =
            r#"{"10_a": {"red": 3, " blue ": 2, "": 99}, "2_b": {"blue": "4", "green": null}}"#;
        let notes = in_header(&header(&[(TAG_FREQUENCY, tags), (TRIGGER, " ink\n wash ")]));
        assert_eq!(notes.tags, ["blue", "red", "green"]);
        assert_eq!(notes.trigger, "ink wash");
        // Of sentences the words count, but for short ones.
        let sentences =
            r#"{"1_a": {"a fox in the deep red forest": 2, "the quick fox's brown friend": 3}}"#;
        let notes = in_header(&header(&[(TAG_FREQUENCY, sentences)]));
        assert_eq!(notes.tags[..3], ["the", "brown", "fox's"]);
        assert!(!notes.tags.iter().any(|word| word == "in"));
    }

    #[test]
    fn hostile_words_are_bounded_and_say_nothing() {
        let many: Vec<String> = (0..1000)
            .map(|n| format!("\"t{n}\": {}", u64::MAX))
            .collect();
        let many = format!("{{\"a\": {{{}}}}}", many.join(","));
        let deep = "[".repeat(100_000);
        let long = "x".repeat(1 << 20);
        assert_eq!(
            in_header(&header(&[(TAG_FREQUENCY, &many)])).tags.len(),
            MOST_TAGS
        );
        for text in [deep.as_str(), "{\"a\": 3}", "{\"a\": {\"b\": {}}", ""] {
            assert_eq!(
                in_header(&header(&[(TAG_FREQUENCY, text)])),
                LoraNotes::default()
            );
        }
        let notes = in_header(&header(&[(TRIGGER, &long)]));
        assert_eq!(notes.trigger.len(), MOST_LETTERS);
    }

    #[test]
    fn a1111s_file_beside_says_what_a_person_noted() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ink.v2.safetensors");
        let beside = beside(&path).unwrap();
        assert_eq!(beside, folder.path().join("ink.v2.json"));
        let written = |text: &str| {
            std::fs::write(&beside, text).unwrap();
            in_file(&beside)
        };
        let notes = written(
            r#"{"description": "Ink.", "sd version": "SD1", "activation text": "ink wash",
                "preferred weight": 0.75, "negative text": "photo", "notes": "Mine."}"#,
        );
        let expected = LoraNotes {
            activation: "ink wash".to_owned(),
            negative: "photo".to_owned(),
            weight: Some(0.75),
            notes: "Ink.\nMine.".to_owned(),
            ..LoraNotes::default()
        };
        assert_eq!(notes, expected);
        for text in [
            r#"{"preferred weight": 0, "notes": 3}"#,
            r#"{"preferred weight": 1e30}"#,
            "[1]",
            "",
        ] {
            assert_eq!(written(text), LoraNotes::default(), "{text}");
        }
        std::fs::File::create(&beside)
            .unwrap()
            .set_len(1 << 40)
            .unwrap();
        assert_eq!(in_file(&beside), LoraNotes::default());
    }
}
