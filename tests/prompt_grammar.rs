//! Prompts as the programs read them that they come from: AUTOMATIC1111, ComfyUI, compel,
//! sd-dynamic-prompts (`tests/reference/prompts.py`), and what holds of every text.
//!
//! Compared: all of what the parsers give, weights to 1e-12, and the chunks of long prompts. Not compared: A1111's `BREAK` inside of
//! brackets, where Easel differs; what a program refuses.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods
)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use easel::prompt::embeddings::{Cut, EmbeddingNames};
use easel::prompt::{
    Known, Piece, compose, mixture, name_at, networks, pieces, read, schedule, template,
};
use easel::request::{EMPHASES, Emphasis};
use easel::text::tokenizer::{Chunk, ClipPad, ClipTokenizer};
use proptest::prelude::*;
use serde::Deserialize;

#[derive(Deserialize)]
struct Reference {
    steps: usize,
    a1111: Vec<A1111>,
    comfyui: Vec<Weighted>,
    compel: Vec<Weighted>,
    compel_mixtures: Vec<Mixture>,
    lists: BTreeMap<String, Vec<String>>,
    templates: Vec<Template>,
    chunks: Vec<Chunks>,
    /// Files, and how many vectors each has.
    embeddings: Vec<(PathBuf, usize)>,
    comfyui_chunks: Vec<Chunks>,
}

/// Tokens and weights of each chunk, up to its end marker; row `R` of embedding `N` is the token
/// `-(1 + 100 N + R)`.
#[derive(Deserialize)]
struct Chunks {
    prompt: String,
    chunks: Vec<(Vec<i64>, Vec<f32>)>,
}

#[derive(Deserialize)]
struct A1111 {
    prompt: String,
    pieces: Vec<(String, f64)>,
    parts: Vec<(String, f64)>,
    phases: Vec<(usize, String)>,
}

#[derive(Deserialize)]
struct Weighted {
    prompt: String,
    pieces: Vec<(String, f64)>,
}

/// Each with its weight: prompts joined of prompts blended.
#[derive(Deserialize)]
struct Mixture {
    prompt: String,
    joined: Vec<(f64, Vec<(f64, Pieces)>)>,
}

type Pieces = Vec<(String, f64)>;

#[derive(Deserialize)]
struct Template {
    template: String,
    seeds: Vec<u64>,
    prompts: Vec<String>,
}

fn reference() -> Reference {
    let path =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/reference/data/prompts/grammar.json");
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// Pieces as A1111 has them: a break is a word of weight -1, and a prompt without any is one.
fn plain(pieces: Vec<Piece>) -> Vec<(String, f64)> {
    let plain = |piece| match piece {
        Piece::Text { text, weight } => (text, weight),
        Piece::Break => ("BREAK".to_owned(), -1.0),
    };
    pieces.into_iter().map(plain).collect()
}

#[track_caller]
fn same(what: &str, prompt: &str, got: &[(String, f64)], want: &[(String, f64)]) {
    let close = |(got, want): (&(String, f64), &(String, f64))| {
        got.0 == want.0 && (got.1 - want.1).abs() < 1e-12
    };
    assert!(
        got.len() == want.len() && got.iter().zip(want).all(close),
        "{what} of {prompt:?}:\n{got:?}, but the reference has\n{want:?}"
    );
}

#[test]
fn prompts_are_read_as_a1111_reads_them() {
    let reference = reference();
    assert!(reference.a1111.len() > 250);
    for case in &reference.a1111 {
        let prompt = case.prompt.as_str();
        let mut got = plain(pieces(prompt, Emphasis::Original));
        if got.is_empty() {
            got.push((String::new(), 1.0));
        }
        same("pieces", prompt, &got, &case.pieces);
        let parts: Vec<(String, f64)> = compose::parts(prompt)
            .into_iter()
            .map(|part| (part.text, part.weight))
            .collect();
        same("parts", prompt, &parts, &case.parts);
        let phases = schedule::phases(prompt, reference.steps);
        for call in 0..reference.steps {
            let want = case.phases.iter().find(|(end, _)| call <= *end);
            let (_, want) = want.unwrap_or(&case.phases[0]);
            let index = schedule::index_at(phases.iter().map(|phase| phase.end), call);
            assert_eq!(
                &phases[index].text, want,
                "call {call} of {prompt:?}: {phases:?}, but the reference has\n{:?}",
                case.phases
            );
        }
    }
}

#[test]
fn prompts_are_weighed_as_comfyui_weighs_them() {
    for case in &reference().comfyui {
        let got = plain(pieces(&case.prompt, Emphasis::Comfyui));
        same("pieces", &case.prompt, &got, &case.pieces);
    }
}

#[test]
fn prompts_are_weighed_as_compel_weighs_them() {
    let reference = reference();
    assert!(reference.compel.len() > 60);
    for case in &reference.compel {
        let got = plain(pieces(&case.prompt, Emphasis::Compel));
        same("pieces", &case.prompt, &got, &case.pieces);
    }
}

#[test]
fn prompts_are_mixed_as_compel_mixes_them() {
    let reference = reference();
    assert!(reference.compel_mixtures.len() > 25);
    for case in &reference.compel_mixtures {
        let got = mixture::mixture(&case.prompt, Emphasis::Compel);
        assert_eq!(got.len(), case.joined.len(), "{}", case.prompt);
        for (got, (weight, want)) in got.into_iter().zip(&case.joined) {
            assert!((got.weight - weight).abs() < 1e-12, "{}", case.prompt);
            assert_eq!(got.blended.len(), want.len(), "{}", case.prompt);
            for (got, (share, want)) in got.blended.into_iter().zip(want) {
                assert!((got.share - share).abs() < 1e-12, "{}", case.prompt);
                let fuse = |pieces: &[(String, f64)]| -> Vec<(String, f64)> {
                    let mut fused: Vec<(String, f64)> = Vec::new();
                    for (text, weight) in pieces {
                        match fused.last_mut() {
                            Some((before, same)) if same == weight => {
                                *before = format!("{before} {text}");
                            }
                            _ => fused.push((text.clone(), *weight)),
                        }
                    }
                    fused
                };
                // Around an exchange compel leaves pieces of one weight apart.
                same("pieces", &case.prompt, &plain(got.pieces), &fuse(want));
            }
        }
    }
}

#[test]
fn the_same_seed_draws_what_dynamicprompts_draws() {
    let reference = reference();
    assert!(reference.templates.len() > 60);
    let lists: BTreeMap<String, Vec<String>> = reference
        .lists
        .iter()
        .map(|(name, lines)| {
            let text = lines.join("\n");
            let lines = template::lines(&text).map(str::to_owned).collect();
            (name.clone(), lines)
        })
        .collect();
    for case in &reference.templates {
        for (seed, want) in case.seeds.iter().zip(&case.prompts) {
            let got = template::resolve(&case.template, *seed, &lists).unwrap();
            assert_eq!(&got, want, "{:?} with the seed {seed}", case.template);
        }
    }
}

fn trimmed(chunks: Vec<Chunk>) -> Vec<(Vec<i64>, Vec<f32>)> {
    let trim = |mut chunk: Chunk| {
        for row in &chunk.inserted {
            chunk.ids[row.at] = -((1 + 100 * row.embedding + row.vector) as i64);
        }
        let end = chunk.ids.iter().position(|id| *id == 49_407).unwrap() + 1;
        (chunk.ids[..end].to_vec(), chunk.weights[..end].to_vec())
    };
    chunks.into_iter().map(trim).collect()
}

#[test]
fn long_prompts_are_cut_where_a1111_cuts_them() {
    let tokenizer = ClipTokenizer::clip(77, ClipPad::EndMarker).unwrap();
    for case in &reference().chunks {
        let read = pieces(&case.prompt, Emphasis::Original);
        let got = trimmed(tokenizer.chunks(&read).unwrap());
        assert_eq!(got, case.chunks, "{:?}", case.prompt);
    }
}

#[test]
fn embeddings_are_named_and_long_prompts_cut_as_comfyui_does() {
    let tokenizer = ClipTokenizer::clip(77, ClipPad::EndMarker).unwrap();
    let reference = reference();
    let (files, rows): (Vec<PathBuf>, Vec<usize>) = reference.embeddings.into_iter().unzip();
    let names = EmbeddingNames::new(files);
    assert!(reference.comfyui_chunks.len() > 30);
    for case in &reference.comfyui_chunks {
        let read = pieces(&case.prompt, Emphasis::Comfyui);
        let cut: Cut<'_> = &mut |text| {
            let mut count = |number: usize| Some(rows[number]);
            names.cut(text, Emphasis::Comfyui, &mut count)
        };
        let got = trimmed(tokenizer.chunks_of_segments(&read, cut).unwrap());
        assert_eq!(got, case.chunks, "{:?}", case.prompt);
    }
}

/// Texts full of signs.
const SIGNS: &str = "(a|b |c|[(]|[)]|\\[|\\]|:|\\||0\\.5|2| |\\\\|[{]|[}]|[$][$]|::|__|<|>|lora:|AND| BREAK |é|猫|:1\\.2[)]|\\+|-|\"|\n|,|#){0,24}";

fn any_prompt() -> impl Strategy<Value = String> {
    prop_oneof![SIGNS, any::<String>()]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn a_schedule_that_is_printed_and_read_again_is_the_same(prompt in any_prompt()) {
        let nodes = schedule::parse(&prompt);
        let printed: String = nodes.iter().map(ToString::to_string).collect();
        prop_assert_eq!(&printed, &prompt);
        prop_assert_eq!(schedule::parse(&printed), nodes);
    }

    #[test]
    fn spans_cover_the_text_and_warnings_lie_in_it(prompt in any_prompt()) {
        let names = ["a".to_owned()];
        let embeddings = EmbeddingNames::new(vec!["embeddings/a.pt".into()]);
        let known = Known { loras: Some(&names), wildcards: Some(&names), embeddings: Some(&embeddings) };
        for emphasis in &EMPHASES {
            let reading = read(&prompt, emphasis.id, &known);
            let mut at = 0;
            let mut last = None;
            for span in &reading.spans {
                prop_assert_eq!(span.range.start, at);
                prop_assert!(prompt.get(span.range.clone()).is_some_and(|text| !text.is_empty()));
                prop_assert_ne!(Some(span.kind), last);
                (at, last) = (span.range.end, Some(span.kind));
            }
            prop_assert_eq!(at, prompt.len());
            for warning in &reading.warnings {
                let text = prompt.get(warning.range.clone());
                prop_assert!(text.is_some_and(|text| !text.is_empty()), "{:?}", warning);
            }
        }
    }

    #[test]
    fn nothing_panics_and_nothing_is_made_up(prompt in any_prompt(), seed in any::<u64>(), steps in 1usize..40) {
        let lists = BTreeMap::from([("a".to_owned(), vec!["x {a|__a__}".to_owned(), "y".to_owned()])]);
        if let Ok(drawn) = template::resolve(&prompt, seed, &lists)
            && !template::is_template(&prompt)
        {
            prop_assert_eq!(&drawn, &prompt);
        }
        let bare = networks::without_tags(&prompt);
        let _ = networks::loras(&prompt);
        let parts = compose::parts(&bare);
        prop_assert!(!parts.is_empty());
        for part in parts {
            let phases = schedule::phases(&part.text, steps);
            prop_assert_eq!(phases.last().map(|phase| phase.end), Some(steps));
            for phase in phases {
                for emphasis in &EMPHASES {
                    for piece in pieces(&phase.text, emphasis.id) {
                        if let Piece::Text { weight, .. } = piece {
                            prop_assert!(!weight.is_nan());
                        }
                    }
                }
            }
        }
        for cursor in 0..=prompt.len() {
            if let Some(typed) = name_at(&prompt, cursor) {
                prop_assert!(prompt.get(typed.range).is_some());
            }
        }
    }
}
