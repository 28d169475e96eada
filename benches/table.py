"""Writes the table of benches/README.md from the lines that benches/compare.sh collects.

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
    "unet-512": "one UNet call of Stable Diffusion 1.5's size: 512 x 512, both halves of guidance, f32",
    "unet-768": "the same at 768 x 768",
    "vae-512": "decoding 512 x 512 with a VAE of Stable Diffusion 1.5's size, f32",
    "vae-1024": "the same at 1024 x 1024",
    "start": "start to usable window (diffusers: import and load the starter)",
}
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


def main():
    runs = {}
    for line in open(sys.argv[1]):
        who, work, found = line.split(" ", 2)
        runs.setdefault(work, {}).setdefault(who, []).append(json.loads(found))
    sides = [side for side in SIDES if any(side in of_work for of_work in runs.values())]
    rows = [
        "| work | " + " | ".join(SIDES[side] for side in sides) + " | time, Easel / diffusers |",
        "|-|" + "-|" * (len(sides) + 1),
    ]
    for work, found in runs.items():
        for side, of_side in found.items():
            # Other ways of computing the same round differently, by parts in a million.
            if "mean" in of_side[0] and abs(of_side[0]["mean"] / found["diffusers"][0]["mean"] - 1) > 1e-3:
                sys.exit("%s: %s did not do the same work as diffusers: %s" % (work, side, found))
        cells = [
            "%.2f s, %d MB" % (median(found[side], "seconds"), median(found[side], "peak_mb")) if side in found else ""
            for side in sides
        ]
        ratio = median(found["easel"], "seconds") / median(found["diffusers"], "seconds")
        rows.append("| %s | %s | %.2f |" % (WORK[work], " | ".join(cells), ratio))
    rounds = len(next(iter(runs.values()))["easel"])
    rows.append("")
    where = "%s, %s, %s" % (processor(), platform.system(), datetime.date.today())
    rows.append("Measured on %s; medians of %d rounds, the two in turns." % (where, rounds))
    text = open(sys.argv[2]).read()
    table = BEGIN + "\n" + "\n".join(rows) + "\n" + END
    text = re.sub(re.escape(BEGIN) + ".*" + re.escape(END), lambda _: table, text, flags=re.S)
    open(sys.argv[2], "w").write(text)
    print("\n".join(rows))


main()
