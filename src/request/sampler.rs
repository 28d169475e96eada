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
    #[serde(rename = "dpmpp_sde")]
    DpmPpSde,
    Dpm2,
    Dpm2A,
    #[serde(rename = "dpmpp_3m_sde")]
    DpmPp3mSde,
    Lms,
    Pndm,
    Ddpm,
    Deis,
    #[serde(rename = "dpmpp_2m_sde_heun")]
    DpmPp2mSdeHeun,
    #[serde(rename = "dpmpp_2s_a")]
    DpmPp2sA,
    #[serde(rename = "unipc_bh2")]
    UniPcBh2,
    Tcd,
    Restart,
    Ipndm,
    SaSolver,
    EulerCfgPp,
    DdimCfgPp,
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
    /// The scheduler of diffusers that draws the same picture; for those it does not have, the place
    /// the formulas are from.
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
    SamplerInfo {
        id: SamplerId::DpmPpSde,
        name: "dpmpp_sde",
        label: "DPM++ SDE",
        tooltip: "Looks twice at every step and adds fresh noise: rich detail in few steps.",
        a1111_name: "DPM++ SDE",
        diffusers_class: "DPMSolverSDEScheduler",
        default_schedule: ScheduleId::Karras,
    },
    SamplerInfo {
        id: SamplerId::DpmPp3mSde,
        name: "dpmpp_3m_sde",
        label: "DPM++ 3M SDE",
        tooltip: "Looks further back than DPM++ 2M SDE: for 25 steps or more.",
        a1111_name: "DPM++ 3M SDE",
        diffusers_class: "k-diffusion sample_dpmpp_3m_sde",
        default_schedule: ScheduleId::Exponential,
    },
    SamplerInfo {
        id: SamplerId::DpmPp2mSdeHeun,
        name: "dpmpp_2m_sde_heun",
        label: "DPM++ 2M SDE Heun",
        tooltip: "DPM++ 2M SDE with Heun's second term: a little smoother.",
        a1111_name: "DPM++ 2M SDE Heun",
        diffusers_class: "DPMSolverMultistepScheduler (sde-dpmsolver++, heun)",
        default_schedule: ScheduleId::Exponential,
    },
    SamplerInfo {
        id: SamplerId::DpmPp2sA,
        name: "dpmpp_2s_a",
        label: "DPM++ 2S a",
        tooltip: "Looks twice at every step and adds fresh noise.",
        a1111_name: "DPM++ 2S a",
        diffusers_class: "k-diffusion sample_dpmpp_2s_ancestral",
        default_schedule: ScheduleId::Karras,
    },
    SamplerInfo {
        id: SamplerId::Dpm2,
        name: "dpm2",
        label: "DPM2",
        tooltip: "Looks twice at every step, the second time half-way.",
        a1111_name: "DPM2",
        diffusers_class: "KDPM2DiscreteScheduler",
        default_schedule: ScheduleId::Karras,
    },
    SamplerInfo {
        id: SamplerId::Dpm2A,
        name: "dpm2_a",
        label: "DPM2 a",
        tooltip: "DPM2 with fresh noise at every step.",
        a1111_name: "DPM2 a",
        diffusers_class: "KDPM2AncestralDiscreteScheduler",
        default_schedule: ScheduleId::Karras,
    },
    SamplerInfo {
        id: SamplerId::Lms,
        name: "lms",
        label: "LMS",
        tooltip: "Follows a curve through its last four steps; wants 30 steps or more.",
        a1111_name: "LMS",
        diffusers_class: "LMSDiscreteScheduler",
        default_schedule: ScheduleId::Model,
    },
    SamplerInfo {
        id: SamplerId::Pndm,
        name: "pndm",
        label: "PNDM (PLMS)",
        tooltip: "The method Stable Diffusion 1 was published with.",
        a1111_name: "PLMS",
        diffusers_class: "PNDMScheduler",
        default_schedule: ScheduleId::Model,
    },
    SamplerInfo {
        id: SamplerId::Ddpm,
        name: "ddpm",
        label: "DDPM",
        tooltip: "The original method: fresh noise at every step, wants very many steps.",
        a1111_name: "DDPM",
        diffusers_class: "DDPMScheduler",
        default_schedule: ScheduleId::Model,
    },
    SamplerInfo {
        id: SamplerId::Deis,
        name: "deis",
        label: "DEIS",
        tooltip: "Good pictures in 10 to 20 steps.",
        a1111_name: "DEIS",
        diffusers_class: "DEISMultistepScheduler",
        default_schedule: ScheduleId::Model,
    },
    SamplerInfo {
        id: SamplerId::UniPcBh2,
        name: "unipc_bh2",
        label: "UniPC bh2",
        tooltip: "UniPC in the variant for few steps, whatever the model's file says.",
        a1111_name: "UniPC bh2",
        diffusers_class: "UniPCMultistepScheduler (bh2)",
        default_schedule: ScheduleId::Model,
    },
    SamplerInfo {
        id: SamplerId::Restart,
        name: "restart",
        label: "Restart",
        tooltip: "Heun that goes back once or twice, to mend its own mistakes; from 20 steps on.",
        a1111_name: "Restart",
        diffusers_class: "A1111 sd_samplers_extra.py restart_sampler",
        default_schedule: ScheduleId::Karras,
    },
    SamplerInfo {
        id: SamplerId::Ipndm,
        name: "ipndm",
        label: "iPNDM",
        tooltip: "Follows a curve through its last four steps, from the first step on.",
        a1111_name: "iPNDM",
        diffusers_class: "ComfyUI sample_ipndm",
        default_schedule: ScheduleId::Model,
    },
    SamplerInfo {
        id: SamplerId::SaSolver,
        name: "sa_solver",
        label: "SA-Solver",
        tooltip: "Predicts and corrects, with fresh noise in the middle of the way.",
        a1111_name: "SA-Solver",
        diffusers_class: "SASolverScheduler",
        default_schedule: ScheduleId::Model,
    },
    SamplerInfo {
        id: SamplerId::Tcd,
        name: "tcd",
        label: "TCD",
        tooltip: "For models made for few steps (TCD): 4 to 8 steps, guidance near 1.",
        a1111_name: "TCD",
        diffusers_class: "TCDScheduler",
        default_schedule: ScheduleId::Model,
    },
    SamplerInfo {
        id: SamplerId::EulerCfgPp,
        name: "euler_cfg_pp",
        label: "Euler CFG++",
        tooltip: "Euler with gentler guidance: set it to 1 to 2.",
        a1111_name: "Euler CFG++",
        diffusers_class: "ComfyUI sample_euler_cfg_pp",
        default_schedule: ScheduleId::Model,
    },
    SamplerInfo {
        id: SamplerId::DdimCfgPp,
        name: "ddim_cfg_pp",
        label: "DDIM CFG++",
        tooltip: "DDIM with gentler guidance: set it to 1 to 2.",
        a1111_name: "DDIM CFG++",
        diffusers_class: "A1111 ddim_cfgpp",
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

    /// The schedule that A1111 and Forge take for it where `Automatic` is chosen, or where a picture says
    /// nothing: its own, else k-diffusion's even one. DDIM and PLMS go by whole timesteps, UniPC by even
    /// times, LCM by those that the model was distilled on.
    ///
    /// Source: A1111 1.10 `modules/sd_samplers_kdiffusion.py` (`samplers_k_diffusion`),
    /// `sd_samplers_timesteps.py`, `sd_samplers_timesteps_impl.py`, `sd_samplers_lcm.py`.
    pub fn automatic_schedule(self) -> ScheduleId {
        match (self, self.info().default_schedule) {
            (Self::Ddim | Self::DdimCfgPp | Self::Pndm, _) => ScheduleId::Leading,
            (Self::UniPc, _) => ScheduleId::Linspace,
            (Self::Lcm | Self::Tcd, _) => ScheduleId::Model,
            (_, ScheduleId::Model) => ScheduleId::Normal,
            (_, own) => own,
        }
    }

    /// Whether it asks the network without the prompt at every step, whatever the guidance scale.
    pub fn needs_unguided(self) -> bool {
        matches!(self, Self::EulerCfgPp | Self::DdimCfgPp)
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
    fn automatic_is_what_a1111_takes_for_each_of_its_samplers() {
        use SamplerId::*;
        for (samplers, schedule) in [
            (
                &[DpmPp2m, DpmPpSde, DpmPp2sA, Dpm2, Dpm2A, Restart][..],
                ScheduleId::Karras,
            ),
            (
                &[DpmPp2mSde, DpmPp2mSdeHeun, DpmPp3mSde],
                ScheduleId::Exponential,
            ),
            (&[EulerA, Euler, Lms, Heun], ScheduleId::Normal),
            (&[Ddim, DdimCfgPp, Pndm], ScheduleId::Leading),
            (&[UniPc], ScheduleId::Linspace),
            (&[Lcm], ScheduleId::Model),
        ] {
            for sampler in samplers {
                assert_eq!(sampler.automatic_schedule(), schedule, "{sampler:?}");
            }
        }
    }

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
