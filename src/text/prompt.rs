//! Attention weights in a prompt: `(word)`, `(word:1.3)`, `[word]`, `\(`, `BREAK`.
//!
//! The grammar is AUTOMATIC1111's (`modules/prompt_parser.py`, `parse_prompt_attention`): round
//! brackets multiply a weight by 1.1, square brackets divide it by 1.1, `(x:w)` multiplies by `w`,
//! a backslash makes the next bracket a plain letter, and `BREAK` begins a new chunk.

/// A stretch of the prompt with one weight.
#[derive(Clone, Debug, PartialEq)]
pub enum Piece {
    /// Words and how much they count; 1 is as written.
    Text { text: String, weight: f32 },
    /// The rest goes into a new chunk.
    Break,
}

/// A LoRA that a prompt names: `<lora:name>`, `<lora:name:0.8>`, `<lora:name:0.8:0.5>`.
#[derive(Clone, Debug, PartialEq)]
pub struct LoraTag {
    /// The file's name without its ending.
    pub name: String,
    /// 1 is as trained.
    pub text_encoder_weight: f64,
    /// The same, unless a second number says otherwise.
    pub unet_weight: f64,
}

const ROUND_FACTOR: f32 = 1.1;
const SQUARE_FACTOR: f32 = 1.0 / 1.1;

/// Splits a prompt into weighted pieces. Never fails: a bracket without its partner counts to the
/// end of the prompt, as in A1111.
///
/// `<lora:...>` and its like say nothing to the text encoder and are left out.
pub fn parse(prompt: &str) -> Vec<Piece> {
    let mut parser = Parser::default();
    let (text, _) = split_networks(prompt);
    let mut rest = text.as_str();
    while !rest.is_empty() {
        let length = parser.take(rest);
        rest = rest.get(length..).unwrap_or_default();
    }
    parser.finish()
}

/// The LoRAs that a prompt names, in order (A1111's `modules/extra_networks.py` and
/// `extensions-builtin/Lora/extra_networks_lora.py`).
pub fn loras(prompt: &str) -> Vec<LoraTag> {
    let (_, tags) = split_networks(prompt);
    tags.iter().filter_map(|tag| lora_tag(tag)).collect()
}

fn lora_tag(tag: &str) -> Option<LoraTag> {
    let mut words = tag.split(':');
    if !matches!(words.next(), Some("lora" | "lyco")) {
        return None;
    }
    let name = words.next()?.to_owned();
    let mut number = || {
        words
            .next()?
            .trim()
            .parse::<f64>()
            .ok()
            .filter(|n| n.is_finite())
    };
    let text_encoder_weight = number().unwrap_or(1.0);
    Some(LoraTag {
        name,
        text_encoder_weight,
        unet_weight: number().unwrap_or(text_encoder_weight),
    })
}

/// The prompt without `<word:...>`, and what stood between the brackets.
fn split_networks(prompt: &str) -> (String, Vec<&str>) {
    let mut text = String::with_capacity(prompt.len());
    let mut tags = Vec::new();
    let mut rest = prompt;
    while let Some((before, from)) = rest.split_once('<') {
        text.push_str(before);
        let tag = from.split_once('>').filter(|(tag, _)| {
            tag.split_once(':').is_some_and(|(word, value)| {
                !word.is_empty()
                    && !value.is_empty()
                    && word.chars().all(|c| c.is_alphanumeric() || c == '_')
            })
        });
        rest = match tag {
            Some((tag, after)) => {
                tags.push(tag);
                after
            }
            None => {
                text.push('<');
                from
            }
        };
    }
    text.push_str(rest);
    (text, tags)
}

#[derive(Default)]
struct Parser {
    pieces: Vec<Piece>,
    /// Indices into `pieces` where an open bracket began.
    round: Vec<usize>,
    square: Vec<usize>,
    /// The letters since the last bracket: the next piece.
    text: String,
}

impl Parser {
    /// Reads one thing from the start of `rest` and returns its length in bytes.
    fn take(&mut self, rest: &str) -> usize {
        let mut letters = rest.chars();
        let first = letters.next().unwrap_or_default();
        match first {
            '\\' => {
                let escaped = letters.next().filter(|c| "()[]\\".contains(*c));
                self.text.push(escaped.unwrap_or('\\'));
                1 + escaped.map_or(0, char::len_utf8)
            }
            '(' => {
                self.end_text();
                self.round.push(self.pieces.len());
                1
            }
            '[' => {
                self.end_text();
                self.square.push(self.pieces.len());
                1
            }
            ':' if !self.round.is_empty() => match weight_and_bracket(rest) {
                Some((weight, length)) => {
                    self.end_text();
                    let from = self.round.pop().unwrap_or_default();
                    self.multiply(from, weight);
                    length
                }
                None => self.push(first),
            },
            ')' if !self.round.is_empty() => {
                self.end_text();
                let from = self.round.pop().unwrap_or_default();
                self.multiply(from, ROUND_FACTOR);
                1
            }
            ']' if !self.square.is_empty() => {
                self.end_text();
                let from = self.square.pop().unwrap_or_default();
                self.multiply(from, SQUARE_FACTOR);
                1
            }
            'B' if rest.starts_with("BREAK") && self.stands_alone(rest) => {
                self.end_text();
                self.pieces.push(Piece::Break);
                "BREAK".len()
            }
            other => self.push(other),
        }
    }

    fn push(&mut self, letter: char) -> usize {
        self.text.push(letter);
        letter.len_utf8()
    }

    /// `BREAK` counts only as a word of its own.
    fn stands_alone(&self, rest: &str) -> bool {
        let before = self.text.chars().next_back();
        let after = rest.chars().nth("BREAK".len());
        let is_word = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
        !is_word(before) && !is_word(after)
    }

    fn end_text(&mut self) {
        if !self.text.is_empty() {
            let text = std::mem::take(&mut self.text);
            self.pieces.push(Piece::Text { text, weight: 1.0 });
        }
    }

    fn multiply(&mut self, from: usize, factor: f32) {
        for piece in self.pieces.iter_mut().skip(from) {
            if let Piece::Text { weight, .. } = piece {
                *weight *= factor;
            }
        }
    }

    fn finish(mut self) -> Vec<Piece> {
        self.end_text();
        for from in std::mem::take(&mut self.round) {
            self.multiply(from, ROUND_FACTOR);
        }
        for from in std::mem::take(&mut self.square) {
            self.multiply(from, SQUARE_FACTOR);
        }
        merge_equal_neighbours(self.pieces)
    }
}

/// Reads `:1.3)` and returns the number and the length of all of it.
fn weight_and_bracket(rest: &str) -> Option<(f32, usize)> {
    let close = rest.find(')')?;
    let number = rest.get(1..close)?.trim();
    let allowed = |c: char| c.is_ascii_digit() || "+-.".contains(c);
    let weight = number.parse::<f32>().ok()?;
    (number.chars().all(allowed) && weight.is_finite()).then_some((weight, close + 1))
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
    use proptest::prelude::*;

    use super::*;

    /// The pieces as `text:weight`, weights to two digits.
    fn shown(prompt: &str) -> Vec<String> {
        parse(prompt)
            .into_iter()
            .map(|piece| match piece {
                Piece::Text { text, weight } => format!("{text}:{weight:.2}"),
                Piece::Break => "BREAK".to_owned(),
            })
            .collect()
    }

    #[test]
    fn brackets_mean_what_they_mean_in_a1111() {
        // The examples of `parse_prompt_attention`'s own documentation.
        assert_eq!(shown("normal text"), ["normal text:1.00"]);
        assert_eq!(
            shown("an (important) word"),
            ["an :1.00", "important:1.10", " word:1.00"]
        );
        assert_eq!(shown("(unbalanced"), ["unbalanced:1.10"]);
        assert_eq!(shown("\\(literal\\]"), ["(literal]:1.00"]);
        assert_eq!(shown("(unnecessary)(parens)"), ["unnecessaryparens:1.10"]);
        assert_eq!(
            shown("a (((house:1.3)) [on] a (hill:0.5), sun, (((sky)))."),
            [
                "a :1.00",
                "house:1.57",
                " :1.10",
                "on:1.00",
                " a :1.10",
                "hill:0.55",
                ", sun, :1.10",
                "sky:1.46",
                ".:1.10"
            ]
        );
    }

    #[test]
    fn loras_are_taken_out_of_the_text() {
        assert_eq!(shown("a <lora:pixel art:0.8>cat"), ["a cat:1.00"]);
        assert_eq!(shown("1 < 2 <3 <b>"), ["1 < 2 <3 <b>:1.00"]);
        let tag = |name: &str, text_encoder_weight, unet_weight| LoraTag {
            name: name.to_owned(),
            text_encoder_weight,
            unet_weight,
        };
        assert_eq!(
            loras("<lora:a> x <lora:b:0.5> <hypernet:c:1> <lora:d:0.2:-1>"),
            [tag("a", 1.0, 1.0), tag("b", 0.5, 0.5), tag("d", 0.2, -1.0)]
        );
    }

    #[test]
    fn break_is_a_word_of_its_own() {
        assert_eq!(shown("a BREAK b"), ["a :1.00", "BREAK", " b:1.00"]);
        assert_eq!(shown("BREAKFAST"), ["BREAKFAST:1.00"]);
    }

    #[test]
    fn a_colon_without_a_number_is_text() {
        assert_eq!(shown("(a:b)"), ["a:b:1.10"]);
        assert_eq!(shown("time 12:30)"), ["time 12:30):1.00"]);
    }

    proptest! {
        #[test]
        fn any_text_is_read_and_none_of_its_letters_is_lost(text in "[a-z ()\\[\\]:0-9.é猫]{0,40}") {
            let letters = |s: &str| s.chars().filter(|c| c.is_alphabetic()).collect::<String>();
            let read: String = parse(&text)
                .iter()
                .map(|piece| match piece {
                    Piece::Text { text, .. } => text.clone(),
                    Piece::Break => String::new(),
                })
                .collect();
            prop_assert_eq!(letters(&read), letters(&text));
        }
    }
}
