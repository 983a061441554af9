"""Equilibrium runs for properties: the same dynamics as exploration, but what counts is the time series."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from ase import Atoms

from clusterflow.core.data import FloatArray
from clusterflow.core.protocols import Potential
from clusterflow.errors import InputError
from clusterflow.explore.evaluation import Evaluator, check_elements
from clusterflow.explore.openmm_md import OpenMMDynamics, OpenMMExplorer
from clusterflow.explore.stop import BlowUpLimits
from clusterflow.explore.thermodynamics import kinetic_energy
from clusterflow.explore.walk import Snapshot, WalkSettings, check_overlap, check_start, run_walk, walk_key
from clusterflow.physics.timeseries import Series
from clusterflow.units import BOLTZMANN_EV, EV_PER_A3_IN_GPA


def sample(
    start: Atoms,
    potential: Potential,
    *,
    temperature_K: float,
    pressure_GPa: float | None,
    steps: int,
    seed: int,
    workdir: str | Path,
    timestep_fs: float = 0.5,
    friction_time_fs: float = 100.0,
    barostat_interval: int = 25,
    interval: int = 100,
    keep_velocities: bool = False,
    keep_bonds: bool = True,
) -> tuple[Series, Atoms]:
    """A run at constant pressure, or at constant volume with a free shape (``pressure_GPa`` None), of a crystal.

    Defaults: Dobbelaere et al., arXiv:2504.03881 (2025), Table SI.2. The series has a sample every ``interval`` steps,
    without the start; the frame is the last sane one, with velocities, from which a next piece goes on
    (``keep_velocities``).

    Raises
    ------
    InputError
        Not a crystal, a potential without stress, or a setting that makes no sense.
    ExploreError
        The start has overlapping atoms, or the potential gives NaN for it.
    """
    explorer = OpenMMExplorer(
        temperature_K,
        pressure_GPa,
        steps,
        timestep_fs=timestep_fs,
        friction_time_fs=friction_time_fs,
        barostat_interval=barostat_interval,
        frame_interval=interval,
        limits=BlowUpLimits(keep_bonds=keep_bonds),
        free_shape=pressure_GPa is None,
        keep_velocities=keep_velocities,
    )
    check_start(start, pressure_GPa, free_shape=explorer.free_shape)
    check_elements(start, potential)
    check_overlap(start, explorer.limits)
    evaluator = Evaluator(potential, start, 10.0 * explorer.limits.max_force)
    dynamics = _Recorder(OpenMMDynamics(explorer, start, evaluator, seed), potential.model_id)
    key = walk_key(explorer, start, potential, seed)
    try:
        walk = run_walk(dynamics, start, WalkSettings.of(explorer), Path(workdir), key=key)
    finally:
        dynamics.inner.close()
    frames = [f for f in walk.frames[1:] if f.info["step"] % interval == 0]
    stresses = [dynamics.stresses[f.info["step"]] for f in frames]
    return _series(frames, stresses, temperature_K, walk.stop_reason), walk.frames[-1]


class _Recorder:
    """Dynamics that remember the stress of every snapshot, by step."""

    def __init__(self, inner: OpenMMDynamics, name: str) -> None:
        self.inner, self._name = inner, name
        self._step = 0
        self.stresses: dict[int, FloatArray] = {}

    def advance(self, steps: int) -> None:
        self.inner.advance(steps)
        self._step += steps

    def state(self) -> dict[str, FloatArray] | None:
        """That of the dynamics, and the stresses so far."""
        state = self.inner.state()
        if state is None:
            return None
        steps = np.array(list(self.stresses), dtype=np.float64)
        return {**state, "sampled": steps, "stresses": np.array(list(self.stresses.values()), dtype=np.float64)}

    def go_on(self, state: Mapping[str, FloatArray], step: int) -> None:
        """From this state after ``step`` steps."""
        self._step = step
        self.stresses = {int(n): stress for n, stress in zip(state["sampled"], state["stresses"], strict=True)}
        self.inner.go_on(state, step)

    def snapshot(self) -> Snapshot:
        now = self.inner.snapshot()
        if now.prediction.stress is None:
            raise InputError(
                f"{self._name} gives no stress, so there is no internal pressure.",
                todo="Take a potential or calculator with stress.",
            )
        self.stresses[self._step] = now.prediction.stress
        return now


def _series(frames: list[Atoms], stresses: list[FloatArray], temperature_K: float, stop_reason: str) -> Series:
    volume = np.array([f.cell.volume for f in frames], dtype=np.float64)
    stress: FloatArray = np.array(stresses, dtype=np.float64).reshape(-1, 3, 3)
    atoms = len(frames[0]) if frames else 0
    ideal = atoms * BOLTZMANN_EV * temperature_K / volume
    return Series(
        time=np.array([f.info["time_fs"] for f in frames], dtype=np.float64),
        energy=np.array([f.info["potential_energy"] for f in frames], dtype=np.float64),
        kinetic=np.array([kinetic_energy(f.get_velocities(), f.get_masses()) for f in frames], dtype=np.float64),
        volume=volume,
        pressure=(ideal - np.trace(stress, axis1=1, axis2=2) / 3.0) * EV_PER_A3_IN_GPA,
        cell=np.array([f.cell.array for f in frames], dtype=np.float64).reshape(-1, 3, 3),
        stress=stress,
        stop_reason=stop_reason,
    )
