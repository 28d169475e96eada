//! compel's weights, which InvokeAI writes: `word++`, `word-`, `(two words)1.3`, `"two words"+`,
//! `(x).attend(1.3)`. A `+` is 1.1, a `-` 0.9; nested weights multiply.
//!
//! Source: compel 2.5.1 `prompt_parser.py` (`build_parser_syntax`, `flatten`). Not here: `.swap()`,
//! `.blend()` and `.and()`, which are read as words.

use super::Piece;
use super::weigh::Weighed;

/// Deeper brackets are words: bounds the recursion.
const MAX_DEPTH: usize = 50;
const PLUS: f64 = 1.1;
const MINUS: f64 = 0.9;
/// Signs that need a backslash to be letters of a word.
const SIGNS: &str = "()\",.+-=";

/// Words and their weight.
type Fragments = Vec<(String, f64)>;

pub(super) fn pieces(text: &str) -> Vec<Piece> {
    let mut fragments = Fragments::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        let (read, after) = weighable(rest, 0).unwrap_or_else(|| free_word(rest));
        fragments.extend(read);
        rest = after.trim_start();
    }
    let mut pieces: Vec<Piece> = Vec::new();
    for (word, weight) in fragments {
        let word = word
            .replace("\\(", "(")
            .replace("\\)", ")")
            .replace("\\\"", "\"");
        match pieces.last_mut() {
            Some(Piece::Text { text, weight: same }) if *same == weight => {
                text.push(' ');
                text.push_str(&word);
            }
            _ => pieces.push(Piece::text(word, weight)),
        }
    }
    if pieces.is_empty() {
        pieces.push(Piece::text("", 1.0));
    }
    pieces
}

/// `(words)`, `"words"`, with or without a weight behind; `word++`, `target.attend(1.2)`.
fn weighable(text: &str, depth: usize) -> Option<(Fragments, &str)> {
    if let Some((fragments, rest)) = group(text, depth) {
        return Some(weighted(fragments, rest, true).unwrap_or_else(|fragments| (fragments, rest)));
    }
    let (word, rest) = word(text)?;
    weighted(vec![(word.to_owned(), 1.0)], rest, false).ok()
}

/// The fragments with the weight that stands behind them; as they were, where there is none.
fn weighted(
    mut fragments: Fragments,
    rest: &str,
    is_group: bool,
) -> Result<(Fragments, &str), Fragments> {
    let factor = match rest.strip_prefix(".attend") {
        Some(explicit) => explicit
            .trim_start()
            .strip_prefix('(')
            .and_then(|inside| factor(inside.trim_start(), true))
            .and_then(|(factor, rest)| Some((factor, rest.trim_start().strip_prefix(')')?))),
        None => factor(rest, is_group),
    };
    let Some((factor, rest)) = factor else {
        return Err(fragments);
    };
    fragments
        .iter_mut()
        .for_each(|(_, weight)| *weight *= factor);
    Ok((fragments, rest))
}

/// `(x)`, `(x)1.3`, `(x)++` and `word++`, each behind those inside of it.
pub(super) fn weighed(text: &str) -> Vec<Weighed> {
    let mut found = Vec::new();
    let mut open = Vec::new();
    let mut at = 0;
    while let Some(letter) = text.get(at..).and_then(|rest| rest.chars().next()) {
        let rest = text.get(at..).unwrap_or_default();
        let (inner, after, is_group) = match (letter, word(rest)) {
            ('(', _) => {
                open.push(at + 1);
                (None, at + 1, true)
            }
            (')', _) => (open.pop().map(|start| start..at), at + 1, true),
            (_, Some((word, _))) => (Some(at..at + word.len()), at + word.len(), false),
            (_, None) => (None, at + letter.len_utf8(), false),
        };
        at = after;
        let Some(inner) = inner else {
            continue;
        };
        let said = text.get(at..).and_then(|rest| factor(rest, is_group));
        if let Some((_, rest)) = said {
            at = text.len() - rest.len();
        }
        if said.is_some() || is_group {
            found.push(Weighed {
                outer: inner.start - usize::from(is_group)..at,
                inner,
                weight: said.map_or(1.0, |(factor, _)| factor),
            });
        }
    }
    found
}

/// `++`, `--`; where `numbers` are allowed, `1.2`.
fn factor(text: &str, numbers: bool) -> Option<(f64, &str)> {
    for (sign, base) in [('+', PLUS), ('-', MINUS)] {
        let rest = text.trim_start_matches(sign);
        let count = text.len() - rest.len();
        if count > 0 {
            return Some((base.powi(i32::try_from(count).unwrap_or(i32::MAX)), rest));
        }
    }
    let end = text
        .find(|c: char| !(c.is_ascii_digit() || c == '.'))
        .unwrap_or(text.len());
    let number = text.get(..end).filter(|_| numbers)?;
    // The first number of 1.2.3.
    let end = number.match_indices('.').nth(1).map_or(end, |(at, _)| at);
    let weight: f64 = text.get(..end)?.parse().ok()?;
    Some((weight, text.get(end..)?))
}

/// `(fragments)` or `"fragments"`.
fn group(text: &str, depth: usize) -> Option<(Fragments, &str)> {
    if depth >= MAX_DEPTH {
        return None;
    }
    if let Some(inside) = text.strip_prefix('(') {
        let (fragments, rest) = fragments(inside, depth + 1);
        return Some((fragments, rest.strip_prefix(')')?));
    }
    let inside = text.strip_prefix('"')?;
    let mut escaped = false;
    let end = inside.find(|c| {
        let ends = c == '"' && !escaped;
        escaped = c == '\\';
        ends
    })?;
    let quoted = inside.get(..end)?;
    let (mut fragments, rest) = fragments(quoted, depth + 1);
    if quoted.trim().is_empty() {
        fragments.push((String::new(), 1.0));
    }
    rest.is_empty()
        .then_some((fragments, inside.get(end + 1..)?))
}

/// What stands in brackets, up to the first thing that may not.
fn fragments(text: &str, depth: usize) -> (Fragments, &str) {
    let mut fragments = Fragments::new();
    let mut rest = text.trim_start();
    loop {
        let read = weighable(rest, depth).or_else(|| {
            let (word, rest) = word(rest).or_else(|| {
                let after = rest.strip_prefix([',', '.'])?;
                Some((rest.get(..1)?, after))
            })?;
            Some((vec![(word.to_owned(), 1.0)], rest))
        });
        let Some((read, after)) = read else {
            return (fragments, rest);
        };
        fragments.extend(read);
        rest = after.trim_start();
    }
}

/// Letters that mean nothing, up to a blank or a sign.
fn word(text: &str) -> Option<(&str, &str)> {
    let mut end = 0;
    while let Some(letter) = text.get(end..)?.chars().next() {
        let after = text.get(end + letter.len_utf8()..)?.chars().next();
        let is_sign = |c: char| SIGNS.contains(c);
        end += match letter {
            '\\' if after.is_some_and(is_sign) => 2,
            '+' | '-' if after.is_some_and(|c| !c.is_whitespace() && !is_sign(c)) => 1,
            other if other.is_whitespace() || is_sign(other) => break,
            other => other.len_utf8(),
        };
    }
    (end > 0).then(|| text.split_at(end))
}

fn free_word(text: &str) -> (Fragments, &str) {
    let end = text.find(char::is_whitespace).unwrap_or(text.len());
    let (word, rest) = text.split_at(end);
    (vec![(word.to_owned(), 1.0)], rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_of_brackets_are_read_in_time() {
        let deep = format!("{}a{}", "(".repeat(5_000), ")".repeat(5_000));
        assert_eq!(pieces(&deep).len(), 1);
        assert_eq!(pieces(&"(a ".repeat(5_000)).len(), 1);
    }
}
