"""Blow-up detection: when a walker has left the region where its potential means anything."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from ase import Atoms
from ase.data import atomic_numbers, chemical_symbols, covalent_radii

from clusterflow.core.data import FloatArray, IntArray, Prediction
from clusterflow.errors import InputError
from clusterflow.physics.bonds import HOLD, bond_graph, bond_limits


class BlowUp(Exception):  # noqa: N818 - control flow inside this package, never shown to a user
    """The dynamics have to stop now; the argument says why. `run_walk` turns it into a ``stop_reason``."""


@dataclass(frozen=True, slots=True)
class BlowUpLimits:
    """What still counts as sane. The defaults are far outside what a bonded solid or molecule does at 300 to 1000 K.

    Parameters
    ----------
    min_distance_factor
        Smallest allowed distance as a fraction of the sum of the two covalent radii (Cordero et al. 2008,
        doi:10.1039/b801115j, as in ASE). The shortest real bonds are at about 0.8.
    pair_distances
        Smallest distance in Å for single element pairs, instead of the rule above: ``{"H-O": 0.7}``.
    max_temperature_factor
        Largest instantaneous temperature, in units of the target temperature. Six standard deviations of the canonical
        fluctuation, sqrt(2 / degrees of freedom), are added, so that small molecules do not trip it.
    max_temperature_K
        The same as an absolute limit in K; None: only the factor counts.
    max_force
        Largest norm of a force, eV/Å.
    energy_jump
        Largest change of the potential energy between two checks, eV/atom.
    volume_ratio
        Smallest and largest volume, relative to the start.
    keep_bonds
        Whether every bond of the start has to last, up to `clusterflow.physics.bonds.HOLD` × the longest bond of its
        elements. A young potential tears bonds long before energy or forces tell; what follows is worth no label.
    check_interval
        Steps between two checks. NaN and forces of ten times ``max_force`` are seen at every step.

    Raises
    ------
    InputError
        A limit that could never be met or never be tripped.
    """

    min_distance_factor: float = 0.6
    pair_distances: Mapping[str, float] = field(default_factory=dict)
    max_temperature_factor: float = 3.0
    max_temperature_K: float | None = None
    max_force: float = 30.0
    energy_jump: float = 0.5
    volume_ratio: tuple[float, float] = (0.5, 2.0)
    keep_bonds: bool = True
    check_interval: int = 10

    def __post_init__(self) -> None:
        low, high = self.volume_ratio
        wrong = [
            (not 0.0 <= self.min_distance_factor < 1.0, "min_distance_factor", self.min_distance_factor, "[0, 1)"),
            (self.max_temperature_factor <= 1.0, "max_temperature_factor", self.max_temperature_factor, "above 1"),
            (
                self.max_temperature_K is not None and not self.max_temperature_K > 0.0,
                "max_temperature_K",
                self.max_temperature_K,
                "above 0",
            ),
            (not self.max_force > 0.0, "max_force", self.max_force, "above 0"),
            (not self.energy_jump > 0.0, "energy_jump", self.energy_jump, "above 0"),
            (not 0.0 < low < 1.0 < high, "volume_ratio", self.volume_ratio, "(below 1, above 1), both positive"),
            (self.check_interval < 1, "check_interval", self.check_interval, "1 or more"),
        ]
        for is_wrong, name, value, allowed in wrong:
            if is_wrong:
                raise InputError(
                    f"Blow-up limit {name} = {value} makes no sense.", where="BlowUpLimits", todo=f"Allowed: {allowed}."
                )
        for pair, distance in self.pair_distances.items():
            symbols = pair.split("-")
            if len(symbols) != 2 or any(s not in atomic_numbers for s in symbols) or not distance >= 0.0:
                raise InputError(
                    f"Blow-up limit pair_distances has '{pair}: {distance}'.",
                    where="BlowUpLimits",
                    todo="Give two element symbols with a hyphen and a distance in Å, for example 'H-O: 0.7'.",
                )


@dataclass(frozen=True)
class KeptBonds:
    """Bonds ``i``–``j`` (m,) of a start structure, their vectors in cell vectors (m, 3) (in Å for what is not
    periodic), and the length in Å at which each has broken."""

    i: IntArray
    j: IntArray
    vectors: FloatArray
    longest: FloatArray

    @classmethod
    def of(cls, start: Atoms) -> KeptBonds:
        """All bonds of the structure."""
        graph = bond_graph(start)
        i, j = graph.i[graph.once], graph.j[graph.once]
        cell = start.cell.complete().array if start.pbc.any() else np.eye(3)
        vectors = start.positions[j] - start.positions[i]
        if start.pbc.any():
            vectors = vectors + graph.shift[graph.once] @ start.cell.array
        numbers = np.asarray(start.numbers, dtype=np.int64)
        longest = np.maximum(HOLD * bond_limits(numbers[i], numbers[j]), graph.distance[graph.once])
        return cls(i, j, np.linalg.solve(cell.T, vectors.T).T, longest)

    def broken(self, atoms: Atoms) -> str | None:
        """The bond that is stretched farthest beyond its limit, in words, or None. Atoms may have been wrapped."""
        if len(self.i) == 0:
            return None
        vectors = atoms.positions[self.j] - atoms.positions[self.i]
        if atoms.pbc.any():
            cell = atoms.cell.complete().array
            scaled = np.linalg.solve(cell.T, vectors.T).T
            vectors = (scaled - np.round(scaled - self.vectors) * atoms.pbc) @ cell
        length = np.linalg.norm(vectors, axis=1)
        worst = int(np.argmax(length / self.longest))
        if length[worst] <= self.longest[worst]:
            return None
        a, b = (f"{atoms.symbols[k]}{k}" for k in (int(self.i[worst]), int(self.j[worst])))
        return f"the bond {a}–{b} has broken, {length[worst]:.2f} Å (limit {self.longest[worst]:.2f} Å)"


@dataclass(frozen=True, slots=True)
class SaneState:
    """What a check compares with: target temperature in K, number of momentum degrees of freedom, volume of the start
    in Å³ (None for a system that is not periodic in three directions), energy at the last check in eV, the
    bonds that have to last (None: any may break)."""

    target_temperature_K: float
    degrees_of_freedom: int
    start_volume: float | None = None
    last_energy: float | None = None
    bonds: KeptBonds | None = None


def pair_limits(numbers: np.ndarray, limits: BlowUpLimits) -> FloatArray:
    """(119, 119) smallest distances in Å, indexed by atomic numbers; zero for elements that are not in ``numbers``."""
    table = np.zeros((len(chemical_symbols), len(chemical_symbols)))
    present = np.unique(numbers)
    radii = covalent_radii[present]
    table[np.ix_(present, present)] = limits.min_distance_factor * (radii[:, None] + radii[None, :])
    for pair, distance in limits.pair_distances.items():
        i, j = (atomic_numbers[s] for s in pair.split("-"))
        if i in present and j in present:
            table[i, j] = table[j, i] = distance
    return table


def closest_violation(atoms: Atoms, limits: BlowUpLimits) -> str | None:
    """The pair that is farthest below its smallest distance, in words, or None."""
    numbers = np.asarray(atoms.numbers)
    table = pair_limits(numbers, limits)
    cutoff = float(table.max())
    if cutoff <= 0.0 or len(atoms) == 0:
        return None
    if atoms.pbc.any():
        from matscipy.neighbours import neighbour_list

        complete = Atoms(numbers=numbers, positions=atoms.positions, cell=atoms.cell.complete(), pbc=atoms.pbc)
        i, j, d = neighbour_list("ijd", complete, cutoff)
    else:
        # A tree does not mind an atom that has left for far away; a cell list would fill the space between.
        from scipy.spatial import cKDTree

        pairs = cKDTree(atoms.positions).query_pairs(cutoff, output_type="ndarray")
        i, j = pairs[:, 0], pairs[:, 1]
        d = np.linalg.norm(atoms.positions[i] - atoms.positions[j], axis=1)
    limit = table[numbers[i], numbers[j]]
    bad = d < limit
    if not bad.any():
        return None
    k = int(np.argmin(np.where(bad, d / np.where(limit > 0, limit, 1.0), np.inf)))
    a, b = sorted((int(i[k]), int(j[k])))
    names = f"{chemical_symbols[numbers[a]]}{a} and {chemical_symbols[numbers[b]]}{b}"
    return f"atoms {names} are {d[k]:.3f} Å apart (limit {limit[k]:.3f} Å)"


def not_finite(prediction: Prediction) -> str | None:
    """What in the prediction is NaN or infinite, in words, or None."""
    if not np.isfinite(prediction.energy):
        return f"the potential returned the energy {prediction.energy}"
    if not np.isfinite(prediction.forces).all():
        atom = int(np.argmin(np.isfinite(prediction.forces).all(axis=1)))
        count = int((~np.isfinite(prediction.forces)).any(axis=1).sum())
        return f"the potential returned NaN or infinite forces on {count} atoms (first: atom {atom})"
    return None


def largest_force(forces: FloatArray) -> tuple[float, int]:
    """(norm in eV/Å, atom) of the largest force."""
    square = np.einsum("ij,ij->i", forces, forces)
    atom = int(square.argmax())
    return float(np.sqrt(square[atom])), atom


def check_frame(
    atoms: Atoms, prediction: Prediction, temperature_K: float, state: SaneState, limits: BlowUpLimits
) -> str | None:
    """Why this configuration is not sane, with numbers, or None.

    ``prediction`` belongs to ``atoms``; ``temperature_K`` is the instantaneous kinetic temperature. The cheap and the
    most telling checks come first; the neighbour search comes last, when volume and positions are known to be sane.
    """
    reason = not_finite(prediction)
    if reason is None and not (np.isfinite(atoms.positions).all() and np.isfinite(atoms.cell.array).all()):
        reason = "positions or cell are NaN or infinite"
    if reason is not None:
        return reason
    if state.start_volume is not None:
        ratio = float(atoms.cell.volume) / state.start_volume
        low, high = limits.volume_ratio
        if not low <= ratio <= high:
            return f"the volume is {ratio:.3f} of the start, {state.start_volume:.1f} Å³ (limits {low:g} to {high:g})"
    force, atom = largest_force(prediction.forces)
    if force > limits.max_force:
        return f"the force on {atoms.symbols[atom]}{atom} is {force:.1f} eV/Å (limit {limits.max_force:g} eV/Å)"
    spread = 6.0 * np.sqrt(2.0 / max(state.degrees_of_freedom, 1))
    hottest = state.target_temperature_K * (limits.max_temperature_factor + spread)
    if limits.max_temperature_K is not None:
        hottest = min(hottest, limits.max_temperature_K)
    if not temperature_K <= hottest:
        return f"the temperature is {temperature_K:.0f} K (limit {hottest:.0f} K at {state.target_temperature_K:g} K)"
    if state.last_energy is not None:
        jump = abs(prediction.energy - state.last_energy) / len(atoms)
        if jump > limits.energy_jump:
            return (
                f"the potential energy changed by {jump:.2f} eV/atom within {limits.check_interval} steps "
                f"(limit {limits.energy_jump:g} eV/atom)"
            )
    broken = None if state.bonds is None else state.bonds.broken(atoms)
    return broken or closest_violation(atoms, limits)
