"""A campaign seen from outside, from its journal alone: for `clusterflow status`, the live view and the report."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any

from clusterflow.campaign.calibrations import noise_statement, standing_alarms
from clusterflow.campaign.lag import mean_lag, model_lag
from clusterflow.campaign.timeline import LaneUse, lane_use
from clusterflow.state.fragments import SOURCES
from clusterflow.state.queue_waits import QueueWait
from clusterflow.state.snapshot import Outcome, Snapshot

_RECENT = 20
STAGES = ("start", "label", "train", "novelty", "evaluate", "calibrate", "explore", "acquire", "export")


@dataclass(slots=True)
class StageCount:
    """Tasks of one kind: open (waiting for a worker or running), ended well, failed for good; seconds spent."""

    open: int = 0
    done: int = 0
    failed: int = 0
    cached: int = 0
    wall_seconds: float = 0.0
    core_seconds: float = 0.0
    peak_memory_MB: float = 0.0


@dataclass(slots=True)
class ModelRow:
    """One model on the test set; errors in meV/Å."""

    iteration: int
    n_training: int
    mae: float
    rmse: float
    mae_p95: float


@dataclass(slots=True)
class Status:
    """``state``: running (as far as the journal knows), stopped, paused, finished or failed; ``reason`` why.

    ``certificates``: of the selected fragments, how many passed, failed, or have no bound yet (empty: none was asked
    for). ``labels_seconds_left`` extrapolates the rate at which the latest labels came in; None before there is a rate.
    """

    state: str
    reason: str
    iteration: int
    stages: dict[str, StageCount]
    labels_left: int
    labels_seconds_left: float | None
    models: list[ModelRow]
    core_hours: float
    certificates: dict[str, int]
    began: str
    last_event: str
    failures: list[dict[str, Any]] = field(default_factory=list)
    walkers: list[dict[str, Any]] = field(default_factory=list)
    lanes: list[LaneUse] = field(default_factory=list)
    failures_by_kind: dict[str, int] = field(default_factory=dict)
    """ "task: error" → how often, attempts that were repeated not counted."""
    model_lag: float | None = None
    """Mean over all labels, in versions; None: the loop is synchronous, or no such label has been trained on."""
    warnings: list[str] = field(default_factory=list)
    """What the newest calibrations of novelty warn of."""
    noise: str = ""
    """Where the newest model stands against the noise of its labels; "" where that is not known."""
    queue: list[QueueWait] = field(default_factory=list)
    """How long blocks waited in the queue of a cluster; empty on one computer."""
    seconds_left: float | None = None
    """Predicted by simulating what is left with the times measured so far; None: not predicted."""

    def to_json(self) -> dict[str, Any]:
        """JSON data, for scripts."""
        return asdict(self)


def campaign_status(snapshot: Snapshot) -> Status:
    """What the journal says about the campaign."""
    state, reason = _state(snapshot)
    wanted = {
        f["label_key"]
        for o in snapshot.outcomes.values()
        if o.kind in SOURCES and o.status == "done"
        for f in o.summary["fragments"]
    }
    iterations = [int(n.split("/")[1]) for n in snapshot.decisions if n.startswith(("split/", "selected/"))]
    left = sum(k not in snapshot.outcomes for k in wanted)
    return Status(
        state=state,
        reason=reason,
        iteration=max(iterations, default=0),
        stages=_stages(snapshot),
        labels_left=left,
        labels_seconds_left=_seconds_per_label(snapshot, left),
        models=model_rows(snapshot),
        core_hours=snapshot.core_hours,
        certificates=_certificates(snapshot),
        began=snapshot.opened[0].time if snapshot.opened else "",
        last_event=snapshot.last.time if snapshot.last else "",
        failures=[
            {"task": o.kind, "key": k, "error": o.error, "reason": o.reason, "where": o.where}
            for k, o in snapshot.outcomes.items()
            if o.status == "failed"
        ],
        walkers=[dict(o.summary) for o in snapshot.outcomes.values() if o.kind == "explore" and o.status == "done"],
        lanes=lane_use(snapshot),
        failures_by_kind=dict(
            Counter(f"{o.kind}: {o.error}" for o in snapshot.outcomes.values() if o.status == "failed").most_common()
        ),
        model_lag=mean_lag(model_lag(snapshot)),
        warnings=standing_alarms(snapshot),
        noise=noise_statement(snapshot),
    )


def _certificates(snapshot: Snapshot) -> dict[str, int]:
    counts: dict[str, int] = {}
    for outcome in snapshot.outcomes.values():
        if outcome.kind != "acquire" or outcome.status != "done":
            continue
        for told in outcome.summary["fragments"]:
            if "certified" in told:
                verdict = "passed" if told["certified"] else "failed" if told["force_bound"] is not None else "not yet"
                counts[verdict] = counts.get(verdict, 0) + 1
    return counts


def _seconds_per_label(snapshot: Snapshot, left: int) -> float | None:
    """Seconds for the labels that are left, from the rate of the last ones of this driver."""
    opened = datetime.fromisoformat(snapshot.opened[-1].time) if snapshot.opened else None
    ended = [
        datetime.fromisoformat(o.time)
        for o in snapshot.outcomes.values()
        if o.kind == "label" and o.status == "done" and not o.cached and o.time
    ]
    recent = [t for t in ended if opened is None or t >= opened][-_RECENT:]
    if len(recent) < 3:
        return None
    return (recent[-1] - recent[0]).total_seconds() / (len(recent) - 1) * left


def _state(snapshot: Snapshot) -> tuple[str, str]:
    if snapshot.finished is not None:
        return ("failed" if snapshot.finished.get("failed") else "finished"), str(snapshot.finished["reason"])
    if snapshot.last is not None and snapshot.last.kind in ("stopped", "paused"):
        return snapshot.last.kind, str(snapshot.last.data.get("reason", ""))
    return "running", ""


def _stages(snapshot: Snapshot) -> dict[str, StageCount]:
    counts = {kind: StageCount() for kind in STAGES}
    for outcome in snapshot.outcomes.values():
        count = counts.setdefault(outcome.kind, StageCount())
        _add(count, outcome)
    if snapshot.finished is not None:  # walks that nobody waited for
        return counts
    opened = snapshot.opened[-1].seq if snapshot.opened else 0
    for key, sent in snapshot.sent.items():
        if key not in snapshot.outcomes and sent.last > opened:
            counts.setdefault(sent.task, StageCount()).open += 1
    return counts


def _add(count: StageCount, outcome: Outcome) -> None:
    if outcome.status == "failed":
        count.failed += 1
    else:
        count.done += 1
    if outcome.cached:
        count.cached += 1
        return
    count.wall_seconds += outcome.wall_time
    count.core_seconds += outcome.wall_time * outcome.cores
    count.peak_memory_MB = max(count.peak_memory_MB, outcome.peak_memory_MB)


def model_rows(snapshot: Snapshot) -> list[ModelRow]:
    """Test errors of every evaluated model, in order of iteration; the final model last."""
    rows = []
    for name, value in sorted(snapshot.decisions.items(), key=_iteration_order):
        if not name.startswith("evaluated/"):
            continue
        found = snapshot.outcomes.get(value["evaluation"])
        if found is not None and found.status == "done":
            s: Mapping[str, Any] = found.summary
            rows.append(
                ModelRow(
                    iteration=int(value["iteration"]),
                    n_training=int(value["n_training"]),
                    mae=float(s["mae"]),
                    rmse=float(s["rmse"]),
                    mae_p95=float(s["mae_p95"]),
                )
            )
    return rows


def _iteration_order(item: tuple[str, Mapping[str, Any]]) -> tuple[int, str]:
    parts = item[0].split("/")
    return (int(parts[1]) if len(parts) > 1 and parts[1].isdigit() else -1, item[0])
