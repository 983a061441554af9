"""The studies in workflows/: short, listed, and runnable."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

WORKFLOWS = Path(__file__).parents[1] / "workflows"
SCRIPTS = sorted(WORKFLOWS.glob("*.py"))


def run(script: str, *arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(WORKFLOWS / script), *arguments],
        capture_output=True, text=True, cwd=cwd, timeout=600, check=False,
    )  # fmt: skip


def test_every_study_is_in_the_table() -> None:
    rows = set(re.findall(r"^\| \[(\w+\.py)\]\(\1\)", (WORKFLOWS / "README.md").read_text(encoding="utf-8"), re.M))
    assert rows == {path.name for path in SCRIPTS}


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_a_study_is_short_and_says_what_it_takes(script: Path, tmp_path: Path) -> None:
    assert len(script.read_text(encoding="utf-8").splitlines()) <= 100
    done = run(script.name, "--help", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "--output" in done.stdout


@pytest.mark.slow
def test_the_octaene_of_the_locality_study(tmp_path: Path) -> None:
    """One molecule, one geometry: the decay, the order of the fragments and a threshold near the paper's 0.37."""
    done = run("herbold_2021.py", "--molecules", "HDOE", "--scales", "1.0", "--output", "out", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    told = json.loads((tmp_path / "out" / "herbold.json").read_text())
    found = told["systems"]["HDOE 1.00"]
    assert len(found["error"]) == 7
    assert found["error"] == sorted(found["error"])
    assert found["norm"] == sorted(found["norm"])
    assert 0.2 < told["decay_per_A"]["HDOE"] < 0.6
    assert 0.3 < found["gamma"] < 0.7
    assert (tmp_path / "out" / "herbold.png").is_file()
