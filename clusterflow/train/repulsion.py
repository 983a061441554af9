"""The repulsion of two nuclei at distances where no data are: Ziegler, Biersack and Littmark's universal potential.

J. F. Ziegler, J. P. Biersack and U. Littmark, The Stopping and Range of Ions in Matter (Pergamon, 1985). It ends, with
its first two derivatives, where bonds begin: at `END` times the sum of the covalent radii.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from ase.data import covalent_radii

from clusterflow.core.data import FloatArray, IntArray
from clusterflow.train.linear_pairs import Pairs

END = 0.75
"""Of the sum of two covalent radii: C–H 0.80 Å, C–C 1.14 Å, Zn–O 1.41 Å."""
_COULOMB = 14.399645478  # e² / (4 π ε0) in eV Å
_AMPLITUDES = np.array([0.18175, 0.50986, 0.28022, 0.02817])
_RATES = np.array([3.19980, 0.94229, 0.40290, 0.20162])


@dataclass(frozen=True, slots=True)
class Repulsion:
    """``energy`` eV, ``forces`` (n, 3) eV/Å, ``virial`` dE/d(strain) (3, 3) eV."""

    energy: float
    forces: FloatArray
    virial: FloatArray


def repulsion(numbers: IntArray, pairs: Pairs) -> Repulsion:
    """Of a frame's atoms (``numbers`` (n,) atomic numbers)."""
    end = END * (covalent_radii[numbers[pairs.centre]] + covalent_radii[numbers[pairs.neighbour]])
    close = np.flatnonzero(pairs.distance < end)
    forces, virial = np.zeros((len(numbers), 3)), np.zeros((3, 3))
    if not len(close):
        return Repulsion(0.0, forces, virial)
    i, j, r, end = pairs.centre[close], pairs.neighbour[close], pairs.distance[close], end[close]
    energy, slope = _screened(numbers[i].astype(float), numbers[j].astype(float), r)
    x = r / end
    fade, falling = (1.0 - x) ** 3, -3.0 * (1.0 - x) ** 2 / end
    gradient = 0.5 * (slope * fade + energy * falling)[:, None] * pairs.unit[close]  # ordered pairs: each counts half
    np.add.at(forces, i, gradient)
    np.add.at(forces, j, -gradient)
    virial = np.einsum("ka,kb->ab", gradient, pairs.unit[close] * r[:, None])
    return Repulsion(float(0.5 * (energy * fade).sum()), forces, virial)


def _screened(z1: FloatArray, z2: FloatArray, r: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Energy of each pair in eV, and its derivative in eV/Å."""
    length = 0.46850 / (z1**0.23 + z2**0.23)
    waves = _AMPLITUDES * np.exp(-_RATES * (r / length)[:, None])
    screening, change = waves.sum(axis=1), -(waves * _RATES).sum(axis=1) / length
    scale = _COULOMB * z1 * z2 / r
    return scale * screening, scale * (change - screening / r)
