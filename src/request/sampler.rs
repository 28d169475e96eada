//! The samplers by name: what the menu, the command line, the metadata and the README call them.
//!
//! The algorithms themselves are in `samplers/`, one file each. This table is plain data, so that
//! the window can list samplers without knowing about tensors.

use serde::{Deserialize, Serialize};

use super::ScheduleId;

/// Which algorithm walks from noise to picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SamplerId {
    Ddim,
    Euler,
    EulerA,
    Heun,
    #[serde(rename = "dpmpp_2m")]
    DpmPp2m,
    #[serde(rename = "dpmpp_2m_sde")]
    DpmPp2mSde,
    #[serde(rename = "unipc")]
    UniPc,
    Lcm,
}

/// What a sampler is called, everywhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SamplerInfo {
    pub id: SamplerId,
    /// On the command line and in the `easel` JSON: lower case with underscores.
    pub name: &'static str,
    /// In menus.
    pub label: &'static str,
    /// One plain sentence.
    pub tooltip: &'static str,
    /// In A1111's infotext, without the schedule.
    pub a1111_name: &'static str,
    /// The scheduler of diffusers that draws the same picture.
    pub diffusers_class: &'static str,
    /// The schedule that A1111 means when a picture names the sampler alone.
    pub default_schedule: ScheduleId,
}

/// Every sampler, in the order of the menu.
pub const SAMPLERS: &[SamplerInfo] = &[
    SamplerInfo {
        id: SamplerId::DpmPp2m,
        name: "dpmpp_2m",
        label: "DPM++ 2M",
        tooltip: "Sharp pictures in 15 to 25 steps. A good first choice.",
        a1111_name: "DPM++ 2M",
        diffusers_class: "DPMSolverMultistepScheduler",
        default_schedule: ScheduleId::Karras,
    },
    SamplerInfo {
        id: SamplerId::DpmPp2mSde,
        name: "dpmpp_2m_sde",
        label: "DPM++ 2M SDE",
        tooltip: "Adds fresh noise on the way: more detail, wants more steps.",
        a1111_name: "DPM++ 2M SDE",
        diffusers_class: "DPMSolverMultistepScheduler (sde-dpmsolver++)",
        default_schedule: ScheduleId::Exponential,
    },
    SamplerInfo {
        id: SamplerId::UniPc,
        name: "unipc",
        label: "UniPC",
        tooltip: "Predicts and corrects: good pictures in 10 to 15 steps.",
        a1111_name: "UniPC",
        diffusers_class: "UniPCMultistepScheduler",
        default_schedule: ScheduleId::Model,
    },
    SamplerInfo {
        id: SamplerId::Euler,
        name: "euler",
        label: "Euler",
        tooltip: "The simplest method: soft, predictable pictures.",
        a1111_name: "Euler",
        diffusers_class: "EulerDiscreteScheduler",
        default_schedule: ScheduleId::Model,
    },
    SamplerInfo {
        id: SamplerId::EulerA,
        name: "euler_a",
        label: "Euler a",
        tooltip: "Euler with fresh noise at every step: another step count is another picture.",
        a1111_name: "Euler a",
        diffusers_class: "EulerAncestralDiscreteScheduler",
        default_schedule: ScheduleId::Model,
    },
    SamplerInfo {
        id: SamplerId::Heun,
        name: "heun",
        label: "Heun",
        tooltip: "Looks twice at every step: accurate, and takes twice as long.",
        a1111_name: "Heun",
        diffusers_class: "HeunDiscreteScheduler",
        default_schedule: ScheduleId::Model,
    },
    SamplerInfo {
        id: SamplerId::Ddim,
        name: "ddim",
        label: "DDIM",
        tooltip: "The classic method; wants 30 steps or more.",
        a1111_name: "DDIM",
        diffusers_class: "DDIMScheduler",
        default_schedule: ScheduleId::Model,
    },
    SamplerInfo {
        id: SamplerId::Lcm,
        name: "lcm",
        label: "LCM",
        tooltip: "For models made for few steps (LCM): 4 to 8 steps, guidance near 1.",
        a1111_name: "LCM",
        diffusers_class: "LCMScheduler",
        default_schedule: ScheduleId::Model,
    },
];

impl SamplerId {
    /// The row of [`SAMPLERS`] for this sampler.
    pub fn info(self) -> &'static SamplerInfo {
        SAMPLERS
            .iter()
            .find(|info| info.id == self)
            .unwrap_or(&SAMPLERS[0])
    }

    /// Finds a sampler by its command-line name (`dpmpp_2m`).
    pub fn from_name(name: &str) -> Option<Self> {
        SAMPLERS
            .iter()
            .find(|info| info.name == name)
            .map(|info| info.id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_sampler_has_its_own_row_and_one_name_everywhere() {
        for info in SAMPLERS {
            assert_eq!(info.id.info(), info);
            assert_eq!(SamplerId::from_name(info.name), Some(info.id));
            let json = serde_json::to_string(&info.id).unwrap();
            assert_eq!(json, format!("\"{}\"", info.name));
        }
    }
}
