//! compel's weights, which InvokeAI writes: `word++`, `word-`, `(two words)1.3`, `"two words"+`,
//! `(x).attend(1.3)`. A `+` is 1.1, a `-` 0.9; nested weights multiply. `("a", "b").blend(1, 0.5)` adds
//! prompts up, `("a", "b").and()` tells them one behind another. Of `a.swap(b)` only `a` counts, as in the
//! conditioning that compel itself makes: the exchange is left to who draws.
//!
//! Source: compel 2.5.1 `prompt_parser.py` (`build_parser_syntax`, `flatten`), `compel.py`
//! (`build_conditioning_tensor_for_conjunction`).

use std::borrow::Cow;
use std::ops::Range;

use super::Piece;
use super::attention::{held, product};
use super::mixture::{Blended, Joined};
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
    fused(prompt(&spaced(text)))
}

/// With a blank behind each comma.
pub(super) fn spaced(text: &str) -> Cow<'_, str> {
    let mut spaced = String::with_capacity(text.len());
    let mut letters = text.chars().peekable();
    while let Some(letter) = letters.next() {
        spaced.push(letter);
        if letter == ',' && letters.peek().is_some_and(|next| !next.is_whitespace()) {
            spaced.push(' ');
            // A comma behind a comma stands where a blank would.
            spaced.extend(letters.next());
        }
    }
    match spaced.len() == text.len() {
        true => Cow::Borrowed(text),
        false => Cow::Owned(spaced),
    }
}

/// All of a prompt by itself.
fn prompt(text: &str) -> Fragments {
    let mut fragments = Fragments::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        let (read, after) = weighable(rest, 0).unwrap_or_else(|| free_word(rest));
        fragments.extend(read);
        rest = after.trim_start();
    }
    fragments
}

/// Neighbours of one weight in one piece.
fn fused(fragments: Fragments) -> Vec<Piece> {
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

/// Prompts that are mixed.
pub(super) struct Mixed {
    pub joined: Vec<Joined>,
    /// From the point of `.and` or `.blend` to its bracket; bytes.
    pub operator: Range<usize>,
}

/// `("a", "b").and(1, 0.5)`, what stands behind does not count; `("a", "b").blend(1, 0.5)`, alone.
pub(super) fn mixed(text: &str) -> Option<Mixed> {
    let (targets, rest) = targets(text.trim_start().strip_prefix('(')?)?;
    let rest = rest.trim_start();
    let start = text.len() - rest.len();
    let joins = rest
        .strip_prefix(".and")
        .or_else(|| rest.strip_prefix(".add"));
    let options = joins.or_else(|| rest.strip_prefix(".blend"))?;
    let (options, rest) = options.trim_start().strip_prefix('(')?.split_once(')')?;
    let operator = start..text.len() - rest.len();
    let mut options: Vec<&str> = options.split(',').map(str::trim).collect();
    let normal = options.last() != Some(&"no_normalize") || joins.is_some();
    if !normal || options == [""] {
        options.pop();
    }
    let weights: Option<Vec<f64>> = options.into_iter().map(number).collect();
    let weights = match weights? {
        none if none.is_empty() => vec![1.0; targets.len()],
        weights => weights,
    };
    if weights.len() != targets.len() {
        return None;
    }
    let weighted = targets.into_iter().zip(weights);
    let joined = if joins.is_some() {
        weighted
            .filter(|(target, _)| !target.is_empty())
            .map(|(target, weight)| Joined::plain(weight, fused(target)))
            .collect()
    } else {
        let weighted: Vec<(Fragments, f64)> = weighted.collect();
        let sum = match normal {
            true => weighted.iter().map(|(_, weight)| weight).sum(),
            false => 1.0,
        };
        let swaps = text.get(..start)?.contains(".swap(");
        if swaps || sum == 0.0 || !rest.trim().is_empty() {
            return None;
        }
        let blended = weighted.into_iter().map(|(target, weight)| Blended {
            share: weight / sum,
            pieces: fused(target),
        });
        vec![Joined {
            weight: 1.0,
            blended: blended.collect(),
        }]
    };
    (!joined.is_empty()).then_some(Mixed { joined, operator })
}

/// `"a", (b), c)`, and what stands behind the bracket.
fn targets(text: &str) -> Option<(Vec<Fragments>, &str)> {
    let mut targets = Vec::new();
    let mut rest = text;
    loop {
        rest = rest.trim_start();
        let (target, after) = target(rest, 0).or_else(|| {
            let (quoted, rest) = quoted(rest)?;
            Some((prompt(quoted), rest))
        })?;
        targets.push(target);
        let after = after.trim_start();
        match after.strip_prefix(',') {
            Some(more) => rest = more,
            None => return Some((targets, after.strip_prefix(')')?)),
        }
    }
}

/// What an operator may stand behind.
fn target(text: &str, depth: usize) -> Option<(Fragments, &str)> {
    group(text, depth).or_else(|| {
        let (word, rest) = word(text)?;
        Some((vec![(word.to_owned(), 1.0)], rest))
    })
}

/// `1`, `-0.5`, `.5`; nothing else that floats can be, nor what a tensor cannot hold.
fn number(text: &str) -> Option<f64> {
    let plain = text
        .chars()
        .all(|c| c.is_ascii_digit() || "+-.".contains(c));
    held(text).filter(|_| plain)
}

/// What stands behind `.swap("c", s_end=0.3)`.
fn swap_behind(text: &str, depth: usize) -> Option<&str> {
    if depth >= MAX_DEPTH {
        return None;
    }
    let inside = text.trim_start().strip_prefix(".swap")?;
    let inside = inside.trim_start().strip_prefix('(')?;
    // Exchanges inside of exchanges are tried two deep: bounds the time.
    let (_, rest) = parts(inside, depth + MAX_DEPTH / 2, &[]);
    let rest = match rest.strip_prefix(',') {
        Some(options) => {
            let is_option = |c: char| c.is_ascii_alphanumeric() || " _-=.,+".contains(c);
            options.trim_start_matches(is_option)
        }
        None => rest,
    };
    rest.strip_prefix(')')
}

/// `(words)`, `"words"`, with or without a weight or an exchange behind; words only with one of them.
fn weighable(text: &str, depth: usize) -> Option<(Fragments, &str)> {
    let group = group(text, depth);
    let is_group = group.is_some();
    let (mut fragments, rest) = match group {
        Some(group) => group,
        None => {
            let (word, rest) = word(text)?;
            (vec![(word.to_owned(), 1.0)], rest)
        }
    };
    if let Some((factor, rest)) = factor_behind(rest, is_group) {
        fragments
            .iter_mut()
            .for_each(|(_, weight)| *weight = product(*weight, factor));
        return Some((fragments, rest));
    }
    if let Some(rest) = swap_behind(rest, depth) {
        if fragments.is_empty() {
            fragments.push((String::new(), 1.0));
        }
        return Some((fragments, rest));
    }
    is_group.then_some((fragments, rest))
}

/// `++`, behind a group also `1.2`; `.attend(1.2)`.
pub(super) fn factor_behind(text: &str, is_group: bool) -> Option<(f64, &str)> {
    let Some(explicit) = text.strip_prefix(".attend") else {
        return factor(text, is_group);
    };
    let inside = explicit.trim_start().strip_prefix('(')?;
    let (factor, rest) = factor(inside.trim_start(), true)?;
    Some((factor, rest.trim_start().strip_prefix(')')?))
}

/// What a prompt says beside its weights, and which operator mixes it.
pub(super) fn unweighed(text: &str) -> (String, &str) {
    let mixed = mixed(text);
    let operator = mixed.as_ref().and_then(|it| text.get(it.operator.start..));
    let pieces = match mixed {
        Some(mixed) => {
            let blended = mixed.joined.into_iter().flat_map(|it| it.blended);
            blended.flat_map(|it| it.pieces).collect()
        }
        None => pieces(text),
    };
    let words = pieces.iter().filter_map(|piece| match piece {
        Piece::Text { text, .. } => Some(text.split_whitespace()),
        Piece::Break => None,
    });
    (words.flatten().collect(), operator.unwrap_or_default())
}

/// `(x)`, `(x)1.3`, `"x"++`, `(x).attend(1.3)` and `word++`, each behind those inside of it.
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
            ('"', _) if let Some((inside, _)) = quoted(rest) => {
                let inner = at + 1..at + 1 + inside.len();
                let moved = |it: Weighed| it.moved(inner.start);
                found.extend(weighed(inside).into_iter().map(moved));
                let after = inner.end + 1;
                (Some(inner), after, true)
            }
            (_, Some((word, _))) => (Some(at..at + word.len()), at + word.len(), false),
            (_, None) => (None, at + letter.len_utf8(), false),
        };
        at = after;
        let Some(inner) = inner else {
            continue;
        };
        let said = text
            .get(at..)
            .and_then(|rest| factor_behind(rest, is_group));
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
pub(super) fn factor(text: &str, numbers: bool) -> Option<(f64, &str)> {
    for (sign, base) in [('+', PLUS), ('-', MINUS)] {
        let rest = text.trim_start_matches(sign);
        let count = text.len() - rest.len();
        if count > 0 {
            let factor = base.powi(i32::try_from(count).unwrap_or(i32::MAX));
            return (factor <= f64::from(f32::MAX)).then_some((factor, rest));
        }
    }
    let end = text
        .find(|c: char| !(c.is_ascii_digit() || c == '.'))
        .unwrap_or(text.len());
    let number = text.get(..end).filter(|_| numbers)?;
    // The first number of 1.2.3.
    let end = number.match_indices('.').nth(1).map_or(end, |(at, _)| at);
    Some((held(text.get(..end)?)?, text.get(end..)?))
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
    let (quoted, after) = quoted(text)?;
    let (mut fragments, rest) = fragments(quoted, depth + 1);
    if quoted.trim().is_empty() {
        fragments.push((String::new(), 1.0));
    }
    rest.is_empty().then_some((fragments, after))
}

/// What stands in quotes, and what behind.
fn quoted(text: &str) -> Option<(&str, &str)> {
    let inside = text.strip_prefix('"')?;
    let mut escaped = false;
    let end = inside.find(|c| {
        let ends = c == '"' && !escaped;
        escaped = c == '\\';
        ends
    })?;
    Some((inside.get(..end)?, inside.get(end + 1..)?))
}

/// What stands in brackets, up to the first thing that may not.
fn fragments(text: &str, depth: usize) -> (Fragments, &str) {
    parts(text, depth, &[',', '.'])
}

/// The same where these signs are words.
fn parts<'a>(text: &'a str, depth: usize, signs: &[char]) -> (Fragments, &'a str) {
    let mut fragments = Fragments::new();
    let mut rest = text.trim_start();
    loop {
        let read = weighable(rest, depth).or_else(|| {
            let (word, rest) = word(rest).or_else(|| {
                let after = rest.strip_prefix(signs)?;
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
        for text in ["(a ", "(a.swap(", "a.swap( ", "(\"a", "(a)+ ", "\"(a"] {
            let text = text.repeat(3_000);
            assert!(!pieces(&text).is_empty());
            assert!(mixed(&text).is_none());
        }
    }

    #[test]
    fn what_no_tensor_holds_is_no_weight() {
        let nines = "9".repeat(400);
        for text in ["(a, b).blend(N, 1)", "(a, b).and(1, -N)"] {
            assert!(mixed(&text.replace('N', &nines)).is_none(), "{text}");
            assert!(mixed(&text.replace('N', "999")).is_some(), "{text}");
        }
    }
}
