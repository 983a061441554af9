"""`clusterflow certify`, with the graph alone and with xTB confirmations."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from clusterflow.cli.main import app
from clusterflow.core.frames import certificate_from_atoms, fragment_from_atoms, read_frames, write_frames
from clusterflow.extract.calibration import Calibration, calibrate
from clusterflow.extract.indicators import indicator_columns

MOF5 = Path(__file__).parents[2] / "configs" / "structures" / "MOF-5_primitive.extxyz"


@pytest.fixture
def frames(tmp_path: Path) -> Path:
    atoms = read_frames(MOF5)[0]
    rng = np.random.default_rng(3)
    found = []
    for _ in range(2):
        moved = atoms.copy()
        moved.positions += rng.normal(0.0, 0.03, moved.positions.shape)
        found.append(moved)
    write_frames(tmp_path / "frames.extxyz", found)
    return tmp_path / "frames.extxyz"


def certify(*arguments: str | Path) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["certify", *map(str, arguments)])
    return result.exit_code, result.output


def test_without_confirmations_it_says_that_nothing_is_certified(frames: Path, tmp_path: Path):
    code, output = certify(frames, "--site", "0", "--site", "60", "-o", tmp_path / "f.extxyz")
    assert code == 0
    assert "No bound yet: 0 confirmed fragments" in output
    assert "not yet" in output
    assert len(read_frames(tmp_path / "f.extxyz")) == 4  # two sites in two frames


@pytest.mark.slow
def test_confirmations_at_a_level_calibrate_a_bound_that_is_kept_and_used_again(frames: Path, tmp_path: Path):
    common = [frames, "--max-atoms", "60", "--random", "3", "--tolerance", "300"]
    calibrating = ["--confidence", "0.6", "--confirm", "6", "--level", "gfn1"]
    code, output = certify(*common, *calibrating, "-o", tmp_path / "a.extxyz")
    assert code == 0, output
    assert "GFN1-xTB" in output
    assert "of 6 confirmed at GFN1-xTB" in output
    kept = json.loads((tmp_path / "a.calibration.json").read_text())
    model = kept["error_model"]
    assert model["n"] >= 2
    assert kept["tolerance"] == 0.3
    again = [*common, "--calibration", tmp_path / "a.calibration.json"]
    code, output = certify(*again, "--json", "-o", tmp_path / "b.extxyz")
    assert code == 0
    told = json.loads(output)
    assert told["factor"] == pytest.approx(model["factor"])
    for row, atoms in zip(told["fragments"], read_frames(tmp_path / "b.extxyz"), strict=True):
        certificate = certificate_from_atoms(atoms)
        assert certificate is not None
        assert certificate.passed == row["passed"]
        assert int(fragment_from_atoms(atoms).core.sum()) == row["core_atoms"]
        if row["passed"]:
            assert row["bound"] <= 0.3


def test_bad_input_is_refused_by_name(frames: Path, tmp_path: Path):
    code, output = certify(frames, "--site", "500", "-o", tmp_path / "f.extxyz")
    assert code == 2
    assert "There is no atom 500" in output
    (tmp_path / "wrong.json").write_text("{}")
    code, output = certify(frames, "--calibration", tmp_path / "wrong.json", "-o", tmp_path / "f.extxyz")
    assert code == 2
    assert "is not a calibration" in output
    code, output = certify(frames, "--calibration", tmp_path / "none.json", "-o", tmp_path / "f.extxyz")
    assert code == 2
    assert "There is no calibration" in output
    code, output = certify(frames, "--confidence", "95", "-o", tmp_path / "f.extxyz")
    assert code == 2
    assert "--confidence 95 makes no sense" in output
    code, output = certify(frames, "-o", tmp_path / "f.cif")
    assert code == 2
    assert "not named as extxyz" in output
    code, output = certify(frames, "--max-atoms", "5", "-o", tmp_path / "f.extxyz")
    assert code != 0
    assert "max_atoms = 5" in output
    assert not (tmp_path / "f.extxyz").exists()
    code, output = certify(frames, "--confirm", "2", "--level", "pbe", "-o", tmp_path / "f.extxyz")
    assert code == 2
    assert "no level 'pbe'" in output
    code, output = certify(frames, "--core", "atom", "-o", tmp_path / "f.extxyz")
    assert code == 2
    assert "no choice of core" in output
    (tmp_path / "f.extxyz").write_text("")
    code, output = certify(frames, "-o", tmp_path / "f.extxyz")
    assert code == 2
    assert "exists already" in output


def test_a_calibration_serves_its_own_tolerance_only(frames: Path, tmp_path: Path):
    empty = Calibration(calibrate(indicator_columns(potential=False), (), tolerance=0.1), "GFN1-xTB", 0.1, "")
    (tmp_path / "c.json").write_text(json.dumps(empty.to_json()))
    own = ["--calibration", tmp_path / "c.json", "--site", "0", "-o", tmp_path / "f.extxyz"]
    code, output = certify(frames, *own)
    assert code == 0, output
    code, output = certify(frames, *own, "--tolerance", "50", "--force")
    assert code == 2
    assert "holds for a tolerance of 100 meV/Å, not 50" in output
    code, output = certify(frames, *own, "--confidence", "0.9", "--force")
    assert code == 2
    assert "already has its confirmations and its confidence" in output
    other = Calibration(empty.model, "GFN1-xTB", 0.1, "abc")
    (tmp_path / "c.json").write_text(json.dumps(other.to_json()))
    code, output = certify(frames, *own, "--force")
    assert code == 2
    assert "made with the potential abc" in output
