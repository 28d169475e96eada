//! Two networks, one after the other: a model that begins a picture, and its refiner that ends it.
//!
//! As diffusers' two pipelines do (`denoising_end`, `denoising_start`), in one walk of the sampler.
//! Differs from diffusers: multistep samplers keep what they know from before the hand-over, as A1111's do.

use std::cell::Cell;

use super::guidance::GuidedDenoiser;
use crate::error::Result;
use crate::samplers::{Denoiser, Prediction};
use crate::schedule::NoiseLevel;

use tch::Tensor;

/// See the module.
pub(super) struct Refined<'a> {
    pub first: GuidedDenoiser<'a>,
    /// How many steps are done before it takes over.
    pub refiner: Option<(usize, GuidedDenoiser<'a>)>,
    /// Steps that are done.
    pub step: &'a Cell<usize>,
}

impl<'a> Refined<'a> {
    fn turn(&mut self) -> &mut GuidedDenoiser<'a> {
        match &mut self.refiner {
            Some((after, refiner)) if self.step.get() >= *after => {
                refiner.go_on_from(&self.first);
                refiner
            }
            _ => &mut self.first,
        }
    }
}

impl Denoiser for Refined<'_> {
    fn predict(&mut self, x: &Tensor, at: NoiseLevel) -> Result<Prediction> {
        self.turn().predict(x, at)
    }

    fn predict_both(&mut self, x: &Tensor, at: NoiseLevel) -> Result<(Prediction, Prediction)> {
        self.turn().predict_both(x, at)
    }
}
