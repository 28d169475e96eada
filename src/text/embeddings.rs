//! Names of embeddings (textual inversions) in a prompt.
//!
//! A name counts wherever it stands, upper or lower case, the longest first, but not inside a longer
//! word. Source: A1111 1.10 `modules/textual_inversion/textual_inversion.py`
//! (`find_embedding_at_position`).

use std::collections::HashMap;

/// ComfyUI's prompts name embeddings so.
const COMFY_PREFIX: &str = "embedding:";

/// Names to look for, each with the number of what it stands for.
#[derive(Debug, Default)]
pub struct EmbeddingNames {
    /// By their first letter, the longest first; as [`folded`] gives them.
    by_first: HashMap<char, Vec<(Vec<char>, usize)>>,
}

/// A stretch of a prompt.
#[derive(Debug, PartialEq)]
pub enum Stretch<'a> {
    Words(&'a str),
    /// The number of an embedding, and how many vectors, each in the place of a token, it has.
    Vectors(usize, usize),
}

/// Cuts a text at the embeddings that it names.
pub type Cut<'f> = &'f mut dyn for<'a> FnMut(&'a str) -> Vec<Stretch<'a>>;

/// For prompts that name none.
pub fn words_only(text: &str) -> Vec<Stretch<'_>> {
    vec![Stretch::Words(text)]
}

impl EmbeddingNames {
    /// Of several equal names the first counts.
    pub fn new<'a>(names: impl IntoIterator<Item = (&'a str, usize)>) -> Self {
        let mut all = Self::default();
        for (name, number) in names {
            let name = name.trim();
            if !name.is_empty() {
                all.add(name, number);
                all.add(&format!("{COMFY_PREFIX}{name}"), number);
            }
        }
        for names in all.by_first.values_mut() {
            names.sort_by_key(|(name, _)| std::cmp::Reverse(name.len()));
        }
        all
    }

    fn add(&mut self, name: &str, number: usize) {
        let name: Vec<char> = folded(name).map(|(letter, _)| letter).collect();
        if let Some(first) = name.first() {
            self.by_first
                .entry(*first)
                .or_default()
                .push((name, number));
        }
    }

    /// Cuts `text` at the names in it. `vectors` says how many vectors a name's embedding has; where it
    /// says none the name is taken for words.
    // Differs from A1111: it compares tokens, and so misses a name that ends in a sign where another
    // sign follows, as in `<cat-toy>,`.
    pub fn cut<'a>(
        &self,
        text: &'a str,
        vectors: &mut dyn FnMut(usize) -> Option<usize>,
    ) -> Vec<Stretch<'a>> {
        if self.by_first.is_empty() {
            return words_only(text);
        }
        let mut stretches = Vec::new();
        let (mut words_from, mut at) = (0, 0);
        let mut before = None;
        while let Some(letter) = text.get(at..).and_then(|rest| rest.chars().next()) {
            match self.at(text, at, before, vectors) {
                Some((name, end)) => {
                    stretches.extend(words(text, words_from, at));
                    stretches.push(name);
                    before = text.get(at..end).and_then(|name| name.chars().next_back());
                    (words_from, at) = (end, end);
                }
                None => {
                    before = Some(letter);
                    at += letter.len_utf8();
                }
            }
        }
        stretches.extend(words(text, words_from, text.len()));
        stretches
    }

    /// The name that begins at `at`, and where it ends.
    fn at(
        &self,
        text: &str,
        at: usize,
        before: Option<char>,
        vectors: &mut dyn FnMut(usize) -> Option<usize>,
    ) -> Option<(Stretch<'static>, usize)> {
        let rest = text.get(at..)?;
        let (first, _) = folded(rest).next()?;
        let names = self.by_first.get(&first)?;
        names.iter().find_map(|(name, number)| {
            let end = at + length_of(name, rest)?;
            let after = text.get(end..)?.chars().next();
            let last = name.last().copied();
            if same_word(before, Some(first)) || same_word(last, after) {
                return None;
            }
            let count = vectors(*number)?;
            Some((Stretch::Vectors(*number, count), end))
        })
    }
}

fn words(text: &str, from: usize, to: usize) -> Option<Stretch<'_>> {
    let words = text.get(from..to)?;
    (!words.is_empty()).then_some(Stretch::Words(words))
}

/// Whether two neighbours belong to one word: the tokenizer never cuts between letters.
fn same_word(left: Option<char>, right: Option<char>) -> bool {
    let is_letter = |letter: Option<char>| letter.is_some_and(char::is_alphabetic);
    is_letter(left) && is_letter(right)
}

/// How many bytes of `text` the name takes, where `text` begins with it.
fn length_of(name: &[char], text: &str) -> Option<usize> {
    let mut letters = folded(text);
    let mut end = 0;
    for wanted in name {
        let (letter, after) = letters.next()?;
        if letter != *wanted {
            return None;
        }
        end = after;
    }
    // Not in the middle of a letter that is two in lower case.
    match letters.next() {
        Some((_, after)) if after == end => None,
        _ => Some(end),
    }
}

/// The letters in lower case, spaces as one, each with where it ends in `text`.
fn folded(text: &str) -> impl Iterator<Item = (char, usize)> + '_ {
    let mut in_space = false;
    text.char_indices().flat_map(move |(at, letter)| {
        let end = at + letter.len_utf8();
        let space = letter.is_whitespace();
        let skipped = space && in_space;
        in_space = space;
        let letter = if space { ' ' } else { letter };
        letter
            .to_lowercase()
            .filter(move |_| !skipped)
            .map(move |letter| (letter, end))
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NAMES: [&str; 6] = [
        "bad",
        "Bad-Hands-5",
        "my style",
        "<cat-toy>",
        "ÜBER",
        "1girl",
    ];

    fn names() -> EmbeddingNames {
        EmbeddingNames::new(NAMES.iter().zip(0..).map(|(name, number)| (*name, number)))
    }

    /// Names in angle brackets.
    fn shown(text: &str) -> String {
        let shown = |stretch: &Stretch<'_>| match stretch {
            Stretch::Words(words) => (*words).to_owned(),
            Stretch::Vectors(number, _) => format!("{{{}}}", NAMES[*number]),
        };
        names()
            .cut(text, &mut |_| Some(1))
            .iter()
            .map(shown)
            .collect()
    }

    #[test]
    fn the_longest_name_counts_in_any_case() {
        assert_eq!(shown("bad-hands-5, bad"), "{Bad-Hands-5}, {bad}");
        assert_eq!(shown("BAD-hands-4"), "{bad}-hands-4");
        assert_eq!(shown("über"), "{ÜBER}");
        assert_eq!(
            shown("a <cat-toy>, a <Cat-Toy>"),
            "a {<cat-toy>}, a {<cat-toy>}"
        );
    }

    #[test]
    fn a_name_inside_a_longer_word_is_none() {
        assert_eq!(shown("badly abad bad2 2bad"), "badly abad {bad}2 2{bad}");
        assert_eq!(shown("21girls 1girl"), "21girls {1girl}");
    }

    #[test]
    fn spaces_count_as_one_and_comfyuis_prefix_belongs_to_the_name() {
        assert_eq!(shown("in My \n style now"), "in {my style} now");
        assert_eq!(
            shown("embedding:bad, embedding:other"),
            "{bad}, embedding:other"
        );
    }

    #[test]
    fn what_does_not_count_gives_way_to_a_shorter_name() {
        let all = names();
        let stretches = all.cut("bad-hands-5", &mut |number| (number == 0).then_some(3));
        assert_eq!(
            stretches,
            [Stretch::Vectors(0, 3), Stretch::Words("-hands-5")]
        );
        let nothing = all.cut("bad", &mut |_| None);
        assert_eq!(nothing, [Stretch::Words("bad")]);
    }

    proptest! {
        #[test]
        fn nothing_of_a_text_is_lost(text in "[a-cüİ <>\\-bad,]{0,30}") {
            let cut = names();
            let cut = cut.cut(&text, &mut |_| Some(1));
            let words: usize = cut
                .iter()
                .map(|stretch| match stretch {
                    Stretch::Words(words) => words.len(),
                    Stretch::Vectors(..) => 0,
                })
                .sum();
            let named = cut.iter().filter(|it| matches!(it, Stretch::Vectors(..))).count();
            prop_assert!(named > 0 || words == text.len());
            prop_assert!(words <= text.len());
        }
    }
}
