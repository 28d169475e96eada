//! Attention weights: `(word)`, `(word:1.3)`, `[word]`, `\(`, and `BREAK`.
//!
//! The grammar is AUTOMATIC1111's (stable-diffusion-webui 1.10 `modules/prompt_parser.py`,
//! `parse_prompt_attention`): round brackets multiply a weight by 1.1, square brackets divide it by
//! 1.1, `(x:w)` multiplies by `w`, a backslash makes the next bracket a plain letter, and `BREAK`
//! begins a new chunk.

use std::ops::Range;

use super::{comfyui, compel, whole_words};
use crate::request::Emphasis;

/// A stretch of the prompt with one weight.
#[derive(Clone, Debug, PartialEq)]
pub enum Piece {
    /// Words and how much they count; 1 is as written.
    Text { text: String, weight: f64 },
    /// The rest goes into a new chunk.
    Break,
}

impl Piece {
    pub(super) fn text(text: impl Into<String>, weight: f64) -> Self {
        Self::Text {
            text: text.into(),
            weight,
        }
    }
}

pub(super) const ROUND_FACTOR: f64 = 1.1;
const SQUARE_FACTOR: f64 = 1.0 / 1.1;

/// Splits the text of one phase of a prompt into weighted pieces, as `emphasis` reads it. Never
/// fails: a bracket without its partner counts to the end, as in A1111.
pub fn pieces(text: &str, emphasis: Emphasis) -> Vec<Piece> {
    match emphasis {
        Emphasis::Original | Emphasis::NoNorm => a1111(text),
        Emphasis::Ignore => unweighted(a1111(text)),
        Emphasis::None => vec![Piece::text(text, 1.0)],
        Emphasis::Comfyui => comfyui::pieces(text),
        Emphasis::Compel => compel::pieces(text),
    }
}

fn unweighted(pieces: Vec<Piece>) -> Vec<Piece> {
    let plain = |piece| match piece {
        Piece::Text { text, .. } => Piece::Text { text, weight: 1.0 },
        Piece::Break => Piece::Break,
    };
    // Not merged: each piece is given to the tokenizer alone, as A1111 does.
    pieces.into_iter().map(plain).collect()
}

/// A sign of the grammar.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Token<'a> {
    OpenRound,
    OpenSquare,
    CloseRound,
    CloseSquare,
    /// `:1.3)` with its number.
    Weight(&'a str),
    /// A backslash and the sign that it makes a letter; empty where it stands alone.
    Escape(&'a str),
    Text(&'a str),
}

/// The signs of a text, which they cover (`re_attention`).
pub(super) fn tokens(text: &str) -> impl Iterator<Item = (Range<usize>, Token<'_>)> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let rest = text.get(at..)?;
        let (token, length) = token(rest)?;
        at += length;
        Some((at - length..at, token))
    })
}

/// The sign at the start, and its bytes.
fn token(rest: &str) -> Option<(Token<'_>, usize)> {
    Some(match rest.chars().next()? {
        '(' => (Token::OpenRound, 1),
        '[' => (Token::OpenSquare, 1),
        ')' => (Token::CloseRound, 1),
        ']' => (Token::CloseSquare, 1),
        '\\' => {
            let escaped = rest.get(1..2).filter(|sign| "()[]\\".contains(*sign));
            let sign = escaped.unwrap_or_default();
            (Token::Escape(sign), 1 + sign.len())
        }
        ':' => weight(rest).unwrap_or((Token::Text(":"), 1)),
        _ => {
            let end = rest.find(|c| "\\()[]:".contains(c)).unwrap_or(rest.len());
            (Token::Text(rest.get(..end)?), end)
        }
    })
}

/// `:\s*([+-]?[.\d]+)\s*\)`.
fn weight(rest: &str) -> Option<(Token<'_>, usize)> {
    // Not further than a number goes: a prompt of colons is read in time.
    let behind = rest.get(1..)?;
    let close = 1 + behind
        .find(|c: char| !(c.is_whitespace() || c.is_ascii_digit() || "+-.".contains(c)))?;
    if !rest.get(close..)?.starts_with(')') {
        return None;
    }
    let number = rest.get(1..close)?.trim();
    let digits = number.strip_prefix(['+', '-']).unwrap_or(number);
    let is_number = digits.chars().all(|c| c.is_ascii_digit() || c == '.');
    // Differs from A1111, which fails at 1.2.3: it is text.
    let is_number = is_number && held(number).is_some();
    is_number.then_some((Token::Weight(number), close + 1))
}

/// A number, where a tensor can hold it: `inf`, `nan` and hundreds of digits are no weights.
pub(super) fn held(number: &str) -> Option<f64> {
    let number: f64 = number.parse().ok()?;
    (number.abs() <= f64::from(f32::MAX)).then_some(number)
}

/// A weight in a weight: both multiply, and stay what a tensor can hold.
pub(super) fn product(weight: f64, factor: f64) -> f64 {
    let most = f64::from(f32::MAX);
    (weight * factor).clamp(-most, most)
}

fn a1111(text: &str) -> Vec<Piece> {
    let mut pieces = Vec::new();
    // Where open brackets began, as indices into the pieces.
    let (mut round, mut square) = (Vec::new(), Vec::new());
    for (range, token) in tokens(text) {
        let closed = match token {
            Token::OpenRound => {
                round.push(pieces.len());
                continue;
            }
            Token::OpenSquare => {
                square.push(pieces.len());
                continue;
            }
            Token::Escape(sign) => {
                pieces.push(Piece::text(sign, 1.0));
                continue;
            }
            Token::Weight(number) => round.pop().zip(held(number)),
            Token::CloseRound => round.pop().map(|from| (from, ROUND_FACTOR)),
            Token::CloseSquare => square.pop().map(|from| (from, SQUARE_FACTOR)),
            Token::Text(_) => None,
        };
        match closed {
            Some((from, factor)) => multiply(&mut pieces, from, factor),
            None => push_words(&mut pieces, text.get(range).unwrap_or_default()),
        }
    }
    for from in round {
        multiply(&mut pieces, from, ROUND_FACTOR);
    }
    for from in square {
        multiply(&mut pieces, from, SQUARE_FACTOR);
    }
    merge_equal_neighbours(pieces)
}

/// Text, cut at `BREAK` (`\s*\bBREAK\b\s*`).
fn push_words(pieces: &mut Vec<Piece>, text: &str) {
    let mut from = 0;
    for at in whole_words(text, "BREAK") {
        let before = text.get(from..at).unwrap_or_default();
        pieces.push(Piece::text(before.trim_end(), 1.0));
        pieces.push(Piece::Break);
        let after = text.get(at + "BREAK".len()..).unwrap_or_default();
        from = text.len() - after.trim_start().len();
    }
    pieces.push(Piece::text(text.get(from..).unwrap_or_default(), 1.0));
}

/// Differs from A1111, where a `BREAK` in brackets is a word with a weight below 0: it breaks.
fn multiply(pieces: &mut [Piece], from: usize, factor: f64) {
    for piece in pieces.iter_mut().skip(from) {
        if let Piece::Text { weight, .. } = piece {
            *weight = product(*weight, factor);
        }
    }
}

fn merge_equal_neighbours(pieces: Vec<Piece>) -> Vec<Piece> {
    let mut merged: Vec<Piece> = Vec::with_capacity(pieces.len());
    for piece in pieces {
        match (merged.last_mut(), piece) {
            (
                Some(Piece::Text { text, weight }),
                Piece::Text {
                    text: more,
                    weight: same,
                },
            ) if *weight == same => text.push_str(&more),
            (_, piece) => merged.push(piece),
        }
    }
    merged
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(prompt: &str, emphasis: Emphasis) -> Vec<String> {
        pieces(prompt, emphasis)
            .into_iter()
            .map(|piece| match piece {
                Piece::Text { text, weight } => format!("{text}:{weight:.2}"),
                Piece::Break => "BREAK".to_owned(),
            })
            .collect()
    }

    #[test]
    fn break_breaks_inside_brackets_too() {
        assert_eq!(
            shown("(a BREAK b)", Emphasis::Original),
            ["a:1.10", "BREAK", "b:1.10"]
        );
        assert_eq!(shown("BREAKFAST", Emphasis::Original), ["BREAKFAST:1.00"]);
    }

    #[test]
    fn no_weight_is_more_than_a_tensor_holds() {
        use Emphasis::{Comfyui, Compel, Original};
        let (nines, many) = ("9".repeat(400), "9".repeat(38));
        for (emphasis, prompt) in [
            (Original, "(a:N)"),
            (Comfyui, "(a:N)"),
            (Comfyui, "(a:inf)"),
            (Compel, "(a)N"),
            (Compel, "\"a\".attend(N)"),
            (Original, "((a:M):M)"),
            (Comfyui, "((a):M)"),
            (Compel, "((a)M)M"),
            // Times nothing.
            (Original, "((((((((((a:M):M):M):M):M):M):M):M):M):0)"),
            (Compel, "((((((((((a)M)M)M)M)M)M)M)M)M)0"),
        ] {
            let prompt = prompt.replace('N', &nines).replace('M', &many);
            for piece in pieces(&prompt, emphasis) {
                let Piece::Text { weight, .. } = piece else {
                    panic!("{prompt} breaks");
                };
                assert!((weight as f32).is_finite(), "{prompt}: {weight}");
            }
        }
        for text in ["(a:N)", "(a)N"] {
            let text = text.replace('N', &nines);
            for emphasis in [Original, Comfyui, Compel] {
                let weights = pieces(&text, emphasis)
                    .into_iter()
                    .map(|piece| match piece {
                        Piece::Text { weight, .. } => weight,
                        Piece::Break => 0.0,
                    });
                assert!(
                    weights.max_by(f64::total_cmp) < Some(2.0),
                    "{text} is no weight"
                );
            }
        }
        let plus = format!("a{}", "+".repeat(10_000));
        assert_eq!(shown(&plus, Compel).len(), 1);
    }

    #[test]
    fn brackets_are_read_and_ignored_or_not_read_at_all() {
        assert_eq!(
            shown("a (b:2) c", Emphasis::Ignore),
            ["a :1.00", "b:1.00", " c:1.00"]
        );
        assert_eq!(
            shown("a (b:2) BREAK c", Emphasis::None),
            ["a (b:2) BREAK c:1.00"]
        );
    }

    #[test]
    fn the_signs_cover_the_text() {
        let text = "a (b\\) é:1.2) [c:] \\x :猫";
        let mut at = 0;
        for (range, _) in tokens(text) {
            assert_eq!(range.start, at);
            at = range.end;
        }
        assert_eq!(at, text.len());
    }
}
