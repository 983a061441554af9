"""A label is found again however its fragment was turned, and for nothing else."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule

from clusterflow.core.data import Label, Prediction
from clusterflow.errors import StateError
from clusterflow.label.xtb import XTBReference
from clusterflow.state.bank import Bank
from clusterflow.state.labels import LabelStore

LEVEL = "toy"


def thermal(seed: int, name: str = "CH3CH2OH") -> Atoms:
    atoms = molecule(name)
    atoms.positions += np.random.default_rng(seed).normal(scale=0.05, size=atoms.positions.shape)
    return atoms


def turned(atoms: Atoms, seed: int, *, mirror: bool = False) -> tuple[Atoms, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    rotation, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    rotation *= np.sign(np.linalg.det(rotation)) * (-1 if mirror else 1)
    order = rng.permutation(len(atoms))
    out = atoms[order]
    out.positions = out.positions @ rotation + rng.normal(scale=5.0, size=3)
    return out, order, rotation


def label(atoms: Atoms, seed: int = 0, **changes: object) -> Label:
    forces = np.random.default_rng(seed).normal(size=(len(atoms), 3))
    made = Label(Prediction(-1.5, forces), LEVEL, charge=0, spin=0, scf_steps=9, wall_time=12.0, cores=2)
    return replace(made, **changes)  # type: ignore[arg-type]


def find(bank: Bank, atoms: Atoms, level: str = LEVEL, charge: int = 0, spin: int = 0) -> Label | None:
    return bank.find(atoms, level_of_theory=level, charge=charge, spin=spin).label


def test_forces_turn_with_the_fragment(tmp_path: Path) -> None:
    bank, atoms = Bank(tmp_path / "bank"), thermal(1)
    made = label(atoms)
    assert bank.put(atoms, made, {"campaign": "first"})
    assert not bank.put(atoms, made, {"campaign": "second"})
    other, order, rotation = turned(atoms, 2)
    loan = Bank(tmp_path / "bank").find(other, level_of_theory=LEVEL, charge=0, spin=0)
    assert loan.label is not None
    assert np.allclose(loan.label.prediction.forces, made.prediction.forces[order] @ rotation, atol=1e-8)
    assert loan.label.prediction.energy == -1.5
    assert (loan.label.wall_time, loan.label.cores) == (12.0, 2)
    assert loan.origin["source"] == {"campaign": "first"}
    assert loan.origin["deviation_A"] < 1e-8


@pytest.mark.parametrize("name", ["CH3CH2OH", "C6H6", "CO2"])
def test_as_a_direct_calculation_has_them(tmp_path: Path, name: str) -> None:
    reference, bank, atoms = XTBReference(), Bank(tmp_path / "bank"), thermal(3, name)
    bank.put(atoms, reference.label(atoms), {})
    other, _, _ = turned(atoms, 4)
    direct = reference.label(other)
    lent = find(bank, other, reference.level_of_theory)
    assert lent is not None
    assert lent.prediction.energy == pytest.approx(direct.prediction.energy, abs=1e-6)
    assert np.abs(lent.prediction.forces - direct.prediction.forces).max() < 1e-4


def test_what_is_another_label(tmp_path: Path) -> None:
    bank, atoms = Bank(tmp_path / "bank"), thermal(5)
    bank.put(atoms, label(atoms), {})
    assert find(bank, atoms) is not None
    assert find(bank, atoms, level="another") is None
    assert find(bank, atoms, charge=1) is None
    assert find(bank, atoms, spin=2) is None
    assert find(bank, turned(atoms, 6, mirror=True)[0]) is None, "the enantiomer"
    assert find(bank, thermal(6)) is None
    moved = atoms.copy()
    moved.positions[0, 0] += 5e-4
    assert find(bank, moved) is None
    moved.positions[0, 0] -= 4.5e-4
    assert find(bank, moved) is not None


def test_both_enantiomers_have_their_own(tmp_path: Path) -> None:
    bank, atoms = Bank(tmp_path / "bank"), thermal(7)
    mirror, _, _ = turned(atoms, 8, mirror=True)
    bank.put(atoms, label(atoms), {})
    bank.put(mirror, label(mirror, 1), {})
    for each, seed in ((atoms, 0), (mirror, 1)):
        lent = find(bank, each)
        assert lent is not None
        assert np.allclose(lent.prediction.forces, label(each, seed).prediction.forces)


def test_periodic_structures_are_not_kept(tmp_path: Path) -> None:
    bank, cell = Bank(tmp_path / "bank"), bulk("MgO", "rocksalt", 4.2)
    assert not bank.put(cell, label(cell), {})
    assert find(bank, cell) is None


@pytest.mark.parametrize("damage", ["torn", "changed", "swapped", "empty"])
def test_a_bad_entry_is_refused_with_a_message_and_the_others_serve(tmp_path: Path, damage: str) -> None:
    bank, atoms = Bank(tmp_path / "bank"), thermal(9)
    bank.put(atoms, label(atoms), {})
    (path,) = bank.entries()
    raw = path.read_bytes()
    path.chmod(0o600)
    bad = {
        "torn": raw[: len(raw) // 2],
        "changed": raw.replace(b'"energy_eV":-1.5', b'"energy_eV":-1.6'),
        "swapped": (tmp_path / "bank" / "format.json").read_bytes(),
        "empty": b"",
    }[damage]
    path.write_bytes(bad)
    loan = bank.find(turned(atoms, 10)[0], level_of_theory=LEVEL, charge=0, spin=0)
    assert loan.label is None
    assert str(path) in loan.refused[0]
    assert bank.examine(path)
    other = turned(atoms, 11)[0]
    bank.put(other, label(other), {})  # computed anew
    loan = bank.find(atoms, level_of_theory=LEVEL, charge=0, spin=0)
    assert loan.label is not None


def test_an_entry_under_a_wrong_name_is_refused(tmp_path: Path) -> None:
    bank, atoms = Bank(tmp_path / "bank"), thermal(12)
    bank.put(atoms, label(atoms), {})
    (path,) = bank.entries()
    forged = path.with_name(path.name.rsplit("-", 1)[0] + "-" + "0" * 64 + ".json")
    path.rename(forged)
    loan = bank.find(atoms, level_of_theory=LEVEL, charge=0, spin=0)
    assert loan.label is None
    assert "something else" in loan.refused[0]


def test_what_is_not_a_bank(tmp_path: Path) -> None:
    LabelStore(tmp_path / "labels")
    with pytest.raises(StateError, match="holds labels, not a bank"):
        Bank(tmp_path / "labels")
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "thesis.tex").write_text("…")
    with pytest.raises(StateError, match="not a bank of labels"):
        Bank(tmp_path / "home")


def test_made_by_somebody_else_in_the_same_moment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    listed = Path.iterdir

    def late(folder: Path) -> Iterator[Path]:
        monkeypatch.setattr(Path, "iterdir", listed)
        Bank(folder).put(thermal(12), label(thermal(12)), {})  # after the question whether this is a bank
        return listed(folder)

    (tmp_path / "bank").mkdir()
    monkeypatch.setattr(Path, "iterdir", late)
    assert len(list(Bank(tmp_path / "bank").entries())) == 1


def _put(folder: Path, seed: int) -> bool:
    atoms = thermal(seed % 3)
    return Bank(folder).put(atoms, label(atoms), {"seed": seed})


def test_many_at_once(tmp_path: Path) -> None:
    with multiprocessing.get_context("fork").Pool(4) as pool:
        added = pool.starmap(_put, [(tmp_path / "bank", seed) for seed in range(12)])
    assert sum(added) == 3
    bank = Bank(tmp_path / "bank")
    assert len(list(bank.entries())) == 3
    assert all(bank.examine(path) == "" for path in bank.entries())
    assert not list((tmp_path / "bank").glob("**/.tmp-*"))


def test_as_open_as_its_folder_and_never_to_be_changed(tmp_path: Path) -> None:
    (tmp_path / "bank").mkdir()
    (tmp_path / "bank").chmod(0o2775)
    before = os.umask(0o077)
    try:
        bank, atoms = Bank(tmp_path / "bank"), thermal(13)
        bank.put(atoms, label(atoms), {})
    finally:
        os.umask(before)
    (path,) = bank.entries()
    assert path.stat().st_mode & 0o777 == (tmp_path / "bank" / "format.json").stat().st_mode & 0o777 == 0o444
    assert [p.stat().st_mode & 0o777 for p in (path.parent, path.parent.parent)] == [0o775, 0o775]
