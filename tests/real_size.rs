//! The fast arithmetic beside libtorch's own on networks of Stable Diffusion 1.5's real size: channels,
//! depth and heads are the checkpoint's, the weights random.
//!
//! Compared: one call of the UNet for both halves of guidance, the latents after 20 steps of DDIM with
//! guidance 7.5, and the picture that the VAE decodes from them. The latents are 16 x 16, so that it
//! ends in two minutes on two cores; `EASEL_REAL_SIDE=64` takes pictures of 512 x 512.
//!
//! The difference is that of rounding: Winograd's tiles (3e-6 a convolution), and sums in another order.
//! Measured: 2.7e-6 in the UNet, 3.5e-6 in the latents, no value of the picture 1/255 away; at 512 x 512
//! 6.8e-6 and 9.6e-6, and again no value.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods
)]

#[allow(dead_code)] // The benches use the rest.
#[path = "../benches/common/mod.rs"]
mod benches;

use easel::models::layers::Exactly;
use easel::models::unet::UNet2DConditionModel;
use easel::models::vae::AutoencoderKL;
use tch::{Kind, Tensor};

const GUIDANCE: f64 = 7.5;
const STEPS: i64 = 20;
const SCALING_FACTOR: f64 = 0.18215;

/// What both ways draw.
struct Drawing {
    predicted: Tensor,
    latents: Tensor,
    picture: Tensor,
}

impl Drawing {
    fn new(unet: &UNet2DConditionModel, vae: &AutoencoderKL, side: i64) -> Self {
        let text = benches::pattern(&[2, 77, 768]);
        let predict = |x: &Tensor, timestep: i64| {
            let both = Tensor::cat(&[x, x], 0);
            unet.forward(&both, timestep as f64, &text).unwrap()
        };
        let mut x = benches::pattern(&[1, 4, side, side]) * 1.4;
        let predicted = predict(&x, 981);
        let stride = 1000 / STEPS;
        for step in (0..STEPS).rev() {
            let timestep = step * stride + 1;
            let halves = predict(&x, timestep);
            let (with, without) = (halves.narrow(0, 0, 1), halves.narrow(0, 1, 1));
            let epsilon = &without + (with - &without) * GUIDANCE;
            let (now, next) = (kept(timestep), kept(timestep - stride));
            let denoised = (x - &epsilon * (1.0 - now).sqrt()) / now.sqrt();
            x = denoised * next.sqrt() + epsilon * (1.0 - next).sqrt();
        }
        let picture = vae.decode(&(&x / SCALING_FACTOR)).unwrap();
        Self {
            predicted,
            latents: x,
            picture: (picture / 2.0 + 0.5).clamp(0.0, 1.0),
        }
    }
}

/// The share of the picture's variance that is left at a timestep (scaled linear betas).
fn kept(timestep: i64) -> f64 {
    let beta = |t: i64| {
        let (first, last) = (0.00085f64.sqrt(), 0.012f64.sqrt());
        (first + (last - first) * t as f64 / 999.0).powi(2)
    };
    (0..=timestep.max(0)).map(|t| 1.0 - beta(t)).product()
}

/// The largest difference, as a share of the largest value.
fn difference(got: &Tensor, exact: &Tensor) -> f64 {
    ((got - exact).abs().max() / exact.abs().max()).double_value(&[])
}

#[test]
fn at_stable_diffusions_real_size_both_ways_draw_the_same() {
    let side = std::env::var("EASEL_REAL_SIDE").map_or(16, |side| side.parse().unwrap());
    let (unet, vae) = benches::sd15_in_memory().unwrap();
    let _no_grad = tch::no_grad_guard();
    let fast = Drawing::new(&unet, &vae, side);
    let exact = {
        let _exactly = Exactly::when(true);
        Drawing::new(&unet, &vae, side)
    };
    let [predicted, latents] = [
        difference(&fast.predicted, &exact.predicted),
        difference(&fast.latents, &exact.latents),
    ];
    let step = (&fast.picture - &exact.picture).abs().le(1.0 / 255.0);
    let same = step.to_kind(Kind::Double).mean(None).double_value(&[]);
    let spread = exact.picture.std(false).double_value(&[]);
    println!("UNet {predicted:e}, latents {latents:e}, picture {same}, its spread {spread}");
    assert!(predicted > 0.0, "libtorch computed both");
    assert!(predicted <= 1e-4, "UNet: {predicted:e}");
    assert!(latents <= 1e-3, "latents: {latents:e}");
    assert!(spread > 0.01, "a picture of one colour: {spread}");
    assert!(same >= 0.999, "picture: {same}");
}
