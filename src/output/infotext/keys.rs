//! The names of settings that are written and read, or that several of its files know.

use crate::request::SamplerId;

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
    "Sigma churn",
    "Sigma noise",
    "Schedule rho",
    "Schedule min sigma",
    "Schedule max sigma",
];
pub(super) const ETA: &str = "Eta";
pub(super) const ETA_DDIM: &str = "Eta DDIM";

/// A1111's keys of how the seed becomes noise (`modules/processing.py`, `create_infotext`).
pub(super) const SEEDING_KEYS: &[&str] = &[
    RNG,
    SEED_MODE,
    "ENSD",
    "Variation seed",
    "Variation seed strength",
    "Seed resize from",
    "Batch pos",
];
pub(super) const RNG: &str = "RNG";
/// Easel's own, where none of A1111's says it.
pub(super) const SEED_MODE: &str = "Seed mode";

/// DDIM has a key of its own in A1111, whose value for it is otherwise 0 as Easel's.
pub(super) fn eta_key(sampler: SamplerId) -> &'static str {
    match sampler {
        SamplerId::Ddim => ETA_DDIM,
        _ => ETA,
    }
}
