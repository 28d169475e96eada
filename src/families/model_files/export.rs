//! A model on disk as files that are to be written: its tensors, read one at a time, and the configs of
//! diffusers' layout.
//!
//! Source: diffusers 0.42.1 `pipelines/pipeline_utils.py` (`save_pretrained`), `loaders/single_file.py`.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Value, json};
use tch::Tensor;

use super::ldm_out::{self, Assembled, How};
use super::single_file::{Generation, LCM_SCHEDULER, SingleFile};
use super::{Layout, ModelFiles, Source, read};
use crate::checkpoint::{Cut, Dtype, TensorFiles, TensorHeader};
use crate::error::{Error, Result};
use crate::families::{Family, Part};
use crate::models::unet::UNetConfig;
use crate::models::vae::VaeConfig;
use crate::text::clip::ClipConfig;
use crate::text::clip_vocabulary;
use crate::text::tokenizer::ClipPad;

/// The version of diffusers whose layout is written.
const DIFFUSERS: &str = "0.42.1";

/// The tensors of one network under diffusers' names, on disk until one is asked for.
pub struct PartTensors {
    files: TensorFiles,
    headers: Vec<TensorHeader>,
    /// Of each name: which stored tensor, and which part of it; and its place among the headers.
    places: BTreeMap<String, Place>,
}

impl PartTensors {
    /// What there is to read.
    pub fn headers(&self) -> &[TensorHeader] {
        &self.headers
    }

    /// One tensor, in the type that it is stored in and the shape that diffusers has; numbers in blocks
    /// come as f32.
    ///
    /// Errors: [`Error::Tensor`] for a name that is not among the headers; as `checkpoint::load`.
    pub fn read(&self, name: &str) -> Result<Tensor> {
        let place = self.places.get(name).ok_or_else(|| Error::Tensor {
            name: name.to_owned(),
            why: "is missing".to_owned(),
        })?;
        let tensor = self.files.read_apart(place.stored, place.cut)?;
        Ok(match self.headers.get(place.header) {
            Some(header) => tensor.f_reshape(&header.shape)?,
            None => tensor,
        })
    }

    /// What is known of a tensor without reading it.
    pub fn header(&self, name: &str) -> Option<&TensorHeader> {
        self.headers.get(self.places.get(name)?.header)
    }

    /// One tensor of a single file, put together.
    ///
    /// Errors: as [`PartTensors::read`].
    pub fn assemble(&self, wanted: &Assembled) -> Result<Tensor> {
        let parts = wanted.from.iter().map(|name| self.read(name));
        let mut parts = parts.collect::<Result<Vec<_>>>()?;
        Ok(match (wanted.how, parts.pop()) {
            (How::Transposed, Some(one)) => one.f_transpose(0, 1)?,
            (How::Same, Some(one)) => one.f_reshape(&wanted.shape)?,
            (How::Rows, Some(last)) => {
                parts.push(last);
                Tensor::f_cat(&parts, 0)?
            }
            (_, None) => Tensor::f_zeros(&wanted.shape, (tch::Kind::Float, tch::Device::Cpu))?,
        })
    }
}

#[derive(Clone, Copy)]
struct Place {
    stored: usize,
    cut: Cut,
    header: usize,
}

/// A small file of a model's folder.
pub struct ConfigFile {
    /// Below the folder: `unet/config.json`.
    pub path: String,
    pub text: String,
}

impl ModelFiles {
    /// The tensors of one network.
    ///
    /// Errors: as [`crate::checkpoint::headers`].
    pub fn tensors(&self, part: Part) -> Result<PartTensors> {
        let files = TensorFiles::open(&self.files(part)?)?;
        let (mut headers, mut places) = (Vec::new(), BTreeMap::new());
        for (index, stored) in files.headers().enumerate() {
            for piece in self.pieces(part, &stored.name) {
                let mut header = super::single_file::cut(stored, &piece);
                // Attention of the VAE: a convolution in single files, a linear map in diffusers.
                if let (Part::Vae, true, &[out, into, 1, 1]) = (
                    part,
                    header.name.contains(".attentions."),
                    header.shape.as_slice(),
                ) {
                    header.shape = vec![out, into];
                }
                let place = Place {
                    stored: index,
                    cut: piece.cut,
                    header: headers.len(),
                };
                if places.insert(piece.name, place).is_some() {
                    let why = format!("its tensor {} comes twice", header.name);
                    return Err(Error::model(&self.path, why));
                }
                headers.push(header);
            }
        }
        Ok(PartTensors {
            files,
            headers,
            places,
        })
    }

    /// All tensors of a single file in latent-diffusion's layout, by the networks they come from. `to`
    /// is where the file will be.
    ///
    /// Errors: [`Error::Model`] naming a tensor that has no name in such files, or what of the model
    /// such a file cannot tell: its configs are read off its shapes.
    pub fn single_file(&self, to: &Path) -> Result<Vec<(PartTensors, Vec<Assembled>)>> {
        let parts = self.parts().into_iter();
        let parts: Vec<(Part, PartTensors)> = parts
            .map(|part| Ok((part, self.tensors(part)?)))
            .collect::<Result<_>>()?;
        let generations: &[Generation] = match self.family {
            Family::StableDiffusion1 => &[Generation::One],
            Family::StableDiffusion2 => &[Generation::Two],
            Family::StableDiffusion => &[Generation::One, Generation::Two],
            Family::Xl => &[Generation::Xl],
            Family::XlRefiner => &[Generation::XlRefiner],
        };
        let mut refusal = None;
        for generation in generations {
            match self.assembled(*generation, &parts, to) {
                Ok(all) => {
                    let tensors = parts.into_iter().map(|(_, tensors)| tensors);
                    return Ok(tensors.zip(all).collect());
                }
                Err(error) => refusal = refusal.or(Some(error)),
            }
        }
        Err(refusal.unwrap_or_else(|| Error::model(&self.path, "it is of no known family")))
    }

    /// As a file of this generation, which would be read as this model.
    fn assembled(
        &self,
        generation: Generation,
        parts: &[(Part, PartTensors)],
        to: &Path,
    ) -> Result<Vec<Vec<Assembled>>> {
        let refused = |why: String| {
            Error::model(
                &self.path,
                format!("{why}; write a folder instead (a name without .safetensors)"),
            )
        };
        let (mut all, mut headers) = (Vec::new(), Vec::new());
        for (part, tensors) in parts {
            let of_part = ldm_out::assembled(generation, *part, tensors.headers());
            let of_part = of_part.map_err(|name| {
                refused(format!("single files have no name for its tensor {name}"))
            })?;
            headers.extend(of_part.iter().map(|assembled| TensorHeader {
                name: assembled.name.clone(),
                shape: assembled.shape.clone(),
                dtype: Dtype::F32.into(),
                bytes: 0,
            }));
            all.push(of_part);
        }
        let single = SingleFile::of(to, headers, generation)?;
        let differs = |what: &str| {
            refused(format!(
                "single files cannot tell the settings of its {what}, which are not the usual ones"
            ))
        };
        let unet = UNetConfig {
            sample_size: self.unet.sample_size,
            ..single.unet()?
        };
        if unet != self.unet {
            return Err(differs("UNet"));
        }
        // Whether it is decoded in f32 is a precaution.
        let vae = VaeConfig {
            force_upcast: self.vae.force_upcast,
            ..single.vae()?
        };
        if vae != self.vae {
            return Err(differs("VAE"));
        }
        for (part, config) in &self.text_encoders {
            let told = single.text_encoder(*part)?;
            let told = ClipConfig {
                // transformers reads 2, which old configs have, as the same marker.
                eos_token_id: config.eos_token_id,
                projection_dim: match part {
                    Part::TextEncoder2 => told.projection_dim,
                    Part::TextEncoder | Part::Unet | Part::Vae => config.projection_dim,
                },
                ..told
            };
            if told != *config {
                return Err(differs(part.words()));
            }
        }
        Ok(all)
    }

    /// Everything of a folder in diffusers' layout but the weights.
    ///
    /// Errors: [`Error::Model`], [`Error::Io`] for a config that cannot be read.
    pub fn config_files(&self) -> Result<Vec<ConfigFile>> {
        let mut files = vec![
            file("model_index.json", &self.index()?),
            file("scheduler/scheduler_config.json", &self.scheduler_json()?),
        ];
        for part in self.parts() {
            files.push(file(
                &format!("{}/config.json", part.name()),
                &self.config_json(part)?,
            ));
        }
        for part in self.text_encoders.keys() {
            self.add_tokenizer(*part, &mut files)?;
        }
        if let Layout::Folder = self.layout
            && let Some(easel) = text_of(&self.path.join("easel.json"))?
        {
            files.push(ConfigFile {
                path: "easel.json".to_owned(),
                text: easel,
            });
        }
        Ok(files)
    }

    fn index(&self) -> Result<Value> {
        if let Layout::Folder = self.layout {
            return value(&self.path.join("model_index.json"));
        }
        let class = match (
            self.family,
            self.unet.in_channels - self.vae.latent_channels,
        ) {
            (Family::Xl, 0) => "StableDiffusionXLPipeline",
            (Family::XlRefiner, _) => "StableDiffusionXLImg2ImgPipeline",
            (Family::Xl, 5) => "StableDiffusionXLInpaintPipeline",
            (Family::Xl, _) => "StableDiffusionXLInstructPix2PixPipeline",
            (_, 0) => "StableDiffusionPipeline",
            (_, 5) => "StableDiffusionInpaintPipeline",
            _ => "StableDiffusionInstructPix2PixPipeline",
        };
        let scheduler = self.scheduler_json()?;
        let mut index = json!({
            "_class_name": class,
            "_diffusers_version": DIFFUSERS,
            "scheduler": ["diffusers", scheduler["_class_name"]],
        });
        let entry = |part: Part| match part {
            Part::Unet | Part::Vae => json!(["diffusers", part.class()]),
            Part::TextEncoder | Part::TextEncoder2 => json!(["transformers", part.class()]),
        };
        for part in self.parts() {
            index[part.name()] = entry(part);
        }
        for part in self.text_encoders.keys() {
            index[part.tokenizer_folder()] = json!(["transformers", "CLIPTokenizer"]);
        }
        if self.unet.added.is_some() {
            index["force_zeros_for_empty_prompt"] = json!(self.zeros_for_empty_prompt);
        } else {
            index["safety_checker"] = json!([null, null]);
            index["feature_extractor"] = json!([null, null]);
            index["requires_safety_checker"] = json!(false);
        }
        // The refiner has no first one.
        let first = Part::TextEncoder;
        if !self.text_encoders.contains_key(&first) {
            index[first.name()] = json!([null, null]);
            index[first.tokenizer_folder()] = json!([null, null]);
        }
        Ok(index)
    }

    fn scheduler_json(&self) -> Result<Value> {
        let mut config = match &self.layout {
            Layout::Folder => value(&self.path.join("scheduler/scheduler_config.json"))?,
            Layout::SingleFile(single) => {
                let mut config = single.scheduler_json();
                config["_diffusers_version"] = json!(DIFFUSERS);
                config
            }
        };
        if let Some(unet) = &self.other_unet {
            config["prediction_type"] = json!(self.scheduler.prediction_type.name());
            if unet.training.zero_snr {
                config["rescale_betas_zero_snr"] = json!(true);
                config["timestep_spacing"] = json!("trailing");
            }
            if self.unet.time_cond_proj_dim.is_some() {
                config["_class_name"] = json!(LCM_SCHEDULER);
                config["set_alpha_to_one"] = json!(true);
            }
        }
        Ok(config)
    }

    fn config_json(&self, part: Part) -> Result<Value> {
        let mut config = match (self.source(part), part) {
            (Source::Unet(other), _) => other.json.clone(),
            (Source::Vae(other), _) => other.json(&self.vae)?,
            (Source::Folder, _) => value(&self.path.join(part.name()).join("config.json"))?,
            (Source::SingleFile(single), Part::Unet) => single.unet_json(),
            (Source::SingleFile(single), Part::Vae) => single.vae_json(),
            (Source::SingleFile(single), Part::TextEncoder | Part::TextEncoder2) => {
                single.text_encoder_json(part)
            }
        };
        match part {
            Part::Unet | Part::Vae => {
                config["_class_name"] = json!(part.class());
                config["_diffusers_version"] = json!(DIFFUSERS);
            }
            Part::TextEncoder | Part::TextEncoder2 => {
                config["architectures"] = json!([part.class()]);
                config["model_type"] = json!("clip_text_model");
            }
        }
        Ok(config)
    }

    fn add_tokenizer(&self, part: Part, files: &mut Vec<ConfigFile>) -> Result<()> {
        const NAMES: [&str; 5] = [
            "tokenizer.json",
            "vocab.json",
            "merges.txt",
            "tokenizer_config.json",
            "special_tokens_map.json",
        ];
        let folder = part.tokenizer_folder();
        let mut add = |name: &str, text: String| {
            files.push(ConfigFile {
                path: format!("{folder}/{name}"),
                text,
            });
        };
        match &self.layout {
            Layout::Folder => {
                for name in NAMES {
                    if let Some(text) = text_of(&self.path.join(folder).join(name))? {
                        add(name, text);
                    }
                }
            }
            Layout::SingleFile(single) => {
                let length = self.longest_text();
                for (name, text) in
                    clip_vocabulary::files(length, single.generation.pad(part) == ClipPad::Zero)
                {
                    add(name, text);
                }
            }
        }
        Ok(())
    }
}

fn file(path: &str, value: &Value) -> ConfigFile {
    ConfigFile {
        path: path.to_owned(),
        text: format!("{value:#}\n"),
    }
}

fn value(path: &Path) -> Result<Value> {
    super::from_json(path)
}

/// `None` where there is no such file.
fn text_of(path: &Path) -> Result<Option<String>> {
    path.is_file().then(|| read(path)).transpose()
}
