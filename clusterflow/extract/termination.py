"""What closes the bonds that a cut leaves open: hydrogen, methyl, water or formate, and how long its bond is.

X–H lengths depend on the element, its hybridisation and its neighbours: the *kind* of a cap, such as "C(sp2,ring)" or
"C(carboxylate)". The table `LENGTHS` holds rounded gas-phase values; `clusterflow.extract.cap_lengths` relaxes them
at a given level of theory.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

import numpy as np
from ase.data import chemical_symbols

from clusterflow.core.data import FloatArray, IntArray
from clusterflow.errors import ExtractionError, InputError
from clusterflow.physics.bonds import BondGraph
from clusterflow.physics.elements import is_metal

CAPS: Final = ("H", "CH3", "OH2", "formate", "none")
"""Hydrogen along the old bond; methyl; water on a metal that loses a donor; formate on a metal that loses a
carboxylate; nothing."""

LENGTHS: Final[Mapping[str, float]] = MappingProxyType(
    {
        "B": 1.19,
        "C(sp)": 1.06,
        "C(sp2)": 1.09,
        "C(sp2,ring)": 1.085,
        "C(carboxylate)": 1.10,
        "C(sp3)": 1.09,
        "N": 1.01,
        "N(ring)": 1.01,
        "O": 0.96,
        "O(carboxyl)": 0.97,
        "O(hydroxyl)": 0.96,
        "O(silanol)": 0.96,
        "Si": 1.48,
        "P": 1.42,
        "S": 1.34,
        "Ge": 1.53,
        "Se": 1.46,
        "F": 0.92,
        "Cl": 1.27,
        "Br": 1.41,
        "I": 1.61,
    }
)
"""X–H bond lengths in Å by kind of cap, rounded from gas-phase molecules (C2H2, C2H4, C6H6, HCOOH, CH4, NH3, H2O,
CH3OH, SiH4, PH3, H2S, …)."""

_C_C: Final = 1.51  # toluene
_TETRAHEDRAL: Final = (1.0 / 3.0, float(np.sqrt(8.0)) / 3.0)  # along and across the axis of a methyl group
_HALF_WATER: Final = np.deg2rad(104.5 / 2.0)
_LARGEST_RING: Final = 7
_METAL: Final = is_metal(np.arange(len(chemical_symbols))).tolist()


@dataclass(frozen=True, slots=True)
class Caps:
    """The user's choice of caps: ``choice`` per name of a cut rule (one of `CAPS`; default "H"), ``lengths`` in Å per
    kind of cap (default `LENGTHS`).

    Raises
    ------
    InputError
        An unknown cap, or a length that no X–H bond has.
    """

    choice: Mapping[str, str] = field(default_factory=dict, hash=False)
    lengths: Mapping[str, float] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        for rule, value in self.choice.items():
            if value not in CAPS:
                near = difflib.get_close_matches(str(value), CAPS, n=1)
                raise InputError(
                    f"'{value}' is no cap for '{rule}'; allowed: {', '.join(CAPS)}.",
                    todo=f"Did you mean '{near[0]}'?" if near else "Take one of these.",
                )
        for kind, length in self.lengths.items():
            if kind not in LENGTHS:
                near = difflib.get_close_matches(str(kind), list(LENGTHS), n=1)
                raise InputError(
                    f"'{kind}' is no kind of cap; known: {', '.join(LENGTHS)}.",
                    todo=f"Did you mean '{near[0]}'?" if near else "Take one of these.",
                )
            if not 0.7 <= length <= 2.0:
                raise InputError(f"A cap length of {length} Å for {kind} makes no sense.", todo="C–H is about 1.09 Å.")

    def of(self, rule: str) -> str:
        """The cap for bonds that this cut rule cuts."""
        return self.choice.get(rule, "H")

    @property
    def name(self) -> str:
        """All choices that are not the default, in one canonical line."""
        parts = [f"{k}={v}" for k, v in sorted(self.choice.items()) if v != "H"]
        return ",".join(parts + [f"{k}={v!r}A" for k, v in sorted(self.lengths.items())])


@dataclass(frozen=True, slots=True)
class Cap:
    """Atoms that close one bond: ``numbers`` (k,), ``vectors`` (k, 3) in Å from the atom they sit on. The first is
    bonded to that atom, the others to the first."""

    numbers: tuple[int, ...]
    vectors: FloatArray


def cap_kind(numbers: IntArray, graph: BondGraph, atom: int) -> str:
    """Kind of the cap on an atom: its element, with hybridisation (by the number of its neighbours) and surroundings.

    The neighbour that is, or will be, replaced counts, so that parent and fragment give the same kind.

    Raises
    ------
    ExtractionError
        Hydrogen cannot close a bond of this element.
    """
    number = int(numbers[atom])
    symbol = str(chemical_symbols[number])
    near = [k for k in graph.neighbours(atom).tolist() if not _METAL[numbers[k]]]
    if symbol == "C":
        if len(near) != 3:
            return "C(sp)" if len(near) <= 2 else "C(sp3)"
        if sum(int(numbers[k]) == 8 for k in near) >= 2:
            return "C(carboxylate)"
        return "C(sp2,ring)" if _in_ring(numbers, graph, atom) else "C(sp2)"
    if symbol == "N":
        return "N(ring)" if _in_ring(numbers, graph, atom) else "N"
    if symbol == "O":
        if any(int(numbers[k]) == 14 for k in near):
            return "O(silanol)"
        carbon = next((k for k in near if int(numbers[k]) == 6), None)
        if carbon is None:
            return "O"
        others = graph.neighbours(carbon).tolist()
        return "O(carboxyl)" if sum(int(numbers[k]) == 8 for k in others) >= 2 else "O(hydroxyl)"
    if symbol not in LENGTHS:
        raise ExtractionError(
            f"A bond of {symbol} would be cut, but it cannot be closed by hydrogen.",
            todo="Use a mantle that keeps this bond; hydrogen can close bonds of "
            + ", ".join(dict.fromkeys(kind.split("(")[0] for kind in LENGTHS))
            + ".",
        )
    return symbol


def hydrogen(bond: FloatArray, length: float) -> Cap:
    """Hydrogen at ``length`` (Å) along the old bond (3,)."""
    return Cap((1,), (length * _unit(bond))[None, :])


def methyl(bond: FloatArray, beside: FloatArray) -> Cap:
    """CH3 along the old bond (3,), staggered to the neighbour ``beside`` (3,), both from the atom that carries it."""
    axis, across, third = _axes(bond, beside)
    along, off = _TETRAHEDRAL
    turns = np.deg2rad([180.0, 60.0, -60.0])
    arms = along * axis + off * (np.cos(turns)[:, None] * across + np.sin(turns)[:, None] * third)
    carbon = _C_C * axis
    return Cap((6, 1, 1, 1), np.vstack((carbon, carbon + LENGTHS["C(sp3)"] * arms)))


def water(bond: FloatArray, beside: FloatArray) -> Cap:
    """OH2 with its oxygen where the old donor was (bond (3,), from the metal), its plane through ``beside`` (3,)."""
    axis, across, _ = _axes(bond, beside)
    sides = np.array([1.0, -1.0])[:, None]
    arms = np.cos(_HALF_WATER) * axis + sides * np.sin(_HALF_WATER) * across
    return Cap((8, 1, 1), np.vstack((bond, bond + LENGTHS["O"] * arms)))


def _axes(bond: FloatArray, beside: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Right-handed unit vectors: along the bond, across it towards the neighbour, and the third."""
    axis = _unit(bond)
    across = beside - (beside @ axis) * axis
    if np.linalg.norm(across) < 0.1:
        raise ExtractionError(
            "The atom of a cut bond has no neighbour off its axis, so that the orientation of a cap with several atoms "
            "is not defined.",
            todo='Use the cap "H" for this bond.',
        )
    across = _unit(across)
    return axis, across, np.cross(axis, across)


def _unit(vector: FloatArray) -> FloatArray:
    return np.asarray(vector / np.sqrt(vector @ vector), dtype=np.float64)


def _in_ring(numbers: IntArray, graph: BondGraph, atom: int) -> bool:
    """Whether an atom is in a ring of at most seven non-metals."""
    near = graph.neighbours(atom).tolist()
    for start in near:
        if _METAL[numbers[start]]:
            continue
        seen, frontier = {atom, start}, [start]
        for _ in range(_LARGEST_RING - 2):
            found = [b for a in frontier for b in graph.neighbours(a).tolist()]
            frontier = [b for b in dict.fromkeys(found) if b not in seen and not _METAL[numbers[b]]]
            if any(b in near for b in frontier):
                return True
            seen.update(frontier)
    return False
