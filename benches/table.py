"""Writes the tables of benches/README.md from the lines that benches/compare.sh collects.

    python table.py LINES README
"""

import datetime
import json
import os
import platform
import re
import statistics
import sys

WORK = {
    "picture": "a picture of the starter: 64 x 64, 20 steps DPM++ 2M, guidance, f32",
    "picture-1": "the same with one thread",
    "unet-512": "one UNet call of Stable Diffusion 1.5's size: 512 x 512, both halves of guidance, f32",
    "unet-512-1": "the same with one thread",
    "unet-768": "the same at 768 x 768, all threads",
    "unet-xl": "one UNet call of SDXL's size: 1024 x 1024, both halves of guidance, f16 files computed in f32",
    "vae-512": "decoding 512 x 512 with a VAE of Stable Diffusion 1.5's size, f32",
    "vae-1024": "the same at 1024 x 1024",
    "start": "start to usable window (diffusers: import and load the starter)",
}
MODELS = {
    "load-sd15": "Stable Diffusion 1.5, f32 files (4.3 GB)",
    "load-sdxl": "SDXL, f16 files (6.9 GB), computed in f32",
}
# What is compared of the loading of a model, and how it is written.
LOADING = {
    "seconds": ("from the call that loads to the first call of the UNet", "%.1f s"),
    "process": ("from the start of the process to the first call of the UNet", "%.1f s"),
    "step": ("from the call that loads to the end of that UNet call, at 64 x 64", "%.1f s"),
    "begin_mb": ("largest memory until the first call of the UNet", "%d MB"),
    "peak_mb": ("largest memory until the end of that call", "%d MB"),
    "anonymous_mb": ("of it not mapped from files, at the end of that call", "%d MB"),
}
# GFLOP/s of attention, and milliseconds from a key to its letter on the screen.
WAYS = {"easel": "Easel's kernel", "exact": "libtorch's, as `--exact` calls it", "plain": "plain operators, all scores in memory"}
SMOOTH = {"idle": "nothing is drawn", "drawing": "all cores draw"}
SIDES = {
    "easel": "Easel",
    "exact": "Easel `--exact`",
    "diffusers": "diffusers 0.42.1",
    "compiled": "diffusers, `torch.compile`",
    "openvino": "OpenVINO",
}
BEGIN, END = "<!-- table: written by compare.sh -->", "<!-- end of table -->"


def processor():
    with open("/proc/cpuinfo") as info:
        names = re.findall(r"model name\s*: (.*)", info.read())
    return "%d cores of %s" % (os.cpu_count(), names[0] if names else platform.machine())


def median(runs, key):
    return statistics.median(run[key] for run in runs)


def ratio(found, key):
    if "easel" not in found or "diffusers" not in found:
        return ""
    return "%.2f" % (median(found["easel"], key) / median(found["diffusers"], key))


def speed(runs):
    """A row for each piece of work, a column for each side."""
    sides = [side for side in SIDES if any(side in runs.get(work, {}) for work in WORK)]
    titles = [SIDES[side] for side in sides]
    rows = ["| work | " + " | ".join(titles) + " | time, Easel / diffusers | memory |", "|-|" + "-|" * (len(sides) + 2)]
    for work in (work for work in WORK if work in runs):
        found = runs[work]
        means = {side: of_side[0]["mean"] for side, of_side in found.items() if "mean" in of_side[0]}
        # Other ways of computing the same round differently, by parts in a million.
        if any(abs(mean / next(iter(means.values())) - 1) > 1e-3 for mean in means.values()):
            sys.exit("%s: not all did the same work: %s" % (work, means))
        cells = [
            "%.2f s, %d MB" % (median(found[side], "seconds"), median(found[side], "peak_mb")) if side in found else ""
            for side in sides
        ]
        ratios = [ratio(found, key) for key in ("seconds", "peak_mb")]
        rows.append("| %s | %s |" % (WORK[work], " | ".join(cells + ratios)))
    return rows


def loading(runs):
    rows = ["| loading | | Easel | diffusers 0.42.1 | Easel / diffusers |", "|-|-|-|-|-|"]
    for work in (work for work in MODELS if work in runs):
        found, title = runs[work], MODELS[work]
        for key, (words, form) in LOADING.items():
            cells = [form % median(found[side], key) if side in found else "" for side in ("easel", "diffusers")]
            rows.append("| %s | %s | %s | %s |" % (title, words, " | ".join(cells), ratio(found, key)))
            title = ""
    return rows


def attention(runs):
    rows = ["| attention of Stable Diffusion 1.5's UNet, two pictures, GFLOP/s | " + " | ".join(WAYS.values()) + " |", "|-|-|-|-|"]
    for shape in runs[0]:
        speeds = [statistics.median(run[shape][way] for run in runs) for way in WAYS]
        rows.append("| %s | %s |" % (shape, " | ".join("%.0f" % speed for speed in speeds)))
    return rows


def smooth(runs):
    rows = ["| from a key to its letter on the screen | median | 95 of 100 within | 99 of 100 within |", "|-|-|-|-|"]
    for when, words in SMOOTH.items():
        times = [statistics.median(run[when][share] for run in runs) for share in ("median", "p95", "p99")]
        rows.append("| %s | %s |" % (words, " | ".join("%.0f ms" % time for time in times)))
    return rows


def main():
    runs = {}
    for line in open(sys.argv[1]):
        who, work, found = line.split(" ", 2)
        runs.setdefault(work, {}).setdefault(who, []).append(json.loads(found))
    rows = speed(runs) if any(work in runs for work in WORK) else []
    if any(work in runs for work in MODELS):
        rows += [""] + loading(runs)
    for work, table in (("attention", attention), ("smooth", smooth)):
        if work in runs:
            rows += [""] + table(runs[work]["easel"])
    where = "%s, %s, %s" % (processor(), platform.system(), datetime.date.today())
    rows += ["", "Measured on %s; medians, the sides in turns." % where]
    text = open(sys.argv[2]).read()
    table = BEGIN + "\n" + "\n".join(rows) + "\n" + END
    text = re.sub(re.escape(BEGIN) + ".*" + re.escape(END), lambda _: table, text, flags=re.S)
    open(sys.argv[2], "w").write(text)
    print("\n".join(rows))


main()
