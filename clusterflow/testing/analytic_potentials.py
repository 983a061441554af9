"""Potentials with known answers, for physics tests and timings. Each implements the `Potential` Protocol exactly."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator, all_changes
from ase.data import chemical_symbols

from clusterflow.core.data import FloatArray, IntArray, Prediction
from clusterflow.core.protocols import Potential


class PredictionCalculator(Calculator):  # type: ignore[misc]
    """ASE calculator on top of `Potential.predict`."""

    implemented_properties: ClassVar[list[str]] = ["energy", "forces", "stress"]

    def __init__(self, potential: Potential) -> None:
        super().__init__()
        self._potential = potential

    def calculate(self, atoms: Any = None, properties: Any = ("energy",), system_changes: Any = all_changes) -> None:
        """Fills ``results``."""
        super().calculate(atoms, properties, system_changes)
        p = self._potential.predict([self.atoms])[0]
        self.results = {"energy": p.energy, "forces": p.forces}
        if p.stress is not None:
            s = p.stress
            self.results["stress"] = np.array([s[0, 0], s[1, 1], s[2, 2], s[1, 2], s[0, 2], s[0, 1]])


@dataclass(frozen=True)
class AnalyticPotential:
    """Base: all elements, a calculator, one frame at a time."""

    cutoff: float = 5.0
    elements: tuple[str, ...] = tuple(chemical_symbols[1:])

    @property
    def reach(self) -> float:
        """As far as the cutoff."""
        return self.cutoff

    @property
    def model_id(self) -> str:
        """Name and settings."""
        return repr(self)

    def one(self, atoms: Atoms) -> Prediction:
        """Prediction for one frame; zero here, an ideal gas."""
        stress = np.zeros((3, 3)) if atoms.pbc.all() else None
        return Prediction(0.0, np.zeros((len(atoms), 3)), stress)

    def predict(self, frames: Sequence[Atoms]) -> list[Prediction]:
        """One prediction per frame."""
        return [self.one(a) for a in frames]

    def calculator(self) -> Any:
        """ASE calculator."""
        return PredictionCalculator(self)


@dataclass(frozen=True)
class EinsteinCrystal(AnalyticPotential):
    """Every atom on a spring of ``stiffness`` (eV/Å²) at its own ``sites`` (n, 3): 3n independent oscillators."""

    sites: FloatArray = field(default_factory=lambda: np.zeros((1, 3)))
    stiffness: float = 2.0

    def one(self, atoms: Atoms) -> Prediction:
        """Harmonic in the displacement."""
        u = atoms.positions - self.sites
        stress = np.zeros((3, 3)) if atoms.pbc.all() else None
        return Prediction(float(0.5 * self.stiffness * (u * u).sum()), -self.stiffness * u, stress)


@dataclass(frozen=True)
class LennardJones(AnalyticPotential):
    """Truncated and shifted 12-6 potential between all atoms; defaults are argon. Any cell, any boundary."""

    epsilon: float = 0.0104
    sigma: float = 3.4
    cutoff: float = 8.5

    def one(self, atoms: Atoms) -> Prediction:
        """Energy, forces, and stress where periodic."""
        from matscipy.neighbours import neighbour_list

        if not atoms.pbc.any():  # the neighbour search wants a cell all the same
            atoms = Atoms(numbers=atoms.numbers, positions=atoms.positions, cell=np.ptp(atoms.positions, axis=0) + 1.0)
        i, d, vectors = neighbour_list("idD", atoms, self.cutoff)
        s6 = (self.sigma / d) ** 6
        shift = (self.sigma / self.cutoff) ** 6
        energy = 0.5 * 4.0 * self.epsilon * float((s6 * s6 - s6 - shift * shift + shift).sum())
        slope = -24.0 * self.epsilon * (2.0 * s6 * s6 - s6) / d
        pair = (slope / d)[:, None] * vectors
        forces = np.zeros((len(atoms), 3))
        for k in range(3):
            forces[:, k] = np.bincount(i, weights=pair[:, k], minlength=len(atoms))
        stress = 0.5 * vectors.T @ pair / float(atoms.cell.volume) if atoms.pbc.all() else None
        return Prediction(energy, forces, stress)


@dataclass(frozen=True)
class SpringNetwork(AnalyticPotential):
    """Springs between neighbouring atoms, periodic images too, at rest in one structure: a framework that is a minimum
    of its potential by construction, with a Hessian in closed form.

    ``ends`` (m, 2) atoms, ``shifts`` (m, 3) cells of the second one, ``lengths`` (m,) Å at rest, ``stiffness`` (m,)
    eV/Å².
    """

    ends: IntArray = field(default_factory=lambda: np.zeros((0, 2), dtype=np.int64))
    shifts: IntArray = field(default_factory=lambda: np.zeros((0, 3), dtype=np.int64))
    lengths: FloatArray = field(default_factory=lambda: np.zeros(0))
    stiffness: FloatArray = field(default_factory=lambda: np.zeros(0))

    @classmethod
    def of(cls, atoms: Atoms, *, cutoff: float = 5.0, stiffness: float = 40.0, decay: float = 0.8) -> SpringNetwork:
        """Springs between all atoms of ``atoms`` closer than ``cutoff`` Å, of ``stiffness`` eV/Å² at 1 Å, softer by a
        factor e every ``decay`` Å: bonds, angles and what is between linkers."""
        from matscipy.neighbours import neighbour_list

        i, j, d, shifts = neighbour_list("ijdS", atoms, cutoff)
        first = (i < j) | ((i == j) & (shifts @ np.array([10_000, 100, 1]) > 0))  # every spring once
        i, j, d, shifts = i[first], j[first], d[first], shifts[first]
        return cls(
            cutoff, AnalyticPotential.elements, np.stack([i, j], 1), shifts, d, stiffness * np.exp((1 - d) / decay)
        )

    def _vectors(self, atoms: Atoms) -> FloatArray:
        first, second = self.ends.T
        return np.asarray(atoms.positions[second] - atoms.positions[first] + self.shifts @ atoms.cell.array)

    def one(self, atoms: Atoms) -> Prediction:
        """Energy, forces, and stress where periodic."""
        vectors = self._vectors(atoms)
        d = np.linalg.norm(vectors, axis=1)
        pull = (self.stiffness * (d - self.lengths) / d)[:, None] * vectors
        forces = np.zeros((len(atoms), 3))
        for k in range(3):
            for end, sign in ((0, 1.0), (1, -1.0)):
                forces[:, k] += sign * np.bincount(self.ends[:, end], weights=pull[:, k], minlength=len(atoms))
        stress = vectors.T @ pull / float(atoms.cell.volume) if atoms.pbc.all() else None
        return Prediction(float(0.5 * (self.stiffness * (d - self.lengths) ** 2).sum()), forces, stress)

    def hessian_at_rest(self, atoms: Atoms) -> FloatArray:
        """(n, 3, n, 3) eV/Å² of the structure in which all springs are at rest: Σ k e⊗e over the springs."""
        vectors = self._vectors(atoms)
        e = vectors / np.linalg.norm(vectors, axis=1)[:, None]
        blocks = self.stiffness[:, None, None] * e[:, :, None] * e[:, None, :]
        rows = np.zeros((len(atoms), 3, len(atoms), 3))
        for block, (i, j) in zip(blocks, self.ends.tolist(), strict=True):
            rows[i, :, i] += block
            rows[j, :, j] += block
            rows[i, :, j] -= block
            rows[j, :, i] -= block
        return rows


@dataclass(frozen=True)
class ElasticCell(AnalyticPotential):
    """An ideal gas in an elastic box: the energy depends on the cell alone, so ⟨V⟩ is a one-dimensional integral.

    ``U = K (V − V0)² / 2 V0 + (G V0 / 2) |dev|²`` with dev = (F̃F̃ᵀ − 1)/2 of the volume-free part F̃ of the deformation
    from ``reference`` (F = reference⁻¹ cell, rows are lattice vectors); moduli in eV/Å³. Volume and shape are
    independent.
    """

    reference: FloatArray = field(default_factory=lambda: 10.0 * np.eye(3))
    bulk: float = 0.1
    shear: float = 0.1

    def one(self, atoms: Atoms) -> Prediction:
        """No forces; energy and stress of the cell."""
        cell = np.asarray(atoms.cell.array)
        v0, v = abs(np.linalg.det(self.reference)), abs(np.linalg.det(cell))
        shape = np.linalg.solve(self.reference, cell) * (v0 / v) ** (1.0 / 3.0)
        metric = shape @ shape.T
        dev = 0.5 * (metric - np.eye(3))
        energy = 0.5 * self.bulk * (v - v0) ** 2 / v0 + 0.5 * self.shear * v0 * float((dev * dev).sum())
        sheared = shape.T @ dev @ shape - float((dev * metric).sum()) / 3.0 * np.eye(3)
        stress = self.bulk * (v - v0) / v0 * np.eye(3) + self.shear * v0 / v * sheared
        return Prediction(float(energy), np.zeros((len(atoms), 3)), stress)

    def mean_volume(self, n_atoms: int, kT: float, pressure: float) -> float:
        """⟨V⟩ in Å³ at ``pressure`` (eV/Å³): density V^N exp(−(U + PV)/kT)."""
        v0 = abs(np.linalg.det(self.reference))
        v = np.linspace(0.2 * v0, 3.0 * v0, 200_001)
        log_weight = n_atoms * np.log(v) - (0.5 * self.bulk * (v - v0) ** 2 / v0 + pressure * v) / kT
        weight = np.exp(log_weight - log_weight.max())
        return float((weight * v).sum() / weight.sum())
