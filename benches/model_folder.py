"""Writes a model of the real size as a diffusers folder: true configs and tokenizers, random weights.

    python model_folder.py sd15|sdxl f32|f16 FOLDER

What a folder is loaded by is its configs, and the names, shapes and bytes of its weights; that the numbers
repeat makes no difference to that, and writes 7 GB in seconds.
"""

import json
import sys
from pathlib import Path

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from safetensors.torch import save_file
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

MERGES = Path(__file__).resolve().parent.parent / "assets" / "clip" / "merges.txt"
VAE = dict(
    block_out_channels=(128, 256, 512, 512), layers_per_block=2, latent_channels=4,
    down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4,
)
CLIP = dict(vocab_size=49408, bos_token_id=49406, eos_token_id=49407, pad_token_id=1)
CLIP_L = CLIP | dict(
    hidden_size=768, intermediate_size=3072, num_hidden_layers=12, num_attention_heads=12, hidden_act="quick_gelu",
    projection_dim=768,
)
OPEN_CLIP_G = CLIP | dict(
    hidden_size=1280, intermediate_size=5120, num_hidden_layers=32, num_attention_heads=20, hidden_act="gelu",
    projection_dim=1280,
)
BETAS = dict(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", steps_offset=1)
MODELS = {
    "sd15": dict(
        pipeline="StableDiffusionPipeline",
        unet=dict(sample_size=64, cross_attention_dim=768, attention_head_dim=8),
        vae=VAE | dict(sample_size=512, scaling_factor=0.18215),
        scheduler=("PNDMScheduler", BETAS | dict(skip_prk_steps=True, set_alpha_to_one=False, clip_sample=False)),
        text_encoder=(CLIPTextModel, CLIP_L, "<|endoftext|>"),
    ),
    "sdxl": dict(
        pipeline="StableDiffusionXLPipeline",
        unet=dict(
            sample_size=128, block_out_channels=(320, 640, 1280), cross_attention_dim=2048,
            attention_head_dim=(5, 10, 20), transformer_layers_per_block=(1, 2, 10), use_linear_projection=True,
            addition_embed_type="text_time", addition_time_embed_dim=256, projection_class_embeddings_input_dim=2816,
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        ),
        vae=VAE | dict(sample_size=1024, scaling_factor=0.13025, force_upcast=True),
        scheduler=("EulerDiscreteScheduler", BETAS | dict(timestep_spacing="leading")),
        text_encoder=(CLIPTextModel, CLIP_L, "<|endoftext|>"),
        text_encoder_2=(CLIPTextModelWithProjection, OPEN_CLIP_G, "!"),
    ),
}
KINDS = {"f32": torch.float32, "f16": torch.float16}


def weights(model, kind):
    """Numbers that overflow nowhere, for every parameter: norms about 1, the rest as fresh layers have them."""
    some = torch.empty(1 << 20).uniform_(-1, 1, generator=torch.Generator().manual_seed(1))
    tensors = {}
    for name, parameter in model.state_dict().items():
        if not parameter.is_floating_point():
            continue
        count = parameter.numel()
        spread = parameter[0].numel() ** -0.5 if parameter.ndim >= 2 else 0.02
        values = (some * spread).to(kind).repeat(count // len(some) + 1)[:count].view(parameter.shape)
        is_scale = parameter.ndim < 2 and name.endswith("weight")
        tensors[name] = (values + 1 if is_scale else values).contiguous()
    return tensors


def save(model, folder, stem, kind, config):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config, indent=2, default=str))
    save_file(weights(model, kind), folder / f"{stem}.safetensors", {"format": "pt"})


def network(kind, config):
    with torch.device("meta"):
        model = kind(**config)
    return model, {key: val for key, val in model.config.items() if not key.startswith("_")} | {"_class_name": kind.__name__}


def tokenizer(pad):
    """CLIP's."""
    merges = [tuple(line.split()) for line in MERGES.read_text().splitlines()]
    letters = [c for c in map(chr, range(256)) if "!" <= c <= "~" or "¡" <= c <= "¬" or "®" <= c <= "ÿ"]
    letters += [chr(256 + n) for n in range(256 - len(letters))]
    tokens = letters + [c + "</w>" for c in letters] + [a + b for a, b in merges] + ["<|startoftext|>", "<|endoftext|>"]
    vocab = {token: index for index, token in enumerate(tokens)}
    return CLIPTokenizer(vocab=vocab, merges=merges, pad_token=pad, model_max_length=77)


def main(name, kind, folder):
    model, kind, folder = MODELS[name], KINDS[kind], Path(folder)
    index = {"_class_name": model["pipeline"], "scheduler": ["diffusers", model["scheduler"][0]]}
    for part, of in [("unet", UNet2DConditionModel), ("vae", AutoencoderKL)]:
        save(*(lambda made: (made[0], folder / part, "diffusion_pytorch_model", kind, made[1]))(network(of, model[part])))
        index[part] = ["diffusers", of.__name__]
    for part, tokens in [("text_encoder", "tokenizer"), ("text_encoder_2", "tokenizer_2")]:
        if part not in model:
            continue
        of, config, pad = model[part]
        with torch.device("meta"):
            encoder = of(CLIPTextConfig(**config))
        save(encoder, folder / part, "model", kind, encoder.config.to_dict() | {"architectures": [of.__name__]})
        tokenizer(pad).save_pretrained(folder / tokens)
        index |= {part: ["transformers", of.__name__], tokens: ["transformers", "CLIPTokenizer"]}
    if name == "sd15":
        index |= {"safety_checker": [None, None], "feature_extractor": [None, None], "requires_safety_checker": False}
    scheduler, config = model["scheduler"]
    (folder / "scheduler").mkdir(exist_ok=True)
    (folder / "scheduler" / "scheduler_config.json").write_text(json.dumps({"_class_name": scheduler} | config, indent=2))
    # Last: a folder that has it is whole.
    (folder / "model_index.json").write_text(json.dumps(index, indent=2))


main(*sys.argv[1:])
