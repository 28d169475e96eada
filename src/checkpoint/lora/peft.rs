//! The settings that peft's adapters were trained with, for files that store no alpha of their own.
//!
//! diffusers keeps them in the header, peft in `adapter_config.json` beside the file. Source: diffusers
//! 0.42.1 `loaders/lora_base.py` (`_pack_dict_with_prefix`, `LORA_ADAPTER_METADATA_KEY`); peft 0.21.2
//! `tuners/lora/config.py`, `layer.py` (`update_layer`).

use std::path::Path;

use serde_json::{Map, Value};

use crate::checkpoint::header::metadata;

const HEADER_KEY: &str = "lora_adapter_metadata";
const BESIDE: &str = "adapter_config.json";
/// Settings are a few kilobytes.
const MAX_BYTES: u64 = 4 << 20;

/// What the settings say, `null` where there are none.
pub(super) struct PeftSettings(Value);

impl PeftSettings {
    /// Settings that cannot be read are none: the tensors say what they are without them.
    pub(super) fn of(path: &Path) -> Self {
        let text = metadata(path)
            .ok()
            .and_then(|mut known| known.remove(HEADER_KEY))
            .or_else(|| beside(path));
        let value = text.and_then(|text| serde_json::from_str(&text).ok());
        Self(value.unwrap_or_default())
    }

    /// What the change of `layer` is multiplied by.
    pub(super) fn scale(&self, layer: &str, rank: f64) -> Option<f64> {
        let table = self.0.as_object()?;
        // The header has all components' settings, `unet.lora_alpha`; the file beside has one's.
        let (component, _) = layer.split_once('.')?;
        let setting = |name: &str| {
            table
                .get(&format!("{component}.{name}"))
                .or_else(|| table.get(name))
        };
        let own = setting("alpha_pattern").and_then(Value::as_object);
        let alpha = own
            .and_then(|patterns| own_alpha(patterns, layer))
            .or_else(|| setting("lora_alpha")?.as_f64())?;
        let rooted = setting("use_rslora").and_then(Value::as_bool);
        Some(match rooted {
            Some(true) => alpha / rank.sqrt(),
            _ => alpha / rank,
        })
    }
}

/// Patterns are the ends of layers' names.
fn own_alpha(patterns: &Map<String, Value>, layer: &str) -> Option<f64> {
    let fits = |pattern: &str| {
        let before = layer.strip_suffix(pattern);
        before.is_some_and(|before| before.is_empty() || before.ends_with('.'))
    };
    let mut found = patterns.iter().filter(|(pattern, _)| fits(pattern));
    found.next()?.1.as_f64()
}

fn beside(path: &Path) -> Option<String> {
    let path = path.with_file_name(BESIDE);
    let small = std::fs::metadata(&path).is_ok_and(|known| known.len() <= MAX_BYTES);
    small.then(|| std::fs::read_to_string(&path).ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(text: &str) -> PeftSettings {
        PeftSettings(serde_json::from_str(text).unwrap())
    }

    #[test]
    fn the_alpha_of_a_layer_is_its_own_or_its_components() {
        let settings = settings(
            r#"{"unet.lora_alpha": 8, "unet.alpha_pattern": {"attn1.to_q": 2},
                "text_encoder.lora_alpha": 16, "text_encoder.use_rslora": true}"#,
        );
        assert_eq!(settings.scale("unet.mid.attn1.to_k", 4.0), Some(2.0));
        assert_eq!(settings.scale("unet.mid.attn1.to_q", 4.0), Some(0.5));
        assert_eq!(settings.scale("unet.mid.xattn1.to_q", 4.0), Some(2.0));
        assert_eq!(settings.scale("text_encoder.fc1", 4.0), Some(8.0));
        assert_eq!(settings.scale("transformer.fc1", 4.0), None);
    }

    #[test]
    fn settings_are_found_in_the_header() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("style.safetensors");
        let bytes = 1f32.to_le_bytes();
        let view = safetensors::tensor::TensorView::new(safetensors::Dtype::F32, vec![1], &bytes);
        let words = [(HEADER_KEY, r#"{"unet.lora_alpha": 2}"#)];
        let words = words.map(|(key, value)| (key.to_owned(), value.to_owned()));
        let file = safetensors::serialize([("unet.x.alpha", view.unwrap())], Some(words.into()));
        crate::files::atomic_write(&path, &file.unwrap()).unwrap();
        assert_eq!(PeftSettings::of(&path).scale("unet.x", 4.0), Some(0.5));
    }

    #[test]
    fn settings_are_found_beside_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("adapter_model.safetensors");
        assert_eq!(PeftSettings::of(&path).scale("base_model.x", 4.0), None);
        let beside = folder.path().join(BESIDE);
        crate::files::atomic_write(&beside, br#"{"lora_alpha": 2}"#).unwrap();
        assert_eq!(
            PeftSettings::of(&path).scale("base_model.x", 4.0),
            Some(0.5)
        );
    }
}
