"""hpc/driver.sbatch: the driver as a job stops in time and comes again, but not when it was cancelled."""

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "hpc" / "driver.sbatch"
DRIVER = """#!/bin/bash
echo "$@" >>{0}/started
[ -e {0}/code ] && exit $(cat {0}/code)
trap 'sleep 1; exit 75' TERM
for i in $(seq 600); do sleep 0.1; done
"""


@pytest.fixture
def place(tmp_path, monkeypatch):
    """Commands that stand for clusterflow and scontrol."""
    for name, text in {
        "clusterflow": DRIVER.format(tmp_path),
        "scontrol": f'#!/bin/bash\necho "$@" >>{tmp_path}/requeued\n',
    }.items():
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setenv("SLURM_JOB_ID", "77")
    monkeypatch.delenv("PYTHON", raising=False)
    return tmp_path


def start(place):
    job = subprocess.Popen(["bash", str(SCRIPT), "my campaign.yaml", "--folder", "x"])
    deadline = time.monotonic() + 30
    while not (place / "started").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert (place / "started").read_text() == "run my campaign.yaml --folder x\n"
    time.sleep(0.5)
    return job


def test_before_its_time_ends_it_stops_and_comes_again(place):
    job = start(place)
    job.send_signal(signal.SIGUSR1)
    assert job.wait(timeout=30) == 0
    assert (place / "requeued").read_text() == "requeue 77\n"


def test_cancelled_it_stays_away(place):
    job = start(place)
    job.send_signal(signal.SIGTERM)
    assert job.wait(timeout=30) == 75
    assert not (place / "requeued").exists()


@pytest.mark.parametrize("code", [0, 1, 2])
def test_an_end_is_an_end(place, code):
    (place / "code").write_text(str(code))
    assert subprocess.run(["bash", str(SCRIPT)], timeout=30, check=False).returncode == code
    assert not (place / "requeued").exists()
