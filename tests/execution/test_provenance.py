"""What is recorded about where a campaign ran, and what must not be."""

import json
import subprocess
import sys
from importlib import metadata

import clusterflow
from clusterflow.execution.provenance import PACKAGES, _commit, allowed_variables, environment


def test_record_is_complete_json(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    monkeypatch.setenv("MY_API_TOKEN", "hunter2")
    record = environment()
    text = json.dumps(record)
    assert "hunter2" not in text
    assert record["clusterflow"] == clusterflow.__version__
    assert record["packages"]["numpy"] == metadata.version("numpy")
    assert set(record["packages"]) <= set(PACKAGES)
    assert record["system"]["cores"] >= record["system"]["cores_available"] >= 1
    assert record["system"]["memory_GB"] > 0.1
    assert record["system"]["cpu"]
    assert record["variables"]["OMP_NUM_THREADS"] == "3"


def test_only_listed_variables_are_kept():
    given = {
        "OMP_PROC_BIND": "close",
        "SLURM_JOB_ID": "17",
        "SLURM_JOB_TOKEN": "secret",
        "SLURM_JWT": "secret",
        "CUDA_VISIBLE_DEVICES": "0",
        "HOME": "/home/ada",
        "PATH": "/bin",
        "AWS_SECRET_ACCESS_KEY": "secret",
    }
    assert allowed_variables(given) == {"OMP_PROC_BIND": "close", "SLURM_JOB_ID": "17", "CUDA_VISIBLE_DEVICES": "0"}


def test_nothing_heavy_is_imported():
    script = (
        "import sys; from clusterflow.execution.provenance import environment; "
        "before = set(sys.modules); environment(); "
        "heavy = {'torch', 'gpaw', 'openmm', 'parsl', 'nequip', 'sklearn', 'scipy'}; "
        "print(heavy & (set(sys.modules) - before))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_commit_of_a_checkout(tmp_path):
    package = tmp_path / "clusterflow"
    package.mkdir()
    (package / "a.py").write_text("1")
    assert _commit(package) == ""

    def git(*words):
        identity = ["-c", "user.name=a", "-c", "user.email=a@b.c", "-c", "commit.gpgsign=false"]
        subprocess.run(["git", "-C", str(tmp_path), *identity, *words], check=True, capture_output=True)

    git("init", "-q")
    git("add", ".")
    git("commit", "-q", "-m", "x", "--no-verify")
    commit = _commit(package)
    assert len(commit) == 40
    (package / "a.py").write_text("2")
    assert _commit(package) == commit + "+changes"
