//! Prompts that change while they are drawn: `[from:to:0.5]`, `[to:5]`, `[from::5]`, `[a|b]`.
//!
//! Source: AUTOMATIC1111 stable-diffusion-webui 1.10 `modules/prompt_parser.py` (`schedule_parser`,
//! `get_learned_conditioning_prompt_schedules`). Its grammar is ambiguous at the outermost level,
//! where brackets without a partner are plain letters; the choice here is the one its parser makes
//! (compared in `tests/prompt_grammar.rs`).

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;

use crate::request::Emphasis;

/// Deeper nesting is plain text: bounds the recursion.
const MAX_DEPTH: usize = 100;

/// The text that counts up to a step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Phase {
    /// A1111's counter: this text is taken while `call <= end`, where `call` counts the calls of
    /// the network from 0.
    pub end: usize,
    pub text: String,
}

/// As [`phases`], as `emphasis` reads the prompt.
pub fn read(prompt: &str, emphasis: Emphasis, steps: usize) -> Vec<Phase> {
    match emphasis.composes() {
        true => phases(prompt, steps),
        false => vec![Phase {
            end: steps,
            text: prompt.to_owned(),
        }],
    }
}

/// The texts of a prompt over `steps`, in order; at least one, the last ends at `steps`.
///
/// A number with a point is a share of the steps, one without is a step.
pub fn phases(prompt: &str, steps: usize) -> Vec<Phase> {
    let nodes = parse(prompt);
    let mut ends = vec![steps];
    collect_ends(&nodes, steps, &mut ends);
    ends.sort_unstable();
    ends.dedup();
    let mut phases: Vec<Phase> = Vec::new();
    for end in ends {
        let mut text = String::new();
        write_at(&nodes, end, steps, &mut text);
        match phases.last_mut() {
            Some(last) if last.text == text => last.end = end,
            _ => phases.push(Phase { end, text }),
        }
    }
    phases
}

/// The phase of `call`, counted from 0 (`reconstruct_cond_batch`); the first where none reaches so
/// far, as A1111.
pub fn index_at(ends: impl IntoIterator<Item = usize>, call: usize) -> usize {
    ends.into_iter()
        .position(|end| call <= end)
        .unwrap_or_default()
}

/// A stretch of a prompt, as it was typed.
#[derive(Clone, Debug, PartialEq)]
pub enum Node {
    /// Letters, and brackets that schedule nothing.
    Text(String),
    /// `[before:after:when]`, `[after:when]`.
    Edit {
        before: Option<Vec<Node>>,
        after: Vec<Node>,
        when: When,
    },
    /// `[a|b|c]`.
    Alternate(Vec<Vec<Node>>),
}

/// A step, or a share of the steps.
#[derive(Clone, Debug, PartialEq)]
pub struct When {
    /// As typed, blanks around it included.
    pub text: String,
}

impl When {
    /// The last step of what stood before; 0 and less: never.
    fn step(&self, steps: usize) -> i64 {
        let number = self.text.trim();
        let value: f64 = number.parse().unwrap_or_default();
        let step = if number.contains('.') {
            value * steps as f64
        } else {
            value
        };
        (step as i64).min(steps as i64)
    }

    /// Whether it lies after the last step, so that nothing is ever changed.
    pub(super) fn is_never(&self) -> bool {
        let number = self.text.trim();
        number.contains('.') && number.parse::<f64>().is_ok_and(|value| value > 1.0)
    }
}

fn collect_ends(nodes: &[Node], steps: usize, ends: &mut Vec<usize>) {
    for node in nodes {
        match node {
            Node::Text(_) => {}
            Node::Edit {
                before,
                after,
                when,
            } => {
                ends.extend(
                    usize::try_from(when.step(steps))
                        .ok()
                        .filter(|end| *end > 0),
                );
                collect_ends(before.as_deref().unwrap_or_default(), steps, ends);
                collect_ends(after, steps, ends);
            }
            Node::Alternate(options) => {
                if ends.len() < 4 * steps {
                    ends.extend(1..=steps);
                }
                for option in options {
                    collect_ends(option, steps, ends);
                }
            }
        }
    }
}

/// What counts at `step`, counted from 1.
fn write_at(nodes: &[Node], step: usize, steps: usize, to: &mut String) {
    for node in nodes {
        match node {
            Node::Text(text) => to.push_str(text),
            Node::Edit {
                before,
                after,
                when,
            } => {
                let is_before = step as i64 <= when.step(steps);
                let chosen = if is_before {
                    before.as_deref().unwrap_or_default()
                } else {
                    after
                };
                write_at(chosen, step, steps, to);
            }
            Node::Alternate(options) => {
                let index = step.saturating_sub(1) % options.len().max(1);
                write_at(
                    options.get(index).map_or(&[][..], Vec::as_slice),
                    step,
                    steps,
                    to,
                );
            }
        }
    }
}

/// Takes a prompt apart. Never fails: what is no schedule is text.
pub fn parse(prompt: &str) -> Vec<Node> {
    parse_marked(prompt).nodes
}

/// A prompt taken apart, with places in bytes.
pub(super) struct Parsed {
    pub nodes: Vec<Node>,
    /// The signs that schedule: brackets, `:` and `|`, numbers.
    pub marks: Vec<Range<usize>>,
    /// Where A1111's parser gives up, and takes all of the prompt for text.
    pub stray: Option<usize>,
}

pub(super) fn parse_marked(prompt: &str) -> Parsed {
    let parser = Parser {
        text: prompt,
        partners: partners(prompt),
    };
    let mut marks = Vec::new();
    match parser.whole(&mut marks) {
        Ok(nodes) => Parsed {
            nodes,
            marks,
            stray: None,
        },
        Err(at) => Parsed {
            nodes: vec![Node::Text(prompt.to_owned())],
            marks: Vec::new(),
            stray: Some(at),
        },
    }
}

/// The closing partner of each opening bracket that has only whole pairs inside; by byte.
fn partners(text: &str) -> BTreeMap<usize, usize> {
    let mut found = BTreeMap::new();
    let mut open: Vec<(usize, char)> = Vec::new();
    let mut letters = text.char_indices();
    while let Some((at, letter)) = letters.next() {
        match letter {
            '\\' => {
                letters.next();
            }
            '(' | '[' => open.push((at, letter)),
            ')' | ']' => {
                let wanted = if letter == ')' { '(' } else { '[' };
                match open.pop().filter(|(_, opened)| *opened == wanted) {
                    Some((start, _)) => {
                        found.insert(start, at);
                    }
                    None => open.clear(),
                }
            }
            _ => {}
        }
    }
    found
}

struct Parser<'a> {
    text: &'a str,
    partners: BTreeMap<usize, usize>,
}

/// A stretch that was read: its nodes, and where it ends.
type Read = (Vec<Node>, usize);

impl Parser<'_> {
    /// The rule `start`; or the place where A1111's parser gives up.
    fn whole(&self, marks: &mut Vec<Range<usize>>) -> Result<Vec<Node>, usize> {
        let mut nodes = Vec::new();
        let mut at = 0;
        while let Some(letter) = self.letter(at) {
            if let Some(end) = self.item(at, 0, &mut nodes, marks) {
                at = end;
            } else if "[]():".contains(letter) {
                push_text(&mut nodes, self.slice(at..at + 1));
                at += 1;
            } else {
                return Err(at);
            }
        }
        Ok(nodes)
    }

    /// The rule `prompt`: as much as there is.
    fn prompt(&self, mut at: usize, depth: usize, marks: &mut Vec<Range<usize>>) -> Read {
        let mut nodes = Vec::new();
        while let Some(end) = self.item(at, depth, &mut nodes, marks) {
            at = end;
        }
        (nodes, at)
    }

    /// One plain stretch or bracket from `at` on; where it ends.
    fn item(
        &self,
        at: usize,
        depth: usize,
        nodes: &mut Vec<Node>,
        marks: &mut Vec<Range<usize>>,
    ) -> Option<usize> {
        let before = marks.len();
        let read = match self.letter(at)? {
            '(' => self.round(at, depth + 1, marks),
            '[' => self.square(at, depth + 1, marks),
            _ => {
                let end = self.plain_end(at);
                push_text(nodes, self.slice(at..end));
                return (end > at).then_some(end);
            }
        };
        let Some((read, end)) = read else {
            marks.truncate(before);
            return None;
        };
        for node in read {
            match node {
                Node::Text(text) => push_text(nodes, &text),
                other => nodes.push(other),
            }
        }
        Some(end)
    }

    /// `(prompt)`, `(prompt:prompt)`.
    fn round(&self, at: usize, depth: usize, marks: &mut Vec<Range<usize>>) -> Option<Read> {
        let close = self.partner(at, depth)?;
        let (inner, mut end) = self.prompt(at + 1, depth, marks);
        let mut nodes = vec![Node::Text("(".to_owned())];
        nodes.extend(inner);
        if self.letter(end) == Some(':') {
            nodes.push(Node::Text(":".to_owned()));
            let (more, after) = self.prompt(end + 1, depth, marks);
            nodes.extend(more);
            end = after;
        }
        nodes.push(Node::Text(")".to_owned()));
        (end == close).then_some((nodes, close + 1))
    }

    /// `[prompt]`, `[prompt|prompt]`, `[prompt:prompt:when]`, `[prompt:when]`.
    fn square(&self, at: usize, depth: usize, marks: &mut Vec<Range<usize>>) -> Option<Read> {
        let close = self.partner(at, depth)?;
        let (first, end) = self.prompt(at + 1, depth, marks);
        if end == close {
            let mut nodes = vec![Node::Text("[".to_owned())];
            nodes.extend(first);
            nodes.push(Node::Text("]".to_owned()));
            return Some((nodes, close + 1));
        }
        marks.extend([at..at + 1, end..end + 1, close..close + 1]);
        let node = match self.letter(end)? {
            '|' => self.alternate(first, end, (close, depth), marks)?,
            ':' => self.edit(first, end, (close, depth), marks)?,
            _ => return None,
        };
        Some((vec![node], close + 1))
    }

    fn alternate(
        &self,
        first: Vec<Node>,
        mut at: usize,
        (close, depth): (usize, usize),
        marks: &mut Vec<Range<usize>>,
    ) -> Option<Node> {
        let mut options = vec![first];
        while at < close && self.letter(at) == Some('|') {
            marks.push(at..at + 1);
            let (option, end) = self.prompt(at + 1, depth, marks);
            options.push(option);
            at = end;
        }
        (at == close).then_some(Node::Alternate(options))
    }

    fn edit(
        &self,
        first: Vec<Node>,
        at: usize,
        (close, depth): (usize, usize),
        marks: &mut Vec<Range<usize>>,
    ) -> Option<Node> {
        if let Some(when) = self.when(at + 1..close) {
            marks.push(at + 1..close);
            return Some(Node::Edit {
                before: None,
                after: first,
                when,
            });
        }
        let (after, end) = self.prompt(at + 1, depth, marks);
        let when = self.when(end + 1..close)?;
        marks.push(end..close);
        (self.letter(end) == Some(':')).then_some(Node::Edit {
            before: Some(first),
            after,
            when,
        })
    }

    /// Lark's `SIGNED_NUMBER`, with blanks around it.
    fn when(&self, range: Range<usize>) -> Option<When> {
        let text = self.text.get(range)?;
        let number = text.trim();
        let plain = |c: char| c.is_ascii_digit() || ".eE+-".contains(c);
        let is_number = number.chars().all(plain)
            && number.contains(|c: char| c.is_ascii_digit())
            && number.parse::<f64>().is_ok();
        is_number.then(|| When {
            text: text.to_owned(),
        })
    }

    fn partner(&self, at: usize, depth: usize) -> Option<usize> {
        let close = self.partners.get(&at)?;
        (depth <= MAX_DEPTH).then_some(*close)
    }

    /// The end of the letters from `at` on that mean nothing here; a backslash takes the next with it.
    fn plain_end(&self, at: usize) -> usize {
        let mut letters = self.slice(at..self.text.len()).char_indices();
        while let Some((offset, letter)) = letters.next() {
            let ends = match letter {
                '\\' => letters.next().is_none_or(|(_, escaped)| escaped == '\n'),
                other => "[]():|".contains(other),
            };
            if ends {
                return at + offset;
            }
        }
        self.text.len()
    }

    fn letter(&self, at: usize) -> Option<char> {
        self.text.get(at..)?.chars().next()
    }

    fn slice(&self, range: Range<usize>) -> &str {
        self.text.get(range).unwrap_or_default()
    }
}

fn push_text(nodes: &mut Vec<Node>, text: &str) {
    match nodes.last_mut() {
        _ if text.is_empty() => {}
        Some(Node::Text(before)) => before.push_str(text),
        _ => nodes.push(Node::Text(text.to_owned())),
    }
}

impl fmt::Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all = |f: &mut fmt::Formatter<'_>, nodes: &[Node]| {
            nodes.iter().try_for_each(|node| node.fmt(f))
        };
        match self {
            Self::Text(text) => f.write_str(text),
            Self::Edit {
                before,
                after,
                when,
            } => {
                f.write_str("[")?;
                if let Some(before) = before {
                    all(f, before)?;
                    f.write_str(":")?;
                }
                all(f, after)?;
                write!(f, ":{}]", when.text)
            }
            Self::Alternate(options) => {
                f.write_str("[")?;
                for (index, option) in options.iter().enumerate() {
                    if index > 0 {
                        f.write_str("|")?;
                    }
                    all(f, option)?;
                }
                f.write_str("]")
            }
        }
    }
}
