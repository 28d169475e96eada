"""Makes what tests/parity_xl.rs compares with: tiny models of SDXL, its refiner, Segmind's kind and LCM.

    python tests/reference/xl.py

As checkpoints.py, whose helpers it takes: for each model tests/reference/data/xl/NAME.json holds the tensors of
a single file in the layout of generative-models (names and shapes; the values follow from the position), the
fingerprints (of the first) of what diffusers' converters make of them, and the configs of the same model as a folder;
NAME.safetensors holds what diffusers' pipelines compute: text states, a call of the UNet, latents after 20 steps.
"""

import json

import torch
from checkpoints import TRAINING, fingerprint, open_clip_keys, tokenizer, unet_name, vae_name, value
from checkpoints import HERE, NEGATIVE, PROMPT, SEED, SIZE
from diffusers import (
    AutoencoderKL, DDIMScheduler, EulerDiscreteScheduler, LatentConsistencyModelPipeline, LCMScheduler,
    StableDiffusionPipeline, StableDiffusionXLImg2ImgPipeline, StableDiffusionXLPipeline, UNet2DConditionModel,
)
from diffusers.loaders import single_file_utils as single
from safetensors.torch import save_file
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

DATA = HERE / "data" / "xl"
STEPS, GUIDANCE, SWITCH = 20, 5.0, 0.7
CLIP_L, OPEN_CLIP, REFINER_CLIP = (
    "conditioner.embedders.0.transformer.", "conditioner.embedders.1.model.", "conditioner.embedders.0.model.",
)
WIDTH, WIDTH_2, TIME = 64, 128, 256
TWO = dict(
    block_out_channels=(64, 128), attention_head_dim=(1, 2), layers_per_block=1, use_linear_projection=True,
    sample_size=128, addition_embed_type="text_time", addition_time_embed_dim=TIME,
)
CASES = {
    "sdxl": dict(
        encoders=[CLIP_L, OPEN_CLIP], numbers=6,
        unet=dict(
            TWO, transformer_layers_per_block=(1, 2), down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        ),
    ),
    "refiner": dict(
        encoders=[REFINER_CLIP], numbers=5,
        unet=dict(
            TWO, block_out_channels=(64, 64, 128), attention_head_dim=(1, 1, 2), transformer_layers_per_block=2,
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
            up_block_types=("UpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        ),
    ),
    # Layers of different depths, fewer on the way up, no attention in the middle.
    "segmind": dict(
        encoders=[CLIP_L, OPEN_CLIP], numbers=6,
        unet=dict(
            TWO, layers_per_block=2, transformer_layers_per_block=[1, [2, 1]],
            reverse_transformer_layers_per_block=[[1, 2, 3], 1], mid_block_type="UNetMidBlock2D",
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"), up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        ),
    ),
}
SCHEDULER = dict(
    beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", steps_offset=1, timestep_spacing="leading",
)


def networks(case):
    pooled = WIDTH_2
    width = sum(WIDTH if prefix == CLIP_L else WIDTH_2 for prefix in case["encoders"])
    unet = UNet2DConditionModel(
        cross_attention_dim=width, projection_class_embeddings_input_dim=pooled + case["numbers"] * TIME, **case["unet"],
    )
    vae = AutoencoderKL(
        block_out_channels=(32, 64), layers_per_block=1, latent_channels=4, scaling_factor=0.13025, force_upcast=True,
        down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2,
    )
    common = dict(vocab_size=49408, bos_token_id=49406, eos_token_id=49407)
    first = CLIPTextModel(CLIPTextConfig(
        hidden_size=WIDTH, intermediate_size=96, num_hidden_layers=3, num_attention_heads=1, hidden_act="quick_gelu",
        projection_dim=WIDTH, **common,
    ))
    second = CLIPTextModelWithProjection(CLIPTextConfig(
        hidden_size=WIDTH_2, intermediate_size=192, num_hidden_layers=4, num_attention_heads=2, hidden_act="gelu",
        projection_dim=pooled, **common,
    ))
    first = first if CLIP_L in case["encoders"] else None
    return {"unet": unet, "vae": vae, "text_encoder": first, "text_encoder_2": second}


def xl_unet_name(name, config):
    added = {new: old for new, old in single.DIFFUSERS_TO_LDM_MAPPING["unet"]["addition_embed_type"].items()}
    if name in added:
        return added[name]
    layers = config["layers_per_block"]
    if ".upsamplers." in name:
        block, leaf = int(name.split(".")[1]), name.split(".")[-1]
        place = 2 if config["up_block_types"][block].startswith("CrossAttn") else 1
        return f"output_blocks.{(block + 1) * (layers + 1) - 1}.{place}.conv.{leaf}"
    return unet_name(name, layers)


def checkpoint(case, parts):
    """The tensors of the single file: names and values, sorted by name."""
    stored = dict(TRAINING)
    for name, tensor in parts["unet"].state_dict().items():
        stored["model.diffusion_model." + xl_unet_name(name, parts["unet"].config)] = list(tensor.shape)
    for name, tensor in parts["vae"].state_dict().items():
        name, shape = "first_stage_model." + vae_name(name, 2), list(tensor.shape)
        stored[name] = shape + [1, 1] if ".attn_1." in name and len(shape) == 2 else shape
    for prefix in case["encoders"]:
        if prefix == CLIP_L:
            for name, tensor in parts["text_encoder"].state_dict().items():
                stored[f"{prefix}text_model.{name}"] = list(tensor.shape)
        else:
            config = parts["text_encoder_2"].config
            keys = open_clip_keys(config.hidden_size, config.intermediate_size, config.num_hidden_layers, 49408, 77)
            stored |= {prefix + name: shape for name, shape in keys.items()}
    return {name: value(index, name, stored[name]) for index, name in enumerate(sorted(stored))}


def converted(case, tensors, parts):
    """diffusers' state dicts of the single file."""
    of = {
        "unet": single.convert_ldm_unet_checkpoint(dict(tensors), dict(parts["unet"].config)),
        "vae": single.convert_ldm_vae_checkpoint(dict(tensors), dict(parts["vae"].config)),
    }
    for prefix in case["encoders"]:
        if prefix == CLIP_L:
            first = single.convert_ldm_clip_checkpoint(dict(tensors))
            of["text_encoder"] = {name.removeprefix("text_model."): tensor for name, tensor in first.items()}
        else:
            of["text_encoder_2"] = single.convert_open_clip_checkpoint(parts["text_encoder_2"], dict(tensors), prefix=prefix)
    return of


def pipeline(case, parts, kind):
    second = tokenizer("!")
    more = dict(requires_aesthetics_score=True, force_zeros_for_empty_prompt=False) if kind is StableDiffusionXLImg2ImgPipeline else {}
    pipe = kind(
        **parts, tokenizer=tokenizer("<|endoftext|>") if parts["text_encoder"] else None, tokenizer_2=second,
        scheduler=EulerDiscreteScheduler(**SCHEDULER), add_watermarker=False, **more,
    )
    pipe.set_progress_bar_config(disable=True)
    return pipe


def settings(**more):
    return dict(
        prompt=PROMPT, negative_prompt=NEGATIVE, num_inference_steps=STEPS, guidance_scale=GUIDANCE, output_type="latent",
    ) | more


def seeded():
    return torch.Generator().manual_seed(SEED)


def base_reference(pipe, whole):
    size = dict(width=SIZE, height=SIZE + 32)
    states, _, pooled, negative_pooled = pipe.encode_prompt(PROMPT, negative_prompt=NEGATIVE)
    unet = pipe.unet
    sample = torch.randn(1, 4, 8, 6, generator=seeded())
    ids = torch.tensor([[512.0, 384.0, 16.0, 8.0, 1024.0, 768.0]])
    output = unet(sample, 481, encoder_hidden_states=states, added_cond_kwargs={"text_embeds": pooled, "time_ids": ids}).sample
    latents = pipe(**settings(**size, generator=seeded())).images
    if not whole:
        return {"prompt": states, "pooled": pooled, "sample": sample, "time_ids": ids, "output": output, "latents": latents}
    return {
        "prompt": states, "pooled": pooled, "negative_pooled": negative_pooled,
        "sample": sample, "time_ids": ids, "output": output, "latents": latents,
        "latents_no_negative": pipe(**settings(**size, generator=seeded(), negative_prompt=None)).images,
        "latents_clip_skip": pipe(**settings(**size, generator=seeded(), clip_skip=1, negative_prompt=None)).images,
        "latents_sizes": pipe(**settings(
            **size, generator=seeded(), original_size=(512, 300), crops_coords_top_left=(40, 8), target_size=(200, 100),
        )).images,
        # Every fourth pixel.
        "image": (pipe.vae.decode(latents / pipe.vae.config.scaling_factor).sample / 2 + 0.5).clamp(0, 1)[:, :, ::4, ::4],
    }


def hand_over(base, refiner):
    """What the refiner makes of what the base began."""
    tensors = {}
    for name, scheduler in [("euler", EulerDiscreteScheduler), ("ddim", DDIMScheduler)]:
        more = dict(clip_sample=False, set_alpha_to_one=False) if name == "ddim" else {}
        base.scheduler = scheduler(**SCHEDULER, **more)
        refiner.scheduler = scheduler(**SCHEDULER, **more)
        size = dict(width=SIZE, height=SIZE + 32)
        begun = base(**settings(**size, generator=seeded(), denoising_end=SWITCH)).images
        tensors[f"{name}_refined"] = refiner(**settings(image=begun, denoising_start=SWITCH)).images
        tensors[f"{name}_scores"] = refiner(**settings(
            image=begun, denoising_start=SWITCH, aesthetic_score=9.0, negative_aesthetic_score=1.0,
        )).images
    return tensors


def described(case, tensors, of, parts):
    configs = {part: json.loads(model.config.to_json_string()) if hasattr(model.config, "to_json_string") else dict(model.config)
               for part, model in parts.items() if model is not None}
    for part, name in [("unet", "UNet2DConditionModel"), ("vae", "AutoencoderKL")]:
        configs[part] = {key: val for key, val in configs[part].items() if not key.startswith("_")} | {"_class_name": name}
    return {
        "prompt": PROMPT, "negative_prompt": NEGATIVE, "seed": SEED, "steps": STEPS, "guidance": GUIDANCE,
        "width": SIZE, "height": SIZE + 32, "switch": SWITCH, "configs": configs,
        "scheduler": SCHEDULER | {"_class_name": "EulerDiscreteScheduler"},
        "stored": {key: list(tensor.shape) for key, tensor in tensors.items()},
        "parts": {
            part: {key: [list(tensor.shape), fingerprint(tensor)] for key, tensor in sorted(weights.items())}
            for part, weights in of.items() if case is CASES["sdxl"]
        },
    }


def lcm():
    """A UNet in the shape of Stable Diffusion 1 that takes the guidance scale, drawn by LCM's pipeline: the tensors
    of checkpoints.py's `sd1` and one more."""
    import checkpoints

    case = checkpoints.CASES["sd1"]
    unet, vae, text = checkpoints.networks(case)
    tensors = checkpoints.checkpoint(case, unet, vae, text)
    parts = checkpoints.converted(case, tensors, unet, vae, text)
    own = {key: val for key, val in unet.config.items() if not key.startswith("_")}
    unet = UNet2DConditionModel(**own | {"time_cond_proj_dim": 256}).eval()
    condition = {"time_embedding.cond_proj.weight": value(1000, "", [32, 256])}
    for model, weights in [(unet, parts["unet"] | condition), (vae, parts["vae"]), (text, parts["text_encoder"])]:
        model.load_state_dict({key: tensor.float() for key, tensor in weights.items()}, strict=True)
    pipe = LatentConsistencyModelPipeline(
        vae=vae, unet=unet, text_encoder=text, tokenizer=tokenizer(case["pad"]),
        scheduler=LCMScheduler(
            beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", original_inference_steps=50,
            clip_sample=False, set_alpha_to_one=True, steps_offset=1,
        ),
        safety_checker=None, feature_extractor=None, requires_safety_checker=False,
    )
    pipe.set_progress_bar_config(disable=True)
    kept = dict(prompt=PROMPT, num_inference_steps=4, width=SIZE, height=SIZE, output_type="latent")
    return {
        "w": pipe.get_guidance_scale_embedding(torch.tensor(8.5 - 1).repeat(1), embedding_dim=256),
        "latents": pipe(**kept, guidance_scale=8.5, generator=seeded()).images,
        "latents_gently": pipe(**kept, guidance_scale=2.0, generator=seeded()).images,
    }


def zero_snr():
    """The tensors of checkpoints.py's `sd1`, taken as trained to predict v down to pure noise: what a single file
    with the marks `v_pred` and `ztsnr` draws, DDIM's steps and guidance that is rescaled (2305.08891)."""
    import checkpoints

    case = checkpoints.CASES["sd1"]
    unet, vae, text = checkpoints.networks(case)
    tensors = checkpoints.checkpoint(case, unet, vae, text)
    parts = checkpoints.converted(case, tensors, unet, vae, text)
    for model, weights in [(unet, parts["unet"]), (vae, parts["vae"]), (text, parts["text_encoder"])]:
        model.load_state_dict({key: tensor.float() for key, tensor in weights.items()}, strict=True)
    pipe = StableDiffusionPipeline(
        vae=vae, unet=unet, text_encoder=text, tokenizer=tokenizer(case["pad"]),
        scheduler=DDIMScheduler(
            beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False, set_alpha_to_one=False,
            steps_offset=1, prediction_type="v_prediction", rescale_betas_zero_snr=True, timestep_spacing="trailing",
        ),
        safety_checker=None, feature_extractor=None, requires_safety_checker=False,
    )
    pipe.set_progress_bar_config(disable=True)
    return {"latents": pipe(**settings(width=SIZE, height=SIZE, guidance_rescale=0.7, generator=seeded())).images}


@torch.no_grad()
def main():
    torch.set_num_threads(1)
    DATA.mkdir(parents=True, exist_ok=True)
    pipes = {}
    for name, case in CASES.items():
        parts = networks(case)
        tensors = checkpoint(case, parts)
        of = converted(case, tensors, parts)
        for part, weights in of.items():
            parts[part].load_state_dict({key: tensor.float() for key, tensor in weights.items()}, strict=True)
            parts[part].eval()
        kind = StableDiffusionXLImg2ImgPipeline if name == "refiner" else StableDiffusionXLPipeline
        pipes[name] = pipe = pipeline(case, parts, kind)
        reference = hand_over(pipes["sdxl"], pipe) if name == "refiner" else base_reference(pipe, name == "sdxl")
        save_file({key: tensor.contiguous() for key, tensor in reference.items()}, DATA / f"{name}.safetensors")
        (DATA / f"{name}.json").write_text(json.dumps(described(case, tensors, of, parts), sort_keys=True) + "\n")
        print(name, len(tensors), {key: tuple(tensor.shape) for key, tensor in reference.items()})
    save_file({key: tensor.contiguous() for key, tensor in lcm().items()}, DATA / "lcm.safetensors")
    save_file({key: tensor.contiguous() for key, tensor in zero_snr().items()}, DATA / "zero_snr.safetensors")


if __name__ == "__main__":
    main()
