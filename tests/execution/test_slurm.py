"""On a real Slurm: blocks come and go, and whatever dies, no task waits for ever and no job stays behind."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import psutil
import pytest

from clusterflow.errors import ExecutionError, TimeLimitError, WorkerLostError
from clusterflow.execution import supervise
from clusterflow.execution.machines import SlurmMachine
from clusterflow.execution.parsl_engine import ParslEngine
from clusterflow.testing.engine_contract import ENGINE_CHECKS, toy
from clusterflow.testing.fakes import run_toy

pytestmark = pytest.mark.slow
WAIT = 180
HEARTBEAT = 10.0


def machine(label=None, md=None, **changes):
    """Two partitions; everything that waits is short."""
    return SlurmMachine.model_validate(
        {
            "kind": "slurm",
            "address": "127.0.0.1",
            "heartbeat": f"{HEARTBEAT} s",
            "poll": "1 s",
            "idle": "60 s",
            "end_margin": "20 s",
            "submit": {"first_wait": "0.2 s", "failures": 3},
            "lanes": {
                "md": {"partition": "gpu", "walltime": "10 min", "cores_per_node": 2, "gpus_per_node": 2, **(md or {})},
                "label": {"partition": "cpu", "walltime": "10 min", "cores_per_node": 2, **(label or {})},
            },
            **changes,
        }
    )


@pytest.fixture
def engine_for(slurm, tmp_path):
    made = []

    def make(**changes):
        made.append(ParslEngine(machine(**changes), tmp_path, run_toy, run_id="toy:1"))
        return made[-1]

    yield make
    for engine in made:
        engine.close(cancel=True)
    until(lambda: not queue(), 40)


def queue(form="%A|%T|%P|%j"):
    said = subprocess.run(["squeue", "--noheader", f"--format={form}"], capture_output=True, text=True, check=True)
    return [line.split("|") for line in said.stdout.splitlines()]


def until(condition, seconds=60.0):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if found := condition():
            return found
        time.sleep(0.1)
    raise AssertionError(f"nothing happened in {seconds} s")


def pids_of(path):
    return [int(p) for p in path.read_text().split()] if path.exists() else []


def run_folders(folder):
    return sorted(p for p in (folder / "parsl").iterdir() if p.is_dir())


def test_both_partitions_work_and_workers_see_what_they_should(engine_for, tmp_path, monkeypatch):
    monkeypatch.setenv("A_SECRET", "token")
    engine = engine_for(environment={"SHOWN": "yes"})
    md = [engine.submit(toy("environment", seconds=3.0, n=n, lane="md")) for n in range(2)]
    label = engine.submit(toy("sleep", seconds=3.0, note="here", lane="label"))
    train = engine.submit(toy("environment", lane="train"))
    worker = until(lambda: pids_of(tmp_path / "here.pid"), WAIT)[0]
    variables = psutil.Process(worker).environ()
    assert "A_SECRET" not in variables
    assert variables["SHOWN"] == "yes"
    assert not [v for v in variables if v.startswith("SLURM_")]
    assert sorted(f.result(timeout=WAIT).summary["CUDA_VISIBLE_DEVICES"] for f in md) == ["0", "1"]
    assert train.result(timeout=WAIT).summary["CUDA_VISIBLE_DEVICES"] in ("0", "1")  # on the blocks of md
    assert label.result(timeout=WAIT).key
    assert sorted(partition for _, _, partition, _ in queue()) == ["cpu", "gpu"]
    names = {name for *_, name in queue()}
    assert len(names) == 1
    assert next(iter(names)).startswith("cf-")
    assert {comment for (comment,) in queue("%k")} == {"cf:toy:1"}
    for folder in run_folders(tmp_path):
        assert folder.stat().st_mode & 0o077 == 0
        assert list(folder.rglob("server.key_secret"))
    for process in [psutil.Process(), *psutil.Process().children(recursive=True)]:
        for connection in process.net_connections(kind="inet"):
            if connection.status == psutil.CONN_LISTEN:
                assert connection.laddr.ip.removeprefix("::ffff:") == "127.0.0.1"


def test_it_is_an_engine(engine_for, tmp_path):
    engine = engine_for(md={"gpus_per_node": 0, "partition": "all"})
    for check in ENGINE_CHECKS:
        check(engine, tmp_path)


def test_worker_and_manager_and_interchange_killed(engine_for, tmp_path):
    engine = engine_for()
    for what in ("worker", "manager", "supervisor", "interchange", "everything"):
        running = engine.submit(toy("child", seconds=300, note=what, lane="label"))
        worker, child = until(lambda what=what: pids_of(tmp_path / f"{what}.pids"), WAIT)
        manager = psutil.Process(worker).parent()
        if what == "worker":
            os.kill(worker, signal.SIGKILL)
        elif what == "manager":
            manager.kill()
        elif what == "supervisor":
            manager.parent().kill()
        elif what == "everything":  # the server process of the manager too, without which it would spin
            for process in manager.children(recursive=True):
                process.kill()
        else:
            mine = psutil.Process().children(recursive=True)
            next(p for p in mine if "interchange" in " ".join(p.cmdline())).kill()
        error = running.exception(timeout=WAIT)
        assert type(error) is WorkerLostError, what
        assert engine.submit(toy("echo", after=what, lane="label")).result(timeout=WAIT).key
        until(lambda worker=worker: not supervise.start_ticks(worker), 60)
        until(lambda child=child: not supervise.start_ticks(child), 60)


def test_scancel_of_one_block_and_of_all(engine_for, tmp_path):
    engine = engine_for(label={"blocks": {"max": 2}, "workers_per_node": 1})
    tasks = [engine.submit(toy("sleep", seconds=300, note=f"b{n}", lane="label")) for n in range(2)]
    sibling = engine.submit(toy("sleep", seconds=20, note="md", lane="md"))
    for note in ("b0", "b1", "md"):
        until(lambda note=note: pids_of(tmp_path / f"{note}.pid"), WAIT)
    cpu = [job for job, _, partition, _ in queue() if partition == "cpu"]
    subprocess.run(["scancel", cpu[0]], check=True)
    first = until(lambda: [t for t in tasks if t.done()], 60)
    assert len(first) == 1
    error = first[0].exception()
    assert type(error) is WorkerLostError
    assert f"job {cpu[0]}" in error.what or "label" in error.what
    assert sibling.result(timeout=WAIT).key
    again = engine.submit(toy("sleep", seconds=300, note="b2", lane="label"))
    until(lambda: pids_of(tmp_path / "b2.pid"), WAIT)
    subprocess.run(["scancel", f"--user={os.getuid()}"], check=True)
    for task in (*tasks, again):
        assert type(task.exception(timeout=60)) is WorkerLostError
    assert engine.submit(toy("echo", after=1, lane="label")).result(timeout=WAIT).key


def test_task_over_its_limit_is_ended_on_its_node(engine_for, tmp_path, monkeypatch):
    monkeypatch.setattr("clusterflow.execution.watchdog.OVERTIME", 1.0)
    engine = engine_for()
    future = engine.submit(toy("child", seconds=300, note="long", lane="label", time_limit=2.0))
    error = future.exception(timeout=WAIT)
    assert type(error) is TimeLimitError
    worker, child = pids_of(tmp_path / "long.pids")
    until(lambda: not supervise.start_ticks(worker) and not supervise.start_ticks(child), 30)
    assert engine.submit(toy("echo", after=1, lane="label")).result(timeout=WAIT).key
    assert len(queue()) == 1  # on the same block


def test_idle_blocks_are_given_back_and_come_again(engine_for):
    engine = engine_for(idle="2 s")
    for n in range(2):
        assert engine.submit(toy("echo", n=n, lane="label")).result(timeout=WAIT).key
        assert queue()
        until(lambda: not queue(), 60)


def test_two_nodes_in_one_block(engine_for):
    engine = engine_for(label={"partition": "all", "nodes": 2, "cores_per_node": 2, "workers_per_node": 1})
    began = [engine.submit(toy("sleep", seconds=15.0, n=n, lane="label")) for n in range(2)]
    spans = [f.result(timeout=WAIT).summary for f in began]
    assert max(s["began"] for s in spans) < min(s["ended"] for s in spans)  # at once, one on each node
    assert len({s["pid"] for s in spans}) == 2


def test_walltime_loses_only_what_could_not_know(engine_for, tmp_path):
    """Tasks that fit are never cut off; one that has no limit is, and the next block serves others."""
    short = {"walltime": "2 min", "workers_per_node": 1}
    md = {**short, "gpus_per_node": 0, "partition": "all"}
    engine = engine_for(label=short, md=md, end_margin="30 s")
    endless = engine.submit(toy("child", seconds=600, note="endless", lane="md", time_limit=86_400.0))
    fitting = [engine.submit(toy("sleep", seconds=10.0, n=n, lane="label", time_limit=14.0)) for n in range(10)]
    results = [f.result(timeout=600).summary for f in fitting]
    assert len({s["pid"] for s in results}) >= 2  # more than one block had to serve
    error = endless.exception(timeout=WAIT)
    assert type(error) is WorkerLostError
    worker, child = pids_of(tmp_path / "endless.pids")
    until(lambda: not supervise.start_ticks(worker) and not supervise.start_ticks(child), 30)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"label": {"partition": "nowhere"}}, "invalid partition"),
        ({"worker_setup": "echo no licence left\nexit 7"}, "no licence left"),
        ({"label": {"walltime": "3 d"}}, "PartitionTimeLimit"),
        ({"label": {"cores_per_node": 999}}, "PartitionConfig"),
        ({"label": {"memory_per_node": 9000}}, "configuration is not available"),
    ],
)
def test_blocks_that_cannot_start_are_given_up_with_their_reason(engine_for, change, expected):
    engine = engine_for(**change)
    error = engine.submit(toy("echo", lane="label")).exception(timeout=WAIT)
    assert type(error) is ExecutionError
    assert "lane 'label' could not be started 3 times in a row" in error.what
    assert expected in error.what + error.where
    assert "machine file" in error.todo
    again = engine.submit(toy("echo", n=2, lane="label")).exception(timeout=20)  # at once: no further submissions
    assert type(again) is ExecutionError
    until(lambda: not queue(), 30)


DRIVER = textwrap.dedent(
    """
    import sys, time
    from clusterflow.execution.machines import load_machine
    from clusterflow.execution.parsl_engine import ParslEngine
    from clusterflow.testing.engine_contract import ENGINE_CHECKS, toy
    from clusterflow.testing.fakes import run_toy

    engine = ParslEngine(load_machine(sys.argv[1]), sys.argv[2], run_toy, run_id="toy:1")
    for n in range(6):
        engine.submit(toy("child", seconds=20, note=f"n{n}", lane="label"))
    time.sleep(600)
    """
)


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_jobs_of_a_dead_driver_end_and_do_not_run_its_backlog(slurm, tmp_path, how):
    file, folder = tmp_path / "machine.yaml", tmp_path / "run"
    folder.mkdir()
    file.write_text(machine().model_dump_json())
    driver = subprocess.Popen([sys.executable, "-c", DRIVER, str(file), str(folder)])
    for n in range(2):
        until(lambda n=n: pids_of(folder / f"n{n}.pids"), WAIT)
    driver.send_signal(how)
    driver.wait()
    died = time.monotonic()
    until(lambda: not queue(), HEARTBEAT + 60)
    print(f"the job was gone {time.monotonic() - died:.1f} s after the driver ({how.name})")
    for path in folder.glob("n*.pids"):
        until(lambda path=path: not any(supervise.start_ticks(p) for p in pids_of(path)), 20)
    assert not (folder / "n3.pids").exists()


def test_a_new_driver_cancels_what_an_older_one_left(slurm, tmp_path):
    script = tmp_path / "job.sh"
    engine = ParslEngine(machine(), tmp_path, run_toy, run_id="toy:1")
    engine.submit(toy("sleep", seconds=300, note="x", lane="label"))
    name = until(queue, WAIT)[0][3]
    engine.close(cancel=True)
    until(lambda: not queue(), 40)
    script.write_text("#!/bin/bash\nsleep 300\n")
    for other in (name, "cf-someone-else"):
        subprocess.run(["sbatch", f"--job-name={other}", "--output=/dev/null", str(script)], check=True)
    assert len(queue()) == 2
    engine = ParslEngine(machine(), tmp_path, run_toy, run_id="toy:2")
    try:
        until(lambda: [job[3] for job in queue()] == ["cf-someone-else"], 60)
    finally:
        engine.close(cancel=True)
        subprocess.run(["scancel", "--name=cf-someone-else"], check=True)
    until(lambda: not queue(), 40)


def stub(folder: Path, name: str, script: str, monkeypatch) -> None:
    """A command of the scheduler that misbehaves, in front of the real one."""
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(f"#!/bin/bash\n{script}\n")
    (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        ("echo 'sbatch: error: Invalid account' >&2; exit 1", "Invalid account"),
        ("exec sleep 60", "did not answer within 2 s"),
        ("/usr/bin/sbatch \"$@\" >/dev/null; echo 'Welcome! $(touch x); `id`'", "where the number of a job"),
        ("exit 0", "where the number of a job"),
    ],
    ids=["fails", "hangs", "rubbish after submitting", "silent"],
)
def test_sbatch_that_misbehaves(engine_for, tmp_path, monkeypatch, script, expected):
    monkeypatch.setattr("clusterflow.execution.scheduler_calls.TIME_LIMIT", 2.0)
    stub(tmp_path / "bin", "sbatch", script, monkeypatch)
    engine = engine_for()
    error = engine.submit(toy("echo", lane="label")).exception(timeout=WAIT)
    assert type(error) is ExecutionError
    assert expected in error.what
    engine.close(cancel=True)
    until(lambda: not queue(), 60)  # what was submitted all the same has been found by its name


def test_squeue_that_fails_changes_nothing(engine_for, tmp_path, monkeypatch):
    engine = engine_for()
    running = engine.submit(toy("sleep", seconds=15, note="s", lane="label"))
    until(lambda: pids_of(tmp_path / "s.pid"), WAIT)
    stub(tmp_path / "bin", "squeue", "echo nonsense; exit 0", monkeypatch)
    assert running.result(timeout=WAIT).key
    assert engine.submit(toy("echo", lane="label")).result(timeout=WAIT).key
    (tmp_path / "bin" / "squeue").unlink()
