//! What the benches share: the work that is timed, on the model that ships and on a UNet and a VAE of
//! Stable Diffusion 1.5's real size with random weights, which are written to a temporary folder once,
//! so that nothing has to be downloaded.

#![allow(clippy::disallowed_methods)] // files in the temporary folder

use std::io::{BufWriter, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};

use easel::checkpoint;
use easel::error::{Error, Result};
use easel::families::{ModelFiles, StableDiffusion};
use easel::models::layers::Weights;
use easel::models::unet::{UNet2DConditionModel, UNetConfig};
use easel::models::vae::{AutoencoderKL, VaeConfig};
use easel::pipeline::{Drawn, GenerationPlan, Watcher, generate};
use easel::request::{GenerationRequest, PictureFormat, Pixels, SamplerId, Stage};
use tch::{Device, Kind, Tensor};

/// Loads the model that ships, on the CPU in f32.
pub fn starter() -> Result<StableDiffusion> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("weights/starter");
    let folder = ModelFiles::open(&path)?;
    StableDiffusion::load(&folder, true, Device::Cpu, Kind::Float, &mut |_| ())
}

/// Draws one 64 x 64 picture in 20 steps with guidance, not enlarged.
pub fn draw(model: &mut StableDiffusion) -> Result<Pixels> {
    let request = GenerationRequest {
        prompt: "a penguin, 3d style".to_owned(),
        steps: Some(20),
        guidance_scale: Some(4.0),
        width_px: Some(64),
        height_px: Some(64),
        seed: Some(1),
        sampler: Some(SamplerId::DpmPp2m),
        ..GenerationRequest::default()
    };
    let plan = GenerationPlan::resolve(&request, model, 1, PictureFormat::Png)?;
    let mut keeper = Keeper(None);
    generate(model, &plan, None, &mut keeper)?;
    let nothing = || Error::Request("nothing was drawn".to_owned());
    keeper.0.ok_or_else(nothing)
}

/// Keeps the last picture; wants no previews.
struct Keeper(Option<Pixels>);

impl Watcher for Keeper {
    fn cancelled(&self) -> bool {
        false
    }
    fn closing(&self) -> bool {
        false
    }
    fn wants_previews(&self) -> bool {
        false
    }
    fn stage(&mut self, _batch: Range<usize>, _stage: Stage) {}
    fn step(&mut self, _batch: Range<usize>, _step: usize) {}
    fn preview(&mut self, _batch: Range<usize>, _step: usize, _pictures: Vec<Pixels>) {}
    fn drawn(&mut self, drawn: Drawn) -> Result<()> {
        self.0 = Some(drawn.pixels);
        Ok(())
    }
}

/// Loads the UNet of Stable Diffusion 1.5's size, on the CPU in f32.
pub fn sd15_unet() -> Result<UNet2DConditionModel> {
    let folder = random_folder("unet", UNET_CONFIG, sd15_unet_tensors)?;
    let config = UNetConfig::read(&folder.join("config.json"))?;
    let files = checkpoint::find_weights(&folder, "diffusion_pytorch_model")?;
    let named = checkpoint::load(&files, Device::Cpu, Kind::Float, &mut |_| ())?;
    UNet2DConditionModel::new(config, &Weights::new(named.path, named.tensors))
}

/// One call for both halves of guidance at `side` x `side` pixels.
pub fn call_unet(unet: &UNet2DConditionModel, side: i64) -> Result<Tensor> {
    let _no_grad = tch::no_grad_guard();
    let latents = pattern(&[2, 4, side / 8, side / 8]);
    unet.forward(&latents, 500.0, &pattern(&[2, 77, 768]))
}

/// Loads the VAE of Stable Diffusion 1.5's size, on the CPU in f32.
pub fn sd15_vae() -> Result<AutoencoderKL> {
    let folder = random_folder("vae", VAE_CONFIG, sd15_vae_tensors)?;
    let config = VaeConfig::read(&folder.join("config.json"))?;
    let files = checkpoint::find_weights(&folder, "diffusion_pytorch_model")?;
    let named = checkpoint::load(&files, Device::Cpu, Kind::Float, &mut |_| ())?;
    AutoencoderKL::new(config, &Weights::new(named.path, named.tensors))
}

/// Decodes one picture of `side` x `side` pixels.
pub fn decode(vae: &AutoencoderKL, side: i64) -> Result<Tensor> {
    let _no_grad = tch::no_grad_guard();
    vae.decode(&pattern(&[1, 4, side / 8, side / 8]))
}

/// UNet and VAE of Stable Diffusion 1.5's size in memory, with biases and norms random too.
#[allow(dead_code)] // for tests/real_size.rs
pub fn sd15_in_memory() -> Result<(UNet2DConditionModel, AutoencoderKL)> {
    let folder = tempfile::tempdir().map_err(|error| Error::io("Making", "", error))?;
    let config = |text: &str| {
        let path = folder.path().join("config.json");
        let written = std::fs::write(&path, text);
        written.map_err(|error| Error::io("Saving", &path, error))?;
        Ok::<_, Error>(path)
    };
    let unet = UNetConfig::read(&config(UNET_CONFIG)?)?;
    let vae = VaeConfig::read(&config(VAE_CONFIG)?)?;
    tch::manual_seed(15);
    let unet = UNet2DConditionModel::new(unet, &random_weights(sd15_unet_tensors())?)?;
    let vae = AutoencoderKL::new(vae, &random_weights(sd15_vae_tensors())?)?;
    Ok((unet, vae))
}

/// Uniform as [`write_random`] has them; biases and norms a tenth away from 0 and 1.
#[allow(dead_code)] // as above
fn random_weights(tensors: Vec<Named>) -> Result<Weights> {
    let mut named = std::collections::BTreeMap::new();
    for (key, shape) in tensors {
        let inputs: usize = shape.iter().skip(1).product();
        let (middle, scale) = match shape.len() {
            1 if key.ends_with("weight") => (1.0, 0.1),
            1 => (0.0, 0.1),
            _ => (0.0, 1.0 / (inputs as f64).sqrt()),
        };
        let size: Vec<i64> = shape.iter().map(|side| *side as i64).collect();
        let mut tensor = Tensor::f_empty(&size, (Kind::Float, Device::Cpu))?;
        named.insert(key, tensor.f_uniform_(middle - scale, middle + scale)?);
    }
    Ok(Weights::new("random", named))
}

/// `sin(0), sin(1), sin(2), ...` in f32: the same numbers as the peer's.
pub fn pattern(shape: &[i64]) -> Tensor {
    let count = shape.iter().product::<i64>();
    let numbers = Tensor::arange(count, (Kind::Double, Device::Cpu));
    numbers.sin().to_kind(Kind::Float).reshape(shape)
}

/// A tensor of the file: key and shape.
type Named = (String, Vec<usize>);

/// Channels of the four levels; the width of the time embedding and of the text states.
const CHANNELS: [usize; 4] = [320, 640, 1280, 1280];
const TIME: usize = 1280;
const TEXT: usize = 768;

/// `unet/config.json` of Stable Diffusion 1.5.
const UNET_CONFIG: &str = r#"{
  "_class_name": "UNet2DConditionModel",
  "act_fn": "silu",
  "attention_head_dim": 8,
  "block_out_channels": [320, 640, 1280, 1280],
  "center_input_sample": false,
  "cross_attention_dim": 768,
  "down_block_types": ["CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"],
  "downsample_padding": 1,
  "flip_sin_to_cos": true,
  "freq_shift": 0,
  "in_channels": 4,
  "layers_per_block": 2,
  "mid_block_scale_factor": 1,
  "norm_eps": 1e-05,
  "norm_num_groups": 32,
  "out_channels": 4,
  "sample_size": 64,
  "up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"]
}
"#;

/// `vae/config.json` of Stable Diffusion 1.5.
const VAE_CONFIG: &str = r#"{
  "_class_name": "AutoencoderKL",
  "act_fn": "silu",
  "block_out_channels": [128, 256, 512, 512],
  "down_block_types": ["DownEncoderBlock2D", "DownEncoderBlock2D", "DownEncoderBlock2D", "DownEncoderBlock2D"],
  "in_channels": 3,
  "latent_channels": 4,
  "layers_per_block": 2,
  "norm_num_groups": 32,
  "out_channels": 3,
  "sample_size": 512,
  "scaling_factor": 0.18215,
  "up_block_types": ["UpDecoderBlock2D", "UpDecoderBlock2D", "UpDecoderBlock2D", "UpDecoderBlock2D"]
}
"#;

/// The folder of a network of Stable Diffusion 1.5's size (the UNet: 860 million weights, f32, 3.4 GB):
/// made in the system's temporary folder where it is not there yet.
fn random_folder(name: &str, config: &str, tensors: fn() -> Vec<Named>) -> Result<PathBuf> {
    let folder = std::env::temp_dir().join("easel-bench-sd15").join(name);
    let made = make_random_folder(&folder, config, tensors);
    made.map_err(|error| Error::io("Saving", &folder, error))?;
    Ok(folder)
}

fn make_random_folder(
    folder: &Path,
    config: &str,
    tensors: fn() -> Vec<Named>,
) -> std::io::Result<()> {
    let weights = folder.join("diffusion_pytorch_model.safetensors");
    if weights.exists() {
        return Ok(());
    }
    std::fs::create_dir_all(folder)?;
    std::fs::write(folder.join("config.json"), config)?;
    let partial = folder.join("partial.safetensors");
    write_random(&partial, &tensors())?;
    std::fs::rename(&partial, &weights)
}

/// Every tensor of the VAE.
fn sd15_vae_tensors() -> Vec<Named> {
    let mut tensors = Vec::new();
    let all = &mut tensors;
    conv(all, "encoder.conv_in", 3, 128, 3);
    let mut before = 128;
    for (level, channels) in [128, 256, 512, 512].into_iter().enumerate() {
        let block = format!("encoder.down_blocks.{level}");
        for layer in 0..2 {
            vae_resnet(all, &format!("{block}.resnets.{layer}"), before, channels);
            before = channels;
        }
        if level < 3 {
            let name = format!("{block}.downsamplers.0.conv");
            conv(all, &name, channels, channels, 3);
        }
    }
    vae_ends(all, "encoder", 512, 8);
    conv(all, "decoder.conv_in", 4, 512, 3);
    for (level, channels) in [512, 512, 256, 128].into_iter().enumerate() {
        let block = format!("decoder.up_blocks.{level}");
        for layer in 0..3 {
            vae_resnet(all, &format!("{block}.resnets.{layer}"), before, channels);
            before = channels;
        }
        if level < 3 {
            let name = format!("{block}.upsamplers.0.conv");
            conv(all, &name, channels, channels, 3);
        }
    }
    vae_ends(all, "decoder", 128, 3);
    conv(all, "quant_conv", 8, 8, 1);
    conv(all, "post_quant_conv", 4, 4, 1);
    tensors
}

/// The middle of a half, and its end.
fn vae_ends(all: &mut Vec<Named>, half: &str, last: usize, out: usize) {
    let middle = format!("{half}.mid_block");
    vae_resnet(all, &format!("{middle}.resnets.0"), 512, 512);
    norm(all, &format!("{middle}.attentions.0.group_norm"), 512);
    for part in ["to_q", "to_k", "to_v", "to_out.0"] {
        linear(all, &format!("{middle}.attentions.0.{part}"), 512, 512);
    }
    vae_resnet(all, &format!("{middle}.resnets.1"), 512, 512);
    norm(all, &format!("{half}.conv_norm_out"), last);
    conv(all, &format!("{half}.conv_out"), last, out, 3);
}

fn vae_resnet(all: &mut Vec<Named>, name: &str, from: usize, to: usize) {
    norm(all, &format!("{name}.norm1"), from);
    conv(all, &format!("{name}.conv1"), from, to, 3);
    norm(all, &format!("{name}.norm2"), to);
    conv(all, &format!("{name}.conv2"), to, to, 3);
    if from != to {
        conv(all, &format!("{name}.conv_shortcut"), from, to, 1);
    }
}

/// Every tensor of the UNet, in the order of the checkpoint.
fn sd15_unet_tensors() -> Vec<Named> {
    let mut tensors = Vec::new();
    let all = &mut tensors;
    conv(all, "conv_in", 4, 320, 3);
    linear(all, "time_embedding.linear_1", 320, TIME);
    linear(all, "time_embedding.linear_2", TIME, TIME);
    let mut skips = vec![320];
    let mut before = 320;
    for (level, channels) in CHANNELS.into_iter().enumerate() {
        let block = format!("down_blocks.{level}");
        for layer in 0..2 {
            resnet(all, &format!("{block}.resnets.{layer}"), before, channels);
            if level < 3 {
                transformer(all, &format!("{block}.attentions.{layer}"), channels);
            }
            before = channels;
            skips.push(channels);
        }
        if level < 3 {
            conv(
                all,
                &format!("{block}.downsamplers.0.conv"),
                channels,
                channels,
                3,
            );
            skips.push(channels);
        }
    }
    resnet(all, "mid_block.resnets.0", before, before);
    transformer(all, "mid_block.attentions.0", before);
    resnet(all, "mid_block.resnets.1", before, before);
    for (level, channels) in CHANNELS.into_iter().rev().enumerate() {
        let block = format!("up_blocks.{level}");
        for layer in 0..3 {
            let skip = skips.pop().unwrap_or(channels);
            resnet(
                all,
                &format!("{block}.resnets.{layer}"),
                before + skip,
                channels,
            );
            if level > 0 {
                transformer(all, &format!("{block}.attentions.{layer}"), channels);
            }
            before = channels;
        }
        if level < 3 {
            conv(
                all,
                &format!("{block}.upsamplers.0.conv"),
                channels,
                channels,
                3,
            );
        }
    }
    norm(all, "conv_norm_out", 320);
    conv(all, "conv_out", 320, 4, 3);
    tensors
}

fn resnet(all: &mut Vec<Named>, name: &str, from: usize, to: usize) {
    norm(all, &format!("{name}.norm1"), from);
    conv(all, &format!("{name}.conv1"), from, to, 3);
    linear(all, &format!("{name}.time_emb_proj"), TIME, to);
    norm(all, &format!("{name}.norm2"), to);
    conv(all, &format!("{name}.conv2"), to, to, 3);
    if from != to {
        conv(all, &format!("{name}.conv_shortcut"), from, to, 1);
    }
}

fn transformer(all: &mut Vec<Named>, name: &str, channels: usize) {
    norm(all, &format!("{name}.norm"), channels);
    conv(all, &format!("{name}.proj_in"), channels, channels, 1);
    let block = format!("{name}.transformer_blocks.0");
    for (attention, keys) in [("attn1", channels), ("attn2", TEXT)] {
        for (part, from) in [("to_q", channels), ("to_k", keys), ("to_v", keys)] {
            all.push((
                format!("{block}.{attention}.{part}.weight"),
                vec![channels, from],
            ));
        }
        linear(
            all,
            &format!("{block}.{attention}.to_out.0"),
            channels,
            channels,
        );
    }
    linear(
        all,
        &format!("{block}.ff.net.0.proj"),
        channels,
        8 * channels,
    );
    linear(all, &format!("{block}.ff.net.2"), 4 * channels, channels);
    for layer in ["norm1", "norm2", "norm3"] {
        norm(all, &format!("{block}.{layer}"), channels);
    }
    conv(all, &format!("{name}.proj_out"), channels, channels, 1);
}

fn conv(all: &mut Vec<Named>, name: &str, from: usize, to: usize, size: usize) {
    all.push((format!("{name}.weight"), vec![to, from, size, size]));
    all.push((format!("{name}.bias"), vec![to]));
}

fn linear(all: &mut Vec<Named>, name: &str, from: usize, to: usize) {
    all.push((format!("{name}.weight"), vec![to, from]));
    all.push((format!("{name}.bias"), vec![to]));
}

fn norm(all: &mut Vec<Named>, name: &str, channels: usize) {
    all.push((format!("{name}.weight"), vec![channels]));
    all.push((format!("{name}.bias"), vec![channels]));
}

/// Writes a safetensors file: weights uniform in `±1/sqrt(inputs)` as fresh layers have them, biases 0,
/// norms 1, so that nothing overflows.
fn write_random(path: &Path, tensors: &[Named]) -> std::io::Result<()> {
    let mut header = String::from("{\"__metadata__\":{\"format\":\"pt\"}");
    let mut end = 0usize;
    for (key, shape) in tensors {
        let begin = end;
        end += 4 * shape.iter().product::<usize>();
        header += &format!(
            ",\"{key}\":{{\"dtype\":\"F32\",\"shape\":{shape:?},\"data_offsets\":[{begin},{end}]}}"
        );
    }
    header.push('}');
    while header.len() % 8 != 0 {
        header.push(' ');
    }
    let mut out = BufWriter::with_capacity(1 << 20, std::fs::File::create(path)?);
    out.write_all(&(header.len() as u64).to_le_bytes())?;
    out.write_all(header.as_bytes())?;
    let mut random = 0x2545_f491_4f6c_dd1du64;
    for (key, shape) in tensors {
        let inputs: usize = shape.iter().skip(1).product();
        let scale = 1.0 / (inputs as f32).sqrt();
        for _ in 0..shape.iter().product::<usize>() {
            let value = if shape.len() == 1 {
                if key.ends_with("weight") { 1.0 } else { 0.0 }
            } else {
                random ^= random << 13;
                random ^= random >> 7;
                random ^= random << 17;
                ((random >> 40) as f32 / (1u64 << 23) as f32 - 1.0) * scale
            };
            out.write_all(&value.to_le_bytes())?;
        }
    }
    out.flush()
}
