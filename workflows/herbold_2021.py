"""Locality of four chain molecules and the threshold Γ (Herbold and Behler, doi:10.1063/5.0082952, section IV A).

python workflows/herbold_2021.py --level gfn1 --output runs/herbold    (table, herbold.json, herbold.png)
"""

import argparse
import json
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.build import molecule
from ase.io import read
from ase.optimize import BFGS
from matplotlib.figure import Figure
from tblite.ase import TBLite

from clusterflow.cli.levels import reference_level
from clusterflow.extract.functional_groups import grouped, growth
from clusterflow.extract.locality import assess_locality, decay_rate, difference_row, implied_threshold
from clusterflow.extract.locality_figures import error_panel, norm_panel
from clusterflow.extract.termination import Caps

MOLECULES = Path(__file__).parents[1] / "configs" / "structures" / "molecules"
CAPS = Caps(lengths=dict.fromkeys(("C(sp3)", "C(sp2)", "C(sp2,ring)"), 1.05))  # the paper's C–H
RINGS = 1.45  # Å between two rings


def relaxed(atoms: Atoms, method: str) -> Atoms:
    atoms.calc = TBLite(method=method, accuracy=0.1, verbosity=0)
    BFGS(atoms, logfile=None).run(fmax=0.005, steps=400)
    return Atoms(atoms.numbers, atoms.positions)


def rings(method: str, turn: float, n: int = 5) -> Atoms:
    """Para-connected rings of relaxed benzene along x, every other one turned; the outermost carbon comes first."""
    benzene = relaxed(molecule("C6H6"), method)
    benzene.rotate(benzene.positions[0] - benzene.positions[3], "x")
    pitch = np.ptp(benzene.positions[benzene.numbers == 6, 0]) + RINGS
    links = np.flatnonzero(benzene.numbers == 1)[np.argsort(benzene.positions[benzene.numbers == 1, 0])[[0, -1]]]
    parts = Atoms()
    for k in range(n):
        ring = benzene.copy()
        ring.rotate(turn * (k % 2), "x")
        ring.translate((pitch * k, 0.0, 0.0))
        del ring[[i for i, end in zip(links, (k > 0, k < n - 1), strict=True) if end]]
        parts += ring
    first = int(np.argmin(np.where(parts.numbers == 6, parts.positions[:, 0], np.inf)))
    return parts[[first, *(i for i in range(len(parts)) if i != first)]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--level", default="gfn1")
    parser.add_argument("--scales", type=float, nargs="+", default=[0.90, 0.95, 1.0, 1.05, 1.10, 1.20])
    parser.add_argument("--molecules", nargs="+", default=["HD", "HDOE", "QPP", "QPO"])
    parser.add_argument("--step", type=float, default=0.0025, help="of the differences, Å")
    parser.add_argument("--caps-within", type=float, default=10.0, help="Å: caps farther away are left out of eq. 6")
    parser.add_argument("--store", type=Path, help="label store: what is there is not computed again")
    parser.add_argument("--output", type=Path, default=Path("runs/herbold"))
    given = parser.parse_args()
    given.output.mkdir(parents=True, exist_ok=True)
    level = reference_level(given.level, given.store)
    row = difference_row(level.forces, step=given.step)
    method = "GFN2-xTB" if given.level == "gfn2" else "GFN1-xTB"  # geometries
    hd, hdoe = (relaxed(read(MOLECULES / f"{n}.extxyz"), method) for n in ("hexadecane", "hexadecaoctaene"))
    systems = {"HD": hd, "HDOE": hdoe, "QPP": rings(method, 0.0), "QPO": rings(method, 90.0)}
    found, points, table = {}, {}, {}
    for name in given.molecules:
        atoms = systems[name]
        points[name] = ([], [])
        piece = grouped(atoms)  # CH2, C2H2 and rings
        # The paper cuts no bond of the site, the first carbon: its smallest piece of hexadecane is ethane.
        trials = growth(piece, 0)[1 if name == "HD" else 0 : -1]
        for scale in given.scales:
            scaled = grouped(Atoms(atoms.numbers, atoms.positions * scale), piece.groups, graph=piece.graph)
            result = assess_locality(
                scaled, 0, level.forces, row=row, trials=trials, caps=CAPS, termination_range=given.caps_within
            )
            errors, norms = ([getattr(t, key) for t in result.trials] for key in ("error", "effective_norm"))
            gamma = implied_threshold(norms, errors, 0.15)
            table[f"{name} {scale:.2f}"] = {"error": errors, "norm": norms, "gamma": gamma}
            print(f"{name} σ={scale:.2f} Γ={gamma:.3f}", flush=True)
            points[name][0].extend(errors)
            points[name][1].extend(norms)
            found |= {name: result} if scale == 1.0 else {}
    decay = {n: decay_rate(r, element="C") for n, r in found.items()}
    print("decay of the carbon norms, 1/Å:", {n: round(v, 2) for n, v in decay.items()})
    told = {"level": level.identity, "decay_per_A": decay, "systems": table}
    (given.output / "herbold.json").write_text(json.dumps(told, indent=1))
    figure = Figure(figsize=(10, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    norm_panel(left, found, element="C", joined=True)
    error_panel(right, points)
    figure.savefig(given.output / "herbold.png", dpi=90)


if __name__ == "__main__":
    main()
