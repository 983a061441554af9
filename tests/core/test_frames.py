"""Hashes survive files and nothing else; fragments survive the round trip."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule
from hypothesis import given, settings
from hypothesis import strategies as st

from clusterflow.core.data import Fragment, Label, Prediction, Site
from clusterflow.core.frames import (
    atoms_from_json,
    atoms_to_json,
    canonical_json,
    content_hash,
    digest,
    fragment_from_atoms,
    fragment_to_atoms,
    read_frames,
    read_optional_frames,
    unordered_hash,
    with_label,
    write_frames,
)
from clusterflow.core.seeds import derive_seed
from clusterflow.errors import ConfigError, InputError, LabelError


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 10**6), periodic=st.booleans())
def test_hash_survives_extxyz(tmp_path_factory: pytest.TempPathFactory, seed: int, periodic: bool) -> None:
    rng = np.random.default_rng(seed)
    atoms = Atoms("C2H4O", positions=rng.normal(size=(7, 3)) * 5, pbc=periodic)
    if periodic:
        atoms.cell = rng.normal(size=(3, 3)) + 10 * np.eye(3)
    path = tmp_path_factory.mktemp("x") / "a.extxyz"
    write_frames(path, [atoms])
    (again,) = read_frames(path)
    assert content_hash(again) == content_hash(atoms)
    assert content_hash(atoms_from_json(atoms_to_json(atoms))) == content_hash(atoms)


def test_hash_sees_every_change() -> None:
    base = Atoms("CO", positions=[[0, 0, 0], [0, 0, 1.1]], cell=[9, 9, 9], pbc=True)
    moved, swapped, stretched, open_ = base.copy(), base.copy(), base.copy(), base.copy()
    moved.positions[0, 0] += 1e-7
    swapped.numbers = [8, 6]
    stretched.cell[0, 0] += 1e-7
    open_.pbc = False
    assert len({content_hash(a) for a in (base, moved, swapped, stretched, open_)}) == 5
    annotated = base.copy()
    annotated.info["x"] = 1
    annotated.set_array("region", np.array(["core", "core"]))
    assert content_hash(annotated) == content_hash(base)


def test_fragment_round_trip(tmp_path: Path) -> None:
    fragment = Fragment(
        atoms=Atoms("CH3", positions=np.arange(12.0).reshape(4, 3)),
        core=np.array([True, False, False, False]),
        parent=np.array([17, 4, -1, -1]),
        sites=(Site("f" * 64, 17), Site("f" * 64, 18)),
        rule="building_blocks mantle=none",
        charge=-1,
        spin=1,
        kind="linker:C6H4",
    )
    path = tmp_path / "f.extxyz"
    write_frames(path, [fragment_to_atoms(fragment, system="crystal")])
    (atoms,) = read_frames(path)
    assert list(atoms.arrays["region"]) == ["core", "mantle", "termination", "termination"]
    again = fragment_from_atoms(atoms)
    assert (again.sites, again.rule, again.charge, again.spin, again.kind) == (
        fragment.sites, fragment.rule, -1, 1, "linker:C6H4",
    )  # fmt: skip
    np.testing.assert_array_equal(again.parent, fragment.parent)
    np.testing.assert_array_equal(again.core, fragment.core)


def test_label_travels_in_a_calculator(tmp_path: Path) -> None:
    stress = np.array([[1.0, 0.1, 0.2], [0.1, 2.0, 0.3], [0.2, 0.3, 3.0]])
    label = Label(Prediction(-3.5, np.ones((2, 3)), stress), "toy", 0, 0, 1, 1.0)
    atoms = with_label(Atoms("CO", positions=[[0, 0, 0], [0, 0, 1.1]], cell=[9, 9, 9], pbc=True), label, split="test")
    write_frames(tmp_path / "l.extxyz", [atoms])
    (again,) = read_frames(tmp_path / "l.extxyz")
    assert again.get_potential_energy() == -3.5
    np.testing.assert_allclose(again.get_stress(voigt=False), stress)
    assert again.info["level_of_theory"] == "toy"
    assert again.info["split"] == "test"


def test_missing_unreadable_and_empty_files(tmp_path: Path) -> None:
    (tmp_path / "other.cif").write_text("x")
    with pytest.raises(InputError, match=r"no structure file(.|\n)*other\.cif"):
        read_frames(tmp_path / "missing.cif")
    with pytest.raises(InputError, match="cannot be read"):
        read_frames(tmp_path / "other.cif")
    write_frames(tmp_path / "none.extxyz", [])
    assert read_optional_frames(tmp_path / "none.extxyz") == []


def test_digest_parts_do_not_run_into_each_other() -> None:
    assert digest("ab", "c") != digest("a", "bc")
    assert canonical_json({"b": 1, "a": [1.0]}) == '{"a":[1.0],"b":1}'
    with pytest.raises(ValueError, match="JSON"):
        canonical_json(float("nan"))


def test_seeds_follow_from_their_names() -> None:
    seeds = {derive_seed(1, "explore", i, s) for i in range(50) for s in ("a", "b")}
    assert len(seeds) == 100
    assert all(0 < s < 2**31 for s in seeds)
    assert derive_seed(1, "a") == derive_seed(1, "a")


@pytest.mark.parametrize("kind", [ConfigError, LabelError])
def test_errors_survive_pickling(kind: type[Exception]) -> None:
    error = kind("7 atoms overlap", where="frame 3", todo="Relax it.")  # type: ignore[call-arg]
    again = pickle.loads(pickle.dumps(error))  # noqa: S301 - the round trip through a worker is what is tested
    assert type(again) is kind
    assert str(again) == "7 atoms overlap\n  where: frame 3\n  next:  Relax it."


def test_the_unordered_hash_knows_a_set_of_atoms_and_nothing_else():
    atoms = molecule("CH3OH")
    order = np.random.default_rng(0).permutation(len(atoms))
    assert unordered_hash(atoms) == unordered_hash(atoms[order])
    moved = atoms.copy()
    moved.positions[0, 0] += 1e-6
    assert unordered_hash(moved) != unordered_hash(atoms)
    other = atoms.copy()
    other.symbols[0] = "Si"
    assert unordered_hash(other) != unordered_hash(atoms)
