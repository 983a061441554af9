"""No process outlives its driver."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

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
    assert until(lambda: not alive(pid))


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


PARENT = (  # a command that starts two workers and then waits, whatever becomes of them
    "import subprocess, sys, time\n"
    "w = [subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(300)']) for _ in range(2)]\n"
    "open(sys.argv[1], 'w').write(' '.join(str(p.pid) for p in w))\n"
    "time.sleep(300)\n"
)


@pytest.fixture
def impatient(tmp_path):
    """A supervised command with two workers; its supervisor looks often and loses patience soon."""
    data = json.loads(spec(tmp_path, os.getpid()).read_text())
    del data["driver"]  # as on another computer
    (tmp_path / "x.json").write_text(json.dumps({**data, "lost_after": 2.0}))
    code = Path(supervise.__file__).read_text().replace("CHECK = 4.0", "CHECK = 0.2")
    (tmp_path / "quick.py").write_text(code)
    command = [sys.executable, "-c", PARENT, str(tmp_path / "pids")]
    words = [sys.executable, "-I", "-S", str(tmp_path / "quick.py"), "watch", str(tmp_path / "x.json"), "--"]
    supervisor = subprocess.Popen([*words, *command])
    pids = [int(p) for p in until(lambda: (tmp_path / "pids").exists() and (tmp_path / "pids").read_text().split())]
    yield supervisor, pids
    supervisor.kill()
    supervisor.wait()


def marker(folder, pid, name="task-a.json", node=None):
    path = folder / name
    told = {"pid": pid, "start": supervise.start_ticks(pid), "node": node or os.uname().nodename}
    path.write_text(json.dumps(told))
    return path


def test_a_worker_that_died_with_its_task_is_noticed(impatient, tmp_path):
    supervisor, (first, second) = impatient
    marker(tmp_path, first)
    os.kill(first, signal.SIGKILL)
    supervisor.wait(timeout=20)
    assert (
        json.loads((tmp_path / "status.json").read_text())["why"] == "a worker died with its task, and nobody noticed"
    )
    assert not alive(second)


def test_a_worker_whose_death_was_reported_is_no_trouble(impatient, tmp_path):
    supervisor, (first, _) = impatient
    path = marker(tmp_path, first)
    marker(tmp_path, first, "task-b.json", node="another")  # that node's supervisor looks after it
    os.kill(first, signal.SIGKILL)
    path.unlink()  # by the driver, when it had heard of it
    time.sleep(4.0)
    assert supervisor.poll() is None


def test_all_workers_gone_is_noticed(impatient, tmp_path):
    supervisor, pids = impatient
    time.sleep(1.0)
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    supervisor.wait(timeout=20)
    assert json.loads((tmp_path / "status.json").read_text())["why"] == "all its worker processes are gone"


def test_a_task_is_ended_on_request(impatient, tmp_path):
    supervisor, (first, second) = impatient
    path = marker(tmp_path, first)
    path.rename(f"{path}.end")
    until(lambda: not alive(first))
    until(lambda: not list(tmp_path.glob("task-*")))
    time.sleep(3.0)
    assert alive(second)
    assert supervisor.poll() is None


def test_environment_of_a_job(tmp_path):
    """Scheduler's variables away, GPUs as given, the node's name in the names of files."""
    for given, expected in (("2,3", "2,3"), ("", "0,1")):
        out = tmp_path / "out"
        path = tmp_path / "e.json"
        log, status = str(tmp_path / "log-{node}"), str(tmp_path / "status-{node}.json")
        data = {"log": log, "environment": {"X": "1"}, "status": status, "without": ["SLURM_"], "gpus": 2}
        path.write_text(json.dumps(data))
        env = {**os.environ, "SLURM_JOB_ID": "7", "SLURM_PROCID": "3", "CUDA_VISIBLE_DEVICES": given}
        script = "import json, os, sys; json.dump(dict(os.environ), open(sys.argv[1], 'w'))"
        words = [sys.executable, "-I", "-S", supervise.__file__, "watch", str(path), "--"]
        subprocess.run([*words, sys.executable, "-c", script, str(out)], env=env, timeout=30, check=True)
        seen = json.loads(out.read_text())
        assert seen[supervise.GPUS] == expected
        assert seen["X"] == "1"
        assert float(seen[supervise.BEGAN]) <= time.time()
        assert not [name for name in seen if name.startswith("SLURM_")]
        assert (tmp_path / f"status-{os.uname().nodename}.3.json").exists()
        assert (tmp_path / f"log-{os.uname().nodename}.3").exists()
