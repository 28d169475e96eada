//! The UNet's `config.json`, resolved into what each block is.
//!
//! Source of fields, defaults and quirks: diffusers `unet_2d_condition.py`, 0.42.1.

use std::path::Path;

use serde::Deserialize;
use serde_json::json;

use crate::error::Result;
use crate::models::layers::{Activation, Fields, PerBlock, TimeScaleShift};

/// All that changes the UNet's arithmetic.
#[derive(Clone, Debug, PartialEq)]
pub struct UNetConfig {
    pub in_channels: i64,
    pub out_channels: i64,
    /// Height and width of the latents it was trained on, where the file says so.
    pub sample_size: Option<[i64; 2]>,
    /// Width of the text's state.
    pub cross_attention_dim: i64,
    pub center_input_sample: bool,
    pub flip_sin_to_cos: bool,
    pub freq_shift: f64,
    pub time_embed_dim: i64,
    /// Width of the embedded guidance scale that a distilled network takes, where it takes one.
    pub time_cond_proj_dim: Option<i64>,
    /// What is added to the time embedding, where something is: SDXL.
    pub added: Option<AddedSpec>,
    pub activation: Activation,
    pub norm_num_groups: i64,
    pub norm_eps: f64,
    pub time_scale_shift: TimeScaleShift,
    pub conv_in_kernel: i64,
    pub conv_out_kernel: i64,
    pub downsample_padding: i64,
    pub mid_block_scale_factor: f64,
    /// Channels of the first block of the way down, and of the last.
    pub first_channels: i64,
    pub last_channels: i64,
    pub down_blocks: Vec<BlockSpec>,
    pub mid_block: MidSpec,
    /// In the order they run: the smallest size first.
    pub up_blocks: Vec<BlockSpec>,
}

/// SDXL's second embedding (`addition_embed_type` "text_time"): a pooled text and some numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AddedSpec {
    /// Width of each embedded number.
    pub time_embed_dim: i64,
    /// Width of the pooled text and all numbers together.
    pub input_dim: i64,
}

/// A block of the way down or up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlockSpec {
    pub channels: i64,
    /// Residual blocks.
    pub layers: i64,
    /// What follows each of them, in a block with cross-attention; empty in a plain one.
    pub transformers: Vec<TransformerSpec>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MidSpec {
    Absent,
    Resnet,
    CrossAttention(TransformerSpec),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TransformerSpec {
    pub layers: i64,
    pub heads: i64,
    pub cross_attention_dim: i64,
    /// The first attention looks at the text too, instead of at the picture.
    pub only_cross_attention: bool,
}

impl UNetConfig {
    /// Reads `unet/config.json`. Errors: [`crate::error::Error::Model`] names the field and its value.
    pub fn read(path: &Path) -> Result<Self> {
        Self::from_fields(Fields::read(path)?)
    }

    /// As [`Self::read`], of text; `path` is what messages name.
    pub fn parse(path: &Path, text: &[u8]) -> Result<Self> {
        Self::from_fields(Fields::parse(path, text)?)
    }

    fn from_fields(mut fields: Fields) -> Result<Self> {
        let f = &mut fields;
        f.only("_class_name", json!("UNet2DConditionModel"))?;
        refuse_what_is_not_built(f)?;
        let blocks = blocks(f)?;
        let mid_block = mid_block(f, &blocks)?;
        let first_channels = blocks.first().map_or(0, |block| block.channels);
        let config = Self {
            in_channels: f.size("in_channels", 4)?,
            out_channels: f.size("out_channels", 4)?,
            sample_size: sample_size(f)?,
            cross_attention_dim: blocks
                .first()
                .map_or(0, |block| block.transformer.cross_attention_dim),
            center_input_sample: f.take("center_input_sample", false, BOOLEAN)?,
            flip_sin_to_cos: f.take("flip_sin_to_cos", true, BOOLEAN)?,
            freq_shift: f.take("freq_shift", 0.0, NUMBER)?,
            time_embed_dim: match f.take("time_embedding_dim", None::<i64>, NUMBER)? {
                None => 4 * first_channels,
                Some(dim) => f.check_size("time_embedding_dim", dim)?,
            },
            time_cond_proj_dim: match f.take("time_cond_proj_dim", None::<i64>, NUMBER)? {
                None => None,
                Some(dim) => Some(f.check_size("time_cond_proj_dim", dim)?),
            },
            added: added(f)?,
            activation: f.activation("act_fn")?,
            norm_num_groups: f.size("norm_num_groups", 32)?,
            norm_eps: f.take("norm_eps", 1e-5, NUMBER)?,
            time_scale_shift: time_scale_shift(f)?,
            conv_in_kernel: f.size("conv_in_kernel", 3)?,
            conv_out_kernel: f.size("conv_out_kernel", 3)?,
            downsample_padding: downsample_padding(f)?,
            mid_block_scale_factor: f.take("mid_block_scale_factor", 1.0, NUMBER)?,
            first_channels,
            last_channels: blocks.last().map_or(0, |block| block.channels),
            mid_block,
            up_blocks: up_blocks(f, &blocks)?,
            down_blocks: down_blocks(f, &blocks)?,
        };
        fields.finish()?;
        Ok(config)
    }
}

const BOOLEAN: &str = "true or false was expected";
const NUMBER: &str = "a number was expected";

/// Fields that only change blocks which are not built here, and those whose one known value is
/// checked.
fn refuse_what_is_not_built(f: &mut Fields) -> Result<()> {
    for name in [
        "num_attention_heads",
        "class_embed_type",
        "num_class_embeds",
        "encoder_hid_dim",
        "encoder_hid_dim_type",
        "time_embedding_act_fn",
        "timestep_post_act",
        "cross_attention_norm",
    ] {
        f.only(name, json!(null))?;
    }
    f.only("dual_cross_attention", json!(false))?;
    f.only("class_embeddings_concat", json!(false))?;
    f.only("resnet_skip_time_act", json!(false))?;
    f.only("resnet_out_scale_factor", json!(1.0))?;
    f.only("time_embedding_type", json!("positional"))?;
    f.only("attention_type", json!("default"))?;
    f.harmless(&[
        // Training only.
        "dropout",
        // Belongs to an embedding that is refused.
        "addition_embed_type_num_heads",
        // `UNetMidBlock2DSimpleCrossAttn` only.
        "mid_block_only_cross_attention",
        // Both ways compute the same: a convolution with a kernel of one is a linear map of tokens.
        "use_linear_projection",
        // Without effect in diffusers too since `AttnProcessor2_0`: fused attention adds up in f32.
        "upcast_attention",
    ]);
    Ok(())
}

fn added(f: &mut Fields) -> Result<Option<AddedSpec>> {
    let kind = f.take("addition_embed_type", None::<String>, "a name was expected")?;
    let numbers = [
        "addition_time_embed_dim",
        "projection_class_embeddings_input_dim",
    ];
    match kind.as_deref() {
        None => {
            f.harmless(&numbers);
            Ok(None)
        }
        Some("text_time") => {
            let [time_embed_dim, input_dim] = numbers;
            Ok(Some(AddedSpec {
                // Neither has a default.
                time_embed_dim: f.size(time_embed_dim, 0)?,
                input_dim: f.size(input_dim, 0)?,
            }))
        }
        Some(other) => Err(f.refuse("addition_embed_type", other, "only text_time is")),
    }
}

/// What the config says of each block of the way down, whether it has cross-attention or not.
struct Block {
    channels: i64,
    layers: i64,
    transformer: TransformerSpec,
    /// How deep the transformer after each residual block is.
    depths: PerBlock<i64>,
}

impl Block {
    /// The transformers of a block with cross-attention of so many layers.
    fn transformers(
        &self,
        f: &Fields,
        name: &str,
        layers: i64,
        depths: &PerBlock<i64>,
    ) -> Result<Vec<TransformerSpec>> {
        let depths = f.each(name, depths.clone(), layers as usize)?;
        let one = |depth| {
            Ok(TransformerSpec {
                layers: f.check_size(name, depth)?,
                ..self.transformer
            })
        };
        depths.into_iter().map(one).collect()
    }
}

/// One depth for all blocks, or for each block one for all its layers or one for each.
#[derive(Deserialize)]
#[serde(untagged)]
enum Depths {
    All(i64),
    Each(Vec<PerBlock<i64>>),
}

const DEPTHS: &str = "transformer_layers_per_block";
const DEPTHS_UP: &str = "reverse_transformer_layers_per_block";

fn blocks(f: &mut Fields) -> Result<Vec<Block>> {
    let channels = f.size_list("block_out_channels", &[320, 640, 1280, 1280])?;
    let count = channels.len();
    let layers = f.sizes("layers_per_block", 2, count)?;
    let expected = "whole numbers, one or a list for each block, were expected";
    let depths = f.take(DEPTHS, Depths::All(1), expected)?;
    let depths = match depths {
        Depths::All(depth) => vec![PerBlock::One(depth); count],
        Depths::Each(depths) => f.each(DEPTHS, PerBlock::Each(depths), count)?,
    };
    // diffusers calls the number of heads so, for compatibility (huggingface/diffusers#2011).
    let heads = f.sizes("attention_head_dim", 8, count)?;
    let only_cross_attention = f.take("only_cross_attention", PerBlock::One(false), BOOLEAN)?;
    let only_cross_attention = f.each("only_cross_attention", only_cross_attention, count)?;
    let cross_attention_dim = cross_attention_dim(f, count)?;
    let mut blocks = Vec::new();
    let numbers = channels.into_iter().zip(layers).zip(depths).zip(heads);
    for ((((channels, layers), depths), heads), only_cross_attention) in
        numbers.zip(only_cross_attention)
    {
        if channels % heads != 0 {
            let why = format!("{channels} channels cannot be divided among so many heads");
            return Err(f.refuse("attention_head_dim", heads, &why));
        }
        blocks.push(Block {
            channels,
            layers,
            depths,
            transformer: TransformerSpec {
                layers: 1,
                heads,
                cross_attention_dim,
                only_cross_attention,
            },
        });
    }
    Ok(blocks)
}

/// The text has one width, whatever list says it.
fn cross_attention_dim(f: &mut Fields, count: usize) -> Result<i64> {
    let dims = f.sizes("cross_attention_dim", 1280, count)?;
    match dims.first() {
        Some(first) if dims.iter().all(|dim| dim == first) => Ok(*first),
        _ => Err(f.refuse("cross_attention_dim", format!("{dims:?}"), "blocks differ")),
    }
}

fn down_blocks(f: &mut Fields, blocks: &[Block]) -> Result<Vec<BlockSpec>> {
    let default = [true, true, true, false];
    let names = ["DownBlock2D", "CrossAttnDownBlock2D"];
    let cross_attention = block_types(f, "down_block_types", default, names, blocks.len())?;
    let specs = blocks.iter().zip(cross_attention);
    let spec = |(block, cross_attention): (&Block, bool)| {
        let transformers = || block.transformers(f, DEPTHS, block.layers, &block.depths);
        Ok(BlockSpec {
            channels: block.channels,
            layers: block.layers,
            transformers: if cross_attention {
                transformers()?
            } else {
                Vec::new()
            },
        })
    };
    specs.map(spec).collect()
}

fn up_blocks(f: &mut Fields, blocks: &[Block]) -> Result<Vec<BlockSpec>> {
    let default = [false, true, true, true];
    let names = ["UpBlock2D", "CrossAttnUpBlock2D"];
    let cross_attention = block_types(f, "up_block_types", default, names, blocks.len())?;
    let expected = "a list for the blocks was expected";
    let own = f.take(DEPTHS_UP, None::<Vec<PerBlock<i64>>>, expected)?;
    let (name, depths) = match own {
        Some(depths) => {
            let depths = f.each(DEPTHS_UP, PerBlock::Each(depths), blocks.len())?;
            (DEPTHS_UP, depths)
        }
        None => {
            let reversed = blocks.iter().rev().map(|block| block.depths.clone());
            (DEPTHS, reversed.collect())
        }
    };
    let specs = blocks.iter().rev().zip(cross_attention).zip(&depths);
    let spec = |((block, cross_attention), depths): ((&Block, bool), _)| {
        let layers = block.layers + 1;
        Ok(BlockSpec {
            channels: block.channels,
            layers,
            transformers: if cross_attention {
                block.transformers(f, name, layers, depths)?
            } else {
                Vec::new()
            },
        })
    };
    specs.map(spec).collect()
}

/// Whether each block has cross-attention.
fn block_types(
    f: &mut Fields,
    name: &str,
    default: [bool; 4],
    [plain, cross_attention]: [&str; 2],
    count: usize,
) -> Result<Vec<bool>> {
    let default = default.map(|cross| if cross { cross_attention } else { plain }.to_owned());
    let types = f.take(name, default.to_vec(), "a list of block types was expected")?;
    let types = f.each(name, PerBlock::Each(types), count)?;
    let one = |kind: &String| match kind.as_str() {
        kind if kind == plain => Ok(false),
        kind if kind == cross_attention => Ok(true),
        other => {
            let why = format!("only {plain} and {cross_attention} are");
            Err(f.refuse(name, other, &why))
        }
    };
    types.iter().map(one).collect()
}

fn mid_block(f: &mut Fields, blocks: &[Block]) -> Result<MidSpec> {
    let default = Some("UNetMidBlock2DCrossAttn".to_owned());
    let kind = f.take("mid_block_type", default, "a name was expected")?;
    match (kind.as_deref(), blocks.last()) {
        (Some("UNetMidBlock2DCrossAttn"), Some(last)) => {
            let depth = match &last.depths {
                PerBlock::One(depth) => *depth,
                PerBlock::Each(depths) => depths.first().copied().unwrap_or_default(),
            };
            Ok(MidSpec::CrossAttention(TransformerSpec {
                layers: f.check_size(DEPTHS, depth)?,
                // diffusers does not hand it on to this block.
                only_cross_attention: false,
                ..last.transformer
            }))
        }
        (Some("UNetMidBlock2D"), _) => Ok(MidSpec::Resnet),
        (None, _) => Ok(MidSpec::Absent),
        (Some(other), _) => {
            let why = "only UNetMidBlock2DCrossAttn and UNetMidBlock2D are";
            Err(f.refuse("mid_block_type", other, why))
        }
    }
}

/// A hint, not arithmetic.
fn sample_size(f: &mut Fields) -> Result<Option<[i64; 2]>> {
    let expected = "one or two whole numbers were expected";
    let size = f.take("sample_size", None, expected)?;
    match size {
        None => Ok(None),
        Some(PerBlock::One(size)) => {
            let size = f.check_size("sample_size", size)?;
            Ok(Some([size, size]))
        }
        Some(PerBlock::Each(sizes)) => match sizes.as_slice() {
            &[height, width] => Ok(Some([
                f.check_size("sample_size", height)?,
                f.check_size("sample_size", width)?,
            ])),
            _ => Err(f.refuse("sample_size", format!("{sizes:?}"), expected)),
        },
    }
}

fn time_scale_shift(f: &mut Fields) -> Result<TimeScaleShift> {
    let name = "resnet_time_scale_shift";
    let value = f.take(name, "default".to_owned(), "a name was expected")?;
    match value.as_str() {
        "default" => Ok(TimeScaleShift::Add),
        "scale_shift" => Ok(TimeScaleShift::ScaleShift),
        other => Err(f.refuse(name, other, "only default and scale_shift are")),
    }
}

fn downsample_padding(f: &mut Fields) -> Result<i64> {
    let padding = f.take("downsample_padding", 1, "a whole number was expected")?;
    match padding {
        0 | 1 => Ok(padding),
        other => Err(f.refuse("downsample_padding", other, "only 0 and 1 are")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    fn parse(value: Value) -> Result<UNetConfig> {
        UNetConfig::parse(Path::new("config.json"), value.to_string().as_bytes())
    }

    #[test]
    fn an_empty_config_is_stable_diffusion_1() {
        let config = parse(json!({})).unwrap();
        assert_eq!(config.down_blocks.len(), 4);
        assert_eq!(config.time_embed_dim, 1280);
        let spec = &config.down_blocks[2];
        assert_eq!((spec.channels, spec.layers), (1280, 2));
        assert_eq!(spec.transformers[1].heads, 8);
        assert!(config.down_blocks[3].transformers.is_empty());
        assert!(config.up_blocks[0].transformers.is_empty());
        assert_eq!(config.up_blocks[3].layers, 3);
        assert_eq!(config.up_blocks[3].channels, 320);
    }

    #[test]
    fn lists_run_backwards_on_the_way_up() {
        let config = parse(json!({
            "block_out_channels": [32, 64, 128],
            "down_block_types": ["CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"],
            "up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"],
            "layers_per_block": [1, 2, 3],
            "attention_head_dim": [2, 4, 8],
            "transformer_layers_per_block": [5, 6, 7],
            "only_cross_attention": [true, false, true],
        }))
        .unwrap();
        let up = &config.up_blocks[2];
        let transformer = up.transformers[0];
        assert_eq!((up.channels, up.layers), (32, 2));
        assert_eq!((transformer.heads, transformer.layers), (2, 5));
        assert!(transformer.only_cross_attention);
        let MidSpec::CrossAttention(mid) = config.mid_block else {
            panic!("{:?}", config.mid_block);
        };
        assert_eq!((mid.heads, mid.layers), (8, 7));
        assert!(!mid.only_cross_attention);
    }

    #[test]
    fn stable_diffusion_2_has_heads_for_each_block() {
        let config = parse(json!({
            "_class_name": "UNet2DConditionModel",
            "_diffusers_version": "0.10.0.dev0",
            "attention_head_dim": [5, 10, 20, 20],
            "class_embed_type": null,
            "cross_attention_dim": 1024,
            "dual_cross_attention": false,
            "mid_block_scale_factor": 1,
            "num_class_embeds": null,
            "only_cross_attention": false,
            "resnet_time_scale_shift": "default",
            "sample_size": 96,
            "upcast_attention": true,
            "use_linear_projection": true,
        }))
        .unwrap();
        let heads = |spec: &BlockSpec| spec.transformers.first().map(|spec| spec.heads);
        let down: Vec<_> = config.down_blocks.iter().map(heads).collect();
        let up: Vec<_> = config.up_blocks.iter().map(heads).collect();
        assert_eq!(down, [Some(5), Some(10), Some(20), None]);
        assert_eq!(up, [None, Some(20), Some(10), Some(5)]);
        assert_eq!(config.sample_size, Some([96, 96]));
        assert_eq!(config.cross_attention_dim, 1024);
    }

    #[test]
    fn segminds_layers_have_depths_of_their_own() {
        // SSD-1B.
        let config = parse(json!({
            "addition_embed_type": "text_time",
            "addition_time_embed_dim": 256,
            "attention_head_dim": [5, 10, 20],
            "block_out_channels": [320, 640, 1280],
            "cross_attention_dim": 2048,
            "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"],
            "mid_block_type": "UNetMidBlock2D",
            "projection_class_embeddings_input_dim": 2816,
            "reverse_transformer_layers_per_block": [[4, 4, 10], [2, 1, 1], 1],
            "transformer_layers_per_block": [1, 2, 4],
            "up_block_types": ["CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"],
        }))
        .unwrap();
        let depths = |spec: &BlockSpec| -> Vec<i64> {
            spec.transformers.iter().map(|spec| spec.layers).collect()
        };
        let down: Vec<_> = config.down_blocks.iter().map(depths).collect();
        let up: Vec<_> = config.up_blocks.iter().map(depths).collect();
        assert_eq!(down, [vec![], vec![2, 2], vec![4, 4]]);
        assert_eq!(up, [vec![4, 4, 10], vec![2, 1, 1], vec![]]);
        assert_eq!(config.mid_block, MidSpec::Resnet);
        let added = config.added.unwrap();
        assert_eq!((added.time_embed_dim, added.input_dim), (256, 2816));
    }

    #[test]
    fn a_value_that_is_not_supported_is_named() {
        for (name, value) in [
            ("dual_cross_attention", json!(true)),
            ("time_cond_proj_dim", json!(0)),
            ("class_embed_type", json!("timestep")),
            ("addition_embed_type", json!("image")),
            ("num_attention_heads", json!(8)),
            ("act_fn", json!("tanh")),
            ("norm_num_groups", json!(null)),
            ("resnet_time_scale_shift", json!("ada_group")),
            ("mid_block_type", json!("UNetMidBlock2DSimpleCrossAttn")),
            ("down_block_types", json!(["A", "B", "C", "D"])),
            ("attention_head_dim", json!(7)),
            ("layers_per_block", json!([2, 2])),
            ("cross_attention_dim", json!([1, 2, 3, 4])),
            ("transformer_layers_per_block", json!([[1], [1], [1], [1]])),
            (
                "reverse_transformer_layers_per_block",
                json!([1, 1, [1, 1], 1]),
            ),
            ("resnet_out_scale_factor", json!(0.5)),
            ("downsample_padding", json!(3)),
            ("_class_name", json!("AutoencoderKL")),
            ("a_field_of_the_future", json!(1)),
        ] {
            let message = parse(json!({name: value})).unwrap_err().to_string();
            assert!(message.contains(&format!("`{name}`")), "{message}");
        }
    }
}
