"""Who worked when, from the journal: by hand, and in the picture."""

from __future__ import annotations

from typing import Any
from xml.etree import ElementTree

import pytest

from clusterflow.campaign.event_log import event_text, log_event
from clusterflow.campaign.status import campaign_status
from clusterflow.campaign.timeline import lane_use, place_in_rows, running_periods, runs_by_lane, strips
from clusterflow.evaluate.report.gantt import gantt, merged
from clusterflow.state.journal import Event
from clusterflow.state.snapshot import Snapshot, fold


def journal(*told: tuple[float, str, dict[str, Any]]) -> list[Event]:
    """Events at so many seconds after noon."""
    return [
        Event(n, f"2026-01-01T12:{int(t) // 60:02d}:{t % 60:06.3f}+00:00", 1, kind, data, "", "")
        for n, (t, kind, data) in enumerate(told)
    ]


def sent(key: str, lane: str = "label") -> dict[str, Any]:
    return {"key": key, "task": "label", "lane": lane, "what": {"index": 3}}


def done(key: str, wall: float) -> dict[str, Any]:
    cost = {"wall_time": wall, "cores": 1, "peak_memory_MB": 0.0}
    return {"key": key, "task": "label", "summary": {}, "cached": False, **cost}


OPENED: dict[str, Any] = {"level_of_theory": "toy", "version": "1"}
TWO_RUNS = journal(
    (0, "opened", OPENED),
    (0, "sent", sent("a")),
    (0, "sent", sent("b")),
    (0, "sent", sent("c")),
    (10, "done", done("a", 10.0)),
    (12, "done", done("b", 12.0)),
    (20, "done", done("c", 8.0)),
    (20, "sent", sent("d")),
    (60, "opened", OPENED),
    (60, "sent", sent("d")),
    (80, "done", done("d", 20.0)),
)


def test_by_hand() -> None:
    snapshot = fold(TWO_RUNS)
    (row,) = lane_use(snapshot)
    assert (row.lane, row.tasks, row.at_once) == ("label", 4, 2)
    assert running_periods(snapshot) == [(0.0, 20.0), (60.0, 80.0)]
    assert row.busy == pytest.approx(50.0 / (2 * 40.0))
    assert [r.wait for r in runs_by_lane(snapshot)["label"]] == [0.0, 0.0, 12.0, 0.0]
    assert row.longest_wait == 12.0


def test_rows_are_workers() -> None:
    assert place_in_rows(runs_by_lane(fold(TWO_RUNS))["label"]) == [0, 1, 0, 0]


def test_cached_results_were_not_worked_on() -> None:
    event = journal((0, "opened", OPENED), (1, "done", {**done("a", 100.0), "cached": True}))
    assert lane_use(fold(event)) == []
    assert lane_use(Snapshot()) == []


def test_the_picture_has_every_bar_and_the_pause() -> None:
    snapshot = fold(TWO_RUNS)
    picture = ElementTree.fromstring(gantt(strips(snapshot), running_periods(snapshot)))
    (bars,) = [e for e in picture.iter() if e.get("class") == "run s2"]
    assert (bars.get("d") or "").count("M") == 4
    assert sum(e.get("class") == "pause" for e in picture.iter()) == 1


def test_a_campaign_that_has_hardly_begun_has_a_picture_too() -> None:
    assert "<svg" in gantt([], [])


def test_bars_that_cannot_be_told_apart_are_joined() -> None:
    bars = [(float(i), i + 0.9, 0) for i in range(1000)] + [(5000.0, 5001.0, 0)]
    assert merged(bars, 0.2) == [(0.0, 999.9, 0), (5000.0, 5001.0, 0)]
    assert merged([(0.0, 1.0, 0), (0.5, 2.0, 1)], 10.0) == [(0.0, 1.0, 0), (0.5, 2.0, 1)]


def test_status_counts_failures_by_kind_and_forgets_what_nobody_waits_for() -> None:
    failed = {"key": "x", "task": "label", "error": "LabelError", "reason": "SCF", "final": True}
    events = journal(
        (0, "opened", OPENED), (1, "sent", sent("w")), (2, "failed", failed), (3, "failed", {**failed, "key": "y"})
    )
    told = campaign_status(fold(events))
    assert told.failures_by_kind == {"label: LabelError": 2}
    assert told.stages["label"].open == 1
    events += journal((4, "finished", {"reason": "done", "failed": False}))
    assert campaign_status(fold(events)).stages["label"].open == 0


def test_one_line_per_event_whatever_is_in_it(tmp_path: Any) -> None:
    reason = 'said "no"\nreally=1'
    nasty = {"key": "k", "task": "label", "error": "E", "reason": reason, "final": False, "what": {"index": 3}}
    (event,) = journal((1.5, "failed", nasty))
    assert event_text(event) == (
        "time=2026-01-01T12:00:01.500+00:00 epoch=1 seq=0 event=failed task=label key=k "
        'reason="said \\"no\\"\\nreally=1" error=E final=no index=3'
    )
    log_event(tmp_path / "events.log", event)
    log_event(tmp_path / "events.log", event)
    assert len((tmp_path / "events.log").read_text().splitlines()) == 2
    log_event(tmp_path / "no" / "such" / "folder", event)  # stops nothing
