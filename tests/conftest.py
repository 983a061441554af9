"""A real Slurm for the tests that need a scheduler."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

LOOPBACK = Path(__file__).parents[1] / "hpc" / "slurm_loopback.sh"
PACKAGES = ("slurmctld", "slurmd", "slurm-client", "munge")


def _install() -> str:
    """Installs Slurm if it is missing and this user may; returns why that did not work."""
    if all(shutil.which(program) for program in ("slurmctld", "slurmd", "sbatch", "munged")):
        return ""
    if os.geteuid() != 0:
        return "Slurm is not installed, and only root can install it"
    if shutil.which("apt-get") is None:
        return "Slurm is not installed, and there is no apt-get"
    install = ["apt-get", "install", "-y", "--no-install-recommends", *PACKAGES]
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for command in (install, ["apt-get", "update"], install):
        try:
            done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=400, check=False)
        except subprocess.TimeoutExpired:
            return f"`{' '.join(command[:2])}` took more than 400 s"
        if command is install and done.returncode == 0:
            return ""
    return f"Slurm cannot be installed: {done.stderr.strip().splitlines()[-1:]}"


@pytest.fixture(scope="session")
def _cluster() -> Iterator[Path]:
    with (Path(tempfile.gettempdir()) / "cf-slurm-install.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # tests run in two processes, and only one may install
        why = _install()
    if why:
        pytest.skip(why)
    folder = Path(tempfile.mkdtemp(prefix="cf-slurm-", dir="/tmp"))  # the user munge must get in: not below tmp_path
    folder.chmod(0o755)
    try:
        up = subprocess.run([LOOPBACK, "start", folder], capture_output=True, text=True, timeout=200, check=False)
        if up.returncode == 3:
            pytest.skip(up.stderr.strip())
        assert up.returncode == 0, up.stdout + up.stderr
        yield folder
        environment = {**os.environ, "SLURM_CONF": str(folder / "slurm.conf")}
        for _ in range(150):  # a job that was cancelled may still be completing
            left = subprocess.run(
                ["squeue", "--noheader"], env=environment, capture_output=True, text=True, timeout=60, check=False
            )
            if not left.stdout.strip():
                break
            time.sleep(0.2)
        assert left.stdout.strip() == "", "jobs were left in the queue"
    finally:
        subprocess.run([LOOPBACK, "stop", folder], capture_output=True, timeout=200, check=False)
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def slurm(_cluster: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A running Slurm with nodes cpu1 and gpu1 (two fake GPUs); its commands work in this process and its children."""
    monkeypatch.setenv("SLURM_CONF", str(_cluster / "slurm.conf"))
    return _cluster
