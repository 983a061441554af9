"""Fitted novelties of every kind from their JSON form."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from clusterflow.core.protocols import Featurizer
from clusterflow.errors import StateError
from clusterflow.score.distance import DistanceNovelty
from clusterflow.score.entropy import EntropyNovelty
from clusterflow.score.gmm import GaussianMixtureNovelty

Novelty = GaussianMixtureNovelty | DistanceNovelty | EntropyNovelty


def novelty_from_json(data: Mapping[str, Any], featurizer: Featurizer) -> Novelty:
    """The inverse of each kind's ``to_json``; data without a kind are of a Gaussian mixture.

    Raises
    ------
    StateError
        A kind that this version does not know.
    """
    kind = data.get("kind", "gmm")
    if kind == "gmm":
        return GaussianMixtureNovelty.from_json(data, featurizer)
    if kind == "distance":
        return DistanceNovelty.from_json(data, featurizer)
    if kind == "entropy":
        return EntropyNovelty.from_json(data, featurizer)
    raise StateError(
        f"This version of clusterflow knows no novelty of the kind '{kind}'.",
        todo="Use the version that wrote it, or another `score:`.",
    )
