"""diffusers' and OpenVINO's side of benches/compare.sh: the same work as benches/peer, one JSON line a run.

`mean` of the result shows that both did the same work; `peak_mb` is the process's largest memory.

    python diffusers_peer.py picture STARTER STEPS [openvino]          seconds a 64 x 64 picture, guidance, f32
    python diffusers_peer.py unet SD15_UNET SIDE [compile|openvino]    seconds one UNet call for both
                                                      halves of guidance at SIDE x SIDE pixels, f32
    python diffusers_peer.py unet_xl SDXL_UNET        the same of SDXL's at 1024 x 1024
    python diffusers_peer.py vae SD15_VAE SIDE [compile|openvino]      seconds one picture's decoding
    python diffusers_peer.py start STARTER STEPS      seconds until the pipeline stands and may draw
    python diffusers_peer.py load FOLDER              a model in f32 from its files to the first step; see `load`
"""

import json
import os
import resource
import statistics
import sys
import time

BEGAN = time.perf_counter()
PROMPT = "a penguin, 3d style"


def report(**found):
    found["peak_mb"] = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6)
    print(json.dumps(found))


def timed(work, rounds):
    """Median seconds of a piece of work that was done once before."""
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


def picture(folder, steps, way="eager"):
    import torch

    pipe = pipeline(folder)
    size = pipe.unet.config.sample_size * pipe.vae_scale_factor
    if way == "openvino":
        with torch.no_grad():
            draw_in_openvino(pipe)

    def work():
        generator = torch.Generator("cpu").manual_seed(1)
        call = dict(num_inference_steps=int(steps), guidance_scale=4.0, width=size, height=size, generator=generator)
        return pipe(PROMPT, output_type="np", **call).images

    value = work()
    report(seconds=timed(work, 9), mean=float((value * 255).round().mean()))


def draw_in_openvino(pipe):
    """UNet and VAE's decoder converted; the text is read twice a picture, by torch."""
    import torch

    side, clip = pipe.unet.config.sample_size, pipe.text_encoder.config
    states = pattern(2, clip.max_position_embeddings, clip.hidden_size)
    unet = in_openvino(pipe.unet, (pattern(2, 4, side, side), torch.tensor(500.0), states))
    pipe.unet.forward = lambda x, t, encoder_hidden_states, **_: (unet(x, t.float(), encoder_hidden_states),)

    decode = in_openvino(decoder(pipe.vae), (pattern(1, 4, side, side),))
    pipe.vae.decode = lambda latents, **_: (decode(latents),)


def pattern(*shape):
    import torch

    numbers = torch.arange(torch.Size(shape).numel(), dtype=torch.float64)
    return numbers.sin().float().reshape(shape)


def unet(folder, side, way="eager"):
    from diffusers import UNet2DConditionModel

    side = int(side) // 8
    model = UNet2DConditionModel.from_pretrained(folder).eval()
    network(model, way, (pattern(2, 4, side, side), 500.0, pattern(2, 77, 768)))


def unet_xl(folder):
    """In f32 from f16 files, as on a processor; no other way fits into 24 GB."""
    import torch
    from diffusers import UNet2DConditionModel

    class Told(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.unet = UNet2DConditionModel.from_pretrained(folder, torch_dtype=torch.float32)

        def forward(self, sample, states, pooled, numbers):
            told = {"text_embeds": pooled, "time_ids": numbers}
            return self.unet(sample, 500.0, states, added_cond_kwargs=told).sample

    numbers = torch.tensor([[1024.0, 1024.0, 0.0, 0.0, 1024.0, 1024.0]] * 2)
    network(Told().eval(), "eager", (pattern(2, 4, 128, 128), pattern(2, 77, 2048), pattern(2, 1280), numbers))


def decoder(vae):
    """The VAE as a network from latents to a picture."""
    import torch

    class Decode(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.vae = vae

        def forward(self, latents):
            return self.vae.decode(latents, return_dict=False)[0]

    return Decode().eval()


def vae(folder, side, way="eager"):
    from diffusers import AutoencoderKL

    side = int(side) // 8
    network(decoder(AutoencoderKL.from_pretrained(folder)), way, (pattern(1, 4, side, side),))


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
        # Large pictures take their time.
        seconds = timed(lambda: call(*tensors), 1 if tensors[0].shape[-1] > 64 else 3)
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


def start(folder, _steps):
    pipeline(folder)
    report(seconds=time.perf_counter() - BEGAN)


def since_start():
    """Seconds since this process was started, by the system's clock."""
    with open("/proc/self/stat") as stat, open("/proc/uptime") as uptime:
        started = int(stat.read().rsplit(")", 1)[1].split()[19]) / os.sysconf("SC_CLK_TCK")
        return float(uptime.read().split()[0]) - started


def anonymous_mb():
    with open("/proc/self/status") as status:
        kb = next(int(line.split()[1]) for line in status if line.startswith("RssAnon"))
    return round(kb * 1024 / 1e6)


def load(folder):
    """`seconds`: from the call of `from_pretrained` to the first call of the UNet, the prompt read by then;
    `process`: the same from the start of the process; `step`: from the call to the end of that UNet call, at
    64 x 64 pixels, after which every weight was looked at."""
    import torch
    from diffusers import DiffusionPipeline

    begin = time.perf_counter()
    pipe = DiffusionPipeline.from_pretrained(folder, torch_dtype=torch.float32)
    pipe.set_progress_bar_config(disable=True)
    found = {}

    def first(unet, inputs):
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        found.update(seconds=time.perf_counter() - begin, process=since_start(), begin_mb=round(peak * 1024 / 1e6))

    class Enough(Exception):
        pass

    def after(unet, inputs, output):
        found.update(step=time.perf_counter() - begin, anonymous_mb=anonymous_mb())
        raise Enough

    pipe.unet.register_forward_pre_hook(first)
    pipe.unet.register_forward_hook(after)
    try:
        pipe(PROMPT, num_inference_steps=20, width=64, height=64)
    except Enough:
        report(**found)


globals()[sys.argv[1]](*sys.argv[2:])
