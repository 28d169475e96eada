//! Prompts that are drawn anew for each picture: wildcards `__name__` and choices `{a|b}`,
//! `{2$$a|b|c}`, `{1-2$$ and $$a|b}`, `{0.5::a|b}`.
//!
//! Source: dynamicprompts 0.31 (of sd-dynamic-prompts): `parser/parse.py`, `samplers/random.py`,
//! `utils.py`. The same template, lists and seed give the same prompt (compared in
//! `tests/prompt_grammar.rs`). Differs from it: nothing fails, what is no template stays as it was
//! typed; `{word}` without a choice is text, as the braces in many pictures' prompts are; `!` and `@`
//! choose at random too; no variables.

use std::collections::BTreeMap;
use std::ops::Range;

use super::attention::held;
use super::python_random::PythonRandom;
use crate::error::{Error, Result};

/// Deeper nesting stays as it was typed, and lists that name each other so deeply are an error.
const MAX_DEPTH: usize = 50;
/// Wildcards and choices that one prompt may draw, and the bytes that it may grow to.
const MAX_DRAWN: usize = 10_000;
const MAX_BYTES: usize = 200_000;

/// The lists that wildcards are drawn from.
pub trait Lists {
    /// The lines of all lists whose name (`colours`, `animals/birds`) matches the pattern; `*` and
    /// `?` stand for letters of a name ([`matches()`]). Sorted, each once; none: there is no such list.
    fn values(&self, pattern: &str) -> Vec<String>;
}

impl Lists for BTreeMap<String, Vec<String>> {
    fn values(&self, pattern: &str) -> Vec<String> {
        let named = |pattern: &str| -> std::collections::BTreeSet<String> {
            let found = self.iter().filter(|(name, _)| matches(pattern, name));
            found.flat_map(|(_, lines)| lines.clone()).collect()
        };
        let mut found = named(pattern);
        if found.is_empty() {
            found = named(&below(pattern));
        }
        found.into_iter().collect()
    }
}

/// Whether a list of this name is drawn from by `__pattern__`, by its name or in a folder below.
pub fn is_named(pattern: &str, name: &str) -> bool {
    if pattern.contains(['*', '?']) {
        return matches(pattern, name) || matches(&below(pattern), name);
    }
    let folders = name.strip_suffix(pattern);
    folders.is_some_and(|folders| folders.is_empty() || folders.ends_with('/'))
}

/// The pattern that finds a list in folders below, where there is none of that name.
pub fn below(pattern: &str) -> String {
    format!("**/{pattern}")
}

/// Whether a list's name matches `pattern`: `*` is any letters, `?` any one (`fnmatch`).
pub fn matches(pattern: &str, name: &str) -> bool {
    let (pattern, name): (Vec<char>, Vec<char>) =
        (pattern.chars().collect(), name.chars().collect());
    let (mut p, mut n) = (0, 0);
    // The last star, and how many letters it has taken.
    let mut star: Option<(usize, usize)> = None;
    while n < name.len() {
        match pattern.get(p) {
            Some('*') => {
                star = Some((p, n));
                p += 1;
            }
            Some(sign) if *sign == '?' || name.get(n) == Some(sign) => {
                p += 1;
                n += 1;
            }
            _ => match &mut star {
                Some((at, taken)) => {
                    *taken += 1;
                    (p, n) = (*at + 1, *taken);
                }
                None => return false,
            },
        }
    }
    pattern.iter().skip(p).all(|sign| *sign == '*')
}

/// The lines of a wildcard file that can be drawn: not empty, not a `#` comment.
pub fn lines(text: &str) -> impl Iterator<Item = &str> {
    let lines = text.trim_start_matches('\u{feff}').lines().map(str::trim);
    lines.filter(|line| !line.is_empty() && !line.starts_with('#'))
}

/// Draws a template's wildcards and choices.
///
/// Errors: [`Error::Request`] where lists name each other without end.
pub fn resolve(template: &str, seed: u64, lists: &dyn Lists) -> Result<String> {
    let mut drawing = Drawing {
        random: PythonRandom::new(seed),
        lists,
        drawn: 0,
        bytes: 0,
    };
    drawing.sequence(&parse(template), 0)
}

/// Whether drawing the template could give anything but the template itself.
pub fn is_template(prompt: &str) -> bool {
    parse(prompt)
        .iter()
        .any(|node| !matches!(node, Node::Text(_)))
}

/// A stretch of a template.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Node {
    Text(String),
    /// `{low-high$$separator$$a|b}`.
    Choice {
        low: usize,
        high: usize,
        separator: String,
        options: Vec<Choice>,
    },
    /// `__name__`; a name may itself hold choices.
    Wildcard(Vec<Self>),
}

/// One of the options of `{a|b}`.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Choice {
    weight: f64,
    value: Vec<Node>,
}

struct Drawing<'a> {
    random: PythonRandom,
    lists: &'a dyn Lists,
    drawn: usize,
    bytes: usize,
}

impl Drawing<'_> {
    fn sequence(&mut self, nodes: &[Node], depth: usize) -> Result<String> {
        let mut text = String::new();
        for node in nodes {
            match node {
                Node::Text(words) => text.push_str(words),
                Node::Wildcard(name) => text.push_str(&self.wildcard(name, depth)?),
                Node::Choice {
                    low,
                    high,
                    separator,
                    options,
                } => text.push_str(&self.choice((*low, *high), separator, options, depth)?),
            }
        }
        self.bytes += text.len();
        if self.bytes > MAX_BYTES {
            return Err(too_much("the prompt grows beyond all bounds"));
        }
        Ok(text)
    }

    fn wildcard(&mut self, name: &[Node], depth: usize) -> Result<String> {
        let name = self.sequence(name, depth + 1)?;
        let values = self.values(&name, depth)?;
        if values.is_empty() {
            return Ok(format!("__{name}__"));
        }
        let value = values.get(self.random.below(values.len()));
        self.sequence(&parse_line(value.map_or("", String::as_str)), depth + 1)
    }

    fn values(&mut self, name: &str, depth: usize) -> Result<Vec<String>> {
        self.drawn += 1;
        if depth > MAX_DEPTH || self.drawn > MAX_DRAWN {
            return Err(too_much(&format!(
                "the wildcard __{name}__ leads to itself"
            )));
        }
        Ok(self.lists.values(&canonical(name)))
    }

    fn choice(
        &mut self,
        (low, high): (usize, usize),
        separator: &str,
        options: &[Choice],
        depth: usize,
    ) -> Result<String> {
        self.drawn += 1;
        if self.drawn > MAX_DRAWN {
            return Err(too_much("it has more choices than can be drawn"));
        }
        if let [only] = options {
            let [Node::Wildcard(name)] = only.value.as_slice() else {
                return self.sequence(&only.value, depth + 1);
            };
            return self.several((low, high), separator, name, depth);
        }
        let (low, high) = (low.min(options.len()), high.min(options.len()));
        let count = low + self.random.below(high - low + 1);
        let mut left: Vec<&Choice> = options.iter().collect();
        let mut weights: Vec<f64> = options.iter().map(|option| option.weight).collect();
        let mut texts = Vec::with_capacity(count);
        for chosen in (0..count).map_while(|_| take(&mut self.random, &mut left, &mut weights)) {
            texts.push(chosen);
        }
        let texts: Vec<String> = texts
            .into_iter()
            .map(|chosen| self.sequence(&chosen.value, depth + 1))
            .collect::<Result<_>>()?;
        Ok(joined(&texts, separator))
    }

    /// `{2$$__name__}`: several of one list.
    fn several(
        &mut self,
        bounds: (usize, usize),
        separator: &str,
        name: &[Node],
        depth: usize,
    ) -> Result<String> {
        let name = self.sequence(name, depth + 1)?;
        let values = self.values(&name, depth)?;
        let options: Vec<Choice> = values
            .iter()
            .map(|line| Choice {
                weight: 1.0,
                value: parse_line(line),
            })
            .collect();
        match options.as_slice() {
            [] => Ok(format!("__{name}__")),
            [only] => self.sequence(&only.value, depth + 1),
            options => self.choice(bounds, separator, options, depth + 1),
        }
    }
}

/// `choose_without_replacement`, with its way of finding equal options and weights again.
fn take<'a>(
    random: &mut PythonRandom,
    left: &mut Vec<&'a Choice>,
    weights: &mut Vec<f64>,
) -> Option<&'a Choice> {
    let chosen = *left.get(random.weighted(weights))?;
    let first = left
        .iter()
        .position(|option| option.value == chosen.value)?;
    let weight = *weights.get(first)?;
    let same = weights.iter().position(|other| *other == weight)?;
    weights.remove(same);
    left.remove(first);
    Some(chosen)
}

fn joined(texts: &[String], separator: &str) -> String {
    if let [only] = texts {
        return only.clone();
    }
    let joined = texts.join(separator);
    let joined = joined.strip_prefix(separator).unwrap_or(&joined);
    joined.strip_suffix(separator).unwrap_or(joined).to_owned()
}

/// A wildcard's name with plain slashes and none at its ends (`clean_wildcard`).
pub(super) fn canonical(name: &str) -> String {
    let parts = name.split(['/', '\\']).filter(|part| !part.is_empty());
    parts.collect::<Vec<_>>().join("/")
}

fn too_much(why: &str) -> Error {
    Error::Request(format!("The prompt's wildcards cannot be drawn: {why}"))
}

/// A line of a list: a template, without a comment behind it.
fn parse_line(line: &str) -> Vec<Node> {
    let comment = line.find(" #").map_or(line.len(), |at| at + 1);
    parse(line.get(..comment).unwrap_or(line))
}

/// A sign of a template, for colours and warnings.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Mark {
    /// Braces, bars, bounds, weights.
    Sign,
    /// `__name__`, all of it.
    Wildcard(String),
}

pub(super) fn parse(template: &str) -> Vec<Node> {
    parse_marked(template, &mut Vec::new())
}

/// As [`parse`]; `marks` gets the signs with their places in bytes.
pub(super) fn parse_marked(template: &str, marks: &mut Vec<(Range<usize>, Mark)>) -> Vec<Node> {
    let mut parser = Parser {
        text: template,
        partners: partners(template),
        marks,
    };
    parser.sequence(0..template.len(), 0)
}

/// The closing brace of each opening one.
fn partners(text: &str) -> BTreeMap<usize, usize> {
    let (mut found, mut open) = (BTreeMap::new(), Vec::new());
    for (at, letter) in text.char_indices() {
        match letter {
            '{' => open.push(at),
            '}' => found.extend(open.pop().map(|start| (start, at))),
            _ => {}
        }
    }
    found
}

struct Parser<'a, 'm> {
    text: &'a str,
    partners: BTreeMap<usize, usize>,
    marks: &'m mut Vec<(Range<usize>, Mark)>,
}

impl Parser<'_, '_> {
    fn sequence(&mut self, range: Range<usize>, depth: usize) -> Vec<Node> {
        let mut nodes = Vec::new();
        let mut at = range.start;
        while at < range.end {
            let next = self.sign(at..range.end);
            push_text(&mut nodes, self.slice(at..next));
            at = next;
            if at == range.end {
                break;
            }
            let read = match self.slice(at..at + 1) {
                "{" => self.choice(at, range.end, depth),
                _ => self.wildcard(at, range.end, depth),
            };
            match read {
                Some((node, end)) => {
                    nodes.push(node);
                    at = end;
                }
                None => {
                    push_text(&mut nodes, self.slice(at..at + 1));
                    at += 1;
                }
            }
        }
        nodes
    }

    /// Where the next brace or wildcard may begin.
    fn sign(&self, range: Range<usize>) -> usize {
        let bytes = self.slice(range.clone()).as_bytes();
        let is_sign = |at: &usize| match bytes.get(*at) {
            Some(b'{') => true,
            Some(b'_') => bytes.get(at + 1) == Some(&b'_'),
            _ => false,
        };
        let found = (0..bytes.len()).find(is_sign);
        found.map_or(range.end, |at| range.start + at)
    }

    /// `{...}` from its brace on, and where it ends.
    fn choice(&mut self, open: usize, end: usize, depth: usize) -> Option<(Node, usize)> {
        let close = *self.partners.get(&open).filter(|close| **close < end)?;
        let is_variable = self.slice(0..open).ends_with(['$', '%']);
        if depth >= MAX_DEPTH || is_variable {
            return None;
        }
        let inside = self.slice(open + 1..close);
        let bounds = bounds(inside);
        let way = inside.len() - without_way(inside).len();
        let from = open + 1 + bounds.as_ref().map_or(way, |bounds| bounds.length);
        let bars = self.bars(from..close);
        if bars.is_empty() && bounds.is_none() {
            return None;
        }
        self.marks.push((open..from, Mark::Sign));
        let mut options = Vec::new();
        let mut start = from;
        for bar in bars.into_iter().chain([close]) {
            options.push(self.option(start..bar, depth));
            self.marks.push((bar..bar + 1, Mark::Sign));
            start = bar + 1;
        }
        let Bounds {
            low,
            high,
            separator,
            ..
        } = bounds.unwrap_or_default();
        let high = high.unwrap_or(options.len());
        let node = Node::Choice {
            low: low.min(high),
            high: low.max(high),
            separator,
            options,
        };
        Some((node, close + 1))
    }

    /// The bars between the options: not those of braces inside.
    fn bars(&self, range: Range<usize>) -> Vec<usize> {
        let mut bars = Vec::new();
        let mut at = range.start;
        while let Some(offset) = self.slice(at..range.end).find(['{', '|']) {
            at += offset;
            let inner = self.partners.get(&at).filter(|close| **close < range.end);
            match inner {
                Some(close) => at = *close,
                None if self.slice(at..at + 1) == "|" => bars.push(at),
                None => {}
            }
            at += 1;
        }
        bars
    }

    fn option(&mut self, range: Range<usize>, depth: usize) -> Choice {
        let text = self.slice(range.clone());
        let mut start = range.start + (text.len() - text.trim_start().len());
        let weighted = weight(self.slice(start..range.end));
        if let Some((_, length)) = weighted {
            self.marks.push((start..start + length, Mark::Sign));
            start += length;
        }
        Choice {
            weight: weighted.map_or(1.0, |(weight, _)| weight),
            value: self.sequence(start..range.end, depth + 1),
        }
    }

    /// `__name__` from its first line on, and where it ends.
    fn wildcard(&mut self, start: usize, end: usize, depth: usize) -> Option<(Node, usize)> {
        let inside = start + 2;
        let length = self
            .slice(inside..end)
            .find("__")
            .filter(|length| *length > 0)?;
        let close = inside + length;
        let mut name = inside..close;
        if self.slice(name.clone()).starts_with(['~', '!', '@']) {
            name.start += 1;
        }
        let text = self.slice(name.clone()).to_owned();
        let is_name = !text.is_empty() && !text.contains(['\n', '#', '|', '<', '>']);
        let has_choice = text.contains('{');
        if depth >= MAX_DEPTH || !(is_name || has_choice) {
            return None;
        }
        self.marks.push((start..close + 2, Mark::Wildcard(text)));
        let name = self.sequence(name, depth + 1);
        Some((Node::Wildcard(name), close + 2))
    }

    fn slice(&self, range: Range<usize>) -> &str {
        self.text.get(range).unwrap_or_default()
    }
}

/// `2$$`, `1-3$$ and $$`: how many options, and what stands between them.
struct Bounds {
    low: usize,
    /// `None`: all of them.
    high: Option<usize>,
    separator: String,
    /// Bytes.
    length: usize,
}

impl Default for Bounds {
    /// Of `{a|b}`: one.
    fn default() -> Self {
        Self {
            low: 1,
            high: Some(1),
            separator: ",".to_owned(),
            length: 0,
        }
    }
}

/// What braces or a wildcard hold, without the sign of the way that it is drawn by.
fn without_way(text: &str) -> &str {
    let start = text.trim_start();
    start.strip_prefix(['~', '!', '@']).unwrap_or(start)
}

/// The bounds at the start of what braces hold.
fn bounds(text: &str) -> Option<Bounds> {
    let (range, rest) = without_way(text).split_once("$$")?;
    let number = |text: &str| -> Option<usize> {
        let digits = text.chars().all(|c| c.is_ascii_digit());
        text.parse().ok().filter(|_| digits)
    };
    let (low, high) = match range.split_once('-') {
        None => (number(range)?, Some(number(range)?)),
        Some(("", high)) => (1, Some(number(high)?)),
        Some((low, "")) => (number(low)?, None),
        Some((low, high)) => (number(low)?, Some(number(high)?)),
    };
    let separated = rest
        .split_once("$$")
        .filter(|(separator, _)| !separator.is_empty() && !separator.contains(['{', '}', '$']));
    let (separator, rest) = separated.unwrap_or((",", rest));
    Some(Bounds {
        low,
        high,
        separator: separator.to_owned(),
        length: text.len() - rest.len(),
    })
}

/// `0.5::` at the start of an option: the weight, and its bytes.
fn weight(text: &str) -> Option<(f64, usize)> {
    let (number, _) = text.split_once("::")?;
    let unsigned = number.strip_prefix(['+', '-']).unwrap_or(number);
    let is_number = unsigned.chars().all(|c| c.is_ascii_digit() || c == '.');
    let weight = held(number).filter(|_| is_number)?;
    Some((weight.max(0.0), number.len() + 2))
}

fn push_text(nodes: &mut Vec<Node>, text: &str) {
    match nodes.last_mut() {
        _ if text.is_empty() => {}
        Some(Node::Text(before)) => before.push_str(text),
        _ => nodes.push(Node::Text(text.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_match_as_file_names_do() {
        for (pattern, name) in [
            ("a", "a"),
            ("a/*", "a/b/c"),
            ("*b?", "aab1"),
            ("**/x", "a/x"),
        ] {
            assert!(matches(pattern, name), "{pattern} {name}");
        }
        for (pattern, name) in [("a", "ab"), ("a?", "a"), ("**/x", "x"), ("", "a")] {
            assert!(!matches(pattern, name), "{pattern} {name}");
        }
    }

    #[test]
    fn lists_that_name_each_other_are_an_error_and_not_a_hang() {
        let lists = BTreeMap::from([
            ("a".to_owned(), vec!["x __b__".to_owned()]),
            ("b".to_owned(), vec!["y __a__ __a__".to_owned()]),
        ]);
        let error = resolve("__a__", 1, &lists).unwrap_err();
        assert!(error.to_string().contains("leads to itself"), "{error}");
    }

    #[test]
    fn what_is_no_template_stays_as_it_was_typed() {
        let none = BTreeMap::new();
        for text in [
            "{a",
            "a}",
            "{masterpiece}",
            "a|b",
            "__",
            "a __ b",
            "${x}",
            "__nope__",
            "{{x}}",
        ] {
            assert_eq!(resolve(text, 3, &none).unwrap(), text);
        }
        assert!(!is_template("{{masterpiece}} a|b"));
        assert!(is_template("a {b|c}"));
    }
}
