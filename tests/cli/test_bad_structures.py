"""Structures out of databases as they come: `check` refuses each with the names of the atoms that are wrong."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.io import read, write

from clusterflow.campaign.inputs import gather_inputs
from clusterflow.cli.main import main
from clusterflow.config.load import load_campaign
from clusterflow.errors import StructureError
from clusterflow.physics.bonds import bond_graph

UIO66 = Path(__file__).parents[2] / "configs" / "structures" / "UiO-66_conventional.extxyz"
CAMPAIGN = """\
name: bad
systems: [{{name: crystal, structure: {structure}}}]
label: {{kind: xtb}}
"""


def inner_oxygens(atoms: Atoms) -> tuple[list[int], list[int], list[int]]:
    """μ3-O, μ3-OH and the protons of these."""
    graph = bond_graph(atoms)
    held = {k: atoms.numbers[graph.neighbours(k)].tolist() for k in np.flatnonzero(atoms.numbers == 8).tolist()}
    oxo = [k for k, around in held.items() if around == [40, 40, 40]]
    hydroxo = [k for k, around in held.items() if sorted(around) == [1, 40, 40, 40]]
    return oxo, hydroxo, [int(h) for k in hydroxo for h in graph.neighbours(k) if atoms.numbers[h] == 1]


def without_hydroxide(atoms: Atoms) -> Atoms:
    _, hydroxo, protons = inner_oxygens(atoms)
    del atoms[hydroxo[:12] + protons[:12]]
    assert len(atoms) == 432
    return atoms


def without_one_oxide(atoms: Atoms) -> Atoms:
    del atoms[inner_oxygens(atoms)[0][:1]]
    return atoms


def without_protons(atoms: Atoms) -> Atoms:
    del atoms[inner_oxygens(atoms)[2]]
    assert len(atoms) == 440
    return atoms


def with_bare_water(atoms: Atoms) -> Atoms:
    return atoms + Atoms("O", scaled_positions=[[0.25, 0.5, 0.25]], cell=atoms.cell)


def without_hydrogens(atoms: Atoms) -> Atoms:
    return atoms[atoms.numbers != 1]


def with_a_double(atoms: Atoms) -> Atoms:
    return atoms + Atoms("C", positions=[atoms.positions[3] + [0.3, 0.0, 0.0]])


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (without_hydroxide, ["15 of 24 metals have too few donors", "Zr408 (6 of at least 7)", "μ3-O"]),
        (without_one_oxide, ["charge of +2", "missing at Zr", "(7 of 8)"]),
        (without_protons, ["charge of -16", "hydrogens seem to be missing at O"]),
        (with_bare_water, ["1 atoms are bonded to nothing: O456"]),
        (without_hydrogens, ["hydrogens are missing: C0, C1"]),
        (with_a_double, ["atoms overlap: C3–C456 0.300 Å"]),
    ],
)
def test_what_databases_hold(tmp_path: Path, spoil: Callable[[Atoms], Atoms], words: list[str]) -> None:
    write(tmp_path / "bad.extxyz", spoil(read(UIO66)))
    (tmp_path / "campaign.yaml").write_text(CAMPAIGN.format(structure="bad.extxyz"), encoding="utf-8")
    with pytest.raises(StructureError) as error:
        gather_inputs(load_campaign(tmp_path / "campaign.yaml"))
    for word in [*words, "system 'crystal'"]:
        assert word in str(error.value)
    assert error.value.todo


@pytest.mark.parametrize("command", ["check", "new", "extract"])
def test_partial_occupancy_is_refused_by_every_command(
    tmp_path: Path, command: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    atoms = read(UIO66)
    write("good.cif", atoms)
    lines = Path("good.cif").read_text().splitlines()
    site = next(k for k, line in enumerate(lines) if line.split()[:1] == ["O"])
    lines[site] = lines[site].rsplit(maxsplit=1)[0] + "  0.5000"  # the last column is the occupancy
    Path("bad.cif").write_text("\n".join(lines) + "\n")
    Path("campaign.yaml").write_text(CAMPAIGN.format(structure="bad.cif"), encoding="utf-8")
    monkeypatch.setattr("sys.argv", ["clusterflow", command, "campaign.yaml" if command == "check" else "bad.cif"])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 2
    told = " ".join(capsys.readouterr().err.split())
    first = int(np.flatnonzero(atoms.numbers == 8)[0])
    assert f"1 of 456 atoms stand on partly occupied sites: O{first} (O 0.5)" in told
