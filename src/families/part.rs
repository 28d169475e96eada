//! The networks that a Stable Diffusion model is made of.

/// One network of a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Part {
    Unet,
    Vae,
    TextEncoder,
    /// SDXL's second; its refiner has no other.
    TextEncoder2,
}

impl Part {
    pub const ALL: [Self; 4] = [Self::Unet, Self::Vae, Self::TextEncoder, Self::TextEncoder2];

    /// Its folder in the diffusers layout.
    pub fn name(self) -> &'static str {
        match self {
            Self::Unet => "unet",
            Self::Vae => "vae",
            Self::TextEncoder => "text_encoder",
            Self::TextEncoder2 => "text_encoder_2",
        }
    }

    /// What the names of its weights' files begin with in that folder.
    pub fn stem(self) -> &'static str {
        match self {
            Self::Unet | Self::Vae => "diffusion_pytorch_model",
            Self::TextEncoder | Self::TextEncoder2 => "model",
        }
    }

    /// What diffusers or transformers calls the network.
    pub fn class(self) -> &'static str {
        match self {
            Self::Unet => "UNet2DConditionModel",
            Self::Vae => "AutoencoderKL",
            Self::TextEncoder => "CLIPTextModel",
            Self::TextEncoder2 => "CLIPTextModelWithProjection",
        }
    }

    /// The folder of a text encoder's tokenizer in that layout.
    pub fn tokenizer_folder(self) -> &'static str {
        match self {
            Self::TextEncoder2 => "tokenizer_2",
            Self::TextEncoder | Self::Unet | Self::Vae => "tokenizer",
        }
    }

    /// In messages.
    pub fn words(self) -> &'static str {
        match self {
            Self::Unet => "UNet",
            Self::Vae => "VAE",
            Self::TextEncoder => "text encoder",
            Self::TextEncoder2 => "second text encoder",
        }
    }
}
