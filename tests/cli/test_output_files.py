"""Outputs that cannot be written are refused before the work; the name of a file says its format."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from ase.build import molecule
from ase.io import read, write
from typer.testing import CliRunner, Result

from clusterflow.cli.main import app

MOF5 = Path(__file__).parents[2] / "configs" / "structures" / "MOF-5_primitive.extxyz"
COMMANDS = {
    "build": ("--missing-linkers", "1"),
    "extract": (),
    "label": ("--level", "gfn1"),
    "match": (),
    "new": (),
}


def clusterflow(command: str, *arguments: str | Path, structure: Path = MOF5) -> Result:
    return CliRunner().invoke(app, [command, str(structure), *COMMANDS[command], *map(str, arguments)])


def assert_refused(told: Result, *words: str) -> None:
    assert told.exit_code == 2, told.output
    for word in (*words, "next:"):
        assert word in told.output


@pytest.mark.parametrize("command", COMMANDS)
def test_a_missing_folder_is_named(command: str, tmp_path: Path) -> None:
    folder = tmp_path / "nosuchdir"
    assert_refused(clusterflow(command, "-o", folder / "x.extxyz"), f"There is no folder '{folder}'")
    assert not folder.exists()


@pytest.mark.parametrize("command", COMMANDS)
def test_a_folder_is_no_file_even_by_force(command: str, tmp_path: Path) -> None:
    (tmp_path / "x.extxyz").mkdir()
    assert_refused(clusterflow(command, "-o", tmp_path / "x.extxyz", "--force"), "is a folder")


@pytest.mark.parametrize("command", ["extract", "label", "match"])
@pytest.mark.parametrize("name", ["x.cif", "x"])
def test_regions_and_labels_go_into_extxyz_only(command: str, name: str, tmp_path: Path) -> None:
    told = clusterflow(command, "-o", tmp_path / name)
    assert_refused(told, "not named as extxyz", f"Name it '{tmp_path / 'x.extxyz'}'")
    assert not (tmp_path / name).exists()


@pytest.mark.parametrize(
    ("name", "kind", "within"),
    [
        ("x.extxyz", "extxyz", 1e-6),
        ("x.xyz", "extxyz", 1e-6),
        ("x.cif", "cif", 1e-6),
        ("x.vasp", "vasp", 1e-6),
        ("POSCAR", "vasp", 1e-6),
        ("x.xsf", "xsf", 1e-6),
        ("x.gen", "gen", 1e-6),
        ("x.pdb", "proteindatabank", 1e-3),
    ],
)
def test_build_writes_what_the_name_says(name: str, kind: str, within: float, tmp_path: Path) -> None:
    clusterflow("build", "-o", tmp_path / "plain.extxyz")
    told = clusterflow("build", "-o", tmp_path / name)
    assert told.exit_code == 0, told.output
    expected, found = read(tmp_path / "plain.extxyz"), read(tmp_path / name, format=kind)
    assert sorted(found.numbers) == sorted(expected.numbers)
    assert found.cell.cellpar() == pytest.approx(expected.cell.cellpar(), abs=2 * within)
    order, own = np.argsort(found.numbers, kind="stable"), np.argsort(expected.numbers, kind="stable")
    first, second = found[order].get_all_distances(mic=True), expected[own].get_all_distances(mic=True)
    assert np.allclose(first, second, atol=max(1e-4, 5 * within))


def test_build_refuses_other_formats_and_those_without_a_cell(tmp_path: Path) -> None:
    assert_refused(clusterflow("build", "-o", tmp_path / "x.jpeg"), "not known by its name", ".cif", ".vasp")
    water = molecule("H2O")
    write(tmp_path / "water.xyz", water)
    told = clusterflow("build", "-o", tmp_path / "x.cif", structure=tmp_path / "water.xyz")
    assert_refused(told, "not periodic", "would need a cell")
    assert not list(tmp_path.glob("x.*"))


def test_one_fragment_is_one(tmp_path: Path) -> None:
    told = clusterflow("extract", "-o", tmp_path / "f.extxyz", "--atom", "0")
    assert told.exit_code == 0, told.output
    assert "1 fragment in " in told.output
