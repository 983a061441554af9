"""Frames of UiO-66 and its point defects with the forces of the campaign's level, a universal potential, the "teacher".

clusterflow run configs/uio66_disordered.yaml
python workflows/uio66_teacher_data.py configs/uio66_teacher.yaml runs/uio66_disordered/dataset.extxyz

Each system of the campaign file walks twice at 600 K with a linear potential fitted to labelled frames, to train on and
to test on, while its volume grows slowly from 5 % below to 5 % above (Dobbelaere 2025, Table SI.8,
samples 8500 to 9700 Å³). The teacher labels the frames. A walk that breaks a bond is not used: the teacher labels the
frames around the break, the linear potential learns them (walker.extxyz), and the walk begins again. What is in the
output folder is not computed again.
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
from clusterflow.core.frames import read_frames, read_optional_frames, write_frames
from clusterflow.explore.stop import KeptBonds
from clusterflow.train.learners import load_potential, make_trainer

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("campaign", type=Path)
parser.add_argument("known", type=Path, help="labelled frames to fit the potential to that moves the atoms")
parser.add_argument("--systems", nargs="*")
parser.add_argument("--equilibration", type=int, default=300, help="steps of 1 fs before the first frame, 5 n")
parser.add_argument("--interval", type=int, default=20, help="steps between two frames, 5 n")
parser.add_argument("--frames", type=int, nargs=2, default=[40, 12], help="frames to train on, and to test on")
parser.add_argument("--output", type=Path, default=Path("runs/uio66_cells"))
args = parser.parse_args()
args.output.mkdir(parents=True, exist_ok=True)
config, learnt = load_campaign(args.campaign), args.output / "walker.extxyz"
learnt.touch()
reference = config.label.build()
teacher = reference.new_calculator()


def labelled(frame: Atoms) -> Atoms:
    frame.calc = teacher
    frame.calc = SinglePointCalculator(frame, energy=frame.get_potential_energy(), forces=frame.get_forces())
    frame.info[keys.LEVEL] = reference.level_of_theory
    return frame


def walker():
    """The potential that moves the atoms, fitted to all that is known."""
    frames = read_frames(args.known) + read_optional_frames(learnt)
    elements = sorted({e for a in frames for e in a.get_chemical_symbols()})
    model, settings = config.train.build_model(), config.train.build_settings(final=True)
    trainer = make_trainer("linear", model.to_json(), settings.to_json(), elements, threads=1)
    training = [a for i, a in enumerate(frames) if i % 8]
    return load_potential(trainer.train(training, frames[::8], start=None, seed=1, workdir=args.output / "walker").path)


def walk(start: Atoms, frames: int, rng: np.random.Generator) -> list[Atoms] | None:
    """Labelled frames of Langevin dynamics at 600 K from a relaxed structure, in which the volume grows by a tenth.
    None if a bond broke; the frames around it have been learnt then."""
    atoms, bonds, trail, made = start.copy(), KeptBonds.of(start), [], []
    atoms.set_cell(start.cell * 0.95 ** (1 / 3), scale_atoms=True)
    atoms.calc = walker().calculator()
    MaxwellBoltzmannDistribution(atoms, temperature_K=1200, rng=rng)  # half of it becomes potential energy
    motion = Langevin(atoms, units.fs, temperature_K=600, friction=0.02 / units.fs, rng=rng)
    for step in range(0, args.equilibration + frames * args.interval, 5):
        i = max(0, step - args.equilibration) // args.interval
        volume = start.get_volume() * (0.95 + 0.1 * i / max(frames - 1, 1))
        atoms.set_cell(atoms.cell * (volume / atoms.get_volume()) ** (1 / 3), scale_atoms=True)
        motion.run(5)
        trail = [*trail[-5:], Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=True)]
        if (broken := bonds.broken(trail[-1])) is not None:
            print(f"After {motion.nsteps} fs {broken}: learnt.", flush=True)
            torn = [a for a in map(labelled, trail) if np.abs(a.get_forces()).max() < 30]  # eV/Å
            write_frames(learnt, read_optional_frames(learnt) + torn)
            return None
        if step + 5 > args.equilibration and (step + 5 - args.equilibration) % args.interval == 0:
            made.append(trail[-1].copy())
    return [labelled(frame) for frame in made]


for system in config.systems:
    for number, (kind, count) in enumerate(zip(("train", "test"), args.frames, strict=True)):
        path, relaxed = (args.output / f"{system.name}_{what}.extxyz" for what in (kind, "relaxed"))
        if path.is_file() or (args.systems and system.name not in args.systems):
            continue
        if not relaxed.is_file():
            atoms = system.atoms()
            atoms.calc = walker().calculator()
            FIRE(atoms, logfile=None).run(fmax=0.1, steps=100)
            write(relaxed, Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=True))
        rng = np.random.default_rng(number)
        tries = (walk(read(relaxed), count, rng) for _ in range(10))
        write(path, next(filter(None, tries)))  # StopIteration: ten walks broke bonds
        print(path, flush=True)
