"""What the journal says about the calibration of novelty: one row per judgement, and the alarms that stand."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from clusterflow.score.calibration import structures_needed
from clusterflow.state.snapshot import Snapshot


@dataclass(frozen=True, slots=True)
class CalibrationRow:
    """One calibration, judged on the test set or (``new``) on the labels that its model asked for in ``iteration``.

    ``coverage``: share of force errors within their bounds of ``confidence``; errors in eV/Å; ``structures`` it was
    calibrated on; ``refused``: why there is none. None: not defined for so few labels. ``key`` of its result.
    """

    key: str
    iteration: int
    new: bool
    confidence: float
    structures: int = 0
    coverage: float | None = None
    spearman: float | None = None
    mean_error: float | None = None
    mean_expected: float | None = None
    refused: str = ""
    alarms: tuple[str, ...] = ()


def calibration_rows(snapshot: Snapshot) -> list[CalibrationRow]:
    """The latest judgement of each iteration on each kind of labels, in order; none in older campaigns."""
    rows: dict[tuple[int, bool], CalibrationRow] = {}
    for key, outcome in snapshot.outcomes.items():
        if outcome.kind == "calibrate" and outcome.status == "done" and "iteration" in outcome.summary:
            row = _row(key, outcome.summary)
            rows[row.iteration, row.new] = row
    return [rows[name] for name in sorted(rows)]


def _row(key: str, told: Mapping[str, Any]) -> CalibrationRow:
    known = {k: v for k, v in told.items() if k in CalibrationRow.__dataclass_fields__}
    return CalibrationRow(**{**known, "key": key, "alarms": tuple(told.get("alarms", ()))})


def standing_alarms(snapshot: Snapshot) -> list[str]:
    """Sentences of the newest judgements: earlier alarms were about potentials that nobody uses any more."""
    rows = calibration_rows(snapshot)
    newest = {row.new: row for row in rows}
    return [f"iteration {r.iteration}, {place_of(r)}: {text}" for r in newest.values() for text in r.alarms]


def place_of(row: CalibrationRow) -> str:
    """What it was judged on, in words."""
    return "new labels" if row.new else "test set"


def noise_statement(snapshot: Snapshot) -> str:
    """Where the newest model stands against the noise of its labels; "" where that is not known."""
    evaluated = [v for name, v in snapshot.decisions.items() if name.startswith("evaluated/")]
    found = snapshot.outcomes.get(str(evaluated[-1]["evaluation"])) if evaluated else None
    if found is None or "noise_floor" not in found.summary:
        return ""
    rmse, floor = float(found.summary["rmse"]), float(found.summary["noise_floor"])
    own = math.sqrt(max(rmse**2 - floor**2, 0.0))
    told = (
        f"test force RMSE {rmse:.1f} meV/Å, of which {floor:.1f} is noise of the labels and {own:.1f} the potential's"
    )
    verdict = (
        "as good as its labels; more training is of no use" if found.summary["at_noise_floor"] else "above the noise"
    )
    return f"{told}: {verdict}"


def calibration_text(told: Mapping[str, Any]) -> str:
    """One line of a calibration's summary, for logs."""
    where = "new labels" if told.get("new") else "test set"
    if not told or told.get("refused"):
        return f"not calibrated: {told.get('refused', '')}".strip(": ")
    alarms = "".join(f"; WARNING: {text}" for text in told["alarms"])
    covered = told.get("coverage")
    if covered is None:
        needed = structures_needed(told["confidence"])
        had = f"{told['structures']} independent structures"
        return f"calibrated on {had}; no {told['confidence']:.0%} bounds yet, they take {needed}{alarms}"
    return f"{told['confidence']:.0%} bounds hold for {covered:.0%} of the atoms of the {where}{alarms}"
