"""Novelty of an atom: how unlikely its features are under the Gaussian mixture of its element's training atoms.

The paper's choice, Dobbelaere et al. (2025), arXiv:2504.03881, sections 2.3 and SI 7. The densities themselves, with
what their likelihoods refer to, are in `clusterflow.score.mixture`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Self

import numpy as np
from ase import Atoms

from clusterflow.core.data import BoolArray, FloatArray
from clusterflow.core.protocols import Featurizer
from clusterflow.score.features import features_by_element, features_of, scores_by_element
from clusterflow.score.mixture import ElementMixture, check_settings, fit_elements

__all__ = ["ElementMixture", "GaussianMixtureNovelty", "fit_elements"]


@dataclass(frozen=True, slots=True)
class GaussianMixtureNovelty:
    """Per-atom novelty from one Gaussian mixture per element (arXiv:2504.03881, eq. 5). Implements `Uncertainty`.

    Parameters
    ----------
    featurizer
        Gives the per-atom features (n, d).
    components
        Smallest and largest number of components among which BIC chooses, per element. The largest is lowered for
        elements with few atoms, see `largest_number_of_components`.
    pca
        None: all features; a whole number: that many principal components; a fraction: as many as explain that part
        of the variance. Per element, after standardising.
    covariance
        "full" (the paper's and sklearn's default), "tied" (one for all components) or "diag".
    seed
        Of the k-means start; equal seeds and data give equal mixtures.
    regularisation
        Least value added to the variances, relative to the variance of a standardised feature. More is added on its
        own for elements with few atoms.
    max_atoms
        Per element; of more, a random subset is used (chosen by the seed).
    mixtures
        What a fit has found; None before.
    """

    featurizer: Featurizer = field(repr=False)
    components: tuple[int, int] = (1, 10)
    pca: int | float | None = None
    covariance: str = "full"
    seed: int = 0
    regularisation: float = 1e-5
    max_atoms: int = 20_000
    mixtures: Mapping[str, ElementMixture] | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        check_settings(self.components, self.pca, self.covariance, self.regularisation, self.max_atoms)

    @property
    def unit(self) -> str:
        """Natural units of information: the score is a negative natural logarithm."""
        return "nats"

    def fit(self, frames: Sequence[Atoms], *, atoms: Sequence[BoolArray] | None = None) -> Self:
        """A fitted copy. Give the training split only: a validation or test frame in it would hide its own novelty.

        ``atoms`` says for each frame which of its atoms count (n,), e.g. those whose forces were trained on.

        Raises
        ------
        ScienceError
            No frames, or features that are not finite.
        """
        rows = features_by_element(self.featurizer, frames, atoms)
        mixtures = fit_elements(
            rows,
            components=self.components,
            pca=self.pca,
            covariance=self.covariance,
            seed=self.seed,
            regularisation=self.regularisation,
            max_atoms=self.max_atoms,
        )
        return replace(self, mixtures=mixtures)

    def score(self, atoms: Atoms) -> FloatArray:
        """Novelty (n,) in nats: −ln likelihood of each atom's features; +inf for an element that the fit never saw.

        Raises
        ------
        ScienceError
            Before a fit, or features that are not finite.
        """
        return self.score_features(features_of(self.featurizer, atoms), atoms.get_chemical_symbols())

    def score_features(self, features: FloatArray, symbols: Sequence[str]) -> FloatArray:
        """`score` for features (n, d) that the caller has already, of atoms with these chemical symbols."""
        return scores_by_element(self.mixtures, features, symbols)

    def known_up_to(self, element: str) -> float:
        """Novelty in nats that 99 % of the training atoms of this element stay below; −inf for one never seen.

        Nats shift from one potential to the next, because the features do: thresholds are set relative to this.
        """
        mixture = (self.mixtures or {}).get(element)
        return -np.inf if mixture is None else float(mixture.quantiles["0.99"])

    def to_json(self) -> dict[str, Any]:
        """Settings and mixtures as JSON data (the featurizer is not part of it)."""
        names = ("components", "pca", "covariance", "seed", "regularisation", "max_atoms")
        mixtures = None if self.mixtures is None else {e: m.to_json() for e, m in self.mixtures.items()}
        return {**{n: getattr(self, n) for n in names}, "components": list(self.components), "mixtures": mixtures}

    @classmethod
    def from_json(cls, data: Mapping[str, Any], featurizer: Featurizer) -> Self:
        """The inverse of `to_json`, with the featurizer whose features were fitted."""
        values = dict(data)
        values["components"] = (int(data["components"][0]), int(data["components"][1]))
        found = data.get("mixtures")
        values["mixtures"] = None if found is None else {e: ElementMixture.from_json(m) for e, m in found.items()}
        return cls(featurizer=featurizer, **values)
