//! LoRA files and their kin: what a file changes, by the names that it gives the layers.
//!
//! Spellings of LoRA: kohya's (`lora_unet_down_blocks_0_..._to_q.lora_down.weight`, with `.alpha`),
//! peft's (`unet.down_blocks.0....to_q.lora_A.weight`) and older diffusers' ones
//! (`....processor.to_q_lora.down.weight`, `....q_proj.lora_linear_layer.down.weight`). Beside it
//! LyCORIS' LoHa (`hada_w1_a`), LoKr (`lokr_w1`), whole differences (`diff`, `diff_b`, `w_norm`,
//! `b_norm`) and IA3 (`on_input`), and DoRA's magnitude (`dora_scale`, `lora_magnitude_vector`) with any
//! of the first three. What they mean for a weight is in [`change`]; which layer a name means is decided
//! in `families/lora`. Source: LyCORIS 4.1.3 `lycoris/modules` (`weight_list` of each), kohya-ss/sd-scripts
//! `networks/lora.py`, peft 0.21.2 `tuners/lora/layer.py`.

mod change;
mod peft;

use std::collections::BTreeMap;
use std::path::Path;

use tch::{Device, Kind, Tensor};

pub use change::{Change, Differences, LowRank};
use change::{Factor, Magnitude, WeightChange};
use peft::PeftSettings;

use super::load::load;
use crate::error::{Error, Result};

/// What one tensor is to its layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Role {
    Down,
    Up,
    Mid,
    Alpha,
    DoraScale,
    MagnitudeVector,
    HadaW1A,
    HadaW1B,
    HadaT1,
    HadaW2A,
    HadaW2B,
    HadaT2,
    LokrW1,
    LokrW1A,
    LokrW1B,
    LokrW2,
    LokrW2A,
    LokrW2B,
    LokrT2,
    Difference,
    BiasDifference,
    OnInput,
    /// Of IA3, where `OnInput` is beside it; else of something else.
    Bare,
}

/// What the tensors of one layer are called, after the layer's name. The first that fits counts.
const SUFFIXES: &[(&str, Role)] = &[
    (".lora_down.weight", Role::Down),
    (".lora_up.weight", Role::Up),
    (".lora_mid.weight", Role::Mid),
    (".alpha", Role::Alpha),
    (".lora_A.weight", Role::Down),
    (".lora_B.weight", Role::Up),
    (".lora_A.default.weight", Role::Down),
    (".lora_B.default.weight", Role::Up),
    (".lora_linear_layer.down.weight", Role::Down),
    (".lora_linear_layer.up.weight", Role::Up),
    (".lora.down.weight", Role::Down),
    (".lora.up.weight", Role::Up),
    ("_lora.down.weight", Role::Down),
    ("_lora.up.weight", Role::Up),
    (".dora_scale", Role::DoraScale),
    (".lora_magnitude_vector", Role::MagnitudeVector),
    (".lora_magnitude_vector.weight", Role::MagnitudeVector),
    (
        ".lora_magnitude_vector.default.weight",
        Role::MagnitudeVector,
    ),
    (".hada_w1_a", Role::HadaW1A),
    (".hada_w1_b", Role::HadaW1B),
    (".hada_t1", Role::HadaT1),
    (".hada_w2_a", Role::HadaW2A),
    (".hada_w2_b", Role::HadaW2B),
    (".hada_t2", Role::HadaT2),
    (".lokr_w1", Role::LokrW1),
    (".lokr_w1_a", Role::LokrW1A),
    (".lokr_w1_b", Role::LokrW1B),
    (".lokr_w2", Role::LokrW2),
    (".lokr_w2_a", Role::LokrW2A),
    (".lokr_w2_b", Role::LokrW2B),
    (".lokr_t2", Role::LokrT2),
    (".diff", Role::Difference),
    (".diff_b", Role::BiasDifference),
    (".w_norm", Role::Difference),
    (".b_norm", Role::BiasDifference),
    (".on_input", Role::OnInput),
    (".weight", Role::Bare),
];

/// What a file does to a model.
#[derive(Debug, Default)]
pub struct LoraFile {
    /// By the layers' names as the file has them.
    pub layers: BTreeMap<String, Change>,
    /// Tensors that are none of a layer's change, in order.
    pub ignored: Vec<String>,
}

/// Reads a file of LoRA, LoHa, LoKr, DoRA, whole differences or IA3, mixed as they come.
///
/// Errors: [`Error::Model`] naming the file and the layer that lacks one of its tensors; or that none
/// of its tensors is of this kind.
pub fn load_lora(path: &Path, device: Device, kind: Kind) -> Result<LoraFile> {
    if !path.is_file() {
        return Err(Error::model(path, "there is no such LoRA file"));
    }
    let settings = PeftSettings::of(path);
    let named = load(&[path.to_path_buf()], device, kind, &mut |_| ())?;
    let mut layers: BTreeMap<String, Parts> = BTreeMap::new();
    let mut file = LoraFile::default();
    for (name, tensor) in named.tensors {
        match split(&name) {
            Some((layer, role)) => {
                let parts = layers.entry(layer.to_owned()).or_default();
                parts.0.insert(role, (name, tensor));
            }
            None => file.ignored.push(name),
        }
    }
    for (layer, mut parts) in layers {
        let broken = |why: String| Error::model(path, format!("its layer {layer} {why}"));
        let scale = |rank| settings.scale(&layer, rank);
        let change = parts.change(&scale).map_err(broken)?;
        // An alpha alone, or a weight that is no adapter's.
        file.ignored
            .extend(parts.0.into_values().map(|(name, _)| name));
        if let Some(change) = change {
            file.layers.insert(layer, change);
        }
    }
    if file.layers.is_empty() {
        let first = file.ignored.first().map_or("", String::as_str);
        let why =
            format!("it is no LoRA (nor LoHa, LoKr, DoRA or IA3): its tensor {first} is not one's");
        return Err(Error::model(path, why));
    }
    Ok(file)
}

fn split(name: &str) -> Option<(&str, Role)> {
    SUFFIXES
        .iter()
        .find_map(|(suffix, role)| Some((name.strip_suffix(suffix)?, *role)))
}

/// The tensors of one layer, with their names.
#[derive(Default)]
struct Parts(BTreeMap<Role, (String, Tensor)>);

/// What a layer without an alpha of its own is scaled by, where the file's settings say so.
type Scale<'a> = &'a dyn Fn(f64) -> Option<f64>;

impl Parts {
    fn take(&mut self, role: Role) -> Option<Tensor> {
        self.0.remove(&role).map(|(_, tensor)| tensor)
    }

    fn has(&self, role: Role) -> bool {
        self.0.contains_key(&role)
    }

    /// The tensor without which the others of its kind mean nothing.
    fn need(&mut self, role: Role) -> Result<Tensor, String> {
        self.take(role)
            .ok_or_else(|| format!("lacks one of its tensors ({role:?})"))
    }

    /// Takes what belongs together out; `None` where there is nothing.
    fn change(&mut self, scale: Scale<'_>) -> Result<Option<Change>, String> {
        let weight = self.weight(scale)?;
        let magnitude = self.magnitude();
        if magnitude.is_some() && weight.is_none() {
            return Err("has a DoRA magnitude, but nothing that it belongs to".to_owned());
        }
        let bias = self.take(Role::BiasDifference);
        Ok((weight.is_some() || bias.is_some()).then_some(Change {
            weight,
            magnitude,
            bias,
        }))
    }

    fn weight(&mut self, scale: Scale<'_>) -> Result<Option<WeightChange>, String> {
        if self.has(Role::Down) || self.has(Role::Up) {
            let (down, up) = (self.need(Role::Down)?, self.need(Role::Up)?);
            let scale = self.scale(&down, scale)?;
            let mid = self.take(Role::Mid);
            let pair = LowRank {
                down,
                mid,
                up,
                scale,
            };
            return Ok(Some(WeightChange::LowRank(pair)));
        }
        if self.has(Role::HadaW1A) {
            let first = self.hadamard_half([Role::HadaT1, Role::HadaW1A, Role::HadaW1B])?;
            let second = self.hadamard_half([Role::HadaT2, Role::HadaW2A, Role::HadaW2B])?;
            let scale = match first.rank() {
                Some(rank) => self.scale(rank, scale)?,
                None => 1.0,
            };
            return Ok(Some(WeightChange::Hadamard(first, second, scale)));
        }
        if self.has(Role::LokrW1) || self.has(Role::LokrW1A) {
            return self.kronecker(scale).map(Some);
        }
        if self.has(Role::OnInput) {
            let of_input = number(&self.need(Role::OnInput)?)? != 0.0;
            let by = self.need(Role::Bare)?;
            return Ok(Some(WeightChange::Scaling { by, of_input }));
        }
        Ok(self.take(Role::Difference).map(WeightChange::Difference))
    }

    fn hadamard_half(&mut self, [core, a, b]: [Role; 3]) -> Result<Factor, String> {
        let (core, a, b) = (self.take(core), self.need(a)?, self.need(b)?);
        Ok(Factor::new(core, a, b))
    }

    fn kronecker(&mut self, scale: Scale<'_>) -> Result<WeightChange, String> {
        let first = match self.take(Role::LokrW1) {
            Some(whole) => Factor::Whole(whole),
            None => Factor::new(None, self.need(Role::LokrW1A)?, self.need(Role::LokrW1B)?),
        };
        let second = match self.take(Role::LokrW2) {
            Some(whole) => Factor::Whole(whole),
            None => {
                let core = self.take(Role::LokrT2);
                Factor::new(core, self.need(Role::LokrW2A)?, self.need(Role::LokrW2B)?)
            }
        };
        // Two whole factors have no rank, and LyCORIS gives their alpha no meaning.
        let scale = match second.rank().or(first.rank()) {
            Some(rank) => self.scale(rank, scale)?,
            None => {
                self.take(Role::Alpha);
                1.0
            }
        };
        Ok(WeightChange::Kronecker(first, second, scale))
    }

    /// `alpha / rank`; 1 where neither the file nor its settings have an alpha. `down`: `[rank, ...]`.
    fn scale(&mut self, down: &Tensor, settings: Scale<'_>) -> Result<f64, String> {
        let rank = down.size().first().copied().unwrap_or(1).max(1) as f64;
        match self.take(Role::Alpha) {
            Some(alpha) => Ok(number(&alpha)? / rank),
            None => Ok(settings(rank).unwrap_or(1.0)),
        }
    }

    fn magnitude(&mut self) -> Option<Magnitude> {
        if let Some(values) = self.take(Role::MagnitudeVector) {
            return Some(Magnitude {
                values,
                of_input: false,
                fades: false,
            });
        }
        let values = self.take(Role::DoraScale)?;
        // `[out, 1, ...]`; older LyCORIS measured the columns: `[1, in, ...]`.
        let of_input = matches!(values.size().as_slice(), [1, columns, ..] if *columns > 1);
        Some(Magnitude {
            values,
            of_input,
            fades: true,
        })
    }
}

fn number(tensor: &Tensor) -> Result<f64, String> {
    let one = || tensor.f_view([1])?.f_double_value(&[0]);
    one().map_err(|_| "has a setting that is not one number".to_owned())
}
