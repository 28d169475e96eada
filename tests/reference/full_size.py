"""A UNet of the real size with random weights, and one call of it: what `a_unet_of_full_size` compares with.

    python tests/reference/full_size.py sd15|sdxl FOLDER
    EASEL_FULL_SIZE=FOLDER cargo test --test parity_models -- --ignored a_unet_of_full_size

Made once by hand, not by `cargo xtask references`: 1.7 and 5.2 GB of weights in f16 (both sides compute in f32).
"""

import json
import sys
from pathlib import Path

import torch
from diffusers import UNet2DConditionModel
from safetensors.torch import save_file

CONFIGS = {
    "sd15": dict(cross_attention_dim=768, attention_head_dim=8),
    "sdxl": dict(
        block_out_channels=(320, 640, 1280), layers_per_block=2, cross_attention_dim=2048, attention_head_dim=(5, 10, 20),
        transformer_layers_per_block=(1, 2, 10), use_linear_projection=True, addition_embed_type="text_time",
        addition_time_embed_dim=256, projection_class_embeddings_input_dim=2816,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    ),
}


@torch.no_grad()
def main(name, folder):
    torch.set_num_threads(1)
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with torch.device("meta"):
        unet = UNet2DConditionModel(**CONFIGS[name])
    unet = unet.to_empty(device="cpu").eval()
    for index, (key, parameter) in enumerate(unet.named_parameters()):
        generator = torch.Generator().manual_seed(index)
        spread = parameter[0].numel() ** -0.5 if parameter.ndim >= 2 else 0.3
        value = torch.empty_like(parameter).uniform_(-1.7 * spread, 1.7 * spread, generator=generator)
        if parameter.ndim < 2 and key.endswith("weight"):
            value += 1
        parameter.copy_(value.half())
    config = {key: val for key, val in unet.config.items() if not key.startswith("_")}
    (folder / "config.json").write_text(json.dumps(config | {"_class_name": "UNet2DConditionModel"}))
    weights = {key: value.half() for key, value in unet.state_dict().items()}
    save_file(weights, folder / "diffusion_pytorch_model.safetensors")
    del weights
    generator = torch.Generator().manual_seed(0)
    sample = torch.randn(1, 4, 32, 32, generator=generator)
    states = torch.randn(1, 77, unet.config.cross_attention_dim, generator=generator)
    reference = {"sample": sample, "timestep": torch.tensor([481.0]), "encoder_hidden_states": states}
    told = {}
    if name == "sdxl":
        reference["text_embeds"] = torch.randn(1, 1280, generator=generator)
        reference["time_ids"] = torch.tensor([[1024.0, 1024.0, 0.0, 0.0, 1024.0, 1024.0]])
        told = {key: reference[key] for key in ("text_embeds", "time_ids")}
    output = unet(sample, 481.0, encoder_hidden_states=states, added_cond_kwargs=told).sample
    save_file(reference | {"output": output.contiguous()}, folder / "reference.safetensors")
    print(name, sum(p.numel() for p in unet.parameters()), output.std())


main(*sys.argv[1:])
