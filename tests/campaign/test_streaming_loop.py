"""The streaming plan under the real loop, journal and lease: interrupted, cut, with a walk that never ends, and by the
clock."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path

import pytest

from clusterflow.campaign.loop import Interrupted, Loop
from clusterflow.campaign.planner import plan_once
from clusterflow.campaign.tasks import Plan
from clusterflow.config.campaign import Campaign
from clusterflow.core.data import Task, TaskResult
from clusterflow.errors import TrainError
from clusterflow.state.journal import Event, Journal, read_events
from clusterflow.state.lease import Lease
from clusterflow.state.snapshot import fold
from clusterflow.testing.toy_campaign import TOY_INPUTS, ToyEngine, toy_result


def campaign(**loop: object) -> Campaign:
    return Campaign.model_validate(
        {
            "name": "toy",
            "systems": [{"name": "crystal", "structure": "nowhere.extxyz"}],
            "start": {"fragments": 6, "test_fragments": 3},
            "explore": {"walkers": 3},
            "select": {"fragments": 6},
            "stop": {"iterations": 2},
            "loop": {"kind": "streaming", "retrain_after": 4, **loop},
        }
    )


class ShuffledEngine:
    """Tasks end one by one, in an order that dice choose; those that ``hangs`` picks never do."""

    def __init__(self, seed: int, hangs: Callable[[Task], bool] = lambda _: False) -> None:
        self.dice, self.hangs = random.Random(seed), hangs
        self.held: list[tuple[Task, Future[TaskResult]]] = []
        self.ran: list[Task] = []

    def submit(self, task: Task) -> Future[TaskResult]:
        future: Future[TaskResult] = Future()
        self.held.append((task, future))
        return future

    def end_one(self) -> None:
        able = [n for n, (task, _) in enumerate(self.held) if not self.hangs(task)]
        if able:
            task, future = self.held.pop(self.dice.choice(able))
            self.ran.append(task)
            future.set_result(toy_result(task))

    def close(self, *, cancel: bool = False) -> None:
        """Nothing to close."""


def drive(
    folder: Path,
    seed: int,
    *,
    config: Campaign | None = None,
    hangs: Callable[[Task], bool] = lambda _: False,
    most: int = 10_000,
) -> tuple[Plan, ShuffledEngine, Loop]:
    folder.mkdir(exist_ok=True)
    path, engine, turns = folder / "journal.jsonl", ShuffledEngine(seed, hangs), Counter[str]()

    def stop() -> bool:
        engine.end_one()
        turns["all"] += 1
        return turns["all"] > most

    with Lease.acquire(folder) as lease:
        snapshot = fold(read_events(path)) if path.is_file() else fold([])
        with Journal.open(path, lease.epoch, guard=lease.check) as journal:
            loop = Loop(
                config or campaign(), TOY_INPUTS, snapshot, journal, engine, lambda _: None, lambda *_: None, stop
            )
            return loop.run(), engine, loop


def check(events: list[Event]) -> None:
    """What no death may break."""
    done = Counter(e.data["key"] for e in events if e.kind == "done")
    assert max(done.values()) == 1
    names = Counter(e.data["name"] for e in events if e.kind == "decision")
    assert max(names.values()) == 1
    splits = [e.data["value"] for e in events if e.kind == "decision" and e.data["name"].startswith("split/")]
    trained = [k for s in splits for k in (*s["train"], *s["validation"])]
    assert len(trained) == len(set(trained))
    assert not set(splits[0]["test"]) & set(trained)
    assert [len(s["test"]) for s in splits] == [3] + [0] * (len(splits) - 1)


def replays(events: list[Event]) -> None:
    """Every decision is the one that the plan takes from the lines before it, and there are no others."""
    for n, event in enumerate(events[2:], 2):
        if event.kind not in ("decision", "done"):
            continue
        decisions = plan_once(campaign(), TOY_INPUTS, fold(events[:n])).decisions
        if event.kind == "decision":
            assert next(iter(decisions.items())) == (event.data["name"], event.data["value"])
        else:
            assert not decisions


def test_every_decision_follows_from_the_lines_before_it(tmp_path: Path) -> None:
    """In a campaign that ran through, and in one of many drivers."""
    drive(tmp_path / "whole", 1)
    replays(read_events(tmp_path / "whole" / "journal.jsonl"))
    for turn in range(200):
        try:
            drive(tmp_path / "parts", turn, most=25)
        except Interrupted:
            continue
        break
    assert turn > 1
    replays(read_events(tmp_path / "parts" / "journal.jsonl"))


def test_a_journal_cut_anywhere_is_gone_on_with(tmp_path: Path) -> None:
    plan, _, _ = drive(tmp_path / "whole", 1)
    assert plan.finished == "all 2 iterations are done"
    lines = (tmp_path / "whole" / "journal.jsonl").read_bytes().splitlines(keepends=True)
    check(read_events(tmp_path / "whole" / "journal.jsonl"))
    assert len(lines) > 80
    for n in range(3, len(lines), 9):
        folder = tmp_path / f"cut{n}"
        folder.mkdir()
        (folder / "journal.jsonl").write_bytes(b"".join(lines[:n]) + lines[n][: len(lines[n]) // 2])
        plan, engine, _ = drive(folder, n)
        assert plan.finished
        events = read_events(folder / "journal.jsonl")
        check(events)
        assert not {e.data["key"] for e in events[:n] if e.kind == "done"} & {t.key for t in engine.ran}


def test_interrupted_again_and_again_it_ends(tmp_path: Path) -> None:
    for turn in range(200):
        try:
            plan, _, _ = drive(tmp_path / "a", turn, most=9)
        except Interrupted:
            continue
        assert plan.finished
        break
    assert turn > 3
    check(read_events(tmp_path / "a" / "journal.jsonl"))


@pytest.mark.timeout(120)
def test_the_end_does_not_wait_for_walks_that_nobody_needs(tmp_path: Path) -> None:
    first: list[str] = []

    def hangs(task: Task) -> bool:
        if task.kind == "explore" and not first:
            first.append(task.key)
        return task.key in first

    plan, _, loop = drive(tmp_path / "a", 1, hangs=hangs)
    assert plan.finished
    assert loop.in_flight == 1


@pytest.mark.timeout(120)
def test_the_clock_enters_as_a_decision_and_only_so(tmp_path: Path) -> None:
    config = campaign(retrain_after=500, max_open_labels=4, retrain_interval="1 s")
    plan, _, _ = drive(tmp_path / "a", 1, config=config, most=1_000_000)
    assert plan.finished
    events = read_events(tmp_path / "a" / "journal.jsonl")
    names = [e.data["name"] for e in events if e.kind == "decision"]
    assert [n for n in names if n.startswith("due/")] == ["due/1", "due/2"]
    assert names.index("due/1") < names.index("split/1")
    check(events)


def test_an_engine_that_does_one_task_at_a_time_will_do(tmp_path: Path) -> None:
    path, snapshot = tmp_path / "journal.jsonl", fold([])
    with Lease.acquire(tmp_path) as lease, Journal.open(path, lease.epoch, guard=lease.check) as journal:
        engine = ToyEngine()
        loop = Loop(campaign(), TOY_INPUTS, snapshot, journal, engine, lambda _: None, lambda *_: None, lambda: False)
        assert loop.run().finished
    check(read_events(path))


@pytest.mark.timeout(120)
def test_a_failed_campaign_waits_for_its_labels_and_for_nothing_else(tmp_path: Path) -> None:
    class Diverging(ShuffledEngine):
        def submit(self, task: Task) -> Future[TaskResult]:
            future = super().submit(task)
            if task.kind == "train" and len([t for t in self.ran if t.kind == "train"]) > 0:
                self.held.pop()
                future.set_exception(TrainError("loss is NaN"))
            return future

    path, snapshot = tmp_path / "journal.jsonl", fold([])
    engine = Diverging(1, hangs=lambda task: task.kind == "explore" and task.payload["seed"] % 3 == 0)

    def stop() -> bool:
        engine.end_one()
        return False

    with Lease.acquire(tmp_path) as lease, Journal.open(path, lease.epoch, guard=lease.check) as journal:
        loop = Loop(campaign(), TOY_INPUTS, snapshot, journal, engine, lambda _: None, lambda *_: None, stop)
        assert "failed twice" in loop.run().failed
    asked = {e.data["key"] for e in read_events(path) if e.kind == "sent" and e.data["task"] == "label"}
    assert asked <= set(snapshot.outcomes)
