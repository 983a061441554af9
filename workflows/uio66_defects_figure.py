"""Draws what `uio66_defects.py` measured, and prints its tables.

python workflows/uio66_defects_figure.py runs/uio66_defects.json --output runs/uio66-defects.png
"""

import argparse
import json
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt

from clusterflow.evaluate.arms import ArmCurve, ArmPoint, advantages, mean_curves

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("measured", type=Path)
parser.add_argument("--output", type=Path, required=True)
args = parser.parse_args()
rows = json.loads(args.measured.read_text())
first = rows[0]["errors"]
systems = [n for n in first if any(r.get("system") == n for r in rows)]
seeds = sorted({r["seed"] for r in rows if "seed" in r})
COLOURS = {"selected": "#4477aa", "random": "#ccbb44", "periodic": "#ee6677"}


def curves(system: str, seed: int) -> list[ArmCurve]:
    """The three arms of one draw, all beginning with the potential of pristine cells."""
    out = []
    for arm in COLOURS:
        found = [r for r in rows if (r.get("system"), r.get("seed"), r["arm"]) == (system, seed, arm)]
        points = [
            (0, 0.0, first[system]["forces"]),
            *((r["n"], r["cost"], r["errors"][system]["forces"]) for r in found),
        ]
        made = (ArmPoint(i, n, c, e["mae"], e["rmse"], e["mae_p"]) for i, (n, c, e) in enumerate(points))
        out.append(ArmCurve(arm, tuple(made)))
    return [c for c in out if len(c.points) > 1]


fig, axes = plt.subplots(1, len(systems), figsize=(4.3 * len(systems), 4), layout="constrained", squeeze=False)
print("| system | arm | labels | cost, pristine cells | MAE_P95, meV/Å |\n|---|---|---|---|---|")
for axis, system in zip(axes[0], systems, strict=True):
    runs = [c for seed in seeds if (c := curves(system, seed))]
    print(f"| {system} | none | 0 | 0 | {first[system]['forces']['mae_p']:.0f} |")
    for arm, points in mean_curves(runs).items():
        learned = points[1:]
        axis.plot([p.core_seconds for p in learned], [p.mae_p95.mean for p in learned], "o-", ms=4,
                  color=COLOURS[arm], label=arm)  # fmt: skip
        for run in runs:
            for curve in run:
                if curve.arm == arm:
                    axis.plot([p.core_seconds for p in curve.points[1:]], [p.mae_p95 for p in curve.points[1:]], ".",
                              ms=3, color=COLOURS[arm], alpha=0.5)  # fmt: skip
        for p in learned:
            print(f"| {system} | {arm} | {p.n_labels:.0f} | {p.core_seconds:.2f} | {p.mae_p95.mean:.0f} |")
    axis.axhline(first[system]["forces"]["mae_p"], color="0.6", lw=0.8, ls="--")
    axis.set(xscale="log", yscale="log", title=system.replace("_", " "),
             xlabel="predicted DFT cost, pristine cells", ylabel="force MAE_P95, meV/Å")  # fmt: skip
    axis.legend(frameon=False, fontsize=8)
    axis.xaxis.set_minor_formatter("")
    for one in (axis.xaxis, axis.yaxis):
        one.set_major_formatter("{x:g}")
    axis.yaxis.set_minor_formatter("{x:g}")
    axis.tick_params(axis="y", which="minor", labelsize=7)
    for a in advantages(runs):
        if a.core_seconds and a.labels:
            low, high = a.core_seconds.low, a.core_seconds.high
            spread = "" if low is None or high is None else f" ({low:.2g} to {high:.2g})"
            print(f"<!-- {system}: {a.arm} needs {a.core_seconds.mean:.2g}{spread} times the cost, "
                  f"{a.labels.mean:.2g} times the labels; reached in {a.reached} of {a.seeds} -->")  # fmt: skip
args.output.parent.mkdir(parents=True, exist_ok=True)
fig.savefig(args.output, dpi=150)

largest = {s: max(r["n"] for r in rows if r.get("system") == s and r["arm"] == "selected") for s in systems}
models = {"pristine": rows[0]}
for s in systems:
    models[f"{s}, fragments"] = next(
        r for r in rows if (r.get("system"), r["arm"], r["n"]) == (s, "selected", largest[s])
    )
models |= {"all three, fragments": rows[-1]} if rows[-1]["arm"] == "mixed" else {}
KEYS = {
    "MAE_P95, meV/Å": ("forces", "mae_p", 0),
    "ΔE_avg, meV/atom": ("energy", "average", 1),
    "ΔE_std, meV/atom": ("energy", "std", 1),
}
for title, (group, key, digits) in KEYS.items():
    print(f"\n| {title} | " + " | ".join(first) + " |\n" + "|---" * (len(first) + 1) + "|")
    for name, row in models.items():
        told = [f"{e[group][key]:.{digits}f}" for e in row["errors"].values()]
        print(f"| {name} | {' | '.join(told)} |")
