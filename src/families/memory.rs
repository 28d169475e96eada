//! A rough guess of what a picture needs, so that an impossible one is refused at once instead of
//! bringing the machine down.

use crate::error::{Error, Result};
use crate::models::layers::Budget;

/// Bytes of activations at the peak for a pixel of the decoded picture, per channel of the VAE's
/// widest full-size layer: the map before the last level has twice as many, and goes strip by strip.
const DECODER_COPIES: u64 = 3;
/// The same for the UNet's first level: skips, both halves of guidance, attention.
const UNET_COPIES: u64 = 24;

/// The size of a drawing and of the networks' widest full-size layers.
#[derive(Clone, Copy, Debug)]
pub struct Footprint {
    pub batch: u64,
    pub width_px: u64,
    pub height_px: u64,
    pub latent_factor: u64,
    pub unet_channels: u64,
    pub vae_channels: u64,
    pub bytes_a_value: u64,
}

impl Footprint {
    /// Bytes at the peak, beside the weights.
    pub fn bytes(self) -> u64 {
        let pixels = self.width_px.saturating_mul(self.height_px);
        let latents = pixels / self.latent_factor.saturating_mul(self.latent_factor).max(1);
        let unet = latents
            .saturating_mul(self.unet_channels)
            .saturating_mul(UNET_COPIES);
        let decoder = decoder_values(pixels, self.vae_channels);
        // The decoder sees one picture after another.
        unet.saturating_mul(self.batch)
            .max(decoder)
            .saturating_mul(self.bytes_a_value)
    }

    /// Refuses what cannot fit into the machine's free memory, where that is known.
    ///
    /// Errors: [`Error::OutOfMemory`].
    pub fn check(self) -> Result<()> {
        check_free(self.bytes(), self.width_px, self.height_px)
    }
}

/// Decoding's peak, in values.
pub(super) fn decoder_values(pixels: u64, channels: u64) -> u64 {
    pixels
        .saturating_mul(channels)
        .saturating_mul(DECODER_COPIES)
}

/// Refuses a picture of this size that takes more `bytes` than the machine has free, where that is
/// known: the system would end the program, not the picture.
///
/// Errors: [`Error::OutOfMemory`].
pub fn check_free(bytes: u64, width_px: u64, height_px: u64) -> Result<()> {
    match available_bytes() {
        Some(available) if bytes > available => Err(Error::OutOfMemory {
            details: format!(
                "{width_px} x {height_px} pixels need about {} MB; {} MB are free",
                bytes >> 20,
                available >> 20
            ),
        }),
        _ => Ok(()),
    }
}

/// Keeps `rooms` for converted weights from growing into `bytes` that are about to be taken: they may have
/// what is free beside them, the first of them first.
pub(super) fn leave_free<'a>(bytes: u64, rooms: impl Iterator<Item = &'a Budget>) {
    if let Some(available) = available_bytes() {
        limit(rooms, available.saturating_sub(bytes));
    }
}

fn limit<'a>(rooms: impl Iterator<Item = &'a Budget>, free: u64) {
    let mut free = usize::try_from(free).unwrap_or(usize::MAX);
    for room in rooms {
        room.limit(free);
        free = free.saturating_sub(room.left());
    }
}

/// Refuses copies of layers that take more `bytes` than the machine has free, where that is known.
///
/// Errors: [`Error::OutOfMemory`].
pub(super) fn check_room(bytes: u64) -> Result<()> {
    match available_bytes() {
        Some(available) if bytes > available => Err(Error::OutOfMemory {
            details: format!(
                "the layers that a LoRA changes need about {} MB more; {} MB are free",
                bytes >> 20,
                available >> 20
            ),
        }),
        _ => Ok(()),
    }
}

/// Bytes of a UNet's weights that may be kept as it computes with them, where its file has them in another
/// dtype: a quarter of what is free. The rest is converted in each call, which takes a hundredth of its time
/// for pictures of the size that large models are made for.
pub(super) fn room_for_weights() -> usize {
    let room = available_bytes().map(|available| available / 4);
    room.map_or(usize::MAX, |room| {
        usize::try_from(room).unwrap_or(usize::MAX)
    })
}

/// Free memory of the machine; `None` where the system does not say.
pub(super) fn available_bytes() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text
        .lines()
        .find(|line| line.starts_with("MemAvailable:"))?;
    let kilobytes: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kilobytes << 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn footprint(side: u64) -> Footprint {
        Footprint {
            batch: 1,
            width_px: side,
            height_px: side,
            latent_factor: 8,
            unet_channels: 320,
            vae_channels: 128,
            bytes_a_value: 4,
        }
    }

    #[test]
    fn a_common_size_is_estimated_in_hundreds_of_megabytes_and_a_huge_one_is_refused() {
        let megabytes = footprint(512).bytes() >> 20;
        assert!((100..2000).contains(&megabytes), "{megabytes} MB");
        let refused = footprint(1 << 20).check();
        assert!(matches!(refused, Err(Error::OutOfMemory { .. })) || available_bytes().is_none());
    }

    #[test]
    fn converted_weights_leave_room_for_what_was_checked() {
        let rooms = [70, 70].map(Budget::of);
        let left = |free| {
            limit(rooms.iter(), free);
            [rooms[0].left(), rooms[1].left()]
        };
        assert_eq!(left(200), [70, 70]);
        assert_eq!(left(100), [70, 30]);
        assert!(rooms[0].take(60));
        assert_eq!(left(100), [10, 30]);
        assert_eq!(left(0), [0, 0]);
    }
}
