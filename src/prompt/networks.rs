//! `<lora:name:0.8>`: networks that a prompt names, which say nothing to the text encoder.
//!
//! Source: AUTOMATIC1111 stable-diffusion-webui 1.10 `modules/extra_networks.py` (`re_extra_net`:
//! `<(\w+):([^>]+)>`) and `extensions-builtin/Lora/extra_networks_lora.py`.

use std::ops::Range;

use super::attention::held;
use super::is_word;

/// What A1111 calls the weights that are given by name: `te=0.5`, `unet=0.8`.
pub const TEXT_ENCODER: &str = "te";
pub const UNET: &str = "unet";

/// A LoRA that a prompt names: `<lora:name>`, `<lora:name:0.8>`, `<lora:name:0.8:0.5>`,
/// `<lora:name:te=0.8:unet=0.5>`.
#[derive(Clone, Debug, PartialEq)]
pub struct LoraTag {
    /// The file's name without its ending.
    pub name: String,
    /// 1 is as trained.
    pub text_encoder_weight: f64,
    /// The same, unless a second number says otherwise.
    pub unet_weight: f64,
}

/// The LoRAs that a prompt names, in order.
pub fn loras(prompt: &str) -> Vec<LoraTag> {
    tags(prompt)
        .filter_map(|tag| lora_tag(prompt.get(tag.start + 1..tag.end - 1)?))
        .collect()
}

/// The prompt without what stands in `<word:...>`.
pub fn without_tags(prompt: &str) -> String {
    let mut text = String::with_capacity(prompt.len());
    let mut from = 0;
    for tag in tags(prompt) {
        text.push_str(prompt.get(from..tag.start).unwrap_or_default());
        from = tag.end;
    }
    text.push_str(prompt.get(from..).unwrap_or_default());
    text
}

/// Where `<word:...>` stand, brackets included; bytes.
pub fn tags(prompt: &str) -> impl Iterator<Item = Range<usize>> + '_ {
    let mut from = 0;
    std::iter::from_fn(move || {
        loop {
            let start = from + prompt.get(from..)?.find('<')?;
            from = start + 1;
            let inside = prompt.get(from..)?;
            let word = inside.find(|c| !is_word(c)).filter(|length| *length > 0);
            let Some(value) = word.and_then(|length| inside.get(length..)?.strip_prefix(':'))
            else {
                continue;
            };
            // Without its end no later one has its end either.
            let length = value.find('>')?;
            if length > 0 {
                from = prompt.len() - value.len() + length + 1;
                return Some(start..from);
            }
        }
    })
}

fn lora_tag(tag: &str) -> Option<LoraTag> {
    let mut words = tag.split(':');
    if !matches!(words.next(), Some("lora" | "lyco")) {
        return None;
    }
    let name = words.next()?.to_owned();
    let (named, placed): (Vec<&str>, Vec<&str>) = words.partition(|word| word.contains('='));
    let weight = |place: usize, name: &str| {
        let named = named
            .iter()
            .filter_map(|word| word.split_once('='))
            .filter(|(known, _)| *known == name)
            .find_map(|(_, value)| weight(value));
        named.or_else(|| placed.get(place).and_then(|value| weight(value)))
    };
    let text_encoder_weight = weight(0, TEXT_ENCODER).unwrap_or(1.0);
    Some(LoraTag {
        name,
        text_encoder_weight,
        unet_weight: weight(1, UNET).unwrap_or(text_encoder_weight),
    })
}

/// A weight as it is written in a tag.
pub fn weight(text: &str) -> Option<f64> {
    held(text.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loras_are_taken_out_of_the_text() {
        assert_eq!(without_tags("a <lora:pixel art:0.8>cat"), "a cat");
        assert_eq!(
            without_tags("1 < 2 <3 <b> <a:> <:b>"),
            "1 < 2 <3 <b> <a:> <:b>"
        );
        assert_eq!(without_tags("<lora:a<x:b> c"), " c");
        let tag = |name: &str, text_encoder_weight, unet_weight| LoraTag {
            name: name.to_owned(),
            text_encoder_weight,
            unet_weight,
        };
        assert_eq!(
            loras("<lora:a> x <lora:b:0.5> <hypernet:c:1> <lora:d:0.2:-1>"),
            [tag("a", 1.0, 1.0), tag("b", 0.5, 0.5), tag("d", 0.2, -1.0)]
        );
        assert_eq!(
            loras("<lora:a:te=0.5:unet=0.8> <lora:b:unet=0> <lora:c:0.3:lbw=X:0.4>"),
            [tag("a", 0.5, 0.8), tag("b", 1.0, 0.0), tag("c", 0.3, 0.4)]
        );
    }
}
