"""Writes the references of tests/parity_samplers.rs and tests/parity_noise.rs.

Runs diffusers' schedulers (0.42.1) over a small denoiser that both sides compute alike, and torch's
CPU generator (2.13.0). Run from the repository root, with one thread:

    OMP_NUM_THREADS=1 python tests/reference/samplers.py

Every case is described in `cases.json`, which the Rust tests read, so that the two cannot drift apart.
"""

import json
import pathlib
import warnings

import diffusers
import torch
from safetensors.torch import save_file

warnings.filterwarnings("ignore")
diffusers.utils.logging.set_verbosity_error()
OUT = pathlib.Path("tests/reference/data/samplers")
# [batch, channels, height, width]: 16 values a picture, one block of torch's Box-Muller.
SHAPE = [2, 4, 2, 2]
SEEDS = [7, 2**40 + 8]

CLASSES = {
    "ddim": diffusers.DDIMScheduler,
    "euler": diffusers.EulerDiscreteScheduler,
    "euler_a": diffusers.EulerAncestralDiscreteScheduler,
    "heun": diffusers.HeunDiscreteScheduler,
    "dpmpp_2m": diffusers.DPMSolverMultistepScheduler,
    "dpmpp_2m_sde": diffusers.DPMSolverMultistepScheduler,
    "unipc": diffusers.UniPCMultistepScheduler,
    "lcm": diffusers.LCMScheduler,
}
SD = {
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "steps_offset": 1,
    "clip_sample": False,
    "set_alpha_to_one": False,
    "timestep_spacing": "leading",
}
ZSNR = SD | {
    "rescale_betas_zero_snr": True,
    "timestep_spacing": "trailing",
    "prediction_type": "v_prediction",
}
# The model that ships.
STARTER = json.loads(pathlib.Path("weights/starter/scheduler/scheduler_config.json").read_text())
# Fewer training steps, and betas of their own.
SHORT = {"num_train_timesteps": 400, "beta_end": 0.05}
TRAINED = {"num_train_timesteps": 40, "trained_betas": [0.001 * (i + 1) for i in range(40)]}
COSINE = {"beta_schedule": "squaredcos_cap_v2"}
NO_SIGMAS = {
    "use_karras_sigmas": False,
    "use_exponential_sigmas": False,
    "use_beta_sigmas": False,
    "use_lu_lambdas": False,
}
SCHEDULES = {
    "model": {},
    "karras": NO_SIGMAS | {"use_karras_sigmas": True},
    "exponential": NO_SIGMAS | {"use_exponential_sigmas": True},
    "trailing": NO_SIGMAS | {"timestep_spacing": "trailing"},
    "leading": NO_SIGMAS | {"timestep_spacing": "leading"},
    "linspace": NO_SIGMAS | {"timestep_spacing": "linspace"},
}
# Schedules that diffusers' class of the sampler does not know have no reference.
UNKNOWN = {
    "ddim": ["karras", "exponential"],
    "euler_a": ["karras", "exponential"],
    "lcm": ["karras", "exponential", "trailing", "leading", "linspace"],
}


def scheduler(sampler, config, schedule):
    overrides = dict(SCHEDULES[schedule])
    if sampler == "dpmpp_2m_sde":
        overrides["algorithm_type"] = "sde-dpmsolver++"
    if sampler == "dpmpp_2m":
        overrides["algorithm_type"] = "dpmsolver++"
    return CLASSES[sampler].from_config(config | overrides)


def network(x, timestep):
    """Something of the size and smoothness of a network's answer, in f32."""
    return torch.tanh(x * 0.8 + x.roll(1, 3) * 0.3 + (float(timestep) / 1000 * 0.5 - 0.2))


def generators():
    return [torch.Generator("cpu").manual_seed(seed) for seed in SEEDS]


def draw(generator_list):
    return torch.cat([torch.randn([1, *SHAPE[1:]], generator=g) for g in generator_list])


def trajectory(sampler, config, schedule, steps):
    """The latents after every step, `[steps, *SHAPE]`."""
    s = scheduler(sampler, config, schedule)
    s.set_timesteps(steps)
    if sampler != "ddim":
        # Else two equal whole timesteps at the start make diffusers skip a sigma, and fail at the end.
        s.set_begin_index(0)
    streams = generators()
    x = draw(streams) * s.init_noise_sigma
    kept = []
    for index, timestep in enumerate(s.timesteps):
        model_output = network(s.scale_model_input(x, timestep), timestep)
        drawing = {"generator": streams} if sampler in ("euler_a", "dpmpp_2m_sde", "lcm") else {}
        x = s.step(model_output, timestep, x, **drawing).prev_sample
        # Two calls are one step of Heun's, except the last.
        if sampler != "heun" or index % 2 == 1 or index == len(s.timesteps) - 1:
            kept.append(x)
    kept = torch.stack(kept)
    assert kept.shape == (steps, *SHAPE), (sampler, config, schedule, steps, kept.shape)
    assert kept.isfinite().all(), (sampler, config, schedule, steps)
    return kept


def cases():
    predictions = ["epsilon", "v_prediction", "sample"]
    for sampler in CLASSES:
        known = [s for s in SCHEDULES if s not in UNKNOWN.get(sampler, [])]
        # EulerAncestralDiscreteScheduler cannot do "sample".
        own = predictions if sampler != "euler_a" else predictions[:2]
        for schedule in known:
            for prediction in own if schedule == "model" else own[:2]:
                for steps in [1, 2, 4, 20] if prediction == "epsilon" else [4, 20]:
                    yield sampler, schedule, steps, SD | {"prediction_type": prediction}
        for prediction in own[1:]:
            for steps in [1, 4, 20]:
                yield sampler, "model", steps, ZSNR | {"prediction_type": prediction}
        # What the classes do where a file says nothing.
        yield sampler, "model", 4, {}
        yield sampler, "model", 20, COSINE
        yield sampler, "model", 20, STARTER
        # Steps that do not divide 1000; DDIM does not land where it goes on.
        yield sampler, "model", 30, SD | {"timestep_spacing": "trailing"}
        yield sampler, "model", 7, SD | {"timestep_spacing": "trailing"}
        for clamp in [
            {"clip_sample": True, "clip_sample_range": 0.6},
            {"thresholding": True, "dynamic_thresholding_ratio": 0.8, "sample_max_value": 1.5},
        ]:
            yield sampler, "model", 4, SD | clamp
    for sampler in ["euler", "dpmpp_2m", "dpmpp_2m_sde", "unipc"]:
        for schedule in ["model", "karras"]:
            yield sampler, schedule, 20, SD | {"final_sigmas_type": "sigma_min"}
    for sampler in ["dpmpp_2m", "dpmpp_2m_sde"]:
        for extra in [
            {"solver_order": 1},
            {"solver_type": "heun"},
            {"solver_type": "heun", "final_sigmas_type": "sigma_min", "lower_order_final": False},
            {"euler_at_final": True, "final_sigmas_type": "sigma_min"},
            {"use_lu_lambdas": True},
            {"timestep_spacing": "linspace", "lambda_min_clipped": -1.5},
        ]:
            yield sampler, "model", 20, SD | extra
        yield sampler, "karras", 8, COSINE
    for extra in [
        {"solver_order": 1},
        {"solver_order": 3},
        {"solver_type": "bh1", "final_sigmas_type": "sigma_min"},
        {"solver_order": 3, "lower_order_final": False, "final_sigmas_type": "sigma_min"},
        {"disable_corrector": [0, 1, 5]},
    ]:
        yield "unipc", "model", 20, SD | extra
    yield "euler", "karras", 8, SD | {"sigma_min": 0.1, "sigma_max": 10.0}
    for sampler in ["unipc", "dpmpp_2m"]:
        ends = {"sigma_min": 0.1, "sigma_max": 10.0, "final_sigmas_type": "sigma_min"}
        yield sampler, "karras", 8, SD | ends
    yield "lcm", "model", 4, SD | {"original_inference_steps": 100, "timestep_scaling": 1.0}
    yield "lcm", "model", 4, SD | {"thresholding": True, "sample_max_value": 2.0}


def levels(sampler, config, schedule, steps):
    """Timesteps (of whole steps) and what diffusers' class knows of the noise at each of them."""
    s = scheduler(sampler, config, schedule)
    s.set_timesteps(steps)
    timesteps = s.timesteps.double()
    if sampler == "heun":
        timesteps = torch.cat([timesteps[:1], timesteps[1::2]])
    if sampler in ("ddim", "lcm"):
        noise = s.alphas_cumprod[s.timesteps].double()
    else:
        sigmas = s.sigmas.double()
        noise = torch.cat([sigmas[:1], sigmas[1::2]]) if sampler == "heun" else sigmas
    return timesteps, noise, torch.as_tensor(s.init_noise_sigma, dtype=torch.float64)


def tables():
    for sampler in CLASSES:
        for schedule in [s for s in SCHEDULES if s not in UNKNOWN.get(sampler, [])]:
            for steps in [1, 2, 3, 7, 20, 50]:
                yield sampler, schedule, steps, SD
        for config in [{}, COSINE, ZSNR, STARTER, SHORT]:
            yield sampler, "model", 25, config
        yield sampler, "model", 8, TRAINED | {"original_inference_steps": 20}
        if sampler != "lcm":
            # Halves, which numpy rounds to even.
            yield sampler, "trailing", 16, SD
            yield sampler, "trailing", 150, SD
            yield sampler, "linspace", 150, SD
    for sampler in ["dpmpp_2m", "unipc", "heun", "euler"]:
        for schedule in ["karras", "exponential"]:
            for config in [COSINE, ZSNR]:
                yield sampler, schedule, 12, config


def write(name, entries, compute):
    tensors, listed = {}, []
    for index, (sampler, schedule, steps, config) in enumerate(entries):
        tensors |= compute(str(index), sampler, config, schedule, steps)
        listed.append(
            {"sampler": sampler, "schedule": schedule, "steps": steps, "config": config}
        )
    save_file({key: value.contiguous() for key, value in tensors.items()}, OUT / f"{name}.safetensors")
    return listed


def trajectory_of(key, *case):
    return {key: trajectory(*case)}


def levels_of(key, *case):
    timesteps, noise, init = levels(*case)
    return {f"{key}.timesteps": timesteps, f"{key}.noise": noise, f"{key}.init": init}


def write_noise():
    """Draws in sequence from one generator: every size, and sizes that leave half a pair behind."""
    tensors = {}
    for seed in [0, 1, 42, 2**32 + 42, 2**64 - 1]:
        generator = torch.Generator("cpu").manual_seed(seed)
        sizes = [*range(1, 41), 1024, 5, 17, 3, 31, 1] if seed < 2 else [64, 7, 20]
        draws = [torch.randn([1, 1, 1, size], generator=generator).flatten() for size in sizes]
        tensors[f"{seed}.sizes"] = torch.tensor(sizes)
        tensors[f"{seed}.values"] = torch.cat(draws)
    generator = torch.Generator("cpu").manual_seed(3)
    tensors["large"] = torch.randn([1, 4, 64, 64], generator=generator)
    save_file(tensors, OUT / "noise.safetensors")


def main():
    OUT.mkdir(parents=True, exist_ok=True)
    listed = {
        "shape": SHAPE,
        "seeds": SEEDS,
        "trajectories": write("trajectories", cases(), trajectory_of),
        "tables": write("tables", tables(), levels_of),
    }
    rows = [
        f'"{key}": ' + ("[\n" + ",\n".join(map(json.dumps, value)) + "\n]" if key in ("trajectories", "tables") else json.dumps(value))
        for key, value in listed.items()
    ]
    (OUT / "cases.json").write_text("{\n" + ",\n".join(rows) + "\n}\n")
    write_noise()


if __name__ == "__main__":
    main()
