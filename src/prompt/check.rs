//! A prompt as people see it while they type: what each letter is, and what is wrong.
//!
//! Nothing here keeps anybody from drawing: what cannot be read is drawn as text, as in AUTOMATIC1111.

use std::collections::BTreeMap;
use std::ops::Range;

use super::attention::{Token, held, tokens};
use super::embeddings::{COMFY_PREFIX, EmbeddingNames, Stretch};
use super::template::{self, Mark};
use super::{compel, compose, networks, schedule, whole_words};
use crate::request::Emphasis;

/// Beyond this a weight is a slip: `(at 12:30)`.
const STRONGEST: f64 = 5.0;

/// The names that there are; `None`: it is not known yet, and nothing is said of them.
#[derive(Clone, Copy, Debug, Default)]
pub struct Known<'a> {
    /// As prompts name them: file names without their ending, and what else the files are called.
    pub loras: Option<&'a [String]>,
    /// `colours`, `animals/birds`.
    pub wildcards: Option<&'a [String]>,
    pub embeddings: Option<&'a EmbeddingNames>,
}

/// What [`read`] finds.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Reading {
    /// Side by side from the first letter to the last, neighbours of different kinds.
    pub spans: Vec<Span>,
    /// In the order of the text.
    pub warnings: Vec<Warning>,
}

/// A stretch of one kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Span {
    /// Bytes.
    pub range: Range<usize>,
    pub kind: SpanKind,
}

/// What a stretch is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SpanKind {
    /// Words to draw.
    Text,
    /// A bracket that weighs words.
    Bracket,
    /// `:1.2`, without its bracket; `++` and `1.2` of compel.
    Weight,
    /// `\(`.
    Escape,
    /// The signs of `[a:b:0.5]` and `[a|b]`.
    Edit,
    /// `AND` (with its weight), `BREAK`.
    Keyword,
    /// `<lora:name:1>`.
    Network,
    /// `__name__`.
    Wildcard,
    /// The signs of `{2$$a|0.5::b}`.
    Choice,
    /// A word that is an embedding's name.
    Embedding,
}

/// Something that probably is not meant so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    /// Bytes; never empty.
    pub range: Range<usize>,
    /// One sentence or two.
    pub message: String,
}

/// Reads a prompt as it was typed, templates and all. Takes time in proportion to its length.
pub fn read(prompt: &str, emphasis: Emphasis, known: &Known<'_>) -> Reading {
    let mut marks = Vec::new();
    template::parse_marked(prompt, &mut marks);
    let mut reader = Reader {
        prompt,
        emphasis,
        kinds: vec![SpanKind::Text; prompt.len()],
        warnings: Vec::new(),
    };
    reader.wildcards(&marks, known);
    reader.open_braces(&marks);
    let template: Vec<Range<usize>> = marks.iter().map(|(range, _)| range.clone()).collect();
    let tags: Vec<Range<usize>> = networks::tags(prompt).collect();
    let plain = masked(&masked(prompt, &template, b'x'), &tags, b' ');
    reader.attention(&plain);
    if emphasis.composes() {
        reader.parts(&plain);
        reader.words(&plain, "BREAK");
    } else {
        reader.foreign(&plain);
    }
    reader.embeddings(&plain, known);
    reader.networks(&tags, known);
    reader.paint_template(marks);
    reader.finish()
}

/// The prompt with a letter in place of what the later readers never see, of the same length.
fn masked(prompt: &str, ranges: &[Range<usize>], letter: u8) -> String {
    let mut bytes = prompt.as_bytes().to_vec();
    for range in ranges {
        if let Some(hidden) = bytes.get_mut(range.clone()) {
            hidden.fill(letter);
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The text from a place on.
fn from(text: &str, at: usize) -> &str {
    text.get(at..).unwrap_or_default()
}

/// Numbers of hundreds of digits fill no line.
fn shortened(said: &str) -> String {
    /// Letters of it.
    const SHOWN: usize = 12;
    match said.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}…", said.get(..end).unwrap_or_default()),
        None => said.to_owned(),
    }
}

struct Reader<'a> {
    prompt: &'a str,
    emphasis: Emphasis,
    /// One a byte.
    kinds: Vec<SpanKind>,
    warnings: Vec<Warning>,
}

impl Reader<'_> {
    fn paint(&mut self, range: Range<usize>, kind: SpanKind) {
        if let Some(kinds) = self.kinds.get_mut(range) {
            kinds.fill(kind);
        }
    }

    fn warn(&mut self, range: Range<usize>, message: impl Into<String>) {
        let message = message.into();
        self.warnings.push(Warning { range, message });
    }

    /// Wildcards of which there is no list.
    fn wildcards(&mut self, marks: &[(Range<usize>, Mark)], known: &Known<'_>) {
        let Some(names) = known.wildcards else {
            return;
        };
        let mut asked: BTreeMap<&str, bool> = BTreeMap::new();
        for (range, mark) in marks {
            let Mark::Wildcard(name) = mark else {
                continue;
            };
            let is_known = asked.entry(name).or_insert_with(|| {
                let pattern = template::canonical(name);
                let is_named = |list: &String| template::is_named(&pattern, list);
                name.contains('{') || names.iter().any(is_named)
            });
            if !*is_known {
                let message =
                    format!("There is no wildcard {name}; it is drawn as it stands here.");
                self.warn(range.clone(), message);
            }
        }
    }

    /// A brace with a bar behind it was to be a choice.
    fn open_braces(&mut self, marks: &[(Range<usize>, Mark)]) {
        let prompt = self.prompt;
        let mut open = Vec::new();
        for (at, letter) in prompt.char_indices() {
            match letter {
                '{' if prompt.get(..at).is_some_and(|before| before.ends_with('$')) => {
                    self.warn(
                        at - 1..at + 1,
                        "Easel does not know variables; this is text.",
                    );
                    open.push(at);
                }
                '{' => open.push(at),
                '}' if open.pop().is_none() => {
                    self.warn(at..at + 1, "This } closes nothing and is read as a letter.");
                }
                _ => {}
            }
        }
        let mut is_sign = vec![false; prompt.len()];
        for (range, _) in marks {
            if let Some(signs) = is_sign.get_mut(range.clone()) {
                signs.fill(true);
            }
        }
        for at in open {
            if is_sign.get(at) == Some(&false) {
                self.warn(
                    at..at + 1,
                    "This { is never closed and is read as a letter.",
                );
            }
        }
    }

    /// Brackets and weights, by the grammar that is read.
    fn attention(&mut self, plain: &str) {
        match self.emphasis {
            Emphasis::Original | Emphasis::NoNorm | Emphasis::Ignore => self.brackets(plain, true),
            Emphasis::Comfyui => self.brackets(plain, false),
            Emphasis::Compel => self.compel(plain),
            Emphasis::None => {}
        }
    }

    fn brackets(&mut self, plain: &str, square: bool) {
        // Open round brackets with the last colon inside each; open square ones.
        let mut round: Vec<(usize, Option<usize>)> = Vec::new();
        let mut squares = Vec::new();
        for (range, token) in tokens(plain) {
            match token {
                Token::OpenRound => {
                    round.push((range.start, None));
                    self.paint(range, SpanKind::Bracket);
                }
                Token::OpenSquare if square => {
                    squares.push(range.start);
                    self.paint(range, SpanKind::Bracket);
                }
                Token::CloseSquare if square => {
                    self.close(squares.pop().is_some(), range, ']');
                }
                Token::CloseRound => {
                    let opened = round.pop();
                    if let Some((_, Some(colon))) = opened {
                        self.doubtful_weight(plain, colon..range.start);
                    }
                    self.close(opened.is_some(), range, ')');
                }
                Token::Weight(number) => {
                    let bracket = range.end - 1..range.end;
                    let is_open = round.pop().is_some();
                    if is_open {
                        self.paint(range.start..bracket.start, SpanKind::Weight);
                        self.strong_weight(range.start..bracket.start, number);
                    }
                    self.close(is_open, bracket, ')');
                }
                Token::Escape(sign) if square || matches!(sign, "(" | ")") => {
                    self.paint(range, SpanKind::Escape);
                }
                Token::Text(":") => {
                    if let Some((_, colon)) = round.last_mut() {
                        *colon = Some(range.start);
                    }
                }
                Token::OpenSquare | Token::CloseSquare | Token::Escape(_) | Token::Text(_) => {}
            }
        }
        let round = round.into_iter().map(|(at, _)| (at, '('));
        for (at, sign) in round.chain(squares.into_iter().map(|at| (at, '['))) {
            let message = format!(
                "This {sign} is never closed and counts to the end. Write \\{sign} for a plain bracket."
            );
            self.warn(at..at + 1, message);
        }
    }

    fn close(&mut self, is_open: bool, range: Range<usize>, sign: char) {
        if is_open {
            self.paint(range, SpanKind::Bracket);
        } else {
            let message = format!("This {sign} closes nothing and is read as a letter.");
            self.warn(range, message);
        }
    }

    fn strong_weight(&mut self, range: Range<usize>, number: &str) {
        if held(number).is_some_and(|weight| weight.abs() > STRONGEST) {
            let number = shortened(number);
            let message = format!("{number} is read as a weight; usual ones are 0.5 to 1.5.");
            self.warn(range, message);
        }
    }

    fn no_weight(&mut self, range: Range<usize>, said: &str) {
        let said = shortened(said);
        let message = format!("\"{said}\" is no weight: a number such as 1.2 belongs here.");
        self.warn(range, message);
    }

    /// A colon in round brackets with something like a number behind it.
    fn doubtful_weight(&mut self, plain: &str, range: Range<usize>) {
        let said = plain
            .get(range.start + 1..range.end)
            .unwrap_or_default()
            .trim();
        if said.is_empty() || said.starts_with(|c: char| c.is_ascii_digit() || "+-.".contains(c)) {
            self.no_weight(range, said);
        }
    }

    fn compel(&mut self, plain: &str) {
        let mut open = Vec::new();
        let (mut before, mut quoted) = (' ', false);
        let mut letters = plain.char_indices().peekable();
        while let Some((at, letter)) = letters.next() {
            match letter {
                '\\' => {
                    if let Some((escaped, sign)) = letters.next() {
                        self.paint(at..escaped + sign.len_utf8(), SpanKind::Escape);
                    }
                }
                '(' => {
                    open.push(at);
                    self.paint(at..at + 1, SpanKind::Bracket);
                }
                ')' => {
                    let opened = open.pop();
                    self.close(opened.is_some(), at..at + 1, ')');
                    if let Some(start) = opened {
                        self.weight_of_others(plain, start + 1..at);
                    }
                    self.weight_apart(plain, at + 1);
                }
                '"' => quoted = !quoted,
                '+' if before != '+' && compel::factor(from(plain, at), false).is_none() => {
                    let rest = from(plain, at);
                    let count = rest.len() - rest.trim_start_matches('+').len();
                    self.no_weight(at..at + count, rest.get(..count).unwrap_or_default());
                }
                '+' | '-' if !before.is_whitespace() => {
                    let ends = letters
                        .peek()
                        .is_none_or(|(_, next)| next.is_whitespace() || "+-),\"".contains(*next));
                    if ends {
                        self.paint(at..at + 1, SpanKind::Weight);
                    }
                }
                '0'..='9' | '.' if before == ')' || (before == '"' && !quoted) => {
                    self.weight_behind(plain, at);
                }
                _ => {}
            }
            before = letter;
        }
        self.mixing(plain, &open);
        for at in open {
            self.warn(
                at..at + 1,
                "This ( is never closed; its weight is not read.",
            );
        }
    }

    /// A number right behind a bracket or quotes.
    fn weight_behind(&mut self, plain: &str, at: usize) {
        let rest = from(plain, at);
        let length = rest.find(|c: char| !(c.is_ascii_digit() || ".,".contains(c)));
        let said = rest.get(..length.unwrap_or(rest.len())).unwrap_or_default();
        let said = said.trim_end_matches([',', '.']);
        match compel::factor(rest, true) {
            Some((_, after)) => {
                let end = rest.len() - after.len();
                self.paint(at..at + end, SpanKind::Weight);
                match said.len() > end {
                    true => self.no_weight(at..at + said.len(), said),
                    false => self.strong_weight(at..at + end, said),
                }
            }
            None if said.is_empty() => {}
            None => self.no_weight(at..at + said.len(), said),
        }
    }

    /// `(words:1.2)`, which is a weight as A1111 and ComfyUI read brackets.
    fn weight_of_others(&mut self, plain: &str, inside: Range<usize>) {
        let words = plain.get(inside.clone()).unwrap_or_default();
        // No further back than a number goes: deep brackets are read in time.
        let start = words.rfind(['(', ')']).map_or(0, |at| at + 1);
        let Some((before, number)) = from(words, start).rsplit_once(':') else {
            return;
        };
        let number = number.trim();
        if held(number).is_some_and(|weight| weight.abs() <= STRONGEST) {
            let message = format!(
                "\":{number}\" is words as compel reads brackets; its weight stands behind them: (words){number}"
            );
            self.warn(inside.start + start + before.len()..inside.end, message);
        }
    }

    /// `(words) 1.2`.
    fn weight_apart(&mut self, plain: &str, at: usize) {
        let rest = from(plain, at);
        let blank = rest.len() - rest.trim_start_matches(' ').len();
        let number = from(rest, blank).split([' ', ',', ')', '\n']).next();
        let number = number.unwrap_or_default();
        let is_weight = held(number).is_some_and(|weight| weight.abs() <= STRONGEST);
        if blank > 0 && number.contains('.') && is_weight {
            let message = format!(
                "{number} is words: a weight stands right behind its bracket, without a blank."
            );
            self.warn(at + blank..at + blank + number.len(), message);
        }
    }

    /// `.blend()`, `.and()` and `.swap()`; where brackets are that are never closed.
    fn mixing(&mut self, plain: &str, open: &[usize]) {
        const SWAP: &str = ".swap(";
        for (at, _) in plain.match_indices(SWAP) {
            let end = at + SWAP.len() - 1;
            let message = match open.binary_search(&end) {
                Ok(_) => "This is read as words: its bracket is never closed.",
                Err(_) => "The words before are drawn: Easel does not exchange them while drawing.",
            };
            self.warn(at..end, message);
        }
        for (at, attend) in plain.match_indices(".attend") {
            if compel::factor_behind(from(plain, at), true).is_none() {
                let message = "This is read as words: .attend(1.2) takes a number.";
                self.warn(at..at + attend.len(), message);
            }
        }
        let mixed = compel::mixed(plain);
        if let Some(mixed) = &mixed {
            let behind = mixed.operator.end..plain.trim_end().len();
            self.paint(mixed.operator.clone(), SpanKind::Keyword);
            if !behind.is_empty() {
                self.warn(behind, "What stands behind this is not drawn.");
            }
            return;
        }
        for operator in [".blend(", ".and("] {
            if let Some(at) = plain.find(operator) {
                let message = format!(
                    "This is read as words: (\"a\", \"b\"){operator}1, 0.5) stands alone, with a weight for each prompt."
                );
                self.warn(at..at + operator.len() - 1, message);
            }
        }
    }

    /// The prompts between `AND`s, and how each of them changes.
    fn parts(&mut self, plain: &str) {
        let places: Vec<usize> = whole_words(plain, "AND").collect();
        let mut from = 0;
        for end in places.iter().copied().chain([plain.len()]) {
            let text = plain.get(from..end).unwrap_or_default();
            let kept = text.trim_end();
            let weighted = compose::weight_at_end(kept).filter(|_| !places.is_empty());
            if let Some((before, _)) = weighted {
                let rest = kept.get(before.len()..).unwrap_or_default();
                let colon = from + kept.len() - rest.trim_start().len();
                self.paint(colon..from + kept.len(), SpanKind::Keyword);
            }
            if text.trim().is_empty() && !places.is_empty() {
                let at = if end < plain.len() {
                    end
                } else {
                    from.saturating_sub(3)
                };
                self.warn(
                    at..at + 3,
                    "AND stands between two prompts; one of them is empty.",
                );
            }
            self.schedule(text, from);
            from = end + "AND".len();
        }
        for at in places {
            self.paint(at..at + "AND".len(), SpanKind::Keyword);
        }
    }

    fn schedule(&mut self, part: &str, from: usize) {
        let parsed = schedule::parse_marked(part);
        for mark in &parsed.marks {
            let range = from + mark.start..from + mark.end;
            self.paint(range.clone(), SpanKind::Edit);
            let text = part.get(mark.clone()).unwrap_or_default();
            let when = schedule::When {
                text: text.trim_start_matches(':').to_owned(),
            };
            if when.is_never() {
                let message = format!(
                    "{} with a point is a share of the steps, and more than all of them: the change never comes.",
                    when.text.trim()
                );
                self.warn(range, message);
            }
        }
        self.missed_edits(part, from, &parsed);
    }

    /// Square brackets that look like editing and are none.
    fn missed_edits(&mut self, part: &str, from: usize, parsed: &schedule::Parsed) {
        // Open square brackets, and whether a colon or bar stands inside each.
        let mut open: Vec<(usize, bool)> = Vec::new();
        let mut missed = Vec::new();
        for (range, token) in tokens(part) {
            match token {
                Token::OpenSquare => open.push((range.start, false)),
                Token::CloseSquare => {
                    if let Some((start, true)) = open.pop()
                        && self.kinds.get(from + start) != Some(&SpanKind::Edit)
                    {
                        missed.push(start..range.end);
                    }
                }
                Token::Text(text) if text.contains([':', '|']) => {
                    if let Some((_, has_sign)) = open.last_mut() {
                        *has_sign = true;
                    }
                }
                _ => {}
            }
        }
        match parsed.stray {
            Some(at) if !missed.is_empty() => {
                let letter = part.get(at..).and_then(|rest| rest.chars().next());
                let letter = letter.unwrap_or('|');
                let message = format!(
                    "This {letter} belongs to no [a|b], which turns [a:b:0.5] and [a|b] off in the whole prompt."
                );
                self.warn(from + at..from + at + letter.len_utf8(), message);
            }
            _ => {
                for range in missed {
                    self.warn(
                        from + range.start..from + range.end,
                        "This changes nothing while drawing: [from:to:0.5] does, after half of the steps, and [a|b] does at each step.",
                    );
                }
            }
        }
    }

    fn words(&mut self, plain: &str, word: &str) {
        for at in whole_words(plain, word) {
            self.paint(at..at + word.len(), SpanKind::Keyword);
        }
    }

    /// Words that mean something in A1111 only.
    fn foreign(&mut self, plain: &str) {
        for word in ["AND", "BREAK"] {
            for at in whole_words(plain, word) {
                let program = self.emphasis.info().label;
                let message =
                    format!("{word} is a word like any other as {program} reads prompts.");
                self.warn(at..at + word.len(), message);
            }
        }
    }

    /// Names of embeddings in the words between all other signs.
    fn embeddings(&mut self, plain: &str, known: &Known<'_>) {
        let Some(names) = known.embeddings else {
            return;
        };
        let mut at = 0;
        while at < plain.len() {
            let is_words = |kind: &SpanKind| matches!(kind, SpanKind::Text | SpanKind::Escape);
            let rest = self.kinds.get(at..).unwrap_or_default();
            let length = rest.iter().take_while(|kind| is_words(kind)).count();
            self.embeddings_of(plain, at..at + length, names);
            at += length.max(1);
        }
    }

    fn embeddings_of(&mut self, plain: &str, range: Range<usize>, names: &EmbeddingNames) {
        let words = plain.get(range.clone()).unwrap_or_default();
        let mut at = range.start;
        for stretch in names.cut(words, self.emphasis, &mut |_| Some(1)) {
            let range = at..at + stretch.text().len();
            at = range.end;
            match stretch {
                Stretch::Vectors { .. } => self.paint(range, SpanKind::Embedding),
                Stretch::Nothing { .. } => {
                    let message =
                        "There is no embedding of this name; the prompt is read without it.";
                    self.warn(range, message);
                }
                Stretch::Words(words) => {
                    let mut end = 0;
                    for (start, _) in words.match_indices(COMFY_PREFIX) {
                        // Inside of the one before.
                        if start < end {
                            continue;
                        }
                        let rest = words.get(start..).unwrap_or_default();
                        let length = rest.find([' ', ',', '\n']).unwrap_or(rest.len());
                        end = start + length;
                        let message = match self.emphasis {
                            Emphasis::Comfyui => "ComfyUI wants a space before this.",
                            _ => "There is no embedding of this name.",
                        };
                        self.warn(range.start + start..range.start + end, message);
                    }
                }
            }
        }
    }

    fn networks(&mut self, tags: &[Range<usize>], known: &Known<'_>) {
        for tag in tags {
            self.paint(tag.clone(), SpanKind::Network);
            let inside = self
                .prompt
                .get(tag.start + 1..tag.end - 1)
                .unwrap_or_default();
            let mut words = inside.split(':');
            let kind = words.next().unwrap_or_default();
            if !matches!(kind, "lora" | "lyco") {
                let message = format!("Easel knows <lora:name:1> only; <{kind}:...> is left out.");
                self.warn(tag.clone(), message);
                continue;
            }
            let name = words.next().unwrap_or_default();
            let start = tag.start + 1 + kind.len() + 1;
            let is_known = |names: &[String]| names.iter().any(|it| it.eq_ignore_ascii_case(name));
            if known.loras.is_some_and(|names| !is_known(names))
                && !name.contains('{')
                && !name.contains("__")
            {
                let range = start..(start + name.len()).max(start + 1);
                self.warn(
                    range,
                    format!("No LoRA file in the model folders is called {name}."),
                );
            }
            let mut at = start + name.len();
            for number in words {
                let range = at + 1..at + 1 + number.len();
                at = range.end;
                let (name, value) = number.split_once('=').unwrap_or(("", number));
                let range = range.start..range.end.max(range.start + 1);
                if number.contains('{') {
                    continue;
                }
                if !matches!(name, "" | networks::TEXT_ENCODER | networks::UNET) {
                    self.warn(range, format!("Easel does not know {name}= of a LoRA."));
                } else if networks::weight(value).is_none() {
                    let message =
                        format!("\"{value}\" is no weight: a number such as 0.8 belongs here.");
                    self.warn(range, message);
                }
            }
        }
    }

    /// Last, so that a template's signs show inside of all else.
    fn paint_template(&mut self, mut marks: Vec<(Range<usize>, Mark)>) {
        // Wildcards first: choices may stand in their names.
        marks.sort_by_key(|(_, mark)| *mark == Mark::Sign);
        for (range, mark) in marks {
            let kind = match mark {
                Mark::Sign => SpanKind::Choice,
                Mark::Wildcard(_) => SpanKind::Wildcard,
            };
            self.paint(range, kind);
        }
    }

    fn finish(mut self) -> Reading {
        let mut spans: Vec<Span> = Vec::new();
        for (at, letter) in self.prompt.char_indices() {
            let kind = self.kinds.get(at).copied().unwrap_or(SpanKind::Text);
            let end = at + letter.len_utf8();
            match spans.last_mut() {
                Some(last) if last.kind == kind => last.range.end = end,
                _ => spans.push(Span {
                    range: at..end,
                    kind,
                }),
            }
        }
        let length = self.prompt.len();
        self.warnings.retain(|warning| warning.range.end <= length);
        self.warnings
            .sort_by_key(|warning| (warning.range.start, warning.range.end));
        Reading {
            spans,
            warnings: self.warnings,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    /// Each span that is not text, with its kind.
    fn signs(prompt: &str, emphasis: Emphasis) -> Vec<(&str, SpanKind)> {
        let reading = read(prompt, emphasis, &Known::default());
        let signs = reading.spans.into_iter();
        signs
            .filter(|span| span.kind != SpanKind::Text)
            .map(|span| (&prompt[span.range], span.kind))
            .collect()
    }

    /// What is warned of, and the beginning of the words.
    fn warned(prompt: &str, emphasis: Emphasis) -> Vec<(&str, String)> {
        let (loras, lists) = (names(&["pixel"]), names(&["a/bird"]));
        let embeddings = EmbeddingNames::new(vec!["embeddings/Neg.pt".into()]);
        let known = Known {
            loras: Some(&loras),
            wildcards: Some(&lists),
            embeddings: Some(&embeddings),
        };
        let warnings = read(prompt, emphasis, &known).warnings.into_iter();
        let short = |message: String| message.chars().take(18).collect();
        warnings
            .map(|warning| (&prompt[warning.range], short(warning.message)))
            .collect()
    }

    #[test]
    fn each_sign_has_its_kind() {
        use SpanKind::{Bracket, Choice, Edit, Escape, Keyword, Network, Weight, Wildcard};
        assert_eq!(
            signs("(a:1.2) [b] \\( [c:d:0.5] [e|f]", Emphasis::Original),
            [
                ("(", Bracket),
                (":1.2", Weight),
                (")", Bracket),
                ("[", Bracket),
                ("]", Bracket),
                ("\\(", Escape),
                ("[", Edit),
                (":", Edit),
                (":0.5]", Edit),
                ("[", Edit),
                ("|", Edit),
                ("]", Edit),
            ]
        );
        assert_eq!(
            signs(
                "a BREAK {2$$__y__|3::z} AND c :0.5 <lora:x:1>",
                Emphasis::Original
            ),
            [
                ("BREAK", Keyword),
                ("{2$$", Choice),
                ("__y__", Wildcard),
                ("|3::", Choice),
                ("}", Choice),
                ("AND", Keyword),
                (":0.5", Keyword),
                ("<lora:x:1>", Network),
            ]
        );
        assert_eq!(
            signs("(a b)1.2 c++ d-e [f]", Emphasis::Compel),
            [
                ("(", Bracket),
                (")", Bracket),
                ("1.2", Weight),
                ("++", Weight)
            ]
        );
        assert_eq!(
            signs("(a:2) [b] AND", Emphasis::Comfyui),
            [("(", Bracket), (":2", Weight), (")", Bracket)]
        );
        assert_eq!(signs("(a:2) [b]", Emphasis::None), []);
    }

    #[test]
    fn a_weight_that_no_tensor_holds_is_said_and_shortened() {
        let (nines, plus) = ("9".repeat(400), "+".repeat(1000));
        for (emphasis, prompt) in [
            (Emphasis::Original, format!("(a:{nines})")),
            (Emphasis::Comfyui, format!("(a:{nines})")),
            (Emphasis::Compel, format!("(a){nines}")),
            (Emphasis::Compel, format!("a{plus}")),
        ] {
            let warnings = read(&prompt, emphasis, &Known::default()).warnings;
            let [warning] = warnings.as_slice() else {
                panic!("{emphasis:?}: {warnings:?}");
            };
            assert!(warning.message.contains("…\" is no weight"), "{warning:?}");
            assert!(warning.message.len() < 100, "{warning:?}");
        }
    }

    #[test]
    fn what_is_probably_a_slip_is_said() {
        for (prompt, want) in [
            ("a (b", vec![("(", "This ( is never cl")]),
            (
                "a) b]",
                vec![(")", "This ) closes noth"), ("]", "This ] closes noth")],
            ),
            (
                "(a:1,2) (b:) (at 12:30)",
                vec![
                    (":1,2", "\"1,2\" is no weight"),
                    (":", "\"\" is no weight: a"),
                    (":30", "30 is read as a we"),
                ],
            ),
            (
                "[a:b] [c:d]",
                vec![
                    ("[a:b]", "This changes nothi"),
                    ("[c:d]", "This changes nothi"),
                ],
            ),
            ("a|b [c:d:2]", vec![("|", "This | belongs to ")]),
            ("[c|d:2]", vec![("|", "This | belongs to ")]),
            ("[a:b:1.5]", vec![(":1.5", "1.5 with a point i")]),
            ("a AND ", vec![("AND", "AND stands between")]),
            ("AND a", vec![("AND", "AND stands between")]),
            (
                "<lora:p_xel:1> <lora:__bird__:1>",
                vec![("p_xel", "No LoRA file in th")],
            ),
            (
                "<lora:pixel:1> <lora:pxel:x> <hypernet:y:1>",
                vec![
                    ("pxel", "No LoRA file in th"),
                    ("x", "\"x\" is no weight: "),
                    ("<hypernet:y:1>", "Easel knows <lora:"),
                ],
            ),
            (
                "__bird__ __a/*__ __fish__",
                vec![("__fish__", "There is no wildca")],
            ),
            (
                "{a|b ${c}",
                vec![("{", "This { is never cl"), ("${", "Easel does not kno")],
            ),
            (
                "neg, embedding:neg, embedding:x, y",
                vec![("embedding:x", "There is no embedd")],
            ),
            (
                "a, embedding:embedding:x b",
                vec![("embedding:embedding:x", "There is no embedd")],
            ),
            (
                "a (b:1.2) [c] [d:e:0.5] {f|g} BREAK (time: noon) h AND i",
                vec![],
            ),
        ] {
            let want: Vec<(&str, String)> = want
                .into_iter()
                .map(|(at, words)| (at, words.to_owned()))
                .collect();
            assert_eq!(warned(prompt, Emphasis::Original), want, "{prompt}");
        }
        assert_eq!(
            warned("a AND (b.swap(c)", Emphasis::Compel),
            [
                ("AND", "AND is a word like".to_owned()),
                ("(", "This ( is never cl".to_owned()),
                (".swap", "The words before a".to_owned()),
            ]
        );
        for (prompt, want) in [
            (
                "a.swap(b",
                vec![(".swap", "This is read as wo"), ("(", "This ( is never cl")],
            ),
            ("(\"a\", \"b\").blend(1, 0.5)", vec![]),
            (
                "(\"a\", \"b\").blend(1)",
                vec![(".blend", "This is read as wo")],
            ),
            ("x (\"a\", b).and()", vec![(".and", "This is read as wo")]),
            ("(a)1.2.3", vec![("1.2.3", "\"1.2.3\" is no weig")]),
            ("(a)1,2", vec![("1,2", "\"1,2\" is no weight")]),
            ("(a b)12, c", vec![("12", "12 is read as a we")]),
            ("(a:1.2)", vec![(":1.2", "\":1.2\" is words as")]),
            ("(a) 1.2, b", vec![("1.2", "1.2 is words: a we")]),
            ("a.attend(much)", vec![(".attend", "This is read as wo")]),
            (
                "(a). (b)1.2, (c) 2 d. \"1.5 e\"+ (at 12:30) f.attend(1.3)",
                vec![],
            ),
            ("(a, b).and() x ", vec![(" x", "What stands behind")]),
        ] {
            let want: Vec<(&str, String)> = want
                .into_iter()
                .map(|(at, it)| (at, it.to_owned()))
                .collect();
            assert_eq!(warned(prompt, Emphasis::Compel), want, "{prompt}");
        }
    }
}
