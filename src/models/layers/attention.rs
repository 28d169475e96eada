//! Multi-head attention on projected queries, keys and values, through libtorch's fused kernels.
//!
//! Source: diffusers `attention_processor.py` (`AttnProcessor2_0`), 0.42.1; Vaswani et al., 2017.

use tch::Tensor;

use super::profile;

/// What a token may look at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mask {
    Nothing,
    /// Itself and the tokens before it.
    Causal,
}

/// `query`: `[batch, n, channels]`; `key`, `value`: `[batch, m, channels]`; `heads` divides the
/// channels. Returns `[batch, n, channels]`.
pub fn attention(query: &Tensor, key: &Tensor, value: &Tensor, heads: i64, mask: Mask) -> Tensor {
    // [batch, heads, tokens, head_dim]
    let split = |x: &Tensor| x.unflatten(-1, [heads, -1]).transpose(1, 2);
    let causal = match mask {
        Mask::Nothing => false,
        Mask::Causal => true,
    };
    let mixed = || {
        Tensor::scaled_dot_product_attention(
            &split(query),
            &split(key),
            &split(value),
            None::<Tensor>,
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
