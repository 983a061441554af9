"""What ran when, per lane, as the journal tells it: for utilisation, queue waits and the picture of a campaign.

Times are those of the driver's clock. A task's end is when the driver took its result, its beginning that minus the
time it took; so short tasks of a driver that was busy seem to run a little late.
"""

from __future__ import annotations

import bisect
import heapq
import itertools
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from clusterflow.campaign.task_times import KINDS
from clusterflow.evaluate.report.data import Bar, LaneStrip
from clusterflow.evaluate.report.gantt import merged
from clusterflow.state.snapshot import Snapshot

_LANE_OF = {kind: lane for lane, kinds in KINDS.items() for kind in kinds}


@dataclass(frozen=True, slots=True)
class Run:
    """One task that ran: s since the campaign was first opened; ``wait`` s between sending and beginning."""

    kind: str
    begin: float
    end: float
    wait: float
    failed: bool


@dataclass(frozen=True, slots=True)
class LaneUse:
    """How a lane was used. ``at_once``: the most tasks that ran together; ``busy``: Σ of their times over that number
    and the time that drivers were running; waits in s."""

    lane: str
    tasks: int
    at_once: int
    busy: float
    median_wait: float
    longest_wait: float


def running_periods(snapshot: Snapshot) -> list[tuple[float, float]]:
    """When drivers ran: (begin, end) in s since the first opening; what lay between nobody computed."""
    openings = [_seconds(e.time) for e in snapshot.opened]
    if not openings:
        return []
    others = [_seconds(e.time) for e in snapshot.sent.values()]
    others += [_seconds(o.time) for o in snapshot.outcomes.values() if o.time]
    others += [_seconds(snapshot.last.time)] if snapshot.last else []
    others.sort()
    periods = []
    for begin, following in itertools.pairwise([*openings, math.inf]):
        before = bisect.bisect_left(others, following)
        end = max(begin, others[before - 1]) if before else begin
        periods.append((begin - openings[0], end - openings[0]))
    return periods


def runs_by_lane(snapshot: Snapshot) -> dict[str, list[Run]]:
    """Every task that ran to its end, lane by lane, in the order in which they began."""
    lanes: dict[str, list[Run]] = {lane: [] for lane in KINDS}
    if not snapshot.opened:
        return lanes
    zero = _seconds(snapshot.opened[0].time)
    for key, outcome in snapshot.outcomes.items():
        sent = snapshot.sent.get(key)
        if outcome.cached or not outcome.time or sent is None:
            continue
        ready, end = _seconds(sent.time) - zero, _seconds(outcome.time) - zero
        # The cost of a failed label counts cores, so it may exceed the time that there was.
        begin = max(ready, end - outcome.wall_time)
        lane = sent.lane or _LANE_OF.get(outcome.kind, "local")
        run = Run(outcome.kind, begin, end, wait=begin - ready, failed=outcome.status == "failed")
        lanes.setdefault(lane, []).append(run)
    for runs in lanes.values():
        runs.sort(key=lambda r: (r.begin, r.end))
    return lanes


def lane_use(snapshot: Snapshot) -> list[LaneUse]:
    """One row per lane in which something ran."""
    total = sum(end - begin for begin, end in running_periods(snapshot))
    rows = []
    for lane, runs in runs_by_lane(snapshot).items():
        if runs:
            rows_used = 1 + max(place_in_rows(runs))
            waits = [r.wait for r in runs]
            rows.append(
                LaneUse(
                    lane=lane,
                    tasks=len(runs),
                    at_once=rows_used,
                    busy=min(1.0, sum(r.end - r.begin for r in runs) / (rows_used * total)) if total > 0 else 0.0,
                    median_wait=statistics.median(waits),
                    longest_wait=max(waits),
                )
            )
    return rows


def place_in_rows(runs: Sequence[Run]) -> list[int]:
    """For each run (in order of beginning) the lowest row that is free: rows stand for workers."""
    free: list[int] = []
    busy: list[tuple[float, int]] = []
    rows = []
    for run in runs:
        while busy and busy[0][0] <= run.begin + 1e-9:
            heapq.heappush(free, heapq.heappop(busy)[1])
        row = heapq.heappop(free) if free else len(busy)
        heapq.heappush(busy, (run.end, row))
        rows.append(row)
    return rows


def strips(snapshot: Snapshot) -> list[LaneStrip]:
    """What the report draws: bars as wide as can be seen, at most a thousand or so in a row."""
    span = max((end for _, end in running_periods(snapshot)), default=0.0)
    runs = runs_by_lane(snapshot)
    strips = []
    for use in lane_use(snapshot):
        bars = [(r.begin, r.end, row) for r, row in zip(runs[use.lane], place_in_rows(runs[use.lane]), strict=True)]
        drawn = tuple(Bar(round(a, 2), round(b, 2), row) for a, b, row in merged(bars, span / 1500.0))
        strips.append(
            LaneStrip(use.lane, use.tasks, use.at_once, use.busy, use.median_wait, use.longest_wait, bars=drawn)
        )
    return strips


def _seconds(time: str) -> float:
    return datetime.fromisoformat(time).timestamp()
