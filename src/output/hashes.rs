//! What an infotext says of the files that a picture was drawn with: `Lora hashes` and `TI hashes` as
//! A1111 writes and reads them, and `Hashes` for Civitai.
//!
//! Source: A1111 1.10 `extensions-builtin/Lora/extra_networks_lora.py`,
//! `extensions-builtin/Lora/scripts/lora_script.py` (`infotext_pasted`), `modules/sd_hijack_clip.py`
//! (`forward`); sd_civitai_extension `scripts/gen_hashing.py`.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use crate::request::{AddOnHashes, PictureSettings, short_hash};

pub(super) const LORAS: &str = "Lora hashes";
pub(super) const EMBEDDINGS: &str = "TI hashes";

/// The two lists, where there is something in them.
pub(super) fn fields(hashes: &AddOnHashes) -> Vec<(&'static str, String)> {
    let lists = [(LORAS, &hashes.loras), (EMBEDDINGS, &hashes.embeddings)];
    let said = lists.into_iter().filter(|(_, hashes)| !hashes.is_empty());
    said.map(|(key, hashes)| (key, list(hashes))).collect()
}

/// What `Hashes` holds.
pub(super) fn all(settings: &PictureSettings) -> Map<String, Value> {
    let hashes = &settings.hashes;
    let model = settings.model_hash.iter();
    let model = model.map(|hash| ("model".to_owned(), hash.as_str()));
    let loras = hashes.loras.iter();
    let loras = loras.map(|(name, hash)| (format!("lora:{name}"), hash.as_str()));
    let embeddings = hashes.embeddings.iter().map(|(name, hash)| {
        let short = short_hash(hash).unwrap_or(hash);
        (format!("embed:{name}"), short)
    });
    let all = model.chain(loras).chain(embeddings);
    all.map(|(name, hash)| (name, hash.into())).collect()
}

/// Reads the two lists; what is no hash in them is left out.
pub(super) fn read<'a>(value: &dyn Fn(&str) -> Option<&'a str>) -> AddOnHashes {
    let list = |key| value(key).map(entries).unwrap_or_default();
    AddOnHashes {
        loras: list(LORAS),
        embeddings: list(EMBEDDINGS),
    }
}

/// `a: 0123456789ab, b: 123456789abc`.
fn list(hashes: &BTreeMap<String, String>) -> String {
    let entry = |(name, hash): (&String, &String)| {
        let letters = name.chars();
        let name: String = letters.filter(|it| !matches!(it, ':' | ',')).collect();
        format!("{name}: {hash}")
    };
    hashes.iter().map(entry).collect::<Vec<_>>().join(", ")
}

fn entries(list: &str) -> BTreeMap<String, String> {
    let entry = |entry: &str| {
        let (name, hash) = entry.rsplit_once(':')?;
        let hash = hash.trim();
        let is_hash = hash.len() >= 8 && hash.bytes().all(|byte| byte.is_ascii_hexdigit());
        is_hash.then(|| (name.trim().to_owned(), hash.to_owned()))
    };
    list.split(',').filter_map(entry).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again() {
        let map = |pairs: &[(&str, &str)]| {
            let owned = |(name, hash): &(&str, &str)| ((*name).to_owned(), (*hash).to_owned());
            pairs.iter().map(owned).collect::<BTreeMap<_, _>>()
        };
        let hashes = AddOnHashes {
            loras: map(&[("pixel art", "0123456789ab"), ("x", "abcdef012345")]),
            embeddings: map(&[("bad-hands", "123456789abc")]),
        };
        let fields = fields(&hashes);
        assert_eq!(
            fields,
            [
                (
                    "Lora hashes",
                    "pixel art: 0123456789ab, x: abcdef012345".to_owned()
                ),
                ("TI hashes", "bad-hands: 123456789abc".to_owned()),
            ]
        );
        let value = |key: &str| {
            let found = fields.iter().find(|(name, _)| *name == key);
            found.map(|(_, value)| value.as_str())
        };
        assert_eq!(read(&value), hashes);
    }

    #[test]
    fn nonsense_is_no_hash() {
        let value = |key: &str| (key == LORAS).then_some("a: b, c, : 01234567, d:0123456789");
        let read = read(&value).loras;
        let names: Vec<&str> = read.keys().map(String::as_str).collect();
        assert_eq!(names, ["", "d"]);
    }
}
