//! What fits the name that is being typed in a prompt: LoRAs, embeddings, wildcards.

use crate::app::state::Names;
use crate::prompt::embeddings::COMFY_PREFIX;
use crate::prompt::{Named, TypedName, name_at};
use crate::request::Emphasis;

/// Names that are offered at once.
const OFFERED: usize = 20;
/// A plain word is an embedding's name only from so many letters on.
const LEAST_OF_A_WORD: usize = 2;

/// A name that can be put in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offer {
    /// What takes the place of what is typed.
    pub insert: String,
    pub name: String,
    /// `LoRA`, `wildcard`, `embedding`.
    pub kind: &'static str,
}

/// What fits at `cursor` (in bytes), the best first.
pub fn offers(
    text: &str,
    cursor: usize,
    names: &Names,
    emphasis: Emphasis,
) -> Option<(TypedName, Vec<Offer>)> {
    let typed = name_at(text, cursor)?;
    let lead = match (typed.named, emphasis) {
        (Named::Embedding, Emphasis::Comfyui) if !is_prefixed(text, &typed) => COMFY_PREFIX,
        _ => "",
    };
    let (known, kind) = match typed.named {
        Named::Lora => (names.loras.as_slice(), "LoRA"),
        Named::Wildcard => (names.wildcards.as_deref().unwrap_or_default(), "wildcard"),
        Named::Embedding => (names.embeddings.as_slice(), "embedding"),
    };
    let prefix = typed.prefix.to_lowercase();
    let word = typed.named == Named::Embedding;
    if word && prefix.chars().count() < LEAST_OF_A_WORD {
        return None;
    }
    let place = |name: &String| {
        let lower = name.to_lowercase();
        let fits = lower.starts_with(&prefix) || (!word && lower.contains(&prefix));
        fits.then(|| (!lower.starts_with(&prefix), lower))
    };
    let mut fitting: Vec<_> = known
        .iter()
        .filter_map(|name| Some((place(name)?, name)))
        .collect();
    fitting.sort();
    fitting.truncate(OFFERED);
    // What stands there already need not be offered.
    let whole = |(_, name): &(_, &String)| {
        **name == typed.prefix && typed.ending.is_empty() && lead.is_empty()
    };
    if fitting.is_empty() || (fitting.len() == 1 && fitting.iter().any(whole)) {
        return None;
    }
    let offers = fitting
        .into_iter()
        .map(|(_, name)| Offer {
            insert: format!("{lead}{name}{}", typed.ending),
            name: name.clone(),
            kind,
        })
        .collect();
    Some((typed, offers))
}

/// Whether `embedding:` stands before the name, without which ComfyUI takes it for a word.
fn is_prefixed(text: &str, typed: &TypedName) -> bool {
    let before = text.get(..typed.range.start);
    before.is_some_and(|before| before.ends_with(COMFY_PREFIX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names() -> Names {
        let list = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        Names {
            loras: list(&["Detail tweaker", "my pixel", "pixel art", "pixie"]),
            embeddings: list(&["badhands", "easyneg"]),
            wildcards: Some(list(&["animals/birds", "colours"])),
            ..Names::default()
        }
    }

    fn inserts(text: &str) -> Vec<String> {
        inserts_as(text, Emphasis::Original)
    }

    fn inserts_as(text: &str, emphasis: Emphasis) -> Vec<String> {
        let found = offers(text, text.len(), &names(), emphasis);
        let offers = found.map(|(_, offers)| offers).unwrap_or_default();
        offers.into_iter().map(|offer| offer.insert).collect()
    }

    #[test]
    fn names_that_begin_so_come_before_those_that_hold_it() {
        assert_eq!(
            inserts("a fox <lora:Pix"),
            ["pixel art:1>", "pixie:1>", "my pixel:1>"]
        );
        assert_eq!(inserts("<lora:tweak"), ["Detail tweaker:1>"]);
        assert_eq!(inserts("__bi"), ["animals/birds__"]);
        assert_eq!(inserts("a fox, easy"), ["easyneg"]);
    }

    #[test]
    fn comfyui_is_given_its_prefix() {
        for (text, insert) in [
            ("a fox, easy", "embedding:easyneg"),
            ("a fox, easyneg", "embedding:easyneg"),
            ("embedding:ea", "easyneg"),
        ] {
            assert_eq!(inserts_as(text, Emphasis::Comfyui), [insert], "{text}");
        }
    }

    #[test]
    fn words_are_left_alone_until_they_begin_as_a_name() {
        for text in ["a fox", "e", "a fox, hands", "easyneg", "", "<lora:zzz"] {
            assert_eq!(inserts(text), [""; 0], "{text}");
        }
    }
}
