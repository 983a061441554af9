"""Hessians of large cells at a cost that grows with the number of atoms, from products of the Hessian with vectors.

Atoms are coloured so that no atom has two of one colour within a truncation radius R. One product with a vector that is
1 for all atoms of a colour then holds one column of the Hessian in each row: 3 products per colour give every block of
pairs closer than R, and the number of colours depends on the density and R, not on the size of the cell (direct
recovery after Curtis, Powell & Reid, IMA J. Appl. Math. 13, 117 (1974), doi:10.1093/imamat/13.1.117, with the greedy
distance-2 colouring of Gebremedhin, Manne & Pothen, SIAM Rev. 47, 629 (2005), doi:10.1137/S0036144504444711).

Exact when R covers the strict reach of d²E/dx_i dx_j. Otherwise blocks beyond R are missing, and they leak into the
blocks that are kept; `probe_error` measures both together with random vectors (Hutchinson, Commun. Stat. Simul. Comput.
18, 1059 (1989), doi:10.1080/03610918908812806).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from ase import Atoms
from scipy.sparse import bsr_array, csr_array

from clusterflow.core.data import FloatArray, IntArray
from clusterflow.errors import InputError, StructureError

Products = Callable[[FloatArray], FloatArray]
"""(k, n, 3) displacements → (k, n, 3): the Hessian times each, in eV/Å² times the unit of the displacements."""

_VECTORS = 96
"""Vectors handed over at once: what the products prepare is shared by them, and 20,000 atoms take 46 MB."""


@dataclass(frozen=True, slots=True)
class FrobeniusError:
    """√mean |(H − H̃)v|² over random signs v, an estimate of ‖H − H̃‖_F in eV/Å², and its standard error.

    ``relative``: divided by the same estimate of ‖H‖_F. ``probes``: how many vectors.
    """

    value: float
    standard_error: float
    relative: float
    probes: int


@dataclass(frozen=True, slots=True)
class SparseHessian:
    """``matrix`` (3n, 3n), symmetric, blocks of pairs closer than ``radius`` Å; ``colours`` of the atoms; ``products``
    of the Hessian with a vector it took."""

    matrix: Any
    radius: float
    colours: int
    products: int


def strict_reach(layers: int, cutoff: float) -> float:
    """Farthest distance in Å of two atoms with d²E/dx_i dx_j ≠ 0 in a message-passing model.

    The energy of an atom sees ``layers`` hops, each shorter than ``cutoff``; two atoms are coupled when the energy of
    one atom sees both, so 2 · layers · cutoff. The reach of a single energy is half of it.
    """
    return 2.0 * layers * cutoff


def pairs_within(atoms: Atoms, radius: float) -> csr_array:
    """(n, n) sparse pattern of pairs of atoms closer than ``radius`` Å, images counted, and of each atom itself.

    Raises
    ------
    InputError
        A radius that is not positive.
    StructureError
        A periodic direction without a cell vector.
    """
    from matscipy.neighbours import neighbour_list

    if not (math.isfinite(radius) and radius > 0.0):
        raise InputError(f"A truncation radius of {radius} Å is none.", todo="Give a radius such as 8 Å.")
    n = len(atoms)
    if atoms.pbc.any() and not np.all(np.any(atoms.cell.array[atoms.pbc] != 0.0, axis=1)):
        raise StructureError(
            f"The structure is periodic along {atoms.pbc.tolist()} but has no cell vector there.",
            todo="Set the cell, or pbc=False for a molecule.",
        )
    cell = atoms.cell.complete().array if atoms.pbc.any() else np.eye(3)
    i, j = neighbour_list("ij", positions=atoms.positions, cell=cell, pbc=atoms.pbc, cutoff=float(radius))
    rows, columns = np.concatenate((i, np.arange(n))), np.concatenate((j, np.arange(n)))
    pattern = csr_array((np.ones(len(rows), dtype=np.int32), (rows, columns)), shape=(n, n))
    pattern.sum_duplicates()  # an atom may be near through several images
    pattern.data[:] = 1
    return pattern


def colour_atoms(pattern: csr_array) -> IntArray:
    """(n,) colours 0, 1, …: no row of the symmetric ``pattern`` holds two columns of one colour.

    Greedy, atoms with most neighbours first; at most 1 + (most neighbours within two steps) colours.
    """
    n = pattern.shape[0]
    conflicts = csr_array(pattern @ pattern)
    degrees = np.diff(conflicts.indptr)
    colours: IntArray = np.full(n, -1, dtype=np.int64)
    for atom in np.argsort(-degrees, kind="stable"):
        taken = colours[conflicts.indices[conflicts.indptr[atom] : conflicts.indptr[atom + 1]]]
        free = np.ones(len(taken) + 1, dtype=bool)
        free[taken[(taken >= 0) & (taken < len(free))]] = False
        colours[atom] = int(np.argmax(free))
    return colours


def sparse_hessian(products: Products, atoms: Atoms, radius: float) -> SparseHessian:
    """The Hessian with the blocks of all pairs closer than ``radius`` Å, from 3 products per colour.

    ``products`` as `Products`, for instance ``lambda v: potential.hessian_vector(atoms, v)``. Raises as `pairs_within`.
    """
    n = len(atoms)
    if n == 0:
        raise InputError("A Hessian of a structure without atoms was asked for.", todo="Give a structure with atoms.")
    pattern = pairs_within(atoms, radius)
    colours = colour_atoms(pattern)
    count = int(colours.max()) + 1
    # Column of every block, sorted by its colour: which product holds it.
    row = np.repeat(np.arange(n), np.diff(pattern.indptr))
    column = pattern.indices
    order = np.argsort(colours[column], kind="stable")
    first = np.searchsorted(colours[column][order], np.arange(count + 1))
    blocks = np.zeros((len(column), 3, 3))
    at_once = max(_VECTORS // 3, 1)
    for start in range(0, count, at_once):
        batch = range(start, min(start + at_once, count))
        vectors = np.zeros((len(batch), 3, n, 3))
        for k, colour in enumerate(batch):
            members = np.flatnonzero(colours == colour)
            for axis in range(3):
                vectors[k, axis, members, axis] = 1.0
        answers = products(vectors.reshape(-1, n, 3)).reshape(len(batch), 3, n, 3)
        for k, colour in enumerate(batch):
            entries = order[first[colour] : first[colour + 1]]
            blocks[entries] = answers[k][:, row[entries], :].transpose(1, 2, 0)
    one_sided = bsr_array((blocks, column, pattern.indptr), shape=(3 * n, 3 * n))
    matrix = bsr_array(0.5 * (one_sided + one_sided.T), blocksize=(3, 3))
    return SparseHessian(matrix, float(radius), count, 3 * count)


def probe_error(
    products: Products, matrix: Any, n_atoms: int, *, probes: int = 16, rng: np.random.Generator
) -> FrobeniusError:
    """How far ``matrix`` (3n, 3n) is from the Hessian that ``products`` multiplies with, by ``probes`` random vectors.

    For v of random signs the mean of |(H − H̃)v|² is ‖H − H̃‖_F²; its scatter gives the standard error.

    Raises
    ------
    InputError
        Fewer than two probes: there would be no standard error.
    """
    if probes < 2:
        raise InputError(f"{probes} probes give no standard error.", todo="Use 2 or more; 16 is usual.")
    vectors = rng.choice((-1.0, 1.0), size=(probes, n_atoms, 3))
    exact = products(vectors).reshape(probes, -1)
    approximate = (matrix @ vectors.reshape(probes, -1).T).T
    squares = ((exact - approximate) ** 2).sum(axis=1)
    mean = float(squares.mean())
    value = math.sqrt(mean)
    spread = float(squares.std(ddof=1)) / math.sqrt(probes)
    norm = math.sqrt(float((exact**2).sum(axis=1).mean()))
    return FrobeniusError(
        value=value,
        standard_error=spread / (2.0 * value) if value > 0.0 else 0.0,
        relative=value / norm if norm > 0.0 else 0.0,
        probes=probes,
    )
