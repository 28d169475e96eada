//! Draws with the engine and keeps what comes out, for tests that compare whole drawings.

#![allow(dead_code)] // Each test uses its own part.

use std::ops::Range;
use std::path::Path;

use easel::error::Result;
use easel::families::{ModelFiles, StableDiffusion};
use easel::pipeline::{Drawn, GenerationPlan, Watcher, generate};
use easel::request::{GenerationRequest, PictureFormat, Pixels, Stage};
use tch::{Device, Kind};

/// Keeps everything that was drawn.
#[derive(Default)]
pub struct Keeper {
    pub drawn: Vec<Drawn>,
    pub steps: usize,
}

impl Watcher for Keeper {
    fn cancelled(&self) -> bool {
        false
    }
    fn closing(&self) -> bool {
        false
    }
    fn wants_previews(&self) -> bool {
        false
    }
    fn stage(&mut self, _batch: Range<usize>, _stage: Stage) {}
    fn step(&mut self, _batch: Range<usize>, _step: usize) {
        self.steps += 1;
    }
    fn preview(&mut self, _batch: Range<usize>, _step: usize, _pictures: Vec<Pixels>) {}
    fn drawn(&mut self, drawn: Drawn) -> Result<()> {
        self.drawn.push(drawn);
        Ok(())
    }
}

pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

pub fn starter() -> StableDiffusion {
    let folder = ModelFiles::open(&root().join("weights/starter")).unwrap();
    StableDiffusion::load(&folder, true, Device::Cpu, Kind::Float, &mut |_| ()).unwrap()
}

pub fn draw(model: &mut StableDiffusion, request: &GenerationRequest) -> Keeper {
    let plan = GenerationPlan::resolve(request, model, 1, PictureFormat::Png).unwrap();
    let mut keeper = Keeper::default();
    generate(model, &plan, None, &mut keeper).unwrap();
    keeper
}
