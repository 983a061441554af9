"""What several stages need of a trained model: the potential, the novelty fitted to it, and which atoms count."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
from ase import Atoms

from clusterflow.core import keys
from clusterflow.core.data import BoolArray, FloatArray, Prediction
from clusterflow.execution.workplace import Workplace
from clusterflow.score.extrapolation import TrainedRange, extrapolation, trained_ranges


def potential_of(key: str, place: Workplace) -> Any:
    """The potential that a training has published."""
    from clusterflow.train.learners import load_potential

    return load_potential(place.result("train", key) / "model", threads=place.threads)


def novelty_of(key: str, potential: Any, place: Workplace) -> Any:
    """The novelty that was fitted to the features of this potential."""
    from clusterflow.score.committee import CommitteeDisagreement
    from clusterflow.score.kinds import novelty_from_json

    data = json.loads((place.result("novelty", key) / "density.json").read_text(encoding="utf-8"))
    if data.get("kind") == "committee":  # with this potential as its first member
        others = [potential_of(k, place) for k in data["members"][1:]]
        return CommitteeDisagreement.from_json(data, [potential, *others])
    return novelty_from_json(data, potential)


def predicted_and_scored(atoms: Atoms, potential: Any, novelty: Any) -> tuple[Prediction, FloatArray]:
    """Prediction and novelty (n,) of a frame. Where the potential gives its features with the forces, and the novelty
    takes them, one call does both."""
    if hasattr(potential, "predict_with_features") and hasattr(novelty, "score_features"):
        prediction, features = potential.predict_with_features(atoms)
        return prediction, novelty.score_features(features, atoms.get_chemical_symbols())
    return potential.predict([atoms])[0], novelty.score(atoms)


def write_ranges(
    place: Workplace, features: Sequence[FloatArray], frames: Sequence[Atoms], counts: Sequence[BoolArray]
) -> None:
    """Publishes what the features of the training atoms that ``counts`` span, per element."""
    x, which = np.concatenate(features), np.concatenate(counts)
    symbols = np.concatenate([a.get_chemical_symbols() for a in frames])
    found = trained_ranges({str(e): x[which & (symbols == e)] for e in np.unique(symbols)})
    text = json.dumps({e: r.to_json() for e, r in found.items()})
    (place.out / "ranges.json").write_text(text, encoding="utf-8")


def outside_of(key: str, features: FloatArray, atoms: Atoms, place: Workplace) -> BoolArray:
    """Which atoms (n,) lie outside the features that were trained on; none where the fit is of an older version."""
    file = place.folder.result("novelty", key) / "ranges.json"
    if not file.is_file():
        return np.zeros(len(atoms), dtype=bool)
    ranges = {e: TrainedRange.from_json(r) for e, r in json.loads(file.read_text(encoding="utf-8")).items()}
    return extrapolation(ranges, features, atoms.get_chemical_symbols()).outside


def core_of(atoms: Atoms, *, core_only: bool) -> BoolArray:
    """Which atoms count: all, or those of the core where only their forces are trained on."""
    region = atoms.arrays.get(keys.REGION)
    if not core_only or region is None:
        return np.ones(len(atoms), dtype=bool)
    return np.asarray(region.astype(str) == "core")


def scores_of(density: Any, frames: Sequence[Atoms], features: Sequence[FloatArray]) -> list[FloatArray]:
    """Novelty of all atoms; features that are there are not computed again."""
    if not hasattr(density, "score_features"):
        return [density.score(a) for a in frames]
    return [density.score_features(f, a.get_chemical_symbols()) for f, a in zip(features, frames, strict=True)]
