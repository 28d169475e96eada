"""LoRA's kin by LyCORIS and peft, for tests/parity_lora.rs. Run from the repository's root.

data/lora/kinds.safetensors: for each case a layer's weight, the tensors of its file, and the weight that
the layer has with it (LyCORIS 4.1.3's modules, with ComfyUI's rule for DoRA at other strengths than 1; peft
0.21.2's `merge`). `CASE/base`, `CASE/file/NAME`, `CASE/merged/STRENGTH`, and `CASE/bias/STRENGTH` where the
bias changes too.
data/lora/names.json: the names of Stable Diffusion XL's layers in kohya's files, and where diffusers
0.42.1 puts them.
data/starter/lora_kinds.safetensors: one file with every kind for the starter;
data/starter/lora_kinds_latents.safetensors: what the starter draws with it, its weights changed here by
LyCORIS.
"""
import json
import os
import sys

import torch
from diffusers import DPMSolverMultistepScheduler, StableDiffusionPipeline, UNet2DConditionModel
from diffusers.loaders.lora_conversion_utils import _convert_unet_lora_key, _maybe_map_sgm_blocks_to_diffusers
from lycoris.modules.full import FullModule
from lycoris.modules.ia3 import IA3Module
from lycoris.modules.locon import LoConModule
from lycoris.modules.loha import LohaModule
from lycoris.modules.lokr import LokrModule
from lycoris.modules.norms import NormModule
from peft import LoraConfig, get_peft_model, get_peft_model_state_dict
from safetensors.torch import save_file

OUT = "tests/reference/data/lora"
STARTER = "tests/reference/data/starter"
STRENGTHS = (1.0, 0.7)


def randomised(module):
    """A LyCORIS module whose every parameter is random, a forgotten one would show."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn(parameter.shape) * 0.3)
        for name in ("dora_scale",):
            if hasattr(module, name):
                getattr(module, name).copy_(torch.rand(getattr(module, name).shape) + 0.5)
    return module.eval()


def saved(module):
    return {name: value.detach().clone().contiguous() for name, value in module.custom_state_dict().items()}


def merged(module, layer, strength):
    """The weight that the layer has with the module."""
    base = layer.weight.detach()
    added = module.make_weight() * module.scale if isinstance(module, LoConModule) else None
    if added is None and not isinstance(module, IA3Module):
        added = module.get_weight(base.shape)
    if getattr(module, "wd", False):
        whole = module.apply_weight_decompose(base + added)
        # At other strengths by ComfyUI's rule (`weight_decompose`: the change with its alpha over its rank, then the
        # strength over the whole); A1111 1.10 multiplies alpha over rank after decomposing, and LyCORIS scales the
        # stretching alone.
        return whole if strength == 1.0 else base + (whole - base) * strength
    if isinstance(module, IA3Module):
        return module.get_merged_weight(strength)[0]
    return base + added * strength


def lycoris_cases():
    linear, conv, point = torch.nn.Linear(8, 12), torch.nn.Conv2d(8, 12, 3), torch.nn.Conv2d(8, 12, 1)
    rank = dict(lora_dim=2, alpha=1)
    for name, kind, layer, options in (
        ("locon", LoConModule, conv, dict(use_tucker=False)),
        ("locon_tucker", LoConModule, conv, dict(use_tucker=True)),
        ("loha", LohaModule, linear, {}),
        ("loha_point", LohaModule, point, {}),
        ("loha_conv", LohaModule, conv, {}),
        ("loha_tucker", LohaModule, conv, dict(use_tucker=True)),
        ("loha_dora", LohaModule, linear, dict(weight_decompose=True)),
        ("lokr", LokrModule, linear, dict(factor=2)),
        ("lokr_both", LokrModule, linear, dict(factor=3, decompose_both=True, lora_dim=1)),
        ("lokr_whole", LokrModule, linear, dict(factor=2, full_matrix=True)),
        ("lokr_conv", LokrModule, conv, dict(factor=2)),
        ("lokr_conv_whole", LokrModule, conv, dict(factor=2, full_matrix=True)),
        ("lokr_tucker", LokrModule, conv, dict(factor=2, use_tucker=True)),
        ("lokr_dora", LokrModule, conv, dict(factor=2, weight_decompose=True)),
        ("dora_rows", LoConModule, linear, dict(weight_decompose=True)),
        ("dora_columns", LoConModule, linear, dict(weight_decompose=True, wd_on_out=False)),
        ("dora_conv_rows", LoConModule, conv, dict(weight_decompose=True)),
        ("dora_conv_columns", LoConModule, conv, dict(weight_decompose=True, wd_on_out=False)),
        ("dora_tucker", LoConModule, conv, dict(weight_decompose=True, use_tucker=True)),
        ("ia3_rows", IA3Module, linear, {}),
        ("ia3_columns", IA3Module, linear, dict(train_on_input=True)),
        ("ia3_conv", IA3Module, conv, {}),
    ):
        module = randomised(kind("x", layer, **{**rank, **options}))
        file = {key: value for key, value in module.state_dict().items()} if kind is IA3Module else saved(module)
        for key, value in file.items():
            yield f"{name}/file/{key}", value.float()
        yield f"{name}/base", layer.weight.detach()
        for strength in STRENGTHS:
            yield f"{name}/merged/{strength}", merged(module, layer, strength).detach()


def difference_cases():
    for name, kind, layer in (("diff", FullModule, torch.nn.Linear(8, 12)), ("norm", NormModule, torch.nn.GroupNorm(4, 12))):
        with torch.no_grad():
            layer.weight.copy_(torch.randn(layer.weight.shape))
        module = randomised(kind("x", layer))
        weight, bias = (module.weight, module.bias) if kind is FullModule else (module.w_norm, module.b_norm)
        names = ("diff", "diff_b") if kind is FullModule else ("w_norm", "b_norm")
        yield f"{name}/base", layer.weight.detach()
        for key, value in zip(names, (weight, bias)):
            yield f"{name}/file/{key}", value.detach()
        for strength in STRENGTHS:
            changed, shifted = module.make_weight(strength)
            yield f"{name}/merged/{strength}", changed.detach()
            yield f"{name}/bias/{strength}", (shifted - layer.bias).detach()


def peft_cases():
    for name, layer, options in (
        ("peft", torch.nn.Linear(8, 12), {}),
        ("peft_dora", torch.nn.Linear(8, 12), dict(use_dora=True)),
        ("peft_dora_conv", torch.nn.Conv2d(8, 8, 3), dict(use_dora=True)),
    ):
        base = layer.weight.detach().clone()
        config = LoraConfig(r=2, lora_alpha=2, target_modules=["layer"], **options)
        model = get_peft_model(torch.nn.ModuleDict({"layer": layer}), config)
        with torch.no_grad():
            for key, parameter in model.named_parameters():
                if "magnitude" in key:
                    parameter.copy_(torch.rand(parameter.shape) + 0.5)
                elif "lora_" in key:
                    parameter.copy_(torch.randn(parameter.shape) * 0.3)
        for key, value in get_peft_model_state_dict(model).items():
            yield f"{name}/file/{key.split('.layer.')[1]}", value.detach().contiguous()
        yield f"{name}/base", base
        tuned = model.base_model.model["layer"]
        for strength in STRENGTHS:
            tuned.set_scale("default", strength)
            tuned.merge()
            yield f"{name}/merged/{strength}", tuned.base_layer.weight.detach().clone()
            tuned.base_layer.weight.data.copy_(base)
            tuned.merged_adapters.clear()


def sgm_names():
    """The layers of Stable Diffusion XL's UNet as the code of its training calls them."""
    resnet = ("in_layers.0", "in_layers.2", "emb_layers.1", "out_layers.0", "out_layers.3")
    inner = ("attn1.to_q", "attn1.to_k", "attn1.to_v", "attn1.to_out.0", "attn2.to_q", "attn2.to_k", "attn2.to_v",
             "attn2.to_out.0", "ff.net.0.proj", "ff.net.2", "norm1", "norm2", "norm3")
    attention = ("norm", "proj_in", "proj_out", *(f"transformer_blocks.0.{name}" for name in inner))
    yield from ("time_embed.0", "time_embed.2", "label_emb.0.0", "label_emb.0.2", "input_blocks.0.0", "out.0", "out.2")
    for block in range(1, 9):
        size, layer = divmod(block - 1, 3)
        if layer == 2:
            yield f"input_blocks.{block}.0.op"
            continue
        yield from (f"input_blocks.{block}.0.{name}" for name in resnet)
        if size and not layer:
            yield f"input_blocks.{block}.0.skip_connection"
        if size:
            yield from (f"input_blocks.{block}.1.{name}" for name in attention)
    yield from (f"middle_block.{block}.{name}" for block in (0, 2) for name in resnet)
    yield from (f"middle_block.1.{name}" for name in attention)
    for block in range(9):
        size, layer = divmod(block, 3)
        yield from (f"output_blocks.{block}.0.{name}" for name in (*resnet, "skip_connection"))
        if size < 2:
            yield from (f"output_blocks.{block}.1.{name}" for name in attention)
            if layer == 2:
                yield f"output_blocks.{block}.2.conv"


def names():
    unet = UNet2DConditionModel(
        block_out_channels=(8, 16, 32), layers_per_block=2, norm_num_groups=4, attention_head_dim=4,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"), cross_attention_dim=8,
        use_linear_projection=True, addition_embed_type="text_time", addition_time_embed_dim=2,
        projection_class_embeddings_input_dim=20)
    known = {name for name, module in unet.named_modules() if getattr(module, "weight", None) is not None}
    kohya = {name: f"lora_unet_{name.replace('.', '_')}.lora_down.weight" for name in sgm_names()}
    # diffusers has no LoRA on norms, and no rule for their names.
    kohya = {name: key for name, key in kohya.items() if "norm" not in name and ".in_layers.0" not in name
             and ".out_layers.0" not in name and name != "out.0"}
    mapped = _maybe_map_sgm_blocks_to_diffusers(dict(zip(kohya.values(), kohya.values())), unet.config)
    table = {}
    for renamed, key in mapped.items():
        layer = _convert_unet_lora_key(renamed).replace(".processor", "").removesuffix(".down.weight")
        layer = layer.removesuffix("_lora").removesuffix(".lora")
        layer += ".0" if layer.endswith("to_out") else ""
        assert layer in known, (key, layer)
        table[layer] = key.removesuffix(".lora_down.weight")
    plain = {name for name in known if "norm" not in name}
    assert plain == set(table), plain ^ set(table)
    return table


def starter_changes(pipe):
    """(name in the file, layer, LyCORIS module) of a file that has every kind."""
    def layer(name):
        return pipe.unet.get_submodule(name)

    rank = dict(lora_dim=2, alpha=1)
    up = "up_blocks.0.attentions.0.transformer_blocks.0"
    for key, module, kind, options in (
        ("lora_unet_down_blocks_1_resnets_0_conv1", layer("down_blocks.1.resnets.0.conv1"), LoConModule, dict(use_tucker=True)),
        # As latent-diffusion calls `down_blocks.1.attentions.0.proj_in` and `up_blocks.0.upsamplers.0.conv`.
        ("lora_unet_input_blocks_3_1_proj_in", layer("down_blocks.1.attentions.0.proj_in"), LohaModule, {}),
        ("lora_unet_output_blocks_1_2_conv", layer("up_blocks.0.upsamplers.0.conv"), LokrModule, dict(factor=8)),
        ("lora_unet_mid_block_attentions_0_transformer_blocks_0_attn1_to_q",
         layer("mid_block.attentions.0.transformer_blocks.0.attn1.to_q"), LoConModule, dict(weight_decompose=True)),
        (f"lora_unet_{up}.attn2.to_k".replace(".", "_"), layer(f"{up}.attn2.to_k"), LokrModule, dict(factor=8)),
        (f"lora_unet_{up}.ff.net.2".replace(".", "_"), layer(f"{up}.ff.net.2"), LohaModule, {}),
        (f"lora_unet_{up}.attn1.to_v".replace(".", "_"), layer(f"{up}.attn1.to_v"), IA3Module, {}),
        ("lora_unet_down_blocks_0_resnets_0_norm1", layer("down_blocks.0.resnets.0.norm1"), NormModule, {}),
        (f"lora_unet_{up}.norm2".replace(".", "_"), layer(f"{up}.norm2"), NormModule, {}),
        ("lora_unet_conv_out", layer("conv_out"), FullModule, {}),
        ("lora_te_text_model_encoder_layers_0_self_attn_out_proj",
         pipe.text_encoder.get_submodule(text_name(pipe, "encoder.layers.0.self_attn.out_proj")), LohaModule, {}),
    ):
        yield key, module, kind("x", module, **{**rank, **options})


def text_name(pipe, name):
    prefixed = hasattr(pipe.text_encoder, "text_model")
    return f"text_model.{name}" if prefixed else name


def starter():
    torch.manual_seed(11)
    pipe = StableDiffusionPipeline.from_pretrained("weights/starter", torch_dtype=torch.float32)
    pipe.set_progress_bar_config(disable=True)
    pipe.scheduler = DPMSolverMultistepScheduler.from_config(pipe.scheduler.config)
    file = {}
    with torch.no_grad():
        for key, layer, module in starter_changes(pipe):
            base = layer.weight.detach().clone()
            if isinstance(module, (FullModule, NormModule)):
                names = ("diff", "diff_b") if isinstance(module, FullModule) else ("w_norm", "b_norm")
                for name, own in zip(names, (layer.weight, layer.bias)):
                    change = (torch.randn(own.shape) * 0.1).half()
                    own += change.float()
                    file[f"{key}.{name}"] = change
                continue
            randomised(module)
            state = module.state_dict() if isinstance(module, IA3Module) else saved(module)
            state = {name: value.half() if value.is_floating_point() and name != "dora_scale" else value for name, value in state.items()}
            if "dora_scale" in state:
                state["dora_scale"] = (base.norm(dim=1, keepdim=True) * (0.8 + 0.4 * torch.rand(base.shape[0], 1)))
                module.dora_scale.copy_(state["dora_scale"])
            for name, parameter in module.named_parameters():
                if name != "dora_scale":
                    parameter.copy_(parameter.half().float())
            for name, value in state.items():
                file[f"{key}.{name}"] = value.contiguous()
            layer.weight.copy_(merged(module, layer, 1.0))
    save_file(file, f"{STARTER}/lora_kinds.safetensors")
    kept = {}

    def keep(_pipe, _step, _timestep, values):
        kept["latents"] = values["latents"].clone()
        return values

    pipe("a star, 3d style", num_inference_steps=4, guidance_scale=3.0, width=64, height=64,
         generator=torch.Generator("cpu").manual_seed(2), output_type="np", callback_on_step_end=keep)
    save_file({"latents": kept["latents"].contiguous()}, f"{STARTER}/lora_kinds_latents.safetensors")


def main():
    torch.set_num_threads(1)
    torch.manual_seed(7)
    os.makedirs(OUT, exist_ok=True)
    cases = {}
    for make in (lycoris_cases, difference_cases, peft_cases):
        cases.update((name, value.detach().clone().contiguous()) for name, value in make())
    save_file(cases, f"{OUT}/kinds.safetensors")
    with open(f"{OUT}/names.json", "w") as file:
        json.dump(names(), file, indent=0, sort_keys=True)
        file.write("\n")
    starter()
    for folder in (OUT, STARTER):
        for name in sorted(os.listdir(folder)):
            os.chmod(f"{folder}/{name}", 0o644)


if __name__ == "__main__":
    sys.exit(main())
