"""The loop journals what it does, survives interruption anywhere, and never does a finished task again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from clusterflow.campaign.loop import MAX_ATTEMPTS, Interrupted, Loop
from clusterflow.campaign.plan import Cycle
from clusterflow.campaign.tasks import Plan
from clusterflow.config.campaign import Campaign
from clusterflow.config.score import GaussianMixture
from clusterflow.config.stop import Stop
from clusterflow.core.data import Task, TaskResult
from clusterflow.errors import ExecutionError, LabelError, LeaseError, StateError, WorkerLostError
from clusterflow.state.journal import Journal, decisions_digest, read_events
from clusterflow.state.lease import Lease
from clusterflow.state.publish import publish_json
from clusterflow.state.snapshot import Snapshot, fold
from clusterflow.testing.toy_campaign import TOY_INPUTS, ToyEngine, toy_result

CONFIG = Campaign.model_validate(
    {
        "name": "toy",
        "systems": [{"name": "crystal", "structure": "nowhere.extxyz"}],
        "start": {"fragments": 6, "test_fragments": 3},
        "explore": {"walkers": 2},
        "select": {"fragments": 4},
        "stop": {"iterations": 2},
    }
)


def drive(
    folder: Path,
    *,
    work: Callable[[Task], TaskResult] = toy_result,
    stop: Callable[[], bool] = lambda: False,
    published: Callable[[Task], TaskResult | None] = lambda _: None,
    config: Campaign = CONFIG,
) -> tuple[Plan, ToyEngine]:
    """One driver, from opening to the end or the error."""
    folder.mkdir(exist_ok=True)
    path = folder / "journal.jsonl"
    lease = Lease.acquire(folder)
    engine = ToyEngine(work)
    try:
        snapshot = fold(read_events(path)) if path.is_file() else fold([])
        with Journal.open(path, lease.epoch, guard=lease.check) as journal:
            loop = Loop(config, TOY_INPUTS, snapshot, journal, engine, published, lambda *_: None, stop)
            return loop.run(), engine
    finally:
        lease.release()


def test_runs_to_the_end_and_journals_it(tmp_path: Path) -> None:
    plan, engine = drive(tmp_path / "a")
    assert plan.finished == "all 2 iterations are done"
    events = read_events(tmp_path / "a" / "journal.jsonl")
    done = [e.data["key"] for e in events if e.kind == "done"]
    assert len(done) == len(set(done)) == len(engine.ran)
    assert {e.data["name"] for e in events if e.kind == "decision"} >= {"split/0", "split/2", "selected/2", "stop"}


def test_interrupted_anywhere_it_ends_the_same_and_repeats_nothing(tmp_path: Path) -> None:
    _, engine = drive(tmp_path / "whole")
    whole = decisions_digest(read_events(tmp_path / "whole" / "journal.jsonl"))
    total = len(engine.ran)
    for n in range(1, total, 2):
        folder = tmp_path / f"cut{n}"
        ended = {"count": 0}

        def work(task: Task, ended: dict[str, int] = ended) -> TaskResult:
            ended["count"] += 1
            return toy_result(task)

        with pytest.raises(Interrupted):
            drive(folder, work=work, stop=lambda ended=ended, n=n: ended["count"] >= n)
        first = {e.data["key"] for e in read_events(folder / "journal.jsonl") if e.kind == "done"}
        plan, second = drive(folder)
        assert plan.finished
        assert not first & {t.key for t in second.ran}
        assert decisions_digest(read_events(folder / "journal.jsonl")) == whole


def test_published_results_are_harvested_without_sending(tmp_path: Path) -> None:
    _, engine = drive(tmp_path / "a", published=toy_result)
    assert engine.ran == []
    events = read_events(tmp_path / "a" / "journal.jsonl")
    assert all(e.data["cached"] for e in events if e.kind == "done")


def test_lost_workers_are_tried_again_but_not_for_ever(tmp_path: Path) -> None:
    lost: list[str] = []

    def flaky(task: Task) -> TaskResult:
        if task.kind == "label" and task.key not in lost:
            lost.append(task.key)
            raise WorkerLostError("the worker died")
        return toy_result(task)

    plan, _ = drive(tmp_path / "a", work=flaky)
    assert plan.finished

    def dead(task: Task) -> TaskResult:
        raise WorkerLostError("the worker died")

    with pytest.raises(ExecutionError, match=f"was sent {MAX_ATTEMPTS} times"):
        drive(tmp_path / "b", work=dead)


def test_a_failed_label_is_an_event_not_the_end(tmp_path: Path) -> None:
    seen: list[str] = []

    def one_bad(task: Task) -> TaskResult:
        if task.kind == "label" and task.payload["index"] == 5 and not seen:
            seen.append(task.key)
            raise LabelError("SCF did not converge in 300 steps", where="work/label-1")
        return toy_result(task)

    plan, engine = drive(tmp_path / "a", work=one_bad)
    assert plan.finished
    (failed,) = [e for e in read_events(tmp_path / "a" / "journal.jsonl") if e.kind == "failed"]
    assert failed.data["final"]
    assert failed.data["reason"] == "SCF did not converge in 300 steps"
    assert sum(t.key == seen[0] for t in engine.ran) == 1


def test_full_disk_stops_at_once_and_the_next_run_goes_on(tmp_path: Path) -> None:
    def full(task: Task) -> TaskResult:
        if task.kind == "train":
            raise StateError("No space left on device")
        return toy_result(task)

    with pytest.raises(StateError, match="No space left"):
        drive(tmp_path / "a", work=full)
    plan, engine = drive(tmp_path / "a")
    assert plan.finished
    assert not any(t.kind == "start" for t in engine.ran)


def test_a_driver_that_lost_its_lease_writes_nothing_more(tmp_path: Path) -> None:
    folder = tmp_path / "a"
    path = folder / "journal.jsonl"

    def taken_over(task: Task) -> TaskResult:
        if task.kind == "train":
            # What a second driver on another host would do after this one seemed dead.
            publish_json(folder / "lease" / "epoch-2.json", {"epoch": 2, "host": "other", "pid": 1, "since": "now"})
        return toy_result(task)

    with pytest.raises(LeaseError):
        drive(folder, work=taken_over)
    kinds = [e.data.get("task") for e in read_events(path) if e.kind == "done"]
    assert "train" not in kinds


def test_forgotten_failures_are_tried_again(tmp_path: Path) -> None:
    seen: list[str] = []

    def one_bad(task: Task) -> TaskResult:
        if task.kind == "label" and not seen:
            seen.append(task.key)
            raise LabelError("stopped after 60 s")
        return toy_result(task)

    drive(tmp_path / "a", work=one_bad)
    with Journal.open(tmp_path / "a" / "journal.jsonl", 2) as journal:
        journal.append("retry", keys=seen)
    _, engine = drive(tmp_path / "a")
    assert seen[0] in {t.key for t in engine.ran}


def test_one_label_that_kills_its_workers_is_given_up(tmp_path: Path) -> None:
    """Too big for the memory, say: it fails for good, and the campaign goes on."""

    def too_big(task: Task) -> TaskResult:
        if task.kind == "label" and task.payload["index"] == 4:
            raise WorkerLostError("killed by signal 9")
        return toy_result(task)

    plan, _ = drive(tmp_path / "a", work=too_big)
    assert plan.finished
    failed = [e.data for e in read_events(tmp_path / "a" / "journal.jsonl") if e.kind == "failed"]
    assert [f["final"] for f in failed if f["key"] == failed[0]["key"]] == [False] * (MAX_ATTEMPTS - 1) + [True]


def test_what_followed_from_another_configuration_is_retired(tmp_path: Path) -> None:
    drive(tmp_path / "a")
    before = fold(read_events(tmp_path / "a" / "journal.jsonl")).decisions
    other = CONFIG.model_copy(update={"score": GaussianMixture(components=(1, 2)), "stop": Stop(iterations=1)})
    plan, _ = drive(tmp_path / "a", config=other)
    after = fold(read_events(tmp_path / "a" / "journal.jsonl")).decisions
    assert "split/2" in before
    assert not [name for name in after if "/2" in name]
    assert after["stop"]["iteration"] == 1
    assert plan.finished


def test_the_plan_is_asked_for_when_it_can_have_changed_and_not_for_every_task(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls, real = [], Cycle.plan

    def counted(cycle: Cycle, snapshot: Snapshot, ended: Sequence[str]) -> Plan:
        calls.append(1)
        return real(cycle, snapshot, ended)

    monkeypatch.setattr(Cycle, "plan", counted)
    config = CONFIG.model_copy(update={"select": CONFIG.select.model_copy(update={"fragments": 60})})
    _, engine = drive(tmp_path / "a", config=config)
    assert sum(t.kind == "label" for t in engine.ran) == 9 + 60 + 60
    assert len(calls) < 50
