"""Novelty as an entropy: what adding an atom's environment would add to the information in the training data.

After QUESTS, Schwalbe-Koda et al., Nat. Commun. 16, 4014 (2025), doi:10.1038/s41467-025-59232-0 (arXiv:2404.12367):

    δH(y) = −ln Σ_i exp(−|y − x_i|² / 2h²)

over the training environments x_i. Negative: overlaps with many of them; above zero: with less than one. Here y and x
are whitened features of the potential, per element, where QUESTS has descriptors of its own and a fixed bandwidth; h is
the one of a few that gives the training atoms, each left out in turn, the highest likelihood.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Self

import numpy as np
from ase import Atoms

from clusterflow.core.data import BoolArray, FloatArray
from clusterflow.core.protocols import Featurizer
from clusterflow.errors import InputError
from clusterflow.score.clouds import Cloud, fit_clouds
from clusterflow.score.features import features_by_element, features_of, scores_by_element

BANDWIDTHS = tuple(float(h) for h in np.round(np.geomspace(0.08, 1.3, 9), 3))
"""Whitened units."""
_BLOCK = 64
"""Atoms at once: their distances to all points then stay in the cache."""
_TRIED_ON = 800
"""Atoms on which the bandwidth is chosen."""


@dataclass(frozen=True, slots=True)
class Kernels:
    """The cloud of one element with a Gaussian of width ``bandwidth`` on each point; ``known``: 99 % of the training
    atoms score below."""

    cloud: Cloud
    bandwidth: float
    known: float = np.inf

    def score(self, features: FloatArray) -> FloatArray:
        """δH (n,) in nats."""
        y, x = self.cloud.coordinates(features), self.cloud.points
        own, points = (y**2).sum(axis=1), (x**2).sum(axis=1)
        out = np.empty(len(y))
        for start in range(0, len(y), _BLOCK):
            part = slice(start, start + _BLOCK)
            squared = y[part] @ x.T
            squared *= -2.0
            squared += points
            squared += own[part, None]
            out[part] = _delta_entropy(np.maximum(squared, 0.0, out=squared), self.bandwidth)
        return out


def _delta_entropy(squared: FloatArray, bandwidth: float) -> FloatArray:
    """From squared distances (n, m), which are overwritten."""
    squared *= -0.5 / bandwidth**2
    top = squared.max(axis=1)
    squared -= top[:, None]
    np.exp(squared, out=squared)
    return np.asarray(-(top + np.log(squared.sum(axis=1))), dtype=np.float64)


def best_bandwidth(points: FloatArray, seed: int) -> float:
    """The one of `BANDWIDTHS` with the highest likelihood of each point under the kernels on all others."""
    if len(points) < 3:
        return 1.0
    rng = np.random.default_rng(seed)
    tried = np.sort(rng.choice(len(points), min(len(points), _TRIED_ON), replace=False))
    squared = ((points[tried][:, None, :] - points[tried][None, :, :]) ** 2).sum(axis=2)
    np.fill_diagonal(squared, np.inf)
    d = points.shape[1]
    loss = [float(np.mean(_delta_entropy(squared.copy(), h))) + d * np.log(h) for h in BANDWIDTHS]
    return BANDWIDTHS[int(np.argmin(loss))]


@dataclass(frozen=True, slots=True)
class EntropyNovelty:
    """δH of an atom's features against the training atoms of its element. Implements `Uncertainty`.

    ``bandwidth`` in whitened units, None: chosen per element. ``max_atoms`` per element are kept, a random subset
    (``seed``) of more.
    """

    featurizer: Featurizer = field(repr=False)
    bandwidth: float | None = None
    max_atoms: int = 1000
    seed: int = 0
    kernels: Mapping[str, Kernels] | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if self.max_atoms < 2 or (self.bandwidth is not None and not 0 < self.bandwidth < np.inf):
            raise InputError(
                f"Kernels of width {self.bandwidth} on {self.max_atoms} atoms make no entropy.",
                todo="The bandwidth is positive (0.1 to 1, or none), max_atoms 2 or more.",
            )

    @property
    def unit(self) -> str:
        """Natural units of information."""
        return "nats"

    def fit(self, frames: Sequence[Atoms], *, atoms: Sequence[BoolArray] | None = None) -> Self:
        """A fitted copy; as `GaussianMixtureNovelty.fit`."""
        features = features_by_element(self.featurizer, frames, atoms)
        fitted = {}
        for element, cloud in fit_clouds(features, most=self.max_atoms, seed=self.seed).items():
            record = Kernels(cloud, self.bandwidth or best_bandwidth(cloud.points, self.seed))
            known = float(np.quantile(record.score(features[element][: self.max_atoms]), 0.99))
            fitted[element] = replace(record, known=known)
        return replace(self, kernels=fitted)

    def score(self, atoms: Atoms) -> FloatArray:
        """Novelty δH (n,) in nats; +inf for an element that the fit never saw."""
        return self.score_features(features_of(self.featurizer, atoms), atoms.get_chemical_symbols())

    def score_features(self, features: FloatArray, symbols: Sequence[str]) -> FloatArray:
        """`score` for features (n, d) that the caller has already, of atoms with these chemical symbols."""
        return scores_by_element(self.kernels, features, symbols)

    def known_up_to(self, element: str) -> float:
        """Novelty in nats that 99 % of the training atoms of this element stay below; −inf for one never seen."""
        found = (self.kernels or {}).get(element)
        return -np.inf if found is None else found.known

    def to_json(self) -> dict[str, Any]:
        """Settings and kernels as JSON data (the featurizer is not part of it)."""
        fitted = {
            e: {**r.cloud.to_json(), "bandwidth": r.bandwidth, "known": r.known}
            for e, r in (self.kernels or {}).items()
        }
        names = ("bandwidth", "max_atoms", "seed")
        return {"kind": "entropy", "unit": self.unit, **{n: getattr(self, n) for n in names}, "elements": fitted}

    @classmethod
    def from_json(cls, data: Mapping[str, Any], featurizer: Featurizer) -> Self:
        """The inverse of `to_json`, with the featurizer whose features were fitted."""
        fitted = {
            e: Kernels(Cloud.from_json(r), float(r["bandwidth"]), float(r["known"]))
            for e, r in data["elements"].items()
        }
        return cls(featurizer, data["bandwidth"], int(data["max_atoms"]), int(data["seed"]), fitted or None)
