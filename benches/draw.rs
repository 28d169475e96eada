//! `cargo bench --bench draw`: how long drawing takes on this machine's processor (divan).
//!
//! `benches/compare.sh` sets the same work beside diffusers.

mod common;

use divan::Bencher;

fn main() {
    divan::main();
}

/// A whole picture of the model that ships: text, 20 steps with guidance, decoding.
#[divan::bench(sample_count = 10, sample_size = 1)]
fn starter_picture(bencher: Bencher) {
    match common::starter() {
        Ok(mut model) => bencher.bench_local(|| common::draw(&mut model)),
        Err(error) => eprintln!("{error}"),
    }
}

/// From the files to a model that can draw.
#[divan::bench(sample_count = 10, sample_size = 1)]
fn starter_loading() -> bool {
    common::starter().is_ok()
}

/// One call of a UNet of Stable Diffusion 1.5's size at 512 x 512 pixels, both halves of guidance.
#[divan::bench(sample_count = 5, sample_size = 1)]
fn sd15_unet_call(bencher: Bencher) {
    match common::sd15_unet() {
        Ok(unet) => bencher.bench_local(|| common::call_unet(&unet, 512)),
        Err(error) => eprintln!("{error}"),
    }
}

/// Decoding a picture of 512 x 512 pixels with a VAE of Stable Diffusion 1.5's size.
#[divan::bench(sample_count = 5, sample_size = 1)]
fn sd15_vae_decode(bencher: Bencher) {
    match common::sd15_vae() {
        Ok(vae) => bencher.bench_local(|| common::decode(&vae, 512)),
        Err(error) => eprintln!("{error}"),
    }
}
