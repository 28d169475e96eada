//! Whose latents a model draws: what its small VAEs are called, and what its latents look like at a
//! glance, without any network.
//!
//! Sources: madebyollin's TAESD (github.com/madebyollin/taesd) for the names; the factors are those that
//! ComfyUI 0.3 (`comfy/latent_formats.py`) and diffusers' documentation of latents ("Explaining the SDXL
//! latent space") show pictures with, found by linear regression over pictures and their latents.

use tch::{Kind, Tensor};

use crate::error::Result;
use crate::models::vae::VaeConfig;

/// A VAE that many models share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LatentSpace {
    /// Stable Diffusion 1 and 2.
    Sd,
    Sdxl,
    Sd3,
}

/// Red, green and blue of each latent channel.
type Factors = [[f32; 3]];

const SD: [[f32; 3]; 4] = [
    [0.3512, 0.2297, 0.3227],
    [0.3250, 0.4974, 0.2350],
    [-0.2829, 0.1762, 0.2721],
    [-0.2120, -0.2616, -0.7177],
];
const SDXL: [[f32; 3]; 4] = [
    [0.3651, 0.4232, 0.4341],
    [-0.2533, -0.0042, 0.1068],
    [0.1076, 0.1111, -0.0362],
    [-0.3165, -0.2492, -0.2188],
];
const SDXL_BIAS: [f32; 3] = [0.1084, -0.0175, -0.0011];
const SD3: [[f32; 3]; 16] = [
    [-0.0922, -0.0175, 0.0749],
    [0.0311, 0.0633, 0.0954],
    [0.1994, 0.0927, 0.0458],
    [0.0856, 0.0339, 0.0902],
    [0.0587, 0.0272, -0.0496],
    [-0.0006, 0.1104, 0.0309],
    [0.0978, 0.0306, 0.0427],
    [-0.0042, 0.1038, 0.1358],
    [-0.0194, 0.0020, 0.0669],
    [-0.0488, 0.0130, -0.0268],
    [0.0922, 0.0988, 0.0951],
    [-0.0278, 0.0524, -0.0542],
    [0.0332, 0.0456, 0.0895],
    [-0.0069, -0.0030, -0.0810],
    [-0.0596, -0.0465, -0.0293],
    [-0.1448, -0.1463, -0.1189],
];
const SD3_BIAS: [f32; 3] = [0.2394, 0.2135, 0.1925];

impl LatentSpace {
    /// Told by how the latents are scaled; `None`: another.
    pub fn of(vae: &VaeConfig) -> Option<Self> {
        let is = |channels: i64, scale: f64| {
            vae.latent_channels == channels && (vae.scaling_factor - scale).abs() < 1e-6
        };
        // Playground 2.5 moves SDXL's latents elsewhere.
        if vae.latents_mean.is_some() {
            None
        } else if is(4, 0.18215) {
            Some(Self::Sd)
        } else if is(4, 0.13025) {
            Some(Self::Sdxl)
        } else if is(16, 1.5305) {
            Some(Self::Sd3)
        } else {
            None
        }
    }

    /// What its small VAE is called: `taesd_decoder.safetensors`, `.pth`, or the folder `taesd` in
    /// diffusers' layout.
    pub fn tiny_name(self) -> &'static str {
        match self {
            Self::Sd => "taesd",
            Self::Sdxl => "taesdxl",
            Self::Sd3 => "taesd3",
        }
    }

    /// What latents look like, one pixel each: f32 `[batch, 3, height, width]` in `[0, 1]`.
    ///
    /// `latents`: f32 `[batch, channels, height, width]`, as the diffusion model has them.
    pub fn glance(self, latents: &Tensor) -> Result<Tensor> {
        let (factors, bias): (&Factors, [f32; 3]) = match self {
            Self::Sd => (&SD, [0.0; 3]),
            Self::Sdxl => (&SDXL, SDXL_BIAS),
            Self::Sd3 => (&SD3, SD3_BIAS),
        };
        let channels = factors.len() as i64;
        let device = latents.device();
        let weight = Tensor::f_from_slice(factors.as_flattened())?
            .f_view([channels, 3])?
            .f_transpose(0, 1)?
            .f_reshape([3, channels, 1, 1])?
            .f_to_device(device)?;
        let bias = Tensor::f_from_slice(&bias)?.f_to_device(device)?;
        let latents = latents.f_to_kind(Kind::Float)?;
        let picture = latents.f_conv2d(&weight, Some(&bias), [1, 1], [0, 0], [1, 1], 1)?;
        Ok((picture / 2.0 + 0.5).f_clamp_(0.0, 1.0)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_glance_is_a_weighted_sum_of_the_channels() {
        for (space, channels, grey, last) in [
            (LatentSpace::Sd, 4, [0.0; 3], [-0.2120, -0.2616, -0.7177]),
            (LatentSpace::Sdxl, 4, SDXL_BIAS, [-0.3165, -0.2492, -0.2188]),
            (LatentSpace::Sd3, 16, SD3_BIAS, [-0.1448, -0.1463, -0.1189]),
        ] {
            // The second of two pixels has one half in its last channel.
            let latents = Tensor::zeros([1, channels, 1, 2], (Kind::Float, tch::Device::Cpu));
            let _ = latents.get(0).get(channels - 1).get(0).get(1).fill_(0.5);
            let seen = space.glance(&latents).unwrap();
            assert_eq!(seen.size(), [1, 3, 1, 2]);
            for colour in 0..3 {
                let value = |x: i64| seen.double_value(&[0, colour, 0, x]);
                let bias = f64::from(grey[colour as usize]);
                assert!((value(0) - (bias / 2.0 + 0.5)).abs() < 1e-6, "{space:?}");
                let more: f64 = last[colour as usize] / 2.0;
                assert!(
                    (value(1) - ((bias + more) / 2.0 + 0.5)).abs() < 1e-6,
                    "{space:?}"
                );
            }
        }
    }
}
