//! Which family a model is of, and what that decides where neither the person nor the model says.

use super::Part;
use crate::models::unet::UNetConfig;
use crate::schedule::{SchedulerConfig, TimestepSpacing};

/// The families of latent diffusion with a UNet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    StableDiffusion1,
    StableDiffusion2,
    /// Of that shape, with a text encoder of another width.
    StableDiffusion,
    Xl,
    /// Finishes what SDXL began; draws alone too.
    XlRefiner,
}

/// What a family draws where nothing is said.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FamilyDefaults {
    pub steps: u32,
    pub guidance_scale: f64,
    /// Sides of the latents, where the UNet's config does not say.
    pub sample_size: i64,
}

impl Family {
    /// Of a diffusers folder: what its UNet takes and which text encoders it has.
    pub fn of(unet: &UNetConfig, text_encoders: &[Part]) -> Self {
        match (unet.added, text_encoders, unet.cross_attention_dim) {
            (Some(_), [Part::TextEncoder2], _) => Self::XlRefiner,
            (Some(_), _, _) => Self::Xl,
            (None, _, 768) => Self::StableDiffusion1,
            (None, _, 1024) => Self::StableDiffusion2,
            (None, _, _) => Self::StableDiffusion,
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::StableDiffusion1 => "Stable Diffusion 1",
            Self::StableDiffusion2 => "Stable Diffusion 2",
            Self::StableDiffusion => "Stable Diffusion",
            Self::Xl => "Stable Diffusion XL",
            Self::XlRefiner => "Stable Diffusion XL refiner",
        }
    }

    /// What diffusers calls the sampler of the family's first models.
    pub fn scheduler_class(self) -> &'static str {
        match self {
            Self::StableDiffusion1 | Self::StableDiffusion => "PNDMScheduler",
            Self::StableDiffusion2 => "DDIMScheduler",
            Self::Xl | Self::XlRefiner => "EulerDiscreteScheduler",
        }
    }

    pub fn is_xl(self) -> bool {
        matches!(self, Self::Xl | Self::XlRefiner)
    }

    /// The last of the text encoder's layers that is ever listened to, counted from its last, 1.
    pub fn least_clip_skip(self) -> u32 {
        match self {
            Self::Xl | Self::XlRefiner => 2,
            Self::StableDiffusion1 | Self::StableDiffusion2 | Self::StableDiffusion => 1,
        }
    }

    /// Whether a model was distilled to a few steps, as its configs say: LCM by its scheduler or by a UNet
    /// that takes the guidance scale, Turbo and Lightning by Euler that begins at pure noise.
    pub fn is_distilled(self, unet: &UNetConfig, scheduler: &SchedulerConfig) -> bool {
        let trailing = scheduler.timestep_spacing == Some(TimestepSpacing::Trailing);
        unet.time_cond_proj_dim.is_some()
            || match scheduler.class_name.as_deref() {
                Some("LCMScheduler" | "TCDScheduler") => true,
                Some("EulerDiscreteScheduler" | "EulerAncestralDiscreteScheduler") => {
                    trailing && !scheduler.rescale_betas_zero_snr
                }
                _ => false,
            }
    }

    pub fn defaults(self, unet: &UNetConfig, scheduler: &SchedulerConfig) -> FamilyDefaults {
        let usual = match self {
            // diffusers' pipelines: 7.5 and 5; 7 is the web interface's.
            Self::StableDiffusion1 | Self::StableDiffusion2 | Self::StableDiffusion => {
                FamilyDefaults {
                    steps: 25,
                    guidance_scale: 7.0,
                    sample_size: 64,
                }
            }
            Self::Xl | Self::XlRefiner => FamilyDefaults {
                steps: 30,
                guidance_scale: 5.0,
                sample_size: 128,
            },
        };
        if !self.is_distilled(unet, scheduler) {
            return usual;
        }
        FamilyDefaults {
            steps: 4,
            // Distilled guidance is diffusers' default of that pipeline; the others have none.
            guidance_scale: if unet.time_cond_proj_dim.is_some() {
                8.5
            } else {
                1.0
            },
            ..usual
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn few_step_models_are_known_by_their_configs_and_draw_in_few_steps() {
        let unet = |more: &str| {
            let text = format!("{{\"cross_attention_dim\": 2048{more}}}");
            UNetConfig::parse(Path::new("config.json"), text.as_bytes()).unwrap()
        };
        let usual = FamilyDefaults {
            steps: 30,
            guidance_scale: 5.0,
            sample_size: 128,
        };
        let few = |guidance_scale| FamilyDefaults {
            steps: 4,
            guidance_scale,
            ..usual
        };
        let (plain, told) = (unet(""), unet(", \"time_cond_proj_dim\": 256"));
        for (unet, class, more, expected) in [
            (&plain, "EulerDiscreteScheduler", "\"leading\"", usual),
            // Lightning's folders; Turbo's.
            (&plain, "EulerDiscreteScheduler", "\"trailing\"", few(1.0)),
            (
                &plain,
                "EulerAncestralDiscreteScheduler",
                "\"trailing\"",
                few(1.0),
            ),
            // Hyper's one-step folder; LCM with a plain UNet, and with its own.
            (&plain, "TCDScheduler", "\"leading\"", few(1.0)),
            (&plain, "LCMScheduler", "\"leading\"", few(1.0)),
            (&told, "LCMScheduler", "\"leading\"", few(8.5)),
            // Trained down to pure noise, which is no distillation.
            (
                &plain,
                "EulerDiscreteScheduler",
                "\"trailing\", \"rescale_betas_zero_snr\": true",
                usual,
            ),
        ] {
            let text = format!("{{\"_class_name\": \"{class}\", \"timestep_spacing\": {more}}}");
            let scheduler = SchedulerConfig::from_json(&text).unwrap();
            assert_eq!(
                Family::Xl.defaults(unet, &scheduler),
                expected,
                "{class} {more}"
            );
        }
    }
}
