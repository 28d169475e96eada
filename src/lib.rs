//! Easel draws pictures from words: Stable Diffusion through libtorch, behind a window.
//!
//! ```text
//! prompt text ── text/ ──► embeddings ─┐
//! settings ── pipeline/plan ──► plan ──┼─► samplers/ loop ◄─► models/ (UNet) ─► latents ─► VAE ─► picture ─► output/
//! model files ── checkpoint/ ─► weights┘        │
//!                                               └─ events ─► worker/ ─► app/ or cli (preview, progress)
//! ```
//!
//! One direction, no back and forth: the window never touches a tensor, the engine never touches a
//! widget. `ARCHITECTURE.md` says who may import whom, and `tests/architecture.rs` holds it.

// Unit tests may write files and draw random tensors as they like (`clippy.toml` bans both).
#![cfg_attr(test, allow(clippy::disallowed_methods))]

pub mod app;
pub mod checkpoint;
pub mod cli;
pub mod error;
pub mod families;
pub mod files;
pub mod models;
pub mod output;
pub mod paths;
pub mod pipeline;
pub mod prompt;
pub mod request;
pub mod samplers;
pub mod schedule;
pub mod settings;
pub mod text;
pub mod worker;
