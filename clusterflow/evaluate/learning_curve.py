"""Learning curves: test errors against the number of labels and against what the labels cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from clusterflow.errors import InputError
from clusterflow.evaluate.metrics import Metrics


@dataclass(frozen=True, slots=True)
class CurvePoint:
    """One model of a campaign on the fixed test set.

    ``iteration`` 0 is the model of the initial labels; ``n_labels`` and ``core_seconds`` are cumulative: all labels in
    its training data and what computing them took (cores × s). Forces in meV/Å, energies in meV/atom; None where the
    test set has no such label.
    """

    iteration: int
    n_labels: int
    core_seconds: float
    force_mae: float | None
    force_rmse: float | None
    force_mae_p: float | None
    force_maximum: float | None
    energy_average: float | None
    energy_std: float | None

    def to_json(self) -> dict[str, Any]:
        """Plain JSON data."""
        return asdict(self)


def learning_curve(points: Sequence[tuple[int, int, float, Metrics]]) -> tuple[CurvePoint, ...]:
    """Curve data, ordered by iteration, from (iteration, n_labels, core_seconds, test metrics).

    Raises
    ------
    InputError
        An iteration appears twice.
    """
    ordered = sorted(points, key=lambda p: p[0])
    for before, after in pairwise(ordered):
        if before[0] == after[0]:
            raise InputError(f"Iteration {after[0]} appears twice in the learning curve.", todo="Give each model once.")
    return tuple(_point(*p) for p in ordered)


def _point(iteration: int, n_labels: int, core_seconds: float, metrics: Metrics) -> CurvePoint:
    f, e = metrics.forces, metrics.energy
    return CurvePoint(
        iteration=int(iteration),
        n_labels=int(n_labels),
        core_seconds=float(core_seconds),
        force_mae=f.mae if f else None,
        force_rmse=f.rmse if f else None,
        force_mae_p=f.mae_p if f else None,
        force_maximum=f.maximum if f else None,
        energy_average=e.average if e else None,
        energy_std=e.std if e else None,
    )


def error_ratio(curve: Sequence[CurvePoint]) -> float | None:
    """Last force MAE_P over the first one (below 1: the campaign has helped); None with fewer than two models."""
    values = [p.force_mae_p for p in curve if p.force_mae_p is not None]
    return values[-1] / values[0] if len(values) > 1 and values[0] > 0 else None


def learning_exponent(curve: Sequence[CurvePoint]) -> float | None:
    """The b of error ∝ N^b, by least squares of log MAE_P on log N; None with fewer than two different N.

    It is a description of this curve, with as many points as there are models, not a law to extrapolate with.
    """
    used = [(p.n_labels, p.force_mae_p) for p in curve if p.n_labels > 0 and p.force_mae_p is not None]
    used = [(n, e) for n, e in used if e > 0]
    if len({n for n, _ in used}) < 2:
        return None
    n, error = np.log(np.asarray(used, dtype=np.float64)).T
    n = n - n.mean()
    return float((n @ (error - error.mean())) / (n @ n))
