"""What every property gives: named quantities with unit and uncertainty, curves, notes, and where it all came from.

A property is a module with plain functions: independent pieces of work, a reduction, and ``compute(atoms, potential,
…)`` that does both in one process. A property run spreads the same pieces over workers and calls the same reduction.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Quantity:
    """A number with its ``unit`` ("" for none); ``uncertainty`` in the same unit, None where none is known."""

    value: float
    unit: str
    uncertainty: float | None = None
    meaning: str = ""


@dataclass(frozen=True, slots=True)
class Curve:
    """Columns of equal length, name with unit in brackets → numbers; the first is the abscissa."""

    columns: Mapping[str, tuple[float | None, ...]]


@dataclass(frozen=True, slots=True)
class PropertyResult:
    """One property of one structure. ``notes``: what the reader must know before using the numbers. ``wanted``: which
    runs would help, as its plan names them; empty if it is converged, or no run would."""

    kind: str
    quantities: Mapping[str, Quantity]
    curves: Mapping[str, Curve] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    provenance: Mapping[str, Any] = field(default_factory=dict)
    wanted: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """JSON data."""
        return {
            "kind": self.kind,
            "quantities": {name: asdict(q) for name, q in self.quantities.items()},
            "curves": {name: {k: list(v) for k, v in c.columns.items()} for name, c in self.curves.items()},
            "notes": list(self.notes),
            "provenance": dict(self.provenance),
            **({"wanted": list(self.wanted)} if self.wanted else {}),
        }


def result_from_json(data: Mapping[str, Any]) -> PropertyResult:
    """The inverse of `PropertyResult.to_json`."""
    return PropertyResult(
        kind=data["kind"],
        quantities={name: Quantity(**q) for name, q in data["quantities"].items()},
        curves={name: Curve({k: tuple(v) for k, v in c.items()}) for name, c in data["curves"].items()},
        notes=tuple(data["notes"]),
        provenance=data["provenance"],
        wanted=tuple(data.get("wanted", ())),
    )
