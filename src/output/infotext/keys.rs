//! The names of settings that are written and read, or that several of its files know.

use crate::request::SamplerId;

/// A1111's (`modules/processing.py`, `create_infotext`).
pub(super) const STEPS: &str = "Steps";
pub(super) const SAMPLER: &str = "Sampler";
pub(super) const SCHEDULE: &str = "Schedule type";
pub(super) const CFG_SCALE: &str = "CFG scale";
pub(super) const SEED: &str = "Seed";
pub(super) const SIZE: &str = "Size";
pub(super) const MODEL: &str = "Model";
pub(super) const MODEL_HASH: &str = "Model hash";
pub(super) const VAE: &str = "VAE";
pub(super) const VAE_HASH: &str = "VAE hash";
pub(super) const CLIP_SKIP: &str = "Clip skip";
/// Of an extension of A1111's; it means the same.
pub(super) const CFG_RESCALE: &str = "CFG Rescale";
/// Of all files, as JSON.
pub(super) const HASHES: &str = "Hashes";
pub(super) const VERSION: &str = "Version";

/// What `Version` begins with.
pub(super) const EASEL: &str = "Easel";
pub(super) const UPSCALED_BY: &str = "Postprocess upscale by";
pub(super) const UPSCALER: &str = "Postprocess upscaler";

pub(super) const EMPHASIS: &str = "Emphasis";
/// sd-dynamic-prompts' keys, which it writes in lines of their own behind the settings.
pub(super) const TEMPLATE: &str = "Template";
pub(super) const NEGATIVE_TEMPLATE: &str = "Negative Template";
/// A1111's (`modules/processing_scripts/refiner.py`).
pub(super) const REFINER: &str = "Refiner";
pub(super) const REFINER_START: &str = "Refiner switch at";

/// Easel's own: A1111 has `Skip Early CFG` for the beginning only.
pub(super) const GUIDANCE_INTERVAL: &str = "CFG interval";
pub(super) const SKIP_EARLY: &str = "Skip Early CFG";

/// A1111's keys of the fine settings (`modules/shared_options.py`).
pub(super) const TUNING_KEYS: &[&str] = &[
    ETA,
    ETA_DDIM,
    SIGMA_CHURN,
    SIGMA_NOISE,
    SCHEDULE_RHO,
    SCHEDULE_MIN_SIGMA,
    SCHEDULE_MAX_SIGMA,
];
pub(super) const ETA: &str = "Eta";
pub(super) const ETA_DDIM: &str = "Eta DDIM";
pub(super) const SIGMA_CHURN: &str = "Sigma churn";
pub(super) const SIGMA_NOISE: &str = "Sigma noise";
pub(super) const SCHEDULE_RHO: &str = "Schedule rho";
pub(super) const SCHEDULE_MIN_SIGMA: &str = "Schedule min sigma";
pub(super) const SCHEDULE_MAX_SIGMA: &str = "Schedule max sigma";

/// A1111's keys of how the seed becomes noise (`modules/processing.py`, `create_infotext`).
pub(super) const SEEDING_KEYS: &[&str] = &[
    RNG,
    SEED_MODE,
    ENSD,
    VARIATION_SEED,
    VARIATION_STRENGTH,
    SEED_RESIZE,
    BATCH_POS,
];
pub(super) const RNG: &str = "RNG";
pub(super) const ENSD: &str = "ENSD";
pub(super) const VARIATION_SEED: &str = "Variation seed";
pub(super) const VARIATION_STRENGTH: &str = "Variation seed strength";
pub(super) const SEED_RESIZE: &str = "Seed resize from";
pub(super) const BATCH_POS: &str = "Batch pos";
/// Easel's own, where none of A1111's says it.
pub(super) const SEED_MODE: &str = "Seed mode";

/// DDIM has a key of its own in A1111, whose value for it is otherwise 0 as Easel's.
pub(super) fn eta_key(sampler: SamplerId) -> &'static str {
    match sampler {
        SamplerId::Ddim => ETA_DDIM,
        _ => ETA,
    }
}
