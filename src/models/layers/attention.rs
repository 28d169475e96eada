//! Multi-head attention on projected queries, keys and values, through libtorch's fused kernels.
//!
//! Source: diffusers `attention_processor.py` (`AttnProcessor2_0`), 0.42.1; Vaswani et al., 2017.

use tch::Tensor;

use super::profile;

/// What a token may look at.
#[derive(Clone, Copy, Debug)]
pub enum Mask<'a> {
    Nothing,
    /// Itself and the tokens before it.
    Causal,
    /// Where this is true: bool `[n, m]`.
    These(&'a Tensor),
}

/// `query`: `[batch, n, channels]`; `key`, `value`: `[batch, m, channels]`; `heads` divides the
/// channels. Returns `[batch, n, channels]`.
pub fn attention(
    query: &Tensor,
    key: &Tensor,
    value: &Tensor,
    heads: i64,
    mask: Mask<'_>,
) -> Tensor {
    // [batch, heads, tokens, head_dim]
    let split = |x: &Tensor| x.unflatten(-1, [heads, -1]).transpose(1, 2);
    let (these, causal) = match mask {
        Mask::Nothing => (None, false),
        Mask::Causal => (None, true),
        Mask::These(these) => (Some(these), false),
    };
    let mixed = || {
        Tensor::scaled_dot_product_attention(
            &split(query),
            &split(key),
            &split(value),
            these,
            0.0,
            causal,
            None,
            false,
        )
        .transpose(1, 2)
        .flatten(2, 3)
    };
    profile::layer("attention", mixed)
}
