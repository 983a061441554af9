"""Selection by cell parameters, bonds, angles and dihedrals (CBAD) that the training set does not hold yet.

A. Sharma, S. Sanvito, npj Comput. Mater. 10, 237 (2024), Figs. 2 and S1: each cell length, cell angle and type
of bond, angle and dihedral has a histogram; a frame is accepted when one of its values falls into an empty bin. Two
things are this program's: of all frames that would be accepted, the one that fills the most empty bins comes first, and
dihedral angles have no sign, since no potential tells a frame from its mirror image. The paper gives no resolutions.
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from ase import Atoms

from clusterflow.core.data import FloatArray, IntArray
from clusterflow.core.frames import canonical_json, digest
from clusterflow.errors import InputError, StateError
from clusterflow.physics.bonds import bond_graph
from clusterflow.physics.internal_coordinates import InternalCoordinates, atom_types, type_names

_SHIFT = 32
"""A bin's code is (number of its histogram) · 2^32 + number of the bin."""
_NUDGE = 1e-6
"""Bins: edges lie this share of a bin below round numbers, on which the values of symmetric structures fall (60°)."""
_WIDEST = {"cell_length": np.inf, "cell_angle": 180.0, "bond": np.inf, "angle": 180.0, "dihedral": 180.0}


@dataclass(frozen=True, slots=True)
class Resolutions:
    """Widths of the bins: lengths in Å, angles in °."""

    cell_length: float = 0.1
    cell_angle: float = 1.0
    bond: float = 0.05
    angle: float = 5.0
    dihedral: float = 10.0

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if not 1e-6 <= value <= _WIDEST[name] or not np.isfinite(value):
                raise InputError(
                    f"A {name} resolution of {value:g} makes no histogram.",
                    where="CBAD",
                    todo="Give a width above 0, in Å for lengths, in ° and at most 180 for angles.",
                )


@dataclass(frozen=True)
class _Material:
    coordinates: InternalCoordinates
    histograms: IntArray
    """(b + a + d,) of every bond, angle and dihedral."""
    cell: IntArray
    """(6,) of the three lengths and three angles; −1 where there is none."""


class Descriptors:
    """All histograms of some materials. Bonds, angles and dihedrals of one type share one whatever the material; cell
    parameters belong to their own.

    ``references``: name → structure whose bonds hold for all its frames. ``types``: "element" or "neighbours".
    ``names``: the histograms, sorted.
    """

    def __init__(
        self, references: Mapping[str, Atoms], resolutions: Resolutions | None = None, *, types: str = "neighbours"
    ) -> None:
        self.resolutions, self.types = resolutions or Resolutions(), types
        found: dict[str, tuple[InternalCoordinates, list[tuple[list[str], IntArray]], list[str]]] = {}
        for material, reference in references.items():
            graph = bond_graph(reference)
            coordinates = InternalCoordinates.of(reference, graph)
            of_atom = atom_types(reference, types, graph)
            parts = []
            for kind in ("bond", "angle", "dihedral"):
                names, which = type_names(getattr(coordinates, f"{kind}_atoms"), of_atom)
                parts.append(([f"{kind} {n}" for n in names], which))
            found[material] = coordinates, parts, _cell_names(material, reference)
        every = {n for _, parts, cell in found.values() for n in (*(m for p, _ in parts for m in p), *cell)} - {""}
        self.names = sorted(every)
        number = {name: k for k, name in enumerate(self.names)}
        number[""] = -1
        self._materials = {
            material: _Material(
                coordinates,
                np.concatenate([np.array([number[n] for n in names], dtype=np.int64)[which] for names, which in parts]),
                np.array([number[n] for n in cell], dtype=np.int64),
            )
            for material, (coordinates, parts, cell) in found.items()
        }

    def knows(self, atoms: Atoms, material: str) -> bool:
        """Whether this is a frame of that material."""
        known = self._materials.get(material)
        return known is not None and np.array_equal(atoms.numbers, known.coordinates.numbers)

    def bins(self, atoms: Atoms, material: str) -> IntArray:
        """(m,) codes of all bins that a frame fills, sorted, each once.

        Raises
        ------
        InputError
            A material or atoms that are not among the references, or positions that are not finite.
        """
        return np.unique(np.concatenate((self.of_cell(atoms, material), self.of_atoms(atoms, material)[0])))

    def of_cell(self, atoms: Atoms, material: str) -> IntArray:
        """Codes of the (at most six) bins of the cell parameters."""
        known = self._material(material)
        r = self.resolutions
        widths = np.array([r.cell_length] * 3 + [r.cell_angle] * 3)
        there = known.cell >= 0
        return _codes(known.cell[there], atoms.cell.cellpar()[there], widths[there])

    def of_atoms(self, atoms: Atoms, material: str) -> tuple[IntArray, IntArray]:
        """Codes (t,) of the bin of every bond, angle and dihedral, and the atoms (t, 4) of each, −1 where there are
        fewer than four."""
        known, r = self._material(material), self.resolutions
        coordinates = known.coordinates
        lengths, angles, dihedrals = coordinates.values(atoms)
        values = np.concatenate((lengths, angles, dihedrals))
        widths = np.repeat([r.bond, r.angle, r.dihedral], [len(lengths), len(angles), len(dihedrals)])
        there = np.isfinite(values)
        members = np.full((len(values), 4), -1, dtype=np.int64)
        start = 0
        for part in (coordinates.bond_atoms, coordinates.angle_atoms, coordinates.dihedral_atoms):
            members[start : start + len(part), : part.shape[1]] = part
            start += len(part)
        return _codes(known.histograms[there], values[there], widths[there]), members[there]

    def to_json(self, codes: IntArray) -> dict[str, list[int]]:
        """Bins by the name of their histogram."""
        which, bins = codes >> _SHIFT, codes & (2**_SHIFT - 1)
        order = np.lexsort((bins, which))
        which, bins = which[order], bins[order]
        edges = np.r_[0, np.flatnonzero(np.diff(which)) + 1, len(which)] if len(which) else np.zeros(1, dtype=int)
        return {self.names[int(which[a])]: bins[a:b].tolist() for a, b in pairwise(edges.tolist())}

    def from_json(self, data: Mapping[str, Sequence[int]]) -> IntArray:
        """Codes of bins given by name; those of histograms that are not here are left out."""
        number = {name: k for k, name in enumerate(self.names)}
        parts = [
            (number[name] << _SHIFT) + np.asarray(bins, dtype=np.int64) for name, bins in data.items() if name in number
        ]
        return np.unique(np.concatenate(parts)) if parts else np.zeros(0, dtype=np.int64)

    def _material(self, name: str) -> _Material:
        if name not in self._materials:
            raise InputError(
                f"There is no reference structure for '{name}', whose bonds its frames would be measured by.",
                todo=f"Known: {', '.join(self._materials) or 'none'}.",
            )
        return self._materials[name]


def _cell_names(material: str, reference: Atoms) -> list[str]:
    """Histograms of a, b, c, α, β, γ; "" for those that are not periodic."""
    p = reference.pbc
    there = [*p, p[1] and p[2], p[0] and p[2], p[0] and p[1]]
    names = ("length a", "length b", "length c", "angle alpha", "angle beta", "angle gamma")
    return [f"cell {n} of {material}" if t else "" for n, t in zip(names, there, strict=True)]


def _codes(histograms: IntArray, values: FloatArray, widths: FloatArray) -> IntArray:
    codes: IntArray = (histograms << _SHIFT) + np.minimum(values / widths + _NUDGE, 2.0**31).astype(np.int64)
    return codes


class Bins:
    """Which bins are filled: the whole state of the selection. ``codes`` as of `Descriptors.bins`, sorted."""

    def __init__(self, descriptors: Descriptors, codes: IntArray | None = None) -> None:
        self.descriptors = descriptors
        self.codes = np.zeros(0, dtype=np.int64) if codes is None else np.unique(codes)

    def empty(self, codes: IntArray) -> IntArray:
        """Those of these bins that are empty, in their order."""
        if not len(self.codes):
            return codes
        place = np.minimum(np.searchsorted(self.codes, codes), len(self.codes) - 1)
        new: IntArray = codes[self.codes[place] != codes]
        return new

    def fill(self, codes: IntArray) -> None:
        """Fills them."""
        new = self.empty(np.unique(codes))
        if len(new):
            self.codes = np.sort(np.concatenate((self.codes, new)), kind="stable")

    def covered(self, codes: IntArray) -> float:
        """Share of these bins that are filled; NaN for none."""
        return 1.0 - len(self.empty(codes)) / len(codes) if len(codes) else float("nan")

    @property
    def identity(self) -> str:
        """Hash of the state."""
        return digest(canonical_json(self.to_json()))

    def to_json(self) -> dict[str, Any]:
        """Plain JSON data; `from_json` gives an equal state."""
        d = self.descriptors
        return {"resolutions": asdict(d.resolutions), "types": d.types, "filled": d.to_json(self.codes)}

    @classmethod
    def from_json(cls, descriptors: Descriptors, data: Mapping[str, Any]) -> Bins:
        """The state that was written.

        Raises
        ------
        StateError
            It was made with other resolutions or types, or is no such state.
        """
        try:
            same = data["resolutions"] == asdict(descriptors.resolutions) and data["types"] == descriptors.types
            codes = descriptors.from_json(data["filled"])
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise StateError(
                f"These are no CBAD bins ({type(error).__name__}: {error}).",
                todo="Delete the file: the bins are counted again from the labels.",
            ) from error
        if not same:
            raise StateError(
                f"These CBAD bins were filled with resolutions {data['resolutions']} and types by '{data['types']}', "
                f"not {asdict(descriptors.resolutions)} and '{descriptors.types}'.",
                todo="Fill them anew with the resolutions wanted.",
            )
        return cls(descriptors, codes)


class Cover:
    """Goes through the frames of some walks, the one that fills the most empty bins first, at most one of each walk.

    ``frames``: codes of the bins of each frame; ``walks``: which walk it is from; ``bins`` grow as frames are accepted.
    Each round gives the same frame whatever was asked before (ties: the earlier frame), so the order is reproducible.
    """

    def __init__(self, bins: Bins, frames: Sequence[IntArray], walks: Sequence[int]) -> None:
        if len(frames) != len(walks):
            raise InputError(f"{len(frames)} frames of {len(walks)} walks.", todo="Say for each frame which walk.")
        self.bins, self._frames, self._walks = bins, frames, walks
        self._used: set[int] = set()
        # Gains only fall as bins fill: an old gain is an upper limit, and one that is still the largest is the best.
        self._heap = [(-len(bins.empty(codes)), k) for k, codes in enumerate(frames)]
        heapq.heapify(self._heap)

    def best(self) -> tuple[int, IntArray] | None:
        """Next frame and the empty bins that it would fill, or None: none fills any. It is not given again."""
        while self._heap:
            _, k = heapq.heappop(self._heap)
            if self._walks[k] in self._used:
                continue
            new = self.bins.empty(self._frames[k])
            if not len(new):
                continue
            if not self._heap or (-len(new), k) <= self._heap[0]:
                return k, new
            heapq.heappush(self._heap, (-len(new), k))
        return None

    def accept(self, frame: int, codes: IntArray) -> None:
        """Fills bins with what of this frame is labelled; its walk gives no other frame."""
        self.bins.fill(codes)
        self._used.add(self._walks[frame])
