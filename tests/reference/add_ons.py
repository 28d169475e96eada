"""Embeddings on the starter, and a LoRA and an embedding on a tiny SDXL, by diffusers: for
tests/parity_embeddings.rs and tests/parity_xl.rs.

    python tests/reference/add_ons.py

data/embeddings/: one embedding file of each spelling for the starter (A1111's `.pt` with a dictionary and with a
ParameterDict, `.safetensors`, diffusers' `.bin`); data/starter/embeddings.safetensors: the text states that
diffusers computes with all of them loaded, by prompt number.
data/xl/add_ons.safetensors: what xl.py's `sdxl` draws with data/xl/lora.safetensors (kohya's names for SDXL, both
text encoders) and what it, and `refiner`, read of a prompt with data/xl/pair.safetensors. diffusers attaches the UNet's
branches; the text encoders' are added to their weights here (see lora.py).
"""
import os

import torch
from checkpoints import HERE, SIZE
from diffusers import StableDiffusionPipeline, StableDiffusionXLImg2ImgPipeline, StableDiffusionXLPipeline
from safetensors.torch import save_file
from xl import CASES, checkpoint, converted, networks, pipeline, seeded, settings

EMBEDDINGS, STARTER, XL = HERE / "data" / "embeddings", HERE / "data" / "starter", HERE / "data" / "xl"
PROMPTS = (
    "a star, Fancy-Style, on a red background",
    "a <cat-toy>, old style, in the snow",
    "a cat, fancy-style old STYLE modern",
)
WEIGHT, RANK, ALPHA = 0.7, 2, 1.0


def starter():
    torch.manual_seed(3)
    pipe = StableDiffusionPipeline.from_pretrained("weights/starter", torch_dtype=torch.float32)
    width = pipe.text_encoder.config.hidden_size

    def vectors(*shape):
        return (torch.randn(*shape, width) * 0.3).half().float()

    fancy, old, toy, modern = vectors(3), vectors(2), vectors(), vectors(2)
    token = torch.tensor(265)
    torch.save({"string_to_token": {"*": 265}, "string_to_param": {"*": fancy.half()}, "name": "fancy-style", "step": 100,
                "sd_checkpoint": None, "sd_checkpoint_name": None}, EMBEDDINGS / "fancy-style.pt")
    torch.save({"string_to_token": {"*": token}, "string_to_param": torch.nn.ParameterDict({"*": torch.nn.Parameter(old)})},
               EMBEDDINGS / "old style.pt")
    torch.save({"<cat-toy>": toy}, EMBEDDINGS / "learned_embeds.bin")
    save_file({"emb_params": modern.half()}, EMBEDDINGS / "modern.safetensors")
    # diffusers splits at a word with spaces in it only where it is a token by itself: it is one here.
    for name, value in (("fancy-style", fancy), ("oldstyle", old), ("<cat-toy>", toy[None]), ("modern", modern)):
        pipe.load_textual_inversion({name: value}, token=name)
    states = {}
    for number, prompt in enumerate(PROMPTS):
        prompt = prompt.lower().replace("old style", "oldstyle")
        states[f"{number}"] = pipe.encode_prompt(prompt, "cpu", 1, False)[0]
    save_file(states, STARTER / "embeddings.safetensors")


def lora_file():
    shapes = {}
    for name, out, into, *kernel in (
        ("lora_unet_input_blocks_0_0", 64, 4, 3, 3),
        ("lora_unet_input_blocks_1_0_in_layers_2", 64, 64, 3, 3),
        ("lora_unet_input_blocks_2_0_op", 64, 64, 3, 3),
        ("lora_unet_input_blocks_3_0_emb_layers_1", 128, 256),
        ("lora_unet_input_blocks_3_1_transformer_blocks_0_attn1_to_q", 128, 128),
        ("lora_unet_input_blocks_3_1_transformer_blocks_1_attn2_to_k", 128, 192),
        ("lora_unet_middle_block_1_proj_in", 128, 128),
        ("lora_unet_output_blocks_0_1_transformer_blocks_1_ff_net_2", 128, 512),
        ("lora_unet_output_blocks_1_2_conv", 128, 128, 3, 3),
        ("lora_unet_label_emb_0_0", 256, 128 + 6 * 256),
        ("lora_te1_text_model_encoder_layers_1_self_attn_q_proj", 64, 64),
        ("lora_te1_text_model_encoder_layers_0_mlp_fc1", 96, 64),
        ("lora_te2_text_model_encoder_layers_2_self_attn_v_proj", 128, 128),
        ("lora_te2_text_projection", 128, 128),
    ):
        shapes[name] = (out, into, kernel)
    file = {}
    for name, (out, into, kernel) in shapes.items():
        file[f"{name}.lora_down.weight"] = (torch.randn(RANK, into, *kernel) * 0.2).half()
        file[f"{name}.lora_up.weight"] = (torch.randn(out, RANK, *[1] * len(kernel)) * 0.2).half()
        file[f"{name}.alpha"] = torch.tensor(ALPHA)
    return file


def text_module(pipe, name):
    part = pipe.text_encoder if name.startswith("lora_te1_") else pipe.text_encoder_2
    name = name[len("lora_te1_"):]
    known = {key.replace(".", "_"): key for key, _ in part.named_modules()}
    for spelling in (name, name.removeprefix("text_model_")):
        if spelling in known:
            return part.get_submodule(known[spelling])
    raise KeyError(name)


def tiny(name, kind):
    case = CASES[name]
    parts = networks(case)
    of = converted(case, checkpoint(case, parts), parts)
    for part, weights in of.items():
        parts[part].load_state_dict({key: tensor.float() for key, tensor in weights.items()}, strict=True)
        parts[part].eval()
    return pipeline(case, parts, kind)


def with_second(pipe, vectors):
    """What the prompt is to a pipeline whose second text encoder has these vectors for a word."""
    # `pair` is a token already.
    pipe.load_textual_inversion({"twins": vectors.float()}, token="twinsxl", text_encoder=pipe.text_encoder_2, tokenizer=pipe.tokenizer_2)
    states, _, pooled, _ = pipe.encode_prompt("a horse, twinsxl of them", do_classifier_free_guidance=False)
    return states, pooled


def sdxl():
    torch.manual_seed(13)
    pipe = tiny("sdxl", StableDiffusionXLPipeline)
    file = lora_file()
    save_file(file, XL / "lora.safetensors")
    pipe.load_lora_weights({key: value.float() for key, value in file.items() if "lora_unet" in key})
    pipe.set_adapters(pipe.get_list_adapters()["unet"], WEIGHT)
    own = {}
    for key in file:
        name = key.removesuffix(".lora_down.weight")
        if name == key or "lora_te" not in key:
            continue
        module = text_module(pipe, name)
        own[name] = (module, module.weight.data.clone())
        up, down = file[f"{name}.lora_up.weight"].float(), file[key].float()
        module.weight.data += WEIGHT * ALPHA / RANK * up @ down
    size = dict(width=SIZE, height=SIZE + 32)
    reference = {"lora_latents": pipe(**settings(**size, generator=seeded(), num_inference_steps=4)).images}
    pipe.unload_lora_weights()
    for module, weight in own.values():
        module.weight.data.copy_(weight)
    first, second = (torch.randn(2, 64) * 0.5).half(), (torch.randn(2, 128) * 0.5).half()
    save_file({"clip_l": first, "clip_g": second}, XL / "pair.safetensors")
    pipe.load_textual_inversion({"twins": first.float()}, token="twinsxl", text_encoder=pipe.text_encoder, tokenizer=pipe.tokenizer)
    reference["pair"], reference["pair_pooled"] = with_second(pipe, second)
    refiner = tiny("refiner", StableDiffusionXLImg2ImgPipeline)
    reference["refiner_pair"], reference["refiner_pair_pooled"] = with_second(refiner, second)
    save_file({key: value.contiguous() for key, value in reference.items()}, XL / "add_ons.safetensors")


@torch.no_grad()
def main():
    torch.set_num_threads(1)
    EMBEDDINGS.mkdir(parents=True, exist_ok=True)
    starter()
    sdxl()
    for folder in (EMBEDDINGS, STARTER, XL):
        for name in sorted(os.listdir(folder)):
            os.chmod(folder / name, 0o644)


if __name__ == "__main__":
    main()
