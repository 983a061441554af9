"""One walk, whatever integrates it: checks, frames, progress file, and the stop at the last sane frame."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Protocol, Self

import numpy as np
from ase import Atoms
from ase.units import fs

from clusterflow.core.data import FloatArray, Prediction, Trajectory
from clusterflow.core.frames import canonical_json, content_hash, digest
from clusterflow.core.protocols import Potential
from clusterflow.errors import ExploreError, InputError
from clusterflow.explore.checkpoint import SEGMENT, Checkpoints, Standing
from clusterflow.explore.stop import BlowUp, BlowUpLimits, KeptBonds, SaneState, check_frame, closest_violation
from clusterflow.explore.thermodynamics import degrees_of_freedom, internal_pressure, kinetic_temperature

PROGRESS_FILE = "progress.json"


@dataclass(frozen=True, slots=True)
class Snapshot:
    """State of the dynamics in the user's orientation: positions (n, 3) and cell (3, 3) in Å, velocities (n, 3) in
    ASE's unit, prediction for these positions."""

    positions: FloatArray
    cell: FloatArray
    velocities: FloatArray
    prediction: Prediction


class Dynamics(Protocol):
    """What a walk needs of an integrator. `advance` and `snapshot` raise `BlowUp` when the potential gives NaN."""

    def advance(self, steps: int) -> None: ...
    def snapshot(self) -> Snapshot: ...
    def state(self) -> Mapping[str, FloatArray] | None:
        """All that the dynamics goes on from but what is random; None: this one cannot be gone on with."""

    def go_on(self, state: Mapping[str, FloatArray], step: int) -> None:
        """From this state after ``step`` steps, with random numbers that follow from the seed and the step."""


@dataclass(frozen=True, slots=True)
class WalkSettings:
    """What all explorers share. ``pressure_GPa`` None = constant volume. Times in fs, intervals in steps.

    Raises
    ------
    InputError
        A value outside its range.
    """

    temperature_K: float
    pressure_GPa: float | None
    steps: int
    timestep_fs: float
    friction_time_fs: float
    frame_interval: int
    limits: BlowUpLimits

    @classmethod
    def of(cls, explorer: Any) -> Self:
        """Those of an explorer that has them as its own fields; checked as when made."""
        return cls(*(getattr(explorer, name) for name in cls.__dataclass_fields__))

    def __post_init__(self) -> None:
        wrong = [
            (not self.temperature_K > 0.0, "temperature_K", self.temperature_K, "above 0 K"),
            (not 0.0 < self.timestep_fs <= 10.0, "timestep_fs", self.timestep_fs, "above 0, at most 10 fs"),
            (not self.friction_time_fs > 0.0, "friction_time_fs", self.friction_time_fs, "above 0 fs"),
            (self.steps < 1, "steps", self.steps, "1 or more"),
            (self.frame_interval < 1, "frame_interval", self.frame_interval, "1 or more"),
            (
                self.pressure_GPa is not None and not abs(self.pressure_GPa) < 1000.0,
                "pressure_GPa",
                self.pressure_GPa,
                "a finite number of GPa, or none for constant volume",
            ),
        ]
        for is_wrong, name, value, allowed in wrong:
            if is_wrong:
                raise InputError(f"Explorer setting {name} = {value} makes no sense.", todo=f"Allowed: {allowed}.")


def check_start(start: Atoms, pressure_GPa: float | None, *, free_shape: bool = False) -> None:
    """Raises `InputError` for an empty structure, or for constant pressure or a free shape without a cell."""
    if len(start) == 0:
        raise InputError("The start structure holds no atoms.", todo="Give a structure with atoms.")
    if (free_shape or pressure_GPa is not None) and not bool(start.pbc.all()):
        what = "A free shape" if pressure_GPa is None else f"Constant pressure ({pressure_GPa:g} GPa)"
        raise InputError(
            f"{what} needs a cell that is periodic in three directions; this structure has pbc = {start.pbc.tolist()}.",
            where=f"start structure {start.get_chemical_formula()}",
            todo="Leave it out (constant volume and shape) for molecules and slabs.",
        )


def _frame(start: Atoms, now: Snapshot, step: int, settings: WalkSettings, dof: int) -> Atoms:
    """Copy of the start in the state ``now``; constraints and calculator are not kept, info and arrays are."""
    atoms: Atoms = start.copy()
    atoms.set_constraint()
    if atoms.pbc.any():
        atoms.set_cell(now.cell, scale_atoms=False)
    atoms.positions[:] = now.positions
    masses = np.asarray(atoms.get_masses(), dtype=np.float64)
    atoms.set_momenta(now.velocities * masses[:, None])
    info: dict[str, Any] = {
        "step": step,
        "time_fs": step * settings.timestep_fs,
        "temperature_K": kinetic_temperature(now.velocities, masses, dof),
        "potential_energy": float(now.prediction.energy),
    }
    if settings.pressure_GPa is not None:
        info["pressure_GPa"] = float(settings.pressure_GPa)
    if atoms.pbc.all():
        internal = internal_pressure(now.prediction, now.velocities, masses, float(atoms.cell.volume))
        if internal is not None:
            info["internal_pressure_GPa"] = internal
    atoms.info.update(info)
    return atoms


def write_progress(workdir: Path, **fields: Any) -> None:
    """Replaces ``workdir/progress.json`` in one go, so that a reader never sees half of it."""
    temporary = workdir / f".{PROGRESS_FILE}.tmp"
    temporary.write_text(json.dumps(fields, allow_nan=False))
    os.replace(temporary, workdir / PROGRESS_FILE)  # noqa: PTH105 - Path.replace, but plainly atomic


def check_overlap(start: Atoms, limits: BlowUpLimits) -> None:
    """Raises `ExploreError` where two atoms of the start are closer than the limits allow."""
    reason = closest_violation(start, limits)
    if reason is not None:
        raise ExploreError(
            f"The walker cannot start: {reason}.",
            where=f"start structure {start.get_chemical_formula()}",
            todo="Mend the structure (overlapping or duplicated atoms), or lower min_distance_factor for this pair.",
        )


def walk_key(explorer: Any, start: Atoms, potential: Potential, seed: int) -> str:
    """Identity of a walk: of all that its frames depend on."""
    settings = canonical_json({"explorer": type(explorer).__name__, **asdict(explorer)})
    moving = np.asarray(start.get_momenta() if getattr(explorer, "keep_velocities", False) else 0.0, dtype="<f8")
    masses = np.asarray(start.get_masses(), dtype="<f8")
    return digest(settings, content_hash(start), potential.model_id, str(seed), moving.tobytes(), masses.tobytes())


def run_walk(dynamics: Dynamics, start: Atoms, settings: WalkSettings, workdir: Path, *, key: str) -> Trajectory:
    """Runs the dynamics and collects frames; goes on from what an interrupted walk of the same ``key`` has left in
    ``workdir`` (see `checkpoint`).

    The start is the first frame (time 0); then one frame every ``frame_interval`` steps and one at the end, which after
    a blow-up is the last configuration that passed a check. ``info`` of every frame: step, time_fs, temperature_K
    (instantaneous), potential_energy (eV), pressure_GPa (applied) and internal_pressure_GPa where they exist.

    Raises
    ------
    ExploreError
        The potential gives NaN for the start itself.
    """
    workdir.mkdir(parents=True, exist_ok=True)
    dof, limits = degrees_of_freedom(start), settings.limits
    volume = float(start.cell.volume) if start.pbc.all() else None
    try:
        now = dynamics.snapshot()
    except BlowUp as stop:
        raise ExploreError(
            f"The walker cannot start: {stop} for the start structure.",
            where=f"start structure {start.get_chemical_formula()}",
            todo="Check the structure and that the potential was trained on these elements and distances.",
        ) from None
    frames: list[Atoms] = [_frame(start, now, 0, settings, dof)]
    sane: Atoms | None = None
    bonds = KeptBonds.of(start) if limits.keep_bonds else None
    state = SaneState(settings.temperature_K, dof, volume, now.prediction.energy, bonds)
    step, reason, checkpoints = 0, "", Checkpoints(workdir, key)
    if (left := checkpoints.load(start)) is not None:
        step, state = left.step, replace(state, last_energy=left.energy)
        frames += left.frames[:-1] if left.last_is_extra else left.frames
        sane = left.frames[-1] if left.frames else None
        dynamics.go_on(left.dynamics, step)
    _report(workdir, settings, sane or frames[-1], "")
    while step < settings.steps and not reason:
        due = min(*(_next(step, n) for n in (limits.check_interval, settings.frame_interval, SEGMENT)), settings.steps)
        try:
            dynamics.advance(due - step)
            now = dynamics.snapshot()
            frame = _frame(start, now, due, settings, dof)
            problem = check_frame(frame, now.prediction, frame.info["temperature_K"], state, limits)
        except BlowUp as stop:
            problem = str(stop)
        if problem is not None:
            reason = f"stopped between steps {step} and {due}: {problem}"
            break
        step, sane = due, frame
        state = replace(state, last_energy=now.prediction.energy)
        if step % settings.frame_interval == 0 or step == settings.steps:
            frames.append(frame)
            _report(workdir, settings, frame, "")
        if step % SEGMENT == 0 and step < settings.steps and (standing := dynamics.state()) is not None:
            dynamics.go_on(standing, step)
            if checkpoints.due:
                extra = sane is not frames[-1]
                kept = [*frames[1:], *([sane] if extra else [])]
                checkpoints.save(Standing(step, now.prediction.energy, kept, extra, standing))
    if sane is not None and sane is not frames[-1]:
        frames.append(sane)
    _report(workdir, settings, frames[-1], reason)
    checkpoints.clear()
    times = np.array([f.info["time_fs"] for f in frames])
    return Trajectory(frames=frames, times=times, stop_reason=reason, steps_done=step)


def _next(step: int, interval: int) -> int:
    return (step // interval + 1) * interval


def _report(workdir: Path, settings: WalkSettings, frame: Atoms, reason: str) -> None:
    write_progress(
        workdir,
        step=frame.info["step"],
        steps=settings.steps,
        time_fs=frame.info["time_fs"],
        temperature_K=round(frame.info["temperature_K"], 1),
        reason=reason,
    )


def ase_velocities(nm_per_ps: FloatArray) -> FloatArray:
    """Velocities in ASE's unit from OpenMM's nm/ps."""
    converted: FloatArray = nm_per_ps * (10.0 / (1000.0 * fs))
    return converted


def openmm_velocities(ase_unit: FloatArray) -> FloatArray:
    """Velocities in OpenMM's nm/ps from ASE's unit."""
    converted: FloatArray = ase_unit * (1000.0 * fs / 10.0)
    return converted
