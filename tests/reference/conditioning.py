"""Weighted prompts, and drawings whose prompts change or are several, for tests/parity_prompts.rs.

Run from the repository's root, with compel 2.5.1 installed, whose own results the mixed prompts are; writes tests/reference/data/starter/prompts.safetensors from
weights/starter. Which tokens weigh what and which texts count at which call stands here by hand, so that
the reference does not go through any parser; the formulas are those of AUTOMATIC1111 1.10
(modules/sd_emphasis.py, modules/sd_samplers_cfg_denoiser.py), ComfyUI (comfy/sd1_clip.py) and compel 2.5.1
(embeddings_provider.py), over transformers' and diffusers' parts.
"""
import json
import math
import torch
from compel import Compel
from diffusers import EulerDiscreteScheduler, HeunDiscreteScheduler, StableDiffusionPipeline
from safetensors.torch import save_file

# Prompt and way; chunks of (text, weight) as they are to be read.
WEIGHTED = {
    "original": ("a (red:1.4) star, [3d] style", [[("a ", 1.0), ("red", 1.4), (" star, ", 1.0), ("3d", 1 / 1.1), (" style", 1.0)]]),
    "no_norm": ("a (red:1.4) star, [3d] style", [[("a ", 1.0), ("red", 1.4), (" star, ", 1.0), ("3d", 1 / 1.1), (" style", 1.0)]]),
    "ignore": ("a (red:1.4) BREAK star", [[("a ", 1.0), ("red", 1.0)], [("star", 1.0)]]),
    "none": ("a (red:1.4) star", [[("a (red:1.4) star", 1.0)]]),
    "comfyui": ("a (red:1.4) star, ((3d) style:0.6)", [[("a ", 1.0), ("red", 1.4), (" star, ", 1.0), ("3d", 0.66), ("style", 0.6)]]),
    "compel": ("a (red)1.4 star, 3d-- (flat style)0.3", [[("a", 1.0), ("red", 1.4), ("star,", 1.0), ("3d", 0.81), ("flat style", 0.3)]]),
}
# Read and mixed by compel itself.
MIXED = [
    '("a red star", "a (cat)1.3, flat style").blend(1, 0.5)',
    '("a cat, 3d style", "a dog--", (fish)).and(1, 0.6, -0.3)',
    '("a cat", "' + "a dog 3d style " * 10 + '").blend(1.5, -0.4, no_normalize)',
    "a (red cat).swap(dog) on a hill+",
    '("a cat").blend(0.5, no_normalize)',
]
# The texts of each part at each call of the network, as A1111 counts: `[a:b:4]` is b after the calls 0 to 4.
DRAWN = {
    "edit": dict(prompt="a [cat:dog:0.5], 3d style", negative="", steps=8, guidance=4.0, sampler="euler",
                 parts=[(1.0, ["a cat, 3d style"] * 5 + ["a dog, 3d style"] * 3)], negatives=[""] * 8),
    "step": dict(prompt="[red :2]fox [on a hill::3]", negative="[dark:bright:1]", steps=6, guidance=5.0, sampler="euler",
                 parts=[(1.0, ["fox on a hill"] * 3 + ["red fox on a hill"] + ["red fox "] * 2)], negatives=["dark"] * 2 + ["bright"] * 4),
    "alternate": dict(prompt="a [fox|owl|star]", negative="", steps=6, guidance=4.0, sampler="euler",
                      parts=[(1.0, ["a fox", "a fox", "a owl", "a star", "a fox", "a owl"])], negatives=[""] * 6),
    "and": dict(prompt="a red star, 3d style AND a fish :0.6 AND blue :-0.4", negative="noto style", steps=6, guidance=4.0, sampler="euler",
                parts=[(1.0, ["a red star, 3d style"] * 6), (0.6, [" a fish"] * 6), (-0.4, [" blue"] * 6)], negatives=["noto style"] * 6),
    "and_unguided": dict(prompt="a cat AND a dog", negative="x", steps=4, guidance=1.0, sampler="euler",
                         parts=[(1.0, ["a cat"] * 4), (1.0, [" a dog"] * 4)], negatives=["x"] * 4),
    "and_rescaled": dict(prompt="a cat AND a dog :0.5", negative="", steps=4, guidance=6.0, rescale=0.7, sampler="euler",
                         parts=[(1.0, ["a cat"] * 4), (0.5, [" a dog"] * 4)], negatives=[""] * 4),
    "weighted": dict(prompt="a cat :0.5", negative="", steps=4, guidance=6.0, sampler="euler", parts=[(0.5, ["a cat"] * 4)], negatives=[""] * 4),
    "heun": dict(prompt="a [cat:fox:3], [red|blue]", negative="", steps=4, guidance=4.0, sampler="heun",
                 parts=[(1.0, ["a cat, red", "a cat, red", "a cat, blue", "a cat, red", "a fox, blue", "a fox, red", "a fox, blue"])], negatives=[""] * 7),
    "long": dict(prompt="a cat BREAK a red star AND a dog", negative="dark", steps=4, guidance=4.0, sampler="euler",
                 parts=[(1.0, ["a cat BREAK a red star"] * 4), (1.0, [" a dog"] * 4)], negatives=["dark"] * 4),
}
CLASSES = dict(euler=EulerDiscreteScheduler, heun=HeunDiscreteScheduler)


class Encoder:
    def __init__(self, pipe):
        self.tokenizer, self.model = pipe.tokenizer, pipe.text_encoder
        self.length = self.model.config.max_position_embeddings

    def chunk(self, pieces):
        ids, weights, owners = [self.tokenizer.bos_token_id], [1.0], [None]
        for index, (text, weight) in enumerate(pieces):
            tokens = self.tokenizer(text, add_special_tokens=False).input_ids
            ids, weights, owners = ids + tokens, weights + [weight] * len(tokens), owners + [index] * len(tokens)
        rest = self.length - len(ids)
        assert rest > 0
        ids = ids + [self.tokenizer.eos_token_id] + [self.tokenizer.pad_token_id] * (rest - 1)
        return torch.tensor([ids]), torch.tensor(weights + [1.0] * rest)[None, :, None], owners + [None] * rest

    def states(self, ids, seen=None):
        return self.model(ids, attention_mask=seen).last_hidden_state

    def weighted(self, way, pieces):
        ids, weights, owners = self.chunk(pieces)
        z, empty = self.states(ids), self.states(self.chunk([])[0])
        if way == "original":
            scaled = z * weights
            return scaled * (z.mean() / scaled.mean())
        if way == "no_norm":
            return z * weights
        if way in ("ignore", "none"):
            return z
        if way == "comfyui":
            return (z - empty) * weights + empty
        parts, shares = [empty + (z - empty) * weights], [1.0]
        for index, (_, weight) in enumerate(pieces):
            if weight < 1:
                seen = torch.tensor([[int(owner != index) for owner in owners]])
                parts.append(empty + (self.states(ids, seen) - empty) * weights)
                shares.append(math.tan((1 - weight) * math.pi / 2))
        return sum(part * share for part, share in zip(parts, shares)) / sum(shares)

    def text(self, text):
        return torch.cat([self.states(self.chunk([(chunk, 1.0)])[0]) for chunk in text.split(" BREAK ")], 1)


def draw(pipe, encoder, case):
    scheduler = CLASSES[case["sampler"]].from_config(pipe.scheduler.config)
    scheduler.set_timesteps(case["steps"])
    side = 64 // pipe.vae_scale_factor
    x = torch.randn(1, pipe.unet.config.in_channels, side, side, generator=torch.Generator("cpu").manual_seed(case["seed"])) * scheduler.init_noise_sigma
    ask = lambda x, t, text: pipe.unet(x, t, encoder_hidden_states=encoder.text(text)).sample
    for call, t in enumerate(scheduler.timesteps):
        scaled = scheduler.scale_model_input(x, t)
        negative = ask(scaled, t, case["negatives"][call])
        answers = [(weight, ask(scaled, t, texts[call])) for weight, texts in case["parts"]]
        guided = negative.clone()
        for weight, answer in answers:
            guided += (answer - negative) * (weight * case["guidance"])
        if case.get("rescale"):
            first = answers[0][1]
            own = first + sum((answer - first) * weight for weight, answer in answers)
            dims = list(range(1, own.ndim))
            factor = own.std(dim=dims, keepdim=True) / guided.std(dim=dims, keepdim=True)
            guided = case["rescale"] * (guided * factor) + (1 - case["rescale"]) * guided
        x = scheduler.step(guided, t, x).prev_sample
    return x


@torch.no_grad()
def main():
    torch.set_num_threads(1)
    pipe = StableDiffusionPipeline.from_pretrained("weights/starter", torch_dtype=torch.float32)
    encoder = Encoder(pipe)
    tensors = {}
    for way, (_, chunks) in WEIGHTED.items():
        tensors[f"{way}.states"] = torch.cat([encoder.weighted(way, pieces) for pieces in chunks], 1).contiguous()
    compel = Compel(tokenizer=pipe.tokenizer, text_encoder=pipe.text_encoder, truncate_long_prompts=False)
    for number, prompt in enumerate(MIXED):
        tensors[f"mixed.{number}.states"] = compel(prompt).contiguous()
    for seed, (name, case) in enumerate(DRAWN.items()):
        case["seed"] = seed
        tensors[f"{name}.latents"] = draw(pipe, encoder, case).contiguous()
    cases = {name: {key: case.get(key) for key in ("prompt", "negative", "steps", "guidance", "rescale", "sampler", "seed")} for name, case in DRAWN.items()}
    prompts = {way: prompt for way, (prompt, _) in WEIGHTED.items()}
    save_file(tensors, "tests/reference/data/starter/prompts.safetensors", metadata={"cases": json.dumps(cases), "weighted": json.dumps(prompts), "mixed": json.dumps(MIXED)})


if __name__ == "__main__":
    main()
