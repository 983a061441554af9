"""Is K of an energy–volume curve that of the level of theory? Its single points on the relaxed structures.

python workflows/checked_by_reference.py runs/uio66_mechanics configs/uio66_teacher.yaml --output runs/checked.json

Takes every relaxed volume of a finished `clusterflow property` run (kind energy_volume), computes energy and forces
with the calculator of the campaign file, and fits both sets of energies in the same way. The forces tell how far the
potential's minimum is from one of the level of theory; the energies at it are right to second order in that distance.
"""

import argparse
import json
from pathlib import Path

import numpy as np
from ase.io import read

from clusterflow.config.load import load_campaign
from clusterflow.evaluate.energy_volume import VolumePoint, energy_volume
from clusterflow.state.disk import replace_bytes
from clusterflow.state.journal import read_events

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("run", type=Path, help="run folder of `clusterflow property`")
parser.add_argument("campaign", type=Path, help="its `label:` is the level of theory")
parser.add_argument("--structures", nargs="*")
parser.add_argument("--step", type=float, default=0.01, help="of the grid: volumes between its points are left out")
parser.add_argument("--range", type=float, nargs=2, default=[0.0, 9.0], help="volumes to check, relative")
parser.add_argument("--output", type=Path, required=True)
args = parser.parse_args()
reference = load_campaign(args.campaign).label.build()
calculator, level = reference.new_calculator(), reference.level_of_theory
known = json.loads(args.output.read_text()) if args.output.is_file() else {}
events = read_events(args.run / "journal.jsonl")
sent = {e.data["key"]: e.data["what"] for e in events if e.kind == "sent" and e.data["task"] == "relax"}
sent = {k: w for k, w in sent.items() if abs(w["ratio"] / args.step - round(w["ratio"] / args.step)) < 1e-6}
low, high = args.range
names = [n for n in dict.fromkeys(w["structure"] for w in sent.values()) if not args.structures or n in args.structures]
print("| structure | K, potential, GPa | K, level | V0, potential, Å³ | V0, level | rms force, meV/Å |")
print("|---|---|---|---|---|---|")
for name in names:
    points, checked, forces, n_atoms = [], [], [], 0
    for key in (k for k, w in sent.items() if w["structure"] == name and low <= w["ratio"] <= high):
        place = args.run / "tasks/relax" / key
        if not (place / "point.json").is_file():
            continue  # not relaxed
        atoms, point, label = (
            read(place / "relaxed.extxyz"),
            json.loads((place / "point.json").read_text()),
            f"{level} {key}",
        )
        if label not in known:
            atoms.calc = calculator
            rms = float(np.sqrt(np.mean(atoms.get_forces() ** 2)))
            known[label] = {"energy": atoms.get_potential_energy(), "rms": rms}
            replace_bytes(args.output, json.dumps(known).encode())
        points.append(VolumePoint(**point))
        checked.append(VolumePoint(**{**point, "energy": known[label]["energy"], "pressure": None}))
        forces.append(known[label]["rms"])
        n_atoms = len(atoms)
    own, other = (energy_volume(p, n_atoms=n_atoms).quantities for p in (points, checked))
    both = (f"{q[k].value:.{d}f} ± {q[k].uncertainty:.{d}f}" for k, d in (("K", 1), ("V0", 0)) for q in (own, other))
    print(f"| {name} |", " | ".join(both), f"| {1e3 * np.mean(forces):.0f} |", flush=True)
