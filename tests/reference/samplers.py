"""Writes the references of tests/parity_samplers.rs and tests/parity_noise.rs.

Runs diffusers' schedulers (0.42.1) and, where diffusers has none, k-diffusion's samplers
(0.1.1.post1) over a small denoiser that both sides compute alike, and torch's CPU generator (2.13.0).
Run from the repository root, with one thread:

    python -m pip install scipy torchsde && python -m pip install --no-deps k-diffusion==0.1.1.post1
    OMP_NUM_THREADS=1 python tests/reference/samplers.py

Every case is described in `cases.json`, which the Rust tests read, so that the two cannot drift apart.
"""

import importlib.util
import json
import math
import pathlib
import sys
import types
import warnings

import diffusers
import numpy as np
import torch
from diffusers.schedulers import scheduling_dpmsolver_sde
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
    "dpmpp_sde": diffusers.DPMSolverSDEScheduler,
    "dpm2": diffusers.KDPM2DiscreteScheduler,
    "dpm2_a": diffusers.KDPM2AncestralDiscreteScheduler,
    "lms": diffusers.LMSDiscreteScheduler,
    "pndm": diffusers.PNDMScheduler,
    "ddpm": diffusers.DDPMScheduler,
    "deis": diffusers.DEISMultistepScheduler,
    "dpmpp_2m_sde_heun": diffusers.DPMSolverMultistepScheduler,
    "unipc_bh2": diffusers.UniPCMultistepScheduler,
    "tcd": diffusers.TCDScheduler,
    "sa_solver": diffusers.SASolverScheduler,
}
FIRST = ["ddim", "euler", "euler_a", "heun", "dpmpp_2m", "dpmpp_2m_sde", "unipc", "lcm"]
# Two calls of the network are one step, except the last.
TWICE = ["heun", "dpm2", "dpm2_a", "dpmpp_sde"]
ALPHAS = ["ddim", "lcm", "pndm", "ddpm", "tcd"]
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
    "beta": NO_SIGMAS | {"use_beta_sigmas": True},
}
# Schedules that diffusers' class of the sampler does not know have no reference.
UNKNOWN = {
    "ddim": ["karras", "exponential", "beta"],
    "euler_a": ["karras", "exponential", "beta"],
    "lcm": ["karras", "exponential", "beta", "trailing", "leading", "linspace"],
    # PNDM's first step is odd where the second timestep is not one stride below the first.
    "pndm": ["karras", "exponential", "beta", "linspace"],
    "ddpm": ["karras", "exponential", "beta"],
    "tcd": ["karras", "exponential", "beta", "trailing", "leading", "linspace"],
}
# What they cannot do.
NO_SAMPLE = ["euler_a", "dpmpp_sde", "dpm2", "dpm2_a", "pndm"]
NO_ZERO_SNR = ["heun", "dpmpp_sde", "dpm2", "dpm2_a", "lms", "pndm", "deis", "sa_solver"]
DRAWS = ["euler_a", "dpmpp_2m_sde", "lcm", "dpm2_a", "ddpm", "dpmpp_2m_sde_heun", "tcd", "sa_solver"]


def scheduler(sampler, config, schedule):
    overrides = dict(SCHEDULES[schedule])
    if sampler in ("dpmpp_2m_sde", "dpmpp_2m_sde_heun"):
        overrides["algorithm_type"] = "sde-dpmsolver++"
    if sampler == "dpmpp_2m_sde_heun":
        overrides["solver_type"] = "heun"
    if sampler == "sa_solver":
        overrides["algorithm_type"] = "data_prediction"
    if sampler == "pndm":
        overrides["skip_prk_steps"] = True
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


def mixed(value):
    """splitmix64's output function."""
    bits = 2**64 - 1
    value = (value + 0x9E3779B97F4A7C15) & bits
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & bits
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & bits
    return value ^ (value >> 31)


class Motion:
    """Easel's Brownian motion (`src/samplers/brownian.rs`) in place of torchsde's."""

    def __init__(self, *_):
        pass

    def __call__(self, sigma, sigma_next):
        start, end = float(sigma), float(sigma_next)
        ways = [self.at(seed, end) - self.at(seed, start) for seed in SEEDS]
        return (torch.stack(ways) / abs(end - start) ** 0.5).float()

    def at(self, seed, time):
        def noise(node):
            # The low 32 bits, which is what torch's generator uses.
            generator = torch.Generator("cpu").manual_seed(mixed(seed ^ mixed(node)) & 0xFFFFFFFF)
            return torch.randn(SHAPE[1:], generator=generator).double()

        def bridge(node, t):
            share = (t - first) / (last - first)
            middle = at_first + share * (at_last - at_first)
            return middle + max(share * (last - t), 0.0) ** 0.5 * noise(node)

        first, last = 2.0**-16, 2.0**16
        at_first, at_last = torch.zeros(SHAPE[1:]).double(), noise(0) * (last - first) ** 0.5
        node = 1
        for _ in range(15):
            middle = math.sqrt(first * last)
            at_middle = bridge(node, middle)
            if time < middle:
                last, at_last, node = middle, at_middle, 2 * node
            else:
                first, at_first, node = middle, at_middle, 2 * node + 1
        return bridge(node, time)


scheduling_dpmsolver_sde.BrownianTreeNoiseSampler = Motion


def trajectory(sampler, config, schedule, steps, tuning):
    """The latents after every step, `[steps, *SHAPE]`."""
    if sampler == "ddim_cfg_pp":
        return ddim_cfg_pp(config, schedule, steps)
    if sampler in OTHERS or tuning:
        return k_trajectory(sampler, config, schedule, steps, tuning)
    s = scheduler(sampler, config, schedule)
    s.set_timesteps(steps)
    if hasattr(s, "set_begin_index"):
        # Else two equal whole timesteps at the start make diffusers skip a sigma, and fail at the end.
        s.set_begin_index(0)
    streams = generators()
    x = draw(streams) * s.init_noise_sigma
    kept = []
    for index, timestep in enumerate(s.timesteps):
        model_output = network(s.scale_model_input(x, timestep), timestep)
        drawing = {"generator": streams} if sampler in DRAWS else {}
        x = s.step(model_output, timestep, x, **drawing).prev_sample
        if sampler == "pndm":
            # The first step looks twice.
            if index > 0 or steps == 1:
                kept.append(x)
        elif sampler not in TWICE or index % 2 == 1 or index == len(s.timesteps) - 1:
            kept.append(x)
    kept = torch.stack(kept)
    assert kept.shape == (steps, *SHAPE), (sampler, config, schedule, steps, kept.shape)
    assert kept.isfinite().all(), (sampler, config, schedule, steps)
    return kept


def k_diffusion():
    """k-diffusion's `sampling.py` alone: the rest of the package is for training."""
    folder = pathlib.Path(importlib.util.find_spec("k_diffusion").origin).parent
    package = types.ModuleType("k_diffusion")
    package.__path__ = [str(folder)]
    package.utils = types.SimpleNamespace(append_dims=lambda x, n: x[(...,) + (None,) * (n - x.ndim)])
    odes = types.ModuleType("torchdiffeq")
    odes.odeint = None
    sys.modules |= {"k_diffusion": package, "torchdiffeq": odes}
    return importlib.import_module("k_diffusion.sampling")


K = k_diffusion()


def ipndm(model, x, sigmas, callback, **_):
    """ComfyUI `comfy/k_diffusion/sampling.py`, `sample_ipndm`, of order four."""
    slopes = []
    for i in range(len(sigmas) - 1):
        denoised = model(x, sigmas[i].expand(len(x)))
        callback({"x": x, "i": i})
        d = (x - denoised) / sigmas[i]
        b = slopes[::-1]
        order = min(4, i + 1)
        if order == 1:
            mean = d
        elif order == 2:
            mean = (3 * d - b[0]) / 2
        elif order == 3:
            mean = (23 * d - 16 * b[0] + 5 * b[1]) / 12
        else:
            mean = (55 * d - 59 * b[0] + 37 * b[1] - 9 * b[2]) / 24
        x = x + (sigmas[i + 1] - sigmas[i]) * mean if sigmas[i + 1] > 0 else denoised
        slopes.append(d)
    return x


def euler_cfg_pp(model, x, sigmas, callback, **_):
    """ComfyUI `comfy/k_diffusion/sampling.py`, `sample_euler_cfg_pp`."""
    for i in range(len(sigmas) - 1):
        callback({"x": x, "i": i})
        sigma = sigmas[i].expand(len(x))
        unguided = (x - model(x, sigma, 0.9)) / sigmas[i]
        x = model(x, sigma) + unguided * sigmas[i + 1]
    return x


def ddim_cfg_pp(config, schedule, steps):
    """AUTOMATIC1111 1.10 `modules/sd_samplers_timesteps_impl.py`, `ddim_cfgpp`, of epsilon."""
    s = scheduler("ddim", config, schedule)
    s.set_timesteps(steps)
    x = draw(generators())
    kept = []
    for t in s.timesteps:
        previous = t - s.config.num_train_timesteps // steps
        a = s.alphas_cumprod[t]
        a_prev = s.alphas_cumprod[previous] if previous >= 0 else s.final_alpha_cumprod
        pred_x0 = (x - (1 - a) ** 0.5 * network(x, t)) / a**0.5
        x = a_prev**0.5 * pred_x0 + (1 - a_prev) ** 0.5 * network(0.9 * x, t)
        kept.append(x)
    return torch.stack(kept)


def restart(model, x, sigmas, callback, noise, **_):
    """AUTOMATIC1111 1.10 `modules/sd_samplers_extra.py`, `restart_sampler`."""
    steps = len(sigmas) - 1
    restarts = {}
    if steps >= 20:
        restart_steps, restart_times = (9, 1) if steps < 36 else (steps // 4, 2)
        sigmas = K.get_sigmas_karras(
            steps - restart_steps * restart_times, sigmas[-2].item(), sigmas[0].item()
        )
        restarts = {int(torch.argmin(abs(sigmas - 0.1))): (restart_steps + 1, restart_times, 2)}
    pairs = []
    for i in range(len(sigmas) - 1):
        pairs.append((sigmas[i], sigmas[i + 1]))
        if i + 1 in restarts:
            restart_steps, restart_times, highest = restarts[i + 1]
            back = int(torch.argmin(abs(sigmas - highest)))
            if back < i + 1:
                again = K.get_sigmas_karras(restart_steps, sigmas[i + 1].item(), sigmas[back].item())[:-1]
                for _ in range(restart_times):
                    pairs.extend(zip(again[:-1], again[1:]))
    last = None
    for index, (old, new) in enumerate(pairs):
        callback({"x": x, "i": index})
        if last is not None and last < old:
            x = x + noise() * (old**2 - last**2) ** 0.5
        d = (x - model(x, old.expand(len(x)))) / old
        if new > 0:
            ahead = x + d * (new - old)
            d = (d + (ahead - model(ahead, new.expand(len(x)))) / new) / 2
        x = x + d * (new - old)
        last = new
    return x


# Those that diffusers does not have, and k-diffusion's of those that it cannot tune.
OTHERS = {
    "dpmpp_2s_a": K.sample_dpmpp_2s_ancestral,
    "dpmpp_3m_sde": K.sample_dpmpp_3m_sde,
    "ipndm": ipndm,
    "restart": restart,
    "euler_cfg_pp": euler_cfg_pp,
}
TUNED = {
    "euler": K.sample_euler,
    "euler_a": K.sample_euler_ancestral,
    "heun": K.sample_heun,
    "dpm2": K.sample_dpm_2,
    "dpm2_a": K.sample_dpm_2_ancestral,
    "dpmpp_sde": K.sample_dpmpp_sde,
}


def k_trajectory(sampler, config, schedule, steps, tuning):
    """k-diffusion's, on the sigmas of diffusers' Euler, with fractional timesteps."""
    s = scheduler("euler", config, schedule)
    s.set_timesteps(steps)
    log_sigmas = np.log(np.array(((1 - s.alphas_cumprod) / s.alphas_cumprod) ** 0.5))

    def model(x, sigma, seen=1.0):
        sigma = sigma[0]
        timestep = s._sigma_to_t(sigma.numpy(), log_sigmas)
        answer = network(seen * x / (sigma**2 + 1) ** 0.5, timestep)
        if config.get("prediction_type") == "v_prediction":
            return x / (sigma**2 + 1) - answer * sigma / (sigma**2 + 1) ** 0.5
        return x - sigma * answer

    streams = generators()
    x = draw(streams) * s.init_noise_sigma
    kept = []
    more = dict(tuning)
    if "sde" in sampler:
        more["noise_sampler"] = Motion()
    elif sampler.endswith("_a"):
        more["noise_sampler"] = lambda *_: draw(streams)
    elif sampler == "restart":
        more["noise"] = lambda: draw(streams)
    elif "s_churn" in tuning:
        K.torch = types.SimpleNamespace(**vars(torch) | {"randn_like": lambda _: draw(streams)})
    sample = OTHERS.get(sampler) or TUNED[sampler]
    last = sample(model, x, s.sigmas, callback=lambda info: kept.append(info["x"]), disable=True, **more)
    K.torch = torch
    if "s_churn" in tuning:
        # Its callback sees the latents after the noise.
        return last[None]
    kept = torch.stack(kept[1:] + [last])
    assert kept.shape == (steps, *SHAPE), (sampler, config, schedule, steps, kept.shape)
    return kept


def cases():
    predictions = ["epsilon", "v_prediction", "sample"]
    for sampler in FIRST:
        known = [s for s in SCHEDULES if s != "beta" and s not in UNKNOWN.get(sampler, [])]
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


def more_cases():
    """Fewer a sampler: what is shared by all of a kind is above."""
    for sampler in [s for s in CLASSES if s not in FIRST]:
        for schedule in [s for s in SCHEDULES if s not in UNKNOWN.get(sampler, [])]:
            for steps in [1, 2, 5, 20] if schedule == "model" else [8]:
                yield sampler, schedule, steps, SD
        yield sampler, "model", 20, SD | {"prediction_type": "v_prediction"}
        if sampler not in NO_SAMPLE:
            yield sampler, "model", 5, SD | {"prediction_type": "sample"}
        if sampler not in NO_ZERO_SNR:
            yield sampler, "model", 10, ZSNR
        yield sampler, "model", 4, {}
        if sampler != "dpm2_a":
            # diffusers' f32 root of what rounding made negative is NaN there.
            yield sampler, "model", 10, COSINE
        yield sampler, "model", 30, SD | {"timestep_spacing": "trailing"}
        if sampler != "pndm":
            yield sampler, "model", 4, SD | {
                "thresholding": True,
                "dynamic_thresholding_ratio": 0.8,
                "sample_max_value": 1.5,
            }
    for sampler in ["euler", "heun", "dpmpp_2m", "dpmpp_2m_sde", "unipc"]:
        yield sampler, "beta", 8, SD
    yield "ddpm", "model", 4, SD | {"clip_sample": True, "clip_sample_range": 0.6}
    for order in [1, 3]:
        yield "deis", "model", 20, SD | {"solver_order": order}
    yield "deis", "model", 8, SD | {"solver_order": 3}
    yield "sa_solver", "model", 8, SD | {"lower_order_final": False}
    yield "tcd", "model", 4, SD | {"original_inference_steps": 100}
    for sampler in OTHERS:
        for schedule, steps in [("karras", 2), ("karras", 5), ("model", 20), ("exponential", 40)]:
            yield sampler, schedule, steps, SD
        if sampler != "euler_cfg_pp":
            yield sampler, "karras", 20, SD | {"prediction_type": "v_prediction"}
    for steps in [1, 4, 20]:
        yield "ddim_cfg_pp", "model", steps, SD
    for sampler in ["euler_a", "dpm2_a", "dpmpp_2s_a", "dpmpp_sde", "dpmpp_3m_sde"]:
        yield sampler, "exponential" if sampler != "euler_a" else "model", 8, SD, {"eta": 0.6, "s_noise": 0.9}
    for sampler in ["euler", "heun", "dpm2"]:
        for churn in [2.0, 40.0]:
            yield sampler, "model", 8, SD, {"s_churn": churn, "s_noise": 1.1}


# AUTOMATIC1111 1.10 `modules/sd_schedulers.py`, but for the last (ComfyUI `comfy/samplers.py`). `inner`
# has k-diffusion's `sigma_to_t` and `t_to_sigma` (`external.py`, `DiscreteSchedule`).


def sgm_uniform(n, inner):
    start, end = inner.sigma_to_t(inner.sigma_max), inner.sigma_to_t(inner.sigma_min)
    return [inner.t_to_sigma(ts) for ts in torch.linspace(start, end, n + 1)[:-1]] + [0.0]


def normal(n, inner):
    start, end = inner.sigma_to_t(inner.sigma_max), inner.sigma_to_t(inner.sigma_min)
    return [inner.t_to_sigma(ts) for ts in torch.linspace(start, end, n)] + [0.0]


def simple(n, inner):
    ss = len(inner.sigmas) / n
    return [float(inner.sigmas[-(1 + int(x * ss))]) for x in range(n)] + [0.0]


def ddim_uniform(n, inner):
    ss = max(len(inner.sigmas) // n, 1)
    # Easel leaves out what is more than n.
    return [float(inner.sigmas[1 + i * ss]) for i in range(n)][::-1] + [0.0]


def align_your_steps(n, inner, sigmas=(14.615, 6.475, 3.861, 2.697, 1.886, 1.396, 0.963, 0.652, 0.399, 0.152, 0.029)):
    xs = np.linspace(0, 1, len(sigmas))
    ys = np.log(sigmas[::-1])
    # Easel begins at pure noise if there is one step only.
    new_ys = np.interp(np.linspace(0, 1, n) if n > 1 else [1.0], xs, ys)
    return list(np.exp(new_ys)[::-1]) + [0.0]


def align_your_steps_xl(n, inner):
    return align_your_steps(n, inner, (14.615, 6.315, 3.771, 2.181, 1.342, 0.862, 0.555, 0.380, 0.234, 0.113, 0.029))


def kl_optimal(n, inner):
    alpha_min, alpha_max = math.atan(inner.sigma_min), math.atan(inner.sigma_max)
    steps = torch.arange(n + 1, dtype=torch.float64)
    return list(torch.tan(steps / n * alpha_min + (1.0 - steps / n) * alpha_max))


def polyexponential(n, inner):
    return list(K.get_sigmas_polyexponential(n, inner.sigma_min, inner.sigma_max, inner.rho or 1.0))


def karras(n, inner):
    return list(K.get_sigmas_karras(n, inner.sigma_min, inner.sigma_max, inner.rho or 7.0))


def linear_quadratic(steps, inner, threshold_noise=0.025):
    if steps == 1:
        schedule = [1.0, 0.0]
    else:
        linear_steps = steps // 2
        linear = [i * threshold_noise / linear_steps for i in range(linear_steps)]
        diff = linear_steps - threshold_noise * steps
        quadratic_steps = steps - linear_steps
        quadratic_coef = diff / (linear_steps * quadratic_steps**2)
        linear_coef = threshold_noise / linear_steps - 2 * diff / (quadratic_steps**2)
        const = quadratic_coef * (linear_steps**2)
        quadratic = [quadratic_coef * (i**2) + linear_coef * i + const for i in range(linear_steps, steps)]
        schedule = [1.0 - x for x in linear + quadratic + [1.0]]
    return [x * inner.sigma_max for x in schedule]


FORMULAS = {
    "sgm_uniform": sgm_uniform,
    "normal": normal,
    "simple": simple,
    "ddim_uniform": ddim_uniform,
    "align_your_steps": align_your_steps,
    "align_your_steps_xl": align_your_steps_xl,
    "kl_optimal": kl_optimal,
    "polyexponential": polyexponential,
    "linear_quadratic": linear_quadratic,
}


class Inner:
    def __init__(self, alphas_cumprod, tuning):
        self.sigmas = ((1 - alphas_cumprod) / alphas_cumprod) ** 0.5
        self.log_sigmas = self.sigmas.log()
        self.sigma_min = tuning.get("sigma_min", self.sigmas[0].item())
        self.sigma_max = tuning.get("sigma_max", self.sigmas[-1].item())
        self.rho = tuning.get("rho")

    def sigma_to_t(self, sigma):
        # `quantize` false, in f64.
        dists = math.log(sigma) - self.log_sigmas.double()
        low = min(int((dists >= -1e-7).sum()) - 1, len(self.sigmas) - 2)
        low_log, high_log = self.log_sigmas[low].item(), self.log_sigmas[low + 1].item()
        w = min(max((low_log - math.log(sigma)) / (low_log - high_log), 0.0), 1.0)
        return (1 - w) * low + w * (low + 1)

    def t_to_sigma(self, t):
        low, w = math.floor(t), float(t) % 1.0
        high = math.ceil(t)
        return ((1 - w) * self.log_sigmas[low] + w * self.log_sigmas[high]).exp()


def formula_levels(schedule, config, steps, tuning):
    s = scheduler("euler", config, "model")
    inner = Inner(s.alphas_cumprod, tuning)
    sigmas = (FORMULAS | {"karras": karras})[schedule](steps, inner)
    sigmas = torch.tensor([float(x) for x in sigmas], dtype=torch.float64)
    timesteps = torch.tensor([inner.sigma_to_t(x) for x in sigmas[:steps]], dtype=torch.float64)
    # As diffusers' Euler with "leading".
    return timesteps, sigmas, (sigmas[0] ** 2 + 1) ** 0.5


def levels(sampler, config, schedule, steps, tuning):
    """Timesteps (of whole steps) and what diffusers' class knows of the noise at each of them."""
    if schedule in FORMULAS or tuning:
        return formula_levels(schedule, config, steps, tuning)
    s = scheduler(sampler, config, schedule)
    s.set_timesteps(steps)
    timesteps = s.timesteps.double()
    if sampler in ("dpm2", "dpm2_a"):
        timesteps = timesteps[::2]
    elif sampler == "dpmpp_sde":
        timesteps = timesteps[::2]
    elif sampler in TWICE:
        timesteps = torch.cat([timesteps[:1], timesteps[1::2]])
    if sampler in ALPHAS:
        noise = s.alphas_cumprod[s.timesteps].double()
    else:
        sigmas = s.sigmas.double()
        noise = torch.cat([sigmas[:1], sigmas[1::2]]) if sampler in TWICE else sigmas
    return timesteps, noise, torch.as_tensor(s.init_noise_sigma, dtype=torch.float64)


def more_tables():
    for sampler in [s for s in CLASSES if s not in FIRST and s != "pndm"]:
        for schedule in [s for s in SCHEDULES if s not in UNKNOWN.get(sampler, [])]:
            yield sampler, schedule, 25, SD
        for config in [{}, ZSNR]:
            yield sampler, "model", 10, config
    for sampler in ["euler", "heun", "dpmpp_2m", "dpmpp_2m_sde", "unipc"]:
        for steps in [1, 2, 20, 200]:
            yield sampler, "beta", steps, SD
    for name in FORMULAS:
        for steps in [1, 2, 3, 10, 11, 25] if name != "kl_optimal" else [10, 25]:
            yield "euler", name, steps, SD
    yield "euler", "polyexponential", 10, SD, {"rho": 2.0, "sigma_min": 0.1, "sigma_max": 10.0}
    yield "euler", "karras", 10, SD, {"rho": 3.0, "sigma_min": 0.05, "sigma_max": 10.0}


def tables():
    for sampler in FIRST:
        for schedule in [s for s in SCHEDULES if s != "beta" and s not in UNKNOWN.get(sampler, [])]:
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
    for index, (sampler, schedule, steps, config, *tuning) in enumerate(entries):
        tuning = tuning[0] if tuning else {}
        tensors |= compute(str(index), sampler, config, schedule, steps, tuning)
        case = {"sampler": sampler, "schedule": schedule, "steps": steps, "config": config}
        listed.append(case | ({"tuning": tuning} if tuning else {}))
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
        "more_trajectories": write("more_trajectories", more_cases(), trajectory_of),
        "more_tables": write("more_tables", more_tables(), levels_of),
    }
    rows = [
        f'"{key}": ' + ("[\n" + ",\n".join(map(json.dumps, value)) + "\n]" if key not in ("shape", "seeds") else json.dumps(value))
        for key, value in listed.items()
    ]
    (OUT / "cases.json").write_text("{\n" + ",\n".join(rows) + "\n}\n")
    write_noise()


if __name__ == "__main__":
    main()
