"""No process outlives its driver."""

import json
import os
import signal
import subprocess
import sys
import time

import psutil
import pytest

from clusterflow.execution import supervise

SLEEP = "import time; time.sleep(300)"
FAMILY = (  # a child, a grandchild in a session of its own, and a daemon whose parent is gone
    "import os, subprocess, sys, time\n"
    "a = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(300)'], start_new_session=True)\n"
    "if os.fork() == 0:\n"
    "    os.setsid()\n"
    "    if os.fork() == 0:\n"
    "        open(sys.argv[1] + '.daemon', 'w').write(str(os.getpid()))\n"
    "        time.sleep(300)\n"
    "    os._exit(0)\n"
    "open(sys.argv[1], 'w').write(f'{os.getpid()} {a.pid}')\n"
    "time.sleep(300)\n"
)


def until(condition, seconds=15.0):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if found := condition():
            return found
        time.sleep(0.02)
    raise AssertionError(f"nothing happened in {seconds} s")


def alive(pid):
    return bool(supervise.start_ticks(pid))


def spec(folder, driver, name="x"):
    path = folder / f"{name}.json"
    path.write_text(
        json.dumps(
            {
                "log": str(folder / "log"),
                "environment": {"MARKED": "yes"},
                "driver": f"{driver}:{supervise.start_ticks(driver)}",
                "status": str(folder / "status.json"),
            }
        )
    )
    return path


def watch(folder, command, driver=None):
    words = [sys.executable, "-I", "-S", supervise.__file__, "watch", str(spec(folder, driver or os.getpid())), "--"]
    return subprocess.Popen([*words, *command])


def family(folder, driver=None):
    supervisor = watch(folder, [sys.executable, "-c", FAMILY, str(folder / "pids")], driver)
    pids = [int(p) for p in until(lambda: (folder / "pids").exists() and (folder / "pids").read_text().split())]
    return supervisor, pids


def test_exit_status_and_output_are_kept(tmp_path):
    script = "import os; print('hello', os.environ['MARKED']); raise SystemExit(5)"
    assert watch(tmp_path, [sys.executable, "-c", script]).wait(timeout=15) == 5
    assert (tmp_path / "log").read_text() == "hello yes\n"
    assert json.loads((tmp_path / "status.json").read_text()) == {"exit_code": 5, "asked": False}
    assert watch(tmp_path, ["/no/such/program"]).wait(timeout=15) == 127
    assert "cannot start /no/such/program" in (tmp_path / "log").read_text()


def test_term_ends_everything(tmp_path):
    supervisor, pids = family(tmp_path)
    supervisor.terminate()
    assert supervisor.wait(timeout=15) == 0
    assert not any(alive(p) for p in pids)


def test_processes_that_ignore_term_are_killed(tmp_path):
    script = (
        "import signal, sys, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); "
        "open(sys.argv[1], 'w').write('x'); time.sleep(300)"
    )
    supervisor = watch(tmp_path, [sys.executable, "-c", script, str(tmp_path / "up")])
    until((tmp_path / "up").exists)
    supervisor.terminate()
    began = time.monotonic()
    supervisor.wait(timeout=15)
    assert time.monotonic() - began < supervise.GRACE + 3


def test_death_of_the_driver_ends_everything(tmp_path):
    driver = subprocess.Popen([sys.executable, "-c", SLEEP])
    supervisor, pids = family(tmp_path, driver.pid)
    assert all(alive(p) for p in pids)
    driver.kill()  # and not waited for: a zombie is dead
    supervisor.wait(timeout=15)
    assert not any(alive(p) for p in pids)
    driver.wait()


def test_orphans_are_ended_while_the_rest_lives(tmp_path):
    supervisor, (parent, child) = family(tmp_path)
    daemon = int(until(lambda: (tmp_path / "pids.daemon").exists() and (tmp_path / "pids.daemon").read_text()))
    until(lambda: not alive(daemon))
    assert alive(parent)
    assert alive(child)
    supervisor.terminate()
    supervisor.wait(timeout=15)


def test_exec_mode_dies_with_the_driver(tmp_path):
    script = (
        "import subprocess, sys, time\n"
        "p = subprocess.Popen(sys.argv[1:], stdin=subprocess.PIPE)\n"
        "print(p.pid, flush=True)\n"
        "time.sleep(300)\n"
    )
    command = [sys.executable, "-I", "-S", supervise.__file__, "exec", str(spec(tmp_path, os.getpid())), "--"]
    driver = subprocess.Popen(
        [sys.executable, "-c", script, *command, sys.executable, "-c", SLEEP], stdout=subprocess.PIPE, text=True
    )
    pid = int(driver.stdout.readline())
    until(lambda: "sleep" in " ".join(psutil.Process(pid).cmdline()[-1:]) and len(psutil.Process(pid).cmdline()) == 3)
    driver.kill()
    driver.communicate()
    until(lambda: not alive(pid))


def test_marked_finds_by_environment_and_end_marked_ends(tmp_path):
    child = subprocess.Popen([sys.executable, "-c", SLEEP], env={supervise.MARK: "test-mark:1:2:x"})
    other = subprocess.Popen([sys.executable, "-c", SLEEP], env={supervise.MARK: "other-mark:1:2:x"})
    try:
        assert until(lambda: supervise.marked("test-mark:")) == {child.pid: "test-mark:1:2:x"}
        assert supervise.end_marked("test-mark:") == 1
        assert child.wait(timeout=10) == -signal.SIGTERM
        assert alive(other.pid)
        assert supervise.end_marked("test-mark:") == 0
    finally:
        for p in (child, other):
            p.kill()
            p.wait()


@pytest.mark.parametrize("pid", [2**22 + 5, 0])
def test_no_such_process(pid):
    assert supervise.start_ticks(pid) == ""
