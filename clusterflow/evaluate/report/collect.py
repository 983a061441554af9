"""Builds the bigger parts of a report from frames, predictions and arrays. Pure; thinning is deterministic."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from ase import Atoms
from numpy.typing import ArrayLike, NDArray

from clusterflow.core import keys
from clusterflow.core.data import FloatArray, IntArray, Prediction
from clusterflow.evaluate.metrics import reference_energy, reference_forces
from clusterflow.evaluate.report.data import FeatureMap, Histogram, NoveltyHistograms, Pairs, Parity

MAX_POINTS = 2000
"""Points per scatter plot that are kept."""
_NO_SYSTEM = "all frames"
_Points = tuple[tuple[float, float], ...]
_Atoms = tuple[tuple[int, int], ...]


def thinned(n: int, limit: int, seed: int = 0) -> IntArray:
    """At most ``limit`` of the indices 0 … n − 1, rising, equal for equal arguments."""
    if n <= limit:
        return np.arange(n)
    return np.sort(np.random.default_rng(seed).choice(n, limit, replace=False))


def rounded(values: ArrayLike, decimals: int) -> tuple[float, ...]:
    return tuple(float(v) for v in np.round(np.asarray(values, dtype=np.float64), decimals))


def _pairs(reference: FloatArray, predicted: FloatArray, limit: int, decimals: int) -> Pairs:
    known = np.isfinite(reference) & np.isfinite(predicted)
    reference, predicted = reference[known], predicted[known]
    index = thinned(len(reference), limit)
    return Pairs(rounded(reference[index], decimals), rounded(predicted[index], decimals))


def parity(frames: Sequence[Atoms], predictions: Sequence[Prediction], *, max_points: int = MAX_POINTS) -> Parity:
    """As `parity_of`, from labelled ``frames``; their systems come from the info entry `keys.SYSTEM`."""
    if not frames:
        return Parity()
    return parity_of(
        {
            "numbers": np.concatenate([a.numbers for a in frames]),
            "reference": np.concatenate([reference_forces(a) for a in frames]),
            "predicted": np.concatenate([np.asarray(p.forces, dtype=np.float64) for p in predictions]),
            "n_atoms": np.array([len(a) for a in frames]),
            "energy_reference": np.array([reference_energy(a) for a in frames]),
            "energy_predicted": np.array([p.energy for p in predictions]),
            "system": np.array([str(a.info.get(keys.SYSTEM, "")) for a in frames]),
        },
        max_points=max_points,
    )


def parity_of(arrays: Mapping[str, NDArray[Any]], *, max_points: int = MAX_POINTS) -> Parity:
    """Forces per element and energies per system, thinned to ``max_points`` values each; NaN (no label) is left out.

    Energies are per atom and relative to the mean reference of the frames of the same composition (one zero for
    reference and model, so an offset of the model stays).

    ``arrays``: per atom of all m frames together ``numbers`` (n,), ``reference`` and ``predicted`` forces (n, 3) in
    eV/Å; per frame ``n_atoms``, ``energy_reference`` and ``energy_predicted`` (m,) in eV, and optionally ``system``
    (m,) str. Others are ignored.
    """
    from ase.data import chemical_symbols

    numbers = np.asarray(arrays["numbers"])
    reference = np.asarray(arrays["reference"], dtype=np.float64)
    predicted = np.asarray(arrays["predicted"], dtype=np.float64)
    n_atoms = np.asarray(arrays["n_atoms"])
    energy = np.asarray(arrays["energy_reference"], dtype=np.float64) / n_atoms
    model = np.asarray(arrays["energy_predicted"], dtype=np.float64) / n_atoms
    # Energies per atom of different compositions lie electronvolts apart, errors are a thousand times smaller.
    zero = _composition_means(numbers, n_atoms, energy)
    energy, model = energy - zero, model - zero
    system = np.asarray([str(s) or _NO_SYSTEM for s in arrays.get("system", np.full(len(n_atoms), ""))])
    forces = {
        chemical_symbols[int(z)]: _pairs(
            reference[numbers == z].ravel(), predicted[numbers == z].ravel(), max_points, 4
        )
        for z in np.unique(numbers)
    }
    energies = {str(s): _pairs(energy[system == s], model[system == s], max_points, 6) for s in np.unique(system)}
    return Parity(
        forces={e: p for e, p in forces.items() if p.reference},
        energies={s: p for s, p in energies.items() if p.reference},
        n_components=int(np.isfinite(reference).sum()),
        n_energies=int(np.isfinite(energy).sum()),
    )


def _composition_means(numbers: NDArray[Any], n_atoms: NDArray[Any], energy: FloatArray) -> FloatArray:
    """Per frame (m,) the mean labelled energy of all frames with the same composition; 0 where there is none."""
    pieces = np.split(numbers, np.cumsum(n_atoms)[:-1])
    composition = np.array([" ".join(map(str, np.sort(p))) for p in pieces])
    out = np.zeros(len(energy))
    for name in np.unique(composition):
        mine = composition == name
        labelled = energy[mine & np.isfinite(energy)]
        out[mine] = labelled.mean() if labelled.size else 0.0
    return out


def novelty_histograms(
    iteration: int, element: str, training: ArrayLike, explored: ArrayLike, *, bins: int = 40, unit: str = "nats"
) -> NoveltyHistograms:
    """Histograms of one element over common edges. The range is that of the training atoms, extended by up to four
    times its own width towards novelty; what lies beyond is counted as ``above``, infinities apart."""
    known, new = np.asarray(training, dtype=np.float64).ravel(), np.asarray(explored, dtype=np.float64).ravel()
    finite = np.concatenate([known[np.isfinite(known)], new[np.isfinite(new)]])
    if finite.size == 0:
        edges = np.array([0.0, 1.0])
    else:
        base = known[np.isfinite(known)] if np.isfinite(known).any() else finite
        low, high = float(finite.min()), float(finite.max())
        width = max(float(base.max() - base.min()), 1.0)
        low, high = max(low, float(base.min()) - 4.0 * width), min(high, float(base.max()) + 4.0 * width)
        edges = np.linspace(low, high if high > low else low + 1.0, bins + 1)
    return NoveltyHistograms(
        iteration=iteration,
        element=element,
        training=_histogram(known, edges) if known.size else None,
        explored=_histogram(new, edges) if new.size else None,
        unit=unit,
    )


def _histogram(values: FloatArray, edges: FloatArray) -> Histogram:
    finite = values[np.isfinite(values)]
    inside = np.clip(finite[finite <= edges[-1]], edges[0], None)  # what lies below the range is well known: first bin
    return Histogram(
        edges=rounded(edges, 4),
        counts=tuple(int(c) for c in np.histogram(inside, bins=edges)[0]),
        above=int((finite > edges[-1]).sum()),
        infinite=int(np.isposinf(values).sum()),
    )


def feature_map(
    iteration: int,
    element: str,
    training: FloatArray,
    explored: FloatArray,
    selected: FloatArray,
    *,
    bins: int | None = None,
    max_points: int = MAX_POINTS,
    components: int | None = None,
    bic: Mapping[int, float] | None = None,
    explored_atoms: IntArray | None = None,
    selected_atoms: IntArray | None = None,
) -> FeatureMap:
    """Features (n, d) of one element on the first two principal axes of its standardised ``training`` features.

    With one feature the second axis is zero. ``explored`` and ``selected`` may be empty, ``training`` may not.
    ``bins`` per axis of the density; None = more for more atoms. ``explored_atoms`` and ``selected_atoms`` (n, 2) say
    which atom of which drawn structure each is, (−1, −1) for none; drawn ones are thinned out last.
    """
    x = np.asarray(training, dtype=np.float64)
    mean, scale = x.mean(axis=0), x.std(axis=0)
    scale = np.where(scale > 1e-6 * max(float(np.abs(x).max()), 1e-30), scale, 1.0)
    z = (x - mean) / scale
    variances, vectors = np.linalg.eigh(z.T @ z / len(z))
    axes = vectors[:, ::-1][:, :2]
    axes = axes * np.where(axes[np.abs(axes).argmax(axis=0), np.arange(axes.shape[1])] < 0, -1.0, 1.0)
    if axes.shape[1] < 2:
        axes = np.hstack([axes, np.zeros((len(axes), 1))])
    points = z @ axes
    low, high = points.min(axis=0), points.max(axis=0)
    high = np.where(high - low > 1e-9, high, low + 1.0)
    cells = bins if bins is not None else int(np.clip(np.sqrt(len(points)), 8, 36))
    x_edges, y_edges = (np.linspace(a, b, cells + 1) for a, b in zip(low, high, strict=True))
    counts = np.histogram2d(points[:, 0], points[:, 1], bins=[x_edges, y_edges])[0]
    total = float(variances.sum())

    def project(values: FloatArray, atoms: IntArray | None) -> tuple[_Points, _Atoms]:
        if not len(values):
            return (), ()
        which = np.full((len(values), 2), -1) if atoms is None else np.asarray(atoms)
        drawn = np.flatnonzero(which[:, 0] >= 0)[:max_points]
        others = np.setdiff1d(np.arange(len(values)), drawn)
        kept = np.sort(np.concatenate((drawn, others[thinned(len(others), max_points - len(drawn))])))
        points = ((np.asarray(values, dtype=np.float64)[kept] - mean) / scale) @ axes
        return (
            tuple((round(float(a), 3), round(float(b), 3)) for a, b in points),
            tuple((int(s), int(a)) for s, a in which[kept]),
        )

    (seen, seen_atoms), (chosen, chosen_atoms) = project(explored, explored_atoms), project(selected, selected_atoms)
    return FeatureMap(
        iteration=iteration,
        element=element,
        x_edges=rounded(x_edges, 4),
        y_edges=rounded(y_edges, 4),
        density=tuple(tuple(int(c) for c in row) for row in counts.T),
        explored=seen,
        selected=chosen,
        explored_atoms=seen_atoms,
        selected_atoms=chosen_atoms,
        explained=rounded(variances[::-1][:2] / total, 4) if total > 0 else (),
        components=components,
        bic={str(k): float(v) for k, v in (bic or {}).items()},
    )
