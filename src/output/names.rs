//! What other programs call the samplers and schedules that Easel has.
//!
//! Their names differ in spelling only, so one reading serves all: case, spaces, hyphens and
//! underscores do not count, `++` is `pp`, and what is left is a name of Easel's tables or one of the
//! few below. Seen in: A1111 `modules/sd_samplers_kdiffusion.py` and `sd_schedulers.py`, ComfyUI
//! `comfy/samplers.py`, InvokeAI `backend/stable_diffusion/schedulers`, Fooocus `modules/flags.py`,
//! stable-diffusion.cpp `sd_sample_method_name`, NovelAI's and Draw Things' menus.

use crate::request::{SAMPLERS, SCHEDULES, SamplerId, ScheduleId};

/// Other spellings of samplers that Easel has; `letters` of a name.
const OTHER_SAMPLERS: &[(&str, SamplerId)] = &[
    ("eulerancestral", SamplerId::EulerA),
    ("dpm2ancestral", SamplerId::Dpm2A),
    ("dpmpp2sancestral", SamplerId::DpmPp2sA),
    ("ddimv3", SamplerId::Ddim),
    ("unipcmultistep", SamplerId::UniPc),
];

/// Other spellings of schedules that Easel has; `letters` of a name.
///
/// `uniform` is k-diffusion's `get_sigmas`, and `discrete` stable-diffusion.cpp's: even timesteps from
/// the last level to the first, between two levels by the logarithm of sigma. That is `normal`.
const OTHER_SCHEDULES: &[(&str, ScheduleId)] = &[
    ("uniform", ScheduleId::Normal),
    ("discrete", ScheduleId::Normal),
    ("ays", ScheduleId::AlignYourSteps),
    ("ayssdxl", ScheduleId::AlignYourStepsXl),
];

/// Longer names are nobody's; a hostile text's could take minutes to compare.
const LONGEST_NAME: usize = 64;

/// The letters by which names are compared: `DPM++ 2M`, `dpm++2m`, `dpmpp_2m` are one name.
fn letters(name: &str) -> String {
    name.replace("++", "pp")
        .chars()
        .filter(|c| !matches!(c, ' ' | '_' | '-'))
        .flat_map(char::to_lowercase)
        .collect()
}

/// Compares names without case, spaces and underscores.
pub fn same(a: &str, b: &str) -> bool {
    letters(a) == letters(b)
}

/// The sampler of this name, and the schedule where the name holds that too (`DPM++ 2M Karras`,
/// `dpmpp_2m_k`). `None`: Easel does not have it.
pub fn sampler(name: &str) -> Option<(SamplerId, Option<ScheduleId>)> {
    if name.len() > LONGEST_NAME {
        return None;
    }
    let name = letters(name);
    // ComfyUI draws the noise of `..._gpu` elsewhere; k-diffusion's samplers are often called `k_...`.
    let name = name.strip_suffix("gpu").unwrap_or(&name);
    let bare = name.strip_prefix('k').unwrap_or(name);
    [name, bare].into_iter().find_map(|name| {
        plain_sampler(name)
            .map(|id| (id, None))
            .or_else(|| fused(name))
    })
}

fn plain_sampler(name: &str) -> Option<SamplerId> {
    let table = SAMPLERS.iter();
    table
        .map(|info| (letters(info.a1111_name), info.id))
        .chain(SAMPLERS.iter().map(|info| (letters(info.name), info.id)))
        .chain(
            OTHER_SAMPLERS
                .iter()
                .map(|(name, id)| ((*name).to_owned(), *id)),
        )
        .find(|(known, _)| known == name)
        .map(|(_, id)| id)
}

/// A sampler's name with a schedule's behind it; InvokeAI's `_k` is Karras.
fn fused(name: &str) -> Option<(SamplerId, Option<ScheduleId>)> {
    name.char_indices().skip(1).find_map(|(at, _)| {
        let (base, end) = name.split_at_checked(at)?;
        let id = plain_sampler(base)?;
        let schedule = match end {
            "k" => ScheduleId::Karras,
            _ => schedule(end)?,
        };
        Some((id, Some(schedule)))
    })
}

/// The schedule of this name. `None`: Easel does not have it.
pub fn schedule(name: &str) -> Option<ScheduleId> {
    let name = letters(name);
    let table = SCHEDULES.iter().find(|info| {
        let own = [Some(info.name), info.a1111_name, Some(info.label)];
        own.into_iter().flatten().any(|own| letters(own) == name)
    });
    let others = || OTHER_SCHEDULES.iter().find(|(other, _)| *other == name);
    table
        .map(|info| info.id)
        .or_else(|| others().map(|(_, id)| *id))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_sampler_is_found_by_its_own_names() {
        for info in SAMPLERS {
            for name in [info.name, info.a1111_name] {
                assert_eq!(sampler(name), Some((info.id, None)), "{name}");
            }
        }
        for info in SCHEDULES {
            for name in info.a1111_name.iter().chain([&info.name, &info.label]) {
                assert_eq!(schedule(name), Some(info.id), "{name}");
            }
        }
    }

    #[test]
    fn the_names_of_other_programs_are_known() {
        use SamplerId::*;
        let karras = Some(ScheduleId::Karras);
        for (name, id, with) in [
            // A1111 before 1.9, Civitai
            ("DPM++ 2M Karras", DpmPp2m, karras),
            (
                "DPM++ 2M SDE Heun Exponential",
                DpmPp2mSdeHeun,
                Some(ScheduleId::Exponential),
            ),
            ("DPM2 a Karras", Dpm2A, karras),
            (
                "DPM++ 2M SGM Uniform",
                DpmPp2m,
                Some(ScheduleId::SgmUniform),
            ),
            // ComfyUI
            ("euler_ancestral", EulerA, None),
            ("dpm_2", Dpm2, None),
            ("dpm_2_ancestral", Dpm2A, None),
            ("dpmpp_2s_ancestral", DpmPp2sA, None),
            ("dpmpp_3m_sde_gpu", DpmPp3mSde, None),
            ("uni_pc", UniPc, None),
            ("uni_pc_bh2", UniPcBh2, None),
            ("euler_cfg_pp", EulerCfgPp, None),
            // InvokeAI
            ("dpmpp_2m_k", DpmPp2m, karras),
            ("kdpm_2_a", Dpm2A, None),
            ("kdpm_2_a_k", Dpm2A, karras),
            ("k_euler_a", EulerA, None),
            ("k_lms", Lms, None),
            ("plms", Pndm, None),
            ("unipc_k", UniPc, karras),
            // stable-diffusion.cpp
            ("dpm++2s_a", DpmPp2sA, None),
            ("dpm++2m", DpmPp2m, None),
            ("euler discrete", Euler, Some(ScheduleId::Normal)),
            ("ddim_trailing", Ddim, Some(ScheduleId::Trailing)),
            // NovelAI
            ("k_dpmpp_2s_ancestral", DpmPp2sA, None),
            ("k_dpmpp_2m_sde", DpmPp2mSde, None),
            ("ddim_v3", Ddim, None),
            // Draw Things
            ("Euler Ancestral", EulerA, None),
            ("Euler A AYS", EulerA, Some(ScheduleId::AlignYourSteps)),
            ("DPM++ SDE Trailing", DpmPpSde, Some(ScheduleId::Trailing)),
        ] {
            assert_eq!(sampler(name), Some((id, with)), "{name}");
        }
        for name in [
            "DPM adaptive",
            "heunpp2",
            "dpmpp_2s",
            "dpmpp_3m",
            "dpm++2mv2",
            "ipndm_v",
            "res_multistep",
            "",
            "k",
            "Karras",
            "DPM++ SDE Substep",
            &format!("Euler a{}", " ".repeat(LONGEST_NAME)),
        ] {
            assert_eq!(sampler(name), None, "{name}");
        }
    }

    /// k-diffusion `external.py` `DiscreteSchedule.get_sigmas` is A1111's `normal_scheduler`.
    #[test]
    fn a1111_s_uniform_is_normal() {
        assert_eq!(schedule("Uniform"), Some(ScheduleId::Normal));
    }
}
