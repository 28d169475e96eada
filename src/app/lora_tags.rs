//! The LoRA tags of a prompt, `<lora:name:0.8>`: where they stand, and prompts with one changed.
//! Plain text in, plain text out.

use std::ops::Range;

use super::panels::ideas::add_word;
use crate::prompt::{networks, whole_words};

/// A tag and where it stands.
#[derive(Clone, Debug, PartialEq)]
pub struct Tag {
    /// Bytes, brackets included.
    pub range: Range<usize>,
    pub name: String,
    /// What the UNet is given.
    pub weight: f64,
}

/// The LoRAs that a prompt names, in order.
pub fn tags(prompt: &str) -> Vec<Tag> {
    networks::tags(prompt)
        .filter_map(|range| {
            let named = networks::loras(prompt.get(range.clone())?).pop()?;
            Some(Tag {
                range,
                name: named.name,
                weight: named.unet_weight,
            })
        })
        .collect()
}

/// Gives a LoRA another weight in the UNet, and in the text encoder where that has none of its own.
pub fn set_weight(prompt: &mut String, tag: &Tag, weight: f64) {
    // Two digits: a slider's arithmetic leaves more.
    let weight = ((weight * 100.0).round() / 100.0).to_string();
    let inside = tag.range.start + 1..tag.range.end.saturating_sub(1);
    let Some(text) = prompt.get(inside.clone()) else {
        return;
    };
    let mut words: Vec<String> = text.split(':').map(str::to_owned).collect();
    let named = |word: &String| word.split_once('=').map(|(name, _)| name == networks::UNET);
    let by_name = words.iter().position(|word| named(word) == Some(true));
    let by_place = (2..words.len()).filter(|index| words.get(*index).and_then(named).is_none());
    let (place, word) = match (by_name, by_place.take(2).last()) {
        (Some(place), _) => (place, format!("{}={weight}", networks::UNET)),
        (None, place) => (place.unwrap_or(words.len()), weight),
    };
    match words.get_mut(place) {
        Some(old) => *old = word,
        None => words.push(word),
    }
    prompt.replace_range(inside, &words.join(":"));
}

/// Takes a LoRA out, with the space or comma that kept it from its neighbour.
pub fn remove(prompt: &mut String, tag: &Tag) {
    let before = prompt.get(..tag.range.start).unwrap_or_default();
    let after = prompt.get(tag.range.end..).unwrap_or_default();
    let joined = match (before.trim_end_matches(' '), after.trim_start_matches(' ')) {
        ("", after) => after.trim_start_matches([',', ' ']).to_owned(),
        (before, "") => before.trim_end_matches([',', ' ']).to_owned(),
        (_, next) if next.starts_with(',') => {
            format!("{}{next}", before.trim_end_matches([',', ' ']))
        }
        (_, next) => format!("{before}{next}"),
    };
    *prompt = joined;
}

/// Names another LoRA at the end, where it is in nobody's way, with the words that go with it. One that
/// is named already stays: then nothing changes.
pub fn add(prompt: &mut String, name: &str, weight: f64, words: &str) -> bool {
    if tags(prompt).iter().any(|tag| tag.name == name) {
        return false;
    }
    *prompt = with_words(prompt, words);
    if !prompt.is_empty() && !prompt.ends_with(char::is_whitespace) {
        prompt.push(' ');
    }
    prompt.push_str(&written(name, weight));
    true
}

/// A prompt with these words too, before the tags at its end.
pub fn with_words(prompt: &str, words: &str) -> String {
    if words.is_empty() || says(prompt, words) {
        return prompt.to_owned();
    }
    let mut end = prompt.trim_end().len();
    for tag in tags(prompt).iter().rev() {
        if tag.range.end != end {
            break;
        }
        let before = prompt.get(..tag.range.start).unwrap_or_default();
        end = before.trim_end().len();
    }
    let (body, behind) = prompt.split_at(end);
    let body = add_word(body, words, &[]);
    match behind.trim() {
        "" => body,
        tags => format!("{body} {tags}"),
    }
}

/// Whether a prompt has these words, in any case; not in a longer word, nor in a LoRA's name.
pub fn says(prompt: &str, words: &str) -> bool {
    let said = networks::without_tags(prompt).to_lowercase();
    whole_words(&said, &words.to_lowercase()).next().is_some()
}

fn written(name: &str, weight: f64) -> String {
    format!("<lora:{name}:{weight}>")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lora_is_added_weighed_and_removed_in_the_words() {
        let mut prompt = "a fox, 3d style".to_owned();
        add(&mut prompt, "pixel art", 1.0, "");
        add(&mut prompt, "detail", 1.0, "");
        add(&mut prompt, "detail", 1.0, "");
        assert_eq!(prompt, "a fox, 3d style <lora:pixel art:1> <lora:detail:1>");
        let found = tags(&prompt);
        assert_eq!(found.len(), 2);
        set_weight(&mut prompt, &found[0], 0.7500001);
        assert_eq!(
            prompt,
            "a fox, 3d style <lora:pixel art:0.75> <lora:detail:1>"
        );
        let first = |prompt: &str| tags(prompt).remove(0);
        let tag = first(&prompt);
        remove(&mut prompt, &tag);
        assert_eq!(prompt, "a fox, 3d style <lora:detail:1>");
        let tag = first(&prompt);
        remove(&mut prompt, &tag);
        assert_eq!(prompt, "a fox, 3d style");
    }

    #[test]
    fn the_words_of_a_lora_come_before_the_tags_at_the_end_and_once() {
        for (prompt, with) in [
            ("", "ink wash"),
            ("a fox", "a fox, ink wash"),
            ("a fox, ", "a fox, ink wash"),
            ("<lora:a:1>", "ink wash <lora:a:1>"),
            (
                "a fox <lora:a:1>  <lora:b:1> ",
                "a fox, ink wash <lora:a:1>  <lora:b:1>",
            ),
            ("<lora:a:1> a fox", "<lora:a:1> a fox, ink wash"),
            ("an Ink Wash fox", "an Ink Wash fox"),
            ("a pink washer", "a pink washer, ink wash"),
            ("<lora:ink wash:1>", "ink wash <lora:ink wash:1>"),
        ] {
            assert_eq!(with_words(prompt, "ink wash"), with, "{prompt}");
        }
        let mut prompt = "a fox".to_owned();
        add(&mut prompt, "ink", 0.75, "ink wash");
        assert_eq!(prompt, "a fox, ink wash <lora:ink:0.75>");
    }

    #[test]
    fn what_stands_around_a_removed_lora_stays_readable() {
        for (prompt, left) in [
            ("<lora:a:1>, a fox", "a fox"),
            ("a fox, <lora:a:1>", "a fox"),
            ("a fox, <lora:a:1>, 3d", "a fox, 3d"),
            ("a <lora:a:1> fox", "a fox"),
            ("<lora:a>", ""),
        ] {
            let mut text = prompt.to_owned();
            remove(&mut text, &tags(prompt)[0]);
            assert_eq!(text, left, "{prompt}");
        }
    }

    #[test]
    fn the_weight_of_the_network_is_shown_and_set_and_the_rest_stays() {
        for (before, shown, after) in [
            ("x <lora:a:0.2:0.9> y", 0.9, "x <lora:a:0.2:0.5> y"),
            ("<lora:a>", 1.0, "<lora:a:0.5>"),
            ("<lora:a:0:lbw=X>", 0.0, "<lora:a:0.5:lbw=X>"),
            ("<lora:a:te=0:unet=1>", 1.0, "<lora:a:te=0:unet=0.5>"),
        ] {
            let mut prompt = before.to_owned();
            let tag = tags(&prompt).remove(0);
            assert_eq!(tag.weight, shown, "{before}");
            set_weight(&mut prompt, &tag, 0.5);
            assert_eq!(prompt, after);
        }
    }
}
