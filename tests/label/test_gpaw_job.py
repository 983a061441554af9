"""From a finished process to a result or an error that says what to do."""

import json
import os
from pathlib import Path

import pytest
from ase.build import molecule

from clusterflow.errors import ExecutionError, InputError, LabelError, WorkerLostError
from clusterflow.label.gpaw import GPAWReference
from clusterflow.label.gpaw_job import read_outcome, worker_environment, write_job
from clusterflow.label.gpaw_worker import EXIT_DISK, publish
from clusterflow.label.process import Finished

JOB = {"key": "k1", "atoms": {"numbers": [1, 1]}}
RESULT = {
    "job": "k1",
    "energy": -6.0,
    "forces": [[0, 0, 1], [0, 0, -1]],
    "stress": None,
    "magmom": 0.0,
    "scf_steps": 9,
    "steps": [],
    "converged": True,
    "peak_memory_MB": 100.0,
}


def _read(folder, returncode=0, timed_out=False):
    return read_outcome(Finished(returncode, timed_out), folder, JOB, ranks=2, time_limit=5.0)


def test_result(tmp_path):
    publish(tmp_path / "result.json", RESULT)
    assert _read(tmp_path) == RESULT
    assert [f.name for f in tmp_path.iterdir()] == ["result.json"]  # no temporary left


@pytest.mark.parametrize("length", [0, 1, 20, -2])
def test_truncated_result(tmp_path, length):
    (tmp_path / "result.json").write_text(json.dumps(RESULT)[:length])
    with pytest.raises(LabelError, match="truncated or damaged"):
        _read(tmp_path)


def test_result_without_forces(tmp_path):
    publish(tmp_path / "result.json", {k: v for k, v in RESULT.items() if k != "forces"})
    with pytest.raises(LabelError, match="lacks forces"):
        _read(tmp_path)


def test_result_of_another_job(tmp_path):
    publish(tmp_path / "result.json", {**RESULT, "job": "k0"})
    with pytest.raises(LabelError, match="another job"):
        _read(tmp_path)


def test_earlier_outcome_is_removed(tmp_path):
    publish(tmp_path / "result.json", RESULT)
    write_job(tmp_path, JOB)
    with pytest.raises(LabelError, match="status 1"):
        _read(tmp_path, returncode=1)


def test_recorded_failure(tmp_path):
    failure = {"job": "k1", "kind": "unconverged", "message": "SCF", "steps": ["gentler mixing"], "scf_steps": 300}
    publish(tmp_path / "failure.json", failure)
    with pytest.raises(LabelError, match=r"in 300 steps.*gentler mixing"):
        _read(tmp_path)


@pytest.mark.parametrize(
    ("returncode", "log", "error", "words"),
    [
        (
            1,
            "File blacs.py, line 3, in BLACSDistribution\nAssertionError",
            ExecutionError,
            "without ScaLAPACK.*2 ranks",
        ),
        (1, "There are not enough slots available in the system", ExecutionError, "refuses 2 ranks"),
        (1, "ModuleNotFoundError: No module named 'gpaw'", InputError, "not installed"),
        (1, "Traceback\n  x\nValueError: strange basis", LabelError, "ValueError: strange basis"),
        (0, "", LabelError, "no result"),
        (-9, "", WorkerLostError, "killed from outside"),
        (137, "", WorkerLostError, "killed from outside"),
        (EXIT_DISK, "cannot write in /x: No space left on device", ExecutionError, "No space left.*MB free"),
    ],
)
def test_what_went_wrong(tmp_path, returncode, log, error, words):
    (tmp_path / "worker.log").write_text(log)
    with pytest.raises(error, match=words) as caught:
        _read(tmp_path, returncode)
    assert caught.value.todo
    assert caught.value.where


def test_time_limit(tmp_path):
    with pytest.raises(LabelError, match="2 atoms within the time limit of 5 s"):
        _read(tmp_path, -9, timed_out=True)


def test_folder_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ExecutionError, match="cannot be written to"):
        write_job(tmp_path / "file" / "label", JOB)


def test_disk_full_while_gpaw_runs(tmp_path):
    """GPAW's text goes to a device that is always full."""
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full on this system")
    (tmp_path / "gpaw.txt").symlink_to("/dev/full")
    with pytest.raises(ExecutionError, match=r"cannot be written to.*No space left"):
        GPAWReference.quick(h=0.25, vacuum=2.5, time_limit=100).label(
            molecule("H2"), charge=0, spin=0, workdir=tmp_path
        )
    assert not (tmp_path / "result.json").exists()


def test_environment(monkeypatch):
    monkeypatch.setenv("OMPI_COMM_WORLD_SIZE", "4")
    monkeypatch.setenv("OMP_NUM_THREADS", "32")
    env = worker_environment()
    assert "OMPI_COMM_WORLD_SIZE" not in env
    assert env["OMP_NUM_THREADS"] == "1"
    assert ("OMPI_ALLOW_RUN_AS_ROOT" in env) == (os.geteuid() == 0)
