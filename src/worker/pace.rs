//! How long a drawing still takes: by the steps that are done, and before them by the last drawing with
//! the same model on the same device.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Steps that the speed is measured over.
const SPEED_STEPS: usize = 8;
/// The first step alone tells something where it lasted so long: before a quick one is read, the second
/// is done, which no preparations slow down.
const SLOW_STEP: Duration = Duration::from_secs(2);

/// What a drawing took, by the pixels that were drawn.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Took {
    /// A step, in seconds a pixel of all pictures that are drawn together.
    step_secs: f64,
    /// What follows a picture's steps: decoding, enlarging, saving. In seconds a pixel.
    finish_secs: f64,
}

/// How fast steps go by, and what follows them.
#[derive(Debug)]
pub(super) struct Pace {
    /// Of one picture.
    pixels: f64,
    /// The last drawing.
    before: Option<Took>,
    /// Each with the pictures that were drawn together.
    steps: VecDeque<(Duration, usize)>,
    /// Pictures that are drawn together now.
    batch: usize,
    last: Option<Instant>,
    finishing: Option<Instant>,
    /// What the last picture took behind its steps.
    finish: Option<Duration>,
}

impl Pace {
    /// `before`: what a drawing like this one took.
    pub fn new(width_px: u32, height_px: u32, before: Option<Took>) -> Self {
        Self {
            pixels: f64::from(width_px) * f64::from(height_px),
            before,
            steps: VecDeque::new(),
            batch: 1,
            last: None,
            finishing: None,
            finish: None,
        }
    }

    /// The steps of `batch` pictures begin: the next one does not count from before.
    pub fn begin(&mut self, batch: usize) {
        self.batch = batch.max(1);
        self.last = Some(Instant::now());
    }

    pub fn step(&mut self) {
        let now = Instant::now();
        if let Some(last) = self.last.replace(now) {
            self.stepped(now - last);
        }
    }

    fn stepped(&mut self, took: Duration) {
        if self.steps.len() == SPEED_STEPS {
            self.steps.pop_front();
        }
        self.steps.push_back((took, self.batch));
    }

    /// A picture's steps are done, and it is decoded now.
    pub fn begin_finish(&mut self) {
        self.finishing = Some(Instant::now());
    }

    /// A picture is done.
    pub fn end_finish(&mut self) {
        self.finish = self.finishing.take().map(|begun| begun.elapsed());
    }

    /// A step's seconds for one picture, as measured in this drawing; `None` until a slow step is done, or two.
    fn measured(&self) -> Option<f64> {
        let total: Duration = self.steps.iter().map(|(took, _)| took).sum();
        let is_enough = self.steps.len() >= 2 || total >= SLOW_STEP;
        let pictures: usize = self.steps.iter().map(|(_, batch)| batch).sum();
        is_enough.then(|| total.as_secs_f64() / pictures as f64)
    }

    /// Of all pictures that are drawn together now; as [`Self::measured`].
    pub fn steps_per_sec(&self) -> Option<f64> {
        let step = self.measured().map(|secs| secs * self.batch as f64);
        step.filter(|secs| *secs > 0.0).map(f64::recip)
    }

    /// Until `steps` more are done, counted for each picture by itself, and `pictures` finished; `None` where
    /// nothing tells.
    pub fn secs_for(&self, steps: usize, pictures: usize) -> Option<f64> {
        let drawing = match steps {
            0 => 0.0,
            steps => {
                let before = |took: Took| took.step_secs * self.pixels;
                let step = self.measured().or_else(|| self.before.map(before));
                step? * steps as f64
            }
        };
        let finish = self.finish.map(|took| took.as_secs_f64());
        let before = |took: Took| took.finish_secs * self.pixels;
        let finish = finish.or_else(|| self.before.map(before)).unwrap_or(0.0);
        let begun = self
            .finishing
            .map_or(0.0, |begun| begun.elapsed().as_secs_f64());
        let left = drawing + (finish * pictures as f64 - begun).max(0.0);
        (left > 0.0).then_some(left)
    }

    /// For the next drawing.
    pub fn took(&self) -> Option<Took> {
        let step_secs = self.measured()? / self.pixels;
        let finish_secs = self.finish?.as_secs_f64() / self.pixels;
        let is_told = step_secs.is_finite() && finish_secs.is_finite();
        is_told.then_some(Took {
            step_secs,
            finish_secs,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secs(secs: u64) -> Duration {
        Duration::from_secs(secs)
    }

    #[test]
    fn a_slow_first_step_tells_the_time_and_a_quick_one_waits_for_the_second() {
        let mut quick = Pace::new(64, 64, None);
        assert_eq!(quick.secs_for(10, 1), None);
        quick.stepped(Duration::from_millis(100));
        assert_eq!((quick.secs_for(10, 1), quick.steps_per_sec()), (None, None));
        quick.stepped(Duration::from_millis(300));
        assert_eq!(quick.secs_for(10, 1), Some(2.0));
        assert_eq!(quick.steps_per_sec(), Some(5.0));
        let mut slow = Pace::new(1024, 1024, None);
        slow.stepped(secs(30));
        assert_eq!(slow.secs_for(19, 1), Some(570.0));
    }

    #[test]
    fn before_the_first_step_the_last_drawing_tells_by_its_pixels() {
        let mut last = Pace::new(100, 100, None);
        last.begin(2);
        last.stepped(secs(4));
        last.stepped(secs(4));
        assert_eq!(last.took(), None, "no picture is done");
        last.finish = Some(secs(3));
        let took = last.took();
        let mut next = Pace::new(200, 100, took);
        // Twice the pixels: 4 s for a picture's step; then 6 s for each picture.
        let left = next.secs_for(10, 2).unwrap();
        assert!((left - (40.0 + 12.0)).abs() < 1e-9, "{left}");
        assert_eq!(next.steps_per_sec(), None, "nothing is measured yet");
        next.stepped(secs(2));
        let left = next.secs_for(9, 1).unwrap();
        assert!((left - (18.0 + 6.0)).abs() < 1e-9, "{left}");
    }

    #[test]
    fn a_step_of_more_pictures_at_once_counts_for_each_of_them() {
        let mut pace = Pace::new(10, 10, None);
        pace.begin(4);
        pace.stepped(secs(8));
        pace.stepped(secs(8));
        assert_eq!(pace.steps_per_sec(), Some(0.125));
        // The fifth picture is drawn alone.
        pace.begin(1);
        assert_eq!(pace.steps_per_sec(), Some(0.5));
        assert_eq!(pace.secs_for(3, 1), Some(6.0));
        pace.stepped(secs(2));
        pace.finish = Some(secs(1));
        assert_eq!(pace.took().unwrap().step_secs, 0.02);
    }

    #[test]
    fn nothing_is_said_to_be_left_that_is_not_known() {
        let mut pace = Pace::new(64, 64, None);
        pace.stepped(secs(5));
        assert_eq!(pace.secs_for(0, 1), None);
        pace.begin_finish();
        assert_eq!(pace.secs_for(0, 1), None);
        pace.end_finish();
        assert!(pace.secs_for(0, 1).is_some());
    }
}
