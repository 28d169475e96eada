//! CLIP's text encoder: token ids to the states that the UNet looks at.
//!
//! Source: transformers 5.23 `models/clip/modeling_clip.py` (`CLIPTextModel`) and
//! `configuration_clip.py`; Radford et al., 2021.

use std::path::Path;

use serde_json::json;
use tch::{Device, Kind, Tensor};

use crate::error::{Error, Result};
use crate::models::layers::{
    Activation, Embedding, Fields, LayerNorm, Linear, Mask, Scope, Weights, attention, profile,
};

/// All that changes the encoder's arithmetic, from `text_encoder/config.json`.
#[derive(Clone, Debug, PartialEq)]
pub struct ClipConfig {
    pub vocab_size: i64,
    /// Width of the states.
    pub hidden_size: i64,
    pub intermediate_size: i64,
    pub num_hidden_layers: i64,
    pub num_attention_heads: i64,
    /// The longest sequence.
    pub max_position_embeddings: i64,
    pub activation: Activation,
    pub layer_norm_eps: f64,
    pub eos_token_id: i64,
    /// Width of the pooled state after the projection, in an encoder that has one.
    pub projection_dim: i64,
}

impl ClipConfig {
    /// Reads the file. Errors: [`Error::Model`] names the field and its value.
    pub fn read(path: &Path) -> Result<Self> {
        Self::from_fields(Fields::read(path)?)
    }

    /// As [`Self::read`], of text; `path` is what messages name.
    pub fn parse(path: &Path, text: &[u8]) -> Result<Self> {
        Self::from_fields(Fields::parse(path, text)?)
    }

    fn from_fields(mut fields: Fields) -> Result<Self> {
        let f = &mut fields;
        f.only("model_type", json!("clip_text_model"))?;
        f.harmless(&HARMLESS);
        let number = "a number was expected";
        let act = f.take("hidden_act", "quick_gelu".to_owned(), "a name was expected")?;
        let config = Self {
            vocab_size: f.size("vocab_size", 49408)?,
            hidden_size: f.size("hidden_size", 512)?,
            intermediate_size: f.size("intermediate_size", 2048)?,
            num_hidden_layers: f.size("num_hidden_layers", 12)?,
            num_attention_heads: f.size("num_attention_heads", 8)?,
            max_position_embeddings: f.size("max_position_embeddings", 77)?,
            activation: Activation::from_transformers(&act).ok_or_else(|| {
                f.refuse(
                    "hidden_act",
                    &act,
                    "only quick_gelu, gelu, silu and relu are",
                )
            })?,
            layer_norm_eps: f.take("layer_norm_eps", 1e-5, number)?,
            eos_token_id: f.take("eos_token_id", 49407, "a token's number was expected")?,
            projection_dim: f.size("projection_dim", 512)?,
        };
        if config.hidden_size % config.num_attention_heads != 0 {
            let why = format!("{} features cannot be divided so", config.hidden_size);
            return Err(f.refuse("num_attention_heads", config.num_attention_heads, &why));
        }
        fields.finish()?;
        Ok(config)
    }
}

/// For training, for the tokenizer, for models that write text, or notes of the library: what every config of
/// transformers may hold.
const HARMLESS: [&str; 59] = [
    "add_cross_attention",
    "architectures",
    "attention_dropout",
    "bad_words_ids",
    "begin_suppress_tokens",
    "bos_token_id",
    "chunk_size_feed_forward",
    "cross_attention_hidden_size",
    "decoder_start_token_id",
    "diversity_penalty",
    "do_sample",
    "dropout",
    "dtype",
    "early_stopping",
    "encoder_no_repeat_ngram_size",
    "exponential_decay_length_penalty",
    "finetuning_task",
    "forced_bos_token_id",
    "forced_eos_token_id",
    "id2label",
    "initializer_factor",
    "initializer_range",
    "is_decoder",
    "is_encoder_decoder",
    "label2id",
    "length_penalty",
    "max_length",
    "min_length",
    "no_repeat_ngram_size",
    "num_beam_groups",
    "num_beams",
    "num_return_sequences",
    "output_attentions",
    "output_hidden_states",
    "output_scores",
    "pad_token_id",
    "prefix",
    "problem_type",
    "pruned_heads",
    "remove_invalid_values",
    "repetition_penalty",
    "return_dict",
    "return_dict_in_generate",
    "sep_token_id",
    "suppress_tokens",
    "task_specific_params",
    "temperature",
    "tf_legacy_loss",
    "tie_encoder_decoder",
    "tie_word_embeddings",
    "tokenizer_class",
    "top_k",
    "top_p",
    "torch_dtype",
    "torchscript",
    "transformers_version",
    "typical_p",
    "use_bfloat16",
    "use_cache",
];

/// The network; see the module.
#[derive(Debug)]
pub struct CLIPTextModel {
    config: ClipConfig,
    token_embedding: Embedding,
    position_embedding: Embedding,
    layers: Vec<EncoderLayer>,
    final_layer_norm: LayerNorm,
    text_projection: Option<Linear>,
}

/// What the encoder says of a batch of texts.
#[derive(Debug)]
pub struct ClipOutput {
    /// `[batch, n, hidden_size]`, after the last norm.
    pub last_hidden_state: Tensor,
    /// Before the first layer and after each, without the last norm: `num_hidden_layers + 1` of
    /// `[batch, n, hidden_size]`.
    pub hidden_states: Vec<Tensor>,
    /// The last state at the first end-of-text token: `[batch, hidden_size]`.
    pub pooled: Tensor,
    /// The same, projected, of an encoder with a projection: `[batch, projection_dim]`.
    pub text_embeds: Option<Tensor>,
}

impl CLIPTextModel {
    /// Takes keys with and without the prefix `text_model.`.
    ///
    /// Errors: [`Error::Model`] for tensors that are missing or of another shape than `config` says.
    pub fn new(config: ClipConfig, weights: &Weights) -> Result<Self> {
        let model = Self::build(config, weights)?;
        weights.check_complete()?;
        Ok(model)
    }

    /// `CLIPTextModelWithProjection`: one more linear map, of the pooled state.
    ///
    /// Errors: as [`Self::new`].
    pub fn with_projection(config: ClipConfig, weights: &Weights) -> Result<Self> {
        let mut model = Self::build(config, weights)?;
        let scope = weights.root().child("text_projection");
        let (from, to) = (model.config.hidden_size, model.config.projection_dim);
        model.text_projection = Some(Linear::without_bias(&scope, from, to)?);
        weights.check_complete()?;
        Ok(model)
    }

    fn build(config: ClipConfig, weights: &Weights) -> Result<Self> {
        let prefixed = weights.root().child("text_model");
        let root = if prefixed.has("embeddings.token_embedding.weight") {
            prefixed
        } else {
            weights.root()
        };
        let embeddings = root.child("embeddings");
        embeddings.ignore("position_ids");
        let embedding =
            |name, count| Embedding::new(&embeddings.child(name), count, config.hidden_size);
        let layers = root.child("encoder").child("layers");
        Ok(Self {
            token_embedding: embedding("token_embedding", config.vocab_size)?,
            position_embedding: embedding("position_embedding", config.max_position_embeddings)?,
            layers: (0..config.num_hidden_layers as usize)
                .map(|index| EncoderLayer::new(&layers.index(index), &config))
                .collect::<Result<_>>()?,
            final_layer_norm: LayerNorm::new(
                &root.child("final_layer_norm"),
                config.hidden_size,
                config.layer_norm_eps,
            )?,
            text_projection: None,
            config,
        })
    }

    pub fn config(&self) -> &ClipConfig {
        &self.config
    }

    pub fn kind(&self) -> Kind {
        self.token_embedding.kind()
    }

    pub fn device(&self) -> Device {
        self.token_embedding.device()
    }

    /// `input_ids`: i64 `[batch, n]` on [`Self::device`], `n` up to `max_position_embeddings`.
    ///
    /// Errors: [`Error::Shape`]; [`Error::Request`] for a token that the model does not have.
    pub fn forward(&self, input_ids: &Tensor) -> Result<ClipOutput> {
        self.forward_with(input_ids, &[])
    }

    /// The same with other vectors than the tokens' own at some places: `vectors` holds the place and the
    /// vector, `[hidden_size]`.
    pub fn forward_with(
        &self,
        input_ids: &Tensor,
        vectors: &[(i64, Tensor)],
    ) -> Result<ClipOutput> {
        self.run(input_ids, vectors, Mask::Causal)
    }

    /// As [`Self::forward_with`], as if the tokens were not there where `seen` is false: transformers'
    /// `attention_mask`. `seen`: one a token.
    pub fn forward_masked(
        &self,
        input_ids: &Tensor,
        vectors: &[(i64, Tensor)],
        seen: &[bool],
    ) -> Result<ClipOutput> {
        let n = seen.len() as i64;
        let seen = Tensor::f_from_slice(seen)?.f_to_device(self.device())?;
        let before = Tensor::f_ones([n, n], (Kind::Bool, self.device()))?.f_tril(0)?;
        let mask = before.f_logical_and(&seen)?;
        self.run(input_ids, vectors, Mask::These(&mask))
    }

    fn run(
        &self,
        input_ids: &Tensor,
        vectors: &[(i64, Tensor)],
        mask: Mask<'_>,
    ) -> Result<ClipOutput> {
        let n = self.check_ids(input_ids)?;
        Ok(profile::part("text encoder", || {
            self.encode((input_ids, n), vectors, mask)
        }))
    }

    /// `n`: tokens.
    fn encode(
        &self,
        (input_ids, n): (&Tensor, i64),
        vectors: &[(i64, Tensor)],
        mask: Mask<'_>,
    ) -> ClipOutput {
        let tokens = self.token_embedding.forward(input_ids);
        for (at, vector) in vectors {
            tokens.select(1, *at).copy_(vector);
        }
        let mut x = tokens + self.position_embedding.first(n);
        let mut hidden_states = vec![x.shallow_clone()];
        for layer in &self.layers {
            x = layer.forward(&x, mask);
            hidden_states.push(x.shallow_clone());
        }
        let last_hidden_state = self.final_layer_norm.forward(&x);
        let pooled = self.pool(input_ids, &last_hidden_state);
        let project = |projection: &Linear| projection.forward(&pooled);
        ClipOutput {
            text_embeds: self.text_projection.as_ref().map(project),
            pooled,
            last_hidden_state,
            hidden_states,
        }
    }

    /// The states `skip` layers before the last, with the last norm: A1111's "clip skip" less one,
    /// diffusers' `clip_skip`. 0 is `last_hidden_state`.
    ///
    /// Errors: [`Error::Request`] if the model has fewer layers.
    pub fn skip_layers(&self, output: &ClipOutput, skip: usize) -> Result<Tensor> {
        if skip == 0 {
            return Ok(output.last_hidden_state.shallow_clone());
        }
        Ok(self.final_layer_norm.forward(&self.hidden(output, skip)?))
    }

    /// As [`Self::skip_layers`], without the last norm also for 0: SDXL's.
    ///
    /// Errors: [`Error::Request`] if the model has fewer layers.
    pub fn hidden(&self, output: &ClipOutput, skip: usize) -> Result<Tensor> {
        match output.hidden_states.iter().rev().nth(skip) {
            Some(state) => Ok(state.shallow_clone()),
            None => Err(Error::Request(format!(
                "The text encoder has {} layers: {skip} cannot be skipped",
                self.layers.len()
            ))),
        }
    }

    /// The number of tokens. A token out of range would stop a graphics card for good.
    fn check_ids(&self, input_ids: &Tensor) -> Result<i64> {
        let longest = self.config.max_position_embeddings;
        let got = input_ids.size();
        let n = match got.as_slice() {
            &[batch, n] if batch > 0 && n > 0 && n <= longest => n,
            _ => {
                return Err(Error::Shape {
                    what: "The text's tokens",
                    got,
                    expected: format!("[batch, up to {longest}]"),
                });
            }
        };
        let (low, high) = (
            input_ids.min().int64_value(&[]),
            input_ids.max().int64_value(&[]),
        );
        if low < 0 || high >= self.config.vocab_size {
            return Err(Error::Request(format!(
                "The tokenizer gives tokens up to {high}, but the text encoder has {} only: they do \
                 not belong together",
                self.config.vocab_size
            )));
        }
        Ok(n)
    }

    fn pool(&self, input_ids: &Tensor, last_hidden_state: &Tensor) -> Tensor {
        let position = match self.config.eos_token_id {
            // Configs of before 2023 have this wrong number; the true one is the highest.
            2 => input_ids.argmax(-1, true),
            eos => input_ids.eq(eos).to_kind(Kind::Int).argmax(-1, true),
        };
        // [batch, 1, hidden_size]
        let index = position
            .unsqueeze(-1)
            .expand([-1, -1, self.config.hidden_size], false);
        last_hidden_state.gather(1, &index, false).squeeze_dim(1)
    }
}

#[derive(Debug)]
struct EncoderLayer {
    layer_norm1: LayerNorm,
    q_proj: Linear,
    k_proj: Linear,
    v_proj: Linear,
    out_proj: Linear,
    layer_norm2: LayerNorm,
    fc1: Linear,
    fc2: Linear,
    heads: i64,
    activation: Activation,
}

impl EncoderLayer {
    fn new(scope: &Scope, config: &ClipConfig) -> Result<Self> {
        let (width, eps) = (config.hidden_size, config.layer_norm_eps);
        let (attn, mlp) = (scope.child("self_attn"), scope.child("mlp"));
        let proj = |name| Linear::new(&attn.child(name), width, width);
        Ok(Self {
            layer_norm1: LayerNorm::new(&scope.child("layer_norm1"), width, eps)?,
            q_proj: proj("q_proj")?,
            k_proj: proj("k_proj")?,
            v_proj: proj("v_proj")?,
            out_proj: proj("out_proj")?,
            layer_norm2: LayerNorm::new(&scope.child("layer_norm2"), width, eps)?,
            fc1: Linear::new(&mlp.child("fc1"), width, config.intermediate_size)?,
            fc2: Linear::new(&mlp.child("fc2"), config.intermediate_size, width)?,
            heads: config.num_attention_heads,
            activation: config.activation,
        })
    }

    fn forward(&self, x: &Tensor, mask: Mask<'_>) -> Tensor {
        let normed = self.layer_norm1.forward(x);
        let mixed = attention(
            &self.q_proj.forward(&normed),
            &self.k_proj.forward(&normed),
            &self.v_proj.forward(&normed),
            self.heads,
            mask,
        );
        let x = self.out_proj.forward(&mixed).g_add_(x);
        let hidden = self.fc1.forward(&self.layer_norm2.forward(&x));
        let hidden = self.activation.forward(hidden);
        self.fc2.forward(&hidden).g_add_(&x)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    fn parse(value: Value) -> Result<ClipConfig> {
        ClipConfig::parse(Path::new("config.json"), value.to_string().as_bytes())
    }

    #[test]
    fn stable_diffusion_1_has_clip_large() {
        let config = parse(json!({
            "_name_or_path": "openai/clip-vit-large-patch14",
            "architectures": ["CLIPTextModel"],
            "attention_dropout": 0.0,
            "bos_token_id": 0,
            "dropout": 0.0,
            "eos_token_id": 2,
            "hidden_act": "quick_gelu",
            "hidden_size": 768,
            "initializer_factor": 1.0,
            "initializer_range": 0.02,
            "is_encoder_decoder": false,
            "intermediate_size": 3072,
            "layer_norm_eps": 1e-05,
            "max_position_embeddings": 77,
            "model_type": "clip_text_model",
            "num_attention_heads": 12,
            "num_hidden_layers": 12,
            "pad_token_id": 1,
            "projection_dim": 768,
            "torch_dtype": "float32",
            "transformers_version": "4.22.0.dev0",
            "vocab_size": 49408,
        }))
        .unwrap();
        assert_eq!((config.hidden_size, config.eos_token_id), (768, 2));
        assert_eq!(config.activation, Activation::QuickGelu);
    }

    #[test]
    fn a_value_that_is_not_supported_is_named() {
        for (name, value) in [
            ("hidden_act", json!("gelu_new")),
            ("model_type", json!("t5")),
            ("num_attention_heads", json!(7)),
            ("eos_token_id", json!([1, 2])),
            ("num_key_value_heads", json!(2)),
        ] {
            let message = parse(json!({name: value})).unwrap_err().to_string();
            assert!(message.contains(&format!("`{name}`")), "{message}");
        }
    }
}
