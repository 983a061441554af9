"""Counts of a framework."""

from __future__ import annotations

from ase import Atoms

from clusterflow.structures.defects import missing_linker
from clusterflow.structures.net import find_net
from clusterflow.structures.summary import summarise


def test_uio66_before_and_after(uio66: Atoms) -> None:
    before, after = summarise(uio66), summarise(missing_linker(uio66))
    assert (before.atoms, before.nodes, before.linkers, before.formula) == (456, 4, 24, "C192H112O128Zr24")
    assert before.node_coordination == {12: 4}
    assert before.metal_coordination == after.metal_coordination == {("Zr", 8): 24}
    assert after.node_coordination == {11: 2, 12: 2}
    assert before.loose == after.loose == ()


def test_loose_pieces_are_named(uio66_primitive: Atoms) -> None:
    """Taking all linkers of one node one by one leaves it hanging in the pore."""
    cell = uio66_primitive.repeat(2)
    net = find_net(cell)
    which = sorted({linker for _, _, linker in net.neighbours[3]})
    summary = summarise(missing_linker(cell, which=which))
    assert summary.loose == ("C12H16O32Zr6",)
    assert summary.nodes == 7
    assert summary.node_coordination == {10: 6, 12: 1}  # in this cell six nodes are neighbours twice
