"""Free energies along angles from well-tempered metadynamics, by reweighting, with errors from independent pieces.

Each sample counts with the weight exp((V(s, t) − c(t))/k_BT), V the bias at that moment and

    c(t) = k_BT ln [ ∫ exp(γ/(γ − 1) V(s, t)/k_BT) ds / ∫ exp(1/(γ − 1) V(s, t)/k_BT) ds ],

γ the bias factor (Tiwary and Parrinello 2015, doi:10.1021/jp504920s). So one run also gives the profile along an angle
that the other was integrated out of.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.ndimage import gaussian_filter1d
from scipy.signal import find_peaks
from scipy.special import logsumexp

from clusterflow.core.data import FloatArray, IntArray
from clusterflow.units import BOLTZMANN_EV


@dataclass(frozen=True, slots=True)
class BiasedSamples:
    """What a biased run logs: ``times`` (n,) fs, ``angles`` (n, d) rad, ``bias`` (n,) V(s, t) eV, ``offset`` (n,)
    c(t) eV."""

    times: FloatArray
    angles: FloatArray
    bias: FloatArray
    offset: FloatArray

    def __len__(self) -> int:
        return len(self.times)

    def part(self, first: int, last: int) -> BiasedSamples:
        """Samples ``first`` to ``last``."""
        return BiasedSamples(*(getattr(self, n)[first:last] for n in _ARRAYS))

    def after(self, share: float) -> BiasedSamples:
        """Without the first ``share`` (0 to 1) of the samples."""
        return self.part(round(share * len(self)), len(self))

    def save(self, path: Path) -> None:
        """Writes an ``.npz`` file."""
        np.savez_compressed(path, **{name: getattr(self, name) for name in _ARRAYS})


_ARRAYS = ("times", "angles", "bias", "offset")


def load_samples(path: Path) -> BiasedSamples:
    """The inverse of `BiasedSamples.save`."""
    with np.load(path, allow_pickle=False) as data:
        return BiasedSamples(*(data[name] for name in _ARRAYS))


def joined_samples(parts: Sequence[BiasedSamples]) -> BiasedSamples:
    """The pieces of one run, in order."""
    return BiasedSamples(*(np.concatenate([getattr(p, name) for p in parts]) for name in _ARRAYS))


def bias_offset(bias: FloatArray, temperature_K: float, bias_factor: float) -> float:
    """c(t) in eV of a bias (eV) on a regular grid over the whole range of its angles."""
    scaled = np.asarray(bias, dtype=np.float64).ravel() / (BOLTZMANN_EV * temperature_K)
    shape = 1.0 / (bias_factor - 1.0)
    return float(BOLTZMANN_EV * temperature_K * (logsumexp(bias_factor * shape * scaled) - logsumexp(shape * scaled)))


def histogram(samples: BiasedSamples, temperature_K: float, bins: int, axes: Sequence[int]) -> FloatArray:
    """Weights per bin, (bins,) per axis, over (−π, π] of the angles ``axes``; their sum is arbitrary."""
    logs = (samples.bias - samples.offset) / (BOLTZMANN_EV * temperature_K)
    weights = np.exp(logs - logs.max())
    edges = [np.linspace(-np.pi, np.pi, bins + 1)] * len(axes)
    counts, _ = np.histogramdd(wrapped(samples.angles[:, list(axes)]), bins=edges, weights=weights)
    return np.asarray(counts * np.exp(logs.max()), dtype=np.float64)


def wrapped(angles: FloatArray) -> FloatArray:
    """Angles in [−π, π)."""
    folded: FloatArray = (angles + np.pi) % (2.0 * np.pi) - np.pi
    return folded


def bin_centres(bins: int) -> FloatArray:
    """(bins,) rad."""
    centres: FloatArray = -np.pi + (np.arange(bins) + 0.5) * 2.0 * np.pi / bins
    return centres


def free_energy(weights: FloatArray, temperature_K: float, *, smooth: float = 1.0) -> FloatArray:
    """−k_BT ln of the weights, lowest value 0, in eV; infinite where there are none. One angle is smoothed first, by a
    Gaussian of ``smooth`` bins around the circle."""
    weights = gaussian_filter1d(weights, smooth, mode="wrap") if weights.ndim == 1 and smooth > 0.0 else weights
    with np.errstate(divide="ignore"):
        found = -BOLTZMANN_EV * temperature_K * np.log(weights / weights.max())
    return np.asarray(found, dtype=np.float64)


@dataclass(frozen=True, slots=True)
class Stationary:
    """Bins of ``minima`` and ``maxima`` of a profile around the circle, those that stand out."""

    minima: IntArray
    maxima: IntArray


def stationary_points(profile: FloatArray, prominence: float) -> Stationary:
    """Minima and maxima of a periodic profile (eV) that stand out by ``prominence`` eV from their surroundings.

    A place that was never visited is a maximum. At least the lowest and the highest bin are named.
    """
    finite = np.where(np.isfinite(profile), profile, np.nanmax(profile[np.isfinite(profile)]) + 10.0 * prominence)
    bins = len(finite)
    tripled = np.tile(finite, 3)

    def peaks(values: FloatArray) -> IntArray:
        found, _ = find_peaks(values, prominence=prominence)
        inside = found[(found >= bins) & (found < 2 * bins)] - bins
        return np.asarray(inside if len(inside) else [int(np.argmax(values[:bins]))], dtype=np.int64)

    return Stationary(peaks(-tripled), peaks(tripled))


@dataclass(frozen=True, slots=True)
class Ways:
    """Ways out of the ``deepest`` minimum of a profile around the circle: the bins up to the next minimum on its
    ``right`` and on its ``left``. With a single minimum both are the whole circle."""

    deepest: int
    right: IntArray
    left: IntArray


def ways_out(profile: FloatArray, prominence: float) -> Ways:
    """Of a profile whose minima and maxima stand out by ``prominence`` eV."""
    minima = stationary_points(profile, prominence).minima
    bins, deepest = len(profile), int(minima[np.argmin(profile[minima])])
    others = sorted(int((m - deepest) % bins) for m in minima if m != deepest)
    right, left = (others[0], bins - others[-1]) if others else (bins, bins)
    steps = np.arange(bins + 1)
    return Ways(deepest, (deepest + steps[: right + 1]) % bins, (deepest - steps[: left + 1]) % bins)


def barriers(profile: FloatArray, ways: Ways) -> tuple[float, float]:
    """(highest point of the lower way into another minimum, highest point of a full turn), eV above the deepest
    minimum. Profiles of parts of the data are compared along the same ``ways``."""
    lowest = min(float(np.max(profile[ways.right])), float(np.max(profile[ways.left])))
    return lowest - float(profile[ways.deepest]), float(np.max(profile) - profile[ways.deepest])


def crossings(angles: FloatArray, places: FloatArray, core: float = 0.35) -> int:
    """How often a series of angles (n,) went from one of the places (rad) to another, arriving within ``core`` rad."""
    if len(places) < 2 or not len(angles):
        return 0
    away = np.abs(wrapped(angles[:, None] - places[None, :]))
    nearest = np.argmin(away, axis=1)
    arrived = nearest[np.min(away, axis=1) < core]
    return int(np.count_nonzero(np.diff(arrived)))


def leave_one_out(pieces: Sequence[FloatArray]) -> list[FloatArray]:
    """Sums of all pieces but one."""
    total = np.sum(pieces, axis=0)
    return [total - p for p in pieces]


def jackknife_error(values: Sequence[FloatArray] | FloatArray) -> FloatArray:
    """Standard error from values with one piece left out each; first axis: which one."""
    spread = np.asarray(values, dtype=np.float64)
    n = len(spread)
    with np.errstate(invalid="ignore"):
        found: FloatArray = np.sqrt((n - 1) / n * np.sum((spread - spread.mean(axis=0)) ** 2, axis=0))
    return found
