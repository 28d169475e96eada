//! `scheduler_config.json`: what a model says about its noise levels.
//!
//! The file names the scheduler it was saved from, but any sampler may read it. A key that is
//! absent means the default of the diffusers class that is *used*, so most fields here are options
//! and [`ClassDefaults`] fills them. Source: diffusers 0.42.1, `schedulers/*.py`.

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::error::{Error, Result};
use crate::request::SamplerId;

/// What the network was trained to say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PredictionType {
    /// The noise.
    #[default]
    Epsilon,
    /// `v = alpha * noise - sigma * x0` (Salimans and Ho, 2202.00512, appendix D).
    VPrediction,
    /// The finished picture, `x0`.
    Sample,
}

impl PredictionType {
    /// As `scheduler_config.json` has it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Epsilon => "epsilon",
            Self::VPrediction => "v_prediction",
            Self::Sample => "sample",
        }
    }
}

/// How beta, the noise added by one training step, grows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BetaSchedule {
    Linear,
    /// Linear in the square root: Stable Diffusion's.
    ScaledLinear,
    /// Nichol and Dhariwal's cosine (2102.09672).
    #[serde(rename = "squaredcos_cap_v2")]
    SquaredcosCapV2,
}

/// How steps are spread over the training steps (2305.08891, table 2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TimestepSpacing {
    Linspace,
    Leading,
    Trailing,
}

/// Where the last step ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FinalSigmas {
    #[default]
    Zero,
    SigmaMin,
}

/// Which equation DPM-Solver solves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub enum AlgorithmType {
    #[serde(rename = "dpmsolver")]
    DpmSolver,
    #[serde(rename = "dpmsolver++")]
    DpmSolverPp,
    #[serde(rename = "sde-dpmsolver")]
    SdeDpmSolver,
    #[serde(rename = "sde-dpmsolver++")]
    SdeDpmSolverPp,
    /// DEIS's files; diffusers reads it as `dpmsolver++`.
    #[serde(rename = "deis")]
    Deis,
}

/// The variant of a solver's second-order term. DPM-Solver knows the first two, UniPC the last
/// two; each class reads the others' names as its own default.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SolverType {
    Midpoint,
    Heun,
    /// DEIS's.
    Logrho,
    Bh1,
    Bh2,
}

/// `scheduler_config.json`. `None`: the file does not say.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SchedulerConfig {
    /// `_class_name`, one of [`CLASSES`].
    pub class_name: Option<String>,
    pub num_train_timesteps: Option<usize>,
    pub beta_start: Option<f64>,
    pub beta_end: Option<f64>,
    pub beta_schedule: Option<BetaSchedule>,
    pub trained_betas: Option<Vec<f64>>,
    pub rescale_betas_zero_snr: bool,
    pub prediction_type: PredictionType,
    pub timestep_spacing: Option<TimestepSpacing>,
    pub steps_offset: usize,
    pub set_alpha_to_one: Option<bool>,
    pub clip_sample: Option<bool>,
    pub clip_sample_range: Option<f64>,
    pub thresholding: bool,
    pub dynamic_thresholding_ratio: Option<f64>,
    pub sample_max_value: Option<f64>,
    pub use_karras_sigmas: bool,
    pub use_exponential_sigmas: bool,
    pub use_beta_sigmas: bool,
    pub use_lu_lambdas: bool,
    pub sigma_min: Option<f64>,
    pub sigma_max: Option<f64>,
    pub final_sigmas_type: FinalSigmas,
    pub algorithm_type: Option<AlgorithmType>,
    pub solver_order: Option<usize>,
    pub solver_type: Option<SolverType>,
    pub lower_order_final: Option<bool>,
    pub euler_at_final: bool,
    /// `None`: minus infinity, nothing is cut.
    pub lambda_min_clipped: Option<f64>,
    pub predict_x0: Option<bool>,
    pub disable_corrector: Vec<usize>,
    pub interpolation_type: Option<String>,
    pub timestep_type: Option<String>,
    pub original_inference_steps: Option<usize>,
    pub timestep_scaling: Option<f64>,
}

/// The scheduler classes that a Stable Diffusion model's file may name, and the sampler that is
/// drawn with when nobody chose one. Single-step DPM-Solver has none of its own here: DPM++ 2M solves
/// the same equation, and the pictures agree once the steps suffice.
pub const CLASSES: &[(&str, SamplerId)] = &[
    ("DDIMScheduler", SamplerId::Ddim),
    ("DDPMScheduler", SamplerId::Ddpm),
    ("DEISMultistepScheduler", SamplerId::Deis),
    ("DPMSolverMultistepScheduler", SamplerId::DpmPp2m),
    ("DPMSolverSDEScheduler", SamplerId::DpmPpSde),
    ("DPMSolverSinglestepScheduler", SamplerId::DpmPp2m),
    ("EulerAncestralDiscreteScheduler", SamplerId::EulerA),
    ("EulerDiscreteScheduler", SamplerId::Euler),
    ("HeunDiscreteScheduler", SamplerId::Heun),
    ("KDPM2AncestralDiscreteScheduler", SamplerId::Dpm2A),
    ("KDPM2DiscreteScheduler", SamplerId::Dpm2),
    ("LCMScheduler", SamplerId::Lcm),
    ("LMSDiscreteScheduler", SamplerId::Lms),
    ("PNDMScheduler", SamplerId::Pndm),
    ("SASolverScheduler", SamplerId::SaSolver),
    ("TCDScheduler", SamplerId::Tcd),
    ("UniPCMultistepScheduler", SamplerId::UniPc),
];

/// Whose noise levels a sampler walks down: diffusers' classes are of four kinds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Fractional timesteps, in the space `x0 + sigma * noise`: k-diffusion's samplers.
    AlphaOne,
    /// Whole timesteps, in the variance-preserving space: the solvers over lambda.
    Multistep,
    /// Training steps: DDIM and its like.
    Trained,
    /// The few training steps that a model was distilled on.
    Distilled,
}

impl Kind {
    pub(super) fn of(sampler: SamplerId) -> Self {
        match sampler {
            SamplerId::Euler
            | SamplerId::EulerA
            | SamplerId::Heun
            | SamplerId::Dpm2
            | SamplerId::Dpm2A
            | SamplerId::DpmPpSde
            | SamplerId::DpmPp2sA
            | SamplerId::DpmPp3mSde
            | SamplerId::Lms
            | SamplerId::Restart
            | SamplerId::Ipndm
            | SamplerId::EulerCfgPp => Self::AlphaOne,
            SamplerId::DpmPp2m
            | SamplerId::DpmPp2mSde
            | SamplerId::DpmPp2mSdeHeun
            | SamplerId::UniPc
            | SamplerId::UniPcBh2
            | SamplerId::Deis
            | SamplerId::SaSolver => Self::Multistep,
            SamplerId::Ddim | SamplerId::DdimCfgPp | SamplerId::Ddpm | SamplerId::Pndm => {
                Self::Trained
            }
            SamplerId::Lcm | SamplerId::Tcd => Self::Distilled,
        }
    }
}

/// Whether it is one of those that diffusers' DPMSolverMultistepScheduler draws.
pub(super) fn is_dpm_solver(sampler: SamplerId) -> bool {
    matches!(
        sampler,
        SamplerId::DpmPp2m | SamplerId::DpmPp2mSde | SamplerId::DpmPp2mSdeHeun
    )
}

/// What diffusers' class of a sampler takes where the file says nothing.
#[derive(Clone, Copy, Debug)]
pub(super) struct ClassDefaults {
    pub beta_start: f64,
    pub beta_end: f64,
    pub beta_schedule: BetaSchedule,
    pub timestep_spacing: TimestepSpacing,
    pub clip_sample: bool,
    pub set_alpha_to_one: bool,
}

impl ClassDefaults {
    /// Samplers that diffusers lacks take EulerDiscreteScheduler's.
    pub(super) fn of(sampler: SamplerId) -> Self {
        let most = Self {
            beta_start: 0.0001,
            beta_end: 0.02,
            beta_schedule: BetaSchedule::Linear,
            timestep_spacing: TimestepSpacing::Linspace,
            clip_sample: false,
            set_alpha_to_one: true,
        };
        match sampler {
            SamplerId::Heun | SamplerId::Dpm2 | SamplerId::Dpm2A | SamplerId::DpmPpSde => Self {
                beta_start: 0.00085,
                beta_end: 0.012,
                ..most
            },
            SamplerId::Ddim | SamplerId::DdimCfgPp | SamplerId::Ddpm => Self {
                timestep_spacing: TimestepSpacing::Leading,
                clip_sample: true,
                ..most
            },
            SamplerId::Pndm => Self {
                timestep_spacing: TimestepSpacing::Leading,
                set_alpha_to_one: false,
                ..most
            },
            SamplerId::Lcm | SamplerId::Tcd => Self {
                beta_start: 0.00085,
                beta_end: 0.012,
                beta_schedule: BetaSchedule::ScaledLinear,
                timestep_spacing: TimestepSpacing::Leading,
                ..most
            },
            _ => most,
        }
    }
}

impl SchedulerConfig {
    /// Reads a `scheduler_config.json`. Keys that no sampler here uses are passed over.
    ///
    /// Errors: [`Error::Model`] that names the key and its value, for text that is not JSON, a value
    /// of another type or outside what the key allows, and settings of other kinds of models
    /// (flow matching).
    pub fn from_json(text: &str) -> Result<Self> {
        let map: serde_json::Map<String, Value> = serde_json::from_str(&json_from_python(text))
            .map_err(|cause| unusable(format!("it is not a JSON object: {cause}")))?;
        let mut config = Self::default();
        for (key, value) in &map {
            // Python's None: as if the key were absent.
            if !value.is_null() {
                config.set(key, value)?;
            }
        }
        config.check()?;
        Ok(config)
    }

    /// The sampler to draw with when nobody chose one; see [`CLASSES`].
    pub fn default_sampler(&self) -> SamplerId {
        let sampler = CLASSES
            .iter()
            .find(|(name, _)| Some(*name) == self.class_name.as_deref())
            .map_or(SamplerId::Ddim, |(_, sampler)| *sampler);
        match (sampler, self.algorithm_type) {
            (
                SamplerId::DpmPp2m,
                Some(AlgorithmType::SdeDpmSolver | AlgorithmType::SdeDpmSolverPp),
            ) => SamplerId::DpmPp2mSde,
            _ => sampler,
        }
    }

    /// How many noise levels the model was trained on. 1000 unless the file says otherwise.
    pub fn num_train_timesteps(&self) -> usize {
        self.num_train_timesteps.unwrap_or(1000)
    }

    fn set(&mut self, key: &str, value: &Value) -> Result<()> {
        match key {
            "_class_name" => self.class_name = read(key, value)?,
            "num_train_timesteps" => self.num_train_timesteps = read(key, value)?,
            "beta_start" => self.beta_start = read(key, value)?,
            "beta_end" => self.beta_end = read(key, value)?,
            "beta_schedule" => self.beta_schedule = read(key, value)?,
            "trained_betas" => self.trained_betas = read(key, value)?,
            "rescale_betas_zero_snr" => self.rescale_betas_zero_snr = read(key, value)?,
            "prediction_type" => self.prediction_type = read(key, value)?,
            "timestep_spacing" => self.timestep_spacing = read(key, value)?,
            "steps_offset" => self.steps_offset = read(key, value)?,
            "set_alpha_to_one" => self.set_alpha_to_one = read(key, value)?,
            "clip_sample" => self.clip_sample = read(key, value)?,
            "clip_sample_range" => self.clip_sample_range = read(key, value)?,
            "thresholding" => self.thresholding = read(key, value)?,
            "dynamic_thresholding_ratio" => self.dynamic_thresholding_ratio = read(key, value)?,
            "sample_max_value" => self.sample_max_value = read(key, value)?,
            "use_karras_sigmas" => self.use_karras_sigmas = read(key, value)?,
            "use_exponential_sigmas" => self.use_exponential_sigmas = read(key, value)?,
            "use_beta_sigmas" => self.use_beta_sigmas = read(key, value)?,
            "use_lu_lambdas" => self.use_lu_lambdas = read(key, value)?,
            "sigma_min" => self.sigma_min = read(key, value)?,
            "sigma_max" => self.sigma_max = read(key, value)?,
            "final_sigmas_type" => self.final_sigmas_type = read(key, value)?,
            "algorithm_type" => self.algorithm_type = read(key, value)?,
            "solver_order" => self.solver_order = read(key, value)?,
            "solver_type" => self.solver_type = read(key, value)?,
            "lower_order_final" => self.lower_order_final = read(key, value)?,
            "euler_at_final" => self.euler_at_final = read(key, value)?,
            "lambda_min_clipped" if value == MINUS_INFINITY => self.lambda_min_clipped = None,
            "lambda_min_clipped" => self.lambda_min_clipped = read(key, value)?,
            "predict_x0" => self.predict_x0 = read(key, value)?,
            "disable_corrector" => self.disable_corrector = read(key, value)?,
            "interpolation_type" => self.interpolation_type = read(key, value)?,
            "timestep_type" => self.timestep_type = read(key, value)?,
            "original_inference_steps" => self.original_inference_steps = read(key, value)?,
            "timestep_scaling" => self.timestep_scaling = read(key, value)?,
            // Not of this kind of model; drawing on as if they were absent would be wrong.
            "use_flow_sigmas" | "use_dynamic_shifting" if value == true => {
                return Err(refused(key, value, "flow matching is not supported"));
            }
            "variance_type" if value == "learned" || value == "learned_range" => {
                return Err(refused(key, value, "learned variances are not supported"));
            }
            "solver_p" => return Err(refused(key, value, "a second solver is not supported")),
            _ => {}
        }
        Ok(())
    }

    fn check(&self) -> Result<()> {
        if let Some(name) = &self.class_name
            && !CLASSES.iter().any(|(known, _)| known == name)
        {
            let why = "this scheduler is not supported";
            return Err(refused("_class_name", &Value::from(name.as_str()), why));
        }
        let count = self.num_train_timesteps();
        if !(2..=1_000_000).contains(&count) {
            let why = "it must be 2 to 1000000";
            return Err(refused("num_train_timesteps", &Value::from(count), why));
        }
        if let Some(betas) = &self.trained_betas
            && betas.len() != count
        {
            let why = format!("there must be {count} of them (num_train_timesteps)");
            let value = Value::from(format!("a list of {}", betas.len()));
            return Err(refused("trained_betas", &value, &why));
        }
        if let Some(order) = self.solver_order
            && !(1..=3).contains(&order)
        {
            return Err(refused(
                "solver_order",
                &Value::from(order),
                "it must be 1, 2 or 3",
            ));
        }
        if let Some(ratio) = self.dynamic_thresholding_ratio
            && !(0.0..=1.0).contains(&ratio)
        {
            let why = "it must be between 0 and 1";
            return Err(refused(
                "dynamic_thresholding_ratio",
                &Value::from(ratio),
                why,
            ));
        }
        Ok(())
    }
}

const MINUS_INFINITY: &str = "-Infinity";

fn unusable(why: String) -> Error {
    Error::model("scheduler_config.json", why)
}

fn refused(key: &str, value: &Value, why: &str) -> Error {
    unusable(format!("{key} is {value}: {why}"))
}

fn read<T: DeserializeOwned>(key: &str, value: &Value) -> Result<T> {
    T::deserialize(value).map_err(|cause| refused(key, value, &cause.to_string()))
}

/// Quotes `-Infinity`, `Infinity` and `NaN`, which Python's `json` writes and JSON does not have:
/// diffusers saves `"lambda_min_clipped": -Infinity`.
fn json_from_python(text: &str) -> String {
    let mut json = String::with_capacity(text.len());
    let mut rest = text;
    let (mut in_string, mut escaped) = (false, false);
    while let Some(character) = rest.chars().next() {
        let word = [MINUS_INFINITY, "Infinity", "NaN"]
            .into_iter()
            .find(|word| !in_string && rest.starts_with(word));
        if let Some(word) = word {
            json.extend(["\"", word, "\""]);
            rest = &rest[word.len()..];
            continue;
        }
        if character == '"' && !escaped {
            in_string = !in_string;
        }
        escaped = in_string && character == '\\' && !escaped;
        json.push(character);
        rest = &rest[character.len_utf8()..];
    }
    json
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_value_is_named_with_its_key() {
        for (text, key, value) in [
            (
                r#"{"beta_schedule": "sigmoid"}"#,
                "beta_schedule",
                "sigmoid",
            ),
            (
                r#"{"prediction_type": "flow_prediction"}"#,
                "prediction_type",
                "flow",
            ),
            (
                r#"{"timestep_spacing": "even"}"#,
                "timestep_spacing",
                "even",
            ),
            (r#"{"steps_offset": -1}"#, "steps_offset", "-1"),
            (r#"{"clip_sample": "yes"}"#, "clip_sample", "yes"),
            (r#"{"solver_order": 4}"#, "solver_order", "4"),
            (r#"{"beta_end": NaN}"#, "beta_end", "NaN"),
            (
                r#"{"_class_name": "FlowMatchEulerDiscreteScheduler"}"#,
                "_class_name",
                "FlowMatch",
            ),
            (r#"{"use_flow_sigmas": true}"#, "use_flow_sigmas", "true"),
            (r#"{"trained_betas": [0.1]}"#, "trained_betas", "1"),
        ] {
            let message = SchedulerConfig::from_json(text).unwrap_err().to_string();
            assert!(
                message.contains(key) && message.contains(value),
                "{message}"
            );
        }
        assert!(SchedulerConfig::from_json("[]").is_err());
    }

    #[test]
    fn files_as_diffusers_writes_them_are_read() {
        let text = r#"{"_class_name": "DPMSolverMultistepScheduler", "_diffusers_version": "0.42.1",
            "algorithm_type": "sde-dpmsolver++", "lambda_min_clipped": -Infinity, "trained_betas": null,
            "note": "a \"-Infinity\" in a string stays", "num_train_timesteps": 500, "beta_start": 0.001}"#;
        let config = SchedulerConfig::from_json(text).unwrap();
        assert_eq!(config.lambda_min_clipped, None);
        assert_eq!(config.num_train_timesteps(), 500);
        assert_eq!(config.beta_start, Some(0.001));
        assert_eq!(config.default_sampler(), SamplerId::DpmPp2mSde);
    }

    #[test]
    fn every_class_has_a_sampler() {
        for (name, sampler) in CLASSES {
            let text = format!(r#"{{"_class_name": "{name}"}}"#);
            let config = SchedulerConfig::from_json(&text).unwrap();
            assert_eq!(config.default_sampler(), *sampler);
        }
    }
}
