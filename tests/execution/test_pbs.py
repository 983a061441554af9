"""The whole path through PBS with stubs that run jobs as processes of this computer. No real PBS was ever asked."""

import json
import os
import sys
import textwrap
import time
from pathlib import Path

import pytest

from clusterflow.errors import ExecutionError, WorkerLostError
from clusterflow.execution import supervise
from clusterflow.execution.machines import PBSMachine
from clusterflow.execution.parsl_engine import ParslEngine
from clusterflow.testing.engine_contract import toy
from clusterflow.testing.fakes import run_toy

WAIT = 120
STUB = """\
    #!{python}
    import json, os, re, signal, subprocess, sys
    from pathlib import Path

    place, name = Path({place!r}), Path(sys.argv[0]).name

    def alive(job):
        try:
            state = Path(f"/proc/{{job}}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            return False
        return state not in "ZX"

    if name == "qsub":
        script = Path(sys.argv[1])
        wanted = dict(line.split()[1:3] for line in script.read_text().splitlines() if line.startswith("#PBS"))
        if wanted.get("-q") == "nowhere":
            sys.exit("qsub: Unknown queue")
        kept = {{"PATH": os.environ["PATH"], "HOME": "/tmp", "PBS_JOBID": "1"}}  # PBS gives jobs none of ours
        kept["STUB_NODES"] = re.search(r"select=(\\d+)", script.read_text())[1]
        with open(wanted["-o"], "ab") as out:
            job = subprocess.Popen(["bash", str(script)], stdout=out, stderr=out, env=kept, start_new_session=True)
        (place / f"{{job.pid}}.job").write_text(wanted["-N"])
        print(f"{{job.pid}}.stub")
    elif name == "pbsdsh":  # programs get little of the environment of the job, and none of what its script has set
        bare = {{"PATH": "/usr/bin:/bin", "HOME": "/tmp", "PBS_JOBID": "1"}}
        assert sys.argv[1] == "--"
        nodes = range(int(os.environ["STUB_NODES"]))
        started = [subprocess.Popen(sys.argv[2:], env={{**bare, "PBS_NODENUM": str(n)}}) for n in nodes]
        sys.exit(max(one.wait() for one in started))
    elif name == "qselect":
        print("\\n".join(f"{{p.stem}}.stub" for p in place.glob("*.job") if alive(p.stem)))
    elif name == "qstat":
        jobs = {{}}
        for job in sys.argv[4:]:
            number = job.partition(".")[0]
            if alive(number):
                jobs[job] = {{"Job_Name": (place / f"{{number}}.job").read_text(), "job_state": "R"}}
        print(json.dumps({{"Jobs": jobs}}))
    elif name == "qdel":
        for job in sys.argv[1:]:
            if alive(job.partition(".")[0]):
                os.killpg(int(job.partition(".")[0]), signal.SIGTERM)
"""


@pytest.fixture
def pbs(tmp_path, monkeypatch):
    place = tmp_path / "pbs"
    place.mkdir()
    for name in ("qsub", "qselect", "qstat", "qdel", "pbsdsh"):
        path = place / name
        path.write_text(textwrap.dedent(STUB).format(python=sys.executable, place=str(place)))
        path.chmod(0o755)
    monkeypatch.setenv("PATH", f"{place}:{os.environ['PATH']}")
    yield place
    for job in place.glob("*.job"):
        deadline = time.monotonic() + 30
        while supervise.start_ticks(int(job.stem)) and time.monotonic() < deadline:
            time.sleep(0.1)
        assert not supervise.start_ticks(int(job.stem)), "a job was left"


def engine(folder, setup="", **label):
    lane = {"walltime": "10 min", "cores_per_node": 1, **label}
    data = {
        "kind": "pbs",
        "address": "127.0.0.1",
        "heartbeat": "10 s",
        "poll": "1 s",
        "worker_setup": setup,
        "submit": {"failures": 2, "first_wait": "0.2 s"},
        "lanes": {"label": lane, "md": "label", "train": "label"},
    }
    return ParslEngine(PBSMachine.model_validate(data), folder, run_toy, run_id="toy:1")


def test_tasks_run_and_jobs_end(pbs, tmp_path):
    runner = engine(tmp_path)
    try:
        first = runner.submit(toy("environment", lane="label")).result(timeout=WAIT)
        assert first.summary["OMP_NUM_THREADS"] == "1"
        running = runner.submit(toy("sleep", seconds=300, note="s", lane="md"))
        while not (tmp_path / "s.pid").exists():
            time.sleep(0.1)
        (job,) = pbs.glob("*.job")
        assert job.read_text().startswith("cf-")
        os.killpg(int(job.stem), 15)  # as qdel would
        assert type(running.exception(timeout=WAIT)) is WorkerLostError
        assert runner.submit(toy("echo", after=1, lane="label")).result(timeout=WAIT).key
    finally:
        runner.close(cancel=True)
    status = min(tmp_path.glob("parsl/*/supervisor-*.json"))
    assert json.loads(status.read_text())["asked"] is True


def test_a_block_of_two_nodes(pbs, tmp_path):
    """The nodes are one computer here; what differs is that pbsdsh starts each node's workers."""
    runner = engine(tmp_path, setup="export FROM_SETUP=yes", nodes=2)
    try:
        both = [runner.submit(toy("sleep", seconds=300, note=note, lane="label")) for note in "ab"]
        deadline = time.monotonic() + WAIT
        while not all((tmp_path / f"{note}.pid").exists() for note in "ab"):  # one worker on each node
            assert time.monotonic() < deadline
            time.sleep(0.1)
        (job,) = pbs.glob("*.job")
        supervisors = sorted(tmp_path.glob("parsl/*/supervisor-*.json"))
        assert [path.stem[-1] for path in supervisors] == ["0", "1"]
        pids = [json.loads(path.read_text())["pid"] for path in supervisors]
        for pid in pids:
            assert b"FROM_SETUP=yes" in Path(f"/proc/{pid}/environ").read_bytes()
        os.kill(pids[1], 15)  # one node is lost, and the block with it
        for future in both:
            assert type(future.exception(timeout=WAIT)) is WorkerLostError
    finally:
        runner.close(cancel=True)
    ends = time.monotonic() + WAIT
    while any(supervise.start_ticks(pid) for pid in pids):  # the other node is told by the scheduler
        assert time.monotonic() < ends
        time.sleep(0.1)
    assert job.exists()


def test_a_queue_that_does_not_exist(pbs, tmp_path):
    runner = engine(tmp_path, queue="nowhere")
    try:
        error = runner.submit(toy("echo", lane="label")).exception(timeout=WAIT)
        assert type(error) is ExecutionError
        assert "Unknown queue" in error.what
    finally:
        runner.close(cancel=True)
