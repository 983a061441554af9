"""Does novelty find the atoms with wrong forces? Correlation of novelty with the true force error, per element.

The novelty is worth having if it ranks atoms as their force errors |F_model − F_ref| would (arXiv:2504.03881, SI 7,
reports Pearson's coefficient; the rank correlation does not assume a straight line and copes with infinite novelty).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from ase import Atoms
from numpy.typing import ArrayLike

from clusterflow.core.data import FloatArray, IntArray, Prediction
from clusterflow.errors import InputError
from clusterflow.score.independence import independent_groups

ALL = "all"
"""Key of the figures over all elements together, the ranking that a selection across elements uses."""
_FEWEST = 3
_FEWEST_FOR_INTERVAL = 10
_FEWEST_GROUPS = 3


@dataclass(frozen=True, slots=True)
class Correlation:
    """Correlation over ``n_atoms`` atoms from ``n_groups`` frames; all coefficients are in [−1, 1].

    ``spearman`` ranks infinite novelties above all others, equal among themselves; ``spearman_low`` and
    ``spearman_high`` bound its bootstrap interval at ``confidence``; ``pearson`` leaves the ``n_infinite`` atoms out.
    None: not defined (one of the two quantities does not vary), or too few atoms or frames for an interval.
    """

    n_atoms: int
    n_groups: int
    n_infinite: int
    spearman: float | None
    spearman_low: float | None
    spearman_high: float | None
    pearson: float | None
    confidence: float

    def to_json(self) -> dict[str, Any]:
        """Plain JSON data."""
        return asdict(self)


def rank_correlation(
    novelty: ArrayLike,
    force_error: ArrayLike,
    *,
    groups: ArrayLike | None = None,
    seed: int = 0,
    resamples: int = 500,
    confidence: float = 0.95,
) -> Correlation | None:
    """Correlation of ``novelty`` (n,) with ``force_error`` (n,) in eV/Å; None for fewer than three atoms.

    ``groups`` (n,) is the frame or walk of each atom: atoms of one are not independent, so the bootstrap draws whole
    groups where there are at least three, and single atoms otherwise (then the interval is too narrow). Atoms whose
    error is NaN (no label) are left out.

    Raises
    ------
    InputError
        Arrays of different lengths, NaN novelties, or a confidence outside 0 to 1.
    """
    x, y = np.asarray(novelty, dtype=np.float64).ravel(), np.asarray(force_error, dtype=np.float64).ravel()
    g = np.zeros(len(x), dtype=np.int64) if groups is None else np.unique(np.asarray(groups), return_inverse=True)[1]
    if not len(x) == len(y) == len(g) or np.isnan(x).any() or not 0.0 < confidence < 1.0:
        raise InputError(
            f"{len(x)} novelties ({int(np.isnan(x).sum())} NaN), {len(y)} force errors, {len(g)} groups and a "
            f"confidence of {confidence} do not make a correlation.",
            todo="Give one novelty and one error per atom, and a confidence such as 0.95.",
        )
    known = np.isfinite(y)
    x, y, g = x[known], y[known], g.ravel()[known]
    if len(x) < _FEWEST:
        return None
    finite = np.isfinite(x)
    spearman = _spearman(x, y)
    low, high = None, None
    if spearman is not None:
        low, high = _interval(x, y, g, rng=np.random.default_rng(seed), resamples=resamples, confidence=confidence)
    return Correlation(
        n_atoms=len(x),
        n_groups=len(np.unique(g)),
        n_infinite=int((~finite).sum()),
        spearman=spearman,
        spearman_low=low,
        spearman_high=high,
        pearson=_pearson(x[finite], y[finite]),
        confidence=confidence,
    )


def _pearson(x: FloatArray, y: FloatArray) -> float | None:
    if len(x) < _FEWEST:
        return None
    a, b = x - x.mean(), y - y.mean()
    norm = float(np.sqrt((a @ a) * (b @ b)))
    # Values that differ by rounding only do not vary.
    if np.ptp(x) <= 1e-12 * np.abs(x).max() or np.ptp(y) <= 1e-12 * np.abs(y).max() or norm == 0.0:
        return None
    return float(np.clip((a @ b) / norm, -1.0, 1.0))


def _spearman(x: FloatArray, y: FloatArray) -> float | None:
    """Pearson's coefficient of the ranks, ties sharing their mean rank; infinities rank like any other number."""
    from scipy.stats import rankdata

    return _pearson(rankdata(x), rankdata(y))


def _interval(
    x: FloatArray, y: FloatArray, group: IntArray, *, rng: np.random.Generator, resamples: int, confidence: float
) -> tuple[float | None, float | None]:
    """Percentile bootstrap over frames, or over atoms where there are fewer than three frames."""
    if len(x) < _FEWEST_FOR_INTERVAL:
        return None, None
    names = np.unique(group)
    members = [np.flatnonzero(group == n) for n in names]
    if len(members) < _FEWEST_GROUPS:
        members = [np.array([i]) for i in range(len(x))]
    values = []
    for _ in range(resamples):
        drawn = np.concatenate([members[i] for i in rng.integers(0, len(members), len(members))])
        value = _spearman(x[drawn], y[drawn])
        if value is not None:
            values.append(value)
    if len(values) < resamples // 2:
        return None, None
    tail = 0.5 * (1.0 - confidence)
    return float(np.quantile(values, tail)), float(np.quantile(values, 1.0 - tail))


def force_error_norms(atoms: Atoms, prediction: Prediction) -> FloatArray:
    """|F_model − F_ref| per atom (n,) in eV/Å of a labelled frame; NaN where there is no label."""
    reference = getattr(atoms.calc, "results", {}).get("forces")
    if reference is None:
        return np.full(len(atoms), np.nan)
    return np.asarray(np.linalg.norm(np.asarray(prediction.forces) - np.asarray(reference), axis=1), dtype=np.float64)


def correlations_by_element(
    frames: Sequence[Atoms],
    novelty: Sequence[FloatArray],
    predictions: Sequence[Prediction],
    *,
    seed: int = 0,
    resamples: int = 500,
    confidence: float = 0.95,
) -> Mapping[str, Correlation]:
    """Correlation per element over labelled ``frames``, and under `ALL` over all atoms. Elements with fewer than three
    labelled atoms are absent.

    ``novelty`` holds one array (n,) per frame, ``predictions`` those of the model that gave the features. What comes of
    one walk counts as one observation of many atoms (`independent_groups`).

    Raises
    ------
    InputError
        Different numbers of frames, novelties and predictions.
    """
    if not len(frames) == len(novelty) == len(predictions):
        raise InputError(
            f"{len(frames)} frames, {len(novelty)} novelties and {len(predictions)} predictions do not match.",
            todo="Give one of each per frame, in the same order.",
        )
    if not frames:
        return {}
    error = np.concatenate([force_error_norms(a, p) for a, p in zip(frames, predictions, strict=True)])
    value = np.concatenate([np.asarray(v, dtype=np.float64) for v in novelty])
    element = np.concatenate([a.get_chemical_symbols() for a in frames])
    frame = np.repeat(independent_groups(frames), [len(a) for a in frames])
    found: dict[str, Correlation] = {}
    for name in [ALL, *np.unique(element)]:
        mine = np.ones(len(element), dtype=bool) if name == ALL else element == name
        c = rank_correlation(
            value[mine], error[mine], groups=frame[mine], seed=seed, resamples=resamples, confidence=confidence
        )
        if c is not None:
            found[str(name)] = c
    return found
