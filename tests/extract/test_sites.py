"""Images of sites, and which sites share a core."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.io import read

from clusterflow.core.data import Site
from clusterflow.errors import ExtractionError, InputError
from clusterflow.extract.cut import Frame
from clusterflow.extract.rules import BuildingBlockRule
from clusterflow.extract.sites import group_sites, nearest_images
from clusterflow.physics.bonds import bond_graph

STRUCTURES = Path(__file__).parents[2] / "configs" / "structures"


def test_nearest_images_of_a_skewed_cell() -> None:
    rng = np.random.default_rng(3)
    atoms = Atoms("H8", positions=rng.uniform(-20, 20, size=(8, 3)), cell=[[6, 0, 0], [4, 5, 0], [2, 3, 7]], pbc=True)
    images = nearest_images(atoms, atoms.positions)
    assert images[0] == (0, 0, 0)
    moved = atoms.positions + np.array(images) @ atoms.cell.array
    expected = atoms.get_distances(0, range(8), mic=True)
    np.testing.assert_allclose(np.linalg.norm(moved - atoms.positions[0], axis=1), expected, atol=1e-6)


def test_close_sites_of_bonded_blocks_share_a_core() -> None:
    atoms = read(STRUCTURES / "MOF-5_primitive.extxyz")
    frame = Frame.of(atoms)
    blocks, graph = frame.blocks, frame.blocks.graph
    anchor, carbon = blocks.cut_atoms[0].tolist()
    across = next(int(k) for k in blocks.members(int(blocks.labels[carbon])) if atoms.numbers[k] == 6 and k != carbon)
    far = next(
        k for k in blocks.members(int(blocks.labels[anchor])) if k not in graph.neighbours(anchor) and k != anchor
    )
    sites = [Site("f", k) for k in (anchor, carbon, across, far)]
    distance = atoms.get_distances(anchor, [carbon, across, far], mic=True)
    groups = group_sites(frame, sites, 1.7)
    assert groups[0] == sites[:2]
    assert group_sites(frame, sites, 100.0) == [sites]
    assert len(group_sites(frame, sites, 0.5)) == 4
    assert distance[0] < 1.7
    # One fragment for each group holds all its sites.
    fragment = BuildingBlockRule("none", core="sites").extract(atoms, groups[0])
    assert sorted(fragment.parent[fragment.core]) == sorted([anchor, carbon])


def test_sites_in_blocks_that_do_not_touch_do_not_share() -> None:
    atoms = read(Path(__file__).parents[1] / "data" / "water_32.extxyz")
    frame = Frame.of(atoms)
    first, second = (int(frame.blocks.members(b)[0]) for b in (0, 1))
    assert len(group_sites(frame, [Site("f", first), Site("f", second)], 50.0)) == 2
    assert group_sites(frame, [], 3.0) == []
    with pytest.raises(InputError, match="cannot share a core"):
        group_sites(frame, [Site("f", 0)], 0.0)
    with pytest.raises(ExtractionError, match="sites of one frame"):
        group_sites(frame, [Site("f", 10_000)], 3.0)


def test_sharing_does_not_chain() -> None:
    """Each of a row of sites is close to the next, but the first and the last are not."""
    chain = Atoms("C5H12", positions=np.zeros((17, 3)))
    chain.positions[:5, 0] = 1.5 * np.arange(5)
    chain.positions[:5, 1] = 0.8 * (np.arange(5) % 2)
    chain.positions[5:15] = np.repeat(chain.positions[:5], 2, axis=0) + np.tile(
        [[0, 0.3, 1.05], [0, 0.3, -1.05]], (5, 1)
    )
    chain.positions[15], chain.positions[16] = [-1.05, -0.3, 0], [7.05, -0.3, 0]
    assert len(set(bond_graph(chain).components())) == 1
    frame = Frame.of(chain)
    groups = group_sites(frame, [Site("f", k) for k in range(5)], 2.0)
    assert [[s.index for s in g] for g in groups] == [[0, 1], [2, 3], [4]]
