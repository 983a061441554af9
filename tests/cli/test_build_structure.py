"""`clusterflow build`, as a user types it."""

from __future__ import annotations

from pathlib import Path

import pytest
from ase.io import read, write
from typer.testing import CliRunner, Result

from clusterflow.cli.build_structure import parse_exchange
from clusterflow.cli.main import app
from clusterflow.core.frames import formula
from clusterflow.errors import InputError
from clusterflow.structures.defects import missing_linker
from clusterflow.structures.net import find_net

STRUCTURES = Path(__file__).parents[2] / "configs" / "structures"
UIO66 = STRUCTURES / "UiO-66_conventional.extxyz"
MOF5 = STRUCTURES / "MOF-5_primitive.extxyz"


def build(*arguments: str | Path, output: Path, structure: Path = UIO66) -> Result:
    return CliRunner().invoke(app, ["build", str(structure), "-o", str(output), *map(str, arguments)])


@pytest.mark.parametrize(
    ("arguments", "composition", "words"),
    [
        (["--missing-linkers", "1"], "C186H110O128Zr24", ["448", "11 (×2), 12 (×2); mean 11.50", "Zr 8 (×24)"]),
        (["--pair", "3"], "C180H108O128Zr24", ["440", "10 (×1), 11 (×2), 12 (×1)"]),
        (["--missing-nodes", "1"], "C108H72O96Zr18", ["294", "8 (×3)"]),
        (["--topology", "reo"], "C108H72O96Zr18", ["294", "8 (×3)"]),
        (["--topology", "bcu", "--axis", "a"], "C144H96O128Zr24", ["392", "8 (×4)", "weak along a"]),
        (["--topology", "scu"], "C84H64O96Zr18", ["262", "4 (×2), 8 (×1)"]),
        (["--substitute", "Zr:Hf:1"], "C192H112HfO128Zr23", ["1 Zr became Hf", "Hf 8 (×1)"]),
        (["--substitute", "Zr:Hf:2:nodes"], "C192H112Hf12O128Zr12", ["12 Zr became Hf"]),
    ],
)
def test_builds(arguments: list[str], composition: str, words: list[str], tmp_path: Path) -> None:
    result = build(*arguments, output=tmp_path / "out.extxyz")
    assert result.exit_code == 0, result.output
    assert formula(read(tmp_path / "out.extxyz")) == composition
    for word in ("456", "no dangling bonds, charge 0", *words):
        assert word in result.output


def test_random_supercell(tmp_path: Path) -> None:
    arguments = ["--repeat", "2", "2", "2", "--remove-linkers", "0.2", "--remove-nodes", "0.1"]
    arguments += ["--substitute", "Zr:Hf:0.2", "--seed", "1"]
    results = [build(*arguments, output=tmp_path / f"{k}.extxyz") for k in range(2)]
    for result in results:
        assert result.exit_code == 0, result.output
        for word in ("repeated 2 × 2 × 2: 3648 atoms", "38 linkers and 3 nodes removed", "dropped: 0 nodes, 0 linkers"):
            assert word in result.output
    assert read(tmp_path / "0.extxyz") == read(tmp_path / "1.extxyz")
    final = build(
        "--repeat", "2", "2", "2", "--remove-linkers", "0.4", "--remove-nodes", "0.125", "--final",
        output=tmp_path / "final.extxyz",
    )  # fmt: skip
    assert "missing nodes 0.125, missing linkers 0.401" in final.output
    assert len(read(tmp_path / "final.extxyz")) == 66 * 28 + 8 * 115


def test_the_first_line_says_that_it_is_the_cell_before_repeat(tmp_path: Path) -> None:
    arguments = ("--missing-linkers", "1")
    plain = build(*arguments, output=tmp_path / "a.extxyz", structure=MOF5)
    repeated = build("--repeat", "1", "1", "2", *arguments, output=tmp_path / "b.extxyz", structure=MOF5)
    assert "before --repeat" not in plain.output
    assert "before --repeat  C48H24O26Zn8" in repeated.output


def test_list_of_pairs_writes_nothing(tmp_path: Path) -> None:
    result = build("--pairs", output=tmp_path / "out.extxyz")
    assert result.exit_code == 0
    assert len(result.output.strip().splitlines()) == 1 + 7
    assert "10 11 11 12" in result.output
    assert not (tmp_path / "out.extxyz").exists()


def test_a_charged_result_and_loose_pieces_are_said(tmp_path: Path) -> None:
    result = build("--substitute", "Zr:Ce:1", output=tmp_path / "ce.extxyz")
    assert "charge -1, 1 unpaired electrons; not neutral" in result.output
    cell = read(STRUCTURES / "UiO-66_primitive.extxyz").repeat(2)
    all_of_one = sorted({linker for _, _, linker in find_net(cell).neighbours[0]})
    write(tmp_path / "hanging.extxyz", missing_linker(cell, which=all_of_one))
    loose = build("--substitute", "Zr:Hf:1", output=tmp_path / "l.extxyz", structure=tmp_path / "hanging.extxyz")
    assert "1 loose piece(s)" in loose.output


def test_without_building_blocks_metals_can_still_be_exchanged(tmp_path: Path) -> None:
    from ase.build import bulk

    write(tmp_path / "brass.extxyz", bulk("Cu", cubic=True))
    result = build("--substitute", "Cu:Zn:1", output=tmp_path / "out.extxyz", structure=tmp_path / "brass.extxyz")
    assert result.exit_code == 0, result.output
    assert formula(read(tmp_path / "out.extxyz")) == "Cu3Zn"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], ["Nothing to do"]),
        (["--seed", "4"], ["Nothing to do"]),
        (["--missing-linkers", "7"], ["7 linkers cannot be chosen from a structure with 6"]),
        (["--missing-nodes", "3"], ["3 nodes cannot be chosen from a structure with 2"]),
        (["--pair", "9"], ["no pair 9", "from 1 to 2"]),
        (["--topology", "reo"], ["net fcu", "6 (×2)"]),
        (["--topology", "pcu"], ["not known", "bcu, reo, scu"]),
        (["--topology", "bcu", "--axis", "z"], ["not known", "axes: a, b, c"]),
        (["--substitute", "Zr:Hf:0.2"], ["no Zr in the structure", "Its metals are: Zn"]),
        (["--substitute", "Zn:Cd"], ["'Zn:Cd' is not understood", "Zr:Hf:0.2"]),
        (["--substitute", "Zn:Cd:some"], ["is not understood"]),
        (["--substitute", "Zn:Cd:1:bricks"], ["is not understood"]),
        (["--substitute", "Zn:Cd:1.5"], ["1.5 is no fraction of Zn atoms"]),
        (["--remove-linkers", "1.2"], ["1.2 is no fraction of linkers"]),
        (["--remove-nodes", "-0.2"], ["-0.2 is no fraction of nodes"]),
        (["--repeat", "0", "1", "1"], ["is no supercell"]),
        (["--substitute", "Zn:Xx:1"], ["'Xx' is no element"]),
        (["--substitute", "zn:Cd:1"], ["'zn' is no element"]),
        (["--final", "--missing-linkers", "1"], ["--final does nothing", "--remove-linkers"]),
        (["--axis", "q", "--missing-linkers", "1"], ["--axis q does nothing without --topology"]),
        (["--axis", "a", "--topology", "reo"], ["--axis a does nothing with --topology reo"]),
        (["--pairs", "--pair", "9"], ["--pairs only lists"]),
        (["--pairs", "--repeat", "2", "1", "1"], ["--pairs only lists"]),
        (["--pairs", "--final"], ["--pairs only lists"]),
    ],
)
def test_bad_requests(arguments: list[str], words: list[str], tmp_path: Path) -> None:
    result = build(*arguments, output=tmp_path / "out.extxyz", structure=MOF5)
    assert result.exit_code == 2
    for word in words:
        assert word in result.output
    assert "next:" in result.output
    assert not (tmp_path / "out.extxyz").exists()


def test_an_existing_file_is_kept(tmp_path: Path) -> None:
    output = tmp_path / "out.extxyz"
    output.write_text("precious")
    assert build("--missing-linkers", "1", output=output).exit_code == 2
    assert output.read_text() == "precious"
    assert build("--missing-linkers", "1", "--force", output=output).exit_code == 0
    assert len(read(output)) == 448


@pytest.mark.parametrize(
    ("text", "fraction", "count", "nodes"),
    [
        ("Zr:Hf:0.2", 0.2, None, False),
        ("Zr:Hf:1", None, 1, False),
        ("Zr:Hf:1.0", 1.0, None, False),
        ("Zr:Hf:2:nodes", None, 2, True),
    ],
)
def test_exchange_is_a_share_or_a_number(text: str, fraction: float | None, count: int | None, nodes: bool) -> None:
    exchange = parse_exchange(text)
    assert (exchange.element, exchange.by) == ("Zr", "Hf")
    assert (exchange.fraction, exchange.count, exchange.whole_nodes) == (fraction, count, nodes)
    with pytest.raises(InputError):
        parse_exchange(text + ":more:than:that")
