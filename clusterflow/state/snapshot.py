"""State = fold(journal): what has been sent, done, failed and decided."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from sys import intern
from typing import Any, Literal

from clusterflow.state.journal import Event, no_search_for_cycles


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a task ended: its summary if it is done, its reason if it failed for good."""

    status: Literal["done", "failed"]
    kind: str
    summary: Mapping[str, Any] = field(default_factory=dict)
    reason: str = ""
    error: str = ""
    where: str = ""
    wall_time: float = 0.0
    cores: int = 1
    peak_memory_MB: float = 0.0
    cached: bool = False
    time: str = ""


@dataclass(slots=True)
class Dispatch:
    """When a task was sent: number of the journal's line that said so ``first`` and ``last``, time of the last."""

    first: int
    last: int
    time: str
    task: str
    lane: str


@dataclass(slots=True)
class Snapshot:
    """What the journal says. ``attempts`` counts machinery failures per key."""

    outcomes: dict[str, Outcome] = field(default_factory=dict)
    attempts: dict[str, int] = field(default_factory=dict)
    sent: dict[str, Dispatch] = field(default_factory=dict)
    decisions: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    finished: Mapping[str, Any] | None = None
    opened: list[Event] = field(default_factory=list)
    last: Event | None = None
    lost_core_seconds: float = 0.0
    """Of attempts that failed and were repeated."""
    label_level: str = ""
    """Level of theory of the labels so far; "" before the first."""

    def apply(self, event: Event) -> None:
        """Folds one more event in."""
        data = _shared(event.data)
        self.last = event
        if event.kind == "sent":
            before, lane = self.sent.get(data["key"]), str(data.get("lane", ""))
            first = before.first if before else event.seq
            self.sent[data["key"]] = Dispatch(first, event.seq, event.time, data["task"], lane)
        elif event.kind == "done":
            if data["task"] == "label" and self.opened:
                self.label_level = str(self.opened[-1].data["level_of_theory"])
            self.outcomes[data["key"]] = Outcome(
                status="done",
                kind=data["task"],
                summary=data["summary"],
                wall_time=data["wall_time"],
                cores=data["cores"],
                peak_memory_MB=data["peak_memory_MB"],
                cached=data.get("cached", False),
                time=event.time,
            )
        elif event.kind == "failed":
            if data["final"]:
                self.outcomes[data["key"]] = Outcome(
                    status="failed",
                    kind=data["task"],
                    reason=data["reason"],
                    error=data["error"],
                    where=data.get("where", ""),
                    wall_time=data.get("wall_time", 0.0),
                    cores=data.get("cores", 1),
                    time=event.time,
                )
            else:
                self.attempts[data["key"]] = self.attempts.get(data["key"], 0) + 1
                self.lost_core_seconds += data.get("wall_time", 0.0) * data.get("cores", 1)
        elif event.kind == "retry":
            for key in data["keys"]:
                self.outcomes.pop(key, None)
        elif event.kind == "retired":
            for name in data["names"]:
                self.decisions.pop(name, None)
        elif event.kind == "decision":
            self.decisions[data["name"]] = data["value"]
        elif event.kind == "opened":
            self.opened.append(event)
            self.attempts.clear()  # a new driver, perhaps on a mended machine, starts counting anew
            self.finished = None
        elif event.kind == "finished":
            self.finished = data

    @property
    def core_hours(self) -> float:
        """Core hours of everything that ended, failures included, cached results not."""
        ended = sum(o.wall_time * o.cores for o in self.outcomes.values() if not o.cached)
        return (ended + self.lost_core_seconds) / 3600.0


def _shared(value: Any) -> Any:
    """JSON data in which equal strings are one: keys of labels and names of fields occur again and again, and each
    line of a journal brings its own."""
    if isinstance(value, str):
        return intern(value)
    if isinstance(value, dict):
        return {intern(k): _shared(v) for k, v in value.items()}
    return [_shared(v) for v in value] if isinstance(value, list) else value


def fold(events: Iterable[Event]) -> Snapshot:
    """The snapshot after these events."""
    snapshot = Snapshot()
    with no_search_for_cycles():
        for event in events:
            snapshot.apply(event)
    return snapshot
