//! Any text as one of a model folder's JSON files. The first byte picks which.
#![no_main]

use std::path::Path;

use easel_fuzz::models::unet::UNetConfig;
use easel_fuzz::models::vae::VaeConfig;
use easel_fuzz::request::{SAMPLERS, SCHEDULES};
use easel_fuzz::schedule::{self, SchedulerConfig};
use easel_fuzz::text::clip::ClipConfig;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let [which, text @ ..] = bytes else { return };
    let path = Path::new("config.json");
    match which % 4 {
        0 => drop(UNetConfig::parse(path, text)),
        1 => drop(VaeConfig::parse(path, text)),
        2 => drop(ClipConfig::parse(path, text)),
        _ => schedules(text),
    }
});

/// A config that is accepted gives levels, or a reason, with every sampler and schedule.
fn schedules(text: &[u8]) {
    let Ok(text) = std::str::from_utf8(text) else {
        return;
    };
    let Ok(config) = SchedulerConfig::from_json(text) else {
        return;
    };
    for (sampler, spread) in SAMPLERS.iter().zip(SCHEDULES.iter().cycle()) {
        let _ = schedule::schedule(&config, sampler.id, spread.id, 5);
    }
}
