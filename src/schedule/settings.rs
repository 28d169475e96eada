//! What of a scheduler config the samplers themselves read, each with what its class in diffusers
//! 0.42.1 takes where the file says nothing.

use super::config::{ClassDefaults, PredictionType, SchedulerConfig, SolverType, is_dpm_solver};
use super::unsupported;
use crate::error::Result;
use crate::request::{Knob, SamplerId, ScheduleId, Tuning};

/// What of a scheduler config the samplers themselves read, with the defaults of their classes.
#[derive(Clone, Debug, PartialEq)]
pub struct SamplerSettings {
    /// What is done to the foreseen picture before it is used.
    pub clamp: Clamp,
    /// Order of the multistep solvers.
    pub solver_order: usize,
    pub solver_type: SolverType,
    /// Lower the order at the end: DPM-Solver for fewer than 15 steps, UniPC always.
    pub lower_order_final: bool,
    /// DPM-Solver: take the last step as plain Euler would.
    pub euler_at_final: bool,
    /// UniPC: the steps after which nothing is corrected.
    pub disable_corrector: Vec<usize>,
    /// LCM: how fast its boundary condition fades.
    pub timestep_scaling: f64,
    /// The share of fresh noise.
    pub eta: f64,
    /// How much noise is added before a step: Euler, Heun, DPM2.
    pub s_churn: f64,
    /// What fresh noise is multiplied by.
    pub s_noise: f64,
}

/// How a foreseen picture is kept in range. Meant for models over pixels.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Clamp {
    None,
    /// Cut to `-range..range` (`clip_sample`).
    Range(f64),
    /// Imagen's dynamic thresholding (2205.11487, section 2.3): each picture is cut at this quantile
    /// of its magnitudes, where that is between 1 and `max`, and divided by it.
    Dynamic {
        ratio: f64,
        max: f64,
    },
}

/// The settings of one sampler.
///
/// Errors: [`crate::error::Error::Model`] if the config asks this sampler for what is not supported.
pub(super) fn sampler_settings(
    config: &SchedulerConfig,
    sampler: SamplerId,
    tuning: &Tuning,
) -> Result<SamplerSettings> {
    if is_unipc(sampler) && config.predict_x0 == Some(false) {
        return Err(unsupported("predict_x0 is false: choose another sampler"));
    }
    if sampler == SamplerId::Euler {
        let continuous = config.timestep_type.as_deref() == Some("continuous");
        if continuous && config.prediction_type == PredictionType::VPrediction {
            return Err(unsupported(
                "timestep_type is continuous: choose another sampler",
            ));
        }
        if let Some(kind) = config.interpolation_type.as_deref()
            && kind != "linear"
        {
            return Err(unsupported(&format!(
                "interpolation_type is {kind}: choose another sampler"
            )));
        }
    }
    Ok(SamplerSettings {
        clamp: clamp(config, sampler),
        solver_order: solver_order(config, sampler),
        solver_type: solver_type(config, sampler),
        lower_order_final: config.lower_order_final.unwrap_or(true),
        euler_at_final: config.euler_at_final,
        disable_corrector: config.disable_corrector.clone(),
        timestep_scaling: config.timestep_scaling.unwrap_or(10.0),
        eta: knob(Knob::Eta, sampler, tuning),
        s_churn: knob(Knob::SChurn, sampler, tuning),
        s_noise: knob(Knob::SNoise, sampler, tuning),
    })
}

/// What was said, or what is usual; the samplers' own settings do not depend on the schedule.
fn knob(knob: Knob, sampler: SamplerId, tuning: &Tuning) -> f64 {
    let usual = || knob.usual(sampler, ScheduleId::Model);
    knob.said(tuning).or_else(usual).unwrap_or_default()
}

fn is_unipc(sampler: SamplerId) -> bool {
    matches!(sampler, SamplerId::UniPc | SamplerId::UniPcBh2)
}

/// Which of `thresholding` and `clip_sample` diffusers' class of the sampler knows.
fn clamp(config: &SchedulerConfig, sampler: SamplerId) -> Clamp {
    let clips = config
        .clip_sample
        .unwrap_or(ClassDefaults::of(sampler).clip_sample);
    let range = Clamp::Range(config.clip_sample_range.unwrap_or(1.0));
    let dynamic = Clamp::Dynamic {
        ratio: config.dynamic_thresholding_ratio.unwrap_or(0.995),
        max: config.sample_max_value.unwrap_or(1.0),
    };
    let both = matches!(
        sampler,
        SamplerId::Ddim | SamplerId::DdimCfgPp | SamplerId::Ddpm | SamplerId::Lcm
    );
    let thresholds = is_dpm_solver(sampler)
        || is_unipc(sampler)
        || matches!(sampler, SamplerId::Deis | SamplerId::SaSolver);
    match sampler {
        _ if config.thresholding && (both || thresholds) => dynamic,
        _ if clips && (both || sampler == SamplerId::Heun) => range,
        _ => Clamp::None,
    }
}

/// "2M" is of order two by its name: a config that asks DPM-Solver for three gets two.
fn solver_order(config: &SchedulerConfig, sampler: SamplerId) -> usize {
    let order = config.solver_order.unwrap_or(2);
    match is_dpm_solver(sampler) {
        true => order.min(2),
        false => order,
    }
}

/// The solver's variant; the names of other solvers' variants mean the class's own default.
fn solver_type(config: &SchedulerConfig, sampler: SamplerId) -> SolverType {
    match (sampler, config.solver_type) {
        (SamplerId::UniPc, Some(SolverType::Bh1)) => SolverType::Bh1,
        (SamplerId::UniPc | SamplerId::UniPcBh2, _) => SolverType::Bh2,
        (SamplerId::DpmPp2mSdeHeun, _) | (_, Some(SolverType::Heun)) => SolverType::Heun,
        _ => SolverType::Midpoint,
    }
}
