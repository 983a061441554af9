"""The stage that turns novelty into force errors: calibrated on the validation split, judged on other labels."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clusterflow.core.data import FloatArray, IntArray
from clusterflow.errors import ScienceError
from clusterflow.execution.scoring import core_of, novelty_of, potential_of, predicted_and_scored
from clusterflow.execution.workplace import Workplace
from clusterflow.score.independence import independent_groups


@dataclass(frozen=True, slots=True)
class _Scored:
    """Novelty, force error (eV/Å, NaN for atoms that do not count), element of each atom, and which ``group`` of atoms
    that depend on each other it belongs to."""

    novelty: FloatArray
    error: FloatArray
    elements: NDArray[np.str_]
    group: IntArray


def calibrate(payload: Mapping[str, Any], place: Workplace) -> dict[str, Any]:
    """Calibrates novelty on the validation split and judges it on other labels: the test set, or new ones.

    Too few labels are no failure: the summary then says in ``refused`` what it takes.
    """
    from clusterflow.score.calibration import calibrate as fit
    from clusterflow.score.correlation import ALL
    from clusterflow.score.reliability import alarms, assess, texts

    potential = potential_of(payload["model"], place)
    novelty = novelty_of(payload["mixture"], potential, place)
    held = _scored(payload["validation"], potential, novelty, place, core_only=payload["core_only"])
    told: dict[str, Any] = {k: payload[k] for k in ("iteration", "new", "confidence")}
    try:
        calibration = fit(
            held.novelty,
            held.error,
            held.elements,
            held.group,
            levels=_levels(payload["mixture"], place),
            unit=novelty.unit,
            confidence=payload["confidence"],
        )
    except ScienceError as error:
        _write(place, {"calibration": None, "reliability": {}, "alarms": [], "refused": str(error.what)})
        return {**told, "refused": f"{error.what} {error.todo}", "alarms": []}
    other = _scored(payload["labels"], potential, novelty, place, core_only=payload["core_only"])
    found = assess(calibration, other.novelty, other.error, other.elements, other.group)
    raised = alarms(found, confidence=calibration.confidence, ranks=payload["new"])
    _write(
        place,
        {
            "calibration": calibration.to_json(),
            "reliability": {e: r.to_json() for e, r in found.items()},
            "alarms": [a.to_json() for a in raised],
            "refused": "",
        },
    )
    general = found.get(ALL)
    rank = general.correlation if general is not None else None
    return {
        **told,
        "refused": "",
        "structures": calibration.pooled.n_groups,
        "coverage": general.coverage if general is not None else None,
        "spearman": rank.spearman if rank is not None else None,
        "mean_error": general.mean_error if general is not None else None,
        "mean_expected": general.mean_expected if general is not None else None,
        "alarms": texts(raised),
    }


def _scored(labels: Sequence[str], potential: Any, novelty: Any, place: Workplace, *, core_only: bool) -> _Scored:
    """Labelled frames under the potential."""
    from clusterflow.score.correlation import force_error_norms

    parts = []
    frames = place.labelled(labels)
    for number, atoms in zip(independent_groups(frames), frames, strict=True):
        prediction, scores = predicted_and_scored(atoms, potential, novelty)
        symbols = np.asarray(atoms.get_chemical_symbols())
        error = np.where(core_of(atoms, core_only=core_only), force_error_norms(atoms, prediction), np.nan)
        parts.append((scores, error, symbols, np.full(len(atoms), number)))
    x, y, names, group = (np.concatenate([p[i] for p in parts]) if parts else np.empty(0) for i in range(4))
    return _Scored(x, y, names.astype(np.str_), group.astype(np.int64))


def _levels(mixture: str, place: Workplace) -> dict[str, float]:
    """Median novelty of each element's training atoms."""
    from ase.data import chemical_symbols

    with np.load(place.result("novelty", mixture) / "training.npz", allow_pickle=False) as known:
        numbers, values = known["numbers"], known["novelty"]
    medians = {str(chemical_symbols[z]): float(np.median(values[numbers == z])) for z in np.unique(numbers)}
    return {e: v for e, v in medians.items() if np.isfinite(v)}


def _write(place: Workplace, data: Mapping[str, Any]) -> None:
    (place.out / "calibration.json").write_text(json.dumps(data, allow_nan=False), encoding="utf-8")
