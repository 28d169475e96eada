"""Makes what tests/parity_checkpoints.rs compares with: tiny checkpoints in the layouts people have.

    python tests/reference/checkpoints.py

Needs torch, diffusers 0.42.1, transformers 5.23 and safetensors. For each model of CASES it writes
tests/reference/data/checkpoints/NAME.json: the tensors of a checkpoint in latent-diffusion's layout (names,
shapes; the values follow from the position, see `value`), and into which tensors of a diffusers folder
diffusers' own converters turn each of them; and NAME.safetensors: what StableDiffusionPipeline draws with it.

The checkpoints are named by the inverse of diffusers' tables. That the inverse is right is checked here: its
output, through diffusers' converters, must be the pipeline's weights again, all of them.
"""

import json
import os
import re
from collections import OrderedDict
from pathlib import Path

import torch
from diffusers import AutoencoderKL, DDIMScheduler, PNDMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from diffusers.loaders import single_file_utils as single
from safetensors.torch import save_file
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

HERE = Path(__file__).resolve().parent
DATA = HERE / "data" / "checkpoints"
MERGES = HERE.parent.parent / "assets" / "clip" / "merges.txt"

# What a checkpoint holds beside the networks.
TRAINING = {
    "betas": [1000], "alphas_cumprod": [1000], "model_ema.decay": [], "model_ema.diffusion_modeloutbias": [4],
}
CASES = {
    "sd1": dict(
        unet=dict(block_out_channels=(32, 64), attention_head_dim=8), layers=12, act="quick_gelu", heads=2,
        pad="<|endoftext|>", prediction="epsilon", prefix="cond_stage_model.transformer.",
    ),
    "sd2": dict(
        unet=dict(block_out_channels=(64, 128), attention_head_dim=(1, 2), use_linear_projection=True), layers=23,
        act="gelu", heads=2, pad="!", prediction="v_prediction", prefix="cond_stage_model.model.",
    ),
}
TEXT_WIDTH = 128
PROMPT, NEGATIVE, SEED, STEPS, GUIDANCE, SIZE = "a photo of an astronaut, 1980s", "blurry", 11, 6, 7.5, 64


def value(index, name, shape):
    """The `index`th tensor, by name, of a checkpoint: in f16, random, also biases and norms."""
    noise = torch.randn(shape, generator=torch.Generator().manual_seed(index))
    if len(shape) >= 2:
        # Powers of two: exact, so that Rust comes to the same bits.
        noise = noise / 2 ** (noise[0].numel().bit_length() // 2)
    elif name.endswith("weight"):
        noise = 1.0 + 0.25 * noise
    else:
        noise = 0.25 * noise
    return noise.half()


def unet_name(name, layers):
    """diffusers' name to latent-diffusion's."""
    fixed = {new: old for new, old in single.DIFFUSERS_TO_LDM_MAPPING["unet"]["layers"].items()}
    if name in fixed:
        return fixed[name]
    resnet = {
        "norm1": "in_layers.0", "conv1": "in_layers.2", "norm2": "out_layers.0", "conv2": "out_layers.3",
        "time_emb_proj": "emb_layers.1", "conv_shortcut": "skip_connection",
    }
    for new, old in resnet.items():
        name = re.sub(rf"(resnets\.\d+)\.{new}\.", rf"\1.{old}.", name)
    down, up = layers + 1, layers + 1
    rules = [
        (r"down_blocks\.(\d+)\.resnets\.(\d+)", lambda m: f"input_blocks.{1 + int(m[1]) * down + int(m[2])}.0"),
        (r"down_blocks\.(\d+)\.attentions\.(\d+)", lambda m: f"input_blocks.{1 + int(m[1]) * down + int(m[2])}.1"),
        (r"down_blocks\.(\d+)\.downsamplers\.0\.conv", lambda m: f"input_blocks.{(int(m[1]) + 1) * down}.0.op"),
        (r"mid_block\.resnets\.(\d+)", lambda m: f"middle_block.{2 * int(m[1])}"),
        (r"mid_block\.attentions\.0", lambda m: "middle_block.1"),
        (r"up_blocks\.(\d+)\.resnets\.(\d+)", lambda m: f"output_blocks.{int(m[1]) * up + int(m[2])}.0"),
        (r"up_blocks\.(\d+)\.attentions\.(\d+)", lambda m: f"output_blocks.{int(m[1]) * up + int(m[2])}.1"),
        # After a transformer where the block has one: here the last size going down has none.
        (r"up_blocks\.0\.upsamplers\.0", lambda m: f"output_blocks.{up - 1}.1"),
        (r"up_blocks\.(\d+)\.upsamplers\.0", lambda m: f"output_blocks.{(int(m[1]) + 1) * up - 1}.2"),
    ]
    for pattern, replacement in rules:
        name = re.sub(pattern, replacement, name)
    return name


def vae_name(name, blocks):
    fixed = {new: old for new, old in single.DIFFUSERS_TO_LDM_MAPPING["vae"].items()}
    if name in fixed:
        return fixed[name]
    for new, old in {
        "group_norm": "norm", "to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "proj_out",
    }.items():
        name = name.replace(f"attentions.0.{new}.", f"attentions.0.{old}.")
    rules = [
        (r"down_blocks\.(\d+)\.resnets", lambda m: f"down.{m[1]}.block"),
        (r"down_blocks\.(\d+)\.downsamplers\.0", lambda m: f"down.{m[1]}.downsample"),
        (r"up_blocks\.(\d+)\.resnets", lambda m: f"up.{blocks - 1 - int(m[1])}.block"),
        (r"up_blocks\.(\d+)\.upsamplers\.0", lambda m: f"up.{blocks - 1 - int(m[1])}.upsample"),
        (r"mid_block\.resnets\.(\d+)", lambda m: f"mid.block_{int(m[1]) + 1}"),
        (r"mid_block\.attentions\.0", lambda m: "mid.attn_1"),
        (r"conv_shortcut", lambda m: "nin_shortcut"),
    ]
    for pattern, replacement in rules:
        name = re.sub(pattern, replacement, name)
    return name


def open_clip_keys(width, inner, layers, vocab, positions):
    """Every tensor of OpenCLIP's text tower (`open_clip/transformer.py`), with shapes."""
    keys = {
        "positional_embedding": [positions, width], "token_embedding.weight": [vocab, width],
        "ln_final.weight": [width], "ln_final.bias": [width], "text_projection": [width, width], "logit_scale": [],
    }
    for layer in range(layers):
        block = f"transformer.resblocks.{layer}."
        keys |= {
            f"{block}ln_1.weight": [width], f"{block}ln_1.bias": [width],
            f"{block}ln_2.weight": [width], f"{block}ln_2.bias": [width],
            f"{block}attn.in_proj_weight": [3 * width, width], f"{block}attn.in_proj_bias": [3 * width],
            f"{block}attn.out_proj.weight": [width, width], f"{block}attn.out_proj.bias": [width],
            f"{block}mlp.c_fc.weight": [inner, width], f"{block}mlp.c_fc.bias": [inner],
            f"{block}mlp.c_proj.weight": [width, inner], f"{block}mlp.c_proj.bias": [width],
        }
    return keys


def tokenizer(pad):
    lines = MERGES.read_text().splitlines()
    merges = [tuple(line.split()) for line in lines]
    letters = [c for c in map(chr, range(256)) if "!" <= c <= "~" or "¡" <= c <= "¬" or "®" <= c <= "ÿ"]
    letters += [chr(256 + n) for n in range(256 - len(letters))]
    tokens = letters + [c + "</w>" for c in letters] + [a + b for a, b in merges] + ["<|startoftext|>", "<|endoftext|>"]
    vocab = {token: index for index, token in enumerate(tokens)}
    return CLIPTokenizer(vocab=vocab, merges=merges, pad_token=pad, model_max_length=77)


def networks(case):
    unet = UNet2DConditionModel(
        sample_size=64, layers_per_block=1, cross_attention_dim=TEXT_WIDTH,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"), up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        **case["unet"],
    )
    vae = AutoencoderKL(
        block_out_channels=(32, 64), layers_per_block=1, latent_channels=4,
        down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2,
    )
    text = CLIPTextModel(CLIPTextConfig(
        vocab_size=49408, hidden_size=TEXT_WIDTH, intermediate_size=96, num_hidden_layers=case["layers"],
        num_attention_heads=case["heads"], hidden_act=case["act"], bos_token_id=49406, eos_token_id=49407,
    ))
    return unet.eval(), vae.eval(), text.eval()


def shapes(case, unet, vae, text, layers, blocks):
    """The tensors of the single file: names and shapes."""
    shapes = dict(TRAINING)
    for name, tensor in unet.state_dict().items():
        shapes["model.diffusion_model." + unet_name(name, layers)] = list(tensor.shape)
    for name, tensor in vae.state_dict().items():
        shape = list(tensor.shape)
        name = "first_stage_model." + vae_name(name, blocks)
        # Attention is made of convolutions there.
        shapes[name] = shape + [1, 1] if ".attn_1." in name and len(shape) == 2 else shape
    if case["prefix"].endswith("transformer."):
        for name, tensor in text.state_dict().items():
            shapes[case["prefix"] + "text_model." + name] = list(tensor.shape)
    else:
        config = text.config
        keys = open_clip_keys(config.hidden_size, config.intermediate_size, case["layers"] + 1, 49408, 77)
        shapes |= {case["prefix"] + name: shape for name, shape in keys.items()}
    return shapes


def checkpoint(case, unet, vae, text):
    """The tensors of the single file: names and values, sorted by name."""
    stored = shapes(case, unet, vae, text, layers=1, blocks=2)
    return {name: value(index, name, stored[name]) for index, name in enumerate(sorted(stored))}


def converted(case, tensors, unet, vae, text):
    """diffusers' state dicts of the single file."""
    of_unet = single.convert_ldm_unet_checkpoint(dict(tensors), dict(unet.config))
    of_vae = single.convert_ldm_vae_checkpoint(dict(tensors), dict(vae.config))
    if case["prefix"].endswith("transformer."):
        of_text = single.convert_ldm_clip_checkpoint(dict(tensors))
    else:
        of_text = single.convert_open_clip_checkpoint(text, dict(tensors), prefix=case["prefix"])
    of_text = {name.removeprefix("text_model."): tensor for name, tensor in of_text.items()}
    # As `load_state_dict(strict=False)` would.
    of_text = {name: tensor for name, tensor in of_text.items() if name in text.state_dict()}
    return {"unet": of_unet, "vae": of_vae, "text_encoder": of_text}


def full_size():
    """Names and shapes of the published checkpoints, without values: made from the configs of their folders."""
    cases = {
        "full_sd1": ("sd1", dict(cross_attention_dim=768, attention_head_dim=8), dict(
            hidden_size=768, intermediate_size=3072, num_hidden_layers=12, num_attention_heads=12)),
        "full_sd2": ("sd2", dict(cross_attention_dim=1024, attention_head_dim=(5, 10, 20, 20), use_linear_projection=True), dict(
            hidden_size=1024, intermediate_size=4096, num_hidden_layers=23, num_attention_heads=16)),
    }
    for name, (like, unet, text) in cases.items():
        with torch.device("meta"):
            unet = UNet2DConditionModel(**unet)
            vae = AutoencoderKL(
                block_out_channels=(128, 256, 512, 512), layers_per_block=2, latent_channels=4, norm_num_groups=32,
                down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4,
            )
            model = CLIPTextModel(CLIPTextConfig(vocab_size=49408, **text))
        stored = shapes(CASES[like], unet, vae, model, layers=2, blocks=4)
        (DATA / f"{name}.json").write_text(json.dumps({"stored": stored}, sort_keys=True) + "\n")


def torch_files():
    """What torch.save writes, today's and of before 1.6, with the same tensors as safetensors beside."""
    generator = torch.Generator().manual_seed(3)
    base = torch.randn(6, 8, generator=generator)
    tensors = {
        "f32": base, "f16": base.half(), "bf16": base.bfloat16(), "f64": base[:1].double(),
        "i64": torch.arange(5), "u8": torch.arange(7, dtype=torch.uint8), "flag": torch.tensor([True, False]),
        "transposed": base.T, "row": base[3], "column": base[:, 2], "scalar": torch.tensor(2.5), "none": torch.zeros(0, 3),
        "parameter": torch.nn.Parameter(base[:2].clone()),
    }
    whole = {
        "epoch": 3, "global_step": 875000, "note": "ä", "rate": 1e-4, "done": True, "lr_schedulers": [None, ()],
        "state_dict": OrderedDict(tensors),
    }
    torch.save(whole, DATA / "torch_zip.ckpt")
    torch.save(whole, DATA / "torch_legacy.ckpt", _use_new_zipfile_serialization=False)
    torch.save(tensors, DATA / "torch_plain.bin")
    save_file({name: tensor.detach().contiguous().clone() for name, tensor in tensors.items()}, DATA / "torch.safetensors")

    class Hostile:
        def __reduce__(self):
            return os.system, ("touch hostile-file-was-run",)

    torch.save({"state_dict": tensors, "callbacks": Hostile()}, DATA / "torch_hostile.ckpt")


@torch.no_grad()
def main():
    torch.set_num_threads(1)
    DATA.mkdir(parents=True, exist_ok=True)
    torch_files()
    full_size()
    for name, case in CASES.items():
        unet, vae, text = networks(case)
        tensors = checkpoint(case, unet, vae, text)
        parts = converted(case, tensors, unet, vae, text)
        for part, model in [("unet", unet), ("vae", vae), ("text_encoder", text)]:
            weights = {key: tensor.float() for key, tensor in parts[part].items()}
            model.load_state_dict(weights, strict=True)
        common = dict(
            beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", steps_offset=1, set_alpha_to_one=False,
            prediction_type=case["prediction"],
        )
        scheduler = DDIMScheduler(clip_sample=False, **common)
        pipe = StableDiffusionPipeline(
            vae=vae, unet=unet, text_encoder=text, tokenizer=tokenizer(case["pad"]), scheduler=scheduler,
            safety_checker=None, feature_extractor=None, requires_safety_checker=False,
        )
        pipe.set_progress_bar_config(disable=True)
        latents = draw(pipe)
        reference = {
            "latents": latents,
            # diffusers skips layers of the prompt only (and not with this transformers): the embeddings are made
            # here, of both prompts, as A1111 does.
            "latents_clip_skip_2": draw(
                pipe, prompt=None, negative_prompt=None, prompt_embeds=skipped(pipe, PROMPT),
                negative_prompt_embeds=skipped(pipe, NEGATIVE),
            ),
            "latents_guidance_rescale": draw(pipe, guidance_rescale=0.7),
            "image": (vae.decode(latents / vae.config.scaling_factor).sample / 2 + 0.5).clamp(0, 1),
        }
        save_file({key: tensor.contiguous() for key, tensor in reference.items()}, DATA / f"{name}.safetensors")
        described = {
            "prompt": PROMPT, "negative_prompt": NEGATIVE, "seed": SEED, "steps": STEPS, "guidance": GUIDANCE, "size": SIZE,
            "prediction": case["prediction"],
            "stored": {key: list(tensor.shape) for key, tensor in tensors.items()},
            # By part and name: shape, and the sum of the values, each times its place, in f64.
            "parts": {
                part: {key: [list(tensor.shape), fingerprint(tensor)] for key, tensor in sorted(weights.items())}
                for part, weights in parts.items()
            },
        }
        (DATA / f"{name}.json").write_text(json.dumps(described, sort_keys=True) + "\n")
        print(name, len(tensors), {part: len(weights) for part, weights in parts.items()}, latents.std())


def draw(pipe, **more):
    settings = dict(
        prompt=PROMPT, negative_prompt=NEGATIVE, num_inference_steps=STEPS, guidance_scale=GUIDANCE, width=SIZE,
        height=SIZE, generator=torch.Generator().manual_seed(SEED), output_type="latent",
    )
    return pipe(**(settings | more)).images


def skipped(pipe, prompt):
    """The states before the last layer, with the last norm: A1111's clip skip 2."""
    ids = pipe.tokenizer(prompt, padding="max_length", truncation=True, return_tensors="pt").input_ids
    states = pipe.text_encoder(ids, output_hidden_states=True).hidden_states[-2]
    return pipe.text_encoder.final_layer_norm(states)


def fingerprint(tensor):
    flat = tensor.double().flatten()
    return float((flat * torch.arange(1, flat.numel() + 1, dtype=torch.float64)).sum())


if __name__ == "__main__":
    main()
