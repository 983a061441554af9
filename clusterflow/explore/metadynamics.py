"""Well-tempered metadynamics on one or two torsions, in pieces that can be put together again.

The bias is OpenMM's own (`openmm.app.metadynamics`, Barducci et al. 2008, doi:10.1103/PhysRevLett.100.020603); the
potential enters as a `PythonForce`. The cell stays as it is: constant volume.
"""

from __future__ import annotations

import math
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms

from clusterflow.core.data import FloatArray
from clusterflow.core.protocols import Potential
from clusterflow.errors import ExploreError, InputError
from clusterflow.explore.evaluation import Evaluator, check_elements
from clusterflow.explore.openmm_forces import torsion_force, wall_force
from clusterflow.explore.stop import BlowUp, BlowUpLimits, KeptBonds
from clusterflow.explore.thermodynamics import is_free_molecule, maxwell_boltzmann
from clusterflow.explore.walk import openmm_velocities
from clusterflow.physics.reweighting import BiasedSamples, bias_offset
from clusterflow.physics.torsions import Wall, check_torsions, positions_of_groups
from clusterflow.units import ANGSTROM_IN_NM, EV_IN_KJ_PER_MOL

_NM = ANGSTROM_IN_NM
_FORCE = EV_IN_KJ_PER_MOL / _NM
_SAMPLES = 4
"""Samples between two hills: the bias stands still meanwhile, and the place of a new hill is not among them."""


@dataclass(frozen=True, slots=True)
class MetadynamicsSettings:
    """``torsions``: one or two, four atoms each. ``height`` (eV) of the first hill, ``width`` (rad) of all, one every
    ``interval`` steps; ``grid`` (rad) of the bias; the thermostat is LangevinMiddle's.

    Raises
    ------
    InputError
        A value outside its range.
    """

    torsions: tuple[tuple[int, ...], ...]
    temperature_K: float
    timestep_fs: float = 0.5
    friction_time_fs: float = 100.0
    height: float = 0.05
    width: float = 0.1
    bias_factor: float = 12.0
    interval: int = 100
    grid: float = 0.05
    walls: tuple[Wall, ...] = ()

    def __post_init__(self) -> None:
        wrong = [
            (len(self.torsions) not in (1, 2), "torsions", len(self.torsions), "one or two"),
            (any(len(t) != 4 for t in self.torsions), "torsions", self.torsions, "four atoms each"),
            (not self.bias_factor > 1.0, "bias_factor", self.bias_factor, "above 1"),
            (not (self.height > 0.0 and self.width > 0.0), "height, width", (self.height, self.width), "above 0"),
            (not 0.0 < self.grid <= self.width, "grid", self.grid, f"above 0, at most the width {self.width:g} rad"),
            (self.interval <= _SAMPLES, "interval", self.interval, f"more than {_SAMPLES} steps"),
            (any(len(w.atoms) not in (2, 4) for w in self.walls), "walls", "", "two atoms or four each"),
        ]
        for bad, name, value, allowed in wrong:
            if bad:
                raise InputError(f"Metadynamics setting {name} = {value} makes no sense.", todo=f"Allowed: {allowed}.")

    @property
    def points(self) -> int:
        """Points of the bias per torsion; the last is the first again."""
        return math.ceil(2.0 * math.pi / self.grid) + 1


@dataclass(frozen=True, slots=True)
class MetadynamicsState:
    """Where a run stands: ``positions`` (n, 3) Å, ``velocities`` (n, 3) nm/ps, ``bias`` on its grid in eV (the last
    torsion varies slowest), ``steps`` done."""

    positions: FloatArray
    velocities: FloatArray
    bias: FloatArray
    steps: int

    def save(self, path: Path) -> None:
        """Writes an ``.npz`` file."""
        np.savez(path, positions=self.positions, velocities=self.velocities, bias=self.bias, steps=self.steps)


def load_state(path: Path) -> MetadynamicsState:
    """The inverse of `MetadynamicsState.save`."""
    with np.load(path, allow_pickle=False) as data:
        return MetadynamicsState(data["positions"], data["velocities"], data["bias"], int(data["steps"]))


def metadynamics(
    start: Atoms,
    potential: Potential,
    settings: MetadynamicsSettings,
    *,
    steps: int,
    seed: int,
    workdir: Path,
    state: MetadynamicsState | None = None,
) -> tuple[BiasedSamples, MetadynamicsState]:
    """``steps`` more steps of a run, from ``start`` or from where ``state`` stands; the samples of these steps alone.

    The same seed gives the same piece on the same machine.

    Raises
    ------
    StructureError
        No such torsion, elements that the potential does not know.
    ExploreError
        The potential blew up, or a bond of the start broke; says when.
    """
    check_elements(start, potential)
    check_torsions(start, settings.torsions, [w.atoms for w in settings.walls])
    run = _Run(start, potential, settings, seed, workdir, state)
    begun = 0 if state is None else state.steps
    return run.advance(begun, steps)


class _Run:
    """An OpenMM simulation with its bias. Positions are never wrapped: only the potential looks at the cell."""

    def __init__(
        self,
        start: Atoms,
        potential: Potential,
        settings: MetadynamicsSettings,
        seed: int,
        workdir: Path,
        state: MetadynamicsState | None,
    ) -> None:
        import openmm
        from openmm import app
        from openmm.app.metadynamics import BiasVariable, Metadynamics

        self._settings = settings
        self._start = start.copy()
        self._cell = np.array(start.cell.array, dtype=np.float64)
        self._limits = BlowUpLimits()
        self._bonds = KeptBonds.of(start)
        self._evaluator = Evaluator(potential, start, 10.0 * self._limits.max_force)
        self._why: Exception | None = None
        rng = np.random.default_rng(seed)
        system = openmm.System()
        for mass in start.get_masses():
            system.addParticle(float(mass))
        system.addForce(openmm.PythonForce(self._compute))
        if is_free_molecule(start):
            system.addForce(openmm.CMMotionRemover(1))
        for wall in settings.walls:
            system.addForce(wall_force(wall))
        variables = [
            BiasVariable(torsion_force(t), -math.pi, math.pi, settings.width, True, settings.points)
            for t in settings.torsions
        ]
        workdir.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix="bias-", dir=workdir))  # nothing that an earlier attempt has left
        if state is not None:  # OpenMM adds what it finds in this folder
            np.save(folder / "bias_0_0.npy", state.bias * EV_IN_KJ_PER_MOL)
        self._metadynamics = Metadynamics(
            system,
            variables,
            settings.temperature_K,
            settings.bias_factor,
            settings.height * EV_IN_KJ_PER_MOL,
            settings.interval,
            saveFrequency=settings.interval * 10**9,
            biasDir=str(folder),
        )
        self._group = system.getForce(system.getNumForces() - 1).getForceGroup()  # the bias came last
        integrator = openmm.LangevinMiddleIntegrator(
            settings.temperature_K, 1000.0 / settings.friction_time_fs, settings.timestep_fs / 1000.0
        )
        integrator.setRandomNumberSeed(int(rng.integers(1, 2**31 - 1)))
        platform = openmm.Platform.getPlatformByName("CPU")
        self._simulation = app.Simulation(app.Topology(), system, integrator, platform, {"Threads": "1"})
        groups = [*settings.torsions, *(w.atoms for w in settings.walls)]
        positions = positions_of_groups(start, groups) if state is None else state.positions
        self._simulation.context.setPositions(positions * _NM)
        if state is None:
            velocities = openmm_velocities(maxwell_boltzmann(start, settings.temperature_K, rng))
        else:
            velocities = state.velocities
        self._simulation.context.setVelocities(velocities)

    def _compute(self, openmm_state: Any) -> tuple[float, FloatArray]:
        """Called by OpenMM; errors are kept aside, as OpenMM passes on their text only."""
        try:
            found = self._evaluator(_plain(openmm_state.getPositions(asNumpy=True)) / _NM, self._cell)
        except Exception as error:
            self._why = error
            raise
        return found.energy * EV_IN_KJ_PER_MOL, np.asarray(found.forces, dtype=np.float64) * _FORCE

    def advance(self, begun: int, steps: int) -> tuple[BiasedSamples, MetadynamicsState]:
        """See `metadynamics`."""
        settings = self._settings
        times, angles, bias, offsets = [], [], [], []
        stride = settings.interval // (_SAMPLES + 1)
        done = 0
        while done < steps:
            offset = bias_offset(self._inner(self._bias()), settings.temperature_K, settings.bias_factor)
            hill = min(done + settings.interval, steps)
            for _ in range(_SAMPLES):
                if done + stride >= hill:
                    break
                self._step(stride, begun + done)
                done += stride
                times.append((begun + done) * settings.timestep_fs)
                angles.append([float(v) for v in self._metadynamics.getCollectiveVariables(self._simulation)])
                energy = self._simulation.context.getState(energy=True, groups={self._group}).getPotentialEnergy()
                bias.append(float(energy._value) / EV_IN_KJ_PER_MOL)
                offsets.append(offset)
            self._step(hill - done, begun + done)
            done = hill
            self._check(begun + done)
        found = self._simulation.context.getState(positions=True, velocities=True)
        state = MetadynamicsState(
            _plain(found.getPositions(asNumpy=True)) / _NM,
            _plain(found.getVelocities(asNumpy=True)),
            self._bias(),
            begun + steps,
        )
        told = np.array(angles, dtype=np.float64).reshape(-1, len(settings.torsions))
        return BiasedSamples(np.array(times), told, np.array(bias), np.array(offsets)), state

    def _step(self, steps: int, at: int) -> None:
        import openmm

        try:
            self._metadynamics.step(self._simulation, steps)
        except openmm.OpenMMException as error:
            if self._why is not None and not isinstance(self._why, BlowUp):
                raise self._why from None
            raise self._blown(str(self._why or f"OpenMM stopped: {str(error).split('.', maxsplit=1)[0]}"), at) from None

    def _check(self, at: int) -> None:
        """The potential means nothing any more once a bond of the start has broken."""
        state = self._simulation.context.getState(positions=True)
        self._start.positions = _plain(state.getPositions(asNumpy=True)) / _NM
        if (broken := self._bonds.broken(self._start)) is not None:
            raise self._blown(broken, at)

    def _blown(self, why: str, at: int) -> ExploreError:
        return ExploreError(
            f"Metadynamics stopped after {at} steps ({at * self._settings.timestep_fs / 1000.0:.3g} ps): {why}.",
            where=self._start.get_chemical_formula(),
            todo="Lower `height:` or `bias_factor:`, add walls where bonds are weak, or train on the way over it.",
        )

    def _bias(self) -> FloatArray:
        """On its grid, eV, from what OpenMM gives as −(γ/(γ − 1)) V."""
        scale = (self._settings.bias_factor - 1.0) / self._settings.bias_factor
        values = np.asarray(self._metadynamics.getFreeEnergy()._value, dtype=np.float64)
        return np.asarray(-scale * values / EV_IN_KJ_PER_MOL, dtype=np.float64)

    @staticmethod
    def _inner(bias: FloatArray) -> FloatArray:
        """Each place once: the last point of a torsion is the first again."""
        return bias[tuple(slice(0, -1) for _ in bias.shape)]


def _plain(quantity: Any) -> FloatArray:
    """The array inside a quantity, in OpenMM's own units."""
    return np.asarray(quantity._value, dtype=np.float64)
