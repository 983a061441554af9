"""`clusterflow label --noise`, as a user runs it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from ase.build import molecule
from ase.io import write
from rich.console import Console

from clusterflow.cli.single import label_frames
from clusterflow.config.campaign import Campaign
from clusterflow.errors import InputError


def clusterflow(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "clusterflow.cli.main", *arguments],
        capture_output=True, text=True, cwd=cwd, timeout=300, check=False,
    )  # fmt: skip


@pytest.fixture
def place(tmp_path: Path) -> Path:
    water = molecule("H2O")
    water.rattle(0.05, seed=1)
    write(tmp_path / "two.extxyz", [water, molecule("CH4")])
    return tmp_path


def test_it_says_how_much_is_noise_and_what_to_write_into_the_campaign(place: Path) -> None:
    done = clusterflow("label", "two.extxyz", "--level", "gfn1", "--noise", "2", cwd=place)
    assert done.returncode == 0, done.stderr
    for words in ("first of 2 frames", "translation", "rotation", "<0.001", "(meV/atom)", "noise.json"):
        assert words in done.stdout, done.stdout
    told = json.loads((place / "noise.json").read_text(encoding="utf-8"))
    assert told["symbols"] == ["O", "H", "H"]
    assert np.max(told["kinds"]["rotation"]["sigma"]) < 1e-3
    line = done.stdout.split("for training: ")[1].strip()
    pasted = dict(pair.strip().split(": ") for pair in line[line.index("{") + 1 : line.index("}")].split(","))
    data = {"name": "a", "systems": [{"name": "a", "structure": "a.cif"}], "train": {"label_noise": pasted}}
    assert set(Campaign.model_validate(data).train.label_noise or {}) == {"H", "O"}


@pytest.mark.parametrize(
    ("output", "store", "level", "words"),
    [
        ("out.extxyz", None, "gfn1", "Name it"),
        ("noise.json", "labels", "gfn1", "nothing from a label store"),
        ("noise.json", None, "b3lyp", "no level 'b3lyp'"),
        ("there.json", None, "gfn1", "exists already"),
    ],
)
def test_what_makes_no_sense_is_refused(place: Path, output: str, store: str | None, level: str, words: str) -> None:
    (place / "there.json").write_text("mine")
    with pytest.raises(InputError, match=words) as said:
        label_frames(
            place / "two.extxyz",
            place / output,
            config=None,
            level=level,
            store=None if store is None else place / store,
            noise=2,
            force=False,
            console=Console(quiet=True),
        )
    assert said.value.todo
    assert [p.name for p in place.glob("*.json")] == ["there.json"]
    assert (place / "there.json").read_text() == "mine"
