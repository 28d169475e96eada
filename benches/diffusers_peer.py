"""diffusers' and OpenVINO's side of benches/compare.sh: the same work as benches/peer.rs, one JSON line a run.

`mean` of the result shows that both did the same work; `peak_mb` is the process's largest memory.

    python diffusers_peer.py picture STARTER STEPS    seconds a 64 x 64 picture, guidance, f32
    python diffusers_peer.py unet SD15_UNET SIDE [compile|openvino]    seconds one UNet call for both
                                                      halves of guidance at SIDE x SIDE pixels, f32
    python diffusers_peer.py vae SD15_VAE SIDE [compile|openvino]      seconds one picture's decoding
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


def pattern(*shape):
    import torch

    numbers = torch.arange(torch.Size(shape).numel(), dtype=torch.float64)
    return numbers.sin().float().reshape(shape)


def unet(folder, side, way="eager"):
    from diffusers import UNet2DConditionModel

    side = int(side) // 8
    model = UNet2DConditionModel.from_pretrained(folder).eval()
    network(model, way, (pattern(2, 4, side, side), 500.0, pattern(2, 77, 768)))


def vae(folder, side, way="eager"):
    import torch
    from diffusers import AutoencoderKL

    class Decode(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.vae = AutoencoderKL.from_pretrained(folder)

        def forward(self, latents):
            return self.vae.decode(latents, return_dict=False)[0]

    side = int(side) // 8
    network(Decode().eval(), way, (pattern(1, 4, side, side),))


def network(model, way, inputs):
    """Times one network: as it is, compiled by torch, or converted for OpenVINO."""
    import torch

    tensors = tuple(torch.as_tensor(value) for value in inputs)
    with torch.no_grad():
        if way == "openvino":
            call = in_openvino(model, tensors)
        else:
            call = torch.compile(model) if way == "compile" else model
        found = call(*tensors)
        value = getattr(found, "sample", found)
        seconds = timed(lambda: call(*tensors), 3)
    report(seconds=seconds, mean=value.abs().mean().item())


def in_openvino(model, tensors):
    """The network converted, in f32: OpenVINO would take bf16 where the processor has it."""
    import openvino
    import torch

    class Plain(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.model = model

        def forward(self, *tensors):
            found = self.model(*tensors)
            return getattr(found, "sample", found)

    converted = openvino.convert_model(Plain().eval(), example_input=tensors)
    hints = {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY"}
    compiled = openvino.Core().compile_model(converted, "CPU", hints)
    return lambda *tensors: torch.from_numpy(compiled([tensor.numpy() for tensor in tensors])[0])


def start(folder):
    pipeline(folder)
    report(seconds=time.perf_counter() - BEGAN)


globals()[sys.argv[1]](*sys.argv[2:])
