"""Makes the reference tensors that tests/parity_models.rs compares with.

    python tests/reference/models.py              tiny random models of many configurations
    python tests/reference/models.py --starter    the model in weights/starter and the upscaler

Needs torch, diffusers 0.42.1, transformers 5.23 and safetensors. What it writes is committed
(tests/reference/data/); the tests need no Python. Run it again only when a case is added, or, with
--starter, when weights/starter is replaced.
"""

import argparse
import json
import shutil
from pathlib import Path

import torch
from diffusers import AutoencoderKL, AutoencoderTiny, LatentConsistencyModelPipeline, UNet2DConditionModel
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel

HERE = Path(__file__).resolve().parent
DATA = HERE / "data"
ROOT = HERE.parent.parent


def randomise(model, generator, dtype):
    """Gives every parameter, biases and norms too, random values that `dtype` holds exactly: a
    forgotten one shows."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            if parameter.ndim >= 2:
                value = noise / parameter[0].numel() ** 0.5
            elif name.endswith("weight"):
                value = 1.0 + 0.3 * noise
            else:
                value = 0.3 * noise
            parameter.copy_(value.to(dtype).float())
    return model.eval()


def fresh(name):
    folder = DATA / "models" / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def write(folder, config, weights, dtype, reference, stem):
    weights = {name: value.detach().to(dtype).contiguous() for name, value in weights.items()}
    (folder / "config.json").write_text(json.dumps(config, indent=1, sort_keys=True) + "\n")
    save_file(weights, folder / f"{stem}.safetensors")
    save_reference(reference, folder / "reference.safetensors")


def save_reference(tensors, path):
    save_file({name: value.detach().clone().contiguous() for name, value in tensors.items()}, path)


def config_of(model):
    return {name: value for name, value in model.config.items() if not name.startswith("_") or name == "_class_name"}


def unet(name, dtype, size, timestep, batch=2, tokens=7, pooled=None, numbers=0, guidance=None, **config):
    generator = torch.Generator().manual_seed(sum(map(ord, name)))
    model = randomise(UNet2DConditionModel(**config), generator, dtype)
    sample = torch.randn(batch, model.config.in_channels, *size, generator=generator)
    states = torch.randn(batch, tokens, model.config.cross_attention_dim, generator=generator)
    more, told = {}, {}
    if pooled:
        more["text_embeds"] = torch.randn(batch, pooled, generator=generator)
        more["time_ids"] = torch.rand(batch, numbers, generator=generator) * 1024
        told["added_cond_kwargs"] = dict(more)
    if guidance:
        more["guidance_scale"] = torch.tensor([guidance])
        w = torch.tensor(guidance - 1).repeat(batch)
        told["timestep_cond"] = embed_guidance(w, model.config.time_cond_proj_dim)
    output = model(sample, timestep, encoder_hidden_states=states, **told).sample
    config = config_of(model) | {"_class_name": "UNet2DConditionModel"}
    reference = {
        "sample": sample,
        "timestep": torch.tensor([timestep], dtype=torch.float32),
        "encoder_hidden_states": states,
        "output": output,
    } | more
    write(fresh(name), config, model.state_dict(), dtype, reference, "diffusion_pytorch_model")


def embed_guidance(w, width):
    return LatentConsistencyModelPipeline.get_guidance_scale_embedding(None, w, embedding_dim=width)


def unets():
    two = dict(
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
    )
    # Stable Diffusion 1: convolutions as projections, one number of heads.
    unet(
        "unet_sd1", torch.float16, (8, 8), 981,
        block_out_channels=(8, 16), layers_per_block=1, norm_num_groups=4,
        cross_attention_dim=12, attention_head_dim=4, **two,
    )
    # Stable Diffusion 2: linear projections, heads for each block, a size that does not halve evenly.
    unet(
        "unet_sd2", torch.bfloat16, (7, 10), 1,
        block_out_channels=(8, 12, 12), layers_per_block=2, norm_num_groups=4,
        cross_attention_dim=12, attention_head_dim=(1, 2, 4), use_linear_projection=True,
        upcast_attention=True, sample_size=8,
        down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
    )
    # Every other field that changes the arithmetic, away from its default.
    unet(
        "unet_unusual", torch.float32, (6, 9), 481.25,
        in_channels=5, out_channels=3, block_out_channels=(6, 9), layers_per_block=(1, 2),
        norm_num_groups=3, norm_eps=1e-3, cross_attention_dim=10, attention_head_dim=3,
        transformer_layers_per_block=(1, 2), only_cross_attention=(True, False),
        center_input_sample=True, flip_sin_to_cos=False, freq_shift=1, act_fn="gelu",
        resnet_time_scale_shift="scale_shift", mid_block_scale_factor=1.5, downsample_padding=0,
        conv_in_kernel=5, conv_out_kernel=1, time_embedding_dim=20,
        down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
    )
    small = dict(
        block_out_channels=(8, 8), layers_per_block=1, norm_num_groups=4, cross_attention_dim=6,
        attention_head_dim=2, **two,
    )
    # SDXL: a pooled text and numbers beside, plain blocks at the largest size; LCM: the guidance scale beside.
    xl = dict(
        block_out_channels=(8, 16), layers_per_block=1, norm_num_groups=4, cross_attention_dim=6, attention_head_dim=(1, 2),
        transformer_layers_per_block=(1, 2), use_linear_projection=True, addition_embed_type="text_time",
        addition_time_embed_dim=8, down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
    )
    unet("unet_xl", torch.float16, (6, 5), 999, pooled=10, numbers=6, projection_class_embeddings_input_dim=58, **xl)
    unet(
        "unet_lcm", torch.float16, (5, 6), 759, pooled=10, numbers=5, guidance=8.5, time_cond_proj_dim=9,
        projection_class_embeddings_input_dim=50, act_fn="gelu", **xl,
    )
    # Segmind: each layer as deep as it was left.
    unet(
        "unet_segmind", torch.float16, (4, 6), 20, mid_block_type="UNetMidBlock2D", block_out_channels=(8, 8), layers_per_block=2,
        norm_num_groups=4, cross_attention_dim=6, attention_head_dim=2, transformer_layers_per_block=[1, [2, 1]],
        reverse_transformer_layers_per_block=[[1, 2, 3], 1], down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
    )
    unet("unet_plain_middle", torch.float16, (4, 4), 20, mid_block_type="UNetMidBlock2D", act_fn="mish", **small)
    unet("unet_no_middle", torch.float16, (4, 4), 20, mid_block_type=None, act_fn="relu", **small)


def vae(name, dtype, size, **config):
    generator = torch.Generator().manual_seed(sum(map(ord, name)))
    model = AutoencoderKL(**config)
    model = randomise(model, generator, dtype)
    image = torch.rand(2, model.config.in_channels, *size, generator=generator) * 2 - 1
    reference = vae_reference(model, image, generator)
    config = config_of(model) | {"_class_name": "AutoencoderKL"}
    folder = fresh(name)
    write(folder, config, model.state_dict(), dtype, reference, "diffusion_pytorch_model")
    return folder


def vae_reference(model, image, generator):
    posterior = model.encode(image).latent_dist
    latents = torch.randn(posterior.mean.shape, generator=generator)
    return {
        "image": image,
        "mean": posterior.mean,
        "logvar": posterior.logvar,
        "latents": latents,
        "decoded": model.decode(latents).sample,
    }


def vaes():
    blocks = dict(
        down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2,
    )
    attention = dict(
        block_out_channels=(8, 16), layers_per_block=1, norm_num_groups=4, latent_channels=4, **blocks,
    )
    folder = vae("vae_attention", torch.float16, (8, 12), **attention)
    old_names(folder)
    vae(
        "vae_plain", torch.bfloat16, (8, 8), block_out_channels=(6, 12), layers_per_block=2,
        norm_num_groups=3, latent_channels=3, act_fn="mish", mid_block_add_attention=False,
        use_quant_conv=False, use_post_quant_conv=False, scaling_factor=0.5, shift_factor=0.1, **blocks,
    )


def tiny_vaes():
    """TAESD's layout in diffusers' names, and (its decoder) in the author's as .safetensors and .pth."""
    generator = torch.Generator().manual_seed(3)
    model = AutoencoderTiny(
        encoder_block_out_channels=(8, 8, 8), decoder_block_out_channels=(8, 8, 8), latent_channels=4,
        num_encoder_blocks=(1, 2, 2), num_decoder_blocks=(2, 3, 1),
    )
    model = randomise(model, generator, torch.float16)
    latents = 2 * torch.randn(2, 4, 4, 6, generator=generator)
    reference = {"latents": latents, "decoded": model.decode(latents).sample}
    folder = fresh("vae_tiny")
    config = config_of(model) | {"_class_name": "AutoencoderTiny"}
    write(folder, config, model.state_dict(), torch.float16, reference, "diffusion_pytorch_model")
    own = {}
    for name, value in model.decoder.state_dict().items():
        index, rest = name.removeprefix("layers.").split(".", 1)
        # The author's first layer squeezes the latents.
        own[f"{int(index) + 1}.{rest}"] = value.half().contiguous()
    save_file(own, folder / "taesd_decoder.safetensors")
    torch.save(own, folder / "taesd_decoder.pth")


def old_names(folder):
    """The same VAE as files of before 2023 have it: other names, convolutions, two shards."""
    target = fresh("vae_old_names")
    names = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    weights = {}
    for name, value in load_file(folder / "diffusion_pytorch_model.safetensors").items():
        for new, old in names.items():
            if f".{new}." in name:
                name = name.replace(f".{new}.", f".{old}.")
                if value.ndim == 2 and "encoder" in name:
                    value = value[:, :, None, None].contiguous()
        weights[name] = value
    weight_map = {}
    for index, part in enumerate(["decoder", "encoder"]):
        file = f"diffusion_pytorch_model-{index + 1:05}-of-00002.safetensors"
        shard = {name: value for name, value in weights.items() if (name.startswith("encoder")) == (part == "encoder")}
        save_file(shard, target / file)
        weight_map |= dict.fromkeys(shard, file)
    index = {"metadata": {}, "weight_map": weight_map}
    (target / "diffusion_pytorch_model.safetensors.index.json").write_text(json.dumps(index, indent=1) + "\n")
    for name in ["config.json", "reference.safetensors"]:
        shutil.copy(folder / name, target / name)


def clip(name, dtype, prefix, ids, **config):
    generator = torch.Generator().manual_seed(sum(map(ord, name)))
    config = CLIPTextConfig(**config)
    model = randomise(CLIPTextModel(config), generator, dtype)
    reference = clip_reference(model, torch.tensor(ids))
    weights = {prefix + name: value for name, value in model.state_dict().items()}
    config = config.to_diff_dict() | {"model_type": "clip_text_model", "torch_dtype": "float16", "dropout": 0.0}
    folder = fresh(name)
    write(folder, config, weights, dtype, reference, "model")
    if prefix:
        # Files of before transformers 4.31 hold this buffer too.
        weights = load_file(folder / "model.safetensors")
        weights[prefix + "embeddings.position_ids"] = torch.arange(model.config.max_position_embeddings)[None]
        save_file(weights, folder / "model.safetensors")


def clip_reference(model, input_ids):
    output = model(input_ids, output_hidden_states=True)
    return {
        "input_ids": input_ids,
        "last_hidden_state": output.last_hidden_state,
        "pooled": output.pooler_output,
        # As diffusers computes `clip_skip=1`.
        "skip_1": model.final_layer_norm(output.hidden_states[-2]),
        "hidden_states": torch.stack(output.hidden_states),
    }


def clips():
    sizes = dict(
        vocab_size=40, hidden_size=16, intermediate_size=24, num_hidden_layers=3,
        num_attention_heads=4, max_position_embeddings=9, bos_token_id=38,
    )
    full = [[38, 3, 4, 39, 39, 39, 39, 39, 39], [38, 7, 1, 2, 9, 30, 0, 5, 39]]
    clip("clip_quick_gelu", torch.float16, "", full, hidden_act="quick_gelu", eos_token_id=39, **sizes)
    # A shorter sequence, the legacy number of the end token, the old prefix.
    short = [[38, 3, 4, 39, 0], [38, 7, 39, 0, 0]]
    clip(
        "clip_gelu", torch.float32, "text_model.", short, hidden_act="gelu", eos_token_id=2,
        layer_norm_eps=1e-3, **sizes,
    )


class SRVGGNetCompact(nn.Module):
    """Real-ESRGAN's compact network (realesrgan/archs/srvgg_arch.py, act_type="prelu")."""

    def __init__(self, num_feat, num_conv, upscale):
        super().__init__()
        self.upscale = upscale
        self.body = nn.ModuleList([nn.Conv2d(3, num_feat, 3, 1, 1), nn.PReLU(num_feat)])
        for _ in range(num_conv):
            self.body += [nn.Conv2d(num_feat, num_feat, 3, 1, 1), nn.PReLU(num_feat)]
        self.body.append(nn.Conv2d(num_feat, 3 * upscale**2, 3, 1, 1))

    def forward(self, x):
        out = x
        for layer in self.body:
            out = layer(out)
        out = nn.functional.pixel_shuffle(out, self.upscale)
        return out + nn.functional.interpolate(x, scale_factor=self.upscale, mode="nearest")


def esrgan():
    generator = torch.Generator().manual_seed(5)
    model = randomise(SRVGGNetCompact(6, 2, 3), generator, torch.float16)
    image = torch.rand(2, 3, 5, 7, generator=generator)
    reference = {"image": image, "output": model(image)}
    folder = fresh("esrgan")
    write(folder, {}, model.state_dict(), torch.float16, reference, "model")
    (folder / "config.json").unlink()


def starter():
    """What weights/starter and the upscaler make of fixed inputs, in f32."""
    from transformers import CLIPTokenizer

    folder, generator = ROOT / "weights" / "starter", torch.Generator().manual_seed(7)
    prompts = json.loads((folder / "easel.json").read_text())["examples"][:2]
    tokenizer = CLIPTokenizer.from_pretrained(folder / "tokenizer")
    ids = tokenizer(prompts, padding="max_length", truncation=True, return_tensors="pt").input_ids
    load = dict(torch_dtype=torch.float32)
    text = CLIPTextModel.from_pretrained(folder / "text_encoder", dtype=torch.float32).eval()
    unet = UNet2DConditionModel.from_pretrained(folder / "unet", **load).eval()
    vae = AutoencoderKL.from_pretrained(folder / "vae", **load).eval()
    clip = clip_reference(text, ids)
    side = unet.config.sample_size
    sample = torch.randn(2, unet.config.in_channels, side, side + 3, generator=generator)
    image = torch.rand(1, 3, 48, 32, generator=generator) * 2 - 1
    reference = {f"text_encoder.{name}": value for name, value in clip.items() if name != "hidden_states"}
    reference |= {
        "unet.sample": sample,
        "unet.timestep": torch.tensor([601.0]),
        "unet.encoder_hidden_states": clip["last_hidden_state"],
        "unet.output": unet(sample, 601, encoder_hidden_states=clip["last_hidden_state"]).sample,
    }
    reference |= {f"vae.{name}": value for name, value in vae_reference(vae, image, generator).items()}
    target = DATA / "starter"
    target.mkdir(parents=True, exist_ok=True)
    save_reference(reference, target / "models.safetensors")

    weights = load_file(ROOT / "weights" / "upscalers" / "realesr-animevideov3-x4.safetensors")
    model = SRVGGNetCompact(64, 16, 4)
    model.load_state_dict({name: value.float() for name, value in weights.items()})
    image = torch.rand(1, 3, 20, 14, generator=generator)
    save_reference({"image": image, "output": model.eval()(image)}, target / "upscaler.safetensors")


@torch.no_grad()
def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--starter", action="store_true")
    if parser.parse_args().starter:
        starter()
    else:
        unets()
        vaes()
        tiny_vaes()
        clips()
        esrgan()


main()
