"""Blocks taken over along a trajectory must be those that would be found."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.io import read

from clusterflow.physics.block_reuse import BlocksAlong, blocks_like
from clusterflow.physics.building_blocks import Blocks, find_blocks
from clusterflow.testing import structures

ROOT = Path(__file__).parents[2]


def same(a: Blocks, b: Blocks) -> None:
    assert (a.kinds, a.formulas, a.cut_rules, a.links) == (b.kinds, b.formulas, b.cut_rules, b.links)
    for name in ("labels", "offsets", "cut_atoms", "cut_shifts", "anchor", "cut_bonds"):
        assert np.array_equal(getattr(a, name), getattr(b, name)), name
    for name in ("i", "j", "shift"):
        assert np.array_equal(getattr(a.graph, name), getattr(b.graph, name)), name
    assert a.graph.distance == pytest.approx(b.graph.distance, abs=1e-9)


def material(name: str) -> Atoms:
    if name in ("hkust1", "boroxine_layer", "benzene_crystal"):
        atoms: Atoms = getattr(structures, name)()
        return atoms
    folder = ROOT / ("configs/structures" if name.startswith("UiO") else "tests/data")
    return read(folder / f"{name}.extxyz")


@pytest.mark.parametrize("name", ["UiO-66_primitive", "ZIF-8_primitive", "MIL-53-Al", "hkust1", "boroxine_layer"])
@pytest.mark.parametrize("wrapped", [False, True])
def test_a_hot_frame_has_the_blocks_that_would_be_found(name: str, wrapped: bool) -> None:
    atoms = material(name)
    blocks = find_blocks(atoms)
    _ = blocks.links
    rng = np.random.default_rng(1)
    frame = atoms.copy()
    frame.positions += rng.normal(0.0, 0.03, size=frame.positions.shape)
    frame.set_cell(frame.cell.array * 1.01, scale_atoms=True)
    if wrapped:
        frame.positions += 3.1
        frame.wrap()
    found, remark = blocks_like(frame, blocks)
    assert remark == ""
    same(found, find_blocks(frame))


def test_finer_blocks_are_taken_over_as_they_are() -> None:
    atoms = material("UiO-66_primitive")
    fine = find_blocks(structures.polyphenyl(3), max_cost=2.0)
    assert len(blocks_like(structures.polyphenyl(3), fine)[0].kinds) == 3
    assert blocks_like(atoms, find_blocks(atoms))[1] == ""


def test_a_torn_bond_is_named_and_blocks_are_found_anew() -> None:
    atoms = material("benzene_crystal")
    blocks = find_blocks(atoms)
    frame = atoms.copy()
    hydrogen = int(np.flatnonzero(atoms.numbers == 1)[0])
    frame.positions[hydrogen] += [1.0, 1.0, 1.0]
    found, remark = blocks_like(frame, blocks)
    assert f"H{hydrogen}" in remark
    assert "found anew" in remark
    assert len(found.kinds) == 5


def test_a_proton_that_moves_over_is_noticed() -> None:
    """O–H···O: at 1.0 Å from its new oxygen and 1.5 Å from the old one the old bond must not count as whole."""
    waters = Atoms(
        "OHHOHH", positions=[[0, 0, 0], [0.97, 0, 0], [-0.3, 0.9, 0], [2.5, 0, 0], [3, 0.8, 0], [3, -0.8, 0]]
    )
    blocks = find_blocks(waters)
    assert blocks.formulas == ("H2O", "H2O")
    waters.positions[1] = [1.5, 0, 0]
    found, remark = blocks_like(waters, blocks)
    assert remark
    assert found.formulas == ("HO", "H3O")


def test_other_atoms_are_not_taken_for_the_same() -> None:
    blocks = find_blocks(structures.polyphenyl(2))
    found, remark = blocks_like(structures.polyphenyl(3), blocks)
    assert remark == "other atoms: blocks found anew"
    assert found.formulas == ("C18H14",)


def test_along_a_trajectory_of_two_materials() -> None:
    along = BlocksAlong(max_cost=2.0)
    rng = np.random.default_rng(0)
    for _ in range(3):
        for rings in (2, 3):
            atoms = structures.polyphenyl(rings)
            atoms.positions += rng.normal(0.0, 0.02, size=atoms.positions.shape)
            assert len(along.of(atoms).kinds) == rings
    assert along.remarks == []
    torn = structures.polyphenyl(2)
    torn.positions[0] += 3.0
    along.of(torn)
    assert len(along.remarks) == 1
