//! The noise schedules by name. The numbers are computed in `schedule/`.

use serde::{Deserialize, Serialize};

/// How the steps are spread over the noise levels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ScheduleId {
    /// As the model's `scheduler_config.json` says.
    Model,
    /// As suits the sampler and the model: what it comes to is recorded.
    Automatic,
    Karras,
    Exponential,
    Trailing,
    Leading,
    Linspace,
    Polyexponential,
    Beta,
    SgmUniform,
    Simple,
    Normal,
    DdimUniform,
    AlignYourSteps,
    AlignYourStepsXl,
    KlOptimal,
    LinearQuadratic,
}

/// What a schedule is called, everywhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScheduleInfo {
    pub id: ScheduleId,
    /// On the command line and in the `easel` JSON.
    pub name: &'static str,
    /// In menus.
    pub label: &'static str,
    /// One plain sentence.
    pub tooltip: &'static str,
    /// `Schedule type` in A1111's infotext, where A1111 has this schedule.
    pub a1111_name: Option<&'static str>,
}

/// Every schedule, in the order of the menu.
pub const SCHEDULES: &[ScheduleInfo] = &[
    ScheduleInfo {
        id: ScheduleId::Model,
        name: "model",
        label: "The model's own",
        tooltip: "Steps spread as the model's makers set it.",
        a1111_name: None,
    },
    ScheduleInfo {
        id: ScheduleId::Automatic,
        name: "automatic",
        label: "Automatic",
        tooltip: "What AUTOMATIC1111 takes for the sampler; the model's own where it was trained for few steps.",
        a1111_name: None,
    },
    ScheduleInfo {
        id: ScheduleId::Karras,
        name: "karras",
        label: "Karras",
        tooltip: "More steps near the end, where fine detail is drawn.",
        a1111_name: Some("Karras"),
    },
    ScheduleInfo {
        id: ScheduleId::Exponential,
        name: "exponential",
        label: "Exponential",
        tooltip: "Each step removes the same share of the noise.",
        a1111_name: Some("Exponential"),
    },
    ScheduleInfo {
        id: ScheduleId::Trailing,
        name: "trailing",
        label: "Trailing",
        tooltip: "Even steps that begin at pure noise; best for few steps.",
        a1111_name: None,
    },
    ScheduleInfo {
        id: ScheduleId::Leading,
        name: "leading",
        label: "Leading",
        tooltip: "Even steps as Stable Diffusion 1 was published with.",
        a1111_name: None,
    },
    ScheduleInfo {
        id: ScheduleId::Linspace,
        name: "linspace",
        label: "Linspace",
        tooltip: "Even steps from pure noise to the last level.",
        a1111_name: None,
    },
    ScheduleInfo {
        id: ScheduleId::Polyexponential,
        name: "polyexponential",
        label: "Polyexponential",
        tooltip: "Exponential, bent by rho.",
        a1111_name: Some("Polyexponential"),
    },
    ScheduleInfo {
        id: ScheduleId::Beta,
        name: "beta",
        label: "Beta",
        tooltip: "More steps at both ends, fewer between.",
        a1111_name: Some("Beta"),
    },
    ScheduleInfo {
        id: ScheduleId::SgmUniform,
        name: "sgm_uniform",
        label: "SGM uniform",
        tooltip: "Even steps from pure noise, the last one left out; for few-step models.",
        a1111_name: Some("SGM Uniform"),
    },
    ScheduleInfo {
        id: ScheduleId::Simple,
        name: "simple",
        label: "Simple",
        tooltip: "Every so many of the levels that the model was trained on.",
        a1111_name: Some("Simple"),
    },
    ScheduleInfo {
        id: ScheduleId::Normal,
        name: "normal",
        label: "Normal",
        tooltip: "Even steps between the first and the last level.",
        a1111_name: Some("Normal"),
    },
    ScheduleInfo {
        id: ScheduleId::DdimUniform,
        name: "ddim_uniform",
        label: "DDIM uniform",
        tooltip: "Even steps that begin below pure noise, as DDIM was published.",
        a1111_name: Some("DDIM"),
    },
    ScheduleInfo {
        id: ScheduleId::AlignYourSteps,
        name: "align_your_steps",
        label: "Align Your Steps",
        tooltip: "Tuned for each family, XL has levels of its own: best for about 10 steps.",
        a1111_name: Some("Align Your Steps"),
    },
    ScheduleInfo {
        id: ScheduleId::AlignYourStepsXl,
        name: "align_your_steps_xl",
        label: "Align Your Steps XL",
        tooltip: "The levels tuned for XL, whatever the model.",
        a1111_name: Some("Align Your Steps XL"),
    },
    ScheduleInfo {
        id: ScheduleId::KlOptimal,
        name: "kl_optimal",
        label: "KL optimal",
        tooltip: "Tuned for the least loss between model and picture.",
        a1111_name: Some("KL Optimal"),
    },
    ScheduleInfo {
        id: ScheduleId::LinearQuadratic,
        name: "linear_quadratic",
        label: "Linear quadratic",
        tooltip: "Small even steps first, then ever larger ones.",
        a1111_name: Some("Linear Quadratic"),
    },
];

impl ScheduleId {
    /// The row of [`SCHEDULES`] for this schedule.
    pub fn info(self) -> &'static ScheduleInfo {
        SCHEDULES
            .iter()
            .find(|info| info.id == self)
            .unwrap_or(&SCHEDULES[0])
    }

    /// Finds a schedule by its command-line name (`karras`).
    pub fn from_name(name: &str) -> Option<Self> {
        SCHEDULES
            .iter()
            .find(|info| info.name == name)
            .map(|info| info.id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_schedule_has_its_own_row_and_one_name_everywhere() {
        for info in SCHEDULES {
            assert_eq!(info.id.info(), info);
            assert_eq!(ScheduleId::from_name(info.name), Some(info.id));
            let json = serde_json::to_string(&info.id).unwrap();
            assert_eq!(json, format!("\"{}\"", info.name));
        }
    }
}
