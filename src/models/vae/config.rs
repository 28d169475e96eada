//! The VAE's `config.json`.
//!
//! Source of fields and defaults: diffusers `autoencoder_kl.py`, 0.42.1.

use std::path::Path;

use serde_json::json;

use crate::error::Result;
use crate::models::layers::{Activation, Fields};

/// All that changes the VAE's arithmetic, and how its latents are scaled.
#[derive(Clone, Debug, PartialEq)]
pub struct VaeConfig {
    pub in_channels: i64,
    pub out_channels: i64,
    pub latent_channels: i64,
    pub block_out_channels: Vec<i64>,
    pub layers_per_block: i64,
    /// Of the residual blocks; the last activation is always SiLU.
    pub activation: Activation,
    pub norm_num_groups: i64,
    pub mid_block_add_attention: bool,
    pub use_quant_conv: bool,
    pub use_post_quant_conv: bool,
    /// The diffusion model's latents are these times the VAE's.
    pub scaling_factor: f64,
    /// Subtracted before scaling, where there is one.
    pub shift_factor: Option<f64>,
    /// One a latent channel, where there are some: they stand for both factors.
    pub latents_mean: Option<Vec<f64>>,
    pub latents_std: Option<Vec<f64>>,
    /// It overflows in f16 (the class's own default says so of every VAE).
    pub force_upcast: bool,
}

impl VaeConfig {
    /// Reads `vae/config.json`. Errors: [`crate::error::Error::Model`] names the field and its value.
    pub fn read(path: &Path) -> Result<Self> {
        Self::from_fields(Fields::read(path)?)
    }

    /// As [`Self::read`], of text; `path` is what messages name.
    pub fn parse(path: &Path, text: &[u8]) -> Result<Self> {
        Self::from_fields(Fields::parse(path, text)?)
    }

    /// How many pixels high and wide one value of the latents is.
    pub fn factor(&self) -> i64 {
        1 << (self.block_out_channels.len() - 1)
    }

    fn from_fields(mut fields: Fields) -> Result<Self> {
        let f = &mut fields;
        f.only("_class_name", json!("AutoencoderKL"))?;
        let block_out_channels = f.size_list("block_out_channels", &[64])?;
        let blocks = block_out_channels.len();
        if blocks > 16 {
            let why = "more than 16 blocks halve a picture to nothing";
            return Err(f.refuse("block_out_channels", format!("a list of {blocks}"), why));
        }
        f.only(
            "down_block_types",
            json!(vec!["DownEncoderBlock2D"; blocks]),
        )?;
        f.only("up_block_types", json!(vec!["UpDecoderBlock2D"; blocks]))?;
        // For tiling.
        f.harmless(&["sample_size"]);
        let boolean = "true or false was expected";
        let config = Self {
            in_channels: f.size("in_channels", 3)?,
            out_channels: f.size("out_channels", 3)?,
            latent_channels: f.size("latent_channels", 4)?,
            block_out_channels,
            layers_per_block: f.size("layers_per_block", 1)?,
            activation: f.activation("act_fn")?,
            norm_num_groups: f.size("norm_num_groups", 32)?,
            mid_block_add_attention: f.take("mid_block_add_attention", true, boolean)?,
            use_quant_conv: f.take("use_quant_conv", true, boolean)?,
            use_post_quant_conv: f.take("use_post_quant_conv", true, boolean)?,
            scaling_factor: scaling_factor(f)?,
            shift_factor: f.take("shift_factor", None, "a number was expected")?,
            latents_mean: f.take("latents_mean", None, "a list of numbers was expected")?,
            latents_std: f.take("latents_std", None, "a list of numbers was expected")?,
            force_upcast: f.take("force_upcast", true, boolean)?,
        };
        config.check_statistics(f)?;
        fields.finish()?;
        Ok(config)
    }

    fn check_statistics(&self, f: &Fields) -> Result<()> {
        for (name, list) in [
            ("latents_mean", &self.latents_mean),
            ("latents_std", &self.latents_std),
        ] {
            match list {
                Some(list) if list.len() as i64 != self.latent_channels => {
                    let why = format!("{} were expected", self.latent_channels);
                    return Err(f.refuse(name, format!("a list of {}", list.len()), &why));
                }
                _ => {}
            }
        }
        Ok(())
    }
}

/// Latents are divided by it.
fn scaling_factor(f: &mut Fields) -> Result<f64> {
    let factor = f.take("scaling_factor", 0.18215, "a number was expected")?;
    if factor == 0.0 {
        return Err(f.refuse("scaling_factor", factor, "latents are divided by it"));
    }
    Ok(factor)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    fn parse(value: Value) -> Result<VaeConfig> {
        VaeConfig::parse(Path::new("config.json"), value.to_string().as_bytes())
    }

    #[test]
    fn the_scaling_factor_comes_from_the_file() {
        assert_eq!(parse(json!({})).unwrap().scaling_factor, 0.18215);
        let sdxl = parse(json!({"scaling_factor": 0.13025})).unwrap();
        assert_eq!(sdxl.scaling_factor, 0.13025);
    }

    #[test]
    fn a_value_that_is_not_supported_is_named() {
        for (name, value) in [
            ("down_block_types", json!(["AttnDownEncoderBlock2D"])),
            (
                "up_block_types",
                json!(["UpDecoderBlock2D", "UpDecoderBlock2D"]),
            ),
            ("scaling_factor", json!(0)),
            ("latents_mean", json!([0.0])),
            ("block_out_channels", json!(vec![8; 40])),
            ("temporal", json!(true)),
        ] {
            let message = parse(json!({name: value})).unwrap_err().to_string();
            assert!(message.contains(&format!("`{name}`")), "{message}");
        }
    }
}
