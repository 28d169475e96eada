//! Multi-head attention on projected queries, keys and values, by a kernel of our own or libtorch's
//! fused ones.
//!
//! Source: diffusers `attention_processor.py` (`AttnProcessor2_0`), 0.42.1; Vaswani et al., 2017.

use easel_kernels::{Attention, Simd};
use tch::Tensor;

use super::plain::{all_plain, count, empty, threads, values, values_mut};
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
    let all = [query, key, value];
    if let Mask::Nothing = mask
        && Simd::detect() != Simd::PORTABLE
        && all_plain(all)
        && all.iter().all(|x| fits(x, query))
    {
        return profile::layer("attention", || plain(all.map(Tensor::contiguous), heads));
    }
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

/// Whether it has the same pictures and channels.
fn fits(x: &Tensor, query: &Tensor) -> bool {
    let [size, of] = [x.size(), query.size()];
    size.len() == 3 && (size.first(), size.last()) == (of.first(), of.last())
}

/// On contiguous f32.
fn plain([query, key, value]: [Tensor; 3], heads: i64) -> Tensor {
    let size = query.size();
    let [batch, width] = [size.first(), size.last()].map(|side| count(side.copied().unwrap_or(1)));
    let heads = count(heads).max(1);
    let mut mixed = empty(&size);
    let attention = Attention {
        batch,
        heads,
        head_dim: width / heads,
        query: values(&query),
        key: values(&key),
        value: values(&value),
    };
    attention.run(values_mut(&mut mixed), Simd::detect(), threads());
    mixed
}

#[cfg(test)]
mod tests {
    use super::super::plain::both_ways::{ramp, same_both_ways};
    use super::*;

    #[test]
    fn the_kernel_and_libtorch_see_the_same() {
        let key = ramp(&[2, 9, 24], 1.0);
        same_both_ways(|| {
            attention(
                &ramp(&[2, 40, 24], 2.0),
                &key,
                &(&key * 3.0),
                3,
                Mask::Nothing,
            )
        });
    }
}
