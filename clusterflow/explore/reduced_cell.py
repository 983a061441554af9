"""OpenMM's reduced triclinic box, and the way back to the user's cell and orientation."""

from __future__ import annotations

import numpy as np

from clusterflow.core.data import FloatArray


def reduced_form(cell: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """(box, basis, rotation) with ``cell = basis @ box @ rotation`` (rows are lattice vectors).

    ``box`` is lower triangular with a positive diagonal and off-diagonal elements of at most half the diagonal element
    of their column, as OpenMM demands; ``basis`` is an integer matrix of determinant ±1; ``rotation`` is proper.
    A left-handed cell is inverted through the origin, which is part of ``basis``.
    """
    sign = 1.0 if np.linalg.det(cell) > 0 else -1.0
    q, r = np.linalg.qr((sign * cell).T)  # (sign cell)ᵀ = q r, so sign cell = rᵀ qᵀ
    diagonal = np.where(np.diag(r) < 0, -1.0, 1.0)
    lower, rotation = r.T * diagonal, diagonal[:, None] * q.T
    lower[np.triu_indices(3, 1)] = 0.0
    box = lower.copy()
    box[2] -= box[1] * np.round(box[2, 1] / box[1, 1])
    box[2] -= box[0] * np.round(box[2, 0] / box[0, 0])
    box[1] -= box[0] * np.round(box[1, 0] / box[0, 0])
    # A 60° angle sits exactly on OpenMM's limit, where the last bit of the rounding would decide.
    for i, j in ((1, 0), (2, 0), (2, 1)):
        half = 0.5 * box[j, j]
        box[i, j] = np.clip(box[i, j], -half, half)
    basis = np.rint(sign * lower @ np.linalg.inv(box))
    return box, basis, rotation


class BoxView:
    """Follows OpenMM's box during a run and gives positions, cell and vectors in the user's basis and orientation.

    OpenMM replaces its lattice vectors by equivalent ones when a move takes them out of the reduced form. The basis is
    then chosen anew so that the user's cell stays continuous. Atoms keep the periodic image they had in the start.
    """

    def __init__(self, cell: FloatArray, positions: FloatArray) -> None:
        self.box, self._basis, self._rotation = reduced_form(cell)
        self._images = np.floor(np.linalg.solve(cell.T, positions.T).T)
        self._cell = cell @ self._rotation.T  # user's basis, OpenMM's orientation

    def to_openmm(self, vectors: FloatArray) -> FloatArray:
        """Rotates (n, 3) vectors into OpenMM's orientation."""
        rotated: FloatArray = vectors @ self._rotation.T
        return rotated

    def from_openmm(self, vectors: FloatArray) -> FloatArray:
        """Rotates (n, 3) vectors back."""
        rotated: FloatArray = vectors @ self._rotation
        return rotated

    def start_positions(self, positions: FloatArray) -> FloatArray:
        """Positions wrapped into the first cell, in OpenMM's orientation."""
        wrapped: FloatArray = self.to_openmm(positions) - self._images @ self._cell
        return wrapped

    def follow(self, box: FloatArray) -> None:
        """Takes note of OpenMM's present box (Å)."""
        self._basis = np.rint(self._cell @ np.linalg.inv(box))
        self._cell = self._basis @ box
        self.box = box

    def cell_and_positions(self, positions: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Cell and (n, 3) positions in the user's basis and orientation, from OpenMM's positions (Å)."""
        return self.from_openmm(self._cell), self.from_openmm(positions + self._images @ self._cell)

    def stress_from_openmm(self, stress: FloatArray) -> FloatArray:
        """Rotates a (3, 3) tensor back."""
        rotated: FloatArray = self._rotation.T @ stress @ self._rotation
        return rotated
