//! Numbers in JSON that come back bit for bit.
//!
//! serde_json reads up to 15 digits exactly and may miss the last bit of longer numbers, so those
//! are written as text. For `#[serde(with = "exact")]` on the fields of [`super::PictureSettings`].

use serde::{Deserialize, Deserializer, Serializer, de::Error};

/// Digits that every reader of JSON gets right.
const SAFE_DIGITS: usize = 15;

#[derive(Deserialize)]
#[serde(untagged)]
enum NumberOrText {
    Number(f64),
    Text(String),
}

pub fn serialize<S: Serializer>(value: &f64, serializer: S) -> Result<S::Ok, S::Error> {
    let text = value.to_string();
    let digits = text.bytes().filter(u8::is_ascii_digit).count();
    if digits <= SAFE_DIGITS && value.is_finite() {
        serializer.serialize_f64(*value)
    } else {
        serializer.serialize_str(&text)
    }
}

pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    match NumberOrText::deserialize(deserializer)? {
        NumberOrText::Number(value) => Ok(value),
        NumberOrText::Text(text) => text
            .parse()
            .map_err(|_| D::Error::custom(format!("\"{text}\" is not a number"))),
    }
}

/// The same for numbers that may be absent.
pub mod option {
    use serde::{Deserialize, Deserializer, Serializer};

    #[derive(Deserialize)]
    struct Exact(#[serde(with = "super")] f64);

    pub fn serialize<S: Serializer>(value: &Option<f64>, serializer: S) -> Result<S::Ok, S::Error> {
        match value {
            Some(value) => super::serialize(value, serializer),
            None => serializer.serialize_none(),
        }
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<f64>, D::Error> {
        Ok(Option::<Exact>::deserialize(deserializer)?.map(|Exact(value)| value))
    }
}
