"""Per-atom features, checked and sorted by element: what every kind of novelty is fitted to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from ase import Atoms

from clusterflow.core.data import BoolArray, FloatArray, IntArray
from clusterflow.core.protocols import Featurizer
from clusterflow.errors import ScienceError


def features_of(featurizer: Featurizer, atoms: Atoms) -> FloatArray:
    """Features (n, d) of one frame.

    Raises
    ------
    ScienceError
        The featurizer returns another shape.
    """
    x = np.asarray(featurizer.features(atoms), dtype=np.float64)
    if x.ndim != 2 or len(x) != len(atoms):
        raise ScienceError(
            f"The featurizer gave an array of shape {x.shape} for {len(atoms)} atoms.",
            where=str(atoms.get_chemical_formula()),
            todo="A featurizer returns (number of atoms, number of features).",
        )
    return x


def features_by_element(
    featurizer: Featurizer, frames: Sequence[Atoms], atoms: Sequence[BoolArray] | None = None
) -> dict[str, FloatArray]:
    """Element → features (n, d) of all its atoms in the frames, or of those that ``atoms`` (n,) says count.

    Raises
    ------
    ScienceError
        No frames, or features that are not finite.
    """
    if not frames:
        raise ScienceError("There is no frame to fit the novelty to.", todo="Give the training frames.")
    rows: dict[str, list[FloatArray]] = {}
    chosen = atoms if atoms is not None else [np.ones(len(a), dtype=bool) for a in frames]
    for frame, counts in zip(frames, chosen, strict=True):
        x = features_of(featurizer, frame)
        for element, index in indices_by_element(frame.get_chemical_symbols()):
            rows.setdefault(element, []).append(x[index[counts[index]]])
    return {e: checked(np.concatenate(parts), e) for e, parts in sorted(rows.items()) if sum(map(len, parts))}


def indices_by_element(symbols: Sequence[str]) -> list[tuple[str, IntArray]]:
    """Each element with the indices of its atoms."""
    names = np.asarray(symbols)
    return [(str(e), np.flatnonzero(names == e)) for e in np.unique(names)]


def checked(features: FloatArray, element: str) -> FloatArray:
    """As float64.

    Raises
    ------
    ScienceError
        Not two-dimensional, or values that are NaN or infinite.
    """
    x = np.asarray(features, dtype=np.float64)
    if x.ndim != 2:
        raise ScienceError(f"Features of {element} have the shape {x.shape}.", todo="Give an array (n, n_features).")
    bad = ~np.isfinite(x).all(axis=1)
    if bad.any():
        raise ScienceError(
            f"{int(bad.sum())} of {len(x)} {element} atoms have features that are NaN or infinite.",
            todo="The model has diverged, or a frame has atoms on top of each other: check both.",
        )
    return x


def scores_by_element(fitted: Mapping[str, Any] | None, features: FloatArray, symbols: Sequence[str]) -> FloatArray:
    """Scores (n,) by the ``score`` of each element's record; +inf for an element that has none.

    Raises
    ------
    ScienceError
        Before a fit.
    """
    if fitted is None:
        raise ScienceError("The novelty has not been fitted.", todo="Use what `fit(frames)` returns.")
    out = np.full(len(features), np.inf)
    for element, index in indices_by_element(symbols):
        if element in fitted:
            out[index] = fitted[element].score(features[index])
    return out
