//! Numbers that lie in a GGUF file in blocks: a few bits each, with a scale for every 16 or 32.
//!
//! Made floats while a file is loaded, with ggml's formulas in ggml's order of operations, so that the
//! values equal those of its reference to the last bit. Source: ggml `ggml-quants.c`
//! (`dequantize_row_*`), the `gguf` Python package 0.19 `quants.py`.

use std::fmt;

/// How the blocks of a tensor are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blocks {
    Q4_0,
    Q4_1,
    Q5_0,
    Q5_1,
    Q8_0,
    Q2K,
    Q3K,
    Q4K,
    Q5K,
    Q6K,
}

impl Blocks {
    /// Values of one block.
    pub fn elements(self) -> u64 {
        match self {
            Self::Q4_0 | Self::Q4_1 | Self::Q5_0 | Self::Q5_1 | Self::Q8_0 => 32,
            Self::Q2K | Self::Q3K | Self::Q4K | Self::Q5K | Self::Q6K => 256,
        }
    }

    /// Bytes of one block.
    pub fn bytes(self) -> u64 {
        match self {
            Self::Q4_0 => 18,
            Self::Q4_1 => 20,
            Self::Q5_0 => 22,
            Self::Q5_1 => 24,
            Self::Q8_0 => 34,
            Self::Q2K => 84,
            Self::Q3K => 110,
            Self::Q4K => 144,
            Self::Q5K => 176,
            Self::Q6K => 210,
        }
    }

    /// Appends the values of whole blocks; what is left over at the end is no block.
    pub(super) fn dequantize(self, bytes: &[u8], values: &mut Vec<f32>) {
        match self {
            Self::Q4_0 => each(bytes, values, q4_0),
            Self::Q4_1 => each(bytes, values, q4_1),
            Self::Q5_0 => each(bytes, values, q5_0),
            Self::Q5_1 => each(bytes, values, q5_1),
            Self::Q8_0 => each(bytes, values, q8_0),
            Self::Q2K => each(bytes, values, q2_k),
            Self::Q3K => each(bytes, values, q3_k),
            Self::Q4K => each(bytes, values, q4_k),
            Self::Q5K => each(bytes, values, q5_k),
            Self::Q6K => each(bytes, values, q6_k),
        }
    }
}

impl fmt::Display for Blocks {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Q4_0 => "Q4_0",
            Self::Q4_1 => "Q4_1",
            Self::Q5_0 => "Q5_0",
            Self::Q5_1 => "Q5_1",
            Self::Q8_0 => "Q8_0",
            Self::Q2K => "Q2_K",
            Self::Q3K => "Q3_K",
            Self::Q4K => "Q4_K",
            Self::Q5K => "Q5_K",
            Self::Q6K => "Q6_K",
        })
    }
}

fn each<const N: usize>(bytes: &[u8], values: &mut Vec<f32>, block: fn(&[u8; N], &mut Vec<f32>)) {
    let (blocks, _) = bytes.as_chunks::<N>();
    blocks.iter().for_each(|bytes| block(bytes, values));
}

fn q4_0(block: &[u8; 18], values: &mut Vec<f32>) {
    let [a, b, quants @ ..] = block;
    let scale = half([*a, *b]);
    for shift in [0, 4] {
        let quants = quants.iter().map(|byte| low(byte >> shift, 4));
        values.extend(quants.map(|quant| scale * (quant - 8.0)));
    }
}

fn q4_1(block: &[u8; 20], values: &mut Vec<f32>) {
    let [a, b, c, d, quants @ ..] = block;
    let (scale, least) = (half([*a, *b]), half([*c, *d]));
    for shift in [0, 4] {
        let quants = quants.iter().map(|byte| low(byte >> shift, 4));
        values.extend(quants.map(|quant| scale * quant + least));
    }
}

fn q5_0(block: &[u8; 22], values: &mut Vec<f32>) {
    let [a, b, h0, h1, h2, h3, quants @ ..] = block;
    let scale = half([*a, *b]);
    let fifth = u32::from_le_bytes([*h0, *h1, *h2, *h3]);
    values.extend(five_bits(quants, fifth).map(|quant| scale * (quant - 16.0)));
}

fn q5_1(block: &[u8; 24], values: &mut Vec<f32>) {
    let [a, b, c, d, h0, h1, h2, h3, quants @ ..] = block;
    let (scale, least) = (half([*a, *b]), half([*c, *d]));
    let fifth = u32::from_le_bytes([*h0, *h1, *h2, *h3]);
    values.extend(five_bits(quants, fifth).map(|quant| scale * quant + least));
}

/// The 32 numbers whose fifth bits lie apart.
fn five_bits(quants: &[u8; 16], fifth: u32) -> impl Iterator<Item = f32> {
    let four = [0, 4]
        .into_iter()
        .flat_map(move |shift| quants.iter().map(move |byte| (byte >> shift) & 0x0f));
    four.zip(0..)
        .map(move |(four, bit): (u8, u32)| f32::from(four | (((fifth >> bit) & 1) as u8) << 4))
}

fn q8_0(block: &[u8; 34], values: &mut Vec<f32>) {
    let [a, b, quants @ ..] = block;
    let scale = half([*a, *b]);
    values.extend(
        quants
            .iter()
            .map(|byte| f32::from(byte.cast_signed()) * scale),
    );
}

fn q2_k(block: &[u8; 84], values: &mut Vec<f32>) {
    let [scales @ .., a, b, c, d] = block;
    let (scale, least) = (half([*a, *b]), half([*c, *d]));
    // [16 bytes of scales, 64 of numbers]
    let (scales, quants) = scales.split_at(16);
    let mut scales = scales.iter();
    for (bytes, shift) in quarters(quants) {
        for half_row in bytes.chunks(16) {
            let both = scales.next().copied().unwrap_or_default();
            let (scale, least) = (scale * low(both, 4), least * low(both >> 4, 4));
            let quants = half_row.iter().map(|byte| low(byte >> shift, 2));
            values.extend(quants.map(|quant| scale * quant - least));
        }
    }
}

fn q3_k(block: &[u8; 110], values: &mut Vec<f32>) {
    let [rest @ .., a, b] = block;
    let whole = half([*a, *b]);
    // [32 bytes of third bits, 64 of numbers, 12 of scales]
    let (thirds, rest) = rest.split_at(32);
    let (quants, packed) = rest.split_at(64);
    let mut scales = six_bit_scales(packed).into_iter();
    for ((bytes, shift), third) in quarters(quants).zip(0..8u8) {
        for (half_row, thirds) in bytes.chunks(16).zip(thirds.chunks(16)) {
            let scale = whole * scales.next().unwrap_or_default();
            let quants = half_row.iter().zip(thirds).map(|(byte, thirds)| {
                // The third bit is stored upside down.
                let missing = if (thirds >> third) & 1 == 0 { 4.0 } else { 0.0 };
                low(byte >> shift, 2) - missing
            });
            values.extend(quants.map(|quant| scale * quant));
        }
    }
}

/// Sixteen scales of six bits in twelve bytes: four low bits of each in the first eight, two high
/// ones in the rest; less 32.
fn six_bit_scales(packed: &[u8]) -> [f32; 16] {
    let (lows, highs) = packed.split_at(8);
    let lows = [0, 4]
        .into_iter()
        .flat_map(|shift| lows.iter().map(move |byte| (byte >> shift) & 0x0f));
    let highs = [0, 2, 4, 6]
        .into_iter()
        .flat_map(|shift| highs.iter().map(move |byte| (byte >> shift) & 3));
    let mut scales = [0.0; 16];
    for (scale, (four, two)) in scales.iter_mut().zip(lows.zip(highs)) {
        *scale = f32::from(four | two << 4) - 32.0;
    }
    scales
}

fn q4_k(block: &[u8; 144], values: &mut Vec<f32>) {
    let [a, b, c, d, rest @ ..] = block;
    let (scale, least) = (half([*a, *b]), half([*c, *d]));
    let (scales, quants) = rest.split_at(12);
    for ((bytes, shift), (part, low_part)) in halves(quants).zip(scales_and_minima(scales)) {
        let (scale, least) = (scale * part, least * low_part);
        let quants = bytes.iter().map(|byte| low(byte >> shift, 4));
        values.extend(quants.map(|quant| scale * quant - least));
    }
}

fn q5_k(block: &[u8; 176], values: &mut Vec<f32>) {
    let [a, b, c, d, rest @ ..] = block;
    let (scale, least) = (half([*a, *b]), half([*c, *d]));
    let (scales, rest) = rest.split_at(12);
    let (fifths, quants) = rest.split_at(32);
    let rows = halves(quants).zip(scales_and_minima(scales)).zip(0..8u8);
    for (((bytes, shift), (part, low_part)), fifth) in rows {
        let (scale, least) = (scale * part, least * low_part);
        let quants = bytes
            .iter()
            .zip(fifths)
            .map(|(byte, fifths)| f32::from((byte >> shift) & 0x0f | ((fifths >> fifth) & 1) << 4));
        values.extend(quants.map(|quant| scale * quant - least));
    }
}

/// Eight scales and eight minima of six bits, in twelve bytes: four of each whole, the high bits of
/// the others above them, the low bits of the others together.
fn scales_and_minima(packed: &[u8]) -> [(f32, f32); 8] {
    let (scales, rest) = packed.split_at(4);
    let (minima, lows) = rest.split_at(4);
    let mut all = [(0.0, 0.0); 8];
    let (first, second) = all.split_at_mut(4);
    let packed = scales.iter().zip(minima).zip(lows);
    for ((first, second), ((scale, least), lows)) in first.iter_mut().zip(second).zip(packed) {
        *first = (low(*scale, 6), low(*least, 6));
        let high = |byte: &u8| (byte >> 2) & 0x30;
        *second = (
            f32::from(lows & 0x0f | high(scale)),
            f32::from(lows >> 4 | high(least)),
        );
    }
    all
}

fn q6_k(block: &[u8; 210], values: &mut Vec<f32>) {
    let [rest @ .., a, b] = block;
    let whole = half([*a, *b]);
    // [128 bytes of low bits, 64 of high ones, 16 of scales]
    let (lows, rest) = rest.split_at(128);
    let (highs, scales) = rest.split_at(64);
    // Two rows of 32 share a shift.
    let lows = lows.chunks(64).flat_map(|bytes| {
        [0, 4]
            .into_iter()
            .flat_map(move |shift| bytes.chunks(32).map(move |bytes| (bytes, shift)))
    });
    let mut scales = scales.iter();
    for ((lows, low_shift), (highs, high_shift)) in lows.zip(quarters(highs)) {
        for (lows, highs) in lows.chunks(16).zip(highs.chunks(16)) {
            let scale = scales.next().copied().unwrap_or_default();
            let scale = whole * f32::from(scale.cast_signed());
            let quants = lows.iter().zip(highs).map(|(four, two)| {
                let six = (four >> low_shift) & 0x0f | ((two >> high_shift) & 3) << 4;
                f32::from(six) - 32.0
            });
            values.extend(quants.map(|quant| scale * quant));
        }
    }
}

/// Rows of 32 numbers of two bits: each 32 bytes hold four, one in each quarter of a byte.
fn quarters(bytes: &[u8]) -> impl Iterator<Item = (&[u8], u32)> {
    bytes
        .chunks(32)
        .flat_map(|bytes| [0, 2, 4, 6].into_iter().map(move |shift| (bytes, shift)))
}

/// Rows of 32 numbers of four bits: each 32 bytes hold two.
fn halves(bytes: &[u8]) -> impl Iterator<Item = (&[u8], u32)> {
    bytes
        .chunks(32)
        .flat_map(|bytes| [0, 4].into_iter().map(move |shift| (bytes, shift)))
}

/// The lowest `bits` of a byte as a number.
fn low(byte: u8, bits: u32) -> f32 {
    f32::from(byte & ((1 << bits) - 1))
}

/// A number of 16 bits (IEEE 754 binary16) as one of 32, exactly.
fn half(bytes: [u8; 2]) -> f32 {
    let bits = u32::from(u16::from_le_bytes(bytes));
    let (sign, exponent, fraction) = (bits >> 15, (bits >> 10) & 0x1f, bits & 0x3ff);
    let magnitude = match exponent {
        // Below the normal range: the fraction in units of 2^-24.
        0 => (fraction as f32) * f32::from_bits((127 - 24) << 23),
        0x1f => f32::from_bits(0xff << 23 | fraction << 13),
        _ => f32::from_bits((exponent + 127 - 15) << 23 | fraction << 13),
    };
    f32::from_bits(magnitude.to_bits() | sign << 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_are_exact() {
        for (bits, expected) in [
            (0x0000u16, 0.0f32),
            (0x8000, -0.0),
            (0x0001, 5.960_464_5e-8),
            (0x03ff, 6.097_555e-5),
            (0x0400, 6.103_515_6e-5),
            (0x3555, 0.333_251_95),
            (0xc000, -2.0),
            (0x7bff, 65504.0),
            (0x7c00, f32::INFINITY),
            (0xfc00, f32::NEG_INFINITY),
        ] {
            assert_eq!(
                half(bits.to_le_bytes()).to_bits(),
                expected.to_bits(),
                "{bits:#x}"
            );
        }
        assert!(half(0x7e00u16.to_le_bytes()).is_nan());
    }

    #[test]
    fn every_kind_of_block_gives_as_many_values_as_it_says() {
        for blocks in [
            Blocks::Q4_0,
            Blocks::Q4_1,
            Blocks::Q5_0,
            Blocks::Q5_1,
            Blocks::Q8_0,
            Blocks::Q2K,
            Blocks::Q3K,
            Blocks::Q4K,
            Blocks::Q5K,
            Blocks::Q6K,
        ] {
            let mut values = Vec::new();
            // One byte less than three blocks.
            let bytes = vec![0x5a; 3 * blocks.bytes() as usize - 1];
            blocks.dequantize(&bytes, &mut values);
            assert_eq!(values.len() as u64, 2 * blocks.elements(), "{blocks}");
        }
    }
}
