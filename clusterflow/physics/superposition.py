"""Whether two finite structures are the same but for rotation, translation and order of atoms: exact, with the mapping.

Mirror images are not the same: only proper rotations count. Fit: W. Kabsch, Acta Cryst. A 34, 827 (1978),
doi:10.1107/S0567739478001680.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.spatial import cKDTree

from clusterflow.core.data import BoolArray, FloatArray, IntArray

_LOOSE = 0.05
"""Å: within this an atom is the one that is looked for, before the fit; atoms lie ten times as far apart."""


@dataclass(frozen=True, slots=True)
class Superposition:
    """``target ≈ source[order] @ rotation + shift``; vectors such as forces turn as ``vectors[order] @ rotation``.

    ``rotation`` (3, 3) proper, ``order`` (n,), ``shift`` (3,) Å, ``deviation`` Å: the largest distance of an atom from
    where it should be.
    """

    rotation: FloatArray
    order: IntArray
    shift: FloatArray
    deviation: float


def extents(positions: FloatArray) -> FloatArray:
    """Root mean squares (3,) Å of the centred positions along their principal axes, largest first. Structures that can
    be superposed within a tolerance differ in none of them by more than it (Weyl's inequality for singular values)."""
    centred = np.asarray(positions, dtype=np.float64) - np.mean(positions, axis=0)
    values = np.linalg.svd(centred, compute_uv=False) / np.sqrt(len(centred))
    return np.pad(values, (0, 3 - len(values)))


def superpose(
    source_numbers: IntArray,
    source: FloatArray,
    target_numbers: IntArray,
    target: FloatArray,
    *,
    tolerance: float = 1e-4,
) -> Superposition | None:
    """How the source (n, 3) Å comes to lie on the target, no atom farther off than the tolerance in Å, if it can.

    A pair of atoms fixes an orientation; all pairs of the source that may be the one chosen in the target are tried, so
    symmetric structures are no exception.
    """
    n = len(target_numbers)
    if len(source_numbers) != n or not np.array_equal(np.sort(source_numbers), np.sort(target_numbers)):
        return None
    if n == 0 or (np.abs(extents(source) - extents(target)) > tolerance + 1e-9).any():
        return None
    a, b = source - source.mean(axis=0), target - target.mean(axis=0)
    like = (source_numbers[:, None] == target_numbers[None, :]) & (
        np.abs(np.linalg.norm(a, axis=1)[:, None] - np.linalg.norm(b, axis=1)[None, :]) <= 2.0 * tolerance
    )
    if not like.any(axis=0).all():
        return None
    first, second = _anchors(b, like)
    for i in np.flatnonzero(like[:, first]).tolist():
        for j in np.flatnonzero(_possible_seconds(a, b, like, i, first, second, tolerance)).tolist():
            rotation = _frame(a[i], a[j]) @ _frame(b[first], b[second]).T
            order = _matched(source_numbers, a @ rotation, target_numbers, b)
            if order is not None:
                found = _fitted(source, target, order)
                if found.deviation <= tolerance:
                    return found
    return None


def _anchors(b: FloatArray, like: BoolArray) -> tuple[int, int]:
    """Two atoms of the target, as few of the source like them, that span with the centre as wide an angle as there is;
    twice the same where all atoms are on one line through it."""
    distance = np.linalg.norm(b, axis=1)
    far = distance >= 0.3 * distance.max()
    candidates = like.sum(axis=0)
    first = min(np.flatnonzero(far).tolist(), key=lambda k: (candidates[k], -distance[k], k))
    off_axis = np.linalg.norm(np.cross(b, b[first]), axis=1) / max(distance[first], 1e-12)
    if off_axis.max() < 1e-3:
        return first, first
    wide = off_axis >= 0.3 * off_axis.max()
    second = min(np.flatnonzero(wide).tolist(), key=lambda k: (candidates[k], -off_axis[k], k))
    return first, second


def _possible_seconds(
    a: FloatArray, b: FloatArray, like: BoolArray, i: int, first: int, second: int, tolerance: float
) -> BoolArray:
    """Atoms of the source that can be the second anchor if ``i`` is the first."""
    if first == second:
        return np.asarray(np.arange(len(a)) == i)
    apart = np.linalg.norm(a - a[i], axis=1)
    wanted = float(np.linalg.norm(b[second] - b[first]))
    return np.asarray(like[:, second] & (np.abs(apart - wanted) <= 4.0 * tolerance))


def _frame(u: FloatArray, v: FloatArray) -> FloatArray:
    """Right-handed axes as columns: along u, in the plane of u and v, and normal to it (any plane if v is along u)."""
    length = float(np.linalg.norm(u))
    if length < 1e-9:
        return np.eye(3)
    x = u / length
    normal = np.cross(x, v)
    if np.linalg.norm(normal) < 1e-6:
        normal = np.cross(x, np.eye(3)[int(np.argmin(np.abs(x)))])
    z = normal / np.linalg.norm(normal)
    return np.column_stack((x, np.cross(z, x), z))


def _matched(source_numbers: IntArray, turned: FloatArray, target_numbers: IntArray, b: FloatArray) -> IntArray | None:
    """For every atom of the target the one of the turned source that is there; None if one is not, or serves twice."""
    distance, order = cKDTree(turned).query(b, distance_upper_bound=_LOOSE)
    if not np.isfinite(distance).all() or len(np.unique(order)) != len(order):
        return None
    order = np.asarray(order, dtype=np.int64)
    return order if np.array_equal(source_numbers[order], target_numbers) else None


def _fitted(source: FloatArray, target: FloatArray, order: IntArray) -> Superposition:
    """The proper rotation that fits best."""
    centre_a, centre_b = source.mean(axis=0), target.mean(axis=0)
    a, b = source[order] - centre_a, target - centre_b
    u, _, vt = np.linalg.svd(a.T @ b)
    rotation = u @ np.diag([1.0, 1.0, np.sign(np.linalg.det(u @ vt)) or 1.0]) @ vt
    deviation = float(np.linalg.norm(a @ rotation - b, axis=1).max())
    return Superposition(rotation, order, centre_b - centre_a @ rotation, deviation)
