//! Putting what a LoRA file (or LoHa, LoKr, DoRA, ...) changes to the layers that its names mean.

mod names;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use tch::{Device, Kind, Tensor};

use super::Part;
use crate::checkpoint::{Change, LoraFile, load_lora};
use crate::error::{Error, Result};
use crate::models::layers::{Adapters, Branch};
use names::{UnetShape, aliases};

/// A LoRA file and how much it counts.
#[derive(Clone, Debug, PartialEq)]
pub struct Lora {
    pub path: PathBuf,
    /// For the UNet; 1 is as trained.
    pub unet_weight: f64,
    pub text_encoder_weight: f64,
}

impl Lora {
    fn strength(&self, part: Part) -> f64 {
        match part {
            Part::Unet => self.unet_weight,
            Part::TextEncoder | Part::TextEncoder2 => self.text_encoder_weight,
            Part::Vae => 0.0,
        }
    }
}

/// Every layer of a model that can be changed.
#[derive(Debug, Default)]
pub(super) struct Attachable {
    /// By each name that a file may use.
    layers: BTreeMap<String, (Part, Adapters)>,
}

impl Attachable {
    /// Adds the layers of one network, by the names of its checkpoint.
    pub fn add(&mut self, part: Part, layers: BTreeMap<String, Adapters>) {
        let unet = UnetShape::of(layers.keys().map(String::as_str));
        for (name, adapters) in layers {
            for alias in aliases(part, &name, unet) {
                self.layers.insert(alias, (part, adapters.clone()));
            }
        }
    }

    /// Removes what is attached from every layer.
    pub fn clear(&self) {
        self.layers
            .values()
            .for_each(|(_, adapters)| adapters.clear());
    }

    /// Attaches what a file changes. Returns what in it is of no use for this model. `make_room` is told
    /// the bytes of layers' copies.
    ///
    /// Errors: [`Error::Model`] where the file is broken or made for another kind of model; what
    /// `make_room` says.
    pub fn attach(
        &self,
        lora: &Lora,
        device: Device,
        kind: Kind,
        make_room: &dyn Fn(u64) -> Result<()>,
    ) -> Result<Vec<String>> {
        let LoraFile {
            layers,
            ignored: mut unknown,
        } = load_lora(&lora.path, device, kind)?;
        let mut changes = Vec::new();
        for (name, change) in layers {
            match self.find(&name) {
                Some((part, adapters)) => changes.push((name, change, *part, adapters)),
                None => unknown.push(name),
            }
        }
        if changes.is_empty() {
            return Err(Error::model(
                &lora.path,
                "none of its layers is one of this model's: it was made for another kind of model",
            ));
        }
        let copies = changes
            .iter()
            .filter(|(_, change, ..)| change.as_branch().is_none());
        make_room(copies.map(|(.., adapters)| adapters.copy_bytes()).sum())?;
        let _no_grad = tch::no_grad_guard();
        for (name, change, part, adapters) in changes {
            let strength = lora.strength(part);
            // A weight of nothing changes nothing, also where DoRA would still measure.
            if strength != 0.0 {
                apply(adapters, change, strength)
                    .map_err(|error| misfit(&lora.path, &name, error))?;
            }
        }
        Ok(unknown)
    }

    fn find(&self, name: &str) -> Option<&(Part, Adapters)> {
        let name = name.replace(".processor.", ".");
        let name = name.strip_prefix("base_model.model.").unwrap_or(&name);
        self.layers
            .get(name)
            .or_else(|| self.layers.get(&format!("{name}.0")))
    }
}

fn apply(adapters: &Adapters, change: Change, strength: f64) -> Result<()> {
    if let Some(pair) = change.as_branch() {
        return adapters.attach(Branch {
            down: pair.down.shallow_clone(),
            mid: pair.mid.as_ref().map(Tensor::shallow_clone),
            up: pair.up.shallow_clone(),
            scale: pair.scale * strength,
        });
    }
    let added = change.differences(&adapters.weight(), strength)?;
    adapters.add(added.weight.as_ref(), added.bias.as_ref())
}

fn misfit(path: &Path, name: &str, error: Error) -> Error {
    match error {
        Error::OutOfMemory { .. } | Error::Device(_) => error,
        error => {
            let why = format!("its layer {name} does not fit this model: {error}");
            Error::model(path, why)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_finds_its_layer() {
        let layers = |names: &[&str]| {
            let adapters =
                |name: &&str| ((*name).to_owned(), Adapters::new(&Tensor::from(0.0), None));
            names.iter().map(adapters).collect()
        };
        let mut all = Attachable::default();
        all.add(
            Part::Unet,
            layers(&["down_blocks.0.attn1.to_q", "down_blocks.0.attn1.to_out.0"]),
        );
        all.add(
            Part::TextEncoder,
            layers(&["text_model.encoder.layers.0.self_attn.q_proj"]),
        );
        for name in [
            "lora_unet_down_blocks_0_attn1_to_q",
            "unet.down_blocks.0.attn1.to_q",
            "down_blocks.0.attn1.processor.to_q",
            "lycoris_down_blocks_0_attn1_to_q",
            "unet.down_blocks.0.attn1.processor.to_q",
            "base_model.model.unet.down_blocks.0.attn1.to_q",
            "lora_unet_down_blocks_0_attn1_to_out_0",
            "unet.down_blocks.0.attn1.processor.to_out",
            "lora_te_text_model_encoder_layers_0_self_attn_q_proj",
            "text_encoder.text_model.encoder.layers.0.self_attn.q_proj",
            "text_encoder.encoder.layers.0.self_attn.q_proj",
            "text_encoders.clip_l.transformer.text_model.encoder.layers.0.self_attn.q_proj",
        ] {
            assert!(all.find(name).is_some(), "{name}");
        }
        assert!(all.find("lora_unet_down_blocks_0_attn2_to_q").is_none());
    }
}
