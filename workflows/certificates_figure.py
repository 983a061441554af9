"""Draws what `certificates.py` measured, and prints the table of docs/studies/certificates.md.

python workflows/certificates_figure.py certificates.json --output docs/studies/figures/certificates.png
"""

import argparse
import json
from pathlib import Path

import matplotlib as mpl
import numpy as np

mpl.use("Agg")
import matplotlib.pyplot as plt

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("measured", type=Path, nargs="+")
parser.add_argument("--output", type=Path, required=True)
args = parser.parse_args()

parts = [json.loads(path.read_text()) for path in args.measured]
tests = [t for part in parts for t in part["tests"]]
tolerance, floor, confidence = parts[0]["tolerance"], parts[0]["model"]["floor"], parts[0]["model"]["confidence"]


def worst_ratio(t):
    """Of true error to bound, over the core atoms of a fragment that have one."""
    return np.nanmax((np.array(t["errors"]) + floor) / (np.array(t["bounds"], dtype=float) + floor))


systems = list(dict.fromkeys(t["system"] for t in tests))
colours = dict(zip(systems, ("#4477aa", "#ee6677", "#228833", "#ccbb44", "#66ccee"), strict=False))
fig, (left, middle, right) = plt.subplots(1, 3, figsize=(13, 4.2), layout="constrained")

for system in systems:
    mine = [t for t in tests if t["system"] == system]
    bounds = 1000 * np.concatenate([np.array(t["bounds"], dtype=float) for t in mine])  # NaN: no bound
    errors = 1000 * np.concatenate([t["errors"] for t in mine])
    left.loglog(bounds, np.maximum(errors, 0.3), ".", ms=4, alpha=0.6, color=colours[system], label=system)
    ratios = [worst_ratio(t) for t in mine]
    middle.step(np.sort(ratios), np.arange(1, len(mine) + 1) / len(mine), where="post", color=colours[system])
low, high = left.get_xlim()
left.plot([low, high], [low, high], "k-", lw=0.8)
left.axvline(1000 * tolerance, color="0.6", lw=0.8, ls="--")
left.set(xlabel="bound on the force error, meV/Å", ylabel="true force error, meV/Å", title="core atoms")
left.legend(frameon=False, fontsize=8)

everyone = np.sort([worst_ratio(t) for t in tests])
middle.step(everyone, np.arange(1, len(tests) + 1) / len(tests), where="post", color="k", lw=2)
middle.axvline(1.0, color="0.6", lw=0.8, ls="--")
middle.axhline(confidence, color="0.6", lw=0.8, ls="--")
middle.set(
    xscale="log", ylim=(0, 1.02), xlabel="worst (true + 10) / (bound + 10 meV/Å) of a fragment",
    ylabel="share of fragments", title="left of the dashed line: all core atoms within bounds",
)  # fmt: skip

middle.set_xticks([0.1, 0.2, 0.5, 1, 2], ["0.1", "0.2", "0.5", "1", "2"])
middle.set_xticks([], minor=True)

table = []
for place, system in enumerate([*systems, "all"]):
    mine = [t for t in tests if system in (t["system"], "all")]
    both = [t for t in mine if t["usual_cost"] is not None and t["passed"]]
    ratio = sum(t["cost"] for t in both) / max(sum(t["usual_cost"] for t in both), 1e-9)
    rms = [1000 * np.sqrt(np.mean([t[k] ** 2 for t in both])) if both else np.nan for k in ("worst", "usual_worst")]
    table.append((system, len(mine), np.mean([t["kept"] for t in mine]), np.mean([t["passed"] for t in mine]),
                  np.median([t["atoms"] for t in mine]), ratio, *rms))  # fmt: skip
    right.bar(place - 0.2, rms[0], 0.4, color=colours.get(system, "k"))
    right.bar(place + 0.2, rms[1], 0.4, color=colours.get(system, "k"), alpha=0.35)
    right.text(place, 2 + max(np.nan_to_num(rms)), f"{ratio:.2f} × cost", ha="center", fontsize=8)
right.axhline(1000 * tolerance, color="0.6", lw=0.8, ls="--")
right.set_xticks(range(len(systems) + 1), [*systems, "all"], rotation=20, ha="right", fontsize=8)
right.set(
    ylabel="RMS over sites of the worst required atom, meV/Å", title="certified (full) and first neighbours (pale)"
)
args.output.parent.mkdir(parents=True, exist_ok=True)
fig.savefig(args.output, dpi=110)

print(
    "| system | sites | within all bounds | certified | atoms (median) | cost ratio | worst error: certified | usual |"
)
print("|---|---|---|---|---|---|---|---|")
for system, n, kept, passed, atoms, ratio, mine_rms, usual_rms in table:
    print(
        f"| {system} | {n} | {kept:.3f} | {passed:.2f} | {atoms:.0f} | {ratio:.2f} | {mine_rms:.0f} | {usual_rms:.0f} |"
    )
