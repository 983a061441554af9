"""Pairs of neighbours of one frame, with the functions of distance and direction that a linear model is built from.

Spherical harmonics and their gradients come from sphericart (Bigi et al., J. Chem. Phys. 159, 064802 (2023),
doi:10.1063/5.0156307), radial functions are the spherical Bessel functions of order zero that vanish at the cutoff
(Kocer et al., J. Chem. Phys. 150, 154102 (2019), doi:10.1063/1.5086167; the same as NequIP's) times a smooth cutoff.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from ase import Atoms

from clusterflow.core.data import FloatArray, IntArray
from clusterflow.errors import InputError, StructureError
from clusterflow.train.dataset import neighbours, type_indices

SHORTEST = 1e-3
"""Å; atoms closer than this are on top of one another."""


@dataclass(frozen=True, slots=True)
class Pairs:
    """All ordered pairs of a frame within the cutoff, sorted by centre.

    ``types`` (n,) positions in the list of elements; ``centre`` and ``neighbour`` (m,); ``distance`` (m,) Å; ``unit``
    (m, 3) from centre to neighbour.
    """

    types: IntArray
    centre: IntArray
    neighbour: IntArray
    distance: FloatArray
    unit: FloatArray

    @property
    def n_atoms(self) -> int:
        return len(self.types)

    def part(self, first: int, last: int) -> Pairs:
        """The pairs whose centres are ``first`` to ``last`` − 1 (of the same frame)."""
        begin, end = np.searchsorted(self.centre, [first, last])
        which = slice(int(begin), int(end))
        return Pairs(self.types, self.centre[which], self.neighbour[which], self.distance[which], self.unit[which])


def find_pairs(atoms: Atoms, elements: Sequence[str], cutoff: float) -> Pairs:
    """The pairs of a frame, finite or periodic.

    Raises
    ------
    InputError
        No atoms, or an element that is not in ``elements``.
    StructureError
        Positions that are not finite, a periodic frame without a cell, or atoms on top of one another.
    """
    if len(atoms) == 0:
        raise InputError("A frame to predict has no atoms.")
    types = type_indices(atoms, elements)
    index, vectors = neighbours(atoms, cutoff)
    order = np.lexsort((index[1], index[0]))
    centre, neighbour, vectors = index[0][order], index[1][order], vectors[order]
    distance = np.linalg.norm(vectors, axis=1)
    if distance.size and distance.min() < SHORTEST:
        first = int(np.argmin(distance))
        raise StructureError(
            f"Atoms {int(centre[first])} and {int(neighbour[first])} are {distance.min():.1e} Å apart.",
            where=f"frame of {len(atoms)} atoms, {atoms.get_chemical_formula()}",
            todo="Drop the frame, or remove one of two atoms in the same place.",
        )
    return Pairs(types, centre, neighbour, distance, vectors / distance[:, None])


def bessel(distance: FloatArray, cutoff: float, count: int) -> tuple[FloatArray, FloatArray]:
    """Radial functions (m, count) and their derivatives, smooth and zero at the cutoff with two derivatives."""
    x = distance[:, None] / cutoff
    frequency = np.pi * np.arange(1, count + 1)
    scale = np.sqrt(2.0 / cutoff) / cutoff
    wave, slope = np.sin(frequency * x) / x, np.cos(frequency * x) * frequency / x
    slope = slope - wave / x
    # 1 − 28 x⁶ + 48 x⁷ − 21 x⁸: NequIP's envelope with p = 6.
    envelope = 1.0 - 28.0 * x**6 + 48.0 * x**7 - 21.0 * x**8
    falling = -168.0 * x**5 + 336.0 * x**6 - 168.0 * x**7
    return scale * wave * envelope, scale * (slope * envelope + wave * falling) / cutoff


@lru_cache(maxsize=8)
def _harmonics(l_max: int) -> Any:
    import sphericart

    return sphericart.SphericalHarmonics(l_max)


def harmonics(pairs: Pairs, l_max: int) -> tuple[FloatArray, FloatArray]:
    """Real spherical harmonics of the directions (m, (l_max + 1)²), and r times their gradients (m, 3, same)."""
    if not len(pairs.unit):
        width = (l_max + 1) ** 2
        return np.empty((0, width)), np.empty((0, 3, width))
    values, gradients = _harmonics(l_max).compute_with_gradients(np.ascontiguousarray(pairs.unit))
    return np.asarray(values), np.asarray(gradients)


def degree_slices(l_max: int) -> list[slice]:
    """Where the 2l + 1 components of each l stand."""
    return [slice(degree**2, (degree + 1) ** 2) for degree in range(l_max + 1)]
