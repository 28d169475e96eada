//! What Stable Diffusion XL's drawing has beside the others': a second model that finishes the picture,
//! and what its networks are told about the picture's size.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::exact;

/// A model that draws a picture's last steps, SDXL's refiner mostly.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RefinerChoice {
    /// A model folder or file.
    pub path: PathBuf,
    /// From which share of the noise on it draws, 0 (all) to 1 (nothing): diffusers'
    /// `denoising_start`, A1111's `Refiner switch at`.
    #[serde(with = "exact")]
    pub start: f64,
}

impl RefinerChoice {
    /// diffusers' and A1111's advice.
    pub const START: f64 = 0.8;
}

/// What SDXL is told about the picture. `None`: as diffusers has it, the size that is drawn, nothing
/// cropped away; a score of 6, for the negative prompt 2.5.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct PictureHints {
    /// Width and height of the picture that this one is said to be made from: small ones are blurred.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub original_size: Option<[u32; 2]>,
    /// How many pixels of it were cut off on the left and at the top.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub crop: Option<[u32; 2]>,
    /// Width and height that it is said to have.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target_size: Option<[u32; 2]>,
    /// How beautiful the refiner is told that it is, 0 to 10.
    #[serde(with = "exact::option", skip_serializing_if = "Option::is_none")]
    pub aesthetic_score: Option<f64>,
    /// The same for the negative prompt.
    #[serde(with = "exact::option", skip_serializing_if = "Option::is_none")]
    pub negative_aesthetic_score: Option<f64>,
}

impl PictureHints {
    /// Whether nothing was said.
    pub fn is_usual(&self) -> bool {
        *self == Self::default()
    }
}
