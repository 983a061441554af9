"""Force matching for the node of UiO-66 with a missing linker (Dobbelaere et al., arXiv:2504.03881, Table SI.3).

python workflows/uio66_force_matching.py --level gfn1 --level gfn2 --output runs/uio66_force_matching

Parent frames come from 600 K dynamics at GFN1-xTB (kept in the output folder, and taken from there the next time). With
--level quick, forces are GPAW's; give --store so that a stopped run goes on, and --frames 2 or 3.
"""

import argparse
import json
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

import numpy as np
from ase import Atoms, units
from ase.io import read, write
from ase.md.langevin import Langevin
from ase.md.velocitydistribution import MaxwellBoltzmannDistribution
from ase.optimize import BFGS
from tblite.ase import TBLite

from clusterflow.cli.levels import reference_level
from clusterflow.extract.force_matching import blueprint, default_regions, match_extrapolated, match_forces
from clusterflow.extract.force_matching_figures import region_figure
from clusterflow.extract.rules import BuildingBlockRule
from clusterflow.physics.building_blocks import find_blocks
from clusterflow.structures.defects import missing_linker

UIO66 = Path(__file__).parents[1] / "configs" / "structures" / "UiO-66_primitive.extxyz"
PAPER = {  # meV/Å: Table SI.3, DFT and mlp_pr
    "paper, DFT": {
        "small": {"fragment": 456, "metals": 114, "formate": 41},
        "rings": {"fragment": 200, "metals": 67, "formate": 31},
    },
    "paper, MLP": {
        "small": {"fragment": 844, "metals": 227, "formate": 86},
        "rings": {"fragment": 255, "metals": 59, "formate": 30},
    },
}


def dynamics(folder: Path, steps: int, every: int) -> list[Atoms]:
    """Frames of NVT dynamics at 600 K, 1 fs steps, from the relaxed cell with twice the kinetic energy."""
    path = folder / "frames.extxyz"
    if path.is_file():
        return list(read(path, ":"))
    atoms = missing_linker(read(UIO66))
    atoms.calc = TBLite(method="GFN1-xTB", verbosity=0)
    BFGS(atoms, logfile=None).run(fmax=0.2, steps=40)
    rng = np.random.default_rng(1)
    MaxwellBoltzmannDistribution(atoms, temperature_K=1200, rng=rng)  # half of it becomes potential energy
    motion = Langevin(atoms, units.fs, temperature_K=600, friction=0.02 / units.fs, rng=rng)
    frames: list[Atoms] = []
    for _ in range(steps // every):
        motion.run(every)
        frames.append(Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=True))
        print(f"{motion.nsteps} fs, {atoms.get_temperature():.0f} K", flush=True)
    write(path, frames)
    return frames


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--level", action="append")
    parser.add_argument("--store", type=Path, help="label store: what is there is not computed again")
    parser.add_argument("--frames", type=int, default=4)
    parser.add_argument("--blueprints", nargs="+", default=["small", "rings", "acids"])
    parser.add_argument("--output", type=Path, default=Path("runs/uio66_force_matching"))
    given = parser.parse_args()
    given.output.mkdir(parents=True, exist_ok=True)
    frames = dynamics(given.output, 200, 50)[: given.frames]
    blocks = find_blocks(frames[0])
    site = int(np.flatnonzero(frames[0].numbers == 40)[0])
    mantles = {"small": "none", "rings": "neighbours", "acids": "linkers"}
    blueprints = {n: blueprint(BuildingBlockRule(mantle=mantles[n]), site) for n in given.blueprints}
    levels = {name: reference_level(name, given.store).forces for name in given.level or ["gfn1", "gfn2"]}
    regions = default_regions(blocks, frames[0])
    tell = partial(print, flush=True)
    matches = match_forces(frames, blueprints, levels, regions=regions, progress=tell)
    if given.store and len(blueprints) > 2:  # also against the limit over the fragments, with no periodic calculation
        limit = match_extrapolated(frames, blueprints, levels, regions=regions, progress=tell)
        matches += [replace(m, level=f"{m.level}, limit") for m in limit]
    rows = [{**{k: getattr(m, k) for k in ("level", "blueprint", "n_atoms", "fragment_formula")},
             "regions": {k: asdict(r) for k, r in m.regions.items()}} for m in matches]  # fmt: skip
    (given.output / "matches.json").write_text(json.dumps({"frames": len(frames), "matches": rows}, indent=1))
    region_figure(matches, given.output / "matches.png", beside=PAPER)


if __name__ == "__main__":
    main()
