//! Enlarging pictures with Real-ESRGAN, in tiles that overlap so that no seam shows.

use std::path::Path;

use tch::{Device, Kind, Tensor};

use crate::checkpoint;
use crate::error::{Error, Result};
use crate::families;
use crate::files;
use crate::models::esrgan::RealEsrganCompact;
use crate::models::layers::Weights;

/// Side of what a tile adds to the result, in pixels of the input.
const TILE_PX: i64 = 192;
/// What a value of the result takes until it is saved: as f32 twice while it is rounded, as a byte in
/// the picture and in its file.
const BYTES_A_VALUE: u64 = 4 + 4 + 1 + 1;

/// A loaded enlarging network.
pub struct Upscaler {
    /// The file's name without its ending; recorded in pictures.
    pub name: String,
    network: RealEsrganCompact,
    device: Device,
}

impl Upscaler {
    /// Loads Real-ESRGAN's compact network from a safetensors file, in f32.
    ///
    /// Errors: [`Error::Request`] where there is no such file; [`Error::Model`] naming it and what is
    /// wrong.
    pub fn load(path: &Path, device: Device) -> Result<Self> {
        if !path.is_file() {
            // Another model would not help, which an error about a model offers.
            return Err(Error::Request(format!(
                "There is no upscaler at {}; pictures can be drawn without enlarging",
                path.display()
            )));
        }
        let tensors = checkpoint::load(&[path.to_path_buf()], device, Kind::Float, &mut |_| ())?;
        let network = RealEsrganCompact::new(&Weights::new(tensors.path, tensors.tensors))?;
        Ok(Self {
            name: files::stem(path),
            network,
            device,
        })
    }

    /// How many times wider and taller the result is.
    pub fn factor(&self) -> u32 {
        u32::try_from(self.network.scale).unwrap_or(1)
    }

    /// Enlarges pictures. `pictures`: f32 `[batch, 3, height, width]` in `[0, 1]`.
    /// Returns `[batch, 3, factor * height, factor * width]` in `[0, 1]`, the same values that one
    /// pass over the whole picture gives. `cancelled` is asked before every tile, and told the share in
    /// `[0, 1)` that is done.
    ///
    /// Errors: [`Error::Cancelled`], [`Error::OutOfMemory`].
    pub fn enlarge(&self, pictures: &Tensor, cancelled: &dyn Fn(f32) -> bool) -> Result<Tensor> {
        let (batch, channels, height, width) = pictures.size4()?;
        let factor = i64::from(self.factor());
        self.check_free(batch, height * factor, width * factor)?;
        let pictures = pictures.f_to_device(self.device)?;
        let mut result = Tensor::f_zeros(
            [batch, channels, height * factor, width * factor],
            (Kind::Float, self.device),
        )?;
        let pixels = (height * width) as f32;
        for top in (0..height).step_by(TILE_PX as usize) {
            for left in (0..width).step_by(TILE_PX as usize) {
                let band = TILE_PX.min(height - top);
                let done = (top * width + band * left) as f32 / pixels;
                if cancelled(done) {
                    return Err(Error::Cancelled);
                }
                let (rows, columns) = (self.reach(top, height), self.reach(left, width));
                let tile = pictures.f_narrow(2, rows.from, rows.length)?.f_narrow(
                    3,
                    columns.from,
                    columns.length,
                )?;
                let (tall, wide) = (TILE_PX.min(height - top), TILE_PX.min(width - left));
                let drawn = self
                    .network
                    .forward(&tile)?
                    .f_narrow(2, (top - rows.from) * factor, tall * factor)?
                    .f_narrow(3, (left - columns.from) * factor, wide * factor)?;
                result
                    .f_narrow(2, top * factor, tall * factor)?
                    .f_narrow(3, left * factor, wide * factor)?
                    .f_copy_(&drawn)?;
            }
        }
        Ok(result.f_clamp_(0.0, 1.0)?)
    }

    /// Refuses what cannot be held, before the work. Sides are the result's.
    fn check_free(&self, batch: i64, height: i64, width: i64) -> Result<()> {
        if self.device.is_cuda() {
            return Ok(());
        }
        let [batch, height, width] = [batch, height, width].map(i64::unsigned_abs);
        let values = [batch, 3, height, width]
            .into_iter()
            .fold(1, u64::saturating_mul);
        families::check_free(values.saturating_mul(BYTES_A_VALUE), width, height)
    }

    /// A tile with as much around it as the network looks at.
    fn reach(&self, from: i64, side: i64) -> Reach {
        let radius = self.network.radius();
        let start = (from - radius).max(0);
        let end = (from + TILE_PX + radius).min(side);
        Reach {
            from: start,
            length: end - start,
        }
    }
}

struct Reach {
    from: i64,
    length: i64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tiles_give_the_same_picture_as_one_pass() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("weights/upscalers/realesr-animevideov3-x4.safetensors");
        let upscaler = Upscaler::load(&path, Device::Cpu).unwrap();
        assert_eq!(upscaler.factor(), 4);
        let missing = Upscaler::load(Path::new("nowhere.safetensors"), Device::Cpu);
        assert_eq!(missing.err().unwrap().remedy(), None);
        let _no_grad = tch::no_grad_guard();
        let (height, width) = (TILE_PX + 37, 41);
        let ramp = Tensor::arange(3 * height * width, (Kind::Float, Device::Cpu));
        let picture = ((ramp * 0.37).sin() * 0.5 + 0.5).view([1, 3, height, width]);
        let whole = upscaler.network.forward(&picture).unwrap().clamp(0.0, 1.0);
        let told = std::cell::RefCell::new(Vec::new());
        let tiled = upscaler.enlarge(&picture, &|done| {
            told.borrow_mut().push(done);
            false
        });
        let tiled = tiled.unwrap();
        let first_tile = TILE_PX as f32 / height as f32;
        assert_eq!(*told.borrow(), [0.0, first_tile]);
        let worst = (whole - tiled).abs().max().double_value(&[]);
        assert!(worst < 1e-5, "largest difference {worst}");
        let stopped = upscaler.enlarge(&picture, &|_| true);
        assert!(matches!(stopped, Err(Error::Cancelled)));
        // No memory behind it, and none asked for the result.
        let huge =
            Tensor::zeros([1], (Kind::Float, Device::Cpu)).expand([1, 3, 1 << 20, 1 << 20], false);
        let refused = upscaler.enlarge(&huge, &|_| false);
        assert!(
            matches!(refused, Err(Error::OutOfMemory { .. })),
            "{refused:?}"
        );
    }
}
