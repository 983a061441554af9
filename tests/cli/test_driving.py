"""How to go on after a stop, said so that it works in whatever folder it is pasted."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from clusterflow.cli.driving import resume_command


@pytest.mark.parametrize("named", [False, True])
def test_the_command_that_resumes_works_from_any_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, named: bool
) -> None:
    """The default run folder is below the current one, so it must be named unless the file does so."""
    monkeypatch.chdir(tmp_path)
    said = shlex.split(resume_command(["run"], Path("my file.yaml"), Path("runs/a"), named=named))
    assert Path(said[0]).name == "clusterflow"
    assert said[1:] == [
        "run",
        str(tmp_path / "my file.yaml"),
        *([] if named else ["--folder", str(tmp_path / "runs/a")]),
    ]


def test_names_of_properties_come_before_the_file(tmp_path: Path) -> None:
    said = shlex.split(resume_command(["property", "c_v"], tmp_path / "p.yaml", tmp_path / "r", named=False))
    assert said[1:] == ["property", "c_v", str(tmp_path / "p.yaml"), "--folder", str(tmp_path / "r")]
