"""The weights of a linear model: normal equations summed over frames, then ridge regression; validation chooses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from ase import Atoms
from scipy.linalg import LinAlgError, cho_factor, cho_solve

from clusterflow.core.data import FloatArray
from clusterflow.errors import TrainError
from clusterflow.train import core_mask, dataset
from clusterflow.train.linear_basis import VOIGT, Basis, densities, design
from clusterflow.train.linear_config import LinearModelSettings, LinearTrainingSettings
from clusterflow.train.linear_pairs import degree_slices, find_pairs
from clusterflow.train.repulsion import repulsion

_WORSE = 3
"""Strengths beyond the best one that are tried before the search ends."""


@dataclass(frozen=True, slots=True)
class NormalEquations:
    """Weighted least squares of a set of frames: loss(w) = w·A·w − 2 b·w + c, the mean square errors of energies,
    forces and virials times their weights, eV²/Å². ``rows``: so many numbers were fitted."""

    matrix: FloatArray
    vector: FloatArray
    constant: float
    rows: int

    def loss(self, weights: FloatArray) -> float:
        """Never below zero, which rounding could make it."""
        return max(0.0, float(weights @ (self.matrix @ weights - 2.0 * self.vector) + self.constant))


@dataclass(frozen=True, slots=True)
class Fit:
    """Weights, and for each strength that was tried {regularisation, train_loss, val_loss} (unit: eV²/Å²)."""

    weights: FloatArray
    regularisation: float
    tried: list[dict[str, float]]


def normal_equations(
    frames: Sequence[Atoms],
    basis: Basis,
    elements: Sequence[str],
    offsets: FloatArray,
    settings: LinearTrainingSettings,
) -> NormalEquations:
    """Of labelled frames; forces that are NaN do not count, nor do virials of frames without a stress.

    ``offsets`` (elements,) eV are taken off the energies first, and the repulsion off all labels.
    """
    n_forces = sum(int(np.isfinite(dataset.labels(a)[1]).sum()) for a in frames)
    n_virials = 6 * sum(_virial(a) is not None for a in frames)
    size = basis.n_weights
    matrix, vector, constant, rows = np.zeros((size, size)), np.zeros(size), 0.0, 0
    for atoms in frames:
        energy, forces = dataset.labels(atoms)
        virial = _virial(atoms)
        pairs = find_pairs(atoms, elements, basis.settings.cutoff)
        on_energy, on_forces, on_virial = design(basis, pairs)
        energy -= float(offsets[pairs.types].sum())
        if basis.settings.repulsion:
            base = repulsion(atoms.numbers, pairs)
            energy, forces = energy - base.energy, forces - base.forces
            virial = None if virial is None else virial - base.virial
        worth = core_mask.certificate_weights(atoms) if settings.certificate_weights else np.ones(len(atoms))
        known = np.isfinite(forces)
        parts: list[tuple[FloatArray, FloatArray, FloatArray | float]] = [
            (on_energy[None] / len(atoms), np.array([energy / len(atoms)]), settings.energy_weight / len(frames))
        ]
        share: FloatArray = np.broadcast_to(worth[:, None], forces.shape)[known]
        if n_forces:
            parts.append((on_forces[known], forces[known], settings.force_weight / n_forces * share))
        if virial is not None:
            each = settings.stress_weight / n_virials
            parts.append((on_virial / len(atoms), np.array([virial[x, y] for x, y in VOIGT]) / len(atoms), each))
        for rows_of, targets, weight in parts:
            scale = np.sqrt(np.broadcast_to(weight, targets.shape))
            x, y = rows_of * scale[:, None], targets * scale
            matrix += x.T @ x
            vector += x.T @ y
            constant += float(y @ y)
            rows += len(y)
    return NormalEquations(matrix, vector, constant, rows)


def _virial(atoms: Atoms) -> FloatArray | None:
    """dE/d(strain) (3, 3) in eV of the label of a fully periodic frame that has a stress."""
    stress = atoms.calc.results.get("stress") if atoms.calc is not None else None
    if stress is None or not atoms.pbc.all() or not np.isfinite(stress).all():
        return None
    voigt = np.asarray(stress, dtype=np.float64)
    full = voigt if voigt.shape == (3, 3) else voigt[[[0, 5, 4], [5, 1, 3], [4, 3, 2]]]
    return np.asarray(full * abs(atoms.cell.volume))


def solve(
    train: NormalEquations, validation: NormalEquations, settings: LinearTrainingSettings, *, centre: FloatArray | None
) -> Fit:
    """Ridge regression: the weights are pulled to ``centre`` (None: zero), the more the larger the regularisation.

    The functions keep their natural sizes, so that those which vary most in the training environments are used first:
    with every function scaled to the same size the errors on frames unlike the training ones were up to three times as
    large.

    Raises
    ------
    TrainError
        The equations cannot be solved (labels or positions that are not finite).
    """
    start = np.zeros(len(train.vector)) if centre is None else centre
    constants = train.constant, validation.constant
    largest = float(np.diag(train.matrix).max())
    target = train.vector - train.matrix @ start
    if not (all(np.isfinite(a).all() for a in (train.matrix, target, constants)) and largest > 0):
        raise TrainError(
            f"The equations of the fit are not finite, or all zero (largest element {largest:g}, mean square labels "
            f"{constants[0]:g} and {constants[1]:g} eV²/Å²).",
            todo="Look for labels that are far too large, and for frames of atoms without neighbours.",
        )
    best: Fit | None = None
    tried: list[dict[str, float]] = []
    for strength in _strengths(settings, warm=centre is not None):
        damped = train.matrix.copy()
        damped[np.diag_indices_from(damped)] += strength * largest
        try:
            weights = start + cho_solve(cho_factor(damped, lower=True, overwrite_a=True), target)
        except LinAlgError:
            break  # weaker ones are worse conditioned still
        losses = {"regularisation": strength, "train_loss": train.loss(weights), "val_loss": validation.loss(weights)}
        tried.append(losses)
        if best is None or losses["val_loss"] < min(t["val_loss"] for t in tried[:-1]):
            best = Fit(weights, strength, tried)
        elif len(tried) - 1 - _index_of_best(tried) >= _WORSE:
            break
    if best is None:
        raise TrainError(
            f"With the regularisation {settings.regularisation} the equations of the fit cannot be solved "
            f"({train.rows} numbers for {len(target)} weights).",
            todo="Leave `regularisation` out, so that validation chooses it.",
        )
    return best


def _index_of_best(tried: Sequence[dict[str, float]]) -> int:
    return int(np.argmin([t["val_loss"] for t in tried]))


def _strengths(settings: LinearTrainingSettings, *, warm: bool) -> Sequence[float]:
    """From strong to weak; for a warm start the strongest changes nothing that matters."""
    if settings.regularisation is not None:
        return [settings.regularisation]
    weakest = -settings.decades
    first = 4 if warm else 0
    return [10.0**k for k in range(first, weakest - 1, -1)]


def choose_channels(
    frames: Sequence[Atoms], elements: Sequence[str], settings: LinearModelSettings, *, rng: np.random.Generator
) -> FloatArray:
    """(elements, l, elements · density, q): the combinations of radial channels with the largest mean square over the
    atoms of each element."""
    n_e, n_l, width = len(elements), settings.l_max + 1, len(elements) * settings.density
    every = np.broadcast_to(np.eye(width), (n_e, n_l, width, width)).copy()
    full = Basis(settings, n_e, every)
    if settings.channels is None or settings.channels >= width:
        return every
    covariance = np.zeros((n_e, n_l, width, width))
    for atoms in frames:
        pairs = find_pairs(atoms, elements, settings.cutoff)
        c = densities(full, pairs).coefficients
        for element in range(n_e):
            own = c[pairs.types == element]
            for degree, where in enumerate(degree_slices(settings.l_max)):
                covariance[element, degree] += np.einsum("kqm,kpm->qp", own[:, :, where], own[:, :, where])
    out = np.empty((n_e, n_l, width, settings.channels))
    for element in range(n_e):
        for degree in range(n_l):
            out[element, degree] = _principal(covariance[element, degree], settings.channels, rng)
    return out


def _principal(covariance: FloatArray, count: int, rng: np.random.Generator) -> FloatArray:
    """(width, count) leading directions; random ones where there is nothing (an element without data)."""
    values, vectors = np.linalg.eigh(covariance)
    vectors = vectors[:, ::-1][:, :count]
    empty = values[::-1][:count] <= 1e-12 * max(float(values[-1]), 1e-300)
    if empty.any():
        kept = vectors[:, ~empty]
        more = rng.normal(size=(len(covariance), int(empty.sum())))
        more -= kept @ (kept.T @ more)
        vectors = np.concatenate([kept, np.linalg.qr(more)[0]], axis=1)
    sign = np.sign(vectors[np.argmax(np.abs(vectors), axis=0), np.arange(vectors.shape[1])])
    return np.asarray(vectors * sign, dtype=np.float64)


__all__ = ["Fit", "NormalEquations", "choose_channels", "normal_equations", "solve"]
