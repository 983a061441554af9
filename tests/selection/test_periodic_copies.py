"""Different crystals that look alike at first are not taken for copies; their supercells are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, graphene
from ase.io import read

from clusterflow.selection.periodic_copies import surroundings
from clusterflow.structures.defects import missing_linker_pair

UIO66 = Path(__file__).parents[2] / "configs" / "structures" / "UiO-66_conventional.extxyz"


def close_packed(kind: str) -> Atoms:
    edge = 3.6 / np.sqrt(2.0)
    return bulk("Cu", "fcc", a=3.6) if kind == "fcc" else bulk("Cu", "hcp", a=edge, c=edge * np.sqrt(8.0 / 3.0))


def graphite(kind: str) -> Atoms:
    layer = graphene(a=2.46, vacuum=0.0)
    other = layer.copy()
    if kind == "AB":
        other.positions += (layer.cell[0] + 2.0 * layer.cell[1]) / 3.0
    both = layer + other
    both.positions[2:, 2] += 3.35
    both.set_cell([*layer.cell[:2], [0.0, 0.0, 6.7]])
    both.pbc = True
    return both


def pair(number: int) -> Atoms:
    return missing_linker_pair(read(UIO66), number)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (close_packed("fcc"), close_packed("hcp")),
        (graphite("AA"), graphite("AB")),
        (pair(2), pair(6)),  # nodes with 10, 10, 12, 12 linkers, and with 11 each
    ],
    ids=["fcc and hcp", "graphite AA and AB", "pairs of missing linkers"],
)
def test_crystals_that_differ_in_stacking_or_in_numbers_are_no_copies(one: Atoms, other: Atoms) -> None:
    first, second = surroundings(one), surroundings(other)
    assert not first.matches(second)
    assert not second.matches(first)
    assert first.hash(2) != second.hash(2)
    assert first.matches(surroundings(one.repeat((2, 1, 1))))
    assert surroundings(one.repeat((1, 2, 1))).matches(first)
