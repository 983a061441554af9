"""A streaming campaign with every real part but xTB for DFT, killed twice while walks, labels and a training run."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from clusterflow.campaign.lag import mean_lag, model_lag
from clusterflow.state.journal import Event, read_events
from clusterflow.state.snapshot import fold

pytestmark = pytest.mark.slow
FILE = Path(__file__).parents[2] / "configs" / "streaming.yaml"


def command(*arguments: str | Path) -> list[str]:
    return [sys.executable, "-m", "clusterflow.cli.main", *map(str, arguments)]


def kill_when(folder: Path, moment: Callable[[list[Event]], bool], log: Path) -> None:
    """Starts a driver and kills it, and nothing else, once the journal says that the moment has come."""
    with log.open("w") as text:
        driver = subprocess.Popen(command("run", FILE, "--folder", folder), stdout=text, stderr=subprocess.STDOUT)
    end = time.monotonic() + 400
    try:
        while not ((folder / "journal.jsonl").is_file() and moment(read_events(folder / "journal.jsonl"))):
            assert driver.poll() is None, log.read_text()
            assert time.monotonic() < end, log.read_text()
            time.sleep(0.1)
    finally:
        os.kill(driver.pid, signal.SIGKILL)
        driver.wait()


def training(version: int) -> Callable[[list[Event]], bool]:
    """While this version is being trained."""

    def reached(events: list[Event]) -> bool:
        decided = [e.seq for e in events if e.kind == "decision" and e.data["name"] == f"split/{version}"]
        return any(e.kind == "sent" and e.data["task"] == "train" and decided and e.seq > decided[0] for e in events)

    return reached


def test_killed_while_everything_runs_it_goes_on_and_loses_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    kill_when(folder, training(0), tmp_path / "first.log")
    kill_when(folder, training(2), tmp_path / "second.log")
    before = read_events(folder / "journal.jsonl")
    done = subprocess.run(
        command("run", FILE, "--folder", folder), capture_output=True, text=True, timeout=800, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    events = read_events(folder / "journal.jsonl")
    assert [e.checksum for e in events[: len(before)]] == [e.checksum for e in before]

    computed = Counter(line.split()[0] for line in (folder / "computed.log").read_text().splitlines())
    assert max(computed.values()) == 1  # no label was computed twice
    ended = Counter(e.data["key"] for e in events if e.kind == "done")
    assert max(ended.values()) == 1
    names = Counter(e.data["name"] for e in events if e.kind == "decision")
    assert max(names.values()) == 1  # every decision was taken once

    snapshot = fold(events)
    assert snapshot.decisions["stop"]["iteration"] == 3
    splits = [v for n, v in snapshot.decisions.items() if n.startswith("split/")]
    trained = [k for s in splits for k in (*s["train"], *s["validation"])]
    assert len(trained) == len(set(trained)) >= 8 + 3 * 4
    assert not set(splits[0]["test"]) & set(trained)
    lag = mean_lag(model_lag(snapshot))
    assert lag is not None
    assert lag <= 2.0

    status = json.loads(
        subprocess.run(
            command("status", folder, "--json"), capture_output=True, text=True, timeout=120, check=True
        ).stdout
    )
    assert status["state"] == "finished"
    assert len(status["models"]) == 4
    assert (folder / "model" / "model.json").is_file()
    assert "<svg" in (folder / "report.html").read_text(encoding="utf-8")
