"""`clusterflow locality`: a real run at a cheap level, and every kind of bad input."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from ase import Atoms
from ase.build import molecule
from ase.io import read, write
from typer.testing import CliRunner, Result

from clusterflow.cli.locality import _warnings
from clusterflow.cli.main import app

ROOT = Path(__file__).parents[2]
MOF5 = ROOT / "configs" / "structures" / "MOF-5_primitive.extxyz"
DATA = Path(__file__).parents[1] / "data"
ZIF8, WATER = DATA / "ZIF-8_primitive.extxyz", DATA / "water_32.extxyz"
OCTAENE = ROOT / "configs" / "structures" / "molecules" / "hexadecaoctaene.extxyz"


def clusterflow(*arguments: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "clusterflow.cli.main", *map(str, arguments)],
        capture_output=True, text=True, cwd=cwd, timeout=300, check=False,
    )  # fmt: skip


def here(*arguments: str | Path) -> Result:
    """In this process, which saves the imports."""
    return CliRunner().invoke(app, list(map(str, arguments)))


def test_a_site_of_a_framework_gives_tables_pictures_and_fragments(tmp_path: Path) -> None:
    hydrogen = 8
    command = ("locality", MOF5, "--site", str(hydrogen), "--radius", "5", "--store", "labels", "-o", "out", "--json")
    done = clusterflow(*command, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told == json.loads((tmp_path / "out" / "locality.json").read_text())
    assert "GFN1-xTB" in told["level_of_theory"]
    site = told["sites"][0]
    assert site["site"] == f"H{hydrogen}"
    assert site["reference"] == "C13H10O15Zn4"  # the node with its formates, the ring and the acid beyond
    errors = [max(map(abs, t["force_error"])) for t in site["trials"]]
    assert errors[0] == min(errors)
    assert errors[0] < 0.01 < errors[-1]  # the smallest fragment is the worse one
    assert told["common_radius"] == site["r_frag"]
    piece = read(tmp_path / "out" / f"H{hydrogen}.extxyz")
    assert piece.arrays["submatrix_norm"].argmax() == piece.info["site"]
    assert len(read(tmp_path / "out" / "fragments.extxyz")) == site["common_atoms"]
    assert (tmp_path / "out" / f"H{hydrogen}.png").stat().st_size > 10_000
    labels = sorted(p.name for p in (tmp_path / "labels").rglob("*.json"))
    again = clusterflow(*command, "--force", cwd=tmp_path)
    assert json.loads(again.stdout) == told
    assert sorted(p.name for p in (tmp_path / "labels").rglob("*.json")) == labels  # nothing was computed again


def test_a_molecule_is_read_as_it_is_and_several_sites_are_compared(tmp_path: Path) -> None:
    done = clusterflow("locality", OCTAENE, "--site", "0", "--site", "7", "--cut-cost", "2", "-o", "out", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "C0: fragments of C16H18 (34 atoms)" in done.stdout
    assert "common radius" in done.stdout
    told = json.loads((tmp_path / "out" / "locality.json").read_text())
    assert [s["site"] for s in told["sites"]] == ["C0", "C7"]
    assert told["common_radius"] == max(s["r_frag"] for s in told["sites"])
    assert told["sites"][0]["fragment"] == "C6H8"  # hexatriene, as in the paper


def test_a_piece_that_is_too_small_is_told_loudly_and_gives_no_fragment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "fragments.extxyz").write_text("of an earlier run")
    command = ("locality", MOF5, "--site", "32", "--radius", "4", "-o", "out", "--force")
    done = here(*command)
    assert done.exit_code == 0, done.stderr
    assert "C32: NOT converged within this piece of 39 atoms: raise --radius" in done.stdout
    assert not (tmp_path / "out" / "fragments.extxyz").exists()
    told = json.loads((tmp_path / "out" / "locality.json").read_text())
    assert told["common_radius"] is None
    site = told["sites"][0]
    assert (site["converged"], site["r_frag"], site["common_fragment"]) == (False, None, None)
    assert min(t["effective_norm"] for t in site["trials"]) > told["gamma_eV_per_A2"]
    piece = read(tmp_path / "out" / "C32.extxyz")
    assert piece.arrays["parent"][piece.info["site"]] == 32


def test_the_fragment_of_the_common_radius_holds_the_converged_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Water, where r_frag is the distance to the strongest atom of the last molecule, not to its nearest."""
    monkeypatch.chdir(tmp_path)
    done = here("locality", WATER, "--site", "0", "--radius", "4.2", "-o", "out")
    assert done.exit_code == 0, done.stderr
    told = json.loads((tmp_path / "out" / "locality.json").read_text())
    site = told["sites"][0]
    assert site["converged"]
    assert site["common_atoms"] >= site["atoms"]
    written = read(tmp_path / "out" / "fragments.extxyz")
    assert written.info["converged"] == (site["common_effective_norm"] <= told["gamma_eV_per_A2"])
    frame = read(WATER, index=0)
    parent = written.arrays["parent"]
    assert 0 in parent
    assert (frame.numbers[parent] == written.numbers).all()
    error = sum(x**2 for x in site["common_force_error"]) ** 0.5
    assert (f"wrong by {error:.2f} eV/Å" in done.stdout) == (error > 0.15)


def test_a_zif_is_assessed_and_parents_are_indices_of_the_crystal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = here("locality", ZIF8, "--site", "32", "--radius", "4", "-o", "out")
    assert done.exit_code == 0, done.stderr
    told = json.loads((tmp_path / "out" / "locality.json").read_text())
    site = told["sites"][0]
    assert site["reference"] == "C17H24N10Zn"  # Zn(HIm)4 and the ring next to the site
    assert {t["charge"] for t in site["trials"]} == {0, 2}  # the ring alone; with its Zn(HIm)4
    assert site["trials"][0]["effective_norm"] < 0.1
    frame, written = read(ZIF8), read(tmp_path / "out" / "fragments.extxyz")
    parent = written.arrays["parent"]
    assert 32 in parent
    assert (frame.numbers[parent[parent >= 0]] == written.numbers[parent >= 0]).all()
    assert written.info["site"] == "H32"


def test_what_must_not_be_overlooked_is_said() -> None:
    good = {"site": "H1", "common_effective_norm": 0.1, "common_force_error": [0.0, 0.1, 0.0], "reference_atoms": 9}
    told = {"gamma_eV_per_A2": 0.35, "common_radius": 4.5, "sites": [good]}
    assert _warnings(told, 5.0, periodic=True) == []
    assert _warnings(told, 4.0, periodic=False) == []
    assert "larger than the pieces: raise --radius (now 4 Å)" in _warnings(told, 4.0, periodic=True)[0]
    told["sites"] = [{**good, "common_effective_norm": 0.4}, {**good, "common_force_error": [0.0, 0.1, 0.2]}]
    above, wrong = _warnings(told, 5.0, periodic=True)
    assert "NOT converged (‖G'‖ 0.400 eV/Å²), and marked so" in above
    assert "wrong by 0.22 eV/Å" in wrong


def test_an_unsound_structure_is_refused_before_anything_is_cut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    atoms = read(MOF5)
    del atoms[[k for k in range(len(atoms)) if atoms.symbols[k] == "H"][:1]]
    write(tmp_path / "bare.extxyz", atoms)
    done = CliRunner().invoke(app, ["locality", "bare.extxyz", "--site", "0"])
    assert done.exit_code == 2, done.output
    assert "hydrogen" in done.stderr


def test_bad_input_is_refused_with_a_way_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "water.extxyz", molecule("H2O"))
    write(tmp_path / "heavy.extxyz", Atoms("U", [[0, 0, 0]]))
    (tmp_path / "there").mkdir()
    cases: list[tuple[tuple[str | Path, ...], tuple[str, ...]]] = [
        ((MOF5,), ("No site is given", "--site 12")),
        ((MOF5, "--site", "106"), ("no atom 106", "106 atoms", "from 0 to 105")),
        ((MOF5, "--site", "0", "--level", "b3lyp"), ("no level 'b3lyp'", "gfn1, gfn2, quick, paper")),
        ((MOF5, "--site", "0", "--model", "gone"), ("no model folder 'gone'",)),
        ((MOF5, "--site", "0", "--gamma", "0"), ("lets nothing pass",)),
        ((MOF5, "--site", "0", "--max-atoms", "50"), ("98 atoms, more than 50", "--radius")),
        ((MOF5, "--site", "0", "-o", "there"), ("'there' exists already", "--force")),
        (("water.extxyz", "--site", "0"), ("H2O is a single group", "--cut-cost")),
        (("heavy.extxyz", "--site", "0"), ("no parameters for U",)),
        (("gone.cif", "--site", "0"), ("no structure file",)),
    ]
    for arguments, words in cases:
        done = CliRunner().invoke(app, ["locality", *map(str, arguments)])
        assert done.exit_code == 2, (arguments, done.output)
        for word in (*words, "next:"):
            assert word in done.stderr, (arguments, done.stderr)


@pytest.mark.parametrize("level", ["quick", "paper"])
def test_a_level_that_lacks_an_element_says_so_before_anything_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, level: str
) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "odd.extxyz", Atoms("AcH3", [[0, 0, 0], [2, 0, 0], [0, 2, 0], [0, 0, 2]]))
    done = CliRunner().invoke(app, ["locality", "odd.extxyz", "--site", "0", "--level", level])
    assert done.exit_code == 2, done.output
    assert "Ac" in done.stderr
