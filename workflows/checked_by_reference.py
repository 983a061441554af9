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
from clusterflow.state.journal import read_events

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("run", type=Path, help="run folder of `clusterflow property`")
parser.add_argument("campaign", type=Path, help="its `label:` is the level of theory")
parser.add_argument("--structures", nargs="*")
parser.add_argument("--range", type=float, nargs=2, default=[0.0, 9.0], help="volumes to check, relative")
parser.add_argument("--output", type=Path, required=True)
args = parser.parse_args()
calculator = load_campaign(args.campaign).label.build().new_calculator()
known = json.loads(args.output.read_text()) if args.output.is_file() else {}
sent = [e.data for e in read_events(args.run / "journal.jsonl") if e.kind == "sent" and e.data["task"] == "relax"]
low, high = args.range
names = [n for n in dict.fromkeys(d["what"]["structure"] for d in sent) if not args.structures or n in args.structures]
print("| structure | K, potential, GPa | K, level | V0, potential, Å³ | V0, level | rms force, meV/Å |")
print("|---|---|---|---|---|---|")
for name in names:
    points, checked, forces = [], [], []
    for data in (d for d in sent if d["what"]["structure"] == name and low <= d["what"]["ratio"] <= high):
        if not (args.run / "tasks/relax" / data["key"] / "point.json").is_file():
            continue
        place = args.run / "tasks/relax" / data["key"]
        if data["key"] not in known:
            atoms = read(place / "relaxed.extxyz")
            atoms.calc = calculator
            rms = float(np.sqrt(np.mean(atoms.get_forces() ** 2)))
            known[data["key"]] = {"energy": atoms.get_potential_energy(), "rms": rms, "n": len(atoms)}
            args.output.write_text(json.dumps(known))
        told, point = known[data["key"]], json.loads((place / "point.json").read_text())
        points.append(VolumePoint(**point))
        checked.append(VolumePoint(**{**point, "energy": told["energy"], "pressure": None}))
        forces.append(told["rms"])
    own, other = (energy_volume(p, n_atoms=told["n"]).quantities for p in (points, checked))
    both = (f"{q[k].value:.{d}f} ± {q[k].uncertainty:.{d}f}" for k, d in (("K", 1), ("V0", 0)) for q in (own, other))
    print(f"| {name} |", " | ".join(both), f"| {1e3 * np.mean(forces):.0f} |", flush=True)
