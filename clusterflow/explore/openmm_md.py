"""Langevin dynamics in OpenMM at constant volume or constant pressure, with any potential.

The potential enters through OpenMM's PythonForce, so nothing here is tied to one kind of model.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from ase import Atoms

from clusterflow.core.data import FloatArray, Prediction, Trajectory
from clusterflow.core.protocols import Potential
from clusterflow.errors import InputError
from clusterflow.explore.barostat import AffineBarostat
from clusterflow.explore.evaluation import Evaluator, check_elements
from clusterflow.explore.reduced_cell import BoxView
from clusterflow.explore.stop import BlowUp, BlowUpLimits
from clusterflow.explore.thermodynamics import is_free_molecule, maxwell_boltzmann, remove_drift
from clusterflow.explore.walk import (
    Snapshot,
    WalkSettings,
    ase_velocities,
    check_overlap,
    check_start,
    openmm_velocities,
    run_walk,
    walk_key,
)
from clusterflow.units import ANGSTROM_IN_NM, BAR_PER_GPA, EV_IN_KJ_PER_MOL

_NM = ANGSTROM_IN_NM
_FORCE = EV_IN_KJ_PER_MOL / ANGSTROM_IN_NM  # kJ/mol/nm per eV/Å


@dataclass(frozen=True)
class OpenMMExplorer:
    """LangevinMiddle dynamics, with a Monte Carlo barostat for constant pressure.

    Defaults: Dobbelaere et al. 2025 (arXiv:2504.03881), Table SI.2. Molecules (no periodic direction) lose the motion
    of their centre of mass; constraints of the start are ignored.

    Parameters
    ----------
    pressure_GPa
        Hydrostatic pressure, may be negative; None = constant volume.
    steps, frame_interval, barostat_interval
        In steps.
    friction_time_fs
        Inverse friction coefficient of the Langevin thermostat.
    barostat
        "affine": moves that strain cell and atoms alike (`AffineBarostat`). "openmm": OpenMM's
        MonteCarloFlexibleBarostat, which shears the cell but leaves the atoms where they are, so that in a bonded
        framework hardly any move is accepted. Both sample the same ensemble.
    free_shape
        With pressure_GPa None and a crystal: the shape of the cell moves while its volume stays, (N, V, σ=0, T).
    keep_velocities
        Goes on with the velocities that the start has, as the next piece of a longer run.
    platform
        Name of the OpenMM platform that integrates; the potential chooses its own device.

    Raises
    ------
    InputError
        A setting outside its range, or a platform that this OpenMM does not have (in `explore`).
    """

    temperature_K: float
    pressure_GPa: float | None
    steps: int
    timestep_fs: float = 0.5
    friction_time_fs: float = 100.0
    barostat_interval: int = 25
    frame_interval: int = 100
    limits: BlowUpLimits = field(default_factory=BlowUpLimits)
    barostat: Literal["affine", "openmm"] = "affine"
    platform: str = "CPU"
    free_shape: bool = False
    keep_velocities: bool = False

    def __post_init__(self) -> None:
        WalkSettings.of(self)
        if self.barostat_interval < 1 or self.barostat not in ("affine", "openmm"):
            raise InputError(
                f"Explorer settings barostat = {self.barostat}, barostat_interval = {self.barostat_interval} make no "
                "sense.",
                todo="Allowed: barostat affine or openmm, interval 1 or more steps.",
            )
        if self.free_shape and (self.pressure_GPa is not None or self.barostat != "affine"):
            raise InputError(
                f"free_shape is for constant volume with the affine barostat, not for pressure_GPa = "
                f"{self.pressure_GPa}, barostat = {self.barostat}.",
                todo="Leave the pressure out, or free_shape: at constant pressure the shape is free anyway.",
            )

    def explore(self, start: Atoms, potential: Potential, *, seed: int, workdir: Path) -> Trajectory:
        """Walks from ``start``; the same seed gives the same walk, bit by bit, on the same machine.

        ``workdir/progress.json`` is kept up to date. See `run_walk` for the frames.

        Raises
        ------
        InputError
            Constant pressure without a three-dimensional cell, an unknown platform, elements that the potential does
            not know.
        ExploreError
            The start itself has overlapping atoms or gives NaN.
        """
        check_start(start, self.pressure_GPa, free_shape=self.free_shape)
        check_elements(start, potential)
        check_overlap(start, self.limits)
        evaluator = Evaluator(potential, start, 10.0 * self.limits.max_force)
        dynamics = OpenMMDynamics(self, start, evaluator, seed)
        try:
            key = walk_key(self, start, potential, seed)
            return run_walk(dynamics, start, WalkSettings.of(self), Path(workdir), key=key)
        finally:
            dynamics.close()


class OpenMMDynamics:
    """An OpenMM context for one walk.

    With OpenMM's own barostat the box lives in the context, in reduced form (`BoxView`). Otherwise the context is not
    periodic: positions run on without wrapping and the cell is kept here, which is exact as only the potential looks
    at periodicity.
    """

    def __init__(self, settings: OpenMMExplorer, start: Atoms, evaluator: Evaluator, seed: int) -> None:
        rng = np.random.default_rng(seed)
        # 0 would ask OpenMM for a random seed
        integrator_seed, self._barostat_seed = (int(s) for s in rng.integers(1, 2**31 - 1, size=2))
        constant_pressure = settings.pressure_GPa is not None
        in_box = constant_pressure and settings.barostat == "openmm"
        self._settings, self._seed = settings, seed
        self._evaluator = evaluator
        self._blow_up: BlowUp | None = None
        self._error: Exception | None = None
        self._cell: FloatArray = np.array(start.cell.array, dtype=np.float64)
        self._positions: FloatArray = np.array(start.positions, dtype=np.float64)
        self._view = BoxView(self._cell, self._positions) if in_box else None
        self._masses = np.asarray(start.get_masses(), dtype=np.float64)
        self._molecule_masses = self._masses if is_free_molecule(start) else None
        self._step = 0
        self._interval = settings.barostat_interval
        self._barostat: AffineBarostat | None = None
        velocities = maxwell_boltzmann(start, settings.temperature_K, rng)
        if settings.keep_velocities:
            velocities = np.asarray(start.get_velocities(), dtype=np.float64)
        if settings.free_shape or (constant_pressure and not in_box):
            self._barostat = AffineBarostat(
                settings.temperature_K, settings.pressure_GPa, len(start), float(start.cell.volume), rng
            )
        positions = self._positions
        if self._view is not None:
            positions, velocities = self._view.start_positions(positions), self._view.to_openmm(velocities)
        self._begin(positions * _NM, openmm_velocities(velocities), integrator_seed)

    def _begin(self, positions: FloatArray, velocities: FloatArray, seed: int) -> None:
        """A new context, with positions in nm and velocities in nm/ps."""
        import openmm

        settings, system = self._settings, openmm.System()
        for mass in self._masses:
            system.addParticle(float(mass))
        self._force = openmm.PythonForce(self._compute)
        self._force.setUsesPeriodicBoundaryConditions(self._view is not None)
        system.addForce(self._force)
        if self._molecule_masses is not None:
            system.addForce(openmm.CMMotionRemover(1))
        if self._view is not None and settings.pressure_GPa is not None:
            system.setDefaultPeriodicBoxVectors(*(self._view.box * _NM))
            barostat = openmm.MonteCarloFlexibleBarostat(
                settings.pressure_GPa * BAR_PER_GPA, settings.temperature_K, settings.barostat_interval, False
            )
            barostat.setRandomNumberSeed(self._barostat_seed)
            system.addForce(barostat)
        self._integrator = openmm.LangevinMiddleIntegrator(
            settings.temperature_K, 1000.0 / settings.friction_time_fs, settings.timestep_fs / 1000.0
        )
        self._integrator.setRandomNumberSeed(seed)
        platform = _platform(openmm, settings.platform)
        one_thread = {"Threads": "1"} if settings.platform == "CPU" else {}
        self._context = openmm.Context(system, self._integrator, platform, one_thread)
        self._context.setPositions(positions)
        self._context.setVelocities(velocities)

    def state(self) -> dict[str, FloatArray] | None:
        """Positions (nm), velocities (nm/ps), cell (Å) and what the barostat has learnt, as they are; None with
        OpenMM's own barostat, which does not tell what it has learnt."""
        if self._view is not None:
            return None
        now = self._context.getState(positions=True, velocities=True)
        told = {
            "positions": _array(now.getPositions(asNumpy=True)),
            "velocities": _array(now.getVelocities(asNumpy=True)),
            "cell": self._cell,
        }
        return told if self._barostat is None else {**told, "barostat": self._barostat.state}

    def go_on(self, state: Mapping[str, FloatArray], step: int) -> None:
        """From this state after ``step`` steps, with random numbers that follow from the seed and the step."""
        rng = np.random.default_rng([self._seed, step])
        self._step, self._cell = step, np.array(state["cell"])
        if self._barostat is not None:
            self._barostat.go_on(state["barostat"], rng)
        self.close()
        self._begin(state["positions"], state["velocities"], int(rng.integers(1, 2**31 - 1)))

    def _compute(self, state: Any) -> tuple[float, FloatArray]:
        """Called by OpenMM: kJ/mol and kJ/mol/nm. Errors are kept aside, as OpenMM passes on their text only."""
        try:
            positions = _array(state.getPositions(asNumpy=True)) / _NM
            cell = self._cell if self._view is None else _array(state.getPeriodicBoxVectors(asNumpy=True)) / _NM
            prediction = self._evaluator(positions, cell)
        except BlowUp as stop:
            self._blow_up = stop
            raise
        except Exception as error:
            self._error = error
            raise
        return prediction.energy * EV_IN_KJ_PER_MOL, np.asarray(prediction.forces, dtype=np.float64) * _FORCE

    def advance(self, steps: int) -> None:
        """``steps`` integrator steps, with barostat moves where they are due."""
        end = self._step + steps
        while self._step < end:
            due = end
            if self._barostat is not None:
                due = min(end, (self._step // self._interval + 1) * self._interval)
            self._integrate(due - self._step)
            self._step = due
            if self._barostat is not None and self._step % self._interval == 0:
                self._barostat_move(self._barostat)

    def _integrate(self, steps: int) -> None:
        import openmm

        try:
            self._integrator.step(steps)
        except openmm.OpenMMException as error:
            if self._error is not None:
                raise self._error from None
            # The platform itself complains when coordinates are NaN.
            raise self._blow_up or BlowUp(f"OpenMM stopped: {str(error).split('.', maxsplit=1)[0]}") from None

    def _barostat_move(self, barostat: AffineBarostat) -> None:
        positions = self._read_positions()
        before = self._evaluator(positions, self._cell)
        deformation = barostat.propose()
        cell, moved = self._cell @ deformation, (positions @ deformation) * _NM
        try:
            # The key of the trial must be what OpenMM will hand back: through nm, as it stores them.
            change = self._evaluator(moved / _NM, cell).energy - before.energy
        except BlowUp:
            change = np.inf  # a trial that makes no sense is refused, the walk goes on
        volumes = (float(abs(np.linalg.det(c))) for c in (self._cell, cell))
        if barostat.accept(change, *volumes):
            self._cell = cell
            self._context.setPositions(moved)

    def _read_positions(self) -> FloatArray:
        return _array(self._context.getState(positions=True).getPositions(asNumpy=True)) / _NM

    def snapshot(self) -> Snapshot:
        """State in the user's basis and orientation."""
        state = self._context.getState(positions=True, velocities=True)
        positions = _array(state.getPositions(asNumpy=True)) / _NM
        velocities = ase_velocities(_array(state.getVelocities(asNumpy=True)))
        if self._molecule_masses is not None:
            # OpenMM removes the drift at the start of a step; the thermostat's last kick is still in here.
            velocities = remove_drift(velocities, self._molecule_masses)
        if self._view is None:
            return Snapshot(positions, self._cell, velocities, self._evaluator(positions, self._cell))
        box = _array(state.getPeriodicBoxVectors(asNumpy=True)) / _NM
        found = self._evaluator(positions, box)
        self._view.follow(box)
        cell, user_positions = self._view.cell_and_positions(positions)
        stress = None if found.stress is None else self._view.stress_from_openmm(found.stress)
        prediction = Prediction(found.energy, self._view.from_openmm(found.forces), stress)
        return Snapshot(user_positions, cell, self._view.from_openmm(velocities), prediction)

    def close(self) -> None:
        """Frees the context, and with it the cycle between this object and the force."""
        del self._context, self._integrator, self._force


def _array(quantity: Any) -> FloatArray:
    """The plain array inside an OpenMM quantity, in OpenMM's own units, without its slow unit conversion."""
    return np.asarray(quantity._value, dtype=np.float64)


def _platform(openmm: Any, name: str) -> Any:
    names = [openmm.Platform.getPlatform(i).getName() for i in range(openmm.Platform.getNumPlatforms())]
    if name not in names:
        raise InputError(
            f"OpenMM has no platform '{name}' on this machine.", todo=f"Choose one of: {', '.join(names)}."
        )
    return openmm.Platform.getPlatformByName(name)
