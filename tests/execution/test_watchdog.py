"""Judging a task by its marker, and a watchdog that is never late for its own end."""

import json
import subprocess
import sys
import threading

import pytest

from clusterflow.execution.supervise import start_ticks
from clusterflow.execution.watchdog import ANSWER_LIMIT, OVERTIME, START_LIMIT, Progress, Watchdog


@pytest.fixture
def progress(tmp_path):
    return Progress(tmp_path / "task.json", limit=100.0, sent=1000.0)


def test_never_started(progress):
    assert progress.judge(1000.0 + START_LIMIT) == "fine"
    assert progress.judge(1001.0 + START_LIMIT) == "never started"


def test_overdue_counts_from_its_own_beginning(progress):
    progress.marker.write_text("{}")
    assert progress.judge(1200.0) == "fine"  # it waited 200 s for a worker to come up
    assert progress.judge(1200.0 + 100.0 + OVERTIME) == "fine"
    assert progress.judge(1201.0 + 100.0 + OVERTIME) == "overdue"
    assert progress.running_for(1300.0) == 100.0


def test_answer_lost(progress):
    progress.marker.write_text("{}")
    progress.judge(1001.0)
    progress.marker.unlink()
    assert progress.judge(1050.0) == "fine"
    assert progress.judge(1050.0 + ANSWER_LIMIT) == "fine"
    assert progress.judge(1051.0 + ANSWER_LIMIT) == "answer lost"


def test_kill_ends_only_the_process_that_wrote_the_marker(progress):
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(300)"])
    try:
        progress.marker.write_text(json.dumps({"pid": child.pid, "start": "1"}))
        progress.kill()  # the number belongs to another process by now
        assert start_ticks(child.pid)
        assert not progress.marker.exists()
        progress.marker.write_text(json.dumps({"pid": child.pid, "start": start_ticks(child.pid)}))
        progress.kill()
        assert child.wait(timeout=10) < 0
        progress.kill()  # nothing there: no error
    finally:
        child.kill()
        child.wait()


def test_watchdog_looks_wakes_and_finishes_in_one_thread():
    threads, looked = [], threading.Event()

    def look():
        threads.append(threading.get_ident())
        looked.set()

    dog = Watchdog(look, lambda: threads.append(-threading.get_ident()), period=60.0)
    assert looked.wait(5)
    looked.clear()
    dog.wake()
    assert looked.wait(5)
    dog.stop()
    assert len(set(threads[:-1])) == 1
    assert threads[-1] == -threads[0]
    assert threads[0] != threading.get_ident()
