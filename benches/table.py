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
    "unet": "one UNet call of Stable Diffusion 1.5's size: 512 x 512, batch 1, f32, random weights",
    "start": "start to usable window (diffusers: import and load the starter)",
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
    rows = [
        "| work | Easel | diffusers 0.42.1 | time, Easel / diffusers | memory, Easel | memory, diffusers |",
        "|-|-|-|-|-|-|",
    ]
    for work, sides in runs.items():
        easel, diffusers = sides["easel"], sides["diffusers"]
        ours, theirs = median(easel, "seconds"), median(diffusers, "seconds")
        if "mean" in easel[0] and abs(easel[0]["mean"] / diffusers[0]["mean"] - 1) > 1e-3:
            sys.exit("%s: the two did not do the same work: %s, %s" % (work, easel[0], diffusers[0]))
        row = (WORK[work], ours, theirs, ours / theirs, median(easel, "peak_mb"), median(diffusers, "peak_mb"))
        rows.append("| %s | %.2f s | %.2f s | %.2f | %d MB | %d MB |" % row)
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
