"""A campaign with certified fragments, from the command line, with every real part but xTB for DFT."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from clusterflow.cli.main import app
from clusterflow.core import keys
from clusterflow.core.frames import certificate_from_atoms, read_frames
from clusterflow.extract.calibration import Calibration
from clusterflow.extract.confirm import confirmations

pytestmark = pytest.mark.slow
MOF5 = Path(__file__).parents[2] / "configs" / "structures" / "MOF-5_primitive.extxyz"
CAMPAIGN = f"""
name: certified
seed: 1
systems:
  - name: mof5
    structure: {MOF5}
    ensemble: {{kind: nvt, temperature: 300 K}}
start: {{fragments: 6, test_fragments: 2, displacement: [0.02 Å, 0.04 Å], strain: 0.0}}
explore: {{walkers: 2, steps: {{first: 10, growth: 1, maximum: 10}}, frame_interval: 5}}
score: {{components: [1, 2]}}
select: {{fragments: 3}}
extract:
  kind: certified
  confidence: 0.6
  confirm: {{first: 3, share: 0.0}}
  max_atoms: 70
  start: {{mantle: {{node: none, linker: anchors}}}}
label: {{kind: xtb, method: GFN1-xTB}}
train:
  model: {{preset: small}}
  certificate_weights: true
  intermediate: {{max_epochs: 4}}
  final: {{max_epochs: 4}}
  packaged: []
stop: {{iterations: 2, labels: 13}}
"""


def clusterflow(*arguments: str | Path) -> str:
    result = CliRunner().invoke(app, list(map(str, arguments)))
    assert result.exit_code == 0, result.output
    return result.output


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("certified")
    (place / "campaign.yaml").write_text(CAMPAIGN, encoding="utf-8")
    clusterflow("run", place / "campaign.yaml", "--folder", place / "run", "--engine", "serial")
    return place / "run"


def test_selected_fragments_carry_certificates_and_some_are_confirmed(run_folder: Path):
    frames = read_frames(run_folder / "dataset.extxyz")
    certified = [a for a in frames if certificate_from_atoms(a) is not None]
    larger = [a for a in frames if keys.CONFIRMS in a.info]
    assert certified
    assert larger
    by_id = {a.info[keys.FRAGMENT]: a for a in frames}
    for a in larger:
        small = by_id[a.info[keys.CONFIRMS]]
        assert len(small) < len(a)
        assert small.info[keys.FRAME] == a.info[keys.FRAME]
    assert len(frames) <= 13  # stop.labels counts confirmations too


def test_the_calibration_is_that_of_all_confirmations(run_folder: Path):
    frames = read_frames(run_folder / "dataset.extxyz")
    calibration = Calibration.from_json(json.loads((run_folder / "calibration.json").read_text()))
    model = calibration.model
    assert "GFN1-xTB" in calibration.level_of_theory
    told = confirmations(frames)
    assert model.n == len(told) > 0
    assert all(np.isfinite(c.errors).all() and c.errors.max() < 20.0 for c in told)


def test_status_and_report_say_what_was_certified(run_folder: Path):
    assert "certificates of selected fragments:" in clusterflow("status", run_folder)
    assert "meV/Å" in (run_folder / "report.html").read_text(encoding="utf-8")
    assert "core force errors" in (run_folder / "report.html").read_text(encoding="utf-8")


def test_what_a_campaign_learnt_serves_the_command(run_folder: Path, tmp_path: Path):
    output = clusterflow(
        "certify", MOF5, "--model", run_folder / "model", "--calibration", run_folder / "calibration.json",
        "--site", "0", "--max-atoms", "70", "-o", tmp_path / "f.extxyz",
    )  # fmt: skip
    assert "Zn0" in output


def test_check_says_when_too_few_fragments_will_be_confirmed(tmp_path: Path):
    (tmp_path / "a.yaml").write_text(CAMPAIGN, encoding="utf-8")
    told = clusterflow("check", tmp_path / "a.yaml")
    assert "and 3 larger ones that confirm them" in told
    assert "nothing will be certified" not in told  # 60 % needs two
    (tmp_path / "b.yaml").write_text(CAMPAIGN.replace("confidence: 0.6", "confidence: 0.95"), encoding="utf-8")
    assert "needs 19 confirmed fragments, and at most 3 will be" in clusterflow("check", tmp_path / "b.yaml")
