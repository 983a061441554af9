"""The training atoms of one element as a cloud of points in whitened features.

Whitening makes a unit of distance mean the same in all directions: features are standardised and their correlations
taken out. The covariance counts the identity as d more atoms (d features), so that directions in which few atoms happen
not to spread are not blown up.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from clusterflow.core.data import FloatArray
from clusterflow.errors import ScienceError
from clusterflow.score.features import checked

_SMALLEST_SCALE = 1e-3  # of the largest: a feature that never moves must not get an infinite weight


@dataclass(frozen=True, slots=True)
class Cloud:
    """``mean`` (d,) and ``whiten`` (d, d) take features to coordinates with unit variance; ``points`` (n, d) are those
    of training atoms, at most as many as were asked for; ``n_atoms`` there were."""

    element: str
    mean: FloatArray
    whiten: FloatArray
    points: FloatArray
    n_atoms: int

    def coordinates(self, features: FloatArray) -> FloatArray:
        """Whitened features (n, d).

        Raises
        ------
        ScienceError
            Another number of features than the fit had, or values that are NaN or infinite.
        """
        x = checked(features, self.element)
        if x.shape[1] != self.mean.size:
            raise ScienceError(
                f"The novelty of {self.element} was fitted to {self.mean.size} features, but {x.shape[1]} were given.",
                todo="Score with the model whose features it was fitted to, or fit again.",
            )
        return np.asarray((x - self.mean) @ self.whiten, dtype=np.float64)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON data; `from_json` is the inverse."""
        arrays = {k: getattr(self, k).tolist() for k in ("mean", "whiten", "points")}
        return {"element": self.element, **arrays, "n_atoms": self.n_atoms}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """The inverse of `to_json`."""
        arrays = {k: np.asarray(data[k], dtype=np.float64) for k in ("mean", "whiten", "points")}
        return cls(element=str(data["element"]), n_atoms=int(data["n_atoms"]), **arrays)


def fit_clouds(features: Mapping[str, FloatArray], *, most: int, seed: int) -> dict[str, Cloud]:
    """One cloud per element; of more than ``most`` atoms a random subset is kept (the whitening sees all).

    Raises
    ------
    ScienceError
        Elements with different numbers of features.
    """
    widths = {e: x.shape[1] for e, x in features.items()}
    if len(set(widths.values())) != 1 or 0 in widths.values():
        raise ScienceError(
            f"A novelty needs atoms with equally many features; per element there are: {widths or 'none'}.",
            todo="Fit on at least one training frame, with features of one model.",
        )
    total = sum(len(x) for x in features.values())
    # All that is known of the spread of an element with one atom is how much the features of the others vary.
    pooled = sum(x.var(axis=0) * len(x) for x in features.values()) / total
    return {e: _fit_one(e, x, np.asarray(pooled), most=most, seed=seed) for e, x in features.items()}


def _fit_one(element: str, x: FloatArray, pooled: FloatArray, *, most: int, seed: int) -> Cloud:
    n, d = x.shape
    mean = x.mean(axis=0)
    scale = np.sqrt((x.var(axis=0) * n + pooled) / (n + 1))
    floor = max(_SMALLEST_SCALE * float(scale.max()), 1e-6 * float(np.abs(x).max()))
    scale = np.maximum(scale, floor if floor > 0 else 1.0)
    z = (x - mean) / scale
    values, vectors = np.linalg.eigh((z.T @ z + d * np.eye(d)) / (n + d))
    whiten = (vectors / np.sqrt(values)) / scale[:, None]
    points = (x - mean) @ whiten
    if n > most:
        rng = np.random.default_rng([seed, zlib.crc32(element.encode())])
        points = points[np.sort(rng.choice(n, most, replace=False))]
    return Cloud(element, mean, whiten, np.round(points, 6), n)
