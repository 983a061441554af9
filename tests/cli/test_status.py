"""`clusterflow status --watch` as it looks on a terminal, and what it says of queues."""

from __future__ import annotations

import io
import json
import os
import pty
import sys
from pathlib import Path

import pytest
from rich.console import Console
from typer.testing import CliRunner

from clusterflow.campaign.loop import Interrupted, Loop
from clusterflow.campaign.session import open_session
from clusterflow.cli.main import app
from clusterflow.cli.status import watch_status
from clusterflow.execution.apps import published, run_task
from clusterflow.execution.serial_engine import SerialEngine
from clusterflow.state.queue_waits import note_wait, queue_waits
from clusterflow.testing.toy_science import drive_toy, toy_config, toy_stages

CLEAR = "\x1b[2J"


def interrupted(folder: Path) -> Path:
    """A campaign whose driver was stopped in the middle."""
    config, turns = toy_config(folder), iter([False] * 12 + [True] * 99)
    with pytest.raises(Interrupted):
        drive_toy(config, stop=lambda: next(turns))
    return folder / "run"


def test_each_screen_replaces_the_last_when_it_is_complete(tmp_path: Path) -> None:
    """With a driver that lives, and that ends between the second and the third look."""
    config, out, pauses = toy_config(tmp_path), io.StringIO(), []
    console = Console(file=out, force_terminal=True, width=100)
    with toy_stages(), open_session(config, {}) as session:

        def pause(seconds: float) -> None:
            pauses.append(seconds)
            loop = Loop(
                config, session.inputs, session.snapshot, session.journal,
                SerialEngine(run_task, session.folder.root), lambda t: published(t, session.folder),
                lambda *_: None, lambda: len(pauses) < 2 and "train" in str(session.snapshot.sent.values()),
            )  # fmt: skip
            try:
                plan = loop.run()
                session.journal.append("finished", reason=plan.finished, failed=False)
            except Interrupted:
                pass

        watch_status(tmp_path / "run", console, pause=pause)
    screens = out.getvalue().split(CLEAR)[1:]
    assert len(screens) == len(pauses) + 1 == 3
    assert all(s >= 5.0 for s in pauses)
    assert "run: running" in screens[0]
    assert "labels" in screens[1]
    assert "Ctrl-C ends this, not the campaign" in screens[1]
    assert "finished all 1 iterations are done" in screens[2]
    assert "Ctrl-C" not in screens[2]


@pytest.mark.timeout(120)
def test_on_a_real_terminal_it_ends_when_no_driver_runs(tmp_path: Path) -> None:
    root = interrupted(tmp_path)
    child, terminal = pty.fork()
    if child == 0:
        os.execv(sys.executable, [sys.executable, "-m", "clusterflow.cli.main", "status", str(root), "--watch"])
    said = b""
    while True:
        try:
            piece = os.read(terminal, 65536)
        except OSError:  # the other end is closed
            break
        if not piece:
            break
        said += piece
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert said.count(CLEAR.encode()) == 1
    assert b"no driver is running; `clusterflow run` resumes" in said.replace(b"\r\n", b" ")


def test_watch_and_json_are_not_mixed(tmp_path: Path) -> None:
    said = CliRunner().invoke(app, ["status", str(interrupted(tmp_path)), "--watch", "--json"])
    assert said.exit_code == 2
    assert "--watch and --json do not go together" in said.output


def test_waits_in_the_queue_are_told(tmp_path: Path) -> None:
    root = interrupted(tmp_path)
    for number, (lane, seconds) in enumerate([("md", 30.0), ("label", 60.0), ("label", 3600.0), ("label", 90.0)]):
        block = root / "parsl" / f"{number:04d}-{lane}"
        block.mkdir(parents=True)
        note_wait(block, lane, str(number), seconds)
    (root / "parsl" / "0001-label" / "queue.json").write_text('{"lane": "lab')  # torn: not there
    rows = [(w.lane, w.blocks, w.median, w.longest) for w in queue_waits(root / "parsl")]
    assert rows == [("label", 2, 1845.0, 3600.0), ("md", 1, 30.0, 30.0)]
    text = CliRunner().invoke(app, ["status", str(root)], env={"COLUMNS": "200"}).output
    assert "blocks of lane label: 2, 0:30:45 in the queue (median; longest 1:00:00)" in text
    told = json.loads(CliRunner().invoke(app, ["status", str(root), "--json"]).output)
    assert told["queue"][1] == {"lane": "md", "blocks": 1, "median": 30.0, "longest": 30.0}
    assert told["state"] == "stopped"
    assert CliRunner().invoke(app, ["report", str(root)]).exit_code == 0
    assert "Blocks in the queue of the cluster" in (root / "report.html").read_text(encoding="utf-8")
