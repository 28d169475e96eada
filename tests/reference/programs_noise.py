"""Writes the references of tests/parity_noise.rs that other programs compute: A1111's and ComfyUI's noise.

Runs their own source, which is not in this repository, from a checkout of each, and torchsde 0.2.6:

    python -m pip install scipy torchsde==0.2.6
    OMP_NUM_THREADS=1 python tests/reference/programs_noise.py STABLE_DIFFUSION_WEBUI COMFYUI

Written with AUTOMATIC1111's stable-diffusion-webui 1.10 and ComfyUI 0.3. What ComfyUI draws on an NVIDIA
card is A1111's `rng_philox.Generator`, which draws as a card does, asked for the whole batch.
"""

import ast
import importlib
import json
import pathlib
import sys
import types

import numpy as np
import torch
import torchsde
from safetensors.torch import save_file
from torchsde._brownian import brownian_interval

OUT = pathlib.Path("tests/reference/data/samplers")
SIGMAS = [14.614643096923828, 6.103515148162842, 1.7000000476837158, 0.029167160391807556]


def a1111(folder):
    """`modules.rng` with stand-ins for what it imports."""
    sys.path.insert(0, str(folder))
    modules = types.ModuleType("modules")
    modules.__path__ = [str(pathlib.Path(folder) / "modules")]
    cpu = torch.device("cpu")
    devices = types.ModuleType("modules.devices")
    devices.device, devices.cpu = cpu, cpu
    shared = types.ModuleType("modules.shared")
    shared.opts, shared.device = types.SimpleNamespace(randn_source="NV", eta_noise_seed_delta=0), cpu
    modules.devices, modules.shared = devices, shared
    sys.modules |= {"modules": modules, "modules.devices": devices, "modules.shared": shared}
    return importlib.import_module("modules.rng"), shared.opts


def parts(path, names):
    """Some functions and classes of a file, without what the rest of it imports."""
    tree = ast.parse(pathlib.Path(path).read_text())
    tree.body = [node for node in tree.body if getattr(node, "name", None) in names]
    found = {"torch": torch, "np": np, "torchsde": torchsde}
    exec(compile(tree, str(path), "exec"), found)
    return [found[name] for name in names]


def cases():
    """Shape, seeds of the batch, and what is asked beside, as Easel's `Seeding` has it."""
    card, cpu, comfy = {"mode": "a1111"}, {"mode": "a1111_cpu"}, {"mode": "comfyui"}
    varied = {"variation_seed": 99, "variation_strength": 0.3}
    for mode in (card, cpu):
        yield [4, 4, 6], [5, 6], mode
        yield [4, 4, 6], [2**40 + 8], mode | {"ensd": 31337}
        yield [4, 4, 6], [7, 7], mode | varied
        yield [4, 6, 4], [7], mode | varied | {"resize_from": [56, 24], "ensd": -3}
        yield [4, 3, 7], [7], mode | {"resize_from": [24, 48]}
    # The same seed twice: A1111 then mixes the other way round, which is the same.
    yield [4, 4, 6], [7], card | {"variation_seed": 7, "variation_strength": 0.3}
    yield [4, 4, 6], [5], comfy
    yield [4, 4, 6], [2**40 + 8] * 3, comfy


def web_ui(rng, opts, trees, shape, seeds, asked):
    opts.randn_source = "NV" if asked["mode"] == "a1111" else "CPU"
    opts.eta_noise_seed_delta = asked.get("ensd", 0)
    width, height = asked.get("resize_from", [0, 0])
    strength = asked.get("variation_strength", 0.0)
    others = [asked.get("variation_seed", 0) + i for i in range(len(seeds))]
    image = rng.ImageRNG(tuple(shape), seeds, others, strength, height, width)
    noises = [image.next() for _ in range(3)]
    # sd_samplers_common.py, replace_torchsde_browinan.
    ours = lambda size, dtype, device, seed: rng.randn_local(seed, size).to(device=device, dtype=dtype)
    return noises + motion(trees, ours, torch.zeros(len(seeds), *shape), seeds)


def comfy_ui(rng, prepare_noise, trees, shape, seeds):
    x = torch.zeros(len(seeds), *shape)
    card = rng.rng_philox.Generator(seeds[0])
    later = [torch.from_numpy(card.randn(x.shape)) for _ in range(2)]
    return [prepare_noise(x, seeds[0])] + later + motion(trees, None, x, seeds[0])


def motion(trees, randn, x, seed):
    usual = brownian_interval._randn
    brownian_interval._randn = randn or usual
    sigmas = torch.tensor(SIGMAS)
    sampler = trees(x, sigmas.min(), sigmas.max(), seed=seed, cpu=True)
    ways = [(0, 1), (1, 2), (0, 2), (2, 3)]
    moved = [sampler(sigmas[a], sigmas[b]) for a, b in ways]
    brownian_interval._randn = usual
    return moved


def main():
    rng, opts = a1111(sys.argv[1])
    comfy = pathlib.Path(sys.argv[2]) / "comfy"
    (prepare_noise,) = parts(comfy / "sample.py", ["prepare_noise"])
    names = ["BatchedBrownianTree", "BrownianTreeNoiseSampler"]
    trees = parts(comfy / "k_diffusion/sampling.py", names)[1]
    listed, tensors = [], {}
    for number, (shape, seeds, asked) in enumerate(cases()):
        if asked["mode"] == "comfyui":
            noises = comfy_ui(rng, prepare_noise, trees, shape, seeds)
        else:
            noises = web_ui(rng, opts, trees, shape, seeds, asked)
        key = f"{number}.{asked['mode']}"
        tensors[key] = torch.stack(noises).contiguous()
        listed.append({"key": key, "shape": shape, "seeds": seeds, "seeding": asked})
    save_file(tensors, OUT / "programs_noise.safetensors")
    lines = ",\n".join(map(json.dumps, listed))
    (OUT / "programs_noise.json").write_text(f'{{"sigmas": {SIGMAS}, "cases": [\n{lines}\n]}}\n')


if __name__ == "__main__":
    main()
