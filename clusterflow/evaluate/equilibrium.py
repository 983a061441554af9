"""Which runs are at equilibrium, and the mean over those at the same condition with its error."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from clusterflow.core.data import FloatArray
from clusterflow.physics.timeseries import MIN_SAMPLES, Series, block_error

_DRIFT = 5.0
"""Standard errors between the halves of a run at constant pressure that is no equilibrium."""
_WANDERS = 0.05
"""Relative standard deviation of a length of the cell that is too much for a solid."""


def at_equilibrium(runs: Sequence[Series], discard: float, *, fixed_volume: bool = False) -> tuple[list[Series], str]:
    """(what is left of runs without their first share ``discard``, why others are left out; "" if all are in)."""
    lasting = [r for r in runs if not r.stop_reason]
    kept = [r.after(discard) for r in lasting]
    long_enough = [r for r in kept if len(r.time) >= MIN_SAMPLES]
    settled = [r for r in long_enough if fixed_volume or not drifts(r.volume)]
    if len(settled) == len(runs):
        return settled, ""
    if len(lasting) < len(runs):
        why = next(r.stop_reason for r in runs if r.stop_reason)
    elif len(long_enough) < len(kept):
        why = f"{min(len(r.time) for r in kept)} samples are too few for an error"
    else:
        why = "the volume still drifts: no equilibrium at this pressure, or too short a run"
    return settled, why if not settled else f"{len(runs) - len(settled)} of {len(runs)} runs: {why}"


def shape_note(runs: Sequence[Series]) -> tuple[str, ...]:
    """A warning, where a cell changes shape so much that it may pass from one description of its lattice to another."""
    widths = [np.linalg.norm(r.cell, axis=2) for r in runs if len(r.time)]
    width = max((float((w.std(axis=0) / w.mean(axis=0)).max()) for w in widths), default=0.0)
    if width < _WANDERS:
        return ()
    return (
        f"The lengths of the cell fluctuate by {100.0 * width:.2g} %: it is so small that its lattice constants mean "
        "little, and it may turn into another cell of the same crystal. Take a supercell (`build:`).",
    )


def drifts(volume: FloatArray) -> bool:
    """Whether the second half of a run is elsewhere than the first, by more than its noise and by 0.5 %."""
    half = len(volume) // 2
    (a, a_error, _), (b, b_error, _) = block_error(volume[:half]), block_error(volume[half:])
    return bool(abs(b - a) > max(_DRIFT * float(np.hypot(a_error, b_error)), 0.005 * abs(a)))


def combined(samples: Sequence[FloatArray]) -> tuple[float, float, float]:
    """(mean, standard error, variance) of one logged quantity, (n,) per run, over runs at the same condition.

    The error is that of block averages within the runs or, where it is larger, that of the means between them: runs may
    be stuck in different places.
    """
    found = [block_error(x) for x in samples]
    lengths = np.array([len(x) for x in samples], dtype=np.float64)
    share = lengths / lengths.sum()
    means, errors = np.array([f[0] for f in found]), np.array([f[1] for f in found])
    mean = float(share @ means)
    within = float(np.sqrt(((share * errors) ** 2).sum()))
    between = float(means.std(ddof=1) / np.sqrt(len(means))) if len(means) > 1 else 0.0
    variance = float(share @ np.array([np.var(x) for x in samples]))
    return mean, max(within, between), variance
