//! Noise schedules and samplers against diffusers 0.42.1, step by step.
//!
//! Compared: the noise levels of every sampler and schedule that diffusers' class knows, and the
//! latents after every step of drawings with a small analytic denoiser, for all prediction types, with
//! zero terminal SNR, clamping and the solvers' variants. `tests/reference/samplers.py` writes the
//! references and describes every case in `cases.json`.
//! What diffusers does not have (DPM++ 2S a, DPM++ 3M SDE, iPNDM, Restart, `eta` and churn) is compared
//! with k-diffusion 0.1.1 and the places named in that script, the schedules of A1111 and ComfyUI with
//! their formulas. The Brownian noise is compared with a second writing of the same tree in Python.
//! Not compared: Karras and its like for DDIM, Euler a and LCM, which diffusers does not have; PNDM's
//! Runge-Kutta steps; 3M SDE of diffusers, whose third-order term is wrong.

#![allow(clippy::unwrap_used)]

#[path = "common/numbers.rs"]
mod numbers;

use easel::error::{Error, Result};
use easel::request::{KNOBS, Knob, SAMPLERS, SCHEDULES, SamplerId, ScheduleId, Tuning};
use easel::samplers::{Denoiser, NoiseSource, PictureNoise, Prediction, Run, Step, sample};
use easel::schedule::{
    NoiseLevel, PredictionType, Schedule, SchedulerConfig, schedule, tuned_schedule,
};
use numbers::{compare, reference, reference_values, values};
use serde::Deserialize;
use tch::{Device, Kind, Tensor};

/// Of the largest latent: scalars are f64 here and f32 in diffusers, where lambda alone loses 1e-6 of
/// a step's length, and 20 steps add that up.
const LATENTS_TOLERANCE: f64 = 1e-5;
/// The same with zero terminal SNR where alpha is 1: latents begin at 4096 and more, and the last bit
/// there, of torch's own square root for one, is 1e-3; the first step leaves that to latents of 10.
const ZERO_SNR_LATENTS_TOLERANCE: f64 = 2e-4;
/// DPM++ SDE takes f32 logarithms of f32 exponentials of sigmas in diffusers, three deep.
const SDE_LATENTS_TOLERANCE: f64 = 3e-5;
/// Relative: sigmas are the same f32 values, but for the last bit of a root, a power or a logarithm.
const SIGMA_TOLERANCE: f64 = 1e-6;
/// With zero terminal SNR those roots are subtracted from each other, and the last bit grows. (torch's
/// f32 `sqrt` on the CPU is not correctly rounded: it comes from a vector library.)
const ZERO_SNR_SIGMA_TOLERANCE: f64 = 4e-6;
/// Absolute, of up to 1000: fractional timesteps are quotients of differences of f32 logarithms.
const TIMESTEP_TOLERANCE: f64 = 1e-3;

#[derive(Deserialize)]
struct Cases {
    shape: Vec<i64>,
    seeds: Vec<u64>,
    trajectories: Vec<Case>,
    tables: Vec<Case>,
    more_trajectories: Vec<Case>,
    more_tables: Vec<Case>,
}

#[derive(Debug, Deserialize)]
struct Case {
    sampler: SamplerId,
    schedule: ScheduleId,
    steps: usize,
    config: serde_json::Value,
    #[serde(default)]
    tuning: Tuning,
}

impl Case {
    fn config(&self) -> SchedulerConfig {
        SchedulerConfig::from_json(&self.config.to_string()).unwrap()
    }

    fn latents_tolerance(&self) -> f64 {
        match self.sampler {
            SamplerId::Euler | SamplerId::EulerA if self.config().rescale_betas_zero_snr => {
                ZERO_SNR_LATENTS_TOLERANCE
            }
            SamplerId::DpmPpSde => SDE_LATENTS_TOLERANCE,
            _ => LATENTS_TOLERANCE,
        }
    }

    fn sigma_tolerance(&self) -> f64 {
        match self.config().rescale_betas_zero_snr {
            true => ZERO_SNR_SIGMA_TOLERANCE,
            false => SIGMA_TOLERANCE,
        }
    }

    fn schedule(&self) -> Schedule {
        let config = self.config();
        tuned_schedule(
            &config,
            self.sampler,
            self.schedule,
            self.steps,
            &self.tuning,
        )
        .unwrap()
    }
}

fn cases() -> Cases {
    serde_json::from_str(&std::fs::read_to_string(reference("cases.json")).unwrap()).unwrap()
}

/// `network` of `tests/reference/samplers.py`.
struct Analytic {
    prediction_type: PredictionType,
}

impl Denoiser for Analytic {
    fn predict(&mut self, x: &Tensor, at: NoiseLevel) -> Result<Prediction> {
        let x = x / at.input_scale();
        let answer = &x * 0.8 + x.roll([1], [3]) * 0.3 + (at.timestep / 1000.0 * 0.5 - 0.2);
        let answer = answer.tanh();
        Ok(match self.prediction_type {
            PredictionType::Epsilon => Prediction::Epsilon(answer),
            PredictionType::VPrediction => Prediction::V(answer),
            PredictionType::Sample => Prediction::Sample(answer),
        })
    }

    /// Without the prompt it sees a little less.
    fn predict_both(&mut self, x: &Tensor, at: NoiseLevel) -> Result<(Prediction, Prediction)> {
        Ok((self.predict(x, at)?, self.predict(&(x * 0.9), at)?))
    }
}

/// The largest magnitude.
fn largest(values: &[f64]) -> f64 {
    values.iter().fold(0.0, |most, value| most.max(value.abs()))
}

/// The latents after every step.
fn draw(
    sampler: SamplerId,
    schedule: &Schedule,
    prediction_type: PredictionType,
    seeds: &[u64],
    picture: &[i64],
) -> Vec<Tensor> {
    let shape = [&[seeds.len() as i64], picture].concat();
    let mut noise = PictureNoise::new(seeds);
    let blank = Tensor::zeros(&shape, (Kind::Float, Device::Cpu));
    let x = noise.sample(&blank).unwrap() * schedule.init_noise_sigma;
    let mut kept = Vec::new();
    let run = Run {
        denoiser: &mut Analytic { prediction_type },
        schedule,
        noise: &mut noise,
        on_step: &mut |step: Step<'_>| {
            assert_eq!(
                (step.index, step.count),
                (kept.len(), schedule.step_count())
            );
            assert_eq!(step.denoised.size(), shape);
            kept.push(step.x.shallow_clone());
            Ok(())
        },
    };
    let last = sample(sampler, run, x).unwrap();
    assert_eq!(Some(&last), kept.last());
    kept
}

#[test]
fn latents_agree_with_diffusers_after_every_step() {
    let cases = cases();
    assert!(cases.trajectories.len() > 300, "references are missing");
    compare_latents(&cases, &cases.trajectories, "trajectories.safetensors");
}

#[test]
fn latents_of_the_later_samplers_agree_after_every_step() {
    let cases = cases();
    assert!(
        cases.more_trajectories.len() > 150,
        "references are missing"
    );
    compare_latents(
        &cases,
        &cases.more_trajectories,
        "more_trajectories.safetensors",
    );
}

fn compare_latents(cases: &Cases, listed: &[Case], file: &str) {
    let reference = reference_values(file);
    for (number, case) in listed.iter().enumerate() {
        let (config, schedule) = (case.config(), case.schedule());
        let picture = &cases.shape[1..];
        let drawn = draw(
            case.sampler,
            &schedule,
            config.prediction_type,
            &cases.seeds,
            picture,
        );
        assert_eq!(drawn.len(), case.steps);
        let want = &reference[&number.to_string()];
        // Of drawings with churn only the end is stored.
        let values_each = cases.shape.iter().product::<i64>() as usize;
        let steps = want.chunks_exact(values_each);
        let drawn = &drawn[case.steps - steps.len()..];
        assert!(steps.len() == case.steps || case.tuning.s_churn.is_some());
        for (index, (got, want)) in drawn.iter().zip(steps).enumerate() {
            let name = format!("step {index} of {case:?}");
            let tolerance = case.latents_tolerance() * largest(want).max(1.0);
            compare(&name, &values(got), want, tolerance);
        }
    }
}

#[test]
fn noise_levels_agree_with_diffusers() {
    let cases = cases();
    assert!(cases.tables.len() > 200, "references are missing");
    compare_levels(&cases.tables, "tables.safetensors");
}

#[test]
fn noise_levels_of_the_later_samplers_and_schedules_agree() {
    let cases = cases();
    assert!(cases.more_tables.len() > 100, "references are missing");
    compare_levels(&cases.more_tables, "more_tables.safetensors");
}

fn compare_levels(listed: &[Case], file: &str) {
    let reference = reference_values(file);
    for (number, case) in listed.iter().enumerate() {
        let schedule = case.schedule();
        let name = format!("{case:?}");
        let table = |what: &str| &reference[&format!("{number}.{what}")];
        let visited = &schedule.levels[..case.steps];
        let timesteps: Vec<f64> = visited.iter().map(|level| level.timestep).collect();
        let want = table("timesteps");
        compare(
            &format!("timesteps of {name}"),
            &timesteps,
            want,
            TIMESTEP_TOLERANCE,
        );
        let whole = want.iter().all(|timestep| timestep.fract() == 0.0);
        assert!(!whole || &timesteps == want, "{name}: {timesteps:?}");

        let want = table("noise");
        // diffusers knows alpha^2 of every level in DDIM and LCM, and sigma / alpha elsewhere.
        let of_level = |level: &NoiseLevel| match case.sampler {
            SamplerId::Ddim | SamplerId::Lcm | SamplerId::Ddpm | SamplerId::Tcd => {
                level.alpha * level.alpha
            }
            _ => level.sigma / level.alpha,
        };
        for (index, (level, want)) in schedule.levels.iter().zip(want).enumerate() {
            let name = format!("level {index} of {name}");
            compare(
                &name,
                &[of_level(level)],
                &[*want],
                case.sigma_tolerance() * want,
            );
        }
        let init = table("init")[0];
        compare(
            &name,
            &[schedule.init_noise_sigma],
            &[init],
            case.sigma_tolerance() * init,
        );
    }
}

/// Stable Diffusion 1's own, as its `scheduler_config.json` has it.
fn stable_diffusion(more: &str) -> SchedulerConfig {
    let text = format!(
        r#"{{"_class_name": "PNDMScheduler", "beta_schedule": "scaled_linear", "beta_start": 0.00085,
        "beta_end": 0.012, "set_alpha_to_one": false, "clip_sample": false, "steps_offset": 1{more}}}"#
    );
    SchedulerConfig::from_json(&text).unwrap()
}

#[test]
fn every_schedule_of_every_sampler_goes_down_in_as_many_steps_as_asked() {
    let configs = [
        stable_diffusion(""),
        stable_diffusion(r#", "prediction_type": "v_prediction", "rescale_betas_zero_snr": true"#),
    ];
    // 61 and 103: numpy's `arange` gives diffusers one step too many.
    let counts = [1, 2, 3, 10, 25, 50, 61, 103];
    for config in &configs {
        for (sampler, kind) in SAMPLERS
            .iter()
            .flat_map(|s| SCHEDULES.iter().map(move |k| (s.id, k.id)))
        {
            for steps in counts {
                let distilled = matches!(sampler, SamplerId::Lcm | SamplerId::Tcd);
                let own = matches!(kind, ScheduleId::Model | ScheduleId::Automatic);
                if distilled && own && steps > 50 {
                    continue;
                }
                let made = schedule(config, sampler, kind, steps).unwrap();
                let name = format!("{sampler:?} {kind:?} {steps}");
                assert_eq!(made.levels.len(), steps + 1, "{name}");
                assert_eq!(made.step_count(), steps, "{name}");
                let ratio = |level: &NoiseLevel| level.sigma / level.alpha;
                let ratios: Vec<f64> = made.levels.iter().map(ratio).collect();
                // "linspace" ends at the first training step, where SD's DDIM stays for its last step.
                let visited = &ratios[..steps];
                assert!(visited.is_sorted_by(|a, b| a > b), "{name}: not downwards");
                assert!(ratios[steps] <= ratios[steps - 1], "{name}: not downwards");
                let timesteps = made.levels[..steps].iter().map(|level| level.timestep);
                assert!(
                    timesteps.clone().is_sorted_by(|a, b| a >= b),
                    "{name}: not downwards"
                );
                assert!(
                    timesteps.clone().all(|t| (0.0..1000.0).contains(&t)),
                    "{name}"
                );
                for level in &made.levels {
                    let unit = match made.levels[0].alpha {
                        1.0 => level.alpha,
                        _ => level.input_scale(),
                    };
                    assert!((unit - 1.0).abs() < 1e-6, "{name}: {level:?}");
                }
            }
        }
    }
}

#[test]
fn steps_that_cannot_be_drawn_are_refused_in_words() {
    let sd = stable_diffusion("");
    for (sampler, kind, steps) in [
        (SamplerId::Euler, ScheduleId::Model, 0),
        (SamplerId::Euler, ScheduleId::Model, 1001),
        (SamplerId::Lcm, ScheduleId::Model, 51),
        // Two steps would share a training step.
        (SamplerId::DpmPp2m, ScheduleId::Leading, 1000),
        (SamplerId::UniPc, ScheduleId::Linspace, 1000),
        // steps_offset moves the first one beyond the last training step.
        (SamplerId::Ddim, ScheduleId::Leading, 1000),
    ] {
        match schedule(&sd, sampler, kind, steps) {
            Err(Error::Request(why)) => assert!(why.contains(&steps.to_string()), "{why}"),
            other => panic!("{sampler:?} {kind:?} {steps}: {other:?}"),
        }
    }
}

#[test]
fn a_model_that_predicts_noise_cannot_begin_at_pure_noise() {
    let zero_snr = stable_diffusion(r#", "rescale_betas_zero_snr": true"#);
    for sampler in [SamplerId::Ddim, SamplerId::Lcm] {
        let refused = schedule(&zero_snr, sampler, ScheduleId::Trailing, 20);
        assert!(matches!(refused, Err(Error::Request(_))), "{refused:?}");
    }
    assert!(schedule(&zero_snr, SamplerId::Ddim, ScheduleId::Leading, 20).is_ok());
    // Its classes over sigmas stop at a finite one.
    assert!(schedule(&zero_snr, SamplerId::Euler, ScheduleId::Trailing, 20).is_ok());
}

#[test]
fn karras_and_exponential_are_the_same_where_diffusers_has_none() {
    let sd = stable_diffusion("");
    for kind in [ScheduleId::Karras, ScheduleId::Exponential] {
        let levels = |sampler| schedule(&sd, sampler, kind, 20).unwrap().levels;
        let of_euler = levels(SamplerId::Euler);
        assert_eq!(levels(SamplerId::EulerA), of_euler);
        // The whole range of DPM-Solver, whose timesteps are rounded.
        let of_solver = levels(SamplerId::DpmPp2m);
        for sampler in [SamplerId::Ddim, SamplerId::Lcm] {
            for (level, want) in levels(sampler).iter().zip(&of_solver) {
                assert_eq!((level.alpha, level.sigma), (want.alpha, want.sigma));
                assert!((level.timestep - want.timestep).abs() < 1.0);
            }
        }
    }
}

#[test]
fn betas_that_cannot_be_are_refused() {
    for betas in [
        r#""beta_end": 1.5"#,
        r#""beta_start": -0.1"#,
        r#""beta_end": 0.0"#,
    ] {
        let config = SchedulerConfig::from_json(&format!("{{{betas}}}")).unwrap();
        let refused = schedule(&config, SamplerId::Euler, ScheduleId::Model, 20);
        assert!(matches!(refused, Err(Error::Model { .. })), "{refused:?}");
    }
}

#[test]
fn what_a_file_asks_of_another_sampler_does_not_stop_this_one() {
    let config = stable_diffusion(r#", "use_beta_sigmas": true, "predict_x0": false"#);
    assert!(schedule(&config, SamplerId::Euler, ScheduleId::Model, 20).is_ok());
    let both = stable_diffusion(r#", "use_beta_sigmas": true, "use_karras_sigmas": true"#);
    assert!(schedule(&both, SamplerId::Euler, ScheduleId::Model, 20).is_err());
    assert!(schedule(&both, SamplerId::Euler, ScheduleId::Karras, 20).is_ok());
    assert!(schedule(&config, SamplerId::Ddim, ScheduleId::Model, 20).is_ok());
    assert!(schedule(&config, SamplerId::UniPc, ScheduleId::Karras, 20).is_err());
}

#[test]
fn a_batch_draws_the_pictures_that_would_be_drawn_alone() {
    let config = stable_diffusion(r#", "thresholding": true, "sample_max_value": 2.0"#);
    for info in SAMPLERS {
        let made = schedule(&config, info.id, info.default_schedule, 6).unwrap();
        let draw = |seeds: &[u64]| {
            let kind = PredictionType::VPrediction;
            draw(info.id, &made, kind, seeds, &[4, 3, 5]).pop().unwrap()
        };
        let (together, first, second) = (draw(&[11, 12]), draw(&[11]), draw(&[12]));
        assert_eq!(together, Tensor::cat(&[first, second], 0), "{}", info.name);
    }
}

#[test]
fn settings_out_of_range_are_refused_in_words() {
    let usual = Tuning::default();
    for (tuning, named) in [
        (
            Tuning {
                eta: Some(1.5),
                ..usual
            },
            "Eta",
        ),
        (
            Tuning {
                s_churn: Some(-1.0),
                ..usual
            },
            "churn",
        ),
        (
            Tuning {
                s_noise: Some(f64::NAN),
                ..usual
            },
            "Sigma noise",
        ),
        (
            Tuning {
                rho: Some(0.0),
                ..usual
            },
            "Rho",
        ),
        (
            Tuning {
                sigma_min: Some(0.0),
                ..usual
            },
            "smallest",
        ),
        (
            Tuning {
                sigma_max: Some(f64::INFINITY),
                ..usual
            },
            "largest",
        ),
        (
            Tuning {
                sigma_min: Some(2.0),
                sigma_max: Some(1.0),
                ..usual
            },
            "below",
        ),
    ] {
        let sd = stable_diffusion("");
        match tuned_schedule(&sd, SamplerId::Euler, ScheduleId::Karras, 20, &tuning) {
            Err(Error::Request(why)) => assert!(why.contains(named), "{why}"),
            other => panic!("{tuning:?}: {other:?}"),
        }
    }
}

#[test]
fn without_fresh_noise_the_ancestral_samplers_follow_the_equation_that_the_plain_ones_do() {
    let none = Tuning {
        eta: Some(0.0),
        ..Tuning::default()
    };
    let draw = |sampler, tuning: &Tuning| {
        let sd = stable_diffusion("");
        let made = tuned_schedule(&sd, sampler, ScheduleId::Linspace, 20, tuning).unwrap();
        let latents = draw(sampler, &made, PredictionType::Epsilon, &[3], &[4, 2, 2]);
        values(latents.last().unwrap())
    };
    for (ancestral, plain) in [
        (SamplerId::EulerA, SamplerId::Euler),
        (SamplerId::Dpm2A, SamplerId::Dpm2),
    ] {
        let want = draw(plain, &Tuning::default());
        compare(
            &format!("{ancestral:?}"),
            &draw(ancestral, &none),
            &want,
            1e-6,
        );
    }
}

#[test]
fn more_steps_refine_the_picture_of_an_sde_sampler() {
    // With the same Brownian motion, 400 steps end nearer to 200 than another seed does.
    let draw = |steps, seed| {
        let sd = stable_diffusion("");
        let made = schedule(&sd, SamplerId::DpmPpSde, ScheduleId::Karras, steps).unwrap();
        let latents = draw(
            SamplerId::DpmPpSde,
            &made,
            PredictionType::Epsilon,
            &[seed],
            &[4, 8, 8],
        );
        latents.last().unwrap().shallow_clone()
    };
    let distance = |a: &Tensor, b: &Tensor| (a - b).norm().double_value(&[]);
    let (coarse, fine, other) = (draw(200, 1), draw(400, 1), draw(200, 2));
    assert!(distance(&coarse, &fine) < 0.25 * distance(&coarse, &other));
}

/// Stops at its `left`th look.
struct Stops {
    left: usize,
}

impl Denoiser for Stops {
    fn predict(&mut self, x: &Tensor, _at: NoiseLevel) -> Result<Prediction> {
        match self.left.checked_sub(1) {
            None => Err(Error::Cancelled),
            Some(left) => {
                self.left = left;
                Ok(Prediction::Epsilon(x.zeros_like()))
            }
        }
    }
}

#[test]
fn a_cancelled_drawing_ends_at_once() {
    for info in SAMPLERS {
        let made = schedule(&stable_diffusion(""), info.id, ScheduleId::Model, 5).unwrap();
        let blank = Tensor::zeros([1, 4, 2, 2], (Kind::Float, Device::Cpu));
        for (looks, steps_until_stop) in [(0, None), (2, None), (100, Some(3))] {
            let mut reported = 0;
            let run = Run {
                denoiser: &mut Stops { left: looks },
                schedule: &made,
                noise: &mut PictureNoise::new(&[1]),
                on_step: &mut |_: Step<'_>| {
                    reported += 1;
                    match steps_until_stop == Some(reported) {
                        true => Err(Error::Cancelled),
                        false => Ok(()),
                    }
                },
            };
            let end = sample(info.id, run, blank.shallow_clone());
            assert!(matches!(end, Err(Error::Cancelled)), "{}", info.name);
            assert!(
                reported <= steps_until_stop.unwrap_or(looks),
                "{}",
                info.name
            );
        }
    }
}

#[test]
fn the_latents_handed_to_a_callback_are_not_written_to_later() {
    for info in SAMPLERS {
        let made = schedule(&stable_diffusion(""), info.id, ScheduleId::Model, 6).unwrap();
        let mut kept: Vec<(Tensor, Tensor)> = Vec::new();
        let mut noise = PictureNoise::new(&[1]);
        let start = Tensor::ones([1, 4, 2, 2], (Kind::Float, Device::Cpu));
        kept.push((start.shallow_clone(), start.copy()));
        let run = Run {
            denoiser: &mut Analytic {
                prediction_type: PredictionType::Epsilon,
            },
            schedule: &made,
            noise: &mut noise,
            on_step: &mut |step: Step<'_>| {
                kept.push((step.x.shallow_clone(), step.x.copy()));
                kept.push((step.denoised.shallow_clone(), step.denoised.copy()));
                Ok(())
            },
        };
        let _ = sample(info.id, run, start).unwrap();
        for (seen, copied) in kept {
            assert_eq!(seen, copied, "{}", info.name);
        }
    }
}

/// The window shows the fine settings that count, and no others.
#[test]
fn a_fine_setting_counts_where_its_table_says_so() {
    let sd = stable_diffusion("");
    let mut wrong = Vec::new();
    for churn in [None, Some(1.0)] {
        let plain = Tuning {
            s_churn: churn,
            ..Tuning::default()
        };
        for (sampler, schedule) in every_pair() {
            let draw = |tuning: &Tuning| {
                // Restart begins again, and SA-Solver adds noise, in the middle of a long way.
                let long = matches!(sampler, SamplerId::Restart | SamplerId::SaSolver);
                let steps = if long { 20 } else { 6 };
                let made = tuned_schedule(&sd, sampler, schedule, steps, tuning).unwrap();
                let latents = draw(sampler, &made, PredictionType::Epsilon, &[3], &[4, 2, 2]);
                values(latents.last().unwrap())
            };
            let before = draw(&plain);
            for info in KNOBS {
                let mut tuned = plain;
                *info.knob.place(&mut tuned) = Some(match info.knob {
                    Knob::Eta => 0.5,
                    Knob::SChurn => 2.0,
                    Knob::SNoise => 0.95,
                    Knob::Rho => 3.0,
                    Knob::SigmaMin => 0.3,
                    Knob::SigmaMax => 9.0,
                });
                let counted = draw(&tuned) != before;
                if counted != info.knob.counts(sampler, schedule, &plain) {
                    wrong.push(format!(
                        "{sampler:?} {schedule:?} {:?}: {counted}",
                        info.knob
                    ));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn every_pair() -> impl Iterator<Item = (SamplerId, ScheduleId)> {
    let schedules = || SCHEDULES.iter().map(|info| info.id);
    SAMPLERS
        .iter()
        .flat_map(move |info| schedules().map(|schedule| (info.id, schedule)))
}
