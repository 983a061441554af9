"""Are certificates honest, and what do they save? True errors against the parents of a campaign's systems.

clusterflow run configs/certificates.yaml
python workflows/certificates.py runs/certificates --finite uio66_missing_linker water --output certificates.json

Every system is walked with the campaign's potential. In two walks random sites calibrate the error model, by labels of
larger fragments alone. In four others random sites are certified, and the forces of fragment, parent, and of the
paper's first-neighbour fragment computed. `certificates_figure.py` draws what this writes.
"""

import argparse
import json
import tempfile
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from itertools import repeat
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
parser.add_argument("--output", type=Path, required=True)
parser.add_argument("--systems", nargs="*", help="names (default: all), calibrated together")
parser.add_argument("--confirm", type=int, default=40, help="random sites per system to calibrate with, in two rounds")
parser.add_argument("--sites", type=int, default=60, help="random sites per system to test with")
parser.add_argument("--finite", nargs="*", default=[], help="systems whose parents are large finite pieces (see docs)")
args = parser.parse_args()
config = Campaign.model_validate(json.loads((args.run / "config.json").read_text()))
systems = args.systems or [s.name for s in config.systems]
cost = fit_cost([], []).seconds  # the prior: only ratios are used
usually = BuildingBlockRule({"node": "neighbours", "linker": "neighbours", "molecule": 3.0}, core="sites")


@cache
def parts():
    potential = NequIPPotential.load(args.run / "model")
    return config.extract.build_certified(cost=cost, model=None, potential=potential), config.label.build()


def forces(atoms, charge, spin):
    return parts()[1].label(atoms, charge=charge, spin=spin).prediction.forces


def begin(system, walk, model):
    """The rule with its error model; the last frame of one walk, or a large finite piece of it; random numbers."""
    rule, rng = parts()[0], np.random.default_rng([7, walk])
    rule.model, explorer = model, config.explore.build((300.0, 600.0)[walk % 2], None, 400)
    atoms = read_frames(args.run / "inputs" / f"{system}.extxyz")[0]
    with tempfile.TemporaryDirectory() as scratch:
        path = explorer.explore(atoms, rule.potential, seed=7 + walk, workdir=Path(scratch))
    print(system, walk, f"{path.times[-1]:.0f} fs", path.stop_reason, flush=True)
    return rule, finite_parent(path.frames[-1], rng) if system in args.finite else path.frames[-1], rng


def calibrate(system, walk, model):
    (rule, frame, rng), seen = begin(system, walk, model), Confirmed()
    sites = np.array_split(rng.choice(len(frame), args.confirm // 2, replace=False), 2)
    for index in sites[model is not None].tolist():
        confirm(frame, index, rule, forces, seen)
    return seen


def test(system, walk, model):
    (rule, frame, rng), found, truth = begin(system, walk, model), [], None
    for index in rng.choice(len(frame), args.sites // 4, replace=False).tolist():
        try:  # the potential may have torn the parent itself so that the level does not converge
            truth, name = forces(frame, 0, 0) if truth is None else truth, content_hash(frame)
            fragment = rule.extract(frame, [Site(name, index)])
            mine = against_parent(fragment, frame, truth, forces)
            first = usually.extract(frame, [Site(name, p) for p in fragment.parent[mine.atoms[mine.required]].tolist()])
            usual = {"usual_worst": against_parent(first, frame, truth, forces).worst, "usual_cost": cost(first.atoms)}
            found.append(usual | {"system": system, "cost": cost(fragment.atoms)} | mine.to_json())
        except ClusterflowError as error:
            print("left out:", error.what, flush=True)
    return found


if __name__ == "__main__":
    seen, model, tests = Confirmed(), None, []
    with ProcessPoolExecutor() as pool:
        for _ in range(2):
            seen = sum(pool.map(calibrate, systems * 2, [0] * len(systems) + [1] * len(systems), repeat(model)), seen)
            model = seen.calibrate(parts()[0], confidence=config.extract.confidence)
            print(model.n, "confirmed, bound:", round(model.factor, 1), "× estimate", len(seen.skipped), "skipped")
        jobs = [(s, walk, model) for walk in (2, 3, 4, 5) for s in systems]
        for more in pool.map(test, *zip(*jobs, strict=True)):
            tests += more
            told = {"model": model.to_json(), "tolerance": config.extract.tolerance, "tests": tests}
            args.output.write_text(json.dumps(told, indent=1))
            print(len(tests), "tested,", *(f"{np.mean([t[k] for t in tests]):.3f} {k}" for k in ("kept", "passed")))
