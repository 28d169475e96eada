//! `AND`: several prompts for one picture, each with a weight.
//!
//! Source: AUTOMATIC1111 stable-diffusion-webui 1.10 `modules/prompt_parser.py`
//! (`get_multicond_prompt_list`); Liu et al., "Compositional Visual Generation with Composable
//! Diffusion Models", 2022.

use super::attention::held;
use super::{networks, whole_words};
use crate::request::Emphasis;

/// One of the prompts that `AND` stands between.
#[derive(Clone, Debug, PartialEq)]
pub struct Part {
    pub text: String,
    /// How strongly it draws: 1 unless the part ends in `:0.5`. Below 0 it pushes away.
    pub weight: f64,
}

/// The parts of a prompt as `emphasis` reads it, without its `<lora:...>`; at least one.
pub fn read(prompt: &str, emphasis: Emphasis) -> Vec<Part> {
    let text = networks::without_tags(prompt);
    if emphasis.composes() {
        parts(&text)
    } else {
        vec![Part { text, weight: 1.0 }]
    }
}

/// The parts of a prompt; at least one. `a cat AND a dog :0.5`.
pub fn parts(prompt: &str) -> Vec<Part> {
    let mut parts = Vec::new();
    let mut from = 0;
    for at in whole_words(prompt, "AND") {
        parts.push(part(prompt.get(from..at).unwrap_or_default()));
        from = at + "AND".len();
    }
    parts.push(part(prompt.get(from..).unwrap_or_default()));
    parts
}

/// `re_weight`: `^((?:\s|.)*?)(?:\s*:\s*([-+]?(?:\d+\.?|\d*\.\d+)))?\s*$`.
fn part(text: &str) -> Part {
    let trimmed = text.trim_end();
    let weighted = weight_at_end(trimmed);
    let (text, weight) = weighted.unwrap_or((trimmed, 1.0));
    Part {
        text: text.to_owned(),
        weight,
    }
}

/// The text before `:0.5`, and the number.
pub(super) fn weight_at_end(text: &str) -> Option<(&str, f64)> {
    let (before, number) = text.rsplit_once(':')?;
    let number = number.trim_start();
    let digits = number.trim_start_matches(['-', '+']);
    let plain =
        number.len() - digits.len() <= 1 && digits.chars().all(|c| c.is_ascii_digit() || c == '.');
    let weight = held(number).filter(|_| plain)?;
    Some((before.trim_end(), weight))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(prompt: &str) -> Vec<(String, f64)> {
        let parts = parts(prompt).into_iter();
        parts.map(|part| (part.text, part.weight)).collect()
    }

    #[test]
    fn a_prompt_without_and_is_one_part() {
        assert_eq!(shown("a cat"), [("a cat".to_owned(), 1.0)]);
        assert_eq!(shown("SAND ANDY"), [("SAND ANDY".to_owned(), 1.0)]);
        assert_eq!(shown(""), [(String::new(), 1.0)]);
    }
}
