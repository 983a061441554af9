"""Nothing of a calculation is left: at the time limit, at Ctrl-C, and when the driver is killed."""

import os
import shutil
import signal
import subprocess
import sys
import time

import psutil
import pytest
from ase.build import molecule

from clusterflow.errors import ExecutionError, LabelError
from clusterflow.label.gpaw import GPAWReference
from clusterflow.label.process import run_in_session

DRIVER = """
import signal, sys
from ase.build import molecule
from clusterflow.label.gpaw import GPAWReference
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job would ignore it
GPAWReference(h=0.12, vacuum=6.0, time_limit=300).label(molecule("C6H6"), charge=0, spin=0, workdir=sys.argv[1])
"""


def _naming(folder):
    """Command lines of live processes that name the folder, without the present one and its parents."""
    mine = {os.getpid(), *(p.pid for p in psutil.Process().parents())}
    found = []
    for process in psutil.process_iter():
        try:
            if process.pid not in mine and process.status() != psutil.STATUS_ZOMBIE:
                line = " ".join(process.cmdline())
                if str(folder) in line:
                    found.append(line)
        except psutil.Error:
            continue
    return found


def _wait_until(condition, seconds):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.1)
    return condition()


@pytest.mark.parametrize("ranks", [1, 2])
def test_time_limit_ends_the_whole_tree(tmp_path, ranks):
    if ranks > 1 and shutil.which("mpirun") is None:
        pytest.skip("no mpirun on PATH")
    launcher = ("mpirun", "--oversubscribe", "-np", "{ranks}") if ranks > 1 else ()
    reference = GPAWReference(h=0.12, vacuum=6.0, ranks=ranks, launcher=launcher, time_limit=4.0)
    start = time.monotonic()
    with pytest.raises(LabelError, match="within the time limit of 4 s"):
        reference.label(molecule("C6H6"), charge=0, spin=0, workdir=tmp_path)
    assert time.monotonic() - start < 20
    assert _naming(tmp_path) == []


@pytest.mark.parametrize("sent", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_nothing_outlives_the_driver(tmp_path, sent):
    folder = tmp_path / "label"
    driver = subprocess.Popen([sys.executable, "-c", DRIVER, str(folder)], stderr=subprocess.DEVNULL)
    try:
        assert _wait_until(lambda: any("gpaw_worker" in line for line in _naming(folder)), 60)
        assert _wait_until((folder / "gpaw.txt").exists, 60)  # GPAW itself is running
        driver.send_signal(sent)
        assert driver.wait(timeout=15) != 0
        assert _wait_until(lambda: _naming(folder) == [], 15), _naming(folder)
    finally:
        driver.kill()


def test_children_that_changed_their_group_are_killed_too(tmp_path):
    """What an MPI launcher does: children in process groups of their own, deaf to SIGTERM."""
    child, parent = tmp_path / "child.py", tmp_path / "parent.py"
    child.write_text(
        "import os, pathlib, signal, time\n"
        "os.setpgid(0, 0)\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "pathlib.Path('ready').touch()\n"
        "time.sleep(60)\n"
    )
    parent.write_text(f"import subprocess, sys\nsubprocess.run([sys.executable, {str(child)!r}])\n")
    finished = run_in_session(
        [sys.executable, str(parent)], folder=tmp_path, log=tmp_path / "log", environment=os.environ, time_limit=3.0
    )
    assert finished.timed_out
    assert (tmp_path / "ready").exists()
    assert _naming(tmp_path) == []


def test_returncode_and_log(tmp_path):
    finished = run_in_session(
        [sys.executable, "-c", "print('hello'); raise SystemExit(7)"],
        folder=tmp_path,
        log=tmp_path / "log",
        environment=os.environ,
        time_limit=30,
    )
    assert (finished.returncode, finished.timed_out) == (7, False)
    assert (tmp_path / "log").read_text() == "hello\n"


def test_missing_program(tmp_path):
    with pytest.raises(ExecutionError, match="no-such-launcher"):
        GPAWReference.quick(ranks=2, launcher=("no-such-launcher",)).label(
            molecule("H2"), charge=0, spin=0, workdir=tmp_path
        )
