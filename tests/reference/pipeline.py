"""Whole drawings of the starter by diffusers: final latents and pictures for tests/parity_pipeline.rs.

Run from the repository's root; writes tests/reference/data/starter/pipeline.safetensors. Each case's
settings travel in the file's metadata, so that the test repeats exactly what was drawn here.
"""
import json
import torch
from diffusers import DDIMScheduler, DPMSolverMultistepScheduler, EulerDiscreteScheduler, StableDiffusionPipeline
from safetensors.torch import save_file

CASES = {
    "plain": dict(prompt="a penguin, 3d style", negative_prompt="", seeds=[1], steps=20, guidance=4.0, sampler="dpmpp_2m", width=64, height=64),
    "negative": dict(prompt="a star, 3d style, on a blue background", negative_prompt="red, noto style", seeds=[7], steps=12, guidance=6.5, sampler="euler", width=64, height=64),
    "unguided": dict(prompt="a fish", negative_prompt="ignored", seeds=[3], steps=6, guidance=1.0, sampler="ddim", width=64, height=64),
    "wide_pair": dict(prompt="a fox, flat style", negative_prompt="", seeds=[5, 6], steps=8, guidance=4.0, sampler="dpmpp_2m", width=96, height=64),
    "interval": dict(prompt="a red star", negative_prompt="flat style", seeds=[9], steps=8, guidance=6.0, interval=[0.3, 0.8], sampler="dpmpp_2m", width=64, height=64),
}
CLASSES = dict(dpmpp_2m=DPMSolverMultistepScheduler, euler=EulerDiscreteScheduler, ddim=DDIMScheduler)


def guided_within(unet, start, stop, steps):
    """Outside of the interval (counted as diffusers' guiders do) the negative prompt's answer becomes the prompt's."""
    plain, done = unet.forward, 0

    def forward(*args, **kwargs):
        nonlocal done
        (said,) = plain(*args, **kwargs)
        if not int(start * steps) <= done < int(stop * steps):
            said = said.chunk(2)[1].repeat(2, 1, 1, 1)
        done += 1
        return (said,)

    return forward


def main():
    torch.set_num_threads(1)
    pipe = StableDiffusionPipeline.from_pretrained("weights/starter", torch_dtype=torch.float32)
    pipe.set_progress_bar_config(disable=True)
    own = pipe.scheduler.config
    tensors = {}
    for name, case in CASES.items():
        pipe.scheduler = CLASSES[case["sampler"]].from_config(own)
        kept = {}
        plain = pipe.unet.forward
        if "interval" in case:
            pipe.unet.forward = guided_within(pipe.unet, *case["interval"], case["steps"])

        def keep(_pipe, _step, _timestep, values):
            kept["latents"] = values["latents"].clone()
            return values

        image = pipe(
            [case["prompt"]] * len(case["seeds"]), negative_prompt=[case["negative_prompt"]] * len(case["seeds"]),
            num_inference_steps=case["steps"], guidance_scale=case["guidance"], width=case["width"], height=case["height"],
            generator=[torch.Generator("cpu").manual_seed(seed) for seed in case["seeds"]], output_type="np", callback_on_step_end=keep,
        ).images
        pipe.unet.forward = plain
        tensors[f"{name}.latents"] = kept["latents"].contiguous()
        tensors[f"{name}.image"] = torch.from_numpy((image * 255).round().astype("uint8")).contiguous()
    save_file(tensors, "tests/reference/data/starter/pipeline.safetensors", metadata={"cases": json.dumps(CASES)})


if __name__ == "__main__":
    main()
