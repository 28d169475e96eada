"""diffusers' side of benches/compare.sh: the same work as benches/peer.rs, one JSON line a run.

`mean` of the result shows that both did the same work; `peak_mb` is the process's largest memory.

    python diffusers_peer.py picture STARTER STEPS    seconds a 64 x 64 picture, guidance, f32
    python diffusers_peer.py unet SD15_UNET           seconds one UNet call [1, 4, 64, 64], f32
    python diffusers_peer.py start STARTER            seconds until the pipeline stands and may draw
"""

import json
import resource
import statistics
import sys
import time

BEGAN = time.perf_counter()
PROMPT = "a penguin, 3d style"


def report(**found):
    found["peak_mb"] = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000)
    print(json.dumps(found))


def timed(work, rounds):
    """Median seconds of a piece of work, after one round that is not counted."""
    work()
    times = []
    for _ in range(rounds):
        begin = time.perf_counter()
        work()
        times.append(time.perf_counter() - begin)
    return statistics.median(times)


def pipeline(folder):
    import torch
    from diffusers import DPMSolverMultistepScheduler, StableDiffusionPipeline

    pipe = StableDiffusionPipeline.from_pretrained(folder, torch_dtype=torch.float32, safety_checker=None)
    pipe.scheduler = DPMSolverMultistepScheduler.from_config(pipe.scheduler.config)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def picture(folder, steps):
    import torch

    pipe = pipeline(folder)
    size = pipe.unet.config.sample_size * pipe.vae_scale_factor

    def work():
        generator = torch.Generator("cpu").manual_seed(1)
        call = dict(num_inference_steps=int(steps), guidance_scale=4.0, width=size, height=size, generator=generator)
        return pipe(PROMPT, output_type="np", **call).images

    value = work()
    report(seconds=timed(work, 9), mean=float((value * 255).round().mean()))


def unet(folder):
    import torch
    from diffusers import UNet2DConditionModel

    model = UNet2DConditionModel.from_pretrained(folder).eval()

    def pattern(*shape):
        numbers = torch.arange(torch.Size(shape).numel(), dtype=torch.float64)
        return numbers.sin().float().reshape(shape)

    latents, states = pattern(1, 4, 64, 64), pattern(1, 77, 768)
    with torch.no_grad():
        value = model(latents, 500, states).sample
        seconds = timed(lambda: model(latents, 500, states), 5)
    report(seconds=seconds, mean=value.abs().mean().item())


def start(folder):
    pipeline(folder)
    report(seconds=time.perf_counter() - BEGAN)


globals()[sys.argv[1]](*sys.argv[2:])
