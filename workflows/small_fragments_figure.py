"""Draws what small_fragments.py measured, and prints the tables of docs/studies/small-fragments.md.

python workflows/small_fragments_figure.py runs/small_fragments/results.json --output runs/small-fragments.png
"""

import argparse
import json
from pathlib import Path

import matplotlib as mpl
import numpy as np

mpl.use("Agg")
import matplotlib.pyplot as plt

COLOURS = {"1": "#4477aa", "1, more": "#66ccee", "2": "#228833", "3": "#ccbb44", "1, too far": "#ee6677",
           "1, more, too far": "#aa3377"}  # fmt: skip
FILL = {"linear": None, "nequip": "none"}
MARKS = {("linear", False): "o", ("linear", True): "x", ("nequip", False): "s", ("nequip", True): "+"}

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("measured", type=Path, help="results.json")
parser.add_argument("--output", type=Path, required=True)
args = parser.parse_args()
rows = json.loads(args.measured.read_text())
systems = sorted(rows[0]["bulk"]["forces_by_system"], key=lambda name: (len(name), name))
groups = {}
for row in rows:
    groups.setdefault((row["learner"], row["potential"], row["core_only"]), []).append(row)
fig, (left, middle, right) = plt.subplots(1, 3, figsize=(13, 4.2), layout="constrained")


def spread(values: list[float]) -> str:
    """Mean ± standard deviation over seeds."""
    return f"{np.mean(values):.0f} ± {np.std(values, ddof=1):.0f}" if len(values) > 1 else f"{values[0]:.0f}"


def rms(values: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(values))))


for size, colour in (("small", "#4477aa"), ("large", "#228833")):
    norm = np.sort(np.linalg.norm(rows[0]["true"][size], axis=1))
    left.plot(norm, 1 - np.arange(len(norm)) / len(norm), color=colour, label=f"{size} fragments, {len(norm)} atoms")
    print(f"{size}: {len(norm)} atoms, {1e3 * rms(norm) / np.sqrt(3):.0f} meV/Å per component, "
          f"largest {norm[-1]:.3f} eV/Å, {np.mean(norm > 0.125):.1%} beyond 0.125")  # fmt: skip
left.axvline(0.125, color="0.5", lw=1, ls=":")
left.set(xlabel="‖force in the bulk − force in the fragment‖, eV/Å", ylabel="share of the atoms beyond", yscale="log")
left.set_title("what the cut does to central atoms (GFN1-xTB)", fontsize=10)
left.legend(frameon=False)

print("| learner | potential | forces | fragments | label time | " + " | ".join(systems) + " | central: small, large |"
      " cut, small: left, slope, r | energy σ | training |")  # fmt: skip
for (learner, name, core), own in groups.items():
    place = (
        np.arange(len(systems)) + 0.14 * list(COLOURS).index(name) - 0.36 + 0.06 * (learner == "nequip") + 0.03 * core
    )
    errors = [[r["bulk"]["forces_by_system"][s]["rmse"] for s in systems] for r in own]
    for values in errors:
        middle.plot(place, values, MARKS[learner, core], color=COLOURS[name], ms=5, mfc=FILL[learner])
    true, found = (np.concatenate([r[k]["small"] for r in own]).ravel() for k in ("true", "own"))
    central = [spread([r["fragments"][k]["forces_by_region"]["core"]["rmse"] for r in own]) for k in ("small", "large")]
    sigma = np.mean([e["std"] for r in own for e in r["bulk"]["energy_by_system"].values()])
    print(f"| {learner} | {name} | {'central' if core else 'all'} | {own[0]['n']} | "
          f"{np.mean([r['label_s'] for r in own]):.0f} s | "
          f"{' | '.join(spread(list(v)) for v in zip(*errors, strict=True))} | {', '.join(central)} | "
          f"{1e3 * rms(found - true):.0f}, {found @ true / (true @ true):.2f}, {np.corrcoef(found, true)[0, 1]:.2f} | "
          f"{sigma:.1f} | {np.mean([r['train_s'] for r in own]):.0f} s |")  # fmt: skip
    if name in ("1", "1, more", "1, too far") and learner == "linear" and not core:
        right.plot(own[0]["true"]["small"], own[0]["own"]["small"], ".", ms=3, color=COLOURS[name])
for name, colour in COLOURS.items():
    if any(g[1] == name for g in groups):
        middle.plot([], [], "o", color=colour, label=f"potential {name}")
for (learner, core), mark in MARKS.items():
    if any(g[0] == learner and g[2] == core for g in groups):
        told = f"{learner}{', central forces only' * core}"
        middle.plot([], [], mark, color="0.4", mfc=FILL[learner], label=told)
middle.set(xticks=range(len(systems)), xticklabels=systems, ylabel="force RMSE, meV/Å", ylim=(0, None))
middle.set_title("whole cells", fontsize=10)
middle.legend(frameon=False, fontsize=7, ncols=2, loc="lower left")

right.axline((0, 0), slope=1, color="0.5", lw=1)
right.set(xlabel="bulk − small fragment, GFN1-xTB, eV/Å", ylabel="the same in the potential (linear), eV/Å")
right.set_title("the difference that no label shows", fontsize=10)
fig.savefig(args.output, dpi=110)
