"""Frames of UiO-66 and its point defects with the forces of the campaign's level, a universal potential, the "teacher".

clusterflow run configs/uio66_disordered.yaml
python workflows/uio66_teacher_data.py configs/uio66_teacher.yaml runs/uio66_disordered/model --output runs/uio66_cells

Each system of the campaign file walks twice at 600 K with a potential that knows such environments, once for training
and once for testing, while its volume grows slowly from 5 % below to 5 % above (Dobbelaere 2025, Table SI.8, samples
8500 to 9700 Å³). The teacher labels the frames. What is in the output folder is not computed again.
"""

import argparse
from pathlib import Path

import numpy as np
from ase import Atoms, units
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import read, write
from ase.md.langevin import Langevin
from ase.md.velocitydistribution import MaxwellBoltzmannDistribution
from ase.optimize import FIRE

from clusterflow.config.load import load_campaign
from clusterflow.core import keys
from clusterflow.explore.stop import KeptBonds
from clusterflow.train.learners import load_potential

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("campaign", type=Path)
parser.add_argument("walker", type=Path, help="folder of the potential that moves the atoms")
parser.add_argument("--systems", nargs="*")
parser.add_argument("--equilibration", type=int, default=300, help="steps of 1 fs before the first frame")
parser.add_argument("--interval", type=int, default=20, help="steps between two frames")
parser.add_argument("--frames", type=int, nargs=2, default=[40, 12], help="frames to train on, and to test on")
parser.add_argument("--output", type=Path, default=Path("runs/uio66_cells"))
args = parser.parse_args()
args.output.mkdir(parents=True, exist_ok=True)
config = load_campaign(args.campaign)
reference = config.label.build()
teacher, walker = reference.new_calculator(), load_potential(args.walker)


def walk(start: Atoms, frames: int, seed: int) -> list[Atoms]:
    """Labelled frames of Langevin dynamics at 600 K from a relaxed structure, in which the volume grows by a tenth."""
    atoms, rng, bonds = start.copy(), np.random.default_rng(seed), KeptBonds.of(start)
    atoms.set_cell(start.cell * 0.95 ** (1 / 3), scale_atoms=True)
    atoms.calc = walker.calculator()
    MaxwellBoltzmannDistribution(atoms, temperature_K=1200, rng=rng)  # half of it becomes potential energy
    motion = Langevin(atoms, units.fs, temperature_K=600, friction=0.02 / units.fs, rng=rng)
    motion.run(args.equilibration)
    made = []
    for i in range(frames):
        volume = start.get_volume() * (0.95 + 0.1 * i / max(frames - 1, 1))
        atoms.set_cell(atoms.cell * (volume / atoms.get_volume()) ** (1 / 3), scale_atoms=True)
        motion.run(args.interval)
        frame = Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=True)
        if (broken := bonds.broken(frame)) is not None:
            raise SystemExit(f"After {motion.nsteps} fs {broken}: walk with a better potential.")
        frame.calc = teacher
        known = {"energy": frame.get_potential_energy(), "forces": frame.get_forces()}
        frame.calc = SinglePointCalculator(frame, **known)
        frame.info[keys.LEVEL] = reference.level_of_theory
        made.append(frame)
    print(f"{motion.nsteps} fs, at last {atoms.get_temperature():.0f} K", flush=True)
    return made


for system in config.systems:
    if args.systems and system.name not in args.systems:
        continue
    for seed, (kind, count) in enumerate(zip(("train", "test"), args.frames, strict=True)):
        path = args.output / f"{system.name}_{kind}.extxyz"
        if not path.is_file():
            relaxed = args.output / f"{system.name}_relaxed.extxyz"
            if not relaxed.is_file():
                atoms = system.atoms()
                atoms.calc = walker.calculator()
                FIRE(atoms, logfile=None).run(fmax=0.1, steps=100)
                write(relaxed, Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=True))
            write(path, walk(read(relaxed), count, seed))
        print(path, flush=True)
