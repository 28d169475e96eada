//! The few functions of numpy and torch that decide which noise levels are visited, to the last bit:
//! a step rounded the other way is another picture.

use super::config::TimestepSpacing;

/// `np.linspace(start, stop, count)`: both ends included; the start alone if `count` is 1.
pub(super) fn linspace(start: f64, stop: f64, count: usize) -> impl Iterator<Item = f64> {
    let last = count.saturating_sub(1);
    let step = (stop - start) / last as f64;
    (0..count).map(move |i| match i {
        0 => start,
        i if i == last => stop,
        i => i as f64 * step + start,
    })
}

/// The values in reverse; numpy computes them upwards, and turns them round afterwards.
fn downwards(values: impl Iterator<Item = f64>) -> impl Iterator<Item = f64> {
    values.collect::<Vec<_>>().into_iter().rev()
}

/// `torch.linspace(start, end, count, dtype=torch.float32)` on the CPU: counted from both ends, one
/// rounding a value (ATen `RangeFactoriesKernel.cpp`, `linspace_kernel`, compiled to fused multiply-add).
pub(super) fn torch_linspace(start: f64, end: f64, count: usize) -> Vec<f32> {
    let (start, end) = (start as f32, end as f32);
    let step = (end - start) / count.saturating_sub(1) as f32;
    (0..count)
        .map(|i| match i < count / 2 {
            true => step.mul_add(i as f32, start),
            false => (-step).mul_add((count - i - 1) as f32, end),
        })
        .collect()
}

/// Which of `train_steps` training steps a drawing visits, noisiest first.
#[derive(Clone, Copy, Debug)]
pub(super) struct Grid {
    pub spacing: TimestepSpacing,
    pub train_steps: usize,
    pub steps_offset: usize,
}

impl Grid {
    /// N points, both ends included, not rounded: Euler, Euler a, Heun.
    pub(super) fn fractional(self, steps: usize) -> Vec<f64> {
        match self.spacing {
            TimestepSpacing::Linspace => {
                let points = downwards(linspace(0.0, self.last(), steps));
                points.map(|point| f64::from(point as f32)).collect()
            }
            TimestepSpacing::Leading => self.leading(steps, self.train_steps / steps),
            TimestepSpacing::Trailing => self.trailing(steps, self.train_steps),
        }
    }

    /// N points, both ends included, rounded: DDIM.
    pub(super) fn whole(self, steps: usize) -> Vec<f64> {
        match self.spacing {
            TimestepSpacing::Linspace => {
                let points = downwards(linspace(0.0, self.last(), steps));
                points.map(f64::round_ties_even).collect()
            }
            TimestepSpacing::Leading | TimestepSpacing::Trailing => self.fractional(steps),
        }
    }

    /// N + 1 points of which the cleanest is dropped, rounded: DPM-Solver, UniPC.
    ///
    /// `highest`: how many training steps remain after the noisiest are cut (`lambda_min_clipped`).
    pub(super) fn without_end(self, steps: usize, highest: usize) -> Vec<f64> {
        match self.spacing {
            TimestepSpacing::Linspace => {
                let end = highest.saturating_sub(1) as f64;
                let points = downwards(linspace(0.0, end, steps + 1)).take(steps);
                points.map(f64::round_ties_even).collect()
            }
            TimestepSpacing::Leading => {
                let mut points = self.leading(steps + 1, highest / (steps + 1));
                points.pop();
                points
            }
            TimestepSpacing::Trailing => self.trailing(steps, highest),
        }
    }

    fn last(self) -> f64 {
        self.train_steps.saturating_sub(1) as f64
    }

    fn leading(self, steps: usize, step_ratio: usize) -> Vec<f64> {
        (0..steps)
            .rev()
            .map(|i| (i * step_ratio + self.steps_offset) as f64)
            .collect()
    }

    /// `np.arange(highest, 0, -train_steps / steps).round() - 1`.
    ///
    /// Differs from diffusers: for some step counts (61, 103, 121, ...) numpy's `arange` gives one
    /// value too many by rounding, the training step -1; it is left out here.
    fn trailing(self, steps: usize, highest: usize) -> Vec<f64> {
        let highest = highest as f64;
        // numpy derives the stride from its first two values.
        let stride = (highest - self.train_steps as f64 / steps as f64) - highest;
        (0..steps)
            .map(|i| (highest + i as f64 * stride).round_ties_even() - 1.0)
            .take_while(|&timestep| timestep >= 0.0)
            .collect()
    }
}
