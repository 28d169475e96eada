//! Ctrl+Up and Ctrl+Down: changes the weight of words in a prompt, as the chosen emphasis writes it.
//!
//! Plain text in, plain text out; positions are characters, as the text field counts them. What has a
//! weight is for the prompt's own grammar to say ([`weigh`]).

use std::ops::Range;

use crate::prompt::{is_word, weigh, weigh::Weighed};
use crate::request::Emphasis;

/// One press of the key.
pub const STEP: f64 = 0.1;

/// A prompt after a change, and what is selected in it.
#[derive(Clone, Debug, PartialEq)]
pub struct Weighted {
    pub text: String,
    pub selection: Range<usize>,
}

/// Changes the weight of the selected words by `delta`; without a selection, of the word at the
/// cursor. A weight of 1 loses its brackets. `None`: there is no word there, or words have no weight.
pub fn change_weight(
    text: &str,
    selection: Range<usize>,
    delta: f64,
    emphasis: Emphasis,
) -> Option<Weighted> {
    let byte = |at: usize| {
        let mut places = text.char_indices().map(|(byte, _)| byte);
        places.nth(at).unwrap_or(text.len())
    };
    if selection.start > text.chars().count() {
        return None;
    }
    let words = words_at(text, byte(selection.start)..byte(selection.end))?;
    let alone = Weighed {
        outer: words.clone(),
        inner: words.clone(),
        weight: 1.0,
    };
    let found = weigh::around(text, &words, emphasis);
    // An operator that stands behind wants brackets around all of it.
    let ways = found.into_iter().chain([alone]).flat_map(|it| {
        let weight = (((it.weight + delta) * 100.0).round() / 100.0).clamp(0.1, 2.0);
        [false, true].map(|wrapped| written(text, &it, weight, emphasis, wrapped))
    });
    let mut ways = ways.flatten();
    ways.find(|way| weigh::same_words(text, &way.text, emphasis))
}

/// The prompt with these words of another weight; `wrapped`: in brackets of their own.
fn written(
    text: &str,
    words: &Weighed,
    weight: f64,
    emphasis: Emphasis,
    wrapped: bool,
) -> Option<Weighted> {
    let content = text.get(words.inner.clone())?;
    let (mut replacement, mut offset) = if (weight - 1.0).abs() < 1e-9 {
        (content.to_owned(), 0)
    } else {
        (weigh::written(content, weight, emphasis)?, 1)
    };
    if wrapped {
        replacement = format!("({replacement})");
        offset += 1;
    }
    let before = text.get(..words.outer.start)?;
    let after = text.get(words.outer.end..)?;
    let start = before.chars().count() + offset;
    Some(Weighted {
        text: format!("{before}{replacement}{after}"),
        selection: start..start + content.chars().count(),
    })
}

/// The selection without the spaces at its ends, or the word around the cursor.
fn words_at(text: &str, selection: Range<usize>) -> Option<Range<usize>> {
    let Range { start, end } = selection;
    let range = if start == end {
        let belongs = |c: char| is_word(c) || "-'".contains(c);
        let before = text.get(..start)?.trim_end_matches(belongs);
        let after = text.get(end..)?.trim_start_matches(belongs);
        // compel's minus behind a word is a weight.
        let word = text.get(before.len()..text.len() - after.len())?;
        before.len()..before.len() + word.trim_end_matches('-').len()
    } else {
        let is_space = |c: char| c.is_whitespace() || c == ',';
        let words = text.get(start..end)?;
        let start = end - words.trim_start_matches(is_space).len();
        start..start + text.get(start..end)?.trim_end_matches(is_space).len()
    };
    (range.start < range.end).then_some(range)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn press(text: &str, selected: &str, delta: f64) -> (String, String) {
        let byte = text.find(selected).unwrap();
        let start = text[..byte].chars().count();
        let selection = start..start + selected.chars().count();
        let done = change_weight(text, selection, delta, Emphasis::Original).unwrap();
        let chars: Vec<char> = done.text.chars().collect();
        let selection = chars[done.selection].iter().collect();
        (done.text, selection)
    }

    #[test]
    fn selected_words_gain_and_lose_weight() {
        let (text, selected) = press("a red fox, flat style", "red fox", STEP);
        assert_eq!(
            (text.as_str(), selected.as_str()),
            ("a (red fox:1.1), flat style", "red fox")
        );
        let (text, selected) = press(&text, "red fox", STEP);
        assert_eq!(
            (text.as_str(), selected.as_str()),
            ("a (red fox:1.2), flat style", "red fox")
        );
        let (text, _) = press(&text, "red fox", -STEP);
        let (text, selected) = press(&text, "red fox", -STEP);
        assert_eq!(
            (text.as_str(), selected.as_str()),
            ("a red fox, flat style", "red fox")
        );
        assert_eq!(
            press(&text, " fox, ", -STEP).0,
            "a red (fox:0.9), flat style"
        );
    }

    #[test]
    fn a_cursor_means_the_word_around_it() {
        let press = |text: &str, at: usize, delta| {
            change_weight(text, at..at, delta, Emphasis::Original).map(|done| done.text)
        };
        let heavier = press("一只 企鹅 3d", 4, STEP).unwrap();
        assert_eq!(heavier, "一只 (企鹅:1.1) 3d");
        assert_eq!(press(&heavier, 5, -STEP).unwrap(), "一只 企鹅 3d");
        for (text, at) in [("a  fox", 2), ("", 0), ("fox", 40)] {
            assert_eq!(press(text, at, STEP), None);
        }
    }

    #[test]
    fn weights_are_written_as_the_chosen_program_reads_them() {
        for (emphasis, before, selected, after) in [
            (
                Emphasis::Original,
                "a (red) fox",
                "red",
                Some("a (red:1.2) fox"),
            ),
            (
                Emphasis::Original,
                "a \\(red\\)",
                "red",
                Some("a \\((red:1.1)\\)"),
            ),
            (
                Emphasis::Original,
                "((a) fox:1.2)",
                "fox",
                Some("((a) fox:1.3)"),
            ),
            (
                Emphasis::Comfyui,
                "a red fox",
                "red",
                Some("a (red:1.1) fox"),
            ),
            (
                Emphasis::Compel,
                "a red fox",
                "red fox",
                Some("a (red fox)1.1"),
            ),
            (Emphasis::Compel, "a (red fox)0.9", "red", Some("a red fox")),
            (Emphasis::Compel, "a red- fox", "red", Some("a red fox")),
            (
                Emphasis::Compel,
                "a red+ fox",
                "red",
                Some("a (red)1.2 fox"),
            ),
            (Emphasis::None, "a red fox", "red", None),
            (
                Emphasis::Compel,
                "(\"a\", \"b\").blend(1, 0.5)",
                "a",
                Some("(((a)1.1), \"b\").blend(1, 0.5)"),
            ),
            (
                Emphasis::Compel,
                "(((a)1.1), \"b\").blend(1, 0.5)",
                "a",
                Some("(((a)1.2), \"b\").blend(1, 0.5)"),
            ),
            (
                Emphasis::Compel,
                "(\"a :) b\", c).and()",
                "b",
                Some("(\"a :) (b)1.1\", c).and()"),
            ),
            (Emphasis::Compel, "(a, b).and(1, 2)", "2", None),
            (
                Emphasis::Compel,
                "(red fox).attend(1.3)",
                "fox",
                Some("(red fox)1.4"),
            ),
            (
                Emphasis::Compel,
                "a cat.swap(dog)",
                "cat",
                Some("a ((cat)1.1).swap(dog)"),
            ),
            (
                Emphasis::Compel,
                "a (red fox).swap(dog)",
                "red",
                Some("a ((red fox)1.1).swap(dog)"),
            ),
        ] {
            let start = before.find(selected).unwrap();
            let selection = start..start + selected.len();
            let done = change_weight(before, selection, STEP, emphasis);
            assert_eq!(done.map(|it| it.text).as_deref(), after, "{before}");
        }
    }

    #[test]
    fn weights_stay_between_a_tenth_and_two() {
        let mut text = "fox".to_owned();
        for _ in 0..30 {
            text = press(&text, "fox", STEP).0;
        }
        assert_eq!(text, "(fox:2)");
        for _ in 0..30 {
            text = press(&text, "fox", -STEP).0;
        }
        assert_eq!(text, "(fox:0.1)");
    }
}
