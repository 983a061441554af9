"""Torsions of atoms in a cell: which are meant, whether they exist, and images that make them whole."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Self

import numpy as np
from ase import Atoms

from clusterflow.core.data import FloatArray, IntArray
from clusterflow.errors import StructureError
from clusterflow.physics.bonds import bond_graph

_STRAIGHT = 5.0
"""Degrees from 180 (or 0): an angle this straight leaves the torsion undefined."""


@dataclass(frozen=True, slots=True)
class Wall:
    """Harmonic walls on a distance (two ``atoms``, Å) or a torsion (four, rad): constant · (x − upper)² above
    ``upper``, constant · (lower − x)² below ``lower``; ``constant`` in eV/Å² or eV/rad². The form of PLUMED's walls."""

    atoms: tuple[int, ...]
    lower: float | None
    upper: float | None
    constant: float

    def to_json(self) -> dict[str, Any]:
        """JSON data."""
        return {"atoms": list(self.atoms), "lower": self.lower, "upper": self.upper, "constant": self.constant}

    @classmethod
    def from_json(cls, data: Any) -> Self:
        """The inverse of `to_json`."""
        return cls(tuple(data["atoms"]), data["lower"], data["upper"], data["constant"])


def check_torsions(atoms: Atoms, torsions: Sequence[Sequence[int]], walls: Sequence[Sequence[int]] = ()) -> None:
    """Refuses what is no torsion of this structure, and walls on atoms that it does not have.

    The middle two atoms of a torsion, and each end with its neighbour in the torsion, must be bonded.

    Raises
    ------
    StructureError
        An index that does not exist or stands twice, atoms that are not bonded, three atoms in a line.
    """
    symbols = atoms.get_chemical_symbols()
    for group in (*torsions, *walls):
        outside = [i for i in group if not 0 <= i < len(atoms)]
        if outside:
            raise StructureError(
                f"There is no atom {outside[0]} ({list(group)}): the structure has {len(atoms)}, counted from 0.",
                where=atoms.get_chemical_formula(),
                todo=f"Give numbers from 0 to {len(atoms) - 1}; `ase gui` shows them.",
            )
        if len(set(group)) != len(group):
            raise StructureError(
                f"{list(group)} names an atom twice.",
                where=atoms.get_chemical_formula(),
                todo="Give four different atoms for a torsion, two for a distance.",
            )
    if not torsions:
        return
    graph = bond_graph(atoms)
    for torsion in torsions:
        for a, b in pairwise(torsion):
            if b not in graph.neighbours(a):
                near = ", ".join(f"{symbols[n]}{n}" for n in sorted(set(graph.neighbours(a).tolist()))) or "nothing"
                raise StructureError(
                    f"{symbols[a]}{a} and {symbols[b]}{b} of the torsion {list(torsion)} are not bonded "
                    f"({symbols[a]}{a} is bonded to {near}).",
                    where=atoms.get_chemical_formula(),
                    todo="Name four atoms in a row, each bonded to the next; numbers start at 0.",
                )
        placed = positions_of_groups(atoms, [torsion])
        for k in (0, 1):
            a, b, c = (placed[i] for i in torsion[k : k + 3])
            u, v = a - b, c - b
            angle = np.degrees(np.arccos(np.clip(u @ v / np.linalg.norm(u) / np.linalg.norm(v), -1.0, 1.0)))
            if angle > 180.0 - _STRAIGHT or angle < _STRAIGHT:
                names = ", ".join(f"{symbols[i]}{i}" for i in torsion[k : k + 3])
                raise StructureError(
                    f"{names} of the torsion {list(torsion)} lie in a line ({angle:.1f}°): it is not defined.",
                    where=atoms.get_chemical_formula(),
                    todo="Take a torsion whose neighbouring bonds are bent.",
                )


def positions_of_groups(atoms: Atoms, groups: Sequence[Sequence[int]]) -> FloatArray:
    """(n, 3) positions in which each atom of a group is the nearest image to the one before it in the group.

    Raises
    ------
    StructureError
        No choice of images does so: the groups go around the cell.
    """
    positions = np.array(atoms.positions, dtype=np.float64)
    if not atoms.pbc.any():
        return positions
    cell = atoms.cell.complete().array
    offsets: IntArray = np.zeros((len(atoms), 3), dtype=np.int64)
    links: dict[int, list[tuple[int, IntArray]]] = {}
    for group in groups:
        for a, b in pairwise(group):
            scaled = np.linalg.solve(cell.T, positions[b] - positions[a])
            shift = -np.rint(scaled * atoms.pbc).astype(np.int64)
            links.setdefault(a, []).append((b, shift))
            links.setdefault(b, []).append((a, -shift))
    placed: set[int] = set()
    for root in links:
        if root in placed:
            continue
        placed.add(root)
        waiting = [root]
        while waiting:
            a = waiting.pop()
            for b, shift in links[a]:
                if b in placed:
                    if (offsets[b] != offsets[a] + shift).any():
                        raise StructureError(
                            f"The atoms {sorted(links)} of torsions and walls go around the cell, so no images of them "
                            "are whole.",
                            where=atoms.get_chemical_formula(),
                            todo="Use a larger supercell (`build: [{kind: supercell, …}]`), or leave out a wall.",
                        )
                    continue
                offsets[b] = offsets[a] + shift
                placed.add(b)
                waiting.append(b)
    whole: FloatArray = positions + offsets @ cell
    return whole


def torsion_angle(positions: FloatArray, torsion: Sequence[int]) -> float:
    """Angle in rad, in (−π, π], of four atoms at ``positions`` (n, 3); 0 is cis, IUPAC's sign."""
    a, b, c, d = (positions[i] for i in torsion)
    along = c - b
    first, second = np.cross(b - a, along), np.cross(along, d - c)
    return float(np.arctan2(np.linalg.norm(along) * ((b - a) @ second), first @ second))
