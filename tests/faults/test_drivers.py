"""Two drivers, stopped ones, killed ones, late workers, and clocks that jump."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from clusterflow.campaign.report import write_report
from clusterflow.campaign.status import campaign_status
from clusterflow.core.data import Task
from clusterflow.core.protocols import Engine
from clusterflow.errors import LeaseError
from clusterflow.execution import apps
from clusterflow.execution.messages import task_to_json
from clusterflow.state import journal as journal_module
from clusterflow.state import lease
from clusterflow.state.journal import read_events
from clusterflow.state.labels import LabelStore
from clusterflow.state.layout import CampaignFolder
from clusterflow.state.publish import publish_json
from clusterflow.state.snapshot import fold
from clusterflow.testing.toy_science import drive_toy, final_hash, published_keys, toy_config

DRIVER = """
import sys, time
from pathlib import Path
from clusterflow.testing.toy_science import drive_toy, toy_config

class Slow:
    def __init__(self, engine):
        self.engine = engine
    def submit(self, task):
        time.sleep(float(sys.argv[2]))
        return self.engine.submit(task)
    def close(self, *, cancel=False):
        self.engine.close(cancel=cancel)

drive_toy(toy_config(Path(sys.argv[1])), engine=Slow)
"""


def start(folder: Path, seconds: float) -> subprocess.Popen[str]:
    """A real driver, which thinks ``seconds`` before each task."""
    command = [sys.executable, "-c", DRIVER, str(folder), str(seconds)]
    return subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)


def wait_for_lines(journal: Path, count: int, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 120
    while not journal.is_file() or journal.read_bytes().count(b"\n") < count:
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline, f"no {count} lines within 120 s"
        time.sleep(0.005)


@pytest.fixture(scope="module")
def whole(memory: Path) -> str:
    """What an undisturbed campaign ends with."""
    folder = memory / "undisturbed"
    drive_toy(toy_config(folder))
    return final_hash(folder / "run")


def done_once(journal: Path) -> bool:
    done = Counter(e.data["key"] for e in read_events(journal) if e.kind == "done")
    return max(done.values()) == 1


@pytest.mark.slow
def test_kill_9_of_real_drivers(whole: str, tmp_path: Path) -> None:
    folder = tmp_path / "toy"
    journal = folder / "run" / "journal.jsonl"
    toy_config(folder)
    for lines in (1, 4, 9, 15, 22, 30, 37):
        driver = start(folder, 0.25)
        wait_for_lines(journal, lines, driver)
        driver.send_signal(signal.SIGKILL)
        assert driver.wait() == -signal.SIGKILL
        assert driver.stderr is not None
        driver.stderr.close()
    driver = start(folder, 0.0)
    assert driver.wait(timeout=120) == 0, driver.communicate()[1]
    assert final_hash(folder / "run") == whole
    assert done_once(journal)
    computed = Counter(line.split()[0] for line in (folder / "run" / "computed.log").read_text().splitlines())
    assert max(computed.values()) == 1
    assert sum(e.kind == "opened" for e in read_events(journal)) >= 7


@pytest.mark.slow
def test_a_stopped_driver_that_was_taken_over_writes_nothing_more(
    whole: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SIGSTOP, as a computer that sleeps; another host takes over and finishes; SIGCONT."""
    folder = tmp_path / "toy"
    root = folder / "run"
    old = start(folder, 0.6)
    try:
        wait_for_lines(root / "journal.jsonl", 12, old)
        old.send_signal(signal.SIGSTOP)
        monkeypatch.setattr(lease, "_machine", lambda: "another computer")
        with pytest.raises(LeaseError, match="Another driver may run this campaign") as refused:
            drive_toy(toy_config(folder))  # its last sign of life is young
        assert f"kill {old.pid}" in refused.value.todo
        beat = root / "lease" / "heartbeat-1"
        os.utime(beat, (beat.stat().st_atime, beat.stat().st_mtime - 200))
        assert drive_toy(toy_config(folder)).finished
        after = (root / "journal.jsonl").read_bytes()
        assert final_hash(root) == whole
        old.send_signal(signal.SIGCONT)
        said = old.communicate(timeout=120)[1]
        assert old.returncode != 0
        assert "LeaseError: Another driver has taken this campaign over: it holds epoch 2, this one held 1." in said
        assert (root / "journal.jsonl").read_bytes() == after
        assert final_hash(root) == whole
        assert done_once(root / "journal.jsonl")
    finally:
        old.kill()
        old.wait()


@pytest.mark.slow
def test_a_second_driver_on_the_same_host_is_refused_and_disturbs_nothing(whole: str, tmp_path: Path) -> None:
    folder = tmp_path / "toy"
    first = start(folder, 0.4)
    try:
        wait_for_lines(folder / "run" / "journal.jsonl", 6, first)
        with pytest.raises(LeaseError, match=f"Another driver runs this campaign: process {first.pid} of .* on host "):
            drive_toy(toy_config(folder))
        assert first.wait(timeout=240) == 0, first.communicate()[1]
    finally:
        first.kill()
        first.wait()
    assert final_hash(folder / "run") == whole
    assert {e.epoch for e in read_events(folder / "run" / "journal.jsonl")} == {1}


# -- workers of a dead epoch


class Late:
    """Before this driver's worker does a task, one of a dead epoch publishes it; afterwards it does so again."""

    def __init__(self, engine: Engine, root: Path) -> None:
        self.engine, self.root, self.answers = engine, root, 0

    def submit(self, task: Task) -> Any:
        before = apps.run_task(task_to_json(task), str(self.root))
        files = fingerprint(self.root)
        future = self.engine.submit(task)
        assert future.result().summary == before["summary"]
        after = apps.run_task(task_to_json(task), str(self.root))
        assert after["summary"] == before["summary"]
        assert fingerprint(self.root) == files
        self.answers += 1
        return future

    def close(self, *, cancel: bool = False) -> None:
        self.engine.close(cancel=cancel)


def fingerprint(root: Path) -> dict[Path, bytes]:
    return {p: p.read_bytes() for p in [*root.glob("tasks/**/*"), *root.glob("labels/??/*")] if p.is_file()}


def test_duplicates_and_late_results_change_nothing(whole: str, fast: Path) -> None:
    folder = fast / "toy"
    config = toy_config(folder)
    late: list[Late] = []

    def behind(engine: Engine) -> Engine:
        late.append(Late(engine, config.run_folder))
        return late[0]

    assert drive_toy(config, engine=behind).finished
    done = [e for e in read_events(config.run_folder / "journal.jsonl") if e.kind == "done"]
    assert late[0].answers == len(done) == 19
    assert final_hash(config.run_folder) == whole
    assert done_once(config.run_folder / "journal.jsonl")


def test_a_late_label_with_other_numbers_loses(whole: str, fast: Path) -> None:
    """Another node, another library: the last digits differ, and the first label counts, for everybody."""
    import dataclasses

    config = toy_config(fast / "toy")
    drive_toy(config)
    store = LabelStore(config.run_folder / "labels")
    for key in list(store.keys()):
        found = store.get(key)
        assert found is not None
        atoms, label = found
        other = dataclasses.replace(label, prediction=dataclasses.replace(label.prediction, energy=-99.0))
        assert store.put(key, atoms, other) is False
    assert final_hash(config.run_folder) == whole


def test_what_a_worker_published_for_a_dead_driver_is_taken(whole: str, fast: Path) -> None:
    """The driver died after it had sent the first label; its worker went on and published all three."""
    folder = fast / "toy"
    config = toy_config(folder)
    drive_toy(config)
    journal = config.run_folder / "journal.jsonl"
    lines = journal.read_bytes().splitlines(keepends=True)
    first = next(i for i, e in enumerate(read_events(journal)) if e.kind == "sent" and e.data["task"] == "label")
    journal.write_bytes(b"".join(lines[: first + 1]))
    shutil.rmtree(config.run_folder / "tasks" / "train")
    published = published_keys(config.run_folder)
    ran: list[str] = []

    class Noting(Late):
        def submit(self, task: Task) -> Any:
            ran.append(task.kind)
            assert task.key not in published
            return self.engine.submit(task)

    assert drive_toy(config, engine=lambda e: Noting(e, folder)).finished
    assert ran == ["train", "train"]
    assert final_hash(config.run_folder) == whole
    cached = [e.data["cached"] for e in read_events(journal) if e.kind == "done" and e.data["task"] == "label"]
    assert sorted(cached) == [False, True, True, True, True]  # the first had been sent by this campaign


# -- clocks


@pytest.mark.parametrize("jump", [timedelta(days=-4000), timedelta(days=4000)], ids=["backwards", "forwards"])
def test_clock_jumps_change_nothing(whole: str, fast: Path, monkeypatch: pytest.MonkeyPatch, jump: timedelta) -> None:
    """The clock jumps between any two events, and between two runs."""
    from clusterflow.campaign.loop import Interrupted

    asked = 0

    class Clock(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> datetime:  # type: ignore[override]
            nonlocal asked
            asked += 1
            return datetime.now(tz) + jump * (asked % 3)

    monkeypatch.setattr(journal_module, "datetime", Clock)
    monkeypatch.setattr(time, "time", lambda: 1e9 + jump.total_seconds() * (asked % 2))
    config = toy_config(fast / "toy")
    with pytest.raises(Interrupted):
        drive_toy(config, stop=lambda: asked > 20)
    assert drive_toy(config).finished
    assert final_hash(config.run_folder) == whole
    events = read_events(config.run_folder / "journal.jsonl")
    times = [datetime.fromisoformat(e.time) for e in events]
    assert max(abs(b - a) for a, b in pairwise(times)) > timedelta(days=3000)
    assert times[0].tzinfo == UTC
    snapshot = fold(events)
    assert campaign_status(snapshot).state == "finished"
    write_report(CampaignFolder(config.run_folder), snapshot)


# -- the file of the campaign changes in between


def test_a_configuration_that_changes_between_two_runs(whole: str, fast: Path) -> None:
    """Another number of fragments while half is done, and back: nothing is computed that was not asked for."""
    from clusterflow.campaign.loop import Interrupted

    folder = fast / "toy"
    config = toy_config(folder)
    with pytest.raises(Interrupted):
        drive_toy(config, stop=lambda: any((folder / "run" / "tasks" / "train").glob("*/result.json")))
    longer = toy_config(folder, select={"fragments": 3}, stop={"iterations": 2})
    assert drive_toy(longer).finished == "all 2 iterations are done"
    before = published_keys(folder / "run")
    ran: list[str] = []

    class Noting(Late):
        def submit(self, task: Task) -> Any:
            ran.append(task.key)
            return self.engine.submit(task)

    plan = drive_toy(longer, engine=lambda e: Noting(e, folder))
    assert plan.finished
    assert ran == []
    assert published_keys(folder / "run") == before
    assert done_once(folder / "run" / "journal.jsonl")


def test_another_level_of_theory_is_refused_and_nothing_is_written(fast: Path) -> None:
    from clusterflow.errors import LevelOfTheoryError

    folder = fast / "toy"
    drive_toy(toy_config(folder))
    before = (folder / "run" / "journal.jsonl").read_bytes()
    other = {"kind": "ase", "calculator": "ase.calculators.lj:LennardJones", "arguments": {"sigma": 0.7}}
    with pytest.raises(LevelOfTheoryError):
        drive_toy(toy_config(folder, label=other))
    assert (folder / "run" / "journal.jsonl").read_bytes() == before


def test_other_host_by_name_with_a_fresh_heartbeat_is_not_taken_over(fast: Path) -> None:
    config = toy_config(fast / "toy")
    drive_toy(config)
    room = config.run_folder / "lease"
    known = {"epoch": 2, "host": "node17", "machine": "node17 boot", "pid": 4242, "start": "1", "user": "ada",
             "since": "2026-01-01T00:00:00+00:00"}  # fmt: skip
    publish_json(room / "epoch-2.json", known)
    (room / "heartbeat-2").write_text("x")
    before = (config.run_folder / "journal.jsonl").read_bytes()
    with pytest.raises(LeaseError, match="process 4242 of ada on host node17"):
        drive_toy(config)
    assert (config.run_folder / "journal.jsonl").read_bytes() == before
