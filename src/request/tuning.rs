//! The fine settings of samplers and schedules, which hardly anybody needs to touch.

use serde::{Deserialize, Serialize};

use super::exact;

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
