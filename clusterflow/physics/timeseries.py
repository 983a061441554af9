"""Time series of a simulation and the error of their means, from block averages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from clusterflow.core.data import FloatArray

MIN_SAMPLES = 16
"""Fewer samples tell nothing of their correlation."""


@dataclass(frozen=True, slots=True)
class Series:
    """What a run logs, (n,) each: ``time`` fs, ``energy`` (potential) and ``kinetic`` eV, ``volume`` Å³, internal
    ``pressure`` GPa with the exact mean NkT/V as its kinetic part; ``cell`` (n, 3, 3) Å; ``stress`` (n, 3, 3) eV/Å³
    of the potential, tension positive. ``stop_reason``: why it ended early, "" if it did not."""

    time: FloatArray
    energy: FloatArray
    kinetic: FloatArray
    volume: FloatArray
    pressure: FloatArray
    cell: FloatArray
    stress: FloatArray
    stop_reason: str = ""

    def after(self, share: float) -> Series:
        """Without the first ``share`` (0 to 1) of the samples."""
        k = round(share * len(self.time))
        return _series({name: getattr(self, name)[k:] for name in _ARRAYS}, self.stop_reason)

    def save(self, path: Path) -> None:
        """Writes an ``.npz`` file."""
        arrays = {name: getattr(self, name) for name in _ARRAYS}
        np.savez_compressed(path, stop_reason=np.array(self.stop_reason), **arrays)


_ARRAYS = ("time", "energy", "kinetic", "volume", "pressure", "cell", "stress")


def load_series(path: Path) -> Series:
    """The inverse of `Series.save`."""
    with np.load(path, allow_pickle=False) as data:
        return _series({name: data[name] for name in _ARRAYS}, str(data["stop_reason"]))


def joined(parts: Sequence[Series]) -> Series:
    """The pieces of one run, in order; times go on, and the last piece says how it ended."""
    arrays = {name: np.concatenate([getattr(p, name) for p in parts]) for name in _ARRAYS}
    offset, times = 0.0, []
    for p in parts:
        times.append(p.time + offset)
        offset = float(times[-1][-1]) if len(times[-1]) else offset
    arrays["time"] = np.concatenate(times)
    return _series(arrays, next((p.stop_reason for p in parts if p.stop_reason), ""))


def _series(arrays: Mapping[str, FloatArray], stop_reason: str) -> Series:
    return Series(**arrays, stop_reason=stop_reason)


def block_error(samples: FloatArray) -> tuple[float, float, int]:
    """(mean, its standard error, number of blocks) of correlated samples (n,).

    Blocking of Flyvbjerg and Petersen (1989, doi:10.1063/1.457480): neighbours are averaged until the error grows no
    more. The size B of the blocks is the smallest power of two with B³ > 2n (σ_B/σ_1)⁴, where σ_B is the error that
    blocks of that size tell (Lee et al. 2011, doi:10.1103/PhysRevE.83.066706). Where even the largest blocks, of which
    eight must be left, are too small for that, the error is theirs, and too small. It is infinite below `MIN_SAMPLES`.
    """
    x = np.asarray(samples, dtype=np.float64)
    n = len(x)
    if n == 0:
        return float("nan"), float("inf"), 0
    if n < MIN_SAMPLES:
        return float(x.mean()), float("inf"), n
    errors: list[tuple[int, float, int]] = []
    blocks, size = x, 1
    while len(blocks) >= 8:
        errors.append((size, float(blocks.std(ddof=1) / np.sqrt(len(blocks))), len(blocks)))
        even = len(blocks) // 2 * 2
        blocks = 0.5 * (blocks[:even:2] + blocks[1:even:2])
        size *= 2
    first = errors[0][1]
    if first == 0.0:
        return float(x.mean()), 0.0, n
    for size, error, count in errors:
        if size**3 > 2.0 * n * (error / first) ** 4:
            return float(x.mean()), error, count
    return float(x.mean()), max(e for _, e, _ in errors), errors[-1][2]
