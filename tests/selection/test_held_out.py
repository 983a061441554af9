"""Structures of a test set are recognised however they were turned, and whatever else was cut from their frame."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, make_supercell, molecule
from hypothesis import given, settings
from hypothesis import strategies as st

from clusterflow.core import keys
from clusterflow.core.data import Fragment, Site
from clusterflow.core.frames import fragment_to_atoms
from clusterflow.selection.held_out import HeldOut, structure_hash
from clusterflow.structures.perturbation import perturb


def turned(atoms: Atoms, seed: int) -> Atoms:
    rng = np.random.default_rng(seed)
    rotation, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    out: Atoms = atoms[rng.permutation(len(atoms))]
    out.positions = out.positions @ rotation + rng.normal(size=3)
    return out


@given(seed=st.integers(0, 2**31))
@settings(max_examples=25, deadline=None)
def test_a_turned_copy_is_refused_and_another_thermal_one_is_not(seed: int) -> None:
    rng = np.random.default_rng(seed)
    one, other = (perturb(molecule("C6H6"), displacement=0.05, strain=0.0, rng=rng) for _ in range(2))
    held_out = HeldOut([one])
    assert held_out.refuses(one) == "it is in the test set"
    assert "copy" in held_out.refuses(turned(one, seed))
    assert held_out.refuses(other) == ""


def test_the_core_does_not_matter() -> None:
    """A fragment of the same atoms that was cut for another site has the same label."""
    atoms = perturb(molecule("CH3OH"), displacement=0.05, strain=0.0, rng=np.random.default_rng(1))

    def fragment(core: int) -> Fragment:
        return Fragment(atoms, np.arange(6) == core, np.arange(6), (Site("f", core),), "rule", 0, 0)

    held_out = HeldOut([fragment_to_atoms(fragment(0))])
    assert held_out.refuses(turned(fragment_to_atoms(fragment(3)), 5))


def cut(frame: Atoms, parent: list[int], core: list[int], name: str) -> Atoms:
    """A piece of a frame, as an annotated fragment."""
    fragment = Fragment(frame[parent], np.isin(parent, core), np.array(parent), (Site(name, core[0]),), "rule", 0, 0)
    return fragment_to_atoms(fragment, **{keys.FRAME: name})


@pytest.mark.parametrize(
    ("parent", "core", "name", "refused"),
    [
        ([0, 1, 2, 3, 4], [0], "f", True),  # a larger fragment that confirms it
        ([2, 3, 4], [3], "f", True),  # its core atom in the other's mantle
        ([3, 4, 5], [4], "f", False),  # elsewhere in the frame
        ([2, 6, 7], [6], "f", False),  # only mantles meet
        ([0, 1, 2, 3, 4], [0], "g", False),  # another frame
    ],
)
def test_pieces_of_one_frame(parent: list[int], core: list[int], name: str, refused: bool) -> None:
    frame = perturb(molecule("C6H6"), displacement=0.05, strain=0.0, rng=np.random.default_rng(2))
    other = perturb(molecule("C6H6"), displacement=0.05, strain=0.0, rng=np.random.default_rng(3))
    held_out = HeldOut([cut(frame, [0, 1, 2, 3], [0], "f")])
    assert bool(held_out.refuses(cut(frame if name == "f" else other, parent, core, name))) is refused


def test_periodic_cells_by_nearest_images() -> None:
    rng = np.random.default_rng(4)
    cell = bulk("NaCl", "rocksalt", a=5.6, cubic=True)
    cell.positions += rng.normal(scale=0.05, size=cell.positions.shape)
    moved = cell[rng.permutation(len(cell))]
    moved.positions += rng.normal(size=3)
    moved.wrap()
    stretched = cell.copy()
    stretched.set_cell(cell.cell.array * 1.01, scale_atoms=True)
    assert HeldOut([cell]).refuses(moved)
    assert structure_hash(cell) == structure_hash(moved)
    assert not HeldOut([cell]).refuses(stretched)
    molecule_like = Atoms(numbers=cell.numbers, positions=cell.positions)
    assert not HeldOut([cell]).refuses(molecule_like)


def thermal_cell() -> Atoms:
    rng = np.random.default_rng(4)
    cell = bulk("NaCl", "rocksalt", a=5.6, cubic=True)
    cell.positions += rng.normal(scale=0.05, size=cell.positions.shape)
    return cell


OTHER_BASES = {
    "sheared": [[1, 0, 0], [1, 1, 0], [0, 0, 1]],
    "sheared far": [[1, 0, 0], [3, 1, 0], [0, -2, 1]],
    "axes exchanged": [[0, 1, 0], [0, 0, 1], [1, 0, 0]],
    "left-handed": [[0, 1, 0], [1, 0, 0], [0, 0, 1]],
    "supercell": [[2, 0, 0], [0, 1, 0], [0, 0, 1]],
    "skew supercell": [[1, 1, 0], [-1, 1, 0], [0, 0, 2]],
}


@pytest.mark.parametrize("basis", OTHER_BASES.values(), ids=OTHER_BASES)
def test_a_periodic_copy_in_another_lattice_basis_is_refused(basis: list[list[int]]) -> None:
    cell = thermal_cell()
    other = make_supercell(cell, np.array(basis), wrap=True)
    other.rotate(35.0, (1.0, 2.0, 3.0), rotate_cell=True)
    other = other[np.random.default_rng(1).permutation(len(other))]
    assert "copy" in HeldOut([cell]).refuses(other)
    assert "copy" in HeldOut([other]).refuses(cell)
    assert structure_hash(other) == structure_hash(cell)
    moved = other.copy()
    moved.positions[0, 0] += 0.05
    assert HeldOut([cell]).refuses(moved) == ""
    assert HeldOut([moved]).refuses(cell) == ""
    assert structure_hash(moved) != structure_hash(cell)


def test_other_periodic_structures_are_no_copies() -> None:
    cell = thermal_cell()
    held_out = HeldOut([cell])
    vacancies = cell[[k for k in range(8) if k not in (0, 4)]]
    slab = cell.copy()
    slab.pbc = (True, True, False)
    exchanged = cell.copy()
    exchanged.numbers[[0, 1]] = exchanged.numbers[[1, 0]]
    longer = cell.copy()
    longer.set_cell(cell.cell.array + np.diag([0.0, 0.0, 0.2]))
    for other in (vacancies, slab, exchanged, longer, Atoms(pbc=True, cell=cell.cell)):
        assert held_out.refuses(other) == ""


def test_slabs_and_gases_in_a_box_and_in_another_basis() -> None:
    slab = thermal_cell()
    slab.pbc = (True, True, False)
    sheared = slab.copy()
    sheared.set_cell(np.array([[1, 0, 0], [1, 1, 0], [0, 0, 1]]) @ slab.cell.array)
    assert "copy" in HeldOut([slab]).refuses(sheared)
    water = perturb(molecule("H2O"), displacement=0.05, strain=0.0, rng=np.random.default_rng(1))
    water.set_cell([12.0, 12.0, 12.0])
    water.pbc = True
    other = perturb(water, displacement=0.05, strain=0.0, rng=np.random.default_rng(2))
    assert "copy" in HeldOut([water]).refuses(turned(water, 3))
    assert HeldOut([water]).refuses(other) == ""


def test_a_periodic_structure_without_a_cell_is_compared_as_it_stands() -> None:
    lost = Atoms("H2", positions=[[0, 0, 0], [0, 0, 0.74]], pbc=True)
    assert HeldOut([lost]).refuses(lost) == "it is in the test set"
    assert HeldOut([thermal_cell()]).refuses(lost) == ""
    assert structure_hash(lost) != structure_hash(thermal_cell())


def test_large_cells_that_differ_are_told_apart() -> None:
    """Thousands of distances lie closer than the tolerance: sorted lists of all of them would agree by their number."""
    cell = bulk("NaCl", "rocksalt", a=5.6, cubic=True) * (6, 6, 6)
    frames = [perturb(cell, displacement=0.1, strain=0.0, rng=np.random.default_rng(k)) for k in range(2)]
    held_out = HeldOut(frames[:1])
    assert held_out.refuses(frames[1]) == ""
    assert "copy" in held_out.refuses(turned_cell(frames[0]))


def turned_cell(atoms: Atoms) -> Atoms:
    out = atoms[np.random.default_rng(0).permutation(len(atoms))]
    out.rotate(20.0, (0.0, 1.0, 1.0), rotate_cell=True)
    return out


def test_hash_of_a_turned_copy() -> None:
    atoms = perturb(molecule("C6H6"), displacement=0.05, strain=0.0, rng=np.random.default_rng(7))
    assert structure_hash(atoms) == structure_hash(turned(atoms, 8))
    assert structure_hash(atoms) != structure_hash(
        perturb(atoms, displacement=0.05, strain=0.0, rng=np.random.default_rng(9))
    )
