"""Hessians by central differences, and what every Hessian is checked for: symmetry and the acoustic sum rule.

Rows are (k, 3, n, 3) arrays, d²E/dx(indices[k]) dx(j) in eV/Å²; a whole Hessian is (3n, 3n), atom by atom. Potentials
with second derivatives of their own (`SecondDerivatives`) are asked for them. For large cells there is
`clusterflow.physics.sparse_hessian`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
from ase import Atoms

from clusterflow.core.data import FloatArray, IntArray
from clusterflow.core.protocols import Potential, SecondDerivatives
from clusterflow.errors import InputError, ScienceError

STEP = 0.0025
"""Å. Default displacement: the error of a central difference is about (step²/6) d⁴E/dx⁴ + (noise of a force)/step. It
suits forces with the noise of an SCF cycle (1e-4 eV/Å); for a smooth potential in float64 1e-4 is better."""


def row_atoms(atoms: Atoms, indices: Sequence[int] | None) -> IntArray:
    """The atoms whose rows are asked for, (k,); None means all.

    Raises
    ------
    InputError
        No atoms at all, or an index that is not in the structure; names it.
    """
    n = len(atoms)
    if n == 0:
        raise InputError("A Hessian of a structure without atoms was asked for.", todo="Give a structure with atoms.")
    if indices is None:
        return np.arange(n, dtype=np.int64)
    rows = np.asarray(indices)
    if rows.ndim != 1 or (rows.size and not np.issubdtype(rows.dtype, np.integer)):
        raise InputError(
            f"Rows of a Hessian are asked for by atom indices, not by an array of {rows.dtype} and shape {rows.shape}.",
            todo="Give a list of atom indices (of a mask: numpy.flatnonzero(mask)).",
        )
    wrong = rows[(rows < 0) | (rows >= n)]
    if wrong.size:
        raise InputError(
            f"There is no atom {', '.join(map(str, wrong[:5].tolist()))}: the structure has {n} atoms, counted from 0.",
            where=f"structure of {n} atoms, {atoms.get_chemical_formula()}",
            todo=f"Give indices from 0 to {n - 1}.",
        )
    return rows.astype(np.int64)


def displaced_structures(
    atoms: Atoms, indices: Sequence[int] | None = None, *, step: float = STEP
) -> Iterator[tuple[int, int, int, Atoms]]:
    """Each atom of ``indices`` moved by ±``step`` Å along x, y and z: (place in ``indices``, axis, sign, structure).

    The structures are new objects without a calculator, in an order that does not change: by atom, axis, + before −.

    Raises
    ------
    InputError
        A step that is not positive, or an index that is not in the structure.
    """
    rows = row_atoms(atoms, indices)
    if not (np.isfinite(step) and step > 0.0):
        raise InputError(f"A displacement of {step} Å is no step.", todo="Give a step such as 0.0025 Å.")
    for k, i in enumerate(rows):
        for axis in range(3):
            for sign in (1, -1):
                moved: Atoms = atoms.copy()
                moved.positions[i, axis] += sign * step
                yield k, axis, sign, moved


def central_difference_rows(
    forces: Callable[[Atoms], FloatArray],
    atoms: Atoms,
    indices: Sequence[int] | None = None,
    *,
    step: float = STEP,
) -> FloatArray:
    """(k, 3, n, 3) eV/Å²: rows of the Hessian, d²E/dx(indices[k]) dx(j) = −df_j/dx(indices[k]), from 6k force calls.

    ``forces`` maps a structure to its forces (n, 3) in eV/Å; ``step`` in Å; indices None means all atoms.

    Raises
    ------
    InputError
        A step that is not positive, or an index that is not in the structure.
    ScienceError
        Forces that are not finite or of another shape; says for which displacement.
    """
    n = len(atoms)
    rows = row_atoms(atoms, indices)
    out = np.zeros((len(rows), 3, n, 3))
    for k, axis, sign, moved in displaced_structures(atoms, indices, step=step):
        f = np.asarray(forces(moved), dtype=np.float64)
        if f.shape != (n, 3) or not np.isfinite(f).all():
            found = f"have the shape {f.shape}" if f.shape != (n, 3) else "are not all finite"
            raise ScienceError(
                f"The forces on {n} atoms {found} when atom {rows[k]} is moved by {sign * step:+g} Å along "
                f"{'xyz'[axis]}.",
                where=f"structure of {n} atoms, {atoms.get_chemical_formula()}",
                todo="Look at what computes the forces; a smaller step helps where atoms come too close.",
            )
        out[k, axis] -= sign * f
    return out / (2.0 * step)


def potential_rows(
    potential: Potential, atoms: Atoms, indices: Sequence[int] | None = None, *, step: float = STEP
) -> FloatArray:
    """(k, 3, n, 3) eV/Å²: rows of the Hessian of any potential, exact where it is a `SecondDerivatives`, else by
    central differences of its forces with ``step`` Å; raises as `central_difference_rows`."""
    if isinstance(potential, SecondDerivatives):
        return potential.hessian_rows(atoms, indices)
    return central_difference_rows(lambda moved: potential.predict([moved])[0].forces, atoms, indices, step=step)


def matrix(rows: FloatArray) -> FloatArray:
    """All rows (n, 3, n, 3) as a symmetric matrix (3n, 3n): the mean of the Hessian and its transpose.

    What this changes is `asymmetry`; look at it where the rows come from differences.

    Raises
    ------
    InputError
        Not the rows of all atoms.
    """
    square = _square(rows)
    return 0.5 * (square + square.T)


def asymmetry(rows: FloatArray) -> float:
    """max |H − Hᵀ| in eV/Å² of all rows (n, 3, n, 3): rounding for exact rows, an error estimate for differences."""
    square = _square(rows)
    return float(np.abs(square - square.T).max())


def acoustic_residual(rows: FloatArray) -> float:
    """max |Σ_j d²E/dx_i dx_j| in eV/Å² over the rows (k, 3, n, 3).

    It vanishes for exact rows, because moving all atoms together changes no force (acoustic sum rule); a reference
    level that computes on a grid in space breaks it (egg-box effect).
    """
    return float(np.abs(rows.sum(axis=2)).max()) if rows.size else 0.0


def _square(rows: FloatArray) -> FloatArray:
    k, _, n, _ = rows.shape
    if k != n:
        raise InputError(
            f"A Hessian of {n} atoms needs the rows of all of them; there are {k}.",
            todo="Ask for all rows (indices=None), in the order of the atoms.",
        )
    return rows.reshape(3 * n, 3 * n)
