//! Noise schedules: betas, timesteps and noise levels. Numbers only, no tensors.

/// One noise level: `x = alpha * x0 + sigma * noise`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct NoiseLevel {
    pub alpha: f64,
    pub sigma: f64,
    /// What the model receives.
    pub timestep: f64,
}

/// The noise levels of one drawing.
#[derive(Clone, Debug, PartialEq)]
pub struct Schedule {
    /// Noisiest first; the last one is the finished picture (its sigma is 0 for most schedules).
    pub levels: Vec<NoiseLevel>,
    /// What standard normal noise is multiplied by to begin.
    pub init_noise_sigma: f64,
}
