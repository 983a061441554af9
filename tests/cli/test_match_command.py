"""`clusterflow match`: a real table at a cheap level, a potential beside it, and every kind of bad input."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from ase.build import molecule
from ase.io import read, write
from typer.testing import CliRunner

from clusterflow.cli.main import app
from clusterflow.structures.defects import missing_linker
from clusterflow.structures.perturbation import perturb

MOF5 = Path(__file__).parents[2] / "configs" / "structures" / "MOF-5_primitive.extxyz"


def clusterflow(*arguments: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "clusterflow.cli.main", *map(str, arguments)],
        capture_output=True, text=True, cwd=cwd, timeout=300, check=False,
    )  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("match")
    atoms = missing_linker(read(MOF5))
    shaken = [perturb(atoms, displacement=0.05, strain=0, rng=np.random.default_rng(k)) for k in (1, 2)]
    write(place / "frames.extxyz", shaken)
    return place


def test_errors_fall_as_the_mantle_grows(folder: Path) -> None:
    done = clusterflow(
        "match", "frames.extxyz", "--mantle", "none", "--mantle", "neighbours", "--level", "gfn1", "--frames", "1",
        "--store", "labels", "-o", "errors.extxyz", "--json", cwd=folder,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["parent_forces"] == "computed"
    small, large = told["matches"]
    assert (small["mantle"], large["mantle"]) == ("none", "neighbours")
    assert small["regions"]["core"]["rmse"] > 3 * large["regions"]["core"]["rmse"]
    assert {"fragment", "core", "mantle", "metals", "formate"} == set(large["regions"])
    assert small["regions"]["metals"]["error"] is None  # one frame has no spread
    atoms = read(folder / "errors.extxyz")
    shown = atoms.arrays["rmse_gfn1_none"]
    assert (shown[atoms.numbers == 30] > 0).sum() == 4  # the atoms of one of two nodes
    assert (shown == -1.0).any()
    table = clusterflow("match", "frames.extxyz", "--mantle", "none", "--frames", "1", "--store", "labels", cwd=folder)
    assert "RMSE of force components" in table.stdout
    assert f"{1000 * small['regions']['metals']['rmse']:.0f}" in table.stdout


def test_a_parent_that_is_too_large_is_extrapolated_instead(folder: Path) -> None:
    common = ("match", "frames.extxyz", "--frames", "1", "--store", "labels", "--max-atoms", "50")
    done = clusterflow(*common, cwd=folder)
    assert done.returncode == 2
    assert "98 atoms, more than --max-atoms 50" in done.stderr
    assert "--extrapolate" in done.stderr
    done = clusterflow(*common, "--block", "linker", "--extrapolate", "--json",
                       "--mantle", "none", "--mantle", "anchors", "--mantle", "neighbours", cwd=folder)  # fmt: skip
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["parent_forces"] == "extrapolated"
    errors = [m["regions"]["core"]["rmse"] for m in told["matches"]]
    assert errors[0] > errors[-1]
    assert told["matches"][0]["regions"]["core"]["uncertainty"] > 0


def test_bad_input_is_refused_with_a_way_out(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    write(folder / "water.extxyz", molecule("H2O"))
    write(folder / "mixed.extxyz", [read(MOF5), read(folder / "frames.extxyz", 0)])
    cases: list[tuple[tuple[str | Path, ...], tuple[str, ...]]] = [
        (("frames.extxyz", "--atom", "98"), ("no atom 98", "from 0 to 97")),
        (("frames.extxyz", "--block", "rod"), ("no block of kind 'rod'", "linker, node")),
        (("frames.extxyz", "--mantle", "wide"), ("'wide' is no mantle", "2 shells")),
        (("frames.extxyz", "--level", "dft"), ("no level 'dft'",)),
        (("frames.extxyz", "--model", "gone"), ("no model folder 'gone'",)),
        (("water.extxyz",), ("no block of kind 'node'; it has molecule",)),
        (("mixed.extxyz",), ("not one parent",)),
        (("frames.extxyz", "--extrapolate"), ("show no trend to extrapolate",)),
        (("frames.extxyz", "--extrapolate", "--mantle", "neighbours", "--mantle", "none", "--mantle", "4 Å"),
         ("do not grow",)),
    ]  # fmt: skip
    for arguments, words in cases:
        done = CliRunner().invoke(app, ["match", *map(str, arguments)])
        assert done.exit_code == 2, (arguments, done.output)
        for word in (*words, "next:"):
            assert word in done.stderr, (arguments, done.stderr)
