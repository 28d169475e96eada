//! The part of the drawing in which classifier-free guidance works.
//!
//! Kynkäänniemi et al., "Applying Guidance in a Limited Interval", arXiv 2404.07724: neither the first
//! steps, where it takes variety away, nor the last, where it changes nothing, need the second pass. The
//! paper's interval is one of sigmas; this is the same in steps, as diffusers counts them.

use serde::{Deserialize, Serialize};

use super::exact;

/// From which share of the steps on, and up to which. Source: diffusers 0.42.1 `guiders/guider_utils.py`
/// and `classifier_free_guidance.py`, `start` and `stop`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct GuidanceInterval {
    #[serde(with = "exact")]
    pub start: f64,
    #[serde(with = "exact")]
    pub stop: f64,
}

impl GuidanceInterval {
    /// Whether guidance works at `step`, from 0, of `steps`.
    pub fn contains(self, step: usize, steps: usize) -> bool {
        let at = |share: f64| (share * steps as f64) as usize;
        (at(self.start)..at(self.stop)).contains(&step)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_rounded_down_to_steps() {
        let guided = |start, stop, steps| -> Vec<usize> {
            let interval = GuidanceInterval { start, stop };
            (0..steps)
                .filter(|step| interval.contains(*step, steps))
                .collect()
        };
        assert_eq!(guided(0.0, 1.0, 3), [0, 1, 2]);
        assert_eq!(guided(0.2, 0.7, 10), [2, 3, 4, 5, 6]);
        assert_eq!(guided(0.25, 0.5, 10), [2, 3, 4]);
        assert_eq!(guided(0.5, 0.5, 10), [0; 0]);
    }
}
