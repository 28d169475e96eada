//! What each picture of a job is drawn to: its own prompt where wildcards and choices are drawn, and
//! the LoRAs that it names.

use crate::error::Result;
use crate::families::Lora;
use crate::prompt::compose;
use crate::prompt::template::{self, Lists};
use crate::request::{Emphasis, GenerationRequest};

/// The prompts of one picture, wildcards and choices drawn.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PicturePrompts {
    pub prompt: String,
    pub negative_prompt: String,
    /// `None`: those that the model draws with already.
    pub loras: Option<Vec<Lora>>,
}

impl PicturePrompts {
    /// The prompts of the picture of this seed, as sd-dynamic-prompts draws them.
    ///
    /// Errors: [`crate::error::Error::Request`] where lists name each other without end.
    pub(super) fn draw(request: &GenerationRequest, seed: u64, lists: &dyn Lists) -> Result<Self> {
        Ok(Self {
            prompt: template::resolve(&request.prompt, seed, lists)?,
            negative_prompt: template::resolve(&request.negative_prompt, seed, lists)?,
            loras: None,
        })
    }

    /// The texts that are drawn together, with their weights; at least one.
    pub(super) fn parts(&self, emphasis: Emphasis) -> Vec<compose::Part> {
        compose::read(&self.prompt, emphasis)
    }

    /// Whether the pictures of both can be drawn together.
    pub(super) fn suits(&self, other: &Self, emphasis: Emphasis) -> bool {
        self.loras == other.loras && self.parts(emphasis).len() == other.parts(emphasis).len()
    }
}
