"""How cheap could a fragment be that is right? Every candidate around random sites, and its true force errors.

python workflows/cheapest_fragments.py runs/certificates --finite uio66_missing_linker water --output cheapest.json

In warm frames all candidates of the certificate search, and the paper's first neighbours, are compared with the parent.
What one would choose who knew the true errors (the oracle) limits any search; one radius for all sites needs none.
"""

import argparse
import json
import tempfile
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from itertools import product
from pathlib import Path

import numpy as np

from clusterflow.config.campaign import Campaign
from clusterflow.core.data import Site
from clusterflow.core.frames import content_hash, read_frames
from clusterflow.errors import ExtractionError, LabelError
from clusterflow.extract.confirm import against_parent, finite_parent
from clusterflow.extract.rules import BuildingBlockRule
from clusterflow.label.cost import fit_cost
from clusterflow.train.nequip_potential import NequIPPotential

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("run", type=Path, help="run folder of the campaign")
parser.add_argument("--output", type=Path, required=True)
parser.add_argument("--sites", type=int, default=24, help="random sites per system, in six walks")
parser.add_argument("--finite", nargs="*", default=[], help="systems whose parents are large finite pieces (see docs)")
args = parser.parse_args()
config = Campaign.model_validate(json.loads((args.run / "config.json").read_text()))
TOLERANCE = config.extract.tolerance
cost = fit_cost([], []).seconds  # the prior: only ratios are used
usually = BuildingBlockRule({"node": "neighbours", "linker": "neighbours", "molecule": 3.0}, core="sites")


@cache
def parts():
    model = NequIPPotential.load(args.run / "model")
    return config.extract.build_certified(cost=cost, model=None, potential=model), config.label.build()


def forces(atoms, charge=0, spin=0):
    return parts()[1].label(atoms, charge=charge, spin=spin).prediction.forces


def walk(system, number):
    """What all candidates around some sites of one warm frame cost, and their worst errors of a required atom."""
    rule, rng, found = parts()[0], np.random.default_rng([11, number]), []
    start = read_frames(args.run / "inputs" / f"{system}.extxyz")[0]
    explorer = config.explore.build((300.0, 600.0)[number % 2], None, 400)
    with tempfile.TemporaryDirectory() as scratch:
        frame = explorer.explore(start, rule.potential, seed=11 + number, workdir=Path(scratch)).frames[-1]
    frame = finite_parent(frame, rng) if system in args.finite else frame
    truth = forces(frame)

    def measured(fragment):
        worst = against_parent(fragment, frame, truth, forces).worst
        return {"atoms": len(fragment.atoms), "cost": cost(fragment.atoms), "worst": worst}

    for index in rng.choice(len(frame), args.sites // 6, replace=False).tolist():
        try:
            options = rule.search(frame, [Site(content_hash(frame), index)])[0].options
            core = options[0].fragment.parent[options[0].fragment.core].tolist()
            first = measured(usually.extract(frame, [Site(content_hash(frame), p) for p in core]))
            small = [o for o in options if len(o.fragment.atoms) <= config.extract.max_atoms]
            tried = [measured(o.fragment) | {"radius": o.candidate.radius, "acids": o.candidate.groups} for o in small]
            found.append({"system": system, "first": first, "tried": tried})
        except (ExtractionError, LabelError) as error:
            print("left out:", error.what, flush=True)
    return found


def told(name, sites, chosen):
    """A line: the fragments chosen (None: none) against the first neighbours of the same sites."""
    pairs = [(c, s["first"]) for c, s in zip(chosen, sites, strict=True) if c]
    right = np.mean([c["worst"] <= TOLERANCE for c, _ in pairs])
    rms, first = (1000 * np.sqrt(np.mean([p[k]["worst"] ** 2 for p in pairs])) for k in (0, 1))
    ratio = sum(c["cost"] for c, _ in pairs) / sum(f["cost"] for _, f in pairs)
    print(f"  {name:20s} {len(pairs)} sites, {right:.0%} right, RMS {rms:.0f} ({first:.0f}) meV/Å, {ratio:.2f} × cost")


if __name__ == "__main__":
    jobs = [(s.name, n) for s in config.systems for n in range(6)]
    with ProcessPoolExecutor() as pool:
        everything = [site for sites in pool.map(walk, *zip(*jobs, strict=True)) for site in sites]
    args.output.write_text(json.dumps(everything, indent=1))
    for system in (s.name for s in config.systems):
        sites = [s for s in everything if s["system"] == system]
        print(system)
        told("first neighbours", sites, [s["first"] for s in sites])
        for limit in (TOLERANCE / 2, TOLERANCE, 2 * TOLERANCE):
            right = [[t for t in s["tried"] if t["worst"] <= limit] for s in sites]
            told(f"oracle, {1000 * limit:.0f} meV/Å", sites, [r[0] if r else None for r in right])
        for acids, radius in product((False, True), (0.0, 1.8, 3.0, 4.5, 6.0)):
            inside = [[t for t in s["tried"] if t["radius"] <= radius and bool(t["acids"]) <= acids] for s in sites]
            told(f"{radius} Å{', acids' * acids}", sites, [i[-1] if i else None for i in inside])
