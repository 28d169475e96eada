//! The settings that a picture file carries, as read back from it.
//!
//! Made by `output/metadata`; shown by the window and printed by `easel info`.

use super::{GenerationRequest, PictureSettings};

/// The settings that a picture file carries.
#[derive(Clone, Debug, PartialEq)]
pub struct Recipe {
    /// Draws the picture again.
    pub request: GenerationRequest,
    /// Easel's own record, where Easel drew the picture.
    pub settings: Option<PictureSettings>,
    /// As A1111 would show it.
    pub infotext: String,
    /// What the picture names and Easel lacks, one sentence each.
    pub notes: Vec<String>,
}
