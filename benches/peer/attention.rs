//! Attention in the shapes of Stable Diffusion 1.5's UNet at 512 x 512: by Easel's kernel, by libtorch as
//! `--exact` calls it, and in plain operators with the whole matrix of scores in memory.
//!
//! libtorch chooses between the last two ways by itself. That it takes the one in pieces ("flash
//! attention") is asserted, of speed and of memory.

use std::io::Write;
use std::time::Instant;

use easel::error::{Error, Result};
use easel::models::layers::{Mask, attention};
use easel::pipeline::Exactly;
use tch::{Kind, Tensor};

use crate::{common, memory_mb};

/// How much faster than plain operators both ways must be where there are many pixels.
const FASTER: f64 = 1.3;
/// Of a call over 4096 pixels; its scores alone would be 1074 MB.
const MEMORY_MB: u64 = 100;

const BATCH: i64 = 2;
const HEADS: i64 = 8;

struct Shape {
    name: &'static str,
    queries: i64,
    keys: i64,
    head_dim: i64,
    /// Whether plain operators are so much slower there that it must be seen.
    large: bool,
}

const SHAPES: [Shape; 3] = [
    Shape {
        name: "4096 pixels with each other, 8 heads of 40",
        queries: 4096,
        keys: 4096,
        head_dim: 40,
        large: true,
    },
    Shape {
        name: "1024 pixels with each other, 8 heads of 80",
        queries: 1024,
        keys: 1024,
        head_dim: 80,
        large: false,
    },
    Shape {
        name: "4096 pixels with 77 tokens, 8 heads of 40",
        queries: 4096,
        keys: 77,
        head_dim: 40,
        large: false,
    },
];

/// One line: GFLOP/s by shape and way. An error where a way is not what it should be.
pub fn attention_speeds() -> Result<()> {
    let _no_grad = tch::no_grad_guard();
    let mut lines = Vec::new();
    for shape in &SHAPES {
        let [easel, exact, plain] = shape.measure()?;
        for (who, way) in [("Easel's kernel", &easel), ("libtorch's", &exact)] {
            shape.check(who, way, &plain)?;
        }
        let speeds = [("easel", easel), ("exact", exact), ("plain", plain)]
            .map(|(who, way)| format!("\"{who}\": {:.1}", shape.gflops(&way)));
        lines.push(format!("\"{}\": {{{}}}", shape.name, speeds.join(", ")));
    }
    println!("{{{}}}", lines.join(", "));
    Ok(())
}

impl Shape {
    /// By Easel's kernel, by libtorch as `--exact` has it, and in plain operators.
    fn measure(&self) -> Result<[Measured; 3]> {
        let width = HEADS * self.head_dim;
        let query = common::pattern(&[BATCH, self.queries, width]);
        let key = common::pattern(&[BATCH, self.keys, width]) * 0.5;
        let value = common::pattern(&[BATCH, self.keys, width]) * 2.0;
        let easel = || attention(&query, &key, &value, HEADS, Mask::Nothing);
        let exact = || {
            let _exactly = Exactly::when(true);
            easel()
        };
        let plain = || plain(&query, &key, &value);
        let expected = plain();
        Ok([
            measure(easel, &expected)?,
            measure(exact, &expected)?,
            measure(plain, &expected)?,
        ])
    }

    /// Where there are many pixels: that a way is the fast one, and keeps no matrix of scores.
    fn check(&self, who: &str, way: &Measured, plain: &Measured) -> Result<()> {
        let (speed, plain) = (self.gflops(way), self.gflops(plain));
        let wrong = if !self.large {
            return Ok(());
        } else if way.grown_mb > MEMORY_MB {
            let grown = way.grown_mb;
            format!("took {grown} MB, not under {MEMORY_MB}: it keeps all scores")
        } else if speed < FASTER * plain {
            format!("{speed:.1} GFLOP/s, not {FASTER} times the {plain:.1} of plain operators")
        } else {
            return Ok(());
        };
        let name = self.name;
        Err(Error::Request(format!("{who} attention, {name}: {wrong}")))
    }

    fn gflops(&self, way: &Measured) -> f64 {
        // Both products.
        4e-9 * (BATCH * HEADS * self.queries * self.keys * self.head_dim) as f64 / way.seconds
    }
}

/// `softmax(q k^T / sqrt(d)) v` as it is written.
fn plain(query: &Tensor, key: &Tensor, value: &Tensor) -> Tensor {
    // [batch, heads, tokens, head_dim]
    let split = |x: &Tensor| x.unflatten(-1, [HEADS, -1]).transpose(1, 2);
    let (query, key, value) = (split(query), split(key), split(value));
    let head_dim = query.size().last().copied().unwrap_or(1);
    let scores = (query / (head_dim as f64).sqrt()).matmul(&key.transpose(-2, -1));
    let mixed = scores.softmax(-1, Kind::Float).matmul(&value);
    mixed.transpose(1, 2).flatten(2, 3)
}

struct Measured {
    /// The median.
    seconds: f64,
    /// Memory at its largest within the first call, beyond what there was before.
    grown_mb: u64,
}

fn measure(work: impl Fn() -> Tensor, expected: &Tensor) -> Result<Measured> {
    let before_mb = forget_peak()?;
    let got = work();
    let grown_mb = memory_mb("self", "VmHWM:").saturating_sub(before_mb);
    let apart = ((got - expected).abs().max() / expected.abs().max()).double_value(&[]);
    if apart.is_nan() || apart > 1e-4 {
        return Err(Error::Request(format!("another result: {apart:e} away")));
    }
    let mut times = Vec::new();
    for _ in 0..7 {
        let begin = Instant::now();
        drop(work());
        times.push(begin.elapsed().as_secs_f64());
    }
    times.sort_by(f64::total_cmp);
    let seconds = times.get(times.len() / 2).copied().unwrap_or_default();
    Ok(Measured { seconds, grown_mb })
}

/// Makes the largest memory so far that of now, MB.
fn forget_peak() -> Result<u64> {
    let path = "/proc/self/clear_refs";
    let file = std::fs::OpenOptions::new().write(true).open(path);
    file.and_then(|mut file| file.write_all(b"5"))
        .map_err(|error| Error::io("Writing", path, error))?;
    Ok(memory_mb("self", "VmHWM:"))
}
