"""Every kind of bad input that a user brings: exit code, and a message that says what, where and what to do."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import read, write

MOF5 = Path(__file__).parents[2] / "configs" / "structures" / "MOF-5_primitive.extxyz"

CAMPAIGN = """\
name: bad
systems:
  - name: crystal
    structure: {structure}
label: {{kind: xtb}}
start: {start}
explore: {{walkers: 2}}
train: {{model: {{preset: small}}, intermediate: {{max_epochs: 1}}}}
stop: {{iterations: 1}}
"""


def clusterflow(*arguments: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "clusterflow.cli.main", *map(str, arguments)],
        capture_output=True, text=True, cwd=cwd, timeout=300, check=False,
    )  # fmt: skip


def campaign(tmp_path: Path, structure: Path | str = MOF5, start: str = "{fragments: 4, test_fragments: 2}") -> Path:
    path = tmp_path / "campaign.yaml"
    path.write_text(CAMPAIGN.format(structure=structure, start=start), encoding="utf-8")
    return path


def assert_refused(result: subprocess.CompletedProcess[str], *words: str, code: int = 2) -> None:
    assert result.returncode == code, result.stdout + result.stderr
    assert "Traceback" not in result.stderr
    for word in (*words, "next:"):
        assert word in result.stderr, result.stderr


def test_missing_campaign_file(tmp_path: Path) -> None:
    campaign(tmp_path)
    assert_refused(
        clusterflow("run", "campain.yaml", cwd=tmp_path), "no configuration file", "Did you mean 'campaign.yaml'"
    )


def test_missing_structure(tmp_path: Path) -> None:
    assert_refused(clusterflow("run", campaign(tmp_path, "gone.cif"), cwd=tmp_path), "no structure file", "gone.cif")


def test_overlapping_atoms(tmp_path: Path) -> None:
    atoms = read(MOF5)
    atoms.positions[11] = atoms.positions[10] + [0.2, 0, 0]
    write(tmp_path / "overlap.extxyz", atoms)
    assert_refused(
        clusterflow("check", campaign(tmp_path, "overlap.extxyz"), cwd=tmp_path), "10", "11", "0.2", "crystal"
    )


def test_no_bonds_across_the_cell(tmp_path: Path) -> None:
    atoms = read(MOF5)
    atoms.set_cell(atoms.cell.array * 3)  # the wrong unit for the cell, say
    write(tmp_path / "loose.extxyz", atoms)
    assert_refused(clusterflow("check", campaign(tmp_path, "loose.extxyz"), cwd=tmp_path), "across the cell", "crystal")


def test_element_without_paw_data(tmp_path: Path) -> None:
    write(tmp_path / "u.extxyz", Atoms("UO2", positions=[[0, 0, 0], [0, 0, 1.8], [0, 0, -1.8]]))
    text = campaign(tmp_path, "u.extxyz").read_text().replace("{kind: xtb}", "{kind: gpaw, preset: quick}")
    path = tmp_path / "u.yaml"
    path.write_text(text + "extract: {kind: whole}\n", encoding="utf-8")
    assert_refused(clusterflow("check", path, cwd=tmp_path), "U", "PAW")


def test_zero_walkers(tmp_path: Path) -> None:
    path = campaign(tmp_path)
    path.write_text(path.read_text().replace("walkers: 2", "walkers: 0"))
    assert_refused(clusterflow("check", path, cwd=tmp_path), "line 7", "explore.walkers", "greater than or equal to 1")


def seed(path: Path, **info: str) -> None:
    frames = []
    for i in range(4):
        atoms = molecule("H2O")
        atoms.rattle(0.05, seed=i)
        atoms.calc = SinglePointCalculator(atoms, energy=-1.0, forces=np.zeros((3, 3)))
        atoms.info.update(info)
        frames.append(atoms)
    write(path, frames)


def test_unreadable_seed_data(tmp_path: Path) -> None:
    (tmp_path / "seed.extxyz").write_text("3\nProperties=species:S:1:pos:R:3\nO 0 0\n")
    path = campaign(tmp_path, start="{kind: dataset, file: seed.extxyz}")
    assert_refused(clusterflow("check", path, cwd=tmp_path), "cannot be read", "seed.extxyz")


def test_seed_data_without_forces(tmp_path: Path) -> None:
    write(tmp_path / "seed.extxyz", molecule("H2O"))
    path = campaign(tmp_path, start="{kind: dataset, file: seed.extxyz}")
    assert_refused(clusterflow("check", path, cwd=tmp_path), "no energy or no forces", "frame 0")


def test_seed_data_at_another_level(tmp_path: Path) -> None:
    seed(tmp_path / "seed.extxyz", level_of_theory="VASP PBE 500 eV")
    path = campaign(tmp_path, start="{kind: dataset, file: seed.extxyz}")
    assert_refused(clusterflow("check", path, cwd=tmp_path), "VASP PBE 500 eV", "GFN1-xTB", "never mixed")


def test_seed_data_of_unstated_level(tmp_path: Path) -> None:
    seed(tmp_path / "seed.extxyz")
    path = campaign(tmp_path, start="{kind: dataset, file: seed.extxyz}")
    assert_refused(clusterflow("check", path, cwd=tmp_path), "do not state their level", "assume_level")


@pytest.mark.parametrize("command", ["status", "report"])
def test_no_campaign_there(tmp_path: Path, command: str) -> None:
    assert_refused(clusterflow(command, tmp_path, cwd=tmp_path), "no campaign")


def test_no_model_there(tmp_path: Path) -> None:
    seed(tmp_path / "seed.extxyz")
    assert_refused(clusterflow("evaluate", "nowhere", "seed.extxyz", cwd=tmp_path), "no model folder")


def test_extract_refuses_to_overwrite_and_to_guess(tmp_path: Path) -> None:
    (tmp_path / "fragments.extxyz").write_text("mine")
    assert_refused(clusterflow("extract", MOF5, cwd=tmp_path), "exists already", "--force")
    assert (tmp_path / "fragments.extxyz").read_text() == "mine"
    assert_refused(
        clusterflow("extract", MOF5, "-o", "a.extxyz", "--mantle", "all", cwd=tmp_path), "no mantle", "neighbours"
    )
    assert_refused(
        clusterflow("extract", MOF5, "-o", "a.extxyz", "--atom", "500", cwd=tmp_path), "no atom 500", "106 atoms"
    )
    assert_refused(clusterflow("extract", MOF5, "-o", "a.extxyz", "--block", "pore", cwd=tmp_path), "node", "linker")
    both = clusterflow("extract", MOF5, "-o", "a.extxyz", "--block", "linker", "--atom", "3", cwd=tmp_path)
    assert_refused(both, "--block linker and --atom 3 cannot be given together", "Leave one of the two out")


def test_missing_hydrogens(tmp_path: Path) -> None:
    atoms = read(MOF5)
    del atoms[[a.index for a in atoms if a.symbol == "H"]]
    write(tmp_path / "bare.cif", atoms)
    assert_refused(clusterflow("check", campaign(tmp_path, "bare.cif"), cwd=tmp_path), "hydrogens are missing", "C")


def test_frames_without_labels_cannot_be_evaluated(tmp_path: Path) -> None:
    write(tmp_path / "bare.extxyz", molecule("H2O"))
    (tmp_path / "model").mkdir()
    assert_refused(clusterflow("evaluate", "model", "bare.extxyz", cwd=tmp_path), "has a label")
