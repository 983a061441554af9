"""`score:` — how unknown an environment is (Dobbelaere 2025, 2.3 and SI 7)."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, model_validator

from clusterflow.config.section import Section


class GaussianMixture(Section):
    """One Gaussian mixture per element over the potential's last hidden layer; novelty = negative log-likelihood."""

    kind: Literal["gmm"] = "gmm"
    components: tuple[int, int] = (1, 10)
    """Range over which the Bayesian information criterion chooses the number of components."""
    pca: int | None = Field(None, ge=1)
    """Reduce the features to this many principal components first."""

    @model_validator(mode="after")
    def _range(self) -> GaussianMixture:
        low, high = self.components
        if not 1 <= low <= high:
            raise ValueError(f"components is a range [low, high] with 1 ≤ low ≤ high; got {list(self.components)}")
        return self

    def build(self, featurizer: Any, seed: int) -> Any:
        from clusterflow.score.gmm import GaussianMixtureNovelty

        return GaussianMixtureNovelty(featurizer=featurizer, components=self.components, pca=self.pca, seed=seed)


Score = GaussianMixture
