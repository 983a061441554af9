"""`score:` — how unknown an environment is (Dobbelaere 2025, 2.3 and SI 7)."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, model_validator

from clusterflow.config.mistakes import PlacedError
from clusterflow.config.quantities import Force
from clusterflow.config.section import Section


class GaussianMixture(Section):
    """One Gaussian mixture per element over the potential's last hidden layer; novelty = negative log-likelihood."""

    kind: Literal["gmm"] = "gmm"
    components: tuple[int, int] = (1, 10)
    """Range over which the Bayesian information criterion chooses the number of components."""
    pca: int | None = Field(None, ge=1)
    """Reduce the features to this many principal components first."""

    unit: ClassVar[str] = "nats"

    @model_validator(mode="after")
    def _range(self) -> GaussianMixture:
        low, high = self.components
        if not 1 <= low <= high:
            raise PlacedError(
                f"components is a range [low, high] with 1 ≤ low ≤ high; got {list(self.components)}", "components"
            )
        return self

    def build(self, featurizer: Any, seed: int) -> Any:
        from clusterflow.score.gmm import GaussianMixtureNovelty

        return GaussianMixtureNovelty(featurizer=featurizer, components=self.components, pca=self.pca, seed=seed)


class Distance(Section):
    """Mean distance to the nearest training atoms of the same element, in whitened features; unit: their standard
    deviation."""

    kind: Literal["distance"] = "distance"
    neighbours: int = Field(5, ge=1, le=100)
    """Training atoms over which the distance is averaged."""
    max_atoms: int = Field(1000, ge=10)
    """Training atoms kept per element; a random subset of more."""

    unit: ClassVar[str] = "σ"

    def build(self, featurizer: Any, seed: int) -> Any:
        from clusterflow.score.distance import DistanceNovelty

        return DistanceNovelty(featurizer, neighbours=self.neighbours, max_atoms=self.max_atoms, seed=seed)


class Entropy(Section):
    """Entropy δH of a kernel density of whitened features, per element, after QUESTS (doi:10.1038/s41467-025-59232-0);
    above zero: overlaps with less than one training atom."""

    kind: Literal["entropy"] = "entropy"
    bandwidth: float | None = Field(None, gt=0, le=10)
    """Width of the kernels in standard deviations; by default the one of highest likelihood per element."""
    max_atoms: int = Field(1000, ge=10)
    """Training atoms kept per element; a random subset of more."""

    unit: ClassVar[str] = "nats"

    def build(self, featurizer: Any, seed: int) -> Any:
        from clusterflow.score.entropy import EntropyNovelty

        return EntropyNovelty(featurizer, bandwidth=self.bandwidth, max_atoms=self.max_atoms, seed=seed)


class Committee(Section):
    """How much the potentials of a committee (`train: {committee: N}`) disagree on the force on an atom, in eV/Å
    (Herbold 2023, section 3)."""

    kind: Literal["committee"] = "committee"
    measure: Literal["maximum", "deviation"] = "maximum"
    """`maximum`: largest distance between two members' force vectors, which for two members is that of the paper;
    `deviation`: root mean square distance from the mean force vector."""
    threshold: Force = 1.0
    """Atoms on which the members agree better than this are not asked for; `stop: {novelty: …}` counts from here, in
    eV/Å."""

    unit: ClassVar[str] = "eV/Å"

    def build(self, members: Any, _seed: int) -> Any:
        from clusterflow.score.committee import CommitteeDisagreement

        return CommitteeDisagreement(tuple(members), measure=self.measure, threshold=self.threshold)


Score = Annotated[GaussianMixture | Distance | Entropy | Committee, Field(discriminator="kind")]
