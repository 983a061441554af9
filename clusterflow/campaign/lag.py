"""How old the potential was that asked for a label, when a training learned from it."""

from __future__ import annotations

from dataclasses import dataclass

from clusterflow.state.snapshot import Snapshot


@dataclass(frozen=True, slots=True)
class Lag:
    """Of the new labels of one training: their number, and how many versions lie on average between the potential that
    walked and the newest one when the training began (0: walked with that one, as always in the synchronous loop)."""

    version: int
    labels: int
    mean: float


def model_lag(snapshot: Snapshot) -> list[Lag]:
    """One row per training after the first of a streaming campaign; empty for a synchronous one."""
    walked: dict[str, float] = {}
    number = 0
    while (chosen := snapshot.decisions.get(f"acquire/{(number := number + 1)}")) is not None:
        found = snapshot.outcomes.get(chosen["task"])
        if found is None or found.status != "done":
            continue
        versions = [snapshot.decisions[f"walk/{n}"]["version"] for n in chosen["walks"]]
        for told in found.summary["fragments"]:
            walked.setdefault(told["label_key"], sum(versions) / len(versions))
    rows, version = [], 0
    while walked and (split := snapshot.decisions.get(f"split/{(version := version + 1)}")) is not None:
        lags = [version - 1 - walked[k] for k in (*split["train"], *split["validation"]) if k in walked]
        if lags:
            rows.append(Lag(version, len(lags), sum(lags) / len(lags)))
    return rows


def mean_lag(rows: list[Lag]) -> float | None:
    """Over all labels; None: there are none."""
    total = sum(r.labels for r in rows)
    return sum(r.mean * r.labels for r in rows) / total if total else None
