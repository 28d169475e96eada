//! Reads a model's `config.json` field by field.
//!
//! A network takes the fields it honours and names those that change nothing; whatever then remains
//! with a value is refused by name, so that no file means more than Easel does with it. A field that
//! is absent has the default of the class in diffusers or transformers.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::Activation;
use crate::error::{Error, Result};

/// A config is a page of text.
const MAX_CONFIG_BYTES: u64 = 1 << 20;
/// Above every size a network has; below what overflows when multiplied.
const MAX_SIZE: i64 = 1 << 20;

/// The fields of one config that nobody has taken yet.
#[derive(Debug)]
pub struct Fields {
    path: PathBuf,
    fields: Map<String, Value>,
}

impl Fields {
    /// Reads a file. Errors: [`Error::Io`], or [`Error::Model`] if it is missing or no JSON object.
    pub fn read(path: &Path) -> Result<Self> {
        let failed = |source: std::io::Error| match source.kind() {
            std::io::ErrorKind::NotFound => Error::model(path, "the file is missing"),
            _ => Error::io("Reading", path, source),
        };
        let metadata = std::fs::metadata(path).map_err(failed)?;
        if !metadata.is_file() || metadata.len() > MAX_CONFIG_BYTES {
            return Err(Error::model(path, "it is not a config file"));
        }
        Self::parse(path, &std::fs::read(path).map_err(failed)?)
    }

    /// Reads text; `path` is what messages name.
    pub fn parse(path: &Path, text: &[u8]) -> Result<Self> {
        let fields = serde_json::from_slice(text)
            .map_err(|error| Error::model(path, format!("it is not a config file: {error}")))?;
        let path = path.to_path_buf();
        Ok(Self { path, fields })
    }

    /// The value of `name`, or `default` where the config does not have it. `expected` says in words
    /// what it must be.
    pub fn take<T: DeserializeOwned>(
        &mut self,
        name: &str,
        default: T,
        expected: &str,
    ) -> Result<T> {
        match self.fields.remove(name) {
            None => Ok(default),
            Some(value) => serde_json::from_value(value.clone())
                .map_err(|_| self.refuse(name, &value, expected)),
        }
    }

    /// A number of channels, layers, tokens: from 1 to a million.
    pub fn size(&mut self, name: &str, default: i64) -> Result<i64> {
        let size = self.take(name, default, "a whole number above 0 was expected")?;
        self.check_size(name, size)
    }

    /// As [`Self::size`], one for all of `count` blocks or one for each.
    pub fn sizes(&mut self, name: &str, default: i64, count: usize) -> Result<Vec<i64>> {
        let sizes = self.take(
            name,
            PerBlock::One(default),
            "one whole number, or one for each block, was expected",
        )?;
        self.each(name, sizes, count)?
            .into_iter()
            .map(|size| self.check_size(name, size))
            .collect()
    }

    /// A list of at least one size.
    pub fn size_list(&mut self, name: &str, default: &[i64]) -> Result<Vec<i64>> {
        let list = self.take(name, default.to_vec(), "a list of numbers was expected")?;
        if list.is_empty() {
            return Err(self.refuse(name, "[]", "it may not be empty"));
        }
        list.into_iter()
            .map(|size| self.check_size(name, size))
            .collect()
    }

    /// One value for each of `count` blocks.
    pub fn each<T: Clone>(&self, name: &str, value: PerBlock<T>, count: usize) -> Result<Vec<T>> {
        match value {
            PerBlock::One(value) => Ok(vec![value; count]),
            PerBlock::Each(values) if values.len() == count => Ok(values),
            PerBlock::Each(values) => Err(self.refuse(
                name,
                format!("a list of {}", values.len()),
                &format!("{count} were expected, one for each block"),
            )),
        }
    }

    /// A field of which Easel knows one value only.
    pub fn only(&mut self, name: &str, supported: Value) -> Result<()> {
        match self.fields.remove(name) {
            None => Ok(()),
            Some(value) if same(&value, &supported) => Ok(()),
            Some(value) => Err(self.refuse(name, value, &format!("only {supported} is"))),
        }
    }

    /// diffusers' `act_fn`: SiLU where absent.
    pub fn activation(&mut self, name: &str) -> Result<Activation> {
        let act = self.take(name, "silu".to_owned(), "a name was expected")?;
        Activation::from_diffusers(&act)
            .ok_or_else(|| self.refuse(name, &act, "only silu, swish, mish, gelu and relu are"))
    }

    /// Fields that do not change what a network computes.
    pub fn harmless(&mut self, names: &[&str]) {
        for name in names {
            self.fields.remove(*name);
        }
    }

    /// Refuses what is left, but for `null`s and names that begin with `_` (notes of the library).
    pub fn finish(self) -> Result<()> {
        let unknown = self
            .fields
            .iter()
            .find(|(name, value)| !name.starts_with('_') && !value.is_null());
        match unknown {
            None => Ok(()),
            Some((name, value)) => Err(self.refuse(name, value, "Easel does not know this field")),
        }
    }

    /// The error for a field whose value cannot be used.
    pub fn refuse(&self, name: &str, value: impl ToString, why: &str) -> Error {
        let mut value = value.to_string();
        if let Some((cut, _)) = value.char_indices().nth(80) {
            value.truncate(cut);
            value.push('…');
        }
        Error::model(
            &self.path,
            format!("`{name}` is {value}, which is not supported: {why}"),
        )
    }

    /// Refuses what is not from 1 to a million.
    pub fn check_size(&self, name: &str, size: i64) -> Result<i64> {
        if (1..=MAX_SIZE).contains(&size) {
            Ok(size)
        } else {
            Err(self.refuse(name, size, "a number from 1 to a million was expected"))
        }
    }
}

/// Numbers are equal by value: 1 is 1.0.
fn same(a: &Value, b: &Value) -> bool {
    a == b || (a.is_number() && a.as_f64() == b.as_f64())
}

/// A field that is one value for all blocks or a list with one for each.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(untagged)]
pub enum PerBlock<T> {
    One(T),
    Each(Vec<T>),
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn fields(value: Value) -> Fields {
        Fields::parse(Path::new("unet/config.json"), value.to_string().as_bytes()).unwrap()
    }

    #[test]
    fn what_is_left_with_a_value_is_refused_by_name() {
        let mut left = fields(json!({"_class_name": "X", "a": null, "b": 1, "magic": "much"}));
        left.harmless(&["b"]);
        let message = left.finish().unwrap_err().to_string();
        for part in ["unet/config.json", "magic", "much"] {
            assert!(message.contains(part), "{message}");
        }
        fields(json!({"_class_name": "X", "a": null}))
            .finish()
            .unwrap();
    }

    #[test]
    fn sizes_are_whole_positive_and_bounded() {
        for bad in [
            json!(0),
            json!(-3),
            json!(1.5),
            json!("8"),
            json!(null),
            json!(1u64 << 40),
        ] {
            let message = fields(json!({"channels": bad})).size("channels", 4);
            assert!(message.unwrap_err().to_string().contains("`channels`"));
        }
        assert_eq!(fields(json!({})).size("channels", 4).unwrap(), 4);
        assert_eq!(fields(json!({"n": 5})).sizes("n", 1, 3).unwrap(), [5, 5, 5]);
        assert_eq!(
            fields(json!({"n": [5, 6]})).sizes("n", 1, 2).unwrap(),
            [5, 6]
        );
        assert!(fields(json!({"n": [5, 6]})).sizes("n", 1, 3).is_err());
    }

    #[test]
    fn one_supported_value_may_be_absent_and_is_compared_as_a_number() {
        fields(json!({"factor": 1}))
            .only("factor", json!(1.0))
            .unwrap();
        fields(json!({})).only("factor", json!(1.0)).unwrap();
        let error = fields(json!({"factor": 2})).only("factor", json!(1.0));
        assert!(error.unwrap_err().to_string().contains("`factor` is 2"));
    }
}
