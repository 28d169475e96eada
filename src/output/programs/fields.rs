//! A JSON record of another program, read key by key: what nobody asked for can be named at the end.

use std::cell::RefCell;
use std::collections::BTreeSet;

use serde_json::{Map, Value};

/// A record and the keys that were asked for.
pub struct Fields<'a> {
    map: &'a Map<String, Value>,
    asked: RefCell<BTreeSet<String>>,
}

impl<'a> Fields<'a> {
    pub fn new(map: &'a Map<String, Value>) -> Self {
        Self {
            map,
            asked: RefCell::default(),
        }
    }

    /// A value that is there and not null.
    pub fn get(&self, key: &str) -> Option<&'a Value> {
        self.asked.borrow_mut().insert(key.to_owned());
        self.map.get(key).filter(|value| !value.is_null())
    }

    pub fn text(&self, key: &str) -> Option<&'a str> {
        self.get(key)?.as_str()
    }

    /// A text or number as text; programs differ in which of the two they write.
    pub fn words(&self, key: &str) -> Option<String> {
        words(self.get(key)?)
    }

    pub fn list(&self, key: &str) -> &'a [Value] {
        let list = self.get(key).and_then(Value::as_array);
        list.map_or(&[], Vec::as_slice)
    }

    pub fn object(&self, key: &str) -> Option<Fields<'a>> {
        self.get(key)?.as_object().map(Fields::new)
    }

    /// Whether a switch is on.
    pub fn is_on(&self, key: &str) -> bool {
        self.get(key).and_then(Value::as_bool).unwrap_or(false)
    }

    /// Settles keys that say nothing about how to draw.
    pub fn skip(&self, keys: &[&str]) {
        let mut asked = self.asked.borrow_mut();
        asked.extend(keys.iter().map(|key| (*key).to_owned()));
    }

    /// The keys that nobody asked for and whose value says something: not null, off, 0 or empty.
    pub fn rest(&self) -> Vec<&'a str> {
        let asked = self.asked.borrow();
        let says = |value: &Value| match value {
            Value::Null | Value::Bool(false) => false,
            Value::Bool(true) => true,
            Value::Number(number) => number.as_f64() != Some(0.0),
            Value::String(text) => !text.is_empty() && !text.eq_ignore_ascii_case("none"),
            Value::Array(list) => !list.is_empty(),
            Value::Object(map) => !map.is_empty(),
        };
        let rest = self
            .map
            .iter()
            .filter(|(key, value)| !asked.contains(*key) && says(value));
        rest.map(|(key, _)| key.as_str()).collect()
    }
}

/// A text or a number as text.
pub fn words(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

/// JSON as programs write it: Python's `NaN` and `Infinity`, which JSON does not have, are null.
pub fn json(text: &str) -> Option<Value> {
    let text = text.trim().trim_end_matches('\0');
    if !text.starts_with(['{', '[']) {
        return None;
    }
    serde_json::from_str(text)
        .or_else(|_| serde_json::from_str(&without_nan(text)))
        .ok()
}

fn without_nan(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut rest = text;
    let mut in_text = false;
    while let Some(next) = rest.chars().next() {
        let word = ["NaN", "-Infinity", "Infinity"]
            .into_iter()
            .find(|word| !in_text && rest.starts_with(word));
        let taken = match word {
            Some(word) => {
                plain.push_str("null");
                word.len()
            }
            None => {
                // A backslash and what follows it, in a text, stay together.
                let pair = rest
                    .chars()
                    .take(if in_text && next == '\\' { 2 } else { 1 });
                let length = pair.map(char::len_utf8).sum();
                in_text ^= next == '"';
                plain.push_str(rest.get(..length).unwrap_or_default());
                length
            }
        };
        rest = rest.get(taken..).unwrap_or_default();
    }
    plain
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn python_s_nan_is_null_outside_of_texts_only() {
        let text = r#"{"a": [NaN, -Infinity, 1], "b": "NaN \" NaN \\", "c": Infinity}"#;
        assert_eq!(
            json(text),
            Some(json!({"a": [null, null, 1], "b": "NaN \" NaN \\", "c": null}))
        );
        assert_eq!(json("NaN"), None);
        assert_eq!(json("{\"a\": NaN"), None);
    }

    #[test]
    fn what_nobody_asked_for_is_named_where_it_says_something() {
        let value = json!({"steps": 2, "a": 1, "b": 0, "c": "", "d": [], "e": false, "f": "None", "g": true, "h": null});
        let fields = Fields::new(value.as_object().unwrap());
        assert_eq!(fields.words("steps").as_deref(), Some("2"));
        assert_eq!(fields.rest(), ["a", "g"]);
    }
}
