//! Between tensors in `[0, 1]` and 8-bit pixels.

use tch::{Kind, Tensor};

use crate::error::{Error, Result};
use crate::request::Pixels;

/// Rounds pictures to 8 bits as diffusers does (`numpy_to_pil`: times 255, rounded).
///
/// `pictures`: f32 `[batch, 3, height, width]` in `[0, 1]`, any device. Returns one a picture.
pub fn pixels_from_tensor(pictures: &Tensor) -> Result<Vec<Pixels>> {
    let (batch, _, height, width) = pictures.size4()?;
    let bytes = (pictures * 255.0)
        .round_()
        .f_to_kind(Kind::Uint8)?
        .f_permute([0, 2, 3, 1])?
        .f_to_device(tch::Device::Cpu)?
        .f_contiguous()?;
    let side = |px: i64| u32::try_from(px).map_err(|_| size_error(pictures));
    let (width_px, height_px) = (side(width)?, side(height)?);
    let length = usize::try_from(3 * height * width).map_err(|_| size_error(pictures))?;
    let mut all = Vec::new();
    for index in 0..batch {
        let mut rgb = vec![0; length];
        bytes.f_get(index)?.f_copy_data_u8(&mut rgb, length)?;
        all.push(Pixels {
            width_px,
            height_px,
            rgb,
        });
    }
    Ok(all)
}

/// The opposite: f32 `[1, 3, height, width]` in `[0, 1]` on the CPU.
pub fn tensor_from_pixels(pixels: &Pixels) -> Result<Tensor> {
    let (height, width) = (i64::from(pixels.height_px), i64::from(pixels.width_px));
    Ok(Tensor::f_from_slice(&pixels.rgb)?
        .f_view([1, height, width, 3])?
        .f_permute([0, 3, 1, 2])?
        .f_to_kind(Kind::Float)?
        / 255.0)
}

fn size_error(pictures: &Tensor) -> Error {
    Error::Shape {
        what: "the picture",
        got: pictures.size(),
        expected: "[batch, 3, height, width]".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pixels_survive_the_way_to_a_tensor_and_back() {
        let pixels = Pixels {
            width_px: 5,
            height_px: 3,
            rgb: (0..45).map(|value| value * 5).collect(),
        };
        let tensor = tensor_from_pixels(&pixels).unwrap();
        assert_eq!(tensor.size(), [1, 3, 3, 5]);
        assert_eq!(pixels_from_tensor(&tensor).unwrap(), [pixels]);
    }
}
