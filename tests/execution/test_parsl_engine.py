"""The parallel engine when things die: no task waits for ever, no process stays behind."""

import ipaddress
import json
import os
import signal
import stat
import subprocess
import sys
import textwrap
import time
from concurrent.futures import Future, wait
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from clusterflow.core.data import Task
from clusterflow.core.frames import digest
from clusterflow.errors import ConfigError, ExecutionError, TimeLimitError, WorkerLostError
from clusterflow.execution import supervise
from clusterflow.execution.local_supply import MAX_LIVES, pool_shapes
from clusterflow.execution.machines import Lane, Lanes, LocalMachine
from clusterflow.execution.parsl_engine import ParslEngine
from clusterflow.testing.engine_contract import toy
from clusterflow.testing.fakes import run_toy

WAIT = 120


def machine(cores=2, **lanes):
    return LocalMachine(cores=cores, lanes=Lanes(**{n: Lane(**v) for n, v in lanes.items()}))


@pytest.fixture(scope="module")
def campaign(tmp_path_factory):
    return tmp_path_factory.mktemp("campaign")


@pytest.fixture(scope="module")
def engine(campaign):
    """One engine for all that it must survive."""
    made = ParslEngine(machine(), campaign, run_toy, run_id="test:1")
    yield made
    made.close(cancel=True)
    assert ours(campaign) == []


def ours(folder):
    """Processes of the pools of a campaign folder, and what they started."""
    return sorted(supervise.marked(digest(str(Path(folder).absolute()))[:16]))


def until(condition, seconds=30.0):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if found := condition():
            return found
        time.sleep(0.05)
    raise AssertionError(f"nothing happened in {seconds} s")


def pids_of(path):
    return [int(p) for p in path.read_text().split()] if path.exists() else []


def test_worker_killed_is_reported_and_its_sibling_unharmed(engine, campaign):
    sibling = engine.submit(toy("sleep", seconds=6.0, lane="md"))
    victim = engine.submit(toy("child", seconds=300, note="victim", lane="label"))
    worker, child = until(lambda: pids_of(campaign / "victim.pids"), WAIT)
    os.kill(worker, signal.SIGKILL)
    error = victim.exception(timeout=30)
    assert type(error) is WorkerLostError
    assert "died with its task. It held task 'toy'" in error.what
    until(lambda: not psutil.pid_exists(child), 10)  # what the worker had started does not compete with the retry
    assert sibling.result(timeout=WAIT).summary["ended"] > 0
    assert engine.submit(toy("echo", after=1)).result(timeout=WAIT).key  # the worker was replaced


def test_interchange_killed_is_noticed_and_replaced(engine, campaign):
    """Parsl alone would leave these futures pending for ever."""
    running = engine.submit(toy("sleep", seconds=300, note="r", lane="md"))
    until(lambda: pids_of(campaign / "r.pid"), WAIT)
    interchange = [p for p in ours(campaign) if "interchange" in " ".join(psutil.Process(p).cmdline())]
    os.kill(interchange[0], signal.SIGKILL)
    error = running.exception(timeout=20)
    assert type(error) is WorkerLostError
    assert "interchange ended with status -9" in error.what
    assert engine.submit(toy("echo", after=1)).result(timeout=WAIT).key


def test_supervisor_and_manager_killed(engine, campaign):
    running = engine.submit(toy("child", seconds=300, note="c", lane="md"))
    worker, child = until(lambda: pids_of(campaign / "c.pids"), WAIT)
    status = max((campaign / "parsl").glob("*/supervisor.json"))
    os.kill(json.loads(status.read_text())["pid"], signal.SIGKILL)
    assert type(running.exception(timeout=20)) is WorkerLostError
    until(lambda: not psutil.pid_exists(worker) and not psutil.pid_exists(child), 20)
    again = engine.submit(toy("child", seconds=300, note="d", lane="md"))
    worker, child = until(lambda: pids_of(campaign / "d.pids"), WAIT)
    os.kill(psutil.Process(worker).ppid(), signal.SIGKILL)  # the manager
    assert type(again.exception(timeout=20)) is WorkerLostError
    until(lambda: not psutil.pid_exists(worker) and not psutil.pid_exists(child), 20)


def test_all_worker_processes_killed_while_the_manager_spins(engine, campaign):
    """With them goes the server process that Parsl's manager talks to: it then spins for ever, and its heartbeats go
    on. Nobody but the supervisor notices."""
    engine.submit(toy("echo", before=2)).result(timeout=WAIT)
    running = engine.submit(toy("sleep", seconds=300, note="all", lane="md"))
    until(lambda: pids_of(campaign / "all.pid"), WAIT)
    manager = psutil.Process(pids_of(campaign / "all.pid")[0]).parent()
    for process in manager.children(recursive=True):
        process.kill()
    error = running.exception(timeout=90)
    assert type(error) is WorkerLostError
    assert "gone" in error.what or "nobody noticed" in error.what
    until(lambda: not supervise.start_ticks(manager.pid), 20)
    assert engine.submit(toy("echo", after=2)).result(timeout=WAIT).key


def test_cores_and_lanes_are_respected_and_large_tasks_not_starved(tmp_path):
    lanes = {"md": {"workers": 3}, "train": {"workers": 1}, "label": {"workers": 2, "cores_per_worker": 3}}
    engine = ParslEngine(machine(cores=4, **lanes), tmp_path, run_toy, run_id="t")
    try:
        small = [engine.submit(toy("sleep", seconds=0.6, n=n, lane="md")) for n in range(6)]
        large = [engine.submit(toy("sleep", seconds=0.6, n=n, lane="label")) for n in range(2)]
        late = [engine.submit(toy("sleep", seconds=0.6, n=n + 10, lane="md")) for n in range(4)]
        wait([*small, *large, *late], timeout=WAIT)
        spans = [(f.result().summary["began"], f.result().summary["ended"], f.result().cores) for f in small + late]
        big = [(f.result().summary["began"], f.result().summary["ended"], f.result().cores) for f in large]
    finally:
        engine.close(cancel=True)
    assert {c for *_, c in spans} == {1}
    assert {c for *_, c in big} == {3}
    for t, _, _ in spans + big:
        running = [s for s in spans + big if s[0] <= t < s[1]]
        assert sum(c for *_, c in running) <= 4
        assert sum(c == 1 for *_, c in running) <= 3
    assert min(b for b, *_ in big) < max(b for b, *_ in spans[6:])


def test_threads_and_gpus_of_workers(tmp_path, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5,7")
    lanes = {"md": {"workers": 2, "gpus": 2}, "label": {"workers": 1, "cores_per_worker": 2}, "train": {"gpus": 0}}
    engine = ParslEngine(machine(cores=4, **lanes), tmp_path, run_toy, run_id="t")
    try:
        md = [engine.submit(toy("environment", seconds=2.0, n=n, lane="md")) for n in range(2)]
        label = engine.submit(toy("environment", lane="label"))
        seen = [f.result(timeout=WAIT).summary for f in md]
        assert sorted(s["CUDA_VISIBLE_DEVICES"] for s in seen) == ["5", "7"]
        assert {s["OMP_NUM_THREADS"] for s in seen} == {"1"}
        assert label.result(timeout=WAIT).summary["OMP_NUM_THREADS"] == "2"
        assert label.result().summary["OPENBLAS_NUM_THREADS"] == "2"
    finally:
        engine.close(cancel=True)


def test_lanes_of_equal_workers_share_a_pool(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    default = machine(cores=2)
    shapes = pool_shapes({n: default.resolved(n) for n in ("md", "label", "train", "local")}, 2)
    assert [(s.name, s.workers) for s in shapes] == [("cpu1", 2)]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    mixed = machine(cores=8, label={"cores_per_worker": 4})
    shapes = pool_shapes({n: mixed.resolved(n) for n in ("md", "label", "train", "local")}, 8)
    assert {s.name: (s.workers, s.gpus) for s in shapes} == {
        "md": (2, ("0", "1")),
        "cpu4": (2, ()),
        "train": (1, ("0", "1")),
        "cpu1": (1, ()),
    }


def test_task_over_its_limit_is_ended(engine, campaign, monkeypatch):
    monkeypatch.setattr("clusterflow.execution.watchdog.OVERTIME", 1.0)
    engine.submit(toy("echo")).result(timeout=WAIT)
    future = engine.submit(toy("child", seconds=300, note="long", lane="train", time_limit=1.0))
    error = future.exception(timeout=30)
    assert type(error) is TimeLimitError
    assert "its limit is 1 s" in error.what
    worker, child = pids_of(campaign / "long.pids")
    until(lambda: not psutil.pid_exists(worker) and not psutil.pid_exists(child), 10)
    assert engine.submit(toy("echo", after=1)).result(timeout=WAIT).key


def test_pool_that_never_works_is_given_up(tmp_path, monkeypatch):
    monkeypatch.setattr("clusterflow.execution.local_pool.worker_command", lambda options: ["sh", "-c", "exit 3"])
    engine = ParslEngine(machine(), tmp_path, run_toy, run_id="t")
    try:
        for _ in range(MAX_LIVES):
            error = engine.submit(toy("echo")).exception(timeout=60)
            assert isinstance(error, WorkerLostError)
            assert "ended with status 3" in error.what
        error = engine.submit(toy("echo")).exception(timeout=30)
        assert type(error) is ExecutionError
        assert f"was started {MAX_LIVES} times and never finished a task" in error.what
        assert "clusterflow doctor" in error.todo
    finally:
        engine.close()
    assert ours(tmp_path) == []


def test_close_with_cancel_leaves_nothing(tmp_path):
    engine = ParslEngine(machine(), tmp_path, run_toy, run_id="t")
    running = [engine.submit(toy("child", seconds=300, note=f"n{n}", lane="md")) for n in range(2)]
    waiting = engine.submit(toy("child", seconds=300, note="n2", lane="md"))
    _, child = until(lambda: pids_of(tmp_path / "n0.pids"), WAIT)
    until(lambda: pids_of(tmp_path / "n1.pids"), WAIT)
    began = time.monotonic()
    engine.close(cancel=True)
    assert time.monotonic() - began < 15
    assert waiting.cancelled()
    for future in running:
        assert isinstance(future.exception(timeout=0), ExecutionError)
    assert ours(tmp_path) == []
    until(lambda: not psutil.pid_exists(child), 10)  # killed; whoever inherited it has yet to reap it
    assert not (tmp_path / "n2.pids").exists()


def test_close_before_the_pool_is_up_leaves_nothing(tmp_path):
    engine = ParslEngine(machine(), tmp_path, run_toy, run_id="t")
    future = engine.submit(toy("echo"))
    engine.close(cancel=True)
    assert future.cancelled() or future.done()
    time.sleep(1.0)
    assert ours(tmp_path) == []


DRIVER = textwrap.dedent(
    """
    import sys, time
    from clusterflow.execution.machines import LocalMachine
    from clusterflow.execution.parsl_engine import ParslEngine
    from clusterflow.testing.engine_contract import toy
    from clusterflow.testing.fakes import run_toy

    engine = ParslEngine(LocalMachine(cores=2), sys.argv[1], run_toy, run_id="victim:1")
    for n in range(2):
        engine.submit(toy("child", seconds=300, note=f"n{n}", lane="md"))
    time.sleep(600)
    """
)


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_driver_killed_leaves_no_orphans(tmp_path, how):
    driver = subprocess.Popen([sys.executable, "-c", DRIVER, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    for n in range(2):
        until(lambda n=n: pids_of(tmp_path / f"n{n}.pids"), WAIT)
    everything = {p: psutil.Process(p) for p in ours(tmp_path)}
    assert len(everything) >= 7  # interchange, manager and its server, two workers, two grandchildren
    began = time.monotonic()
    driver.send_signal(how)
    driver.communicate()
    until(lambda: not ours(tmp_path), 20)
    seconds = time.monotonic() - began
    # A process that ends has no environment any more a moment before it is gone.
    until(lambda: not any(supervise.start_ticks(p) for p in everything), 10)
    print(f"{len(everything)} processes gone {seconds:.1f} s after {how.name}")


def test_what_an_earlier_driver_left_is_ended_before_work_begins(tmp_path):
    """Should even the supervisors have been killed."""
    mark = f"{digest(str(tmp_path))[:16]}:4194304:1:cpu1"
    stray = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(300)"], env={supervise.MARK: mark})
    until(lambda: ours(tmp_path))
    engine = ParslEngine(machine(), tmp_path, run_toy, run_id="t")
    try:
        assert stray.wait(timeout=10) == -signal.SIGTERM
    finally:
        engine.close()


def test_run_folder_is_private_encrypted_and_listens_on_loopback_only(engine, campaign, capfd):
    engine.submit(toy("echo")).result(timeout=WAIT)
    for folder in [campaign / "parsl", *(campaign / "parsl").iterdir()]:
        if folder.is_dir():
            assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert list((campaign / "parsl").rglob("certificates/server.key_secret"))
    for pid in [*ours(campaign), os.getpid()]:
        for connection in psutil.Process(pid).net_connections(kind="inet"):
            if connection.status == psutil.CONN_LISTEN:
                address = ipaddress.ip_address(connection.laddr.ip)
                assert (getattr(address, "ipv4_mapped", None) or address).is_loopback
    assert capfd.readouterr() == ("", "")


def test_relative_path_names_and_path_are_not_needed(tmp_path):
    """A virtual environment that is not activated, a campaign folder with a space, a quote and a dollar sign."""
    folder = tmp_path / "it's $HOME {x}"
    folder.mkdir()
    script = (
        "import sys\n"
        "from clusterflow.execution.machines import LocalMachine\n"
        "from clusterflow.execution.parsl_engine import ParslEngine\n"
        "from clusterflow.testing.engine_contract import toy\n"
        "from clusterflow.testing.fakes import run_toy\n"
        "engine = ParslEngine(LocalMachine(cores=1), sys.argv[1], run_toy, run_id='t')\n"
        "print(engine.submit(toy('echo')).result(timeout=100).summary['folder'])\n"
        "engine.close()\n"
    )
    env = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", script, str(folder)], env=env, capture_output=True, text=True, timeout=150, check=False
    )
    assert done.stderr == ""
    assert done.stdout.strip() == str(folder)
    assert ours(folder) == []


def test_what_cannot_work_is_refused_at_once(tmp_path):
    with pytest.raises(ExecutionError, match="Workers cannot import"):
        ParslEngine(machine(), tmp_path, lambda task, folder: {}, run_id="t")
    with pytest.raises(ConfigError, match="wants 9999 cores per worker"):
        ParslEngine(LocalMachine(lanes=Lanes(label=Lane(cores_per_worker=9999))), tmp_path, run_toy, run_id="t")
    engine = ParslEngine(machine(), tmp_path, run_toy, run_id="t")
    try:
        with pytest.raises(ExecutionError, match="asks for a lane 'gpu'"):
            engine.submit(Task("toy", "k", "gpu", {}))
    finally:
        engine.close()


class BlocksThatEnd:
    """A supply whose blocks take a task and end, ``n`` times in all; the next one answers."""

    def __init__(self, folder, n, *, expected):
        self.folder, self.left, self.expected = folder, n, expected
        self.given, self.sent = [], []

    def claim(self, job):
        pool = SimpleNamespace(folder=self.folder, shape=None, lost=WorkerLostError)
        pool.submit = lambda run, text, folder, marker: self._answer(pool)
        return pool

    def _answer(self, pool):
        self.sent.append(pool)
        future = Future()
        if self.left:
            self.left -= 1
            self.given.append(pool)
        else:
            future.set_result('{"result":{"key":"k","summary":{},"wall_time":1,"cores":1,"peak_memory_MB":0}}')
        return future

    def look(self, waiting):
        ended, self.given = self.given, []
        return [(pool, "its time was over") for pool in ended]

    def bury(self, pool, why):
        return self.expected

    def release(self, job, seconds):
        pass

    def stop(self):
        pass


@pytest.fixture
def engine_with(tmp_path):
    made = []

    def make(supply):
        engine = ParslEngine(machine(), tmp_path, run_toy, run_id="t")
        engine._supply = supply
        made.append(engine)
        return engine

    yield make
    for engine in made:
        engine.close(cancel=True)


@pytest.mark.parametrize("kind", ["train", "explore"])
def test_a_training_and_a_walk_go_on_in_the_next_block(engine_with, tmp_path, kind):
    supply = BlocksThatEnd(tmp_path, 3, expected=True)
    assert engine_with(supply).submit(Task(kind, "k", "train", {})).result(timeout=60).key == "k"
    assert len(supply.sent) == 4


@pytest.mark.parametrize(("kind", "expected"), [("train", False), ("explore", False), ("label", True)])
def test_other_losses_are_reported(engine_with, tmp_path, kind, expected):
    """A block that was lost before its time, and a task that would have to begin again."""
    supply = BlocksThatEnd(tmp_path, 1, expected=expected)
    error = engine_with(supply).submit(Task(kind, "k", "train", {})).exception(timeout=60)
    assert type(error) is WorkerLostError
    assert len(supply.sent) == 1


def test_even_a_training_is_cut_only_so_often(engine_with, tmp_path, monkeypatch):
    monkeypatch.setattr("clusterflow.execution.parsl_engine.MAX_CUTS", 2)
    supply = BlocksThatEnd(tmp_path, 9, expected=True)
    assert type(engine_with(supply).submit(Task("train", "k", "train", {})).exception(timeout=60)) is WorkerLostError
    assert len(supply.sent) == 3


def test_a_training_between_two_blocks_ends_with_the_engine(engine_with, tmp_path, monkeypatch):
    supply = BlocksThatEnd(tmp_path, 1, expected=True)
    engine = engine_with(supply)
    future = engine.submit(Task("train", "k", "train", {}))
    monkeypatch.setattr(supply, "claim", lambda job: "wait")
    until(lambda: engine._queue)
    engine.close(cancel=True)
    assert isinstance(future.exception(timeout=0), ExecutionError)
