"""Fragments that are the same up to rotation, reflection and order."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule
from ase.io import read
from hypothesis import given, settings
from hypothesis import strategies as st

from clusterflow.core.data import Fragment, Site
from clusterflow.selection.duplicates import drop_duplicates, fingerprint, same_fragment
from clusterflow.structures.perturbation import perturb

STRUCTURES = Path(__file__).parents[2] / "configs" / "structures"


def fragment(atoms: Atoms, core: int = 0) -> Fragment:
    """All atoms from number ``core`` on are mantle; 0: all are core."""
    is_core = np.arange(len(atoms)) < (core or len(atoms))
    return Fragment(atoms, is_core, np.arange(len(atoms)), (Site("f", 0),), "rule", 0, 0)


def moved(atoms: Atoms, seed: int, *, mirror: bool = False) -> tuple[Atoms, np.ndarray]:
    rng = np.random.default_rng(seed)
    rotation, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    rotation *= np.sign(np.linalg.det(rotation)) * (-1 if mirror else 1)
    order = rng.permutation(len(atoms))
    out = atoms[order]
    out.positions = out.positions @ rotation + rng.normal(size=3) * 10
    return out, order


@given(seed=st.integers(0, 2**31), mirror=st.booleans(), noise=st.floats(0, 0.002))
@settings(max_examples=40, deadline=None)
def test_invariance(seed: int, mirror: bool, noise: float) -> None:
    atoms = perturb(molecule("C6H6"), displacement=0.1, strain=0.0, rng=np.random.default_rng(seed))
    other, _ = moved(atoms, seed, mirror=mirror)
    other.positions += np.random.default_rng(seed).uniform(-noise, noise, size=other.positions.shape)
    assert fingerprint(atoms).matches(fingerprint(other))
    assert str(fingerprint(atoms)) == str(fingerprint(other))
    assert same_fragment(fragment(atoms), fragment(other))


@given(seed=st.integers(0, 2**31))
@settings(max_examples=40, deadline=None)
def test_two_thermal_copies_are_different(seed: int) -> None:
    rng = np.random.default_rng(seed)
    for atoms in (molecule("C6H6"), read(STRUCTURES / "MOF-5_primitive.extxyz")):
        first, second = (perturb(atoms, displacement=0.05, strain=0.0, rng=rng) for _ in range(2))
        assert not same_fragment(fragment(first), fragment(second))


def test_size_bounds_the_distances() -> None:
    """The prefilter may never refuse what the full comparison accepts: its difference is the smaller of the two."""
    rng = np.random.default_rng(0)
    for width in (1e-4, 1e-3, 1e-2, 0.1, 1.0):
        for _ in range(20):
            atoms = Atoms("C7H5", positions=rng.normal(size=(12, 3)) * 2)
            other = perturb(atoms, displacement=width, strain=0.0, rng=rng)
            a, b = fingerprint(atoms), fingerprint(other)
            assert abs(a.size - b.size) <= np.abs(a.distances - b.distances).max() + 1e-12
            assert a.size == pytest.approx(np.sqrt((a.distances**2).mean()))


def test_the_tolerance_has_no_edges() -> None:
    """Distances on either side of any rounding threshold still match."""
    for d in np.linspace(1.0, 1.1, 41):
        a, b = Atoms("HH", positions=[[0, 0, 0], [0, 0, d]]), Atoms("HH", positions=[[0, 0, 0], [0, 0, d + 0.009]])
        assert fingerprint(a).matches(fingerprint(b))
        b.positions[1, 2] += 0.002
        assert not fingerprint(a).matches(fingerprint(b))


def test_elements_core_charge_and_spin_matter() -> None:
    atoms = molecule("CH3OH")
    swapped = atoms.copy()
    swapped.numbers[:2] = swapped.numbers[:2][::-1]
    assert not same_fragment(fragment(atoms), fragment(swapped))
    assert not same_fragment(fragment(atoms, 2), fragment(atoms, 3))
    assert not same_fragment(fragment(atoms), replace(fragment(atoms), charge=1))
    assert not same_fragment(fragment(atoms), replace(fragment(atoms), spin=2))
    assert same_fragment(fragment(atoms), replace(fragment(atoms), rule="another", sites=(Site("g", 1),)))


def test_drop_duplicates_keeps_the_first_of_each() -> None:
    benzene, water = molecule("C6H6"), molecule("H2O")
    hot = perturb(benzene, displacement=0.05, strain=0.0, rng=np.random.default_rng(1))
    several = [benzene, water, moved(benzene, 1)[0], hot, moved(water, 2)[0], moved(hot, 3)[0]]
    fragments = [fragment(a) for a in several]
    assert drop_duplicates(fragments) == [0, 1, 3]
    assert drop_duplicates(fragments, known=[fragment(moved(water, 9)[0])]) == [0, 3]
    assert drop_duplicates(fragments, known=fragments) == []
    assert drop_duplicates([]) == []


def test_single_atoms() -> None:
    assert fingerprint(Atoms("He")).matches(fingerprint(Atoms("He", positions=[[1, 2, 3]])))
    assert not fingerprint(Atoms("He")).matches(fingerprint(Atoms("Ne")))
