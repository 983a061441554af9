"""What the report shows of the calibration of novelty."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class ReliabilityView:
    """One element ("all": every element together). Shares from 0 to 1, errors in eV/Å, ``diagram`` rows (expected,
    true, bound, number of atoms); None = not defined for so few labels."""

    element: str
    n_atoms: int = 0
    n_extrapolated: int = 0
    n_unbounded: int = 0
    coverage: float | None = None
    coverage_low: float | None = None
    coverage_high: float | None = None
    mean_error: float | None = None
    mean_expected: float | None = None
    spearman: float | None = None
    spearman_low: float | None = None
    spearman_high: float | None = None
    diagram: tuple[tuple[float, float, float | None, int], ...] = ()


@dataclass(frozen=True, slots=True)
class CalibrationView:
    """A calibration judged on the test set or (``new``) on the labels that its model asked for in ``iteration``."""

    iteration: int
    new: bool = False
    confidence: float = 0.9
    structures: int = 0
    refused: str = ""
    alarms: tuple[str, ...] = ()
    elements: tuple[ReliabilityView, ...] = ()


def calibration_view(summary: Mapping[str, Any], result: Mapping[str, Any]) -> CalibrationView:
    """From the summary of a calibration task and its ``calibration.json``."""
    names = ReliabilityView.__dataclass_fields__
    rows = []
    for told in result.get("reliability", {}).values():
        known = {k: v for k, v in told.items() if k in names and k != "diagram"}
        rank = {k: v for k, v in (told.get("correlation") or {}).items() if k.startswith("spearman")}
        diagram = tuple((float(a), float(b), None if c is None else float(c), int(n)) for a, b, c, n in told["diagram"])
        rows.append(ReliabilityView(**known, **rank, diagram=diagram))
    return CalibrationView(
        iteration=int(summary["iteration"]),
        new=bool(summary["new"]),
        confidence=float(summary["confidence"]),
        structures=int(summary.get("structures", 0)),
        refused=str(summary.get("refused", "")),
        alarms=tuple(str(a) for a in summary.get("alarms", ())),
        elements=tuple(rows),
    )
