"""`extract`, `build`, `match` refuse a structure that lacks atoms, as `check` does; `new` only says so."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from ase.io import read, write
from typer.testing import CliRunner, Result

from clusterflow.cli.main import app
from clusterflow.errors import StructureError
from clusterflow.extract.soundness import check_structure
from clusterflow.physics.bonds import bond_graph

STRUCTURES = Path(__file__).parents[2] / "configs" / "structures"
NAMES = ("MOF-5_primitive", "UiO-66_primitive", "UiO-66_conventional", "ZIF-8_primitive_gfn1", "water_32")


def clusterflow(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, [str(a) for a in arguments])


def without_hydrogens() -> Atoms:
    atoms = read(STRUCTURES / "MOF-5_primitive.extxyz")
    return atoms[atoms.numbers != 1]


def without_oxides(count: int) -> Atoms:
    """UiO-66 that lacks so many of its μ3-O."""
    atoms = read(STRUCTURES / "UiO-66_primitive.extxyz")
    graph = bond_graph(atoms)
    oxygens = np.flatnonzero(atoms.numbers == 8).tolist()
    del atoms[[k for k in oxygens if atoms.numbers[graph.neighbours(k)].tolist() == [40, 40, 40]][:count]]
    return atoms


@pytest.mark.parametrize("name", NAMES)
def test_sound_structures_pass(name: str) -> None:
    check_structure(read(STRUCTURES / f"{name}.extxyz"))


@pytest.mark.parametrize("atoms", [bulk("Cu", cubic=True), bulk("NaCl", "rocksalt", a=5.64), molecule("C6H6")], ids=str)
def test_what_has_no_blocks_is_no_mistake(atoms: Atoms) -> None:
    check_structure(atoms)


@pytest.mark.parametrize(
    ("atoms", "message"),
    [
        (without_hydrogens(), "hydrogens are missing: C"),
        (without_oxides(1), r"charge of \+2 e by its valences: .* missing at Zr"),
        (without_oxides(4), "metals have too few donors|charge of "),
    ],
    ids=["no H", "one oxide less", "no oxides"],
)
def test_incomplete_structures_are_refused(atoms: Atoms, message: str) -> None:
    with pytest.raises(StructureError, match=message) as caught:
        check_structure(atoms)
    assert caught.value.where
    assert caught.value.todo


@pytest.mark.parametrize("command", ["extract", "build", "match"])
@pytest.mark.parametrize("atoms", [without_hydrogens(), without_oxides(4)], ids=["no H", "no oxides"])
def test_commands_refuse_before_they_work(command: str, atoms: Atoms, tmp_path: Path) -> None:
    write(tmp_path / "bad.extxyz", atoms)
    with pytest.raises(StructureError) as expected:
        check_structure(atoms)
    change = ("--missing-linkers", "1") if command == "build" else ()
    told = clusterflow(command, tmp_path / "bad.extxyz", "-o", tmp_path / "out.extxyz", *change)
    assert told.exit_code == 2
    for words in (expected.value.what, "bad.extxyz", "next:", "--unchecked"):
        assert words in told.output
    assert not (tmp_path / "out.extxyz").exists()


def test_unchecked_goes_on_and_says_what_is_wrong(tmp_path: Path) -> None:
    write(tmp_path / "bad.extxyz", without_hydrogens())
    told = clusterflow("extract", tmp_path / "bad.extxyz", "-o", tmp_path / "f.extxyz", "--unchecked")
    assert told.exit_code == 0, told.output
    assert "note:" in told.output
    assert "hydrogens are missing" in told.output
    assert read(tmp_path / "f.extxyz", ":")
    change = ("--missing-linkers", "1", "--unchecked")
    told = clusterflow("build", tmp_path / "bad.extxyz", "-o", tmp_path / "b.extxyz", *change)
    assert told.exit_code == 0, told.output
    assert "no dangling bonds" not in told.output
    assert "check: " in told.output


def test_new_notes_it_and_writes_all_the_same(tmp_path: Path) -> None:
    write(tmp_path / "bad.extxyz", without_oxides(1))
    told = clusterflow("new", tmp_path / "bad.extxyz", "-o", tmp_path / "c.yaml")
    assert told.exit_code == 0, told.output
    assert "note: The periodic cell has a charge of +2" in told.output
    assert "`clusterflow check` refuses it" in told.output
    assert (tmp_path / "c.yaml").is_file()
