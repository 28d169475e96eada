//! The transformer inside a UNet block: pixels as tokens, looking at each other and at the text.
//!
//! Source: diffusers `transformers/transformer_2d.py` (continuous input) and `attention.py`
//! (`BasicTransformerBlock`, GEGLU feed-forward), 0.42.1.

use tch::Tensor;

use super::config::TransformerSpec;
use super::text::{AttentionId, Text};
use crate::error::Result;
use crate::models::layers::{GroupNorm, LayerNorm, Linear, Mask, Scope, attention};

/// Fixed in diffusers' `Transformer2DModel`, whatever the UNet's `norm_eps`.
const GROUP_NORM_EPS: f64 = 1e-6;
const LAYER_NORM_EPS: f64 = 1e-5;

/// Projects to tokens, runs the blocks, projects back, adds its input.
#[derive(Debug)]
pub(super) struct Transformer2DModel {
    norm: GroupNorm,
    proj_in: Linear,
    transformer_blocks: Vec<BasicTransformerBlock>,
    proj_out: Linear,
}

impl Transformer2DModel {
    pub fn new(scope: &Scope, channels: i64, groups: i64, spec: TransformerSpec) -> Result<Self> {
        let blocks = scope.child("transformer_blocks");
        let transformer_blocks = (0..spec.layers as usize)
            .map(|index| BasicTransformerBlock::new(&blocks.index(index), channels, spec))
            .collect::<Result<_>>()?;
        Ok(Self {
            norm: GroupNorm::new(&scope.child("norm"), groups, channels, GROUP_NORM_EPS)?,
            proj_in: Linear::new(&scope.child("proj_in"), channels, channels)?,
            transformer_blocks,
            proj_out: Linear::new(&scope.child("proj_out"), channels, channels)?,
        })
    }

    /// `x`: `[batch, channels, height, width]`; `text`: see [`Text`].
    /// Returns the shape of `x`, a new tensor.
    pub fn forward(&self, x: &Tensor, text: Text<'_>) -> Tensor {
        // [batch, height * width, channels]
        let tokens = self.norm.forward(x).flatten(2, 3).transpose(1, 2);
        let mut tokens = self.proj_in.forward(&tokens);
        for block in &self.transformer_blocks {
            tokens = block.forward(&tokens, text);
        }
        self.proj_out.forward_pixels(&tokens, x)
    }
}

/// Self-attention, attention to the text, feed-forward, each after a norm and added to its input.
#[derive(Debug)]
struct BasicTransformerBlock {
    norm1: LayerNorm,
    attn1: Attention,
    norm2: LayerNorm,
    attn2: Attention,
    norm3: LayerNorm,
    ff: FeedForward,
    only_cross_attention: bool,
}

impl BasicTransformerBlock {
    fn new(scope: &Scope, channels: i64, spec: TransformerSpec) -> Result<Self> {
        let TransformerSpec {
            heads,
            cross_attention_dim,
            only_cross_attention,
            ..
        } = spec;
        let context = if only_cross_attention {
            cross_attention_dim
        } else {
            channels
        };
        let norm = |name| LayerNorm::new(&scope.child(name), channels, LAYER_NORM_EPS);
        let attn = |name, context| Attention::new(&scope.child(name), channels, context, heads);
        Ok(Self {
            norm1: norm("norm1")?,
            attn1: attn("attn1", context)?,
            norm2: norm("norm2")?,
            attn2: attn("attn2", cross_attention_dim)?,
            norm3: norm("norm3")?,
            ff: FeedForward::new(&scope.child("ff"), channels)?,
            only_cross_attention,
        })
    }

    fn forward(&self, x: &Tensor, text: Text<'_>) -> Tensor {
        let normed = self.norm1.forward(x);
        let x = &match self.only_cross_attention {
            true => self.attn1.forward_text(&normed, text, x),
            false => self.attn1.forward(&normed, x),
        };
        let x = &self.attn2.forward_text(&self.norm2.forward(x), text, x);
        self.ff.forward(&self.norm3.forward(x), x)
    }
}

#[derive(Debug)]
struct Attention {
    id: AttentionId,
    to_q: Linear,
    to_k: Linear,
    to_v: Linear,
    to_out: Linear,
    heads: i64,
}

impl Attention {
    fn new(scope: &Scope, channels: i64, context: i64, heads: i64) -> Result<Self> {
        Ok(Self {
            id: AttentionId::new(),
            to_q: Linear::without_bias(&scope.child("to_q"), channels, channels)?,
            to_k: Linear::without_bias(&scope.child("to_k"), context, channels)?,
            to_v: Linear::without_bias(&scope.child("to_v"), context, channels)?,
            to_out: Linear::new(&scope.child("to_out").index(0), channels, channels)?,
            heads,
        })
    }

    /// Every pixel looks at every other; what it sees is added to `before`.
    fn forward(&self, x: &Tensor, before: &Tensor) -> Tensor {
        self.mixed(x, self.key_value(x), before)
    }

    /// Every pixel looks at the text; what it sees is added to `before`.
    fn forward_text(&self, x: &Tensor, text: Text<'_>, before: &Tensor) -> Tensor {
        let key_value = text.key_value(self.id, |states| self.key_value(states));
        self.mixed(x, key_value, before)
    }

    fn key_value(&self, context: &Tensor) -> (Tensor, Tensor) {
        (self.to_k.forward(context), self.to_v.forward(context))
    }

    fn mixed(&self, x: &Tensor, (key, value): (Tensor, Tensor), before: &Tensor) -> Tensor {
        let query = self.to_q.forward(x);
        let mixed = attention(&query, &key, &value, self.heads, Mask::Nothing);
        self.to_out.forward_added(&mixed, before)
    }
}

/// Shazeer 2020: one half of the hidden features gates the other.
#[derive(Debug)]
struct FeedForward {
    proj: Linear,
    out: Linear,
}

impl FeedForward {
    fn new(scope: &Scope, channels: i64) -> Result<Self> {
        let (net, hidden) = (scope.child("net"), 4 * channels);
        Ok(Self {
            proj: Linear::new(&net.index(0).child("proj"), channels, 2 * hidden)?,
            out: Linear::new(&net.index(2), hidden, channels)?,
        })
    }

    /// Added to `before`.
    fn forward(&self, x: &Tensor, before: &Tensor) -> Tensor {
        self.out.forward_added(&self.proj.forward_gated(x), before)
    }
}
