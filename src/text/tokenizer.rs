//! CLIP's byte-level BPE, and prompts cut into chunks as long as the text encoder.
//!
//! A prompt longer than one chunk is continued in further chunks, each with its own markers, as
//! AUTOMATIC1111 does (`modules/sd_hijack_clip.py`, `tokenize_line`): nothing is cut off. A chunk that
//! would end in the middle of a phrase goes back to the last comma if it is close.

use std::collections::BTreeMap;
use std::path::Path;

use tokenizers::models::bpe::{BPE, BpeBuilder, Vocab};
use tokenizers::normalizers::replace::ReplacePattern;
use tokenizers::normalizers::{Lowercase, NFC, Replace, Sequence as Normalizers};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::sequence::Sequence as PreTokenizers;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::{AddedToken, SplitDelimiterBehavior};

use super::clip_vocabulary::{BEGIN, END, merges, tokens};
use crate::error::{Error, Result};
use crate::prompt::embeddings::{Cut, Stretch, words_only};
use crate::prompt::{Piece, compose, mixture, schedule, template};
use crate::request::Emphasis;

/// How far back (in tokens) a chunk may end at a comma; A1111's default.
const COMMA_BACKTRACK: usize = 20;
/// From so many tokens on ComfyUI cuts words between two embeddings at the end of a chunk.
const LONG_SEGMENT: usize = 8;
/// Enough for every text of a prompt that changes to be seen once.
const COUNTED_STEPS: usize = 20;
/// The pieces that CLIP's tokenizer cuts text into before it looks at letters.
const CLIP_PATTERN: &str =
    r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+";

/// Makes token numbers of text.
pub struct ClipTokenizer {
    bpe: tokenizers::Tokenizer,
    begin: u32,
    end: u32,
    pad: u32,
    comma: Option<u32>,
    /// Tokens of one chunk with its two markers: 77 for Stable Diffusion.
    length: usize,
}

/// What fills a chunk up to its length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClipPad {
    /// OpenAI's CLIP: Stable Diffusion 1.
    EndMarker,
    /// OpenCLIP: Stable Diffusion 2.
    Zero,
}

/// One stretch of tokens as the encoder takes it, with a weight for each.
#[derive(Clone, Debug, PartialEq)]
pub struct Chunk {
    /// Begin marker, tokens, end marker, padding: always the tokenizer's length.
    pub ids: Vec<i64>,
    /// As long as `ids`; markers and padding count 1.
    pub weights: Vec<f32>,
    /// Which piece of the prompt each token is of; markers and padding are of none.
    pub pieces: Vec<Option<usize>>,
    /// Where a vector of an embedding stands in the place of a token.
    pub inserted: Vec<Inserted>,
}

/// A vector in the place of a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Inserted {
    /// In `ids`, which has some token there.
    pub at: usize,
    /// The embedding's number, and which of its vectors.
    pub embedding: usize,
    pub vector: usize,
}

impl ClipTokenizer {
    /// Reads a `tokenizer/` folder: `tokenizer.json`, or `vocab.json` and `merges.txt`.
    ///
    /// `max_position_embeddings` is the text encoder's; a shorter `model_max_length` in
    /// `tokenizer_config.json` wins.
    /// Errors: [`Error::Model`] naming the file that is missing or wrong.
    pub fn from_folder(folder: &Path, max_position_embeddings: usize) -> Result<Self> {
        let wrong = |why: String| Error::model(folder, why);
        let whole = folder.join("tokenizer.json");
        let bpe = if whole.is_file() {
            from_one_file(&whole)?
        } else {
            from_vocab_and_merges(folder)?
        };
        let config = TokenizerConfig::read(folder)?;
        let id = |token: &str| {
            bpe.token_to_id(token)
                .ok_or_else(|| wrong(format!("its tokenizer lacks the token {token}")))
        };
        let end = id(&config.eos_token)?;
        let length = config
            .model_max_length
            .map_or(max_position_embeddings, |max| {
                max.min(max_position_embeddings)
            });
        if length < 3 {
            return Err(wrong(format!(
                "its tokenizer allows {length} tokens, which leaves no room for a prompt"
            )));
        }
        Ok(Self {
            begin: id(&config.bos_token)?,
            end,
            pad: config.pad_token.as_deref().map_or(Ok(end), id)?,
            comma: bpe.token_to_id(",</w>"),
            bpe,
            length,
        })
    }

    /// CLIP's own tokenizer, for model files without one. `length` is the text encoder's
    /// `max_position_embeddings`, `pad` what fills a chunk up.
    ///
    /// Errors: [`Error::Request`] for a `length` below 3.
    pub fn clip(length: usize, pad: ClipPad) -> Result<Self> {
        let wrong = |error: tokenizers::Error| Error::Request(format!("CLIP's tokenizer: {error}"));
        if length < 3 {
            let why = format!("A text encoder of {length} tokens leaves no room for a prompt");
            return Err(Error::Request(why));
        }
        let merges = merges();
        let vocab = tokens(&merges).into_iter().zip(0..).collect::<Vocab>();
        let id = |token: &str| vocab.get(token).copied().unwrap_or_default();
        let (begin, end) = (id(BEGIN), id(END));
        let model = BPE::builder().vocab_and_merges(vocab, merges);
        let bpe = around(model).map_err(wrong)?;
        Ok(Self {
            begin,
            end,
            pad: match pad {
                ClipPad::EndMarker => end,
                ClipPad::Zero => 0,
            },
            comma: bpe.token_to_id(",</w>"),
            bpe,
            length,
        })
    }

    /// Tokens of one chunk with both markers.
    pub fn length(&self) -> usize {
        self.length
    }

    /// Tokens of the prompt as it was typed, without markers, weights, `BREAK` and `<lora:...>`; the
    /// embeddings that `cut` finds count as their vectors. Of a prompt with several texts, the longest;
    /// of choices, any one.
    ///
    /// Errors: [`Error::Request`] where the tokenizer refuses the text.
    pub fn count(&self, prompt: &str, emphasis: Emphasis, cut: Cut<'_>) -> Result<usize> {
        let prompt = template::resolve(prompt, 0, &BTreeMap::new())?;
        let mut longest = 0;
        for part in compose::read(&prompt, emphasis) {
            for phase in schedule::read(&part.text, emphasis, COUNTED_STEPS) {
                longest = longest.max(self.count_text(&phase.text, emphasis, cut)?);
            }
        }
        Ok(longest)
    }

    fn count_text(&self, text: &str, emphasis: Emphasis, cut: Cut<'_>) -> Result<usize> {
        let mut longest = 0;
        let mixture = mixture::mixture(text, emphasis).into_iter();
        for text in mixture.flat_map(|joined| joined.blended) {
            let mut tokens = 0;
            for piece in text.pieces {
                let Piece::Text { text, .. } = piece else {
                    continue;
                };
                for stretch in cut(&text) {
                    tokens += match stretch {
                        Stretch::Words(words) => self.tokens(words)?.len(),
                        Stretch::Vectors { count, .. } => count,
                        Stretch::Nothing { .. } => 0,
                    };
                }
            }
            longest = longest.max(tokens);
        }
        Ok(longest)
    }

    /// The chunks of the pieces of a prompt; at least one.
    ///
    /// Errors: [`Error::Request`] where the tokenizer refuses the text.
    pub fn chunks(&self, pieces: &[Piece]) -> Result<Vec<Chunk>> {
        self.chunks_with(pieces, &mut words_only)
    }

    /// The same where `cut` finds embeddings in the text. All vectors of one lie in one chunk; one with
    /// more vectors than a chunk has room for must not be found.
    pub fn chunks_with(&self, pieces: &[Piece], cut: Cut<'_>) -> Result<Vec<Chunk>> {
        let mut chunks = Vec::new();
        let mut open = OpenChunk::default();
        for (index, piece) in pieces.iter().enumerate() {
            let (text, weight) = match piece {
                Piece::Break => {
                    chunks.push(self.close(&mut open));
                    continue;
                }
                Piece::Text { text, weight } => (text, *weight as f32),
            };
            for stretch in cut(text) {
                match stretch {
                    Stretch::Words(words) => {
                        for token in self.tokens(words)? {
                            self.push(&mut chunks, &mut open, (token, weight, index));
                        }
                    }
                    Stretch::Nothing { .. } => {}
                    Stretch::Vectors { number, count, .. } => {
                        if open.tokens.len() == self.capacity() {
                            chunks.push(self.close_at_comma(&mut open, None));
                        }
                        if open.tokens.len() + count > self.capacity() {
                            chunks.push(self.close(&mut open));
                        }
                        open.tokens.extend(vectors(number, count, weight, index));
                    }
                }
            }
        }
        if !open.tokens.is_empty() || chunks.is_empty() {
            chunks.push(self.close(&mut open));
        }
        Ok(chunks)
    }

    /// Tokens of one chunk without its markers.
    pub fn capacity(&self) -> usize {
        self.length - 2
    }

    fn push(
        &self,
        chunks: &mut Vec<Chunk>,
        open: &mut OpenChunk,
        (id, weight, piece): (u32, f32, usize),
    ) {
        if open.tokens.len() == self.capacity() {
            chunks.push(self.close_at_comma(open, Some(id)));
        }
        if Some(id) == self.comma {
            open.last_comma = Some(open.tokens.len());
        }
        let vector = None;
        open.tokens.push(Token {
            id,
            weight,
            piece,
            vector,
        });
    }

    /// As [`Self::chunks_with`], in ComfyUI's way: what has one weight and no embedding inside is kept
    /// together where it is short (`comfy/sd1_clip.py`, `tokenize_with_weights`). A break begins a new
    /// chunk.
    ///
    /// Errors: as [`Self::chunks`].
    pub fn chunks_of_segments(&self, pieces: &[Piece], cut: Cut<'_>) -> Result<Vec<Chunk>> {
        let mut chunks = Vec::new();
        let mut open = OpenChunk::default();
        for (index, piece) in pieces.iter().enumerate() {
            let Piece::Text { text, weight } = piece else {
                chunks.push(self.close(&mut open));
                continue;
            };
            let weight = *weight as f32;
            for stretch in cut(text) {
                match stretch {
                    Stretch::Words(words) => {
                        let token = |id| Token {
                            id,
                            weight,
                            piece: index,
                            vector: None,
                        };
                        let segment = self.tokens(words)?.into_iter().map(token).collect();
                        self.push_segment(&mut chunks, &mut open, segment);
                    }
                    Stretch::Vectors { number, count, .. } => {
                        let segment = vectors(number, count, weight, index).collect();
                        self.push_segment(&mut chunks, &mut open, segment);
                    }
                    Stretch::Nothing { .. } => {}
                }
            }
        }
        chunks.push(self.close(&mut open));
        Ok(chunks)
    }

    fn push_segment(&self, chunks: &mut Vec<Chunk>, open: &mut OpenChunk, mut rest: Vec<Token>) {
        let is_long = rest.len() >= LONG_SEGMENT;
        loop {
            let room = self.capacity().saturating_sub(open.tokens.len());
            if rest.len() <= room {
                open.tokens.append(&mut rest);
                return;
            }
            if is_long || rest.len() > self.capacity() {
                let later = rest.split_off(room);
                open.tokens.append(&mut rest);
                rest = later;
            }
            chunks.push(self.close(open));
        }
    }

    fn tokens(&self, text: &str) -> Result<Vec<u32>> {
        self.bpe
            .encode(text, false)
            .map(|encoding| encoding.get_ids().to_vec())
            .map_err(|error| Error::Request(format!("The prompt cannot be read: {error}")))
    }

    /// Ends a full chunk at its last comma when that is near, and leaves the rest for the next.
    /// `next`: the token that finds no room; `None` for an embedding.
    fn close_at_comma(&self, open: &mut OpenChunk, next: Option<u32>) -> Chunk {
        let before_comma = next.is_some() && next == self.comma;
        let near = open
            .last_comma
            .filter(|comma| !before_comma && open.tokens.len() - comma <= COMMA_BACKTRACK);
        let rest = match near {
            Some(comma) => open.tokens.split_off((comma + 1).min(open.tokens.len())),
            None => Vec::new(),
        };
        let chunk = self.close(open);
        open.tokens = rest;
        chunk
    }

    fn close(&self, open: &mut OpenChunk) -> Chunk {
        let tokens = std::mem::take(open).tokens;
        let mut ids = vec![i64::from(self.begin)];
        let mut weights = vec![1.0];
        let mut pieces = vec![None];
        let mut inserted = Vec::new();
        for token in tokens {
            let at = ids.len();
            inserted.extend(token.vector.map(|(embedding, vector)| Inserted {
                at,
                embedding,
                vector,
            }));
            ids.push(i64::from(token.id));
            weights.push(token.weight);
            pieces.push(Some(token.piece));
        }
        ids.push(i64::from(self.end));
        ids.resize(self.length, i64::from(self.pad));
        weights.resize(self.length, 1.0);
        pieces.resize(self.length, None);
        Chunk {
            ids,
            weights,
            pieces,
            inserted,
        }
    }
}

#[derive(Default)]
struct OpenChunk {
    tokens: Vec<Token>,
    /// Where the last comma stands in `tokens`.
    last_comma: Option<usize>,
}

/// A token, or a vector in its place.
struct Token {
    id: u32,
    weight: f32,
    /// Of the prompt.
    piece: usize,
    vector: Option<(usize, usize)>,
}

/// What stands in the places of an embedding's tokens.
fn vectors(
    embedding: usize,
    count: usize,
    weight: f32,
    piece: usize,
) -> impl Iterator<Item = Token> {
    (0..count).map(move |vector| Token {
        id: 0,
        weight,
        piece,
        vector: Some((embedding, vector)),
    })
}

struct TokenizerConfig {
    bos_token: String,
    eos_token: String,
    pad_token: Option<String>,
    model_max_length: Option<usize>,
}

impl TokenizerConfig {
    /// `tokenizer_config.json` and `special_tokens_map.json`; both may be absent.
    fn read(folder: &Path) -> Result<Self> {
        let config = read_json(&folder.join("tokenizer_config.json"))?;
        let special = read_json(&folder.join("special_tokens_map.json"))?;
        let token = |key: &str| {
            let from = |json: &serde_json::Value| match json.get(key) {
                Some(serde_json::Value::String(token)) => Some(token.clone()),
                Some(object) => object.get("content")?.as_str().map(str::to_owned),
                None => None,
            };
            from(&config).or_else(|| from(&special))
        };
        let max = config
            .get("model_max_length")
            .and_then(serde_json::Value::as_u64)
            .and_then(|max| usize::try_from(max).ok());
        Ok(Self {
            bos_token: token("bos_token").unwrap_or_else(|| BEGIN.to_owned()),
            eos_token: token("eos_token").unwrap_or_else(|| END.to_owned()),
            pad_token: token("pad_token"),
            model_max_length: max,
        })
    }
}

/// The JSON in `path`; `null` where there is no such file.
fn read_json(path: &Path) -> Result<serde_json::Value> {
    match std::fs::read_to_string(path) {
        Ok(text) => serde_json::from_str(&text)
            .map_err(|error| Error::model(path, format!("it is not valid JSON: {error}"))),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(serde_json::Value::Null),
        Err(error) => Err(Error::io("Reading", path, error)),
    }
}

/// Reads `tokenizer.json`. Files saved after use remember to cut and to fill up texts, which would
/// lose the end of a long prompt here: chunks do both.
fn from_one_file(path: &Path) -> Result<tokenizers::Tokenizer> {
    let wrong =
        |error: tokenizers::Error| Error::model(path, format!("it cannot be read: {error}"));
    let mut tokenizer = tokenizers::Tokenizer::from_file(path).map_err(wrong)?;
    tokenizer.with_padding(None);
    tokenizer.with_truncation(None).map_err(wrong)?;
    Ok(tokenizer)
}

/// Builds what `transformers` builds for `CLIPTokenizer` from its two older files.
fn from_vocab_and_merges(folder: &Path) -> Result<tokenizers::Tokenizer> {
    let wrong = |error: tokenizers::Error| {
        Error::model(
            folder,
            format!("its vocab.json and merges.txt cannot be read: {error}"),
        )
    };
    let file = |name: &str| -> Result<String> {
        let path = folder.join(name);
        if !path.is_file() {
            return Err(Error::model(
                folder,
                format!("it has neither tokenizer.json nor {name}"),
            ));
        }
        Ok(path.to_string_lossy().into_owned())
    };
    around(BPE::from_file(&file("vocab.json")?, &file("merges.txt")?)).map_err(wrong)
}

/// CLIP's rules for what comes before the merges.
fn around(bpe: BpeBuilder) -> std::result::Result<tokenizers::Tokenizer, tokenizers::Error> {
    let bpe = bpe
        .unk_token(END.to_owned())
        .end_of_word_suffix("</w>".to_owned())
        .build()?;
    let mut tokenizer = tokenizers::Tokenizer::new(bpe);
    let spaces = ReplacePattern::Regex(r"\s+".to_owned());
    tokenizer.with_normalizer(Some(Normalizers::new(vec![
        NFC.into(),
        Replace::new(spaces, " ")?.into(),
        Lowercase.into(),
    ])));
    let split = Split::new(
        SplitPattern::Regex(CLIP_PATTERN.to_owned()),
        SplitDelimiterBehavior::Removed,
        true,
    )?;
    tokenizer.with_pre_tokenizer(Some(PreTokenizers::new(vec![
        split.into(),
        ByteLevel::new(false, true, true).into(),
    ])));
    let special = [BEGIN, END].map(|token| AddedToken::from(token, true));
    tokenizer.add_special_tokens(&special);
    Ok(tokenizer)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prompt::pieces;

    fn chunks(tokenizer: &ClipTokenizer, prompt: &str) -> Vec<Chunk> {
        tokenizer
            .chunks(&pieces(prompt, Emphasis::Original))
            .unwrap()
    }

    fn count(tokenizer: &ClipTokenizer, prompt: &str) -> usize {
        let count = tokenizer.count(prompt, Emphasis::Original, &mut words_only);
        count.unwrap()
    }

    fn starter() -> ClipTokenizer {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("weights/starter/tokenizer");
        ClipTokenizer::from_folder(&folder, 32).unwrap()
    }

    #[test]
    fn both_kinds_of_files_give_the_same_tokens() {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("weights/starter/tokenizer");
        let folder = tempfile::tempdir().unwrap();
        for name in ["vocab.json", "merges.txt", "tokenizer_config.json"] {
            std::fs::copy(source.join(name), folder.path().join(name)).unwrap();
        }
        let old = ClipTokenizer::from_folder(folder.path(), 32).unwrap();
        for prompt in [
            "A  Penguin,\n3d style",
            "it's 42 cafés — 猫 🐧",
            "",
            "(weird:1.2) !!??",
            "naïve\u{301}",
        ] {
            assert_eq!(chunks(&old, prompt), chunks(&starter(), prompt), "{prompt}");
        }
    }

    /// The numbers of transformers' `CLIPTokenizer` of "openai/clip-vit-large-patch14".
    #[test]
    fn clips_own_vocabulary_gives_clips_own_numbers() {
        let tokenizer = ClipTokenizer::clip(77, ClipPad::EndMarker).unwrap();
        let chunk = chunks(&tokenizer, "a photo of an astronaut riding a horse on mars").remove(0);
        let mut expected = vec![
            49406, 320, 1125, 539, 550, 18376, 6765, 320, 4558, 525, 7496,
        ];
        expected.resize(77, 49407);
        assert_eq!(chunk.ids, expected);
        let zeros = ClipTokenizer::clip(77, ClipPad::Zero).unwrap();
        assert_eq!(chunks(&zeros, "")[0].ids[..3], [49406, 49407, 0]);
    }

    #[test]
    fn a_long_prompt_goes_on_in_further_chunks_and_loses_nothing() {
        let tokenizer = starter();
        let prompt = "cat, dog, owl, fox, ".repeat(20);
        let chunks = chunks(&tokenizer, &prompt);
        let markers = [tokenizer.begin, tokenizer.end, tokenizer.pad].map(i64::from);
        let inside: usize = chunks
            .iter()
            .map(|chunk| chunk.ids.iter().filter(|id| !markers.contains(id)).count())
            .sum();
        assert_eq!(inside, count(&tokenizer, &prompt));
        assert!(chunks.len() > 4);
        for chunk in &chunks {
            assert_eq!((chunk.ids.len(), chunk.weights.len()), (32, 32));
            assert_eq!(chunk.ids[0], markers[0]);
        }
    }

    #[test]
    fn a_file_that_cuts_and_fills_up_texts_loses_nothing_either() {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("weights/starter/tokenizer");
        let text = std::fs::read(source.join("tokenizer.json")).unwrap();
        let mut json: serde_json::Value = serde_json::from_slice(&text).unwrap();
        json["truncation"] = serde_json::json!({
            "direction": "Right", "max_length": 5, "strategy": "LongestFirst", "stride": 0,
        });
        json["padding"] = serde_json::json!({
            "strategy": {"Fixed": 40}, "direction": "Right", "pad_to_multiple_of": null,
            "pad_id": 0, "pad_type_id": 0, "pad_token": "!",
        });
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("tokenizer.json"), json.to_string()).unwrap();
        let tokenizer = ClipTokenizer::from_folder(folder.path(), 32).unwrap();
        let prompt = "cat, dog, owl, fox, ".repeat(5);
        for text in ["cat", prompt.as_str()] {
            assert_eq!(count(&tokenizer, text), count(&starter(), text));
        }
    }

    #[test]
    fn a_full_chunk_ends_at_a_near_comma() {
        let tokenizer = starter();
        let prompt = format!("{}, {}", "cat ".repeat(24), "dog ".repeat(12));
        let chunks = chunks(&tokenizer, &prompt);
        let comma = i64::from(tokenizer.comma.unwrap());
        assert_eq!(chunks[0].ids[25], comma);
        assert_eq!(chunks[0].ids[26], i64::from(tokenizer.end));
        assert_eq!(chunks.len(), 2);
    }

    #[test]
    fn an_embedding_takes_a_place_a_vector_and_lies_in_one_chunk() {
        let tokenizer = starter();
        let read = |prompt: &str| pieces(prompt, Emphasis::Original);
        let chunks = tokenizer
            .chunks_with(&read("a (STYLE:1.5) cat"), &mut at_style)
            .unwrap();
        let places: Vec<_> = chunks[0]
            .inserted
            .iter()
            .map(|it| (it.at, it.vector))
            .collect();
        assert_eq!(places, [(2, 0), (3, 1), (4, 2), (5, 3)]);
        assert_eq!(chunks[0].weights[1..7], [1.0, 1.5, 1.5, 1.5, 1.5, 1.0]);
        // 28 tokens leave room for two of four vectors: all go on in the next chunk.
        let long = format!("{}STYLE", "cat ".repeat(28));
        let chunks = tokenizer.chunks_with(&read(&long), &mut at_style).unwrap();
        assert_eq!(chunks[0].inserted, []);
        assert_eq!(chunks[0].ids[29], i64::from(tokenizer.end));
        assert_eq!(chunks[1].inserted.len(), 4);
        assert_eq!(chunks[1].inserted[0].at, 1);
    }

    #[test]
    fn an_embedding_behind_a_near_comma_moves_with_what_follows_it() {
        let tokenizer = starter();
        let prompt = format!("{}, cat STYLE cat cat", "cat ".repeat(24));
        let read = pieces(&prompt, Emphasis::Original);
        let chunks = tokenizer.chunks_with(&read, &mut at_style).unwrap();
        assert_eq!(chunks[0].inserted, []);
        let places: Vec<usize> = chunks[1].inserted.iter().map(|it| it.at).collect();
        assert_eq!(places, [2, 3, 4, 5]);
    }

    /// An embedding of four vectors in the place of a word.
    fn at_style(text: &str) -> Vec<Stretch<'_>> {
        match text.split_once("STYLE") {
            Some((before, after)) => vec![
                Stretch::Words(before),
                Stretch::Vectors {
                    text: "STYLE",
                    number: 7,
                    count: 4,
                },
                Stretch::Words(after),
            ],
            None => words_only(text),
        }
    }

    #[test]
    fn weights_lie_on_their_words_only() {
        let chunks = chunks(&starter(), "a (cat:1.5) sat");
        assert_eq!(chunks[0].weights[..5], [1.0, 1.0, 1.5, 1.0, 1.0]);
    }

    #[test]
    fn a_folder_without_files_is_named_in_the_error() {
        let folder = tempfile::tempdir().unwrap();
        let error = ClipTokenizer::from_folder(folder.path(), 77).err().unwrap();
        assert!(error.to_string().contains("vocab.json"), "{error}");
    }
}
