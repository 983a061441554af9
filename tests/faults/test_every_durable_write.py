"""A toy campaign crashes at every call that changes its disk, in every way that call allows, and `run` mends it.

What is left after each crash is what `clusterflow.testing.recording_disk` says: all that was written (a killed
process), or only what was synchronised (a loss of power), or names without their contents. From each of these states a
new driver must end with the same decisions, labels and results as a campaign that nobody disturbed, commit no label
twice, and compute nothing that had been published.
"""

from __future__ import annotations

import multiprocessing
import os
import re
import shutil
import sys
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest

from clusterflow.config.campaign import Campaign
from clusterflow.core.data import Task, TaskResult
from clusterflow.core.protocols import Engine
from clusterflow.state import disk as disk_module
from clusterflow.state import lease
from clusterflow.state.disk import replaced_by
from clusterflow.state.journal import read_events
from clusterflow.testing.recording_disk import Image, RecordingDisk, Unsynchronised, distinct
from clusterflow.testing.toy_science import drive_toy, final_hash, published_keys, toy_config


@dataclass
class Counting:
    """An engine that notes which tasks it was given, when, and when each had ended."""

    engine: Engine
    ran: dict[str, int]
    ended: dict[str, int]
    clock: Callable[[], int] = int

    def submit(self, task: Task) -> Future[TaskResult]:
        if task.key in self.ran:
            raise AssertionError(f"{task.kind} {task.key} was sent twice")
        self.ran[task.key] = self.clock()
        future = self.engine.submit(task)
        self.ended[task.key] = self.clock()
        return future

    def close(self, *, cancel: bool = False) -> None:
        self.engine.close(cancel=cancel)


@dataclass
class Recording:
    """An undisturbed campaign: every state that a crash may leave, and what was known to be safe at each moment."""

    config: Campaign
    disk: RecordingDisk
    whole: str
    sent: dict[str, int]
    """Key → the moment at which a task was handed to a worker: that it would be stood in the journal by then."""
    ended: dict[str, int]
    """Key → the moment at which it had ended: its result was published by then."""
    changes: dict[str, Any] = field(default_factory=dict)
    """What the campaign has other than the toy's defaults."""


def record(folder: Path, **changes: Any) -> Recording:
    """Runs a campaign in ``folder``, from whatever is there, and records it."""
    config = toy_config(folder, **changes)
    disk = RecordingDisk(folder)
    sent: dict[str, int] = {}
    ended: dict[str, int] = {}

    def count(engine: Engine) -> Engine:
        return Counting(engine, sent, ended, lambda: disk.number)

    me = f"a process that is gone, {folder}"
    try:
        # The driver that is recorded must look dead to those that find its lease: they are the same process.
        with replaced_by(disk), patch.object(lease, "process_start", lambda _: me):
            drive_toy(config, engine=count)
            disk.finish()
    finally:
        disk.close()
    return Recording(config, disk, final_hash(folder / "run"), sent, ended, changes)


def resume(image: Image, folder: Path, recording: Recording) -> str:
    """Runs the campaign from an image; "" or what was promised and not kept."""
    shutil.rmtree(folder)
    image.write(folder)
    root = folder / "run"
    safe = {key for key, moment in recording.ended.items() if moment < image.last}
    published = published_keys(root)
    if not safe <= published:
        return f"{image.name}: {len(safe - published)} results that were published are gone"
    told = {key for key, moment in recording.sent.items() if moment < image.last}
    if told and not told <= {e.data["key"] for e in read_events(root / "journal.jsonl") if e.kind == "sent"}:
        return f"{image.name}: a task was sent, and the journal does not say so"
    ran: dict[str, int] = {}
    try:
        plan = drive_toy(recording.config, engine=lambda e: Counting(e, ran, {}))
    except Exception as error:
        return f"{image.name}: {type(error).__name__}: {error}"
    if not plan.finished:
        return f"{image.name}: {plan.failed}"
    if final_hash(root) != recording.whole:
        return f"{image.name}: ends otherwise than an undisturbed campaign"
    if set(ran) & published:
        return f"{image.name}: {len(set(ran) & published)} published results were computed again"
    done = Counter(e.data["key"] for e in read_events(root / "journal.jsonl") if e.kind == "done")
    if max(done.values()) > 1:
        return f"{image.name}: something was committed twice"
    return ""


def resume_all(images: list[Image], folder: Path, recording: Recording) -> list[str]:
    """`resume` from each image, on the cores there are; what went wrong."""
    workers = min(4, os.cpu_count() or 1)
    _shared.update(images=images, folder=folder, recording=recording)
    with multiprocessing.get_context("fork").Pool(workers) as pool:
        wrong = pool.map(_part, [(i, workers) for i in range(workers)])
    return [w for part in wrong for w in part]


_shared: dict[str, Any] = {}  # reaches the forked processes without being copied through a pipe


def _part(which: tuple[int, int]) -> list[str]:
    first, step = which
    # The configuration names the folder, so each process sees it at the same place: a directory of its own there.
    recording: Recording = _shared["recording"]
    folder = _shared["folder"].with_name(f"{_shared['folder'].name}-{first}")
    folder.mkdir()
    config = toy_config(folder, **recording.changes)
    moved = Recording(config, recording.disk, recording.whole, recording.sent, recording.ended)
    with replaced_by(Unsynchronised()):
        return [w for image in _shared["images"][first::step] if (w := resume(image, folder, moved))]


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Recording:
    return record(tmp_path_factory.mktemp("recorded") / "toy")


@pytest.mark.slow
@pytest.mark.parametrize("modes", [("kept", "torn"), ("lost",), ("names", "zeros")], ids="+".join)
def test_a_crash_at_every_durable_call_ends_the_same(
    recording: Recording, fast: Path, modes: tuple[str, ...], record_property: Callable[[str, object], None]
) -> None:
    images = [i for i in recording.disk.images if i.mode in modes]
    record_property("calls", recording.disk.number)
    record_property("states", len(images))
    wrong = resume_all(images, fast / "toy", recording)
    assert recording.disk.number > 300
    assert len(images) > 60
    assert not wrong, f"{len(wrong)} of {len(images)}:\n" + "\n".join(wrong[:10])


@pytest.mark.slow
def test_a_crash_during_recovery_ends_the_same(recording: Recording, fast: Path) -> None:
    """A second crash, while the driver that came after the first one opens the campaign and does its first tasks."""
    first = [i for i in recording.disk.images if i.mode in ("torn", "lost")][5::31]
    assert len(first) >= 4
    for n, image in enumerate(first):
        folder = fast / f"again{n}"
        image.write(folder)
        second = record(folder)
        assert second.whole == recording.whole
        images = [i for i in second.disk.images if i.number < 60 and i.mode in ("kept", "torn", "lost")][n % 3 :: 3]
        assert len(images) > 10
        wrong = resume_all(images, fast / f"again{n}-toy", second)
        assert not wrong, f"after {image.name}: {len(wrong)} of {len(images)}:\n" + "\n".join(wrong[:10])


STREAMING = {
    "loop": {"kind": "streaming", "retrain_after": 2},
    "explore": {"kind": "ase", "walkers": 2},
    "stop": {"iterations": 2},
}


@pytest.mark.slow
def test_a_streaming_campaign_that_crashes_anywhere_ends_the_same(
    tmp_path: Path, fast: Path, record_property: Callable[[str, object], None]
) -> None:
    """Its decisions follow from the order in which results come, and from nothing else: these workers end in the order
    in which they began, so every crash must lead to the same end. States that differ in nothing that a driver reads
    (scratch, unfinished files, the lease) are tried once."""
    recording = record(tmp_path / "toy", **STREAMING)
    images = distinct([i for i in recording.disk.images if i.mode in ("kept", "torn")], but="run/lease")
    record_property("calls", recording.disk.number)
    record_property("states", len(images))
    names = [e.data["name"] for e in read_events(tmp_path / "toy" / "run" / "journal.jsonl") if e.kind == "decision"]
    assert {"walk/5", "acquire/2", "split/2"} <= set(names)
    wrong = resume_all(images, fast / "toy", recording)
    assert recording.disk.number > 500
    assert len(images) > 150
    assert not wrong, f"{len(wrong)} of {len(images)}:\n" + "\n".join(wrong[:10])


CHANGES = {"os.rename", "os.link", "os.symlink", "os.remove", "os.rmdir", "os.mkdir", "os.truncate", "shutil.rmtree"}
OUTSIDE = re.compile(r"/work/|/model(\.part)?/|\.part$|/model(\.part)?$|/work$|/computed\.log$")
"""Scratch, files that get their name by `replace_file` later, the copy of the model, and a log for the eye."""


def test_nothing_changes_the_disk_by_another_way(tmp_path: Path) -> None:
    """So the calls that the crashes go through are all there are."""
    root, strays, through = tmp_path / "toy" / "run", [], 0
    config = toy_config(tmp_path / "toy")
    watching = True

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal through
        if not watching or not (event in CHANGES or event == "open"):
            return
        writes = event != "open" or (isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR))
        paths = [os.fsdecode(a) for a in arguments[:2] if isinstance(a, (str, bytes, os.PathLike))]
        if not writes or not any(p.startswith(str(root)) and not OUTSIDE.search(p) for p in paths):
            return
        frame, files = sys._getframe(), []
        while frame is not None:
            files.append(frame.f_code.co_filename)
            frame = frame.f_back
        if disk_module.__file__ in files:
            through += 1
        else:
            strays.append((event, paths))

    sys.addaudithook(hook)  # cannot be removed
    try:
        drive_toy(config)
    finally:
        watching = False
    assert through > 50
    assert not strays
