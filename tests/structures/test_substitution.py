"""Metals exchanged for others."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk

from clusterflow.core.frames import formula
from clusterflow.errors import StructureError
from clusterflow.physics.building_blocks import find_blocks
from clusterflow.structures.substitution import substitute


def test_one_hafnium_is_the_published_cell(uio66: Atoms) -> None:
    """S_hf of Dobbelaere et al. 2025, section 4.2: a single Zr replaced."""
    built = substitute(uio66, "Zr", "Hf", count=1)
    assert formula(built) == "C192H112HfO128Zr23"
    np.testing.assert_array_equal(built.positions, uio66.positions)
    assert (built.numbers != uio66.numbers).sum() == 1


@pytest.mark.parametrize(("fraction", "count"), [(0.0, 0), (0.2, 5), (0.5, 12), (0.98, 24), (1.0, 24)])
def test_fraction_is_the_nearest_whole_number(fraction: float, count: int, uio66: Atoms) -> None:
    built = substitute(uio66, "Zr", "Hf", fraction=fraction, rng=np.random.default_rng(3))
    assert Counter(built.get_chemical_symbols())["Hf"] == count


def test_whole_nodes(uio66: Atoms) -> None:
    built = substitute(uio66, "Zr", "Hf", fraction=0.5, whole_nodes=True, rng=np.random.default_rng(1))
    assert Counter(find_blocks(built).formulas) == {"C12H4Hf6O32": 2, "C12H4O32Zr6": 2, "C6H4": 24}
    chosen = substitute(uio66, "Zr", "Hf", which=[1, 3], whole_nodes=True)
    labels = find_blocks(uio66).labels
    nodes = sorted(set(labels[uio66.numbers == 40].tolist()))
    assert set(labels[chosen.numbers == 72].tolist()) == {nodes[1], nodes[3]}
    # A second exchange sees only the nodes that still hold zirconium.
    rest = substitute(chosen, "Zr", "Ti", fraction=1.0, whole_nodes=True)
    assert Counter(rest.get_chemical_symbols())["Ti"] == 12


def test_same_seed_same_atoms(uio66: Atoms) -> None:
    first, again, other = (
        substitute(uio66, "Zr", "Hf", count=6, rng=np.random.default_rng(s)).numbers.tolist() for s in (1, 1, 2)
    )
    assert first == again != other
    assert substitute(uio66, "Zr", "Hf", which=[0, 5]) == substitute(uio66, "Zr", "Hf", which=[5, 0])


def test_single_atoms_need_no_building_blocks() -> None:
    metal = bulk("Cu", cubic=True)
    assert formula(substitute(metal, "Cu", "Zn", count=1)) == "Cu3Zn"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"element": "Hf", "by": "Zr", "count": 1}, ["no Hf in the structure", "Its metals are: Zr"]),
        ({"element": "Zr", "by": "Hg2", "count": 1}, ["'Hg2' is no element"]),
        ({"element": "C", "by": "Hf", "count": 1}, ["C is not a metal"]),
        ({"element": "Zr", "by": "Si", "count": 1}, ["Si is not a metal"]),
        ({"element": "Zr", "by": "Zr", "count": 1}, ["cannot replace itself"]),
        ({"element": "Zr", "by": "Hf", "count": 25}, ["25 Zr atoms cannot be chosen from a structure with 24"]),
        ({"element": "Zr", "by": "Hf", "count": 5, "whole_nodes": True}, ["5 nodes with Zr cannot be chosen"]),
        ({"element": "Zr", "by": "Hf", "fraction": 1.2}, ["1.2 is no fraction of Zr atoms", "from 0 to 1"]),
        ({"element": "Zr", "by": "Hf", "fraction": float("nan")}, ["nan is no fraction"]),
        ({"element": "Zr", "by": "Hf", "which": [24]}, ["no Zr atoms [24]", "from 0 to 23"]),
        ({"element": "Zr", "by": "Hf"}, ["must be said once"]),
        ({"element": "Zr", "by": "Hf", "count": 1, "fraction": 0.1}, ["must be said once"]),
    ],
)
def test_mistakes(options: dict[str, object], words: list[str], uio66: Atoms) -> None:
    with pytest.raises(StructureError) as caught:
        substitute(uio66, **options)  # type: ignore[arg-type]
    for word in words:
        assert word in str(caught.value)
