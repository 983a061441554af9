"""Novelty as a distance: how far an atom's features are from those of the nearest training atoms of its element.

In whitened features (`clusterflow.score.clouds`), so the unit is a standard deviation of the training atoms. For
distances in the space of learned features as uncertainty see Janet et al. (2019), doi:10.1039/C9SC02298H.
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

_SAME = 1e-4
"""Whitened distance below which a point is taken for the atom itself."""


@dataclass(frozen=True, slots=True)
class NearestAtoms:
    """The cloud of one element; the score is the mean distance to its ``neighbours`` nearest points. A point
    that is the atom itself does not count, so that a training atom is scored by the others. ``known``: 99 % of the
    training atoms score below."""

    cloud: Cloud
    neighbours: int
    known: float = np.inf

    def score(self, features: FloatArray) -> FloatArray:
        """(n,) in standard deviations."""
        from scipy.spatial import cKDTree

        most = min(self.neighbours + 1, len(self.cloud.points))
        found = cKDTree(self.cloud.points).query(self.cloud.coordinates(features), k=most)[0]
        nearest = np.asarray(found, dtype=np.float64).reshape(len(features), most)
        if most == 1:
            return nearest[:, 0]
        itself = nearest[:, 0] < _SAME
        others = np.where(itself[:, None], nearest[:, 1:], nearest[:, : most - 1])
        return np.asarray(others.mean(axis=1), dtype=np.float64)


@dataclass(frozen=True, slots=True)
class DistanceNovelty:
    """Mean distance to the nearest training atoms of the same element in whitened features. Implements `Uncertainty`.

    ``neighbours``: over how many; ``max_atoms`` per element are kept, a random subset (``seed``) of more.
    """

    featurizer: Featurizer = field(repr=False)
    neighbours: int = 5
    max_atoms: int = 1000
    seed: int = 0
    nearest: Mapping[str, NearestAtoms] | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if self.neighbours < 1 or self.max_atoms < 2:
            raise InputError(
                f"A distance to {self.neighbours} of {self.max_atoms} atoms is none.",
                todo="neighbours is 1 or more (5 is usual), max_atoms 2 or more.",
            )

    @property
    def unit(self) -> str:
        """Standard deviations of the training atoms' features."""
        return "σ"

    def fit(self, frames: Sequence[Atoms], *, atoms: Sequence[BoolArray] | None = None) -> Self:
        """A fitted copy; as `GaussianMixtureNovelty.fit`."""
        features = features_by_element(self.featurizer, frames, atoms)
        fitted = {}
        for element, cloud in fit_clouds(features, most=self.max_atoms, seed=self.seed).items():
            record = NearestAtoms(cloud, self.neighbours)
            known = float(np.quantile(record.score(features[element][: self.max_atoms]), 0.99))
            fitted[element] = replace(record, known=known)
        return replace(self, nearest=fitted)

    def score(self, atoms: Atoms) -> FloatArray:
        """Novelty (n,) in standard deviations; +inf for an element that the fit never saw."""
        return self.score_features(features_of(self.featurizer, atoms), atoms.get_chemical_symbols())

    def score_features(self, features: FloatArray, symbols: Sequence[str]) -> FloatArray:
        """`score` for features (n, d) that the caller has already, of atoms with these chemical symbols."""
        return scores_by_element(self.nearest, features, symbols)

    def known_up_to(self, element: str) -> float:
        """Novelty that 99 % of the training atoms of this element stay below; −inf for one never seen."""
        found = (self.nearest or {}).get(element)
        return -np.inf if found is None else found.known

    def to_json(self) -> dict[str, Any]:
        """Settings and clouds as JSON data (the featurizer is not part of it)."""
        fitted = {e: {**r.cloud.to_json(), "known": r.known} for e, r in (self.nearest or {}).items()}
        names = ("neighbours", "max_atoms", "seed")
        return {"kind": "distance", "unit": self.unit, **{n: getattr(self, n) for n in names}, "elements": fitted}

    @classmethod
    def from_json(cls, data: Mapping[str, Any], featurizer: Featurizer) -> Self:
        """The inverse of `to_json`, with the featurizer whose features were fitted."""
        k = int(data["neighbours"])
        fitted = {e: NearestAtoms(Cloud.from_json(r), k, float(r["known"])) for e, r in data["elements"].items()}
        return cls(featurizer, k, int(data["max_atoms"]), int(data["seed"]), fitted or None)
