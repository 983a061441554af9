"""Is an atom outside what the potential was trained on? A flag of its own, beside novelty and not a measure of error.

Two tests per element. Range: a feature lies outside the interval that the training atoms span, widened by a share of
it. Leverage: zᵀ(ZᵀZ)⁻¹z, the variance that a linear model in the features would have there, above the largest of any
training atom (the criterion of optimal experimental design; Podryabinkin and Shapeev, Comput. Mater. Sci. 140, 171
(2017), doi:10.1016/j.commatsci.2017.08.031, use its D-optimal cousin). A novelty can be large inside the range, in a
hole of the data; and a potential may extrapolate well, so neither replaces the other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from clusterflow.core.data import BoolArray, FloatArray
from clusterflow.score.features import checked, indices_by_element

MARGIN = 0.05
"""Share of the trained interval by which it is widened on both sides."""
_RIDGE = 1e-6


@dataclass(frozen=True, slots=True)
class Extrapolation:
    """Per atom: ``outside`` (n,) bool, either test says so; ``dimensions`` (n,) features out of range; ``leverage``
    (n,) in units of the largest trained one. An element never seen is outside: every dimension, infinite leverage."""

    outside: BoolArray
    dimensions: FloatArray
    leverage: FloatArray


@dataclass(frozen=True, slots=True)
class TrainedRange:
    """What the training atoms of one element span: ``low`` and ``high`` (d,), ``mean`` (d,), and ``factor`` (d, d) such
    that the leverage is |factor · (x − mean)|², one for the largest trained."""

    low: FloatArray
    high: FloatArray
    mean: FloatArray
    factor: FloatArray

    def to_json(self) -> dict[str, Any]:
        """Plain JSON data; `from_json` is the inverse."""
        return {name: getattr(self, name).tolist() for name in self.__dataclass_fields__}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """The inverse of `to_json`."""
        return cls(**{k: np.asarray(v, dtype=np.float64) for k, v in data.items()})


def trained_ranges(features: Mapping[str, FloatArray]) -> dict[str, TrainedRange]:
    """Element → what its training atoms (n, d) span.

    Raises
    ------
    ScienceError
        Features that are not finite.
    """
    return {e: _range(checked(x, e)) for e, x in features.items() if len(x)}


def _range(x: FloatArray) -> TrainedRange:
    mean, low, high = x.mean(axis=0), x.min(axis=0), x.max(axis=0)
    room = MARGIN * np.maximum(high - low, 1e-6 * np.abs(x).max(axis=0))  # float32 features differ by rounding
    z = x - mean
    scatter = z.T @ z
    scale = np.trace(scatter) / max(len(scatter), 1) or 1.0
    factor = np.linalg.inv(np.linalg.cholesky(scatter + _RIDGE * scale * np.eye(len(scatter))))
    largest = float(((z @ factor.T) ** 2).sum(axis=1).max())
    return TrainedRange(low - room, high + room, mean, factor / np.sqrt(largest) if largest > 0 else factor)


def extrapolation(ranges: Mapping[str, TrainedRange], features: FloatArray, symbols: Sequence[str]) -> Extrapolation:
    """For atoms with ``features`` (n, d) and these chemical symbols.

    Raises
    ------
    ScienceError
        Features that are not finite.
    """
    n, d = features.shape
    dimensions, leverage = np.full(n, float(d)), np.full(n, np.inf)
    for element, index in indices_by_element(symbols):
        known = ranges.get(element)
        if known is not None:
            x = checked(features[index], element)
            dimensions[index] = ((x < known.low) | (x > known.high)).sum(axis=1)
            leverage[index] = (((x - known.mean) @ known.factor.T) ** 2).sum(axis=1)
    return Extrapolation((dimensions > 0) | (leverage > 1.0 + 1e-6), dimensions, leverage)
