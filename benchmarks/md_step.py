"""Milliseconds per MD step: the OpenMM explorer against ASE's own driver, with the same model and structure.

    python benchmarks/md_step.py                                              Lennard-Jones, 108 atoms
    python benchmarks/md_step.py --model MODEL_FOLDER --structure mof5.extxyz

The drivers take turns, so that a busy machine slows them all; the median of the rounds counts, for wall time and for
the CPU time of this process. "potential alone" is the bare time of one prediction on a frame that moves: what is left
is the driver's overhead.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.build import bulk
from ase.md.langevin import Langevin
from ase.units import fs

from clusterflow.core.frames import read_frames
from clusterflow.core.protocols import Potential
from clusterflow.explore.ase_md import ASEExplorer
from clusterflow.explore.openmm_md import OpenMMExplorer
from clusterflow.explore.thermodynamics import maxwell_boltzmann
from clusterflow.testing.analytic_potentials import LennardJones


def bare_ase(start: Atoms, potential: Potential, steps: int, temperature_K: float) -> None:
    """ASE's Langevin, as a user would write it: no checks, no frames."""
    atoms = start.copy()
    atoms.calc = potential.calculator()
    atoms.set_velocities(maxwell_boltzmann(atoms, temperature_K, np.random.default_rng(1)))
    rng = np.random.default_rng(2)
    Langevin(atoms, 0.5 * fs, temperature_K=temperature_K, friction=0.01 / fs, fixcm=False, rng=rng).run(steps)


def alone(start: Atoms, potential: Potential, steps: int) -> None:
    """Predictions only."""
    rng, atoms = np.random.default_rng(0), start.copy()
    for _ in range(steps):
        atoms.positions += 1e-3 * rng.standard_normal(atoms.positions.shape)
        potential.predict([atoms])


def drivers(start: Atoms, potential: Potential, steps: int, temperature_K: float) -> dict[str, Callable[[], Any]]:
    """The runs to compare, by name."""

    def explorer(kind: Any, pressure_GPa: float | None, **more: Any) -> Callable[[], Any]:
        return lambda: kind(temperature_K, pressure_GPa, steps, **more).explore(
            start, potential, seed=1, workdir=Path(tempfile.mkdtemp(prefix="md_step_"))
        )

    runs: dict[str, Callable[[], Any]] = {
        "potential alone": lambda: alone(start, potential, steps),
        "ASE Langevin, bare": lambda: bare_ase(start, potential, steps, temperature_K),
        "ASEExplorer NVT": explorer(ASEExplorer, None),
        "OpenMMExplorer NVT": explorer(OpenMMExplorer, None),
    }
    if start.pbc.all():
        runs["OpenMMExplorer NPT affine"] = explorer(OpenMMExplorer, 0.0)
        runs["OpenMMExplorer NPT openmm"] = explorer(OpenMMExplorer, 0.0, barostat="openmm")
        runs["ASEExplorer NPT"] = explorer(ASEExplorer, 0.0)
    return runs


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, help="folder of a trained NequIP potential")
    parser.add_argument("--structure", type=Path, help="structure file; needed with --model")
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--temperature", type=float, default=None, help="K; 300 with a model, 40 for argon")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    args = parser.parse_args()
    potential: Potential = LennardJones(cutoff=7.0)
    if args.model is not None:
        if args.structure is None:
            parser.error("--model needs --structure")
        from clusterflow.train.nequip_potential import NequIPPotential

        potential = NequIPPotential.load(args.model)
    start = read_frames(args.structure)[0] if args.structure else bulk("Ar", "fcc", a=5.3, cubic=True).repeat(3)
    start.calc = None
    temperature_K = args.temperature or (40.0 if args.model is None else 300.0)
    potential.predict([start])  # whatever is lazy is done now
    times: dict[str, list[tuple[float, float]]] = {}
    for _ in range(args.rounds):
        for name, run in drivers(start, potential, args.steps, temperature_K).items():
            began = time.perf_counter(), time.process_time()
            result = run()
            done = getattr(result, "steps_done", args.steps)
            if done != args.steps:
                raise SystemExit(f"{name}: {result.stop_reason}; choose a lower --temperature or another model.")
            wall, cpu = time.perf_counter() - began[0], time.process_time() - began[1]
            times.setdefault(name, []).append((1000.0 * wall / args.steps, 1000.0 * cpu / args.steps))
    table = {
        name: {
            "wall": round(statistics.median(t[0] for t in values), 3),
            "cpu": round(statistics.median(t[1] for t in values), 3),
        }
        for name, values in times.items()
    }
    if args.json:
        print(json.dumps({"atoms": len(start), "steps": args.steps, "ms_per_step": table}))
        return
    print(f"{len(start)} atoms, {args.steps} steps, median of {args.rounds} rounds")
    print(f"  {'ms per step':28s} {'wall':>9s} {'CPU':>9s}")
    for name, value in table.items():
        print(f"  {name:28s} {value['wall']:9.3f} {value['cpu']:9.3f}")


if __name__ == "__main__":
    main()
