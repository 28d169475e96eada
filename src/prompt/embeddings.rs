//! Names of embeddings (textual inversions) in a prompt, for drawing, colours and the token counter.
//!
//! As A1111 reads prompts, a name counts wherever it stands, upper or lower case, the longest first, but
//! not inside a longer word. Source: A1111 1.10 `modules/textual_inversion/textual_inversion.py`
//! (`find_embedding_at_position`). As ComfyUI reads them, only `embedding:name` counts, where a word
//! begins; the name may hold folders and an ending, and one that is not there is left out. Source: ComfyUI
//! `comfy/sd1_clip.py` (`load_embed`, `_try_get_embedding`, `tokenize_with_weights`).

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};

use crate::files::stem;
use crate::request::Emphasis;

/// ComfyUI's prompts name embeddings so.
pub const COMFY_PREFIX: &str = "embedding:";

/// The embeddings that prompts may name, each with a number: its place in the list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EmbeddingNames {
    files: Vec<PathBuf>,
    /// By their first letter, the longest first; as [`folded`] gives them.
    by_first: BTreeMap<char, Vec<(Vec<char>, usize)>>,
    /// By the file's name with its ending and without, in lower case.
    by_file: BTreeMap<String, Vec<usize>>,
}

/// A stretch of a prompt; side by side they are all of it.
#[derive(Clone, Debug, PartialEq)]
pub enum Stretch<'a> {
    Words(&'a str),
    /// An embedding, and how many vectors, each in the place of a token, it has.
    Vectors {
        text: &'a str,
        number: usize,
        count: usize,
    },
    /// What ComfyUI leaves out: no embedding, or one that cannot be used.
    Nothing {
        text: &'a str,
        number: Option<usize>,
    },
}

impl<'a> Stretch<'a> {
    pub fn text(&self) -> &'a str {
        match self {
            Self::Words(text) | Self::Vectors { text, .. } | Self::Nothing { text, .. } => text,
        }
    }
}

/// Cuts a text at the embeddings that it names.
pub type Cut<'f> = &'f mut dyn for<'a> FnMut(&'a str) -> Vec<Stretch<'a>>;

/// For prompts that name none.
pub fn words_only(text: &str) -> Vec<Stretch<'_>> {
    vec![Stretch::Words(text)]
}

/// How many vectors the embedding of a number has; `None`: it cannot be used.
pub type Vectors<'f> = &'f mut dyn FnMut(usize) -> Option<usize>;

impl EmbeddingNames {
    /// Of several equal names the first counts.
    pub fn new(files: Vec<PathBuf>) -> Self {
        let mut all = Self::default();
        for (number, path) in files.iter().enumerate() {
            all.name(&stem(path), number);
            for name in [lower_name(path), stem(path).to_lowercase()] {
                all.by_file.entry(name).or_default().push(number);
            }
        }
        all.files = files;
        all.sorted()
    }

    /// Lets prompts call embeddings by other words than their files' names.
    pub fn with_words<'a>(mut self, words: impl IntoIterator<Item = (&'a str, usize)>) -> Self {
        for (word, number) in words {
            self.name(word, number);
            let by_file = self.by_file.entry(word.to_lowercase()).or_default();
            by_file.push(number);
        }
        self.sorted()
    }

    /// In the order of their numbers.
    pub fn files(&self) -> &[PathBuf] {
        &self.files
    }

    fn name(&mut self, name: &str, number: usize) {
        let name: Vec<char> = folded(name.trim()).map(|(letter, _)| letter).collect();
        if let Some(first) = name.first() {
            let names = self.by_first.entry(*first).or_default();
            names.push((name, number));
        }
    }

    fn sorted(mut self) -> Self {
        for names in self.by_first.values_mut() {
            names.sort_by_key(|(name, _)| Reverse(name.len()));
        }
        self
    }

    /// Cuts `text`, one piece of a prompt, at the names in it, as `emphasis` reads them.
    pub fn cut<'a>(
        &self,
        text: &'a str,
        emphasis: Emphasis,
        vectors: Vectors<'_>,
    ) -> Vec<Stretch<'a>> {
        match emphasis {
            Emphasis::Comfyui => self.cut_as_comfyui(text, vectors),
            Emphasis::Original
            | Emphasis::NoNorm
            | Emphasis::Ignore
            | Emphasis::None
            | Emphasis::Compel => self.cut_as_a1111(text, vectors),
        }
    }

    /// Where `vectors` says none a name is taken for words.
    // Differs from A1111: it compares tokens, and so misses a name that ends in a sign where another
    // sign follows, as in `<cat-toy>,`; and ComfyUI's prefix belongs to the name.
    fn cut_as_a1111<'a>(&self, text: &'a str, vectors: Vectors<'_>) -> Vec<Stretch<'a>> {
        if self.by_first.is_empty() {
            return words_only(text);
        }
        let mut stretches = Vec::new();
        let (mut words_from, mut at) = (0, 0);
        let mut before = None;
        while let Some(letter) = text.get(at..).and_then(|rest| rest.chars().next()) {
            match self.at(text, at, before, vectors) {
                Some((name, end)) => {
                    stretches.extend(words(text, words_from..at));
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
        stretches.extend(words(text, words_from..text.len()));
        stretches
    }

    /// The name that begins at `at`, and where it ends.
    fn at<'a>(
        &self,
        text: &'a str,
        at: usize,
        before: Option<char>,
        vectors: Vectors<'_>,
    ) -> Option<(Stretch<'a>, usize)> {
        let whole = text.get(at..)?;
        let prefix = whole.get(..COMFY_PREFIX.len());
        let prefixed = prefix.is_some_and(|prefix| prefix.eq_ignore_ascii_case(COMFY_PREFIX));
        let lead = if prefixed { COMFY_PREFIX.len() } else { 0 };
        let rest = whole.get(lead..)?;
        let (first, _) = folded(rest).next()?;
        let begins = if prefixed {
            prefix.and_then(|it| it.chars().next())
        } else {
            Some(first)
        };
        if same_word(before, begins) {
            return None;
        }
        let names = self.by_first.get(&first)?;
        names.iter().find_map(|(name, number)| {
            let length = length_of(name, rest)?;
            let after = rest.get(length..)?.chars().next();
            let last = name.last().copied();
            if same_word(last, after) {
                return None;
            }
            let named = Stretch::Vectors {
                text: whole.get(..lead + length)?,
                number: *number,
                count: vectors(*number)?,
            };
            Some((named, at + lead + length))
        })
    }

    fn cut_as_comfyui<'a>(&self, text: &'a str, vectors: Vectors<'_>) -> Vec<Stretch<'a>> {
        let begins = |(at, _): &(usize, &str)| {
            let before = text.get(..*at).unwrap_or_default();
            before.is_empty() || before.ends_with([' ', '\n'])
        };
        let mut starts = text
            .match_indices(COMFY_PREFIX)
            .filter(begins)
            .map(|(at, _)| at)
            .peekable();
        let mut stretches = Vec::new();
        stretches.extend(words(text, 0..starts.peek().copied().unwrap_or(text.len())));
        while let Some(start) = starts.next() {
            let next = starts.peek().copied().unwrap_or(text.len());
            let segment = text.get(start..next).unwrap_or_default();
            let (named, number) = self.in_segment(segment);
            let (named, rest) = segment.split_at(named);
            stretches.push(match number.and_then(|it| Some((it, vectors(it)?))) {
                Some((number, count)) => Stretch::Vectors {
                    text: named,
                    number,
                    count,
                },
                None => Stretch::Nothing {
                    text: named,
                    number,
                },
            });
            stretches.extend(words(rest, 0..rest.len()));
        }
        stretches
    }

    /// How many bytes of `embedding:name and more` are the name with what stands before it, and what it
    /// names. A comma belongs to a name only where there is one that is called so.
    fn in_segment(&self, segment: &str) -> (usize, Option<usize>) {
        let behind = segment.get(COMFY_PREFIX.len()..).unwrap_or_default();
        let begin = segment.len() - behind.trim_start().len();
        let word = behind.split_whitespace().next().unwrap_or_default();
        if word.is_empty() {
            return (COMFY_PREFIX.len(), None);
        }
        let whole = self.of_comfyui(word);
        let named = match whole {
            Some(_) => word,
            None => word.trim_matches(','),
        };
        let mut end = begin + named.len();
        while !segment.is_char_boundary(end) {
            end += 1;
        }
        (end, whole.or_else(|| self.of_comfyui(named)))
    }

    /// What ComfyUI calls so: the file's name, with its ending or without, with any of its folders.
    // Differs from ComfyUI, for which upper and lower case differ where they differ to the disk: the
    // other case counts where there is none in the right one.
    fn of_comfyui(&self, name: &str) -> Option<usize> {
        let name = name.replace('\\', "/");
        let (folders, file) = match name.rsplit_once('/') {
            Some((folders, file)) => (folders, file),
            None => ("", name.as_str()),
        };
        let fits = |number: &&usize| {
            let path = self.files.get(**number);
            path.is_some_and(|path| lies_in(path, folders))
        };
        let as_written = |number: &usize| {
            let path = self.files.get(*number).map(PathBuf::as_path);
            let path = path.unwrap_or(Path::new(""));
            stem(path) == file || path.file_name().is_some_and(|own| own == file)
        };
        let files = self.by_file.get(&file.to_lowercase())?;
        let fitting = files.iter().filter(fits).copied();
        fitting.min_by_key(|number| !as_written(number))
    }
}

/// Whether the folders around a file are these, from the last on.
fn lies_in(path: &Path, folders: &str) -> bool {
    let mut around = path.ancestors().skip(1);
    folders
        .rsplit('/')
        .filter(|folder| !folder.is_empty())
        .all(|folder| {
            let own = around.next().and_then(Path::file_name);
            own.is_some_and(|own| own.to_string_lossy().to_lowercase() == folder.to_lowercase())
        })
}

fn lower_name(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default();
    name.to_string_lossy().to_lowercase()
}

fn words(text: &str, range: Range<usize>) -> Option<Stretch<'_>> {
    let words = text.get(range)?;
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
        EmbeddingNames::default().with_words(NAMES.into_iter().zip(0..))
    }

    /// Names in braces, what is left out in bars.
    fn shown(names: &EmbeddingNames, text: &str, emphasis: Emphasis) -> String {
        let shown = |stretch: &Stretch<'_>| match stretch {
            Stretch::Words(words) => (*words).to_owned(),
            Stretch::Vectors { number, .. } => match names.files().get(*number) {
                Some(path) => format!("{{{}}}", path.display()),
                None => format!("{{{}}}", NAMES[*number]),
            },
            Stretch::Nothing { text, .. } => format!("|{text}|"),
        };
        let cut = names.cut(text, emphasis, &mut |_| Some(1));
        cut.iter().map(shown).collect()
    }

    fn as_a1111(text: &str) -> String {
        shown(&names(), text, Emphasis::Original)
    }

    #[test]
    fn the_longest_name_counts_in_any_case() {
        assert_eq!(as_a1111("bad-hands-5, bad"), "{Bad-Hands-5}, {bad}");
        assert_eq!(as_a1111("BAD-hands-4"), "{bad}-hands-4");
        assert_eq!(as_a1111("über"), "{ÜBER}");
        assert_eq!(
            as_a1111("a <cat-toy>, a <Cat-Toy>"),
            "a {<cat-toy>}, a {<cat-toy>}"
        );
    }

    #[test]
    fn a_name_inside_a_longer_word_is_none() {
        assert_eq!(as_a1111("badly abad bad2 2bad"), "badly abad {bad}2 2{bad}");
        assert_eq!(as_a1111("21girls 1girl"), "21girls {1girl}");
    }

    #[test]
    fn spaces_count_as_one_and_comfyuis_prefix_belongs_to_the_name() {
        assert_eq!(as_a1111("in My \n style now"), "in {my style} now");
        assert_eq!(
            as_a1111("embedding:bad, embedding:other"),
            "{bad}, embedding:other"
        );
    }

    #[test]
    fn what_does_not_count_gives_way_to_a_shorter_name() {
        let all = names();
        let first = &mut |number| (number == 0).then_some(3);
        let stretches = all.cut("bad-hands-5", Emphasis::Original, first);
        let named = Stretch::Vectors {
            text: "bad",
            number: 0,
            count: 3,
        };
        assert_eq!(stretches, [named, Stretch::Words("-hands-5")]);
        let nothing = all.cut("bad", Emphasis::Original, &mut |_| None);
        assert_eq!(nothing, [Stretch::Words("bad")]);
    }

    #[test]
    fn as_comfyui_only_the_prefix_names_and_what_is_not_there_is_left_out() {
        let paths = [
            "e/sub/bad.pt",
            "e/bad.safetensors",
            "e/Easy,.pt",
            "x/a/b.v2.bin",
        ];
        let names = EmbeddingNames::new(paths.map(PathBuf::from).into());
        for (text, want) in [
            ("bad, Bad-Hands", "bad, Bad-Hands"),
            ("a embedding:bad b", "a {e/sub/bad.pt} b"),
            ("embedding:bad.safetensors", "{e/bad.safetensors}"),
            ("embedding:sub/bad.pt,x", "|embedding:sub/bad.pt,x|"),
            ("embedding:sub\\BAD, x", "{e/sub/bad.pt}, x"),
            ("embedding:other/bad", "|embedding:other/bad|"),
            ("embedding:e/bad", "{e/bad.safetensors}"),
            ("embedding:easy, y", "{e/Easy,.pt} y"),
            ("embedding:b.v2 embedding:b", "{x/a/b.v2.bin} |embedding:b|"),
            ("a,embedding:bad", "a,embedding:bad"),
            (
                "x embedding:nope, y\nembedding:bad",
                "x |embedding:nope|, y\n{e/sub/bad.pt}",
            ),
            ("embedding:", "|embedding:|"),
            ("embedding: bad z", "{e/sub/bad.pt} z"),
            ("embedding:é,", "|embedding:é|,"),
        ] {
            assert_eq!(shown(&names, text, Emphasis::Comfyui), want, "{text}");
        }
        let none = names.cut("embedding:bad", Emphasis::Comfyui, &mut |_| None);
        let text = "embedding:bad";
        let number = Some(0);
        assert_eq!(none, [Stretch::Nothing { text, number }]);
    }

    proptest! {
        #[test]
        fn nothing_of_a_text_is_lost(text in "(embedding:|[a-cüİ <>\\-bad,\n\t]){0,30}") {
            for emphasis in [Emphasis::Original, Emphasis::Comfyui] {
                let names = names();
                let cut = names.cut(&text, emphasis, &mut |_| Some(1));
                let all: String = cut.iter().map(Stretch::text).collect();
                prop_assert_eq!(&all, &text);
            }
        }
    }
}
