//! How a seed becomes noise: as diffusers does it, or as the program that a picture is to equal.

use serde::{Deserialize, Serialize};

use super::exact;

/// Whose noise grows from a seed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SeedMode {
    #[default]
    Diffusers,
    A1111,
    A1111Cpu,
    #[serde(rename = "comfyui")]
    ComfyUi,
}

/// What a seed mode is called, everywhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SeedModeInfo {
    pub id: SeedMode,
    /// On the command line and in the `easel` JSON.
    pub name: &'static str,
    /// In menus.
    pub label: &'static str,
    /// One plain sentence.
    pub tooltip: &'static str,
}

/// Every seed mode, in the order of the menu.
pub const SEED_MODES: &[SeedModeInfo] = &[
    SeedModeInfo {
        id: SeedMode::Diffusers,
        name: "diffusers",
        label: "diffusers",
        tooltip: "The noise of diffusers with a generator on the processor: Easel's own.",
    },
    SeedModeInfo {
        id: SeedMode::A1111,
        name: "a1111",
        label: "A1111 (graphics card)",
        tooltip: "The noise of AUTOMATIC1111 and Forge as they are set up: that of an NVIDIA card.",
    },
    SeedModeInfo {
        id: SeedMode::A1111Cpu,
        name: "a1111_cpu",
        label: "A1111 (processor)",
        tooltip: "The noise of AUTOMATIC1111 and Forge where their random numbers are set to CPU.",
    },
    SeedModeInfo {
        id: SeedMode::ComfyUi,
        name: "comfyui",
        label: "ComfyUI",
        tooltip: "The noise of ComfyUI: the pictures of a job are one batch of one seed.",
    },
];

impl SeedMode {
    pub fn info(self) -> &'static SeedModeInfo {
        let found = SEED_MODES.iter().find(|info| info.id == self);
        found.unwrap_or(&SEED_MODES[0])
    }
}

/// What a person may say of noise beyond the seed. `None`: nothing of the kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Seeding {
    pub mode: SeedMode,
    /// A second seed whose noise is mixed in; with a strength and no seed, one is drawn.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub variation_seed: Option<u64>,
    /// How far the noise goes over to the second seed's, 0 to 1.
    #[serde(with = "exact::option", skip_serializing_if = "Option::is_none")]
    pub variation_strength: Option<f64>,
    /// Width and height in pixels whose noise lies in the middle of this picture's: another size
    /// then keeps its composition.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resize_from: Option<[u32; 2]>,
    /// A1111's `ENSD`: added to the seed for the noise that samplers add on the way.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ensd: Option<i64>,
    /// The picture's place in a batch of ComfyUI's, from 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub batch_index: Option<u32>,
}

impl Seeding {
    /// Whether nothing was said.
    pub fn is_usual(&self) -> bool {
        *self == Self::default()
    }

    /// Whether a second seed's noise is mixed in.
    pub fn varies(&self) -> bool {
        self.variation_strength.is_some_and(|share| share != 0.0)
    }

    /// The seed and the seeding of picture `index` of a job whose first picture has `seed` and these:
    /// the one number that differs between its pictures counts on. In ComfyUI's batches that is the
    /// place, with a variation the second seed (as in A1111), else the seed.
    pub fn of_picture(self, seed: u64, index: u32) -> (u64, Self) {
        let later = u64::from(index);
        match self.mode {
            SeedMode::ComfyUi => {
                let place = self.batch_index.unwrap_or(0).saturating_add(index);
                let batch_index = Some(place).filter(|place| *place > 0);
                (
                    seed,
                    Self {
                        batch_index,
                        ..self
                    },
                )
            }
            _ if self.varies() => {
                let variation_seed = self.variation_seed.map(|seed| seed.wrapping_add(later));
                (
                    seed,
                    Self {
                        variation_seed,
                        ..self
                    },
                )
            }
            _ => (seed.wrapping_add(later), self),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_number_counts_on_from_picture_to_picture() {
        let plain = Seeding::default();
        assert_eq!(plain.of_picture(7, 3), (10, plain));
        assert_eq!(plain.of_picture(u64::MAX, 1), (0, plain));
        let varied = Seeding {
            mode: SeedMode::A1111,
            variation_seed: Some(100),
            variation_strength: Some(0.2),
            ..plain
        };
        let (seed, third) = varied.of_picture(7, 2);
        assert_eq!((seed, third.variation_seed), (7, Some(102)));
        let batch = Seeding {
            mode: SeedMode::ComfyUi,
            ..plain
        };
        assert_eq!(batch.of_picture(7, 0), (7, batch));
        let (seed, third) = batch.of_picture(7, 2);
        assert_eq!((seed, third.batch_index), (7, Some(2)));
        assert_eq!(third.of_picture(7, 1).1.batch_index, Some(3));
    }

    #[test]
    fn names_are_those_of_the_json() {
        for info in SEED_MODES {
            let json = serde_json::to_value(info.id).unwrap();
            assert_eq!(json, info.name);
            assert_eq!(info.id.info(), info);
        }
    }
}
