//! Normalisations built from named tensors.

use easel_kernels::Simd;
use tch::{Kind, Tensor};

use super::plain::{all_plain, count, empty, threads, values, values_mut};
use super::{Activation, Adapters, Parameters, Scope, profile};
use crate::error::Result;

/// Wu and He, 2018. `weight`, `bias`: `[channels]`.
#[derive(Debug)]
pub struct GroupNorm {
    groups: i64,
    eps: f64,
    adapters: Adapters,
}

impl GroupNorm {
    /// Errors: `groups` does not divide `channels`.
    pub fn new(scope: &Scope, groups: i64, channels: i64, eps: f64) -> Result<Self> {
        if channels % groups != 0 {
            let why = format!("{channels} channels cannot be normalised in {groups} groups");
            return Err(scope.error(why));
        }
        let weight = scope.tensor("weight", &[channels])?;
        let bias = scope.tensor("bias", &[channels])?;
        Ok(Self {
            adapters: scope.adapters(&weight, Some(&bias)),
            groups,
            eps,
        })
    }

    /// `[batch, channels, ...]`, a new tensor.
    pub fn forward(&self, x: &Tensor) -> Tensor {
        let own = self.adapters.current();
        profile::layer("group norm", || {
            self.plain(x, &own, false).unwrap_or_else(|| {
                let (weight, bias) = (Some(&own.weight), own.bias.as_ref());
                x.group_norm(self.groups, weight, bias, self.eps, true)
            })
        })
    }

    /// [`Self::forward`] and an activation after it.
    pub fn forward_activated(&self, x: &Tensor, activation: Activation) -> Tensor {
        let own = self.adapters.current();
        let fast = match activation {
            Activation::Silu => profile::layer("group norm", || self.plain(x, &own, true)),
            _ => None,
        };
        fast.unwrap_or_else(|| activation.forward(self.forward(x)))
    }

    /// By our own kernel; `None` where libtorch is to compute it.
    fn plain(&self, x: &Tensor, own: &Parameters, silu: bool) -> Option<Tensor> {
        let (weight, bias) = (&own.weight, own.bias.as_ref()?);
        let fits = x.size().get(1) == weight.size().first();
        if Simd::detect() == Simd::PORTABLE || !fits || !all_plain([x, weight, bias]) {
            return None;
        }
        let (x, weight, bias) = (x.contiguous(), weight.contiguous(), bias.contiguous());
        let size = x.size();
        let mut y = empty(&size);
        let norm = easel_kernels::GroupNorm {
            groups: count(self.groups),
            eps: self.eps,
            weight: values(&weight),
            bias: values(&bias),
            silu,
        };
        let batch = count(*size.first()?);
        norm.run(
            batch,
            values(&x),
            values_mut(&mut y),
            Simd::detect(),
            threads(),
        );
        Some(y)
    }

    /// What this comes to for a map that lies in strips of rows, `[batch, channels, rows, width]` each:
    /// `map * scale + shift`, both `[batch, channels, 1, 1]` of the map's kind.
    ///
    /// The strips' means and variances are put together as by Chan, Golub and LeVeque, 1979, in f64.
    pub fn scale_and_shift<'a>(
        &self,
        strips: impl IntoIterator<Item = &'a Tensor>,
    ) -> (Tensor, Tensor) {
        let own = self.adapters.current();
        let channels = own.weight.size().first().copied().unwrap_or(1);
        let (mut count, mut mean, mut squares) = (0.0, Tensor::from(0.0), Tensor::from(0.0));
        for strip in strips {
            let batch = strip.size().first().copied().unwrap_or(1);
            let values = strip.numel() as i64 / (batch * channels);
            // libtorch's fastest way to the moments, f32 `[batch, groups]` each.
            let (_, strip_mean, rstd) = strip.contiguous().native_group_norm(
                None::<&Tensor>,
                None,
                batch,
                channels,
                values,
                self.groups,
                self.eps,
            );
            let values = (values * channels / self.groups) as f64;
            let variance = rstd.to_kind(Kind::Double).pow_tensor_scalar(-2) - self.eps;
            let away = strip_mean.to_kind(Kind::Double) - &mean;
            let total = count + values;
            squares = squares + variance * values + &away * &away * (count * values / total);
            mean = &mean + away * (values / total);
            count = total;
        }
        let rstd = (squares / count + self.eps).rsqrt();
        let a_channel = |x: Tensor| x.repeat_interleave_self_int(channels / self.groups, 1, None);
        let scale = a_channel(rstd) * &own.weight;
        let shift = a_channel(-mean) * &scale;
        let shift = match &own.bias {
            Some(bias) => shift + bias,
            None => shift,
        };
        let like = |x: Tensor| x.to_kind(own.weight.kind()).unsqueeze(-1).unsqueeze(-1);
        (like(scale), like(shift))
    }
}

/// Ba et al., 2016, over the last dimension. `weight`, `bias`: `[features]`.
#[derive(Debug)]
pub struct LayerNorm {
    features: i64,
    eps: f64,
    adapters: Adapters,
}

impl LayerNorm {
    pub fn new(scope: &Scope, features: i64, eps: f64) -> Result<Self> {
        let weight = scope.tensor("weight", &[features])?;
        let bias = scope.tensor("bias", &[features])?;
        Ok(Self {
            adapters: scope.adapters(&weight, Some(&bias)),
            features,
            eps,
        })
    }

    /// `[..., features]`, a new tensor.
    pub fn forward(&self, x: &Tensor) -> Tensor {
        let own = self.adapters.current();
        let (weight, bias) = (Some(&own.weight), own.bias.as_ref());
        profile::layer("layer norm", || {
            x.layer_norm([self.features], weight, bias, self.eps, true)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::Weights;
    use super::super::plain::both_ways::{ramp, same_both_ways};
    use super::*;

    #[test]
    fn the_kernel_and_libtorch_normalise_alike() {
        let named = [("weight", ramp(&[12], 1.0)), ("bias", ramp(&[12], 1.0))];
        let named = named.map(|(name, tensor)| (name.to_owned(), tensor));
        let weights = Weights::new("test", named.into());
        let norm = GroupNorm::new(&weights.root(), 4, 12, 1e-5).unwrap();
        let x = ramp(&[2, 12, 9, 7], 3.0);
        same_both_ways(|| norm.forward(&x));
        same_both_ways(|| norm.forward_activated(&x, Activation::Silu));
    }
}
