"""Structures are recognised in any orientation and order; mirror images are not."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule
from hypothesis import given, settings
from hypothesis import strategies as st

from clusterflow.physics.superposition import Superposition, extents, superpose

MOLECULES = ("C6H6", "CH4", "H2O", "CO2", "H2", "C60", "CH3CH2OH", "SiH4", "H")


def turned(atoms: Atoms, rng: np.random.Generator, *, mirror: bool = False) -> tuple[Atoms, np.ndarray, np.ndarray]:
    rotation, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    rotation *= np.sign(np.linalg.det(rotation)) * (-1 if mirror else 1)
    order = rng.permutation(len(atoms))
    out = atoms[order]
    out.positions = out.positions @ rotation + rng.normal(scale=20.0, size=3)
    return out, order, rotation


def fit(source: Atoms, target: Atoms, tolerance: float = 1e-4) -> Superposition | None:
    return superpose(source.numbers, source.positions, target.numbers, target.positions, tolerance=tolerance)


@given(name=st.sampled_from(MOLECULES), seed=st.integers(0, 2**31), thermal=st.booleans())
@settings(max_examples=60, deadline=None)
def test_any_orientation_and_order(name: str, seed: int, thermal: bool) -> None:
    """Symmetric molecules as they are, and with thermal noise."""
    rng = np.random.default_rng(seed)
    atoms = molecule(name)
    if thermal:
        atoms.positions += rng.normal(scale=0.05, size=atoms.positions.shape)
    target, _, _ = turned(atoms, rng)
    target.positions += rng.uniform(-3e-5, 3e-5, size=target.positions.shape)
    found = fit(atoms, target)
    assert found is not None
    placed = atoms.positions[found.order] @ found.rotation + found.shift
    assert np.abs(placed - target.positions).max() <= 1e-4
    assert np.array_equal(atoms.numbers[found.order], target.numbers)
    assert np.linalg.det(found.rotation) == pytest.approx(1.0)
    assert found.deviation <= 1e-4


@given(seed=st.integers(0, 2**31))
@settings(max_examples=30, deadline=None)
def test_mirror_images_and_other_copies_are_others(seed: int) -> None:
    rng = np.random.default_rng(seed)
    atoms = molecule("CH3CH2OH")
    atoms.positions += rng.normal(scale=0.1, size=atoms.positions.shape)
    assert fit(atoms, turned(atoms, rng, mirror=True)[0]) is None
    other, _, _ = turned(atoms, rng)
    other.positions[3] += [0.0, 0.0, 0.01]
    assert fit(atoms, other) is None
    assert fit(atoms, other, tolerance=0.02) is not None


def test_a_flat_molecule_is_its_own_mirror_image() -> None:
    atoms = molecule("C6H6")
    rng = np.random.default_rng(0)
    atoms.positions[:, :2] += rng.normal(scale=0.05, size=(12, 2))
    assert fit(atoms, turned(atoms, rng, mirror=True)[0]) is not None


def test_same_places_other_elements() -> None:
    atoms = molecule("CO2")
    other = atoms.copy()
    other.numbers = [8, 6, 8]
    assert fit(atoms, other) is None
    assert fit(atoms, molecule("H2O")) is None
    chiral = Atoms("CHFClBr", positions=[[0, 0, 0], [0.6, 0.6, 0.6], [0.8, -0.8, -0.8], [-1, 1, -1], [-1.1, -1.1, 1.1]])
    swapped = chiral.copy()
    swapped.numbers[[1, 2]] = swapped.numbers[[2, 1]]
    assert fit(chiral, swapped) is None


@given(seed=st.integers(0, 2**31), scale=st.floats(1e-5, 0.5))
@settings(max_examples=40, deadline=None)
def test_extents_differ_by_no_more_than_the_atoms_do(seed: int, scale: float) -> None:
    """The prefilter may refuse nothing that could be superposed."""
    rng = np.random.default_rng(seed)
    atoms = molecule("CH3CH2OH")
    moved = atoms.positions + rng.normal(scale=scale, size=atoms.positions.shape)
    off = np.linalg.norm((moved - moved.mean(0)) - (atoms.positions - atoms.positions.mean(0)), axis=1).max()
    assert np.abs(extents(moved) - extents(atoms.positions)).max() <= off + 1e-12
