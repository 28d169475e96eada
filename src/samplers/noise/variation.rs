//! What AUTOMATIC1111 does to the noise that a drawing begins with: a second seed's mixed in, and
//! another size's put into its middle.
//!
//! Source: AUTOMATIC1111 1.10 `modules/rng.py`: its `slerp` and `ImageRNG.first`, whose formulas these
//! are, the sphere of each column of each channel included.

use tch::{Kind, Tensor};

use crate::error::Result;

/// Nearer than this, spherical interpolation would divide by 0.
const PARALLEL: f64 = 0.9995;

/// From `low` (0) to `high` (1) over the sphere. All `[channels, height, width]`.
pub(super) fn slerp(share: f64, low: &Tensor, high: &Tensor) -> Result<Tensor> {
    let unit = |x: &Tensor| -> Result<Tensor> {
        let norm = x
            .f_square()?
            .f_sum_dim_intlist([1i64].as_slice(), true, Kind::Float)?;
        Ok(x.f_div(&norm.f_sqrt()?)?)
    };
    // [channels, width]
    let cosine =
        (unit(low)? * unit(high)?).f_sum_dim_intlist([1i64].as_slice(), false, Kind::Float)?;
    if cosine.f_mean(Kind::Float)?.f_double_value(&[])? > PARALLEL {
        return Ok(low * share + high * (1.0 - share));
    }
    let omega = cosine.f_acos()?;
    let sine = omega.f_sin()?;
    let weight =
        |share: f64| -> Result<Tensor> { Ok(((&omega * share).f_sin()? / &sine).f_unsqueeze(1)?) };
    Ok(weight(1.0 - share)? * low + weight(share)? * high)
}

/// `around` with the middle of `centre` in its middle, as much of it as fits. Both `[channels, ...]`.
pub(super) fn with_centre(around: Tensor, centre: &Tensor) -> Result<Tensor> {
    let mut target = around.shallow_clone();
    let mut source = centre.shallow_clone();
    for dim in [1, 2] {
        let (outer, inner) = (around.size()[dim], centre.size()[dim]);
        let margin = (outer - inner).div_euclid(2);
        let length = if margin < 0 {
            inner + 2 * margin
        } else {
            inner
        };
        target = target.f_narrow(dim as i64, margin.max(0), length)?;
        source = source.f_narrow(dim as i64, (-margin).max(0), length)?;
    }
    target.f_copy_(&source)?;
    Ok(around)
}
