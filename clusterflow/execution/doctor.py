"""`clusterflow doctor`: each part is really used once, and what fails says how to mend it."""

from __future__ import annotations

import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.build import molecule
from ase.calculators.singlepoint import SinglePointCalculator

from clusterflow.core.data import Prediction
from clusterflow.execution.lane_checks import Finding, examine_blocks
from clusterflow.execution.machines import LocalMachine, Machine


def examine(machine: Machine, *, engine: bool = True, patience: float = 1800.0) -> Iterator[Finding]:
    """Runs the checks one by one: GPAW label, OpenMM step, training epoch, xTB, MPI, and a task per lane.

    The parts are tested here; of a cluster, the lanes are tested on its nodes. A job may take ``patience`` s to come.
    """
    checks: list[tuple[str, Callable[[Path], str], str]] = [
        (
            "GPAW: H2, LCAO",
            _gpaw,
            "Run `make setup` again and read .venv/setup.log; GPAW needs libxc and its PAW data.",
        ),
        ("xTB: H2O, GFN1", _xtb, "pip install tblite"),
        ("NequIP: one training epoch", _nequip, "pip install nequip; see docs/how-to/install.md"),
        ("OpenMM: NVT steps with a potential", _openmm, "pip install openmm; on clusters, load no other CUDA module."),
        (
            "MPI: mpirun",
            _mpi,
            "Only needed for `ranks` > 1: install openmpi-bin and libopenmpi-dev, then `make setup`.",
        ),
    ]
    if engine and isinstance(machine, LocalMachine):
        checks.append(
            (
                "Parsl: one task per lane",
                lambda p: _lanes(machine, p),
                "See docs/how-to/install.md, Parsl; logs are shown.",
            )
        )
    for name, check, todo in checks:
        yield _try(name, check, todo, needed=check is not _mpi)
    if engine and not isinstance(machine, LocalMachine):
        yield from examine_blocks(machine, Path.cwd(), patience=patience)


def _try(name: str, check: Callable[[Path], str], todo: str, *, needed: bool) -> Finding:
    began = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="clusterflow-doctor-") as scratch:
        try:
            seen, ok = check(Path(scratch)), True
        except Exception as error:  # a doctor reports every failure and goes on to the next patient
            seen, ok = f"{type(error).__name__}: {error}", False
    return Finding(name, ok, seen, "" if ok else todo, time.perf_counter() - began, needed)


def _gpaw(scratch: Path) -> str:
    from clusterflow.label.gpaw import GPAWReference

    atoms = molecule("H2")
    reference = GPAWReference.quick()
    label = reference.label(atoms, charge=0, spin=0, workdir=scratch)
    return f"E = {label.prediction.energy:.3f} eV in {label.scf_steps} SCF steps"


def _xtb(scratch: Path) -> str:
    from clusterflow.label.xtb import XTBReference

    label = XTBReference().label(molecule("H2O"), charge=0, spin=0, workdir=scratch)
    return f"E = {label.prediction.energy:.3f} eV"


def _nequip(scratch: Path) -> str:
    import dataclasses

    from clusterflow.train.nequip_config import NequIPModelSettings, NequIPTrainingSettings
    from clusterflow.train.nequip_potential import NequIPPotential
    from clusterflow.train.nequip_train import NequIPTrainer

    rng = np.random.default_rng(0)
    frames = []
    for _ in range(3):
        atoms = molecule("H2O")
        atoms.rattle(0.05, rng=rng)
        atoms.calc = SinglePointCalculator(atoms, energy=float(rng.normal()), forces=rng.normal(size=(3, 3)))
        frames.append(atoms)
    trainer = NequIPTrainer(
        model=NequIPModelSettings.preset("small"),
        training=dataclasses.replace(NequIPTrainingSettings.aggressive(), max_epochs=1),
        elements=("H", "O"),
    )
    model = trainer.train(frames[:2], frames[2:], start=None, seed=1, workdir=scratch)
    prediction = NequIPPotential.load(model.path).predict([frames[0]])[0]
    return f"trained and loaded; forces {np.isfinite(prediction.forces).all() and 'finite'}"


class _Springs:
    """Harmonic springs to where the atoms began, so that the dynamics check needs no model."""

    cutoff = reach = 0.0
    model_id = "springs"
    elements = ("H", "O")

    def __init__(self, home: np.ndarray) -> None:
        self.home = home

    def predict(self, frames: Any) -> list[Prediction]:
        return [
            Prediction(float(2.5 * ((a.positions - self.home) ** 2).sum()), -5.0 * (a.positions - self.home))
            for a in frames
        ]

    def calculator(self) -> Any:
        raise TypeError("the springs of the doctor have no ASE calculator")


def _openmm(scratch: Path) -> str:
    from clusterflow.explore.openmm_md import OpenMMExplorer

    atoms: Atoms = molecule("H2O")
    explorer = OpenMMExplorer(temperature_K=300.0, pressure_GPa=None, steps=20, frame_interval=10)
    trajectory = explorer.explore(atoms, _Springs(atoms.positions.copy()), seed=1, workdir=scratch)
    if trajectory.steps_done != 20:
        raise RuntimeError(f"stopped after {trajectory.steps_done} steps: {trajectory.stop_reason}")
    return "20 steps"


def _mpi(_scratch: Path) -> str:
    import subprocess

    if shutil.which("mpirun") is None:
        raise FileNotFoundError("mpirun is not on the PATH")
    said = subprocess.run(["mpirun", "--version"], capture_output=True, text=True, timeout=30, check=True).stdout
    return said.splitlines()[0]


def _lanes(machine: Machine, scratch: Path) -> str:
    from clusterflow.core.data import Task
    from clusterflow.execution.parsl_engine import ParslEngine

    engine = ParslEngine(machine, scratch, probe, run_id="doctor:1")
    try:
        began = time.perf_counter()
        futures = {
            lane: engine.submit(Task("probe", f"probe-{lane}", lane, {}, time_limit=120.0))
            for lane in ("md", "label", "train", "local")
        }
        seen = []
        for lane, future in futures.items():
            result = future.result(timeout=180)
            seen.append(f"{lane}: {result.summary['threads']} thread(s), GPUs '{result.summary['gpus']}'")
        return f"{'; '.join(seen)}; first results after {time.perf_counter() - began:.1f} s"
    finally:
        engine.close(cancel=True)


def probe(task: dict[str, Any], _folder: str) -> dict[str, Any]:
    """The task of the lane check: says what the worker sees."""
    import os

    return {
        "key": task["key"],
        "summary": {
            "threads": os.environ.get("OMP_NUM_THREADS", "not set"),
            "gpus": os.environ.get("CUDA_VISIBLE_DEVICES", ""),
            "python": sys.executable,
        },
        "wall_time": 0.0,
        "cores": 1,
        "peak_memory_MB": 0.0,
    }
