"""Are certificates honest, and what do they save? True errors against the parents of a campaign's systems.

clusterflow run configs/certificates.yaml
python workflows/certificates.py runs/certificates --output runs/certificates.json

Every system is walked with the campaign's potential. In the first walks, random sites calibrate the error model, by
labels of larger fragments alone. In the others, random sites are certified, and the forces of fragment, parent, and
of the paper's first-neighbour fragment are computed. `certificates_figure.py` draws what this writes.
"""

import argparse
import json
import tempfile
from pathlib import Path

import numpy as np

from clusterflow.config.campaign import Campaign
from clusterflow.core.data import Site
from clusterflow.core.frames import content_hash, read_frames
from clusterflow.errors import ClusterflowError
from clusterflow.extract.confirm import Confirmed, against_parent, confirm, finite_parent
from clusterflow.extract.rules import BuildingBlockRule
from clusterflow.label.cost import fit_cost
from clusterflow.train.nequip_potential import NequIPPotential

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("run", type=Path, help="run folder of the campaign")
parser.add_argument("--model", type=Path, help="model folder (default: the campaign's last)")
parser.add_argument("--output", type=Path, required=True)
parser.add_argument("--confirm", type=int, default=20, help="random sites per system to calibrate with, in two rounds")
parser.add_argument("--sites", type=int, default=52, help="random sites per system to test with")
parser.add_argument("--walks", type=int, default=4, help="walks per system to test in, half at 300 K, half at 600 K")
parser.add_argument("--systems", nargs="*", help="names (default: all)")
parser.add_argument("--finite", nargs="*", default=[], help="systems whose parents are large finite pieces (see docs)")
parser.add_argument("--steps", type=int, default=400)
parser.add_argument("--seed", type=int, default=7)
args = parser.parse_args()

config = Campaign.model_validate(json.loads((args.run / "config.json").read_text()))
systems = [s for s in config.systems if s.name in (args.systems or s.name)]
potential = NequIPPotential.load(args.model or args.run / "model")
cost = fit_cost([], []).seconds  # the prior: only ratios are used
rule = config.extract.build_certified(cost=cost, model=None, potential=potential)
reference, rng = config.label.build(), np.random.default_rng(args.seed)


def forces(atoms, charge, spin):
    return reference.label(atoms, charge=charge, spin=spin).prediction.forces


def attempt(what, *arguments, **options):
    try:
        return what(*arguments, **options)
    except ClusterflowError as error:
        print("left out:", error.what, flush=True)
        return None


frames = {}
for system in systems:
    atoms = read_frames(args.run / "inputs" / f"{system.name}.extxyz")[0]
    for walk in range(2 + args.walks):
        explorer = config.explore.build((300.0, 600.0)[walk % 2], None, args.steps)
        with tempfile.TemporaryDirectory() as scratch:
            walked = explorer.explore(atoms, potential, seed=args.seed + walk, workdir=Path(scratch))
        frame = walked.frames[-1]
        frames[system.name, walk] = finite_parent(frame, rng) if system.name in args.finite else frame
        print(system.name, walk, f"{walked.times[-1]:.0f} fs", walked.stop_reason, flush=True)
seen = Confirmed()
for _ in range(2):
    for k in range(args.confirm // 2 * len(systems)):
        frame = frames[systems[k % len(systems)].name, k // len(systems) % 2]
        confirm(frame, int(rng.integers(len(frame))), rule, forces, seen)
    rule.model = seen.calibrate(rule, confidence=config.extract.confidence)
    print(f"{rule.model.n} confirmed, {seen.unconfirmed} failed, {len(seen.skipped)} skipped:",
          f"bound = {rule.model.factor:.2f} × estimate", flush=True)  # fmt: skip
tests = []
for (system, walk), frame in ((key, frame) for key, frame in frames.items() if key[1] >= 2):
    name, parent_forces = content_hash(frame), attempt(forces, frame, 0, 0)
    for index in [] if parent_forces is None else rng.choice(len(frame), args.sites // args.walks, False).tolist():
        fragment = attempt(rule.extract, frame, [Site(name, index)])
        found = fragment and attempt(against_parent, fragment, frame, parent_forces, forces)
        if found is None:
            continue
        required = sorted({int(p) for p in fragment.parent[found.atoms[found.required]]})
        first = attempt(BuildingBlockRule(core="sites").extract, frame, [Site(name, p) for p in required])
        usual = first and attempt(against_parent, first, frame, parent_forces, forces)
        tests.append({
            "system": system, "temperature_K": (300, 600)[walk % 2], "symbol": frame.symbols[index],
            "cost": cost(fragment.atoms), "usual_cost": cost(first.atoms) if usual else None,
            "usual_worst": usual.worst if usual else None, **found.to_json(),
        })  # fmt: skip
    mine = [t for t in tests if t["system"] == system]
    kept, passed = (np.mean([t[key] for t in mine]) for key in ("kept", "passed"))
    print(f"{system}: {len(mine)} sites, {kept:.2f} within all bounds, {passed:.2f} certified", flush=True)
    told = {"model": rule.model.to_json(), "tolerance": rule.tolerance, "tests": tests}
    args.output.write_text(json.dumps(told, indent=1))
