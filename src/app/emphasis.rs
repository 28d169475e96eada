//! Ctrl+Up and Ctrl+Down: changes the weight of words in a prompt, in A1111's `(words:1.1)` syntax.
//!
//! Plain text in, plain text out; positions are characters, as the text field counts them.

use std::ops::Range;

/// One press of the key.
pub const STEP: f64 = 0.1;

/// A prompt after a change, and what is selected in it.
#[derive(Clone, Debug, PartialEq)]
pub struct Weighted {
    pub text: String,
    pub selection: Range<usize>,
}

/// Changes the weight of the selected words by `delta`; without a selection, of the word at the
/// cursor. A weight of 1 loses its brackets. `None`: there is no word there.
pub fn change_weight(text: &str, selection: Range<usize>, delta: f64) -> Option<Weighted> {
    let chars: Vec<char> = text.chars().collect();
    if selection.start > chars.len() {
        return None;
    }
    let words = words_at(&chars, selection)?;
    let (outer, inner, weight) = match bracketed(&chars, &words) {
        Some(found) => found,
        None => (words.clone(), words, 1.0),
    };
    let weight = (((weight + delta) * 100.0).round() / 100.0).clamp(0.1, 2.0);
    let content: String = chars.get(inner)?.iter().collect();
    let length = content.chars().count();
    let (replacement, offset) = if (weight - 1.0).abs() < 1e-9 {
        (content, 0)
    } else {
        (format!("({content}:{weight})"), 1)
    };
    let before: String = chars.get(..outer.start)?.iter().collect();
    let after: String = chars.get(outer.end..)?.iter().collect();
    let start = outer.start + offset;
    Some(Weighted {
        text: format!("{before}{replacement}{after}"),
        selection: start..start + length,
    })
}

/// The selection without the spaces at its ends, or the word around the cursor.
fn words_at(chars: &[char], selection: Range<usize>) -> Option<Range<usize>> {
    let is_word = |index: usize| {
        chars
            .get(index)
            .is_some_and(|c| c.is_alphanumeric() || "-_'".contains(*c))
    };
    let mut start = selection.start.min(chars.len());
    let mut end = selection.end.min(chars.len());
    if start == end {
        while start > 0 && is_word(start - 1) {
            start -= 1;
        }
        while is_word(end) {
            end += 1;
        }
    } else {
        let is_space = |index: usize| {
            chars
                .get(index)
                .is_some_and(|c| c.is_whitespace() || *c == ',')
        };
        while start < end && is_space(start) {
            start += 1;
        }
        while end > start && is_space(end - 1) {
            end -= 1;
        }
    }
    (start < end).then_some(start..end)
}

/// Whether the words are what `(words:1.2)` holds: the whole, its inside, and the weight.
/// The words may also be the whole, or a word inside.
fn bracketed(chars: &[char], words: &Range<usize>) -> Option<(Range<usize>, Range<usize>, f64)> {
    let open = if chars.get(words.start) == Some(&'(') {
        words.start
    } else {
        (0..words.start)
            .rev()
            .take_while(|index| !matches!(chars.get(*index), Some(')')))
            .find(|index| chars.get(*index) == Some(&'('))?
    };
    let close =
        (open + 1..chars.len()).find(|index| matches!(chars.get(*index), Some('(' | ')')))?;
    if chars.get(close) != Some(&')') || close + 1 < words.end {
        return None;
    }
    let colon = (open + 1..close)
        .rev()
        .find(|index| chars.get(*index) == Some(&':'))?;
    let weight: String = chars.get(colon + 1..close)?.iter().collect();
    Some((
        open..close + 1,
        open + 1..colon,
        weight.trim().parse().ok()?,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn press(text: &str, selected: &str, delta: f64) -> (String, String) {
        let byte = text.find(selected).unwrap();
        let start = text[..byte].chars().count();
        let done = change_weight(text, start..start + selected.chars().count(), delta).unwrap();
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
        let done = change_weight("一只 企鹅 3d", 4..4, STEP).unwrap();
        assert_eq!(done.text, "一只 (企鹅:1.1) 3d");
        let again = change_weight(&done.text, 5..5, -STEP).unwrap();
        assert_eq!(again.text, "一只 企鹅 3d");
        assert_eq!(change_weight("a  fox", 2..2, STEP), None);
        assert_eq!(change_weight("", 0..0, STEP), None);
        assert_eq!(change_weight("fox", 40..50, STEP), None);
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
