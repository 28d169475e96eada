//! What the UNet is told beside the picture and its noise level, and SDXL's second embedding of it.
//!
//! Source: diffusers `unet_2d_condition.py` (`get_aug_embed`, "text_time"), 0.42.1; Podell et al., arXiv
//! 2307.01952, section 2.2.

use tch::{Device, Tensor};

use super::config::{AddedSpec, UNetConfig};
use super::text::KeyValues;
use crate::error::{Error, Result};
use crate::models::layers::{Activation, Scope, TimestepEmbedding, Timesteps};

/// Everything that a call of the network depends on beside the picture and its noise level.
#[derive(Clone, Copy, Debug)]
pub struct Conditioning<'a> {
    /// `[batch, tokens, cross_attention_dim]`
    pub encoder_hidden_states: &'a Tensor,
    /// Where the text's keys and values are kept from call to call.
    pub key_values: Option<&'a KeyValues>,
    /// SDXL's.
    pub added: Option<Added<'a>>,
    /// For networks with distilled guidance (`time_cond_proj_dim`); others do not look at it.
    pub guidance_scale: Option<f64>,
}

/// SDXL's pooled text, and numbers about the picture: the original size, where it was cropped, and the
/// size it is to have or how beautiful it is.
#[derive(Clone, Copy, Debug)]
pub struct Added<'a> {
    /// `[batch, projection_dim]`
    pub text_embeds: &'a Tensor,
    /// f32 `[batch, count]`
    pub time_ids: &'a Tensor,
}

impl<'a> From<&'a Tensor> for Conditioning<'a> {
    /// The text's state alone.
    fn from(encoder_hidden_states: &'a Tensor) -> Self {
        Self {
            encoder_hidden_states,
            key_values: None,
            added: None,
            guidance_scale: None,
        }
    }
}

/// From [`Added`] to what is added to the time embedding.
#[derive(Debug)]
pub(super) struct AddedEmbedding {
    add_time_proj: Timesteps,
    add_embedding: TimestepEmbedding,
    spec: AddedSpec,
}

impl AddedEmbedding {
    pub fn new(root: &Scope, spec: AddedSpec, config: &UNetConfig, device: Device) -> Result<Self> {
        let AddedSpec {
            time_embed_dim,
            input_dim,
        } = spec;
        let embedding = root.child("add_embedding");
        Ok(Self {
            add_time_proj: Timesteps::new(
                time_embed_dim,
                config.flip_sin_to_cos,
                config.freq_shift,
                device,
            )?,
            // Always with SiLU, whatever `act_fn` is.
            add_embedding: TimestepEmbedding::new(
                &embedding,
                input_dim,
                config.time_embed_dim,
                Activation::Silu,
            )?,
            spec,
        })
    }

    /// `[batch, time_embed_dim]`. Errors: [`Error::Shape`].
    pub fn forward(&self, added: Option<&Added<'_>>) -> Result<Tensor> {
        let AddedSpec {
            time_embed_dim,
            input_dim,
        } = self.spec;
        let sizes = added.map(|added| (added.text_embeds.size(), added.time_ids.size()));
        match (
            added,
            sizes
                .as_ref()
                .map(|(text, ids)| (text.as_slice(), ids.as_slice())),
        ) {
            (Some(added), Some((&[batch, pooled], &[ids_batch, count])))
                if batch == ids_batch && pooled + count * time_embed_dim == input_dim =>
            {
                let numbers = self
                    .add_time_proj
                    .forward_each(&added.time_ids.flatten(0, -1));
                // [batch, count * time_embed_dim]
                let numbers = numbers.view([batch, -1]).to_kind(added.text_embeds.kind());
                let both = Tensor::cat(&[added.text_embeds, &numbers], 1);
                Ok(self.add_embedding.forward(&both, None))
            }
            _ => Err(Error::Shape {
                what: "The UNet's pooled text and numbers about the picture",
                got: sizes.map_or_else(Vec::new, |(text, ids)| [text, ids].concat()),
                expected: format!(
                    "[batch, n], [batch, m], where n + {time_embed_dim} m = {input_dim}"
                ),
            }),
        }
    }
}
