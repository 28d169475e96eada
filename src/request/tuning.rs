//! The fine settings of samplers and schedules, which hardly anybody needs to touch.

use serde::{Deserialize, Serialize};

use super::{SamplerId, ScheduleId, exact};

/// What a person may say beyond the sampler's and the schedule's name. `None`: as usual for the
/// sampler or the schedule, which is not the same number everywhere.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Tuning {
    /// The share of fresh noise of samplers that add some: 0 is none. DDIM has 0, TCD 0.3, the
    /// others 1.
    #[serde(with = "exact::option", skip_serializing_if = "Option::is_none")]
    pub eta: Option<f64>,
    /// How much noise Euler, Heun and DPM2 add before their steps (Karras et al., 2206.00364,
    /// algorithm 2); 0 is none.
    #[serde(with = "exact::option", skip_serializing_if = "Option::is_none")]
    pub s_churn: Option<f64>,
    /// What fresh noise is multiplied by; 1 leaves it as it is.
    #[serde(with = "exact::option", skip_serializing_if = "Option::is_none")]
    pub s_noise: Option<f64>,
    /// How strongly Karras (7) and polyexponential (1) are bent.
    #[serde(with = "exact::option", skip_serializing_if = "Option::is_none")]
    pub rho: Option<f64>,
    /// The ends of the schedules that are computed from their ends; sigma as `x0 + sigma * noise`.
    #[serde(with = "exact::option", skip_serializing_if = "Option::is_none")]
    pub sigma_min: Option<f64>,
    #[serde(with = "exact::option", skip_serializing_if = "Option::is_none")]
    pub sigma_max: Option<f64>,
}

impl Tuning {
    /// Whether nothing was said.
    pub fn is_usual(&self) -> bool {
        *self == Self::default()
    }
}

/// One of the fine settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Knob {
    Eta,
    SChurn,
    SNoise,
    Rho,
    SigmaMin,
    SigmaMax,
}

/// What a fine setting is called, and what it may be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct KnobInfo {
    pub knob: Knob,
    /// In messages.
    pub name: &'static str,
    /// Beside its slider.
    pub label: &'static str,
    /// One plain sentence.
    pub tooltip: &'static str,
    pub least: f64,
    pub most: f64,
    /// What a slider spans of it.
    pub slider: (f64, f64),
}

const LEAST_SIGMA: f64 = 1e-4;

/// Every fine setting, in the order of the window.
pub const KNOBS: &[KnobInfo] = &[
    KnobInfo {
        knob: Knob::Eta,
        name: "Eta",
        label: "Eta",
        tooltip: "The share of fresh noise that is added at every step; 0 adds none",
        least: 0.0,
        most: 1.0,
        slider: (0.0, 1.0),
    },
    KnobInfo {
        knob: Knob::SChurn,
        name: "Sigma churn",
        label: "Churn",
        tooltip: "How much noise is added before the steps (s_churn); 0 adds none",
        least: 0.0,
        most: 1000.0,
        slider: (0.0, 40.0),
    },
    KnobInfo {
        knob: Knob::SNoise,
        name: "Sigma noise",
        label: "Noise",
        tooltip: "What fresh noise is multiplied by (s_noise); a little above 1 keeps more detail",
        least: 0.0,
        most: 2.0,
        slider: (0.9, 1.1),
    },
    KnobInfo {
        knob: Knob::Rho,
        name: "Rho",
        label: "Rho",
        tooltip: "How strongly the schedule is bent: larger means more steps near the end",
        least: 0.01,
        most: 100.0,
        slider: (1.0, 15.0),
    },
    KnobInfo {
        knob: Knob::SigmaMin,
        name: "The smallest sigma",
        label: "Sigma min",
        tooltip: "The noise that the schedule ends with",
        least: LEAST_SIGMA,
        most: 1e4,
        slider: (0.01, 1.0),
    },
    KnobInfo {
        knob: Knob::SigmaMax,
        name: "The largest sigma",
        label: "Sigma max",
        tooltip: "The noise that the schedule begins with",
        least: LEAST_SIGMA,
        most: 1e4,
        slider: (1.0, 20.0),
    },
];

impl Knob {
    /// The row of [`KNOBS`] for this setting.
    pub fn info(self) -> &'static KnobInfo {
        KNOBS
            .iter()
            .find(|info| info.knob == self)
            .unwrap_or(&KNOBS[0])
    }

    /// What was said of it.
    pub fn said(self, tuning: &Tuning) -> Option<f64> {
        match self {
            Self::Eta => tuning.eta,
            Self::SChurn => tuning.s_churn,
            Self::SNoise => tuning.s_noise,
            Self::Rho => tuning.rho,
            Self::SigmaMin => tuning.sigma_min,
            Self::SigmaMax => tuning.sigma_max,
        }
    }

    /// Where it is kept.
    pub fn place(self, tuning: &mut Tuning) -> &mut Option<f64> {
        match self {
            Self::Eta => &mut tuning.eta,
            Self::SChurn => &mut tuning.s_churn,
            Self::SNoise => &mut tuning.s_noise,
            Self::Rho => &mut tuning.rho,
            Self::SigmaMin => &mut tuning.sigma_min,
            Self::SigmaMax => &mut tuning.sigma_max,
        }
    }

    /// Its value where nothing was said: diffusers' and k-diffusion's own. `None`: it follows from
    /// the model.
    pub fn usual(self, sampler: SamplerId, schedule: ScheduleId) -> Option<f64> {
        match (self, sampler, schedule) {
            (Self::Eta, SamplerId::Ddim, _) => Some(0.0),
            (Self::Eta, SamplerId::Tcd, _) => Some(0.3),
            (Self::Eta | Self::SNoise, _, _) => Some(1.0),
            (Self::SChurn, _, _) => Some(0.0),
            (Self::Rho, _, ScheduleId::Polyexponential) => Some(1.0),
            (Self::Rho, _, _) => Some(7.0),
            (Self::SigmaMin | Self::SigmaMax, _, _) => None,
        }
    }

    /// Whether it changes anything with this sampler and schedule, beside what `tuning` says. Held
    /// against the samplers themselves by `tests/parity_samplers.rs`.
    pub fn counts(self, sampler: SamplerId, schedule: ScheduleId, tuning: &Tuning) -> bool {
        use SamplerId as S;
        use ScheduleId as C;
        let churns = matches!(sampler, S::Euler | S::Heun | S::Dpm2);
        match self {
            Self::Eta => matches!(
                sampler,
                S::Ddim
                    | S::Dpm2A
                    | S::DpmPp2mSde
                    | S::DpmPp2mSdeHeun
                    | S::DpmPp2sA
                    | S::DpmPp3mSde
                    | S::DpmPpSde
                    | S::EulerA
                    | S::SaSolver
                    | S::Tcd
            ),
            Self::SChurn => churns,
            Self::SNoise if churns => tuning.s_churn.is_some_and(|churn| churn > 0.0),
            Self::SNoise => {
                matches!(sampler, S::Ddpm | S::Lcm | S::Restart)
                    || (Self::Eta.counts(sampler, schedule, tuning)
                        && Self::Eta
                            .said(tuning)
                            .or(Self::Eta.usual(sampler, schedule))
                            > Some(0.0))
            }
            // Restart spreads its own steps as Karras, with Karras' rho.
            Self::Rho => {
                sampler != S::Restart && matches!(schedule, C::Karras | C::Polyexponential)
            }
            Self::SigmaMin | Self::SigmaMax => {
                matches!(
                    schedule,
                    C::Karras
                        | C::Exponential
                        | C::Polyexponential
                        | C::Beta
                        | C::SgmUniform
                        | C::Normal
                        | C::KlOptimal
                ) || (self == Self::SigmaMax && schedule == C::LinearQuadratic)
            }
        }
    }
}
