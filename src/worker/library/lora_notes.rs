//! How a LoRA is to be used, as far as somebody wrote it down: in the header of its file (kohya's tools,
//! ModelSpec), and in the file that A1111 keeps beside it, `NAME.json`.
//!
//! Source: A1111 1.10 `extensions-builtin/Lora/ui_edit_user_metadata.py` (`build_tags`,
//! `save_lora_user_metadata`), `ui_extra_networks_lora.py`; kohya's sd-scripts `train_network.py`
//! (`ss_tag_frequency`); Stability's ModelSpec 1.0.

use std::collections::{BTreeMap, HashMap};
use std::fs::{File, Metadata};
use std::io::Read;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::Value;

use crate::checkpoint;
use crate::request::LoraNotes;

/// Where ModelSpec has the words that call what was learnt.
const TRIGGER: &str = "modelspec.trigger_phrase";
/// Where kohya's tools count the tags of all captions, by folder; JSON in a text.
const TAG_FREQUENCY: &str = "ss_tag_frequency";
/// That of ten thousand pictures stays below this, also where each has a sentence.
const MAX_TAGS_BYTES: usize = 2 << 20;
/// A page of text.
const MAX_BESIDE_BYTES: u64 = 1 << 20;
/// Tags that are kept, the most frequent first.
const MOST_TAGS: usize = 12;
/// Letters of each text that are kept.
const MOST_LETTERS: usize = 2_000;
/// A tag longer than this is none.
const MOST_LETTERS_OF_A_TAG: usize = 100;
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
        notes: without_control(&notes.join("\n")),
        ..LoraNotes::default()
    }
}

fn read(path: &Path) -> Option<HashMap<String, Value>> {
    // Asked first: who opens a pipe waits for somebody to write.
    let is_page = |it: &Metadata| it.is_file() && it.len() <= MAX_BESIDE_BYTES;
    std::fs::metadata(path).ok().filter(is_page)?;
    let mut bytes = Vec::new();
    let mut page = File::open(path).ok()?.take(MAX_BESIDE_BYTES);
    page.read_to_end(&mut bytes).ok()?;
    serde_json::from_slice(&bytes).ok()
}

/// In one line.
fn plain(text: &str) -> String {
    let is_gap = |c: char| c.is_whitespace() || c.is_control();
    let words = text.split(is_gap).filter(|word| !word.is_empty());
    let words: Vec<&str> = words.collect();
    words.join(" ").chars().take(MOST_LETTERS).collect()
}

/// In lines, and nothing that a terminal takes for a command.
fn without_control(text: &str) -> String {
    let letters = text.chars().take(MOST_LETTERS);
    letters
        .map(|c| if c.is_control() && c != '\n' { ' ' } else { c })
        .collect()
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
    counts.retain(|tag, _| tag.chars().count() <= MOST_LETTERS_OF_A_TAG);
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
    use std::sync::atomic::{AtomicBool, Ordering};

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
        // Of more than a page nothing counts.
        let page = r#"{"notes": "Mine."}"#;
        let padded = |bytes: u64| format!("{page}{}", " ".repeat(bytes as usize - page.len()));
        assert_eq!(written(&padded(MAX_BESIDE_BYTES)).notes, "Mine.");
        assert_eq!(written(&padded(MAX_BESIDE_BYTES + 1)), LoraNotes::default());
    }

    #[cfg(unix)]
    #[test]
    fn a_pipe_holds_no_notes_and_nobody_waits_for_it() {
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("ink.json");
        let made = std::process::Command::new("mkfifo").arg(&pipe).status();
        assert!(made.unwrap().success());
        let is_read = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                // Waits until somebody reads.
                let writer = File::options().write(true).open(&pipe).unwrap();
                is_read.store(true, Ordering::SeqCst);
                drop(writer);
            });
            assert_eq!(in_file(&pipe), LoraNotes::default());
            assert!(!is_read.load(Ordering::SeqCst));
            File::open(&pipe).unwrap();
        });
    }

    #[test]
    fn nothing_commands_a_terminal_and_a_tag_is_a_few_words() {
        let long = "x".repeat(MOST_LETTERS_OF_A_TAG + 1);
        let mut tags: Vec<String> = (0..20).map(|n| format!("\"t{n}\": 1")).collect();
        tags.push(format!("\"{long}\": 9, \"re\\u001b[2Jd\": 8"));
        let tags = format!("{{\"a\": {{{}}}}}", tags.join(","));
        let notes = in_header(&header(&[(TAG_FREQUENCY, &tags), (TRIGGER, "i\u{1b}nk")]));
        assert_eq!(
            (notes.tags[0].as_str(), notes.trigger.as_str()),
            ("re [2Jd", "i nk")
        );
        let folder = tempfile::tempdir().unwrap();
        let beside = folder.path().join("ink.json");
        std::fs::write(&beside, r#"{"notes": "a\u001b[2J\nb"}"#).unwrap();
        assert_eq!(in_file(&beside).notes, "a [2J\nb");
    }
}
