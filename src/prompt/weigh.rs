//! The weight that words of a prompt have, and how another one is written: for keys that change it.

use std::ops::Range;

use super::attention::{ROUND_FACTOR, Token, tokens};
use super::compel;
use crate::request::Emphasis;

/// Words in round brackets; ranges in bytes.
#[derive(Clone, Debug, PartialEq)]
pub struct Weighed {
    /// With brackets and weight.
    pub outer: Range<usize>,
    /// The words.
    pub inner: Range<usize>,
    pub weight: f64,
}

impl Weighed {
    /// In a text that begins `by` bytes before.
    pub(super) fn moved(self, by: usize) -> Self {
        let moved = |it: Range<usize>| it.start + by..it.end + by;
        Self {
            outer: moved(self.outer),
            inner: moved(self.inner),
            weight: self.weight,
        }
    }
}

/// The innermost words with a weight that `words` lie in, or are, as `emphasis` reads the prompt.
pub fn around(prompt: &str, words: &Range<usize>, emphasis: Emphasis) -> Option<Weighed> {
    let found = match emphasis {
        Emphasis::Original | Emphasis::NoNorm | Emphasis::Ignore | Emphasis::Comfyui => {
            brackets(prompt)
        }
        Emphasis::Compel => compel::weighed(prompt),
        Emphasis::None => Vec::new(),
    };
    let holds = |it: &Weighed| it.outer.start <= words.start && words.end <= it.outer.end;
    found.into_iter().find(holds)
}

/// Words with a weight, as `emphasis` reads it; `None` where no words have any.
pub fn written(words: &str, weight: f64, emphasis: Emphasis) -> Option<String> {
    match emphasis {
        Emphasis::Original | Emphasis::NoNorm | Emphasis::Ignore | Emphasis::Comfyui => {
            Some(format!("({words}:{weight})"))
        }
        Emphasis::Compel => Some(format!("({words}){weight}")),
        Emphasis::None => None,
    }
}

/// Whether two prompts differ in their weights alone, as `emphasis` reads them. Only compel's operators
/// can be broken by a weight that stands before them.
pub fn same_words(prompt: &str, other: &str, emphasis: Emphasis) -> bool {
    match emphasis {
        Emphasis::Compel => compel::unweighed(prompt) == compel::unweighed(other),
        Emphasis::Original
        | Emphasis::NoNorm
        | Emphasis::Ignore
        | Emphasis::Comfyui
        | Emphasis::None => true,
    }
}

/// `(x)` and `(x:1.3)`, each behind those inside of it.
fn brackets(prompt: &str) -> Vec<Weighed> {
    let mut open = Vec::new();
    let mut found = Vec::new();
    for (range, token) in tokens(prompt) {
        let weight = match token {
            Token::OpenRound => {
                open.push(range.start);
                continue;
            }
            Token::CloseRound => Some(ROUND_FACTOR),
            Token::Weight(number) => number.parse().ok(),
            Token::OpenSquare | Token::CloseSquare | Token::Escape(_) | Token::Text(_) => continue,
        };
        if let Some((start, weight)) = open.pop().zip(weight) {
            found.push(Weighed {
                outer: start..range.end,
                inner: start + 1..range.start,
                weight,
            });
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_innermost_weight_counts_as_each_program_writes_it() {
        for (emphasis, prompt, words, inner, weight) in [
            (Emphasis::Original, "a ((b) c:1.3)", "c", "(b) c", 1.3),
            (Emphasis::Original, "a ((b) c:1.3)", "b", "b", 1.1),
            (
                Emphasis::Comfyui,
                "(at 12:30 \\) b: 0.5 )",
                "at",
                "at 12:30 \\) b",
                0.5,
            ),
            (Emphasis::Compel, "a (b (c)1.5)0.8", "b", "b (c)1.5", 0.8),
            (Emphasis::Compel, "a (b (c)1.5)0.8", "c", "c", 1.5),
            (Emphasis::Compel, "a (b)", "b", "b", 1.0),
            (Emphasis::Compel, "a cat-- b", "cat", "cat", 0.81),
            (Emphasis::Compel, "a (b c).attend(1.3)", "c", "b c", 1.3),
            (Emphasis::Compel, "x \"a (b\"- c)", "a", "a (b", 0.9),
            (Emphasis::Compel, "\"a (b)2 c\"1.5", "b", "b", 2.0),
        ] {
            let at = prompt.rfind(words).unwrap();
            let found = around(prompt, &(at..at + words.len()), emphasis).unwrap();
            assert_eq!(&prompt[found.inner], inner, "{prompt}");
            assert!((found.weight - weight).abs() < 1e-9, "{prompt}");
        }
        for (emphasis, prompt) in [
            (Emphasis::Original, "\\(b\\) (c:2)"),
            (Emphasis::None, "(b:1.2)"),
            (Emphasis::Compel, "b\\( (c)2"),
        ] {
            let at = prompt.find('b').unwrap();
            assert_eq!(around(prompt, &(at..at + 1), emphasis), None, "{prompt}");
        }
    }
}
