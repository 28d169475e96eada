//! The embeddings (textual inversions) that a model's prompts may name: read when a prompt first names
//! them, and checked against the model's text encoders.
//!
//! One that does not fit is said, and its name taken for ordinary words; as ComfyUI reads prompts, left
//! out. Source: A1111 1.10 `modules/textual_inversion/textual_inversion.py`.

use std::cell::{OnceCell, RefCell};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use tch::{Device, Kind, Tensor};

use super::{ModelFiles, Part};
use crate::checkpoint::{EmbeddingFile, embedding_shapes, load_embedding};
use crate::error::Result;
use crate::files::{Print, stem};
use crate::prompt::embeddings::{COMFY_PREFIX, EmbeddingNames, Stretch};
use crate::request::{Emphasis, MOST_NOTES};
use crate::text::clip::ClipConfig;
use crate::text::tokenizer::Inserted;

/// A text encoder as far as it matters here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct EncoderShape {
    pub part: Part,
    pub width: i64,
    /// Tokens of one chunk without its markers.
    pub capacity: usize,
}

/// What the prompts of a job named.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct EmbeddingsRead {
    /// Names and files, in order.
    pub used: Vec<(String, PathBuf)>,
    /// What was named and cannot be used.
    pub notes: Vec<String>,
}

/// All embeddings that can be named.
#[derive(Debug, Default)]
pub(super) struct Embeddings {
    encoders: Vec<EncoderShape>,
    device: Option<(Device, Kind)>,
    files: Vec<KnownFile>,
    names: EmbeddingNames,
    used: RefCell<BTreeSet<usize>>,
    noted: RefCell<BTreeSet<usize>>,
    /// Named as ComfyUI does, and there is none.
    missing: RefCell<BTreeSet<String>>,
}

#[derive(Debug)]
struct KnownFile {
    path: PathBuf,
    /// How it was when its name became known; none of a file that is gone.
    print: Option<Print>,
    /// Whether it was named by its path.
    given: bool,
    name: String,
    /// One tensor an encoder, read when it is first named; else why it cannot be used.
    vectors: OnceCell<Result<Vec<Tensor>, String>>,
}

impl Embeddings {
    pub fn new(device: Device, kind: Kind) -> Self {
        Self {
            device: Some((device, kind)),
            ..Self::default()
        }
    }

    pub fn add_encoder(&mut self, encoder: EncoderShape) {
        self.encoders.push(encoder);
    }

    /// Lets prompts name these files, those that were `given` by their path first. Returns whether
    /// anything is other than before.
    ///
    /// Errors: where a given file cannot be read.
    pub fn set(&mut self, given: &[PathBuf], found: &[PathBuf]) -> Result<bool> {
        let all = given.iter().map(|path| (path, true));
        let all = all.chain(found.iter().map(|path| (path, false)));
        let all: Vec<_> = all
            .map(|(path, given)| (path, Print::of(path).ok(), given))
            .collect();
        let known = self.files.iter();
        if known
            .map(|it| (&it.path, it.print, it.given))
            .eq(all.iter().copied())
        {
            return Ok(false);
        }
        let mut files = Vec::with_capacity(all.len());
        let mut words = Vec::new();
        for (path, print, given) in all {
            let vectors = OnceCell::new();
            if given {
                let file = self.read(path)?;
                words.extend(file.word.clone().map(|word| (word, files.len())));
                let _ = vectors.set(self.fitting(path, file));
            }
            files.push(KnownFile {
                name: stem(path),
                path: path.clone(),
                print,
                given,
                vectors,
            });
        }
        let paths = files.iter().map(|file| file.path.clone());
        let words = words.iter().map(|(word, number)| (word.as_str(), *number));
        self.names = EmbeddingNames::new(paths.collect()).with_words(words);
        self.files = files;
        Ok(true)
    }

    /// Cuts a text at the embeddings that it names, and keeps in mind which these are.
    pub fn cut<'a>(&self, text: &'a str, emphasis: Emphasis) -> Vec<Stretch<'a>> {
        let stretches = self
            .names
            .cut(text, emphasis, &mut |number| self.count(number));
        let mut missing = self.missing.borrow_mut();
        for stretch in &stretches {
            if let Stretch::Nothing { text, number: None } = stretch
                && missing.len() < MOST_NOTES
            {
                let name = text.strip_prefix(COMFY_PREFIX).unwrap_or(text);
                missing.insert(name.trim().to_owned());
            }
        }
        stretches
    }

    /// The vector that stands at a place of a chunk, of encoder `encoder`.
    pub fn vector(&self, inserted: Inserted, encoder: usize) -> Result<Option<Tensor>> {
        let file = self.files.get(inserted.embedding);
        let vectors = file.and_then(|file| file.vectors.get()?.as_ref().ok()?.get(encoder));
        Ok(match vectors {
            Some(vectors) => Some(vectors.f_select(0, inserted.vector as i64)?),
            None => None,
        })
    }

    /// What was named since this was asked before.
    pub fn take_read(&self) -> EmbeddingsRead {
        let of = |numbers: &RefCell<BTreeSet<usize>>| {
            let numbers = numbers.take();
            self.files
                .iter()
                .enumerate()
                .filter(move |(number, _)| numbers.contains(number))
        };
        let used = of(&self.used).map(|(_, file)| (file.name.clone(), file.path.clone()));
        let why = |(_, file): (usize, &KnownFile)| file.vectors.get()?.as_ref().err().cloned();
        let mut notes: Vec<String> = of(&self.noted).filter_map(why).collect();
        let missing = self.missing.take();
        notes.extend(missing.into_iter().map(|name| {
            format!("There is no embedding \"{name}\": the prompt is read without it")
        }));
        EmbeddingsRead {
            used: used.collect(),
            notes,
        }
    }

    /// How many vectors a file has, where it can be used.
    fn count(&self, number: usize) -> Option<usize> {
        let file = self.files.get(number)?;
        let vectors = file.vectors.get_or_init(|| {
            let path = &file.path;
            let read = self.read(path).map_err(|error| error.to_string());
            read.and_then(|file| self.fitting(path, file))
        });
        match vectors {
            Ok(vectors) => {
                self.used.borrow_mut().insert(number);
                let rows = vectors.first()?.size().first().copied()?;
                usize::try_from(rows).ok()
            }
            Err(_) => {
                self.noted.borrow_mut().insert(number);
                None
            }
        }
    }

    fn read(&self, path: &Path) -> Result<EmbeddingFile> {
        let (device, kind) = self.device.unwrap_or((Device::Cpu, Kind::Float));
        load_embedding(path, device, kind).map_err(|error| error.of_add_on("embedding"))
    }

    /// One tensor an encoder; else why the file is not for this model.
    fn fitting(&self, path: &Path, file: EmbeddingFile) -> Result<Vec<Tensor>, String> {
        let shape = |tensor: &Tensor| match tensor.size().as_slice() {
            [rows, width] => [*rows, *width],
            _ => [0, 0],
        };
        let shapes: Vec<[i64; 2]> = file.vectors.iter().map(shape).collect();
        let fits = Fit::of(&self.encoders, &stem(path), &shapes)?;
        Ok(file.vectors.into_iter().skip(fits.skipped).collect())
    }
}

/// How an embedding suits text encoders.
struct Fit {
    /// So many of its tensors are of an encoder that the model lacks.
    skipped: usize,
    rows: usize,
}

impl Fit {
    /// Of tensors `[rows, width]`; else why the embedding `name` is not for this model.
    fn of(encoders: &[EncoderShape], name: &str, shapes: &[[i64; 2]]) -> Result<Self, String> {
        // SDXL's refiner has the second of its text encoders only.
        let skipped = match (encoders, shapes) {
            ([only], [_, _]) if only.part == Part::TextEncoder2 => 1,
            _ => 0,
        };
        let shapes = shapes.get(skipped..).unwrap_or_default();
        let own: Vec<i64> = encoders.iter().map(|encoder| encoder.width).collect();
        let got: Vec<i64> = shapes.iter().map(|[_, width]| *width).collect();
        if got != own {
            return Err(format!(
                "The embedding {name} was made for {}; this model's text encoder takes vectors of {} \
                 numbers: it is not used",
                made_for(&got),
                list(&own),
            ));
        }
        let rows = shapes.first().map_or(0, |[rows, _]| *rows);
        let room = encoders.iter().map(|encoder| encoder.capacity).min();
        let room = room.unwrap_or_default();
        match usize::try_from(rows) {
            Ok(rows) if rows <= room => Ok(Self { skipped, rows }),
            _ => Err(format!(
                "The embedding {name} has {rows} vectors, and a part of a prompt has room for {room}: it \
                 is not used"
            )),
        }
    }
}

/// How many vectors an embedding has, by its file's header alone; `None` where it cannot be used with
/// the model. `capacity`: tokens of one chunk.
pub fn embedding_vectors(path: &Path, model: &ModelFiles, capacity: usize) -> Option<usize> {
    let encoder = |(part, config): (&Part, &ClipConfig)| EncoderShape {
        part: *part,
        width: config.hidden_size,
        capacity,
    };
    let encoders: Vec<EncoderShape> = model.text_encoders.iter().map(encoder).collect();
    let shapes = embedding_shapes(path).ok()?;
    let fit = Fit::of(&encoders, &stem(path), &shapes).ok()?;
    Some(fit.rows)
}

fn made_for(widths: &[i64]) -> String {
    let family = match widths {
        [768] => "Stable Diffusion 1",
        [1024] => "Stable Diffusion 2",
        [768, 1280] => "Stable Diffusion XL",
        _ => "another model",
    };
    format!("{family} (vectors of {} numbers)", list(widths))
}

fn list(widths: &[i64]) -> String {
    let widths: Vec<String> = widths.iter().map(i64::to_string).collect();
    widths.join(" and ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn save(path: &Path, tensors: &[(&str, Tensor)]) {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        Tensor::write_safetensors(tensors, path).unwrap();
    }

    fn ones(shape: &[i64]) -> Tensor {
        Tensor::ones(shape, (Kind::Float, Device::Cpu))
    }

    fn vectors(text: &str, count: usize) -> Stretch<'_> {
        Stretch::Vectors {
            text,
            number: 0,
            count,
        }
    }

    fn of_model(widths: &[(Part, i64)]) -> Embeddings {
        let mut all = Embeddings::new(Device::Cpu, Kind::Float);
        for (part, width) in widths {
            all.add_encoder(EncoderShape {
                part: *part,
                width: *width,
                capacity: 10,
            });
        }
        all
    }

    #[test]
    fn a_name_in_a_prompt_reads_its_file_and_is_told() {
        let root = tempfile::tempdir().unwrap();
        let good = root.path().join("Good Style.safetensors");
        save(&good, &[("emb_params", ones(&[3, 4]))]);
        let mut all = of_model(&[(Part::TextEncoder, 4)]);
        assert!(all.set(&[], std::slice::from_ref(&good)).unwrap());
        assert!(!all.set(&[], std::slice::from_ref(&good)).unwrap());
        assert_eq!(all.take_read(), EmbeddingsRead::default());
        assert_eq!(
            all.cut("a good style", Emphasis::Original),
            [Stretch::Words("a "), vectors("good style", 3)]
        );
        let read = all.take_read();
        assert_eq!(read.used, [("Good Style".to_owned(), good)]);
        assert_eq!(all.take_read(), EmbeddingsRead::default());
    }

    #[test]
    fn what_does_not_fit_is_said_when_it_is_named_and_read_as_words() {
        let root = tempfile::tempdir().unwrap();
        let place = |name: &str| root.path().join(name);
        save(
            &place("wide.safetensors"),
            &[("emb_params", ones(&[1, 1024]))],
        );
        save(
            &place("long.safetensors"),
            &[("emb_params", ones(&[11, 4]))],
        );
        save(
            &place("pair.safetensors"),
            &[("clip_l", ones(&[1, 4])), ("clip_g", ones(&[1, 6]))],
        );
        crate::files::atomic_write(&place("broken.pt"), b"PK\x03\x04 and nothing else").unwrap();
        let mut all = of_model(&[(Part::TextEncoder, 4)]);
        all.set(
            &[],
            &["wide", "long", "pair"].map(|name| place(&format!("{name}.safetensors"))),
        )
        .unwrap();
        let cut = |all: &Embeddings, text: &'static str| all.cut(text, Emphasis::Original);
        assert_eq!(cut(&all, "a cat"), [Stretch::Words("a cat")]);
        assert_eq!(all.take_read().notes, Vec::<String>::new());
        assert_eq!(
            cut(&all, "wide long pair"),
            [Stretch::Words("wide long pair")]
        );
        let notes = all.take_read().notes;
        assert!(notes[0].contains("Stable Diffusion 2"), "{notes:?}");
        assert!(notes[1].contains("11 vectors"), "{notes:?}");
        assert!(notes[2].contains("4 and 6"), "{notes:?}");
        all.set(&[], &[place("broken.pt")]).unwrap();
        cut(&all, "broken");
        assert!(all.take_read().notes[0].contains("cut off"));
        let error = all.set(&[place("broken.pt")], &[]).unwrap_err();
        assert!(error.to_string().starts_with("The embedding "), "{error}");
        assert!(all.set(&[place("missing.pt")], &[]).is_err());
    }

    #[test]
    fn a_pair_is_for_both_encoders_and_its_second_for_a_refiner() {
        let root = tempfile::tempdir().unwrap();
        let pair = root.path().join("pair.safetensors");
        save(
            &pair,
            &[("clip_l", ones(&[2, 4])), ("clip_g", ones(&[2, 6]) * 2.0)],
        );
        let inserted = Inserted {
            at: 1,
            embedding: 0,
            vector: 1,
        };
        for (widths, last) in [
            (&[(Part::TextEncoder, 4), (Part::TextEncoder2, 6)][..], 1),
            (&[(Part::TextEncoder2, 6)], 0),
        ] {
            let mut all = of_model(widths);
            all.set(&[], std::slice::from_ref(&pair)).unwrap();
            assert_eq!(all.cut("Pair", Emphasis::Original), [vectors("Pair", 2)]);
            let vector = all.vector(inserted, last).unwrap().unwrap();
            assert!(vector.equal(&(ones(&[6]) * 2.0)));
        }
    }

    #[test]
    fn a_given_file_is_also_called_as_it_calls_itself() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("learned_embeds.safetensors");
        save(&path, &[("<cat-toy>", ones(&[4]))]);
        let mut all = of_model(&[(Part::TextEncoder, 4)]);
        all.set(std::slice::from_ref(&path), &[]).unwrap();
        for (text, emphasis) in [
            ("<cat-toy>", Emphasis::Original),
            ("learned_embeds", Emphasis::Original),
            ("embedding:<cat-toy>", Emphasis::Comfyui),
            ("embedding:learned_embeds.safetensors", Emphasis::Comfyui),
        ] {
            assert_eq!(all.cut(text, emphasis), [vectors(text, 1)]);
        }
    }

    #[test]
    fn as_comfyui_reads_prompts_what_is_not_there_is_said_and_left_out() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("bad.safetensors");
        save(&path, &[("emb_params", ones(&[1, 6]))]);
        let mut all = of_model(&[(Part::TextEncoder, 4)]);
        all.set(&[], std::slice::from_ref(&path)).unwrap();
        let cut = all.cut("bad embedding:bad embedding:nope", Emphasis::Comfyui);
        let words: Vec<&str> = cut
            .iter()
            .filter_map(|stretch| match stretch {
                Stretch::Words(words) => Some(*words),
                Stretch::Vectors { .. } | Stretch::Nothing { .. } => None,
            })
            .collect();
        assert_eq!(words, ["bad ", " "]);
        let notes = all.take_read().notes;
        assert!(notes[0].contains("bad was made for"), "{notes:?}");
        assert!(notes[1].contains("no embedding \"nope\""), "{notes:?}");
    }
}
