"""The same dynamics with ASE's own integrators: the alternative where OpenMM is not wanted, and its cross-check."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.units import fs

from clusterflow.core.data import FloatArray, Prediction, Trajectory
from clusterflow.core.protocols import Potential
from clusterflow.errors import InputError
from clusterflow.explore.evaluation import check_elements
from clusterflow.explore.stop import BlowUp, BlowUpLimits, largest_force, not_finite
from clusterflow.explore.thermodynamics import is_free_molecule, maxwell_boltzmann, remove_drift
from clusterflow.explore.walk import Snapshot, WalkSettings, check_overlap, check_start, run_walk, walk_key
from clusterflow.units import GPA


@dataclass(frozen=True)
class ASEExplorer:
    """Constant volume: Langevin in the BAOAB splitting (Leimkuhler and Matthews 2013, doi:10.1063/1.4802990).
    Constant pressure: Martyna-Tobias-Klein with Nosé-Hoover chains and a fully flexible cell (doi:10.1063/1.467468).

    Both sample the ensemble of `OpenMMExplorer`. Constant pressure needs a potential that gives the stress. Of ASE's
    other barostats, Berendsen's samples no ensemble.

    Parameters
    ----------
    friction_time_fs
        Inverse friction (constant volume), or the period of the thermostat chain (constant pressure).
    barostat_time_fs
        Period of the barostat; 1000 fs as in Table SI.2 of Dobbelaere et al. 2025 (arXiv:2504.03881) for a barostat
        with equations of motion.

    Raises
    ------
    InputError
        A setting outside its range.
    """

    temperature_K: float
    pressure_GPa: float | None
    steps: int
    timestep_fs: float = 0.5
    friction_time_fs: float = 100.0
    barostat_time_fs: float = 1000.0
    frame_interval: int = 100
    limits: BlowUpLimits = field(default_factory=BlowUpLimits)

    def __post_init__(self) -> None:
        WalkSettings.of(self)
        if not self.barostat_time_fs > 0.0:
            raise InputError(
                f"Explorer setting barostat_time_fs = {self.barostat_time_fs} makes no sense.",
                todo="Allowed: above 0 fs.",
            )

    def explore(self, start: Atoms, potential: Potential, *, seed: int, workdir: Path) -> Trajectory:
        """As `OpenMMExplorer.explore`; additionally raises `InputError` where constant pressure is asked of a potential
        without stress."""
        check_start(start, self.pressure_GPa)
        check_elements(start, potential)
        check_overlap(start, self.limits)
        dynamics, key = ASEDynamics(self, start, potential, seed), walk_key(self, start, potential, seed)
        return run_walk(dynamics, start, WalkSettings.of(self), Path(workdir), key=key)


class ASEDynamics:
    """An ASE integrator for one walk."""

    def __init__(self, settings: ASEExplorer, start: Atoms, potential: Potential, seed: int) -> None:
        self._settings = settings
        self._ceiling = 10.0 * settings.limits.max_force
        self._seed, self._rng = seed, np.random.default_rng(seed)
        atoms = Atoms(
            numbers=start.numbers,
            positions=start.positions,
            cell=start.cell,
            pbc=start.pbc,
            masses=start.get_masses(),
        )
        atoms.calc = potential.calculator()
        self._atoms = atoms
        self._masses: FloatArray = np.asarray(atoms.get_masses(), dtype=np.float64)
        self._has_stress = "stress" in getattr(atoms.calc, "implemented_properties", ())
        self._molecule = is_free_molecule(atoms)
        atoms.set_velocities(maxwell_boltzmann(atoms, settings.temperature_K, self._rng))
        self._integrator: Any = None

    def _start_integrator(self) -> Any:
        """Only after the first prediction was seen to be finite: ASE's integrators ask for forces when made."""
        s = self._settings
        if s.pressure_GPa is None:
            from ase.md.langevinbaoab import LangevinBAOAB

            return LangevinBAOAB(
                self._atoms,
                s.timestep_fs * fs,
                temperature_K=s.temperature_K,
                T_tau=s.friction_time_fs * fs,
                rng=self._rng,
            )
        if not self._has_stress:
            raise InputError(
                "Constant pressure with ASE's integrator needs a potential that gives the stress.",
                todo="Use the OpenMM explorer, whose Monte Carlo barostat needs energies only, or constant volume.",
            )
        from ase.md.nose_hoover_chain import MTKNPT

        return MTKNPT(
            self._atoms,
            timestep=s.timestep_fs * fs,
            temperature_K=s.temperature_K,
            pressure_au=s.pressure_GPa * GPA,
            tdamp=s.friction_time_fs * fs,
            pdamp=s.barostat_time_fs * fs,
        )

    def advance(self, steps: int) -> None:
        """``steps`` integrator steps."""
        if self._integrator is None:
            self._integrator = self._start_integrator()
        for _ in range(steps):
            self._integrator.step()
            self._finite_prediction()
            if self._molecule:
                self._atoms.set_velocities(remove_drift(self._atoms.get_velocities(), self._masses))

    def state(self) -> dict[str, FloatArray]:
        """Positions, velocities, cell, and what the chains of a barostat remember."""
        atoms = self._atoms
        told = {"positions": atoms.get_positions(), "momenta": atoms.get_momenta(), "cell": np.array(atoms.cell.array)}
        return told | {name: np.array(getattr(part, name)) for part, name in self._remembered()}

    def go_on(self, state: Mapping[str, FloatArray], step: int) -> None:
        """From this state after ``step`` steps, with random numbers that follow from the seed and the step."""
        self._rng = np.random.default_rng([self._seed, step])
        self._atoms.set_cell(state["cell"], scale_atoms=False)
        self._atoms.set_positions(state["positions"])
        self._atoms.set_momenta(state["momenta"])
        self._integrator = self._start_integrator()
        for part, name in self._remembered():
            setattr(part, name, np.array(state[name]))

    def _remembered(self) -> list[tuple[Any, str]]:
        """What the integrator of constant pressure holds beside the atoms; that of constant volume holds nothing."""
        if self._settings.pressure_GPa is None:
            return []
        whole = self._integrator
        parts = ((whole, "_q"), (whole, "_p"), (whole, "_h"), (whole, "_p_g"))
        chains = ((whole._thermostat, ("_eta", "_p_eta")), (whole._barostat, ("_xi", "_p_xi")))
        return [*parts, *((chain, name) for chain, names in chains for name in names)]

    def _finite_prediction(self) -> Prediction:
        if not np.isfinite(self._atoms.positions).all():
            raise BlowUp("positions are NaN or infinite")
        forces = np.asarray(self._atoms.get_forces(), dtype=np.float64)
        prediction = Prediction(float(self._atoms.get_potential_energy()), forces)
        reason = not_finite(prediction)
        if reason is None:
            force, atom = largest_force(forces)
            if force > self._ceiling:
                reason = f"the force on {self._atoms.symbols[atom]}{atom} is {force:.3g} eV/Å"
        if reason is not None:
            raise BlowUp(reason)
        return prediction

    def snapshot(self) -> Snapshot:
        """Present state."""
        found = self._finite_prediction()
        stress = None
        if self._has_stress and self._atoms.pbc.all():
            stress = np.asarray(self._atoms.get_stress(voigt=False), dtype=np.float64)
        return Snapshot(
            self._atoms.get_positions(),
            np.array(self._atoms.cell.array),
            np.asarray(self._atoms.get_velocities(), dtype=np.float64),
            Prediction(found.energy, found.forces, stress),
        )
