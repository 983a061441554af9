"""Datasets in psiflow's form, through the very parser that psiflow uses (ASE's), and psiflow itself where it is."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io.extxyz import key_val_str_to_dict_regex

from clusterflow.core import keys
from clusterflow.core.frames import write_frames
from clusterflow.errors import InputError
from clusterflow.exchange.psiflow_dataset import read_psiflow, write_psiflow
from clusterflow.exchange.psiflow_hamiltonian import PotentialFunction, psiflow_hamiltonian
from clusterflow.testing.analytic_potentials import LennardJones

SAVED = """\
3
pbc="F F F" Properties=species:S:1:pos:R:3:forces:R:3 energy=-12.5 phase=gas stdout=/tmp/a.log identifier=7
 O       0.00000000       0.00000000       0.11926200       0.10000000       0.00000000      -0.30000000
 H       0.00000000       0.76323900      -0.47704700       0.00000000       0.20000000       0.15000000
 H       0.00000000      -0.76323900      -0.47704700      -0.10000000      -0.20000000       0.15000000
1
pbc="F F F" Properties=species:S:1:pos:R:3 stdout=/tmp/b.log identifier=8
 X       0.00000000       0.00000000       0.00000000
1
Lattice="4.0 0.0 0.0 0.5 4.0 0.0 0.0 0.0 4.0" pbc="T T T" Properties=species:S:1:pos:R:3:forces:R:3 energy=-3.25 \
stress="0.1 0.01 0.02 0.01 0.2 0.03 0.02 0.03 0.3" order_CV=1.5
Cu       1.00000000       2.00000000       3.00000000       0.00000000       0.00000000       0.00000000
"""
"""As psiflow 4.0.4 writes it: a molecule, the placeholder of a failed calculation, a crystal."""


def load(model: Path) -> LennardJones:
    return LennardJones(epsilon=0.1, sigma=float(model.name))


def labelled() -> list[Atoms]:
    crystal = bulk("Cu", cubic=True)
    crystal.set_cell(crystal.cell.array @ [[1, 0.03, 0], [0, 1, 0], [0.01, 0, 1]], scale_atoms=True)
    frames = []
    for name, atoms in (("copper", crystal), ("water", molecule("H2O"))):
        atoms.rattle(0.05, seed=3)
        found = LennardJones().predict([atoms])[0]
        results = {"energy": found.energy, "forces": found.forces}
        if found.stress is not None:
            s = found.stress
            results["stress"] = np.array([s[0, 0], s[1, 1], s[2, 2], s[1, 2], s[0, 2], s[0, 1]])
        atoms.calc = SinglePointCalculator(atoms, **results)
        atoms.info |= {keys.SYSTEM: name, keys.LEVEL: "LJ", keys.SITES: '[["ab", 0]]', keys.CHARGE: 0}
        atoms.set_array(keys.REGION, np.array(["core"] * len(atoms)))
        frames.append(atoms)
    return frames


def test_what_goes_out_comes_back(tmp_path: Path) -> None:
    frames = labelled()
    write_psiflow(tmp_path / "dataset.xyz", frames)
    back = read_psiflow(tmp_path / "dataset.xyz", level_of_theory="LJ")
    assert len(back) == 2
    for number, (was, now) in enumerate(zip(frames, back, strict=True)):
        assert now.info == {keys.LEVEL: "LJ", keys.SYSTEM: was.info[keys.SYSTEM], "psiflow_identifier": number}
        assert (now.numbers == was.numbers).all()
        assert (now.pbc == was.pbc).all()
        assert now.positions == pytest.approx(was.positions, abs=1e-8)
        assert now.get_potential_energy() == pytest.approx(was.get_potential_energy(), abs=1e-9)
        assert now.get_forces() == pytest.approx(was.get_forces(), abs=1e-8)
    assert back[0].cell.array == pytest.approx(frames[0].cell.array, abs=1e-9)
    assert back[0].get_stress() == pytest.approx(frames[0].get_stress(), abs=1e-9)


def test_psiflows_parser_understands_the_header(tmp_path: Path) -> None:
    """psiflow parses headers by this function of ASE, which loses entries without a word where quotes are nested."""
    frames = labelled()
    write_psiflow(tmp_path / "dataset.xyz", frames)
    header = key_val_str_to_dict_regex((tmp_path / "dataset.xyz").read_text().splitlines()[1])
    assert header["energy"] == pytest.approx(frames[0].get_potential_energy())
    assert header["stress"] == pytest.approx(frames[0].get_stress(voigt=False), abs=1e-9)
    assert header["identifier"] == 0
    assert header["phase"] == "copper"
    assert sum(header["pbc"]) == 3
    lattice = np.asarray(header["Lattice"]).T  # as psiflow turns it
    assert lattice == pytest.approx(frames[0].cell.array)
    write_frames(tmp_path / "ours.extxyz", frames)  # what would have been lost
    ours = key_val_str_to_dict_regex((tmp_path / "ours.extxyz").read_text().splitlines()[1])
    assert "energy" not in ours


def test_a_dataset_that_psiflow_saved_comes_in(tmp_path: Path) -> None:
    (tmp_path / "data.xyz").write_text(SAVED)
    water, copper = read_psiflow(tmp_path / "data.xyz", level_of_theory="PBE")
    assert water.info == {keys.LEVEL: "PBE", keys.SYSTEM: "gas", "psiflow_identifier": 7}
    assert water.get_potential_energy() == -12.5
    assert water.get_forces()[0].tolist() == [0.1, 0.0, -0.3]
    assert not water.pbc.any()
    assert copper.cell[1, 0] == 0.5
    assert copper.get_stress().tolist() == [0.1, 0.2, 0.3, 0.03, 0.02, 0.01]


def test_bad_datasets_are_refused(tmp_path: Path) -> None:
    (tmp_path / "data.xyz").write_text(SAVED)
    with pytest.raises(InputError, match="level of theory of this dataset is not known"):
        read_psiflow(tmp_path / "data.xyz", level_of_theory=" ")
    write_frames(tmp_path / "bare.xyz", [molecule("H2O")])
    with pytest.raises(InputError, match="1 of 1 frames have no energy or no forces"):
        read_psiflow(tmp_path / "bare.xyz", level_of_theory="PBE")
    (tmp_path / "null.xyz").write_text("1\nProperties=species:S:1:pos:R:3 identifier=8\nX 0 0 0\n")
    with pytest.raises(InputError, match="no frames but psiflow's placeholders"):
        read_psiflow(tmp_path / "null.xyz", level_of_theory="PBE")
    with pytest.raises(InputError, match="no labelled frames"):
        write_psiflow(tmp_path / "out.xyz", [])
    masked = labelled()
    masked[1].calc.results["forces"][2] = np.nan
    with pytest.raises(InputError, match="Frame 1 has no energy, or not all of its forces") as error:
        write_psiflow(tmp_path / "out.xyz", masked)
    assert "water" in error.value.where


def geometry(atoms: Atoms) -> SimpleNamespace:
    """What psiflow's functions get, as far as ours looks at it."""
    per_atom = np.recarray(len(atoms), dtype=[("numbers", np.uint8), ("positions", np.float64, (3,))])
    per_atom.numbers[:], per_atom.positions[:] = atoms.numbers, atoms.positions
    return SimpleNamespace(per_atom=per_atom, cell=atoms.cell.array, periodic=bool(atoms.pbc.any()))


def test_the_function_that_psiflows_workers_call() -> None:
    copper, water = labelled()
    nothing = geometry(Atoms("X"))
    found = PotentialFunction("/models/1.0", load).compute([geometry(copper), nothing, geometry(water)])
    for k, atoms in ((0, copper), (2, water)):
        expected = LennardJones(epsilon=0.1, sigma=1.0).predict([atoms])[0]
        assert found["energy"][k] == pytest.approx(expected.energy)
        assert found["forces"][k, : len(atoms)] == pytest.approx(expected.forces)
        stress = np.zeros((3, 3)) if expected.stress is None else expected.stress
        assert found["stress"][k] == pytest.approx(stress)
    assert np.isnan(found["forces"][2, 3:]).all()
    assert np.isnan(found["energy"][1])


def test_without_psiflow_it_says_where_to_get_it() -> None:
    try:
        import psiflow
    except ImportError:
        with pytest.raises(InputError, match="psiflow cannot be imported") as error:
            psiflow_hamiltonian(Path("model"), load)
        assert "github.com/molmod/psiflow" in error.value.todo
    else:
        pytest.skip(f"psiflow is here ({psiflow.__file__}), so there is nothing to complain about")


def test_psiflow_itself_reads_the_dataset_and_calls_the_hamiltonian(tmp_path: Path) -> None:
    psiflow = pytest.importorskip("psiflow", reason="psiflow is not on the package index, and not installed here")
    from psiflow.data.utils import _read_frames

    frames = labelled()
    write_psiflow(tmp_path / "dataset.xyz", frames)
    states = _read_frames(inputs=[str(tmp_path / "dataset.xyz")])
    assert [s.energy for s in states] == pytest.approx([a.get_potential_energy() for a in frames])
    assert states[0].cell == pytest.approx(frames[0].cell.array)
    assert states[0].stress == pytest.approx(frames[0].get_stress(voigt=False), abs=1e-9)
    assert states[1].per_atom.forces == pytest.approx(frames[1].get_forces(), abs=1e-8)
    (tmp_path / "back.xyz").write_text("\n".join(s.to_string() for s in states) + "\n")
    back = read_psiflow(tmp_path / "back.xyz", level_of_theory="LJ")
    assert back[0].get_stress() == pytest.approx(frames[0].get_stress(), abs=1e-8)
    assert back[1].info[keys.SYSTEM] == "water"
    found = PotentialFunction("/models/1.0", load).compute(states)
    assert found["energy"][0] == pytest.approx(LennardJones(epsilon=0.1, sigma=1.0).predict([frames[0]])[0].energy)
    (tmp_path / "1.0").mkdir()
    (tmp_path / "1.0" / "model.json").write_text("{}")
    hamiltonian = psiflow_hamiltonian(tmp_path / "1.0", load)
    assert isinstance(hamiltonian, psiflow.hamiltonians.Hamiltonian)
    assert hamiltonian == psiflow_hamiltonian(tmp_path / "1.0", load)
    assert len((2.0 * hamiltonian + hamiltonian).coefficients) == 1
    with pytest.raises(InputError, match="cannot sample with this Hamiltonian"):
        hamiltonian.serialize_function()
