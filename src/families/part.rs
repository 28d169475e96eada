//! The networks that a Stable Diffusion model is made of.

/// One network of a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Part {
    Unet,
    Vae,
    TextEncoder,
}

impl Part {
    pub const ALL: [Self; 3] = [Self::Unet, Self::Vae, Self::TextEncoder];

    /// Its folder in the diffusers layout.
    pub fn name(self) -> &'static str {
        match self {
            Self::Unet => "unet",
            Self::Vae => "vae",
            Self::TextEncoder => "text_encoder",
        }
    }

    /// What the names of its weights' files begin with in that folder.
    pub fn stem(self) -> &'static str {
        match self {
            Self::Unet | Self::Vae => "diffusion_pytorch_model",
            Self::TextEncoder => "model",
        }
    }

    /// What diffusers or transformers calls the network.
    pub fn class(self) -> &'static str {
        match self {
            Self::Unet => "UNet2DConditionModel",
            Self::Vae => "AutoencoderKL",
            Self::TextEncoder => "CLIPTextModel",
        }
    }

    /// In messages.
    pub fn words(self) -> &'static str {
        match self {
            Self::Unet => "UNet",
            Self::Vae => "VAE",
            Self::TextEncoder => "text encoder",
        }
    }
}
