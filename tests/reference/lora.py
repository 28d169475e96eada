"""The starter with a LoRA by diffusers and peft: files and latents for tests/parity_lora.rs.

Run from the repository's root. Writes the same random LoRA in two spellings (kohya's, with alpha and a
convolution; peft's, as diffusers saves it) and what the starter draws with each. peft attaches the UNet's
branches; the text encoder's are added to its weights here, since diffusers 0.42.1 does not find the
layers of transformers 5's text encoder.
"""
import os
import sys

import torch
from diffusers import DPMSolverMultistepScheduler, StableDiffusionPipeline
from safetensors.torch import load_file, save_file

OUT = "tests/reference/data/starter"
RANK, ALPHA, WEIGHT = 4, 2.0, 0.8
LINEAR = ["attn1.to_q", "attn1.to_v", "attn1.to_out.0", "attn2.to_k", "ff.net.0.proj", "ff.net.2"]


def layers(pipe):
    """(component, module name, module) of the layers that get a branch."""
    for name, module in pipe.unet.named_modules():
        if any(name.endswith("transformer_blocks.0." + end) for end in LINEAR) and ("mid_block" in name or "up_blocks.0" in name):
            yield "unet", name, module
        if name in ("down_blocks.1.resnets.0.conv1", "down_blocks.1.attentions.0.proj_in"):
            yield "unet", name, module
    for name, module in pipe.text_encoder.named_modules():
        if name.endswith(("self_attn.q_proj", "mlp.fc2")):
            yield "text_encoder", name, module


def pairs(pipe):
    torch.manual_seed(5)
    for part, name, module in layers(pipe):
        out, into = module.weight.shape[:2]
        kernel = tuple(module.weight.shape[2:])
        down = torch.randn(RANK, into, *kernel) * 0.2
        up = torch.randn(out, RANK, *[1] * len(kernel)) * 0.2
        yield part, name, down, up


def draw(pipe, file, scale):
    pipe.load_lora_weights({key: value for key, value in file.items() if "unet" in key})
    own = {key: value.clone() for key, value in pipe.text_encoder.state_dict().items()}
    for part, name, down, up in pairs(pipe):
        if part == "text_encoder":
            pipe.text_encoder.get_submodule(name).weight.data += WEIGHT * scale * up.half().float() @ down.half().float()
    pipe.set_adapters(pipe.get_list_adapters()["unet"], WEIGHT)
    kept = {}

    def keep(_pipe, _step, _timestep, values):
        kept["latents"] = values["latents"].clone()
        return values

    pipe("a star, 3d style", num_inference_steps=4, guidance_scale=3.0, width=64, height=64,
         generator=torch.Generator("cpu").manual_seed(2), output_type="np", callback_on_step_end=keep)
    pipe.unload_lora_weights()
    pipe.text_encoder.load_state_dict(own)
    return kept["latents"].contiguous()


def main():
    torch.set_num_threads(1)
    pipe = StableDiffusionPipeline.from_pretrained("weights/starter", torch_dtype=torch.float32)
    pipe.set_progress_bar_config(disable=True)
    pipe.scheduler = DPMSolverMultistepScheduler.from_config(pipe.scheduler.config)
    kohya, peft = {}, {}
    for part, name, down, up in pairs(pipe):
        text = "" if part == "unet" or name.startswith("text_model.") else "text_model."
        flat = ("lora_unet_" if part == "unet" else "lora_te_") + (text + name).replace(".", "_")
        kohya[f"{flat}.lora_down.weight"], kohya[f"{flat}.lora_up.weight"] = down, up
        kohya[f"{flat}.alpha"] = torch.tensor(ALPHA)
        peft[f"{part}.{text}{name}.lora_A.weight"], peft[f"{part}.{text}{name}.lora_B.weight"] = down, up
    tensors = {}
    for spelling, file in (("kohya", kohya), ("peft", peft)):
        path = f"{OUT}/lora_{spelling}.safetensors"
        save_file({key: value.half().contiguous() for key, value in file.items()}, path)
        tensors[f"{spelling}.latents"] = draw(pipe, load_file(path), ALPHA / RANK if spelling == "kohya" else 1.0)
    save_file(tensors, f"{OUT}/lora.safetensors")
    for name in sorted(os.listdir(OUT)):
        os.chmod(f"{OUT}/{name}", 0o644)


if __name__ == "__main__":
    sys.exit(main())
