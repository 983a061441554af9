"""Small and large fragments of MOF-5, IRMOF-10 and IRMOF-16 with labels, and thermal frames with their true forces.

python workflows/small_fragments_data.py --output runs/small_fragments/data

Radii and sites are those of Herbold and Behler (doi:10.1039/d2cp05976b): small fragments reach Rc = 4.359 Å, large ones
2 Rc. What walks is, as there, a potential that learnt from small fragments in rounds; here a linear one, of GFN1-xTB.
"""

import argparse
import time
from pathlib import Path

import numpy as np
from ase import Atoms, units
from ase.md.langevin import Langevin
from ase.md.velocitydistribution import thermalize_momenta

from clusterflow.core import keys
from clusterflow.core.frames import content_hash, read_frames, with_label, write_frames
from clusterflow.explore.stop import KeptBonds
from clusterflow.extract.completeness import complete_within
from clusterflow.extract.group_cut import reference_piece
from clusterflow.label.xtb import XTBReference
from clusterflow.physics.building_blocks import find_blocks
from clusterflow.train.learners import load_potential, make_trainer
from clusterflow.train.linear_config import LinearModelSettings

STRUCTURES = Path(__file__).parents[1] / "configs" / "structures"
RADII, TEMPERATURES = {"small": 4.359, "large": 2 * 4.359, "more": 4.359}, (300.0, 500.0)  # Å, K
KINDS = {  # material, and atoms of the fragment at rest: Tables 1 and 2 of the paper
    "small": [("MOF-5", 59), ("MOF-5", 42), ("IRMOF-10", 49), ("IRMOF-16", 32)],
    "large": [("MOF-5", 98), ("MOF-5", 146), ("IRMOF-10", 119), ("IRMOF-10", 96), ("IRMOF-16", 99), ("IRMOF-16", 38)],
}
starts = {name: read_frames(STRUCTURES / f"{name}_primitive.extxyz")[0] for name in dict(KINDS["large"])}
blocks, level = {name: find_blocks(atoms) for name, atoms in starts.items()}, XTBReference()


def labelled(frame: Atoms, name: str, site: int, radius: float) -> Atoms:
    """All groups within the radius of a site. `complete`: Å from an atom to the nearest that is cut off, 0 for caps."""
    piece, _ = reference_piece(frame, site, radius, blocks=blocks[name])
    atoms = Atoms(piece.atoms.numbers, piece.atoms.positions)
    atoms.arrays.update({keys.PARENT: piece.parent, "complete": complete_within(piece.atoms, piece.parent, frame, 8.8)})
    told, begun = {keys.FRAME: content_hash(frame), keys.SYSTEM: name}, time.process_time()
    label = level.label(atoms, charge=piece.charge, spin=piece.spin)
    return with_label(atoms, label, seconds=time.process_time() - begun, **told)


def walk(potential, name: str, kelvin: float, frames: int, rng: np.random.Generator) -> list[Atoms]:
    """Frames of Langevin dynamics in the fixed cell, every 25 fs, the first after 100."""
    atoms, bonds, made = starts[name].copy(), KeptBonds.of(starts[name]), []
    atoms.calc = potential.calculator()
    thermalize_momenta(atoms, temperature_K=2 * kelvin, rng=rng)  # half of it becomes potential energy
    motion = Langevin(atoms, units.fs, temperature_K=kelvin, friction=0.02 / units.fs, fixcm=False, rng=rng)
    for number in range(frames):
        motion.run(25 if number else 100)
        made.append(Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=True))
        if (broken := bonds.broken(made[-1])) is not None:
            raise SystemExit(f"{name} at {kelvin:g} K: {broken}. Give the walker more rounds.")
    return made


def learn_walker(folder: Path) -> Path:
    """A linear potential from small fragments: of displaced frames first, then of its own walks at each temperature."""
    trainer = make_trainer("linear", LinearModelSettings().to_json(), {}, ["C", "H", "O", "Zn"], threads=1)
    rng, known, made = np.random.default_rng(0), [], None
    displaced = {name: [atoms.copy() for _ in range(3)] for name, atoms in starts.items()}
    for atoms in (a for three in displaced.values() for a in three):
        atoms.positions += rng.normal(0.0, rng.uniform(0.02, 0.08), atoms.positions.shape)
    for turn, kelvin in enumerate((0.0, *TEMPERATURES)):
        for name in starts:
            new = walk(load_potential(made.path), name, kelvin, 3, rng) if made else displaced[name]
            known += [labelled(a, name, int(k), RADII["small"]) for a in new for k in rng.integers(len(a), size=4)]
        learnt = [a for k, a in enumerate(known) if k % 6]
        made = trainer.train(learnt, known[::6], start=None, seed=0, workdir=folder / f"walker_{turn}")
    return made.path


parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--fragments", type=int, default=20, help="of each size in each set, and 5 times as many: `more`")
parser.add_argument("--output", type=Path, default=Path("runs/small_fragments/data"), help="what is there is kept")
args = parser.parse_args()
path, last = args.output, args.output / f"walker_{len(TEMPERATURES)}" / "model"
walker = load_potential(last if last.is_dir() else learn_walker(path))
sizes = {(n, r): [len(reference_piece(a, i, r, blocks=blocks[n])[0].atoms) if a.numbers[i] > 1 else 0
                  for i in range(len(a))] for n, a in starts.items() for r in set(RADII.values())}  # fmt: skip
for number, name in enumerate(("test", "0", "1", "2")):
    if (path / f"{'more' if number else 'large'}_{name}.extxyz").is_file():
        continue
    rng = np.random.default_rng(number + 1)
    pool = {n: [a for t in TEMPERATURES for a in walk(walker, n, t, 3 if number else 1, rng)] for n in starts}
    if not number:
        bulk = [with_label(a, level.label(a), **{keys.SYSTEM: n}) for n, frames in pool.items() for a in frames]
        write_frames(path / "bulk.extxyz", bulk)
    for size, times in {"small": 1, "large": 1, "more": 5 if number else 0}.items():
        file, kinds, cuts = path / f"{size}_{name}.extxyz", KINDS["large" if size == "large" else "small"], []
        for k, (n, count) in enumerate((args.fragments * times * kinds)[: args.fragments * times]):
            site = int(rng.choice(np.flatnonzero(np.array(sizes[n, RADII[size]]) == count)))
            cuts.append((pool[n][k // len(kinds) % len(pool[n])], n, site, RADII[size]))
        if cuts and not file.is_file():
            write_frames(file, [labelled(*cut) for cut in cuts])
