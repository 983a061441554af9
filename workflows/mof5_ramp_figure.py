"""Draws what `mof5_ramp.py` measured, and prints the table of docs/studies/mof5-ramp.md.

python workflows/mof5_ramp_figure.py runs/mof5_ramp/ramp.json --output docs/studies/figures/mof5-ramp.png
"""

import argparse
import json
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("measured", type=Path, help="ramp.json")
parser.add_argument("--output", type=Path, required=True)
args = parser.parse_args()

rows = json.loads(args.measured.read_text())
tests = [name.removeprefix("forces ") for name in rows[0] if name.startswith("forces ") and not name.endswith("all")]
colours = dict(zip(tests, ("#4477aa", "#ccbb44", "#ee6677", "#228833", "#aa3377"), strict=False))
labels = [r["labels"] for r in rows]
steps = [r for r in rows if "temperature_K" in r]
fig, (left, middle, right) = plt.subplots(1, 3, figsize=(13, 4.2), layout="constrained")

place = range(len(steps))
left.bar([p - 0.2 for p in place], [r["accepted"] for r in steps], 0.4, color="#4477aa", label="accepted frames")
left.bar([p + 0.2 for p in place], [r["unstable"] for r in steps], 0.4, color="#ee6677", label="walkers that blew up")
left.set_xticks(place, [f"{r['temperature_K']:g}" for r in steps])
left.axhline(steps[0]["walkers"], color="0.6", lw=0.8, ls="--")
left.set(xlabel="temperature of the iteration, K", ylabel=f"of {steps[0]['walkers']} walkers", title="the ramp",
         ylim=(0, 1.3 * steps[0]["walkers"]))  # fmt: skip
left.legend(frameon=False, fontsize=8, loc="upper right")

for name in tests:
    errors = [r[f"forces {name}"]["mae"] for r in rows]
    middle.plot(labels, errors, "o-", ms=4, color=colours[name], label=f"{float(name):g} K")
middle.set(xlabel="labelled frames", ylabel="force MAE, meV/Å", title="test walks", yscale="log")
middle.minorticks_on()
middle.yaxis.set_major_formatter("{x:g}")
middle.yaxis.set_minor_formatter("{x:g}")
middle.tick_params(axis="y", which="minor", labelsize=7)
middle.legend(frameon=False, fontsize=8)

right.plot(labels, [100 * r["coverage"] for r in rows], "ko-", ms=4)
right.set(xlabel="labelled frames", ylabel=f"bins of the {float(tests[0]):g} K walk that are filled, %",
          title="coverage", ylim=(None, 100.5))  # fmt: skip
args.output.parent.mkdir(parents=True, exist_ok=True)
fig.savefig(args.output, dpi=150)

print("| step | T, K | blew up | accepted | labels | coverage | " + " | ".join(f"{float(n):g} K" for n in tests) + " |")
print("|---" * (6 + len(tests)) + "|")
for r in rows:
    ramp = (
        f"{r['temperature_K']:g} | {r['unstable']} of {r['walkers']} | {r['accepted']}" if r in steps else "– | – | –"
    )
    errors = " | ".join(f"{r[f'forces {n}']['mae']:.0f}" for n in tests)
    print(f"| {r['iteration']} | {ramp} | {r['labels']} | {100 * r['coverage']:.1f} % | {errors} |")
