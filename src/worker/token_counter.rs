//! How many tokens a prompt has for a model, asked by the window with every change of the words. Of an
//! embedding's file only the header is read, and only where the prompt names it.

use std::path::PathBuf;

use super::message::TokensAsked;
use super::{WorkerConfig, starter_folder};
use crate::error::Result;
use crate::families::{ClipTokenizer, ModelFiles, embedding_vectors};
use crate::files::Print;
use crate::prompt::embeddings::Cut;

/// Counts with the tokenizer of one model, kept between questions.
#[derive(Default)]
pub(super) struct TokenCounter {
    of: Option<(CountedModel, Counted)>,
}

/// A model, and how its files were.
type CountedModel = (Option<PathBuf>, Option<Print>);

struct Counted {
    files: ModelFiles,
    tokenizer: ClipTokenizer,
}

impl TokenCounter {
    /// Errors: the model or its tokenizer cannot be read; drawing with it says the same.
    pub fn count(&mut self, config: &WorkerConfig, asked: &TokensAsked) -> Result<usize> {
        let starter = || starter_folder(&config.weights);
        let path = asked.model.clone().unwrap_or_else(starter);
        let model = (asked.model.clone(), Print::of(&path).ok());
        let known = match self.of.take() {
            Some((before, known)) if before == model => known,
            _ => {
                let files = ModelFiles::open(&path)?;
                let tokenizer = files.tokenizer()?;
                Counted { files, tokenizer }
            }
        };
        let (_, Counted { files, tokenizer }) = self.of.insert((model, known));
        let (names, emphasis) = (&asked.embeddings, asked.emphasis);
        let mut vectors = |number: usize| {
            let path = names.files().get(number)?;
            embedding_vectors(path, files, tokenizer.capacity())
        };
        let cut: Cut<'_> = &mut |text| names.cut(text, emphasis, &mut vectors);
        tokenizer.count(&asked.prompt, emphasis, cut)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Arc;

    use tch::{Device, Kind, Tensor};

    use super::*;
    use crate::prompt::embeddings::EmbeddingNames;
    use crate::request::Emphasis;
    use crate::worker::Priority;

    #[test]
    fn an_embedding_counts_as_its_vectors_where_the_model_takes_it() {
        let folder = tempfile::tempdir().unwrap();
        let save = |name: &str, shape: [i64; 2]| {
            let path = folder.path().join(name);
            let vectors = Tensor::zeros(shape, (Kind::Float, Device::Cpu));
            Tensor::write_safetensors(&[("emb_params", vectors)], &path).unwrap();
            path
        };
        let files = vec![
            save("badhands.safetensors", [5, 192]),
            save("wide.safetensors", [9, 768]),
        ];
        let embeddings = Arc::new(EmbeddingNames::new(files));
        let config = WorkerConfig {
            weights: Path::new(env!("CARGO_MANIFEST_DIR")).join("weights"),
            cache: None,
            priority: Priority::Usual,
            wake: Box::new(|| ()),
        };
        let mut counter = TokenCounter::default();
        let mut count = |prompt: &str, emphasis| {
            let asked = TokensAsked {
                model: None,
                prompt: prompt.to_owned(),
                emphasis,
                embeddings: Arc::clone(&embeddings),
            };
            counter.count(&config, &asked).unwrap()
        };
        let cat = count("a cat", Emphasis::Original);
        let wide = count("wide", Emphasis::Comfyui);
        for (prompt, emphasis, more) in [
            ("a cat BADHANDS", Emphasis::Original, 5),
            ("a cat (badhands:1.2)", Emphasis::Original, 5),
            ("a cat embedding:badhands", Emphasis::Comfyui, 5),
            ("a cat embedding:nope", Emphasis::Comfyui, 0),
            ("a cat embedding:wide", Emphasis::Comfyui, 0),
            ("a cat wide", Emphasis::Original, wide),
        ] {
            assert_eq!(count(prompt, emphasis), cat + more, "{prompt}");
        }
    }
}
