"""A campaign in which too much fails pauses, says why, and goes on with the next run."""

from __future__ import annotations

import contextlib
import io
import time
from collections import deque
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from ruamel.yaml import YAML

from clusterflow.campaign.failures import FailureRate
from clusterflow.campaign.loop import Paused
from clusterflow.campaign.session import Session
from clusterflow.campaign.status import campaign_status
from clusterflow.campaign.tasks import Plan
from clusterflow.cli import run
from clusterflow.cli.options import STOPPED
from clusterflow.config.campaign import Campaign
from clusterflow.config.failures import Failures
from clusterflow.config.section import to_json
from clusterflow.core.data import Task, TaskResult
from clusterflow.core.protocols import Engine
from clusterflow.errors import LabelError
from clusterflow.execution import apps
from clusterflow.execution.serial_engine import SerialEngine
from clusterflow.execution.workplace import Workplace
from clusterflow.state.journal import read_events
from clusterflow.state.snapshot import fold
from clusterflow.testing.toy_science import CALCULATOR, drive_toy, toy_config, toy_stages

TORN = {**CALCULATOR, "arguments": {"sigma": 3.0, "epsilon": 0.01}}
"""At this size of the atoms every force is far above what `check_label` lets pass."""
MANY = {"kind": "perturbed", "fragments": 26, "test_fragments": 4}


@dataclass
class OneByOne:
    """An engine that ends one task each time it is looked at, as a machine with one worker does."""

    engine: Engine | None = None
    waiting: deque[tuple[Task, Future[TaskResult]]] = field(default_factory=deque)

    def over(self, engine: Engine) -> Engine:
        self.engine = engine
        return self

    def submit(self, task: Task) -> Future[TaskResult]:
        self.waiting.append((task, Future()))
        return self.waiting[-1][1]

    def close(self, *, cancel: bool = False) -> None:
        """Nothing to give back."""

    def look(self) -> bool:
        """For ``stop`` of the loop, which asks between any two outcomes."""
        if self.waiting and self.engine is not None:
            task, future = self.waiting.popleft()
            ended = self.engine.submit(task)
            error = ended.exception()
            future.set_exception(error) if error else future.set_result(ended.result())
        return False


def drive(config: Campaign) -> Plan:
    engine = OneByOne()
    return drive_toy(config, engine=engine.over, stop=engine.look)


def test_nothing_is_said_before_the_window_is_full() -> None:
    rate = FailureRate(Failures())
    for _ in range(9):
        rate.saw("label", "no convergence")
    assert rate.too_many() is None
    rate.saw("label", "no convergence")
    found = rate.too_many()
    assert found is not None
    assert str(found) == "10 of the last 10 label tasks failed, 10 times: no convergence"


def test_half_is_not_more_than_half_and_the_window_moves() -> None:
    rate = FailureRate(Failures(window=12))
    for n in range(12):
        rate.saw("label", "bad" if n % 2 else "")
    assert rate.too_many() is None
    rate.saw("label", "worse")  # the oldest, a success, is no longer looked at
    found = rate.too_many()
    assert found is not None
    assert (found.failed, found.of, found.reason, found.times) == (7, 12, "bad", 6)


def test_kinds_are_counted_apart_and_a_share_of_one_never_pauses() -> None:
    rate, never = FailureRate(Failures()), FailureRate(Failures(share=1))
    for n in range(40):
        rate.saw("label")
        rate.saw(("explore", "train")[n % 2], "" if n < 30 else "blown up")
        never.saw("label", "bad")
    assert rate.too_many() is None  # five of the last ten of either kind
    assert never.too_many() is None


def test_a_campaign_whose_labels_fail_pauses_and_the_next_run_begins_to_count_anew(tmp_path: Path) -> None:
    config = toy_config(tmp_path, label=TORN, start=MANY)
    with pytest.raises(Paused, match="10 of the last 10 label tasks failed"):
        drive(config)
    events = read_events(config.run_folder / "journal.jsonl")
    assert events[-1].kind == "paused"
    assert events[-1].data["task"] == "label"
    assert sum(e.kind == "failed" for e in events) == 10  # of 30
    assert campaign_status(fold(events)).state == "paused"
    for total in (20, 30):
        with contextlib.suppress(Paused):
            plan = drive(config)
        events = read_events(config.run_folder / "journal.jsonl")
        assert sum(e.kind == "failed" for e in events) == total
    assert "of the starting labels only 0 succeeded" in plan.failed


def test_after_the_cause_is_mended_it_runs_to_its_end(tmp_path: Path) -> None:
    with pytest.raises(Paused):
        drive(toy_config(tmp_path, label=TORN, start=MANY))
    events = read_events(tmp_path / "run" / "journal.jsonl")
    assert sum(e.kind == "done" for e in events) == 1  # the start
    plan = drive(toy_config(tmp_path, start=MANY))  # another level of theory: allowed, there is no label yet
    assert plan.finished


def test_one_in_three_that_fails_pauses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    label = apps.label

    def sometimes(payload: Mapping[str, Any], place: Workplace, key: str) -> dict[str, Any]:
        if payload["source_kind"] == "start" and payload["index"] % 3 == 1:
            raise LabelError("SCF did not converge in 300 steps")
        return label(payload, place, key)

    monkeypatch.setattr(apps, "label", sometimes)
    assert drive(toy_config(tmp_path, start=MANY)).finished


def test_what_another_campaign_has_on_record_as_failed_costs_nothing_and_pauses_nothing(tmp_path: Path) -> None:
    shared = {"labels_folder": str(tmp_path / "shared"), "label": TORN, "start": MANY}
    assert "only 0 succeeded" in (drive(toy_config(tmp_path / "a", **shared, failures={"share": 1})).failed)
    plan = drive(toy_config(tmp_path / "b", **shared))
    assert "only 0 succeeded" in plan.failed
    assert not [e for e in read_events(tmp_path / "b" / "run" / "journal.jsonl") if e.kind == "sent" and
                e.data["task"] == "label"]  # fmt: skip


class InThread:
    """One worker beside the loop, for the command, whose loop nobody can look into."""

    def __init__(self, engine: Engine) -> None:
        self.engine, self.pool = engine, ThreadPoolExecutor(1)

    def submit(self, task: Task) -> Future[TaskResult]:
        return self.pool.submit(self._run, task)

    def _run(self, task: Task) -> TaskResult:
        time.sleep(0.05)
        return self.engine.submit(task).result()

    def close(self, *, cancel: bool = False) -> None:
        self.pool.shutdown(cancel_futures=cancel)


def test_the_command_exits_75_and_says_what_to_do(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = toy_config(tmp_path, label=TORN, start=MANY)
    file = tmp_path / "toy.yaml"
    with file.open("w") as stream:
        YAML(typ="safe").dump(to_json(config), stream)

    def behind(_kind: str, _machine: Any, session: Session) -> Engine:
        return InThread(SerialEngine(apps.run_task, session.folder.root))

    monkeypatch.setattr(run, "make_engine", behind)
    with toy_stages():
        code = run.run_campaign(
            file, folder=None, engine="serial", retry_failed=False, console=Console(file=io.StringIO())
        )
    assert code == STOPPED
    said = capsys.readouterr().err
    assert "paused: 10 of the last 10 label tasks failed, " in said
    assert "eV/Å, above the limit" in said
    assert f"run {file}` goes on" in said
    assert str(config.run_folder) in said
