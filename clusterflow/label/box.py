"""The box around a finite fragment in a grid calculation.

The box is made to fit the grid, so that the spacing is the same number for every fragment: energies at different
spacings are energies in different basis sets (Dobbelaere et al. 2025, arXiv:2504.03881, SI 1, "grid mismatching").
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from ase import Atoms


@dataclass(frozen=True, slots=True)
class Box:
    """``atoms`` centred in an orthorhombic, non-periodic cell; ``gpts`` grid points along each edge (None without a
    grid of our own); edge = gpts × h exactly."""

    atoms: Atoms
    gpts: tuple[int, int, int] | None


def fragment_box(
    atoms: Atoms,
    vacuum: float,
    h: float | None,
    multiple: int = 8,
    offset: tuple[float, float, float] = (0.0, 0.0, 0.0),
) -> Box:
    """Box with at least ``vacuum`` Å on every side.

    With a grid spacing ``h`` in Å the number of points is a multiple of ``multiple`` (multigrid coarsening), and the
    middle of the fragment lies on a grid point, or ``offset`` Å from it (to measure what the grid does).
    Orientation and order of the atoms are kept: forces are not rotated.
    """
    out = Atoms(numbers=atoms.numbers, positions=atoms.get_positions())
    low, high = out.positions.min(axis=0), out.positions.max(axis=0)
    edges = high - low + 2.0 * vacuum
    gpts: tuple[int, int, int] | None = None
    if h is not None:
        counts = np.ceil(edges / h / multiple - 1e-9).astype(int) * multiple
        edges = counts * h
        gpts = (int(counts[0]), int(counts[1]), int(counts[2]))
    out.set_cell(edges)
    out.positions += edges / 2.0 - (low + high) / 2.0 + np.asarray(offset)
    out.pbc = False
    return Box(out, gpts)


def extended_points(gpts: tuple[int, int, int], poisson_vacuum: float, h: float) -> tuple[int, int, int]:
    """Points of the Poisson grid (spacing h/2) that reaches ``poisson_vacuum`` Å further on every side."""
    extra = 8 * int(np.ceil(2.0 * poisson_vacuum / (h / 2.0) / 8 - 1e-9))
    return (2 * gpts[0] + extra, 2 * gpts[1] + extra, 2 * gpts[2] + extra)
