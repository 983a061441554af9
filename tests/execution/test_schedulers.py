"""What the commands of Slurm and PBS say, and what is made of it. Stubs stand for the commands.

test_slurm.py has the real ones of Slurm. There is no PBS for Debian: these stubs are all the testing it has here.
"""

import json
import os
import pwd
from pathlib import Path

import pytest

from clusterflow.errors import ExecutionError, InputError
from clusterflow.execution.machines import load_machine
from clusterflow.execution.parsl_engine import ParslEngine
from clusterflow.execution.scheduler_calls import QueuedJob
from clusterflow.execution.schedulers import PBS, Slurm, scheduler_of
from clusterflow.testing.fakes import run_toy

USER = pwd.getpwuid(os.getuid()).pw_name


@pytest.fixture
def stub(tmp_path, monkeypatch):
    """Writes a command that notes its arguments and environment and then does what it is told."""
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")

    def write(name, script):
        path = tmp_path / name
        path.write_text(f'#!/bin/bash\nprintf "%s\\n" "$@" >{tmp_path}/{name}.args\nenv >{tmp_path}/env\n{script}\n')
        path.chmod(0o755)
        return lambda: (tmp_path / f"{name}.args").read_text().splitlines()

    write.environment = lambda: (tmp_path / "env").read_text().splitlines()
    return write


def test_the_machine_says_which():
    hpc = Path(__file__).parents[2] / "hpc"
    assert isinstance(scheduler_of(load_machine(hpc / "slurm.yaml")), Slurm)
    assert isinstance(scheduler_of(load_machine(hpc / "pbs.yaml")), PBS)


@pytest.mark.parametrize(("said", "job"), [("123", "123"), ("123;cluster-a", "123"), ("a hint\\n77", "77")])
def test_sbatch(stub, tmp_path, monkeypatch, said, job):
    monkeypatch.setenv("SBATCH_ACCOUNT", "another")
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", "3")
    monkeypatch.setenv("SLURM_CONF", "/etc/here")
    arguments = stub("sbatch", f'printf "{said}\\n"')
    assert Slurm().submit(tmp_path / "job.sh") == job
    assert arguments() == ["--parsable", str(tmp_path / "job.sh")]
    environment = stub.environment()
    assert "SLURM_CONF=/etc/here" in environment
    assert not [v for v in environment if v.startswith(("SBATCH_", "SLURM_CPUS"))]


def test_squeue(stub):
    arguments = stub(
        "squeue",
        'echo "1|cf-a-1|RUNNING|None"; echo "2|cf-a-1|PENDING|Resources"; echo "3|x|PENDING|PartitionTimeLimit"; '
        'echo "4|y|PENDING|launch failed requeued held"; echo "5|a|b|COMPLETING|None" | sed "s/a|b/a/"',
    )
    assert Slurm().jobs() == [
        QueuedJob("1", "cf-a-1", "running", "None"),
        QueuedJob("2", "cf-a-1", "waiting", "Resources"),
        QueuedJob("3", "x", "waiting", "PartitionTimeLimit", hopeless=True),
        QueuedJob("4", "y", "waiting", "launch failed requeued held", hopeless=True),
        QueuedJob("5", "a", "running", "None"),
    ]
    assert arguments()[1] == f"--user={os.getuid()}"


@pytest.mark.parametrize("said", ["Welcome to our cluster", "12|only two", "x|y|z|w", "1|a|RUNNING"])
def test_squeue_rubbish(stub, said):
    stub("squeue", f"echo '{said}'")
    with pytest.raises(ExecutionError, match="squeue answered"):
        Slurm().jobs()


def test_scancel(stub, tmp_path):
    arguments = stub("scancel", "")
    Slurm().cancel(["1", "2"])
    assert arguments() == ["--quiet", "1", "2"]
    (tmp_path / "scancel").unlink()
    Slurm().cancel([])  # nothing to do: not called


@pytest.mark.parametrize(
    ("scheduler", "command", "call"),
    [
        (Slurm, "sbatch", lambda s, p: s.submit(p)),
        (Slurm, "squeue", lambda s, _: s.jobs()),
        (Slurm, "scancel", lambda s, _: s.cancel(["1"])),
        (PBS, "qsub", lambda s, p: s.submit(p)),
        (PBS, "qselect", lambda s, _: s.jobs()),
        (PBS, "qdel", lambda s, _: s.cancel(["1"])),
    ],
)
def test_failing_hanging_and_missing_commands(stub, tmp_path, monkeypatch, scheduler, command, call):
    monkeypatch.setattr("clusterflow.execution.scheduler_calls.TIME_LIMIT", 1.0)
    stub(command, "echo 'no   such\naccount' >&2; exit 1")
    with pytest.raises(ExecutionError, match=f"{command} failed with status 1: no such account"):
        call(scheduler(), tmp_path / "job.sh")
    stub(command, "exec sleep 30")
    with pytest.raises(ExecutionError, match=f"{command} did not answer within 1 s"):
        call(scheduler(), tmp_path / "job.sh")
    (tmp_path / command).unlink()
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ExecutionError, match=f"{command} cannot be started") as error:
        call(scheduler(), tmp_path / "job.sh")
    assert "login node" in error.value.todo


def test_a_driver_that_cannot_work_there_says_so_at_once(stub, tmp_path):
    machine = load_machine(Path(__file__).parents[2] / "hpc" / "slurm_loopback.yaml")
    (tmp_path / "a b").mkdir()
    with pytest.raises(InputError, match="may hold letters, digits"):
        ParslEngine(machine, tmp_path / "a b", run_toy, run_id="t:1")
    stub("squeue", "echo 'Unable to contact slurm controller' >&2; exit 1")
    with pytest.raises(ExecutionError, match="Unable to contact slurm controller"):
        ParslEngine(machine, tmp_path, run_toy, run_id="t:1")


def test_qsub(stub, tmp_path):
    arguments = stub("qsub", "echo 1234.pbs-1.example")
    assert PBS().submit(tmp_path / "job.sh") == "1234.pbs-1.example"
    assert arguments() == [str(tmp_path / "job.sh")]
    stub("qsub", "echo 'please log in'")
    with pytest.raises(ExecutionError, match="qsub answered 'please log in'"):
        PBS().submit(tmp_path / "job.sh")


def test_qstat(stub):
    jobs = {
        "1.s": {"Job_Name": "cf-a-1", "job_state": "R"},
        "2.s": {"Job_Name": "cf-a-1", "job_state": "Q", "comment": "Not Running: Insufficient resources"},
        "3.s": {"Job_Name": "cf-a-1", "job_state": "Q", "comment": "Can Never Run: too many ncpus"},
        "4.s": {"Job_Name": "cf-a-1", "job_state": "F"},
    }
    select = stub("qselect", "echo 1.s; echo 2.s; echo 3.s; echo 4.s; echo 5.s")
    stat = stub("qstat", f"echo '{json.dumps({'Jobs': jobs})}'; echo 'qstat: Unknown Job Id 5.s' >&2; exit 153")
    assert PBS().jobs() == [
        QueuedJob("1.s", "cf-a-1", "running"),
        QueuedJob("2.s", "cf-a-1", "waiting", "Not Running: Insufficient resources"),
        QueuedJob("3.s", "cf-a-1", "waiting", "Can Never Run: too many ncpus", hopeless=True),
    ]
    assert select() == ["-u", USER]
    assert stat()[:3] == ["-f", "-F", "json"]
    stub("qstat", "echo 'Job id  Name'")
    with pytest.raises(ExecutionError, match="qstat answered"):
        PBS().jobs()
    stub("qselect", "")
    assert PBS().jobs() == []


def test_qdel(stub):
    arguments = stub("qdel", "echo 'qdel: Job has finished 1.s' >&2; exit 35")
    PBS().cancel(["1.s"])
    assert arguments() == ["1.s"]
