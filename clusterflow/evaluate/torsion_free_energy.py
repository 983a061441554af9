"""Helmholtz free energy along torsions, and its barriers, from replicas of well-tempered metadynamics.

The replicas' samples are reweighted (`clusterflow.physics.reweighting`) and their histograms added. Errors come from
leaving out one piece at a time: a replica, or a block of one.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from clusterflow.core.data import FloatArray
from clusterflow.errors import ScienceError
from clusterflow.evaluate.property_result import Curve, PropertyResult, Quantity
from clusterflow.physics.reweighting import (
    BiasedSamples,
    Ways,
    barriers,
    bin_centres,
    crossings,
    free_energy,
    histogram,
    jackknife_error,
    leave_one_out,
    ways_out,
    wrapped,
)
from clusterflow.units import BOLTZMANN_EV

BLOCKS = 5
"""Of a replica."""
_CHANCE = 4.0
"""Minima and maxima stand out by so many errors of the profile."""
_FEW = 10
"""Crossings per replica: below this the barrier hangs on chance."""
_FRACTIONS = tuple(round(0.1 * k, 1) for k in range(2, 11))


def torsion_free_energy(
    replicas: Sequence[BiasedSamples],
    *,
    temperature_K: float,
    bias_factor: float,
    biases: Sequence[FloatArray] = (),
    bins: int = 120,
    discard: float = 0.2,
) -> PropertyResult:
    """Profiles along each torsion with errors, barriers, and how far they are converged.

    ``biases``: the final bias of each replica (eV, on its grid, the first point of a torsion repeated at the end);
    ``discard``: share at the beginning of each replica, in which the bias is being built, that does not count.

    Raises
    ------
    ScienceError
        No samples, or a torsion that has not gone around: its profile has holes.
    """
    kept = [r.after(discard) for r in replicas]
    if not kept or min(len(k) for k in kept) < BLOCKS:
        raise ScienceError(
            f"{sum(len(r) for r in replicas)} samples in {len(replicas)} replicas are too few.",
            todo="Give more steps, or a smaller `discard:`.",
        )
    dimensions = kept[0].angles.shape[1]
    quantities: dict[str, Quantity] = {}
    curves: dict[str, Curve] = {}
    notes: list[str] = []
    for axis in range(dimensions):
        name = "" if axis == 0 else f", torsion {axis + 1}"
        profile, error, ways, (out_error, whole_error) = _profile(kept, temperature_K, bins, axis)
        curves["profile" if axis == 0 else f"profile{axis + 1}"] = Curve(
            {
                "torsion [°]": _numbers(np.degrees(bin_centres(bins))),
                "free energy [eV]": _numbers(profile),
                "error [eV]": _numbers(error),
            }
        )
        out, whole = barriers(profile, ways)
        quantities[f"barrier{name}"] = Quantity(
            out, "eV", out_error, "lowest way out of the deepest minimum into another one"
        )
        quantities[f"barrier of a turn{name}"] = Quantity(
            whole, "eV", whole_error, "highest point of a full turn above the deepest minimum"
        )
        if biases and dimensions == 1:
            told = _from_bias(biases, bias_factor)
            quantities["barrier of a turn, bias"] = Quantity(
                float(np.ptp(told)), "eV", None, "the same from the final bias alone"
            )
        ends = bin_centres(bins)[[ways.deepest, int(np.argmax(profile))]]
        counted = sum(crossings(wrapped(r.angles[:, axis]), ends) for r in kept)
        quantities[f"crossings{name}"] = Quantity(
            float(counted), "", None, "ways between the deepest minimum and the highest point, all replicas"
        )
        if counted < _FEW * len(kept):
            notes.append(
                f"{counted} crossings in {len(kept)} replicas{name} are few: the error is uncertain. Walk longer."
            )
        if axis == 0:
            curves["convergence"] = _convergence(replicas, temperature_K, bins, discard, ways)
            notes += _settled(curves["convergence"], quantities[f"barrier of a turn{name}"])
    if dimensions == 2:
        curves["map"] = _map(kept, temperature_K, bins // 2)
    quantities["sampling time"] = Quantity(
        sum(float(r.times[-1]) for r in replicas) / 1000.0, "ps", None, f"over {len(replicas)} replicas"
    )
    if len(replicas) == 1:
        notes.append(f"One replica only: the error is from {BLOCKS} blocks of it, which are not independent.")
    return PropertyResult("torsion_free_energy", quantities, curves, tuple(notes))


def _blocks(samples: BiasedSamples) -> list[BiasedSamples]:
    edges = np.linspace(0, len(samples), BLOCKS + 1).astype(int)
    return [samples.part(int(a), int(b)) for a, b in pairwise(edges)]


def _profile(
    kept: Sequence[BiasedSamples], temperature_K: float, bins: int, axis: int
) -> tuple[FloatArray, FloatArray, Ways, tuple[float, float]]:
    """Profile, its error per bin, the ways out of its deepest minimum, and the errors of both barriers.

    The larger of two errors: one replica left out at a time, and one block. Few replicas tell their scatter badly, and
    blocks are not quite independent.
    """
    counts = []
    for replica in kept:
        blocks = [histogram(b, temperature_K, bins, [axis]) for b in _blocks(replica)]
        total = np.sum(blocks)  # every replica counts the same, however large its c(t) has become
        counts.append([b / total for b in blocks])
    profile = free_energy(np.sum(counts, axis=(0, 1)), temperature_K)
    _require_whole(profile, axis)
    cuts = [_left_out(profile, [b for replica in counts for b in replica], temperature_K)]
    if len(kept) > 1:
        cuts.append(_left_out(profile, [np.sum(replica, axis=0) for replica in counts], temperature_K))
    error = np.fmax.reduce([jackknife_error(cut) for cut in cuts])
    ways = ways_out(profile, _prominence(error, BOLTZMANN_EV * temperature_K))
    told = []
    for cut in cuts:
        # A hole where one piece is missing: nothing is known of the barriers.
        whole = bool(np.isfinite(cut).all())
        told.append(jackknife_error(np.array([barriers(c, ways) for c in cut])) if whole else np.full(2, np.nan))
    worst = np.fmax.reduce(told)
    return profile, error, ways, (float(worst[0]), float(worst[1]))


def _prominence(error: FloatArray, kt: float) -> float:
    """What stands out less from its surroundings is no minimum or maximum: it may be chance, or k_BT crosses it."""
    return max(kt, _CHANCE * float(np.nanmedian(error)))


def _left_out(profile: FloatArray, pieces: Sequence[FloatArray], temperature_K: float) -> FloatArray:
    """(pieces, bins) profiles without one piece each, shifted onto the whole one."""
    kt = BOLTZMANN_EV * temperature_K
    likely = np.exp(-profile / kt)
    others = []
    for weights in leave_one_out(pieces):
        other = free_energy(weights, temperature_K)
        there = np.isfinite(other)
        others.append(other - np.average(other[there] - profile[there], weights=likely[there]))
    return np.array(others)


def _require_whole(profile: FloatArray, axis: int) -> None:
    empty = np.flatnonzero(~np.isfinite(profile))
    if len(empty):
        where = np.degrees(bin_centres(len(profile))[empty])
        raise ScienceError(
            f"Torsion {axis + 1} was never seen in {len(empty)} of {len(profile)} bins, first at {where[0]:.0f}°: it "
            "has not gone around in all this time.",
            todo="Walk longer (`steps:`; what is done is not done again), or raise `height:` or `bias_factor:`.",
        )


def _from_bias(biases: Sequence[FloatArray], bias_factor: float) -> FloatArray:
    """Mean over the replicas of −γ/(γ − 1) V, each place once."""
    mean = np.mean([-bias_factor / (bias_factor - 1.0) * (b - b.max()) for b in biases], axis=0)
    found: FloatArray = mean[:-1] - mean.min()
    return found


def _convergence(
    replicas: Sequence[BiasedSamples], temperature_K: float, bins: int, discard: float, ways: Ways
) -> Curve:
    """Both barriers from the first part of each replica alone; None while the profile has holes."""
    columns: dict[str, list[float | None]] = {
        "time per replica [ps]": [], "barrier [eV]": [], "barrier of a turn [eV]": []
    }  # fmt: skip
    for share in _FRACTIONS:
        parts = [r.part(0, round(share * len(r))).after(discard) for r in replicas]
        profile = free_energy(_added(parts, temperature_K, bins, [0]), temperature_K)
        found = barriers(profile, ways) if np.isfinite(profile).all() else (None, None)
        columns["time per replica [ps]"].append(share * float(np.mean([r.times[-1] for r in replicas])) / 1000.0)
        columns["barrier [eV]"].append(found[0])
        columns["barrier of a turn [eV]"].append(found[1])
    return Curve({k: tuple(v) for k, v in columns.items()})


def _settled(curve: Curve, barrier: Quantity) -> list[str]:
    """Whether the second half of the time has changed the barrier by more than its error explains."""
    told = curve.columns["barrier of a turn [eV]"]
    half = told[_FRACTIONS.index(0.5)]
    limit = 3.0 * (barrier.uncertainty or 0.0)
    if half is None:
        return ["In half of the time the torsion had not gone around in all replicas: walk longer."]
    if abs(half - barrier.value) > limit:
        return [
            f"Half of the time gives a barrier of a turn of {half:.4g} eV, all of it {barrier.value:.4g} eV, more than "
            f"three errors apart: not converged; walk longer."
        ]
    return []


def _added(replicas: Sequence[BiasedSamples], temperature_K: float, bins: int, axes: Sequence[int]) -> FloatArray:
    """Histograms of all replicas, each with the same weight."""
    counts = [histogram(r, temperature_K, bins, axes) for r in replicas]
    return np.asarray(np.sum([c / c.sum() for c in counts], axis=0), dtype=np.float64)


def _map(kept: Sequence[BiasedSamples], temperature_K: float, bins: int) -> Curve:
    """Over both torsions, in half as many bins each; None where nothing was."""
    surface = free_energy(_added(kept, temperature_K, bins, [0, 1]), temperature_K)
    first, second = np.meshgrid(np.degrees(bin_centres(bins)), np.degrees(bin_centres(bins)), indexing="ij")
    return Curve(
        {
            "torsion 1 [°]": _numbers(first.ravel()),
            "torsion 2 [°]": _numbers(second.ravel()),
            "free energy [eV]": _numbers(surface.ravel()),
        }
    )


def _numbers(values: FloatArray) -> tuple[float | None, ...]:
    return tuple(float(v) if np.isfinite(v) else None for v in values)
