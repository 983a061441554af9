"""Heat capacity: the Hessian of a potential against phonopy's finite displacements, on the same relaxed structure.

    python benchmarks/heat_capacity.py runs/ramp/model
    python benchmarks/heat_capacity.py MODEL_FOLDER --structure configs/structures/UiO-66_primitive.extxyz

The structure is relaxed first (positions and cell), then both compute C_V in turns, one way of phonopy in each round:
without symmetry, what a crystal with defects needs, to both sides (6n force calls) and to one (3n), and last with the
symmetry that phonopy finds within ``--symprec``. ``--relaxed FILE`` takes a structure that is at rest already. A
potential without second derivatives is differentiated by central differences with ``--step``. CPU times are printed
beside wall times for machines that are not idle. Set OMP_NUM_THREADS=1.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms

from clusterflow.core.frames import read_frames, write_frames
from clusterflow.core.protocols import SecondDerivatives
from clusterflow.evaluate.heat_capacity import LOWEST, hessian_rows, real_modes
from clusterflow.evaluate.relaxation import relax
from clusterflow.physics.vibrations import GAS_CONSTANT, harmonic_modes, heat_capacity
from clusterflow.testing.phonopy_reference import phonopy_thermal
from clusterflow.train.learners import load_potential

MOF5 = Path(__file__).parent.parent / "configs" / "structures" / "MOF-5_primitive.extxyz"


class Counted:
    """An ASE calculator, and how often its forces were asked for."""

    def __init__(self, calculator: Any) -> None:
        self.calculator, self.calls = calculator, 0

    def get_forces(self, atoms: Atoms) -> Any:
        """Forces in eV/Å."""
        self.calls += 1
        return self.calculator.get_forces(atoms)


def clocked(call: Callable[[], Any]) -> tuple[float, float, Any]:
    """Wall and CPU seconds, and the result."""
    wall, cpu = time.perf_counter(), time.process_time()
    result = call()
    return time.perf_counter() - wall, time.process_time() - cpu, result


def ours(atoms: Atoms, potential: Any, temperature: float, step: float) -> float:
    """C_V of a cell in J/(mol K)."""
    modes = harmonic_modes(atoms, hessian_rows(atoms, potential, range(len(atoms)), step=step))
    return float(heat_capacity(real_modes(modes, LOWEST), np.array([temperature]))[0]) * GAS_CONSTANT


def compare(
    atoms: Atoms, potential: Any, displacements: list[float], *, temperature: float, step: float, symprec: float
) -> list[dict[str, Any]]:
    """A row for every displacement to both sides, one to one side, and one with phonopy's symmetry."""
    wall = cpu = exact = 0.0
    per_gram = 1.0 / float(atoms.get_masses().sum())
    hessian_rows(atoms, potential, [0], step=step)  # compiles what is compiled at the first call
    ways: list[tuple[float, dict[str, Any]]] = [(d, {"symmetry": False, "plusminus": True}) for d in displacements]
    ways.append((displacements[-1], {"symmetry": False, "plusminus": False}))
    ways.append((displacements[-1], {"symmetry": True, "symprec": symprec}))
    table = []
    for displacement, way in ways:
        if not way["symmetry"]:  # with symmetry there is little to do, and the last time of ours will do
            wall, cpu, exact = clocked(lambda: ours(atoms, potential, temperature, step))
        counted = Counted(potential.calculator())

        def theirs(d: float = displacement, way: dict[str, Any] = way, counted: Counted = counted) -> float:
            found = phonopy_thermal(atoms, counted, (1, 1, 1), [temperature], cutoff=LOWEST, displacement=d, **way)
            return found["heat_capacity"][0]

        their_wall, their_cpu, their_value = clocked(theirs)
        name = "with symmetry" if way["symmetry"] else "both sides" if way["plusminus"] else "one side"
        row = {
            "displacement_A": displacement,
            "way": name,
            "force_calls": counted.calls,
            "c_V": exact * per_gram,
            "c_V_phonopy": their_value * per_gram,
            "relative_difference": their_value / exact - 1.0,
            "wall_s": wall,
            "cpu_s": cpu,
            "phonopy_wall_s": their_wall,
            "phonopy_cpu_s": their_cpu,
            "ratio_wall": their_wall / wall,
            "ratio_cpu": their_cpu / cpu,
            "load": os.getloadavg()[0],
        }
        table.append(row)
        print(
            f"{name}, {displacement:g} Å, {counted.calls} force calls: c_V "
            f"{row['c_V']:.6f} and {row['c_V_phonopy']:.6f} J/(g K), {100 * row['relative_difference']:+.2g} %; ours "
            f"{wall:.1f} s ({cpu:.1f} s CPU), phonopy {their_wall:.1f} s ({their_cpu:.1f} s CPU), ratio "
            f"{row['ratio_wall']:.2f} ({row['ratio_cpu']:.2f} CPU); load {row['load']:.1f}",
            flush=True,
        )
    return table


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, help="folder of a trained potential")
    parser.add_argument("--structure", type=Path, default=MOF5)
    parser.add_argument("--relaxed", type=Path, help="a structure at rest, which is not relaxed again")
    parser.add_argument("--keep", type=Path, help="where the relaxed structure is written")
    parser.add_argument("--fmax", type=float, default=1e-3, help="of the relaxation, eV/Å")
    parser.add_argument("--displacements", type=float, nargs="+", default=[0.03, 0.01, 0.001, 0.0001], help="Å")
    parser.add_argument(
        "--step", type=float, default=0.001, help="of our central differences, where they are needed, Å"
    )
    parser.add_argument("--symprec", type=float, default=1e-5, help="phonopy's tolerance for symmetry, Å")
    parser.add_argument("--temperature", type=float, default=300.0)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    potential = load_potential(given.model, dtype="float64")
    exact = "automatic differentiation" if isinstance(potential, SecondDerivatives) else "central differences"
    if given.relaxed:
        atoms = read_frames(given.relaxed)[0]
    else:
        wall, cpu, found = clocked(
            lambda: relax(read_frames(given.structure)[0], potential, freedom="cell", fmax=given.fmax)
        )
        atoms = found.atoms
        print(f"relaxed in {found.steps} steps, {wall:.1f} s ({cpu:.1f} s CPU)", flush=True)
    if given.keep:
        write_frames(given.keep, [atoms])
    print(f"{atoms.get_chemical_formula()}, {len(atoms)} atoms, {given.temperature:g} K; ours by {exact}", flush=True)
    table = compare(
        atoms, potential, given.displacements, temperature=given.temperature, step=given.step, symprec=given.symprec
    )
    if given.json is not None:
        given.json.write_text(json.dumps(table, indent=1))


if __name__ == "__main__":
    main()
