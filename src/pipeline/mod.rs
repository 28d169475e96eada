//! One generation: request to plan, plan to latents, latents to picture.

mod conditioning;
mod generate;
mod guidance;
mod picture;
mod plan;
mod previews;
mod prompts;
mod refined;
mod upscale;

pub use crate::models::layers::{Exactly, profile};
pub use generate::{Drawn, Watcher, generate};
pub use guidance::GuidedDenoiser;
pub use picture::{pixels_from_tensor, tensor_from_pixels};
pub use plan::GenerationPlan;
pub use prompts::PicturePrompts;
pub use upscale::Upscaler;
