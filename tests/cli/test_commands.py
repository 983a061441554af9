"""The commands that run no campaign, as a user types them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from ase.io import read

STRUCTURES = Path(__file__).parents[2] / "configs" / "structures"


def clusterflow(*arguments: str | Path, cwd: Path, timeout: float = 300) -> str:
    result = subprocess.run(
        [sys.executable, "-m", "clusterflow.cli.main", *map(str, arguments)],
        capture_output=True, text=True, cwd=cwd, timeout=timeout, check=False,
    )  # fmt: skip
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def test_help_needs_no_heavy_package(tmp_path: Path) -> None:
    code = (
        "import sys; from clusterflow.cli.main import app\n"
        "try: app(['--help'])\nexcept SystemExit: pass\n"
        "heavy = {'torch', 'nequip', 'gpaw', 'openmm', 'parsl', 'sklearn'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stderr
    for command in ("new", "check", "run", "status", "extract", "label", "train", "evaluate", "report", "doctor"):
        assert command in done.stdout


def test_schema_is_json(tmp_path: Path) -> None:
    assert json.loads(clusterflow("schema", cwd=tmp_path))["title"] == "Campaign"


def test_new_writes_a_file_that_checks(tmp_path: Path) -> None:
    clusterflow("new", STRUCTURES / "MOF-5_primitive.extxyz", "-o", "mine.yaml", cwd=tmp_path)
    said = clusterflow("check", "mine.yaml", cwd=tmp_path)
    assert "is valid" in said
    assert "C6H4" in said


def test_extract_uio66_is_what_the_paper_cuts(tmp_path: Path) -> None:
    clusterflow("extract", STRUCTURES / "UiO-66_conventional.extxyz", "-o", "f.extxyz", cwd=tmp_path)
    fragments = read(tmp_path / "f.extxyz", ":")
    nodes = [a for a in fragments if "Zr6" in a.info["block"]]
    linkers = [a for a in fragments if "Zr" not in a.info["block"]]
    assert (len(nodes), len(linkers)) == (4, 24)
    assert {len(a) for a in nodes} == {186}
    assert {len(a) for a in linkers} == {140}
    assert {(a.info["charge"], a.info["spin"]) for a in fragments} == {(0, 0)}


def test_extract_label_train_evaluate_by_hand(tmp_path: Path) -> None:
    clusterflow(
        "extract", STRUCTURES / "MOF-5_primitive.extxyz", "--mantle", "anchors", "--block", "linker", cwd=tmp_path
    )
    clusterflow("label", "fragments.extxyz", "--level", "gfn1", "--store", "labels", cwd=tmp_path)
    labelled = read(tmp_path / "labelled.extxyz", ":")
    assert len(labelled) == 6
    assert all("GFN1-xTB" in a.info["level_of_theory"] for a in labelled)
    (tmp_path / "tiny.yaml").write_text(
        f"name: tiny\nsystems: [{{name: a, structure: {STRUCTURES / 'MOF-5_primitive.extxyz'}}}]\n"
        "train: {model: {preset: small}, final: {max_epochs: 2}}\nlabel: {kind: xtb}\n"
    )
    clusterflow("train", "labelled.extxyz", "-c", "tiny.yaml", cwd=tmp_path)
    metrics = json.loads(clusterflow("evaluate", "model", "labelled.extxyz", "--json", cwd=tmp_path))
    assert metrics["forces"]["mae"] > 0
    assert set(metrics["forces_by_element"]) == {"C", "H", "O"}
