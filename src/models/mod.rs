//! The networks, each built from its own `config.json` and named tensors.
//!
//! Every model is `new(config, &Weights)` and pure `forward`s: nothing is initialised at random,
//! nothing is seeded, no gradient is switched off here (the engine does that; training uses the same
//! modules). The arithmetic is that of diffusers 0.42.1.

pub mod esrgan;
pub mod layers;
pub mod unet;
pub mod vae;
