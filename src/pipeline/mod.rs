//! One generation: request to plan, plan to latents, latents to picture.
