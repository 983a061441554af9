"""Taking building blocks out of a framework, and closing what they leave open."""

from __future__ import annotations

import numpy as np
from ase import Atoms
from ase.data import chemical_symbols

from clusterflow.core.data import BoolArray, IntArray
from clusterflow.core.frames import formula
from clusterflow.errors import StructureError
from clusterflow.physics.anchors import find_anchors
from clusterflow.physics.building_blocks import Blocks
from clusterflow.physics.elements import is_metal
from clusterflow.structures.net import finite_pieces

FORMATE_CH = 1.10
"""C–H length of the formate cap in Å."""


def without_blocks(atoms: Atoms, blocks: Blocks, removed: BoolArray) -> Atoms:
    """Copy without some blocks, each carboxylate they leave behind closed by H to a formate.

    The termination of all defects in Dobbelaere et al. 2025 (arXiv:2504.03881), section 4.2. Hydrogens sit along the
    old C–C bonds, 1.10 Å from their carbon, and come last, in the order of these carbons; the other atoms keep their
    order. Charge is conserved: a carboxylate loses a neutral group and gains a neutral H. Velocities, labels and
    constraints are dropped. Nothing is relaxed.

    Parameters
    ----------
    removed
        (b,) bool over the blocks.

    Raises
    ------
    StructureError
        A cut would leave something else open than the carbon of a carboxylate, for which no cap is known; or a
        framework would fall into finite pieces.
    """
    framework = np.array([kind != "molecule" for kind in blocks.kinds]) & (finite_pieces(blocks) < 0)
    if removed.all() or (framework.any() and not (framework & ~removed & (finite_pieces(blocks, removed) < 0)).any()):
        raise StructureError(
            f"Without these {int(removed.sum())} of {len(removed)} building blocks nothing of the framework goes on "
            "through the crystal: what is left are finite pieces, or nothing.",
            where=f"{formula(atoms)}, {len(atoms)} atoms",
            todo="Remove fewer nodes and linkers, take a larger cell, or try another seed.",
        )
    gone = _gone(atoms, blocks, removed)
    graph = blocks.graph
    open_ = np.flatnonzero(~gone[graph.i] & gone[graph.j])
    open_ = open_[np.argsort(graph.i[open_], kind="stable")]
    kept, lost = graph.i[open_], graph.j[open_]
    bad = np.flatnonzero((atoms.numbers[kept] != 6) | (_group(atoms, blocks)[kept] < 0))
    if len(bad):
        a, b = int(kept[bad[0]]), int(lost[bad[0]])
        raise StructureError(
            f"{len(bad)} bond(s) would end at an atom for which no cap is known: the first is "
            f"{chemical_symbols[atoms.numbers[a]]}{a}, which loses {chemical_symbols[atoms.numbers[b]]}{b}.",
            where=f"{formula(atoms)}, {len(atoms)} atoms, indices from 0",
            todo="Only carboxylates are capped, as formates; linkers that are held otherwise, and nodes that share "
            "atoms with others (rods), cannot be removed.",
        )
    bond = graph.shift[open_] @ atoms.cell.array + atoms.positions[lost] - atoms.positions[kept]
    hydrogens = atoms.positions[kept] + FORMATE_CH * bond / np.linalg.norm(bond, axis=1, keepdims=True)
    return Atoms(
        numbers=np.r_[atoms.numbers[~gone], np.ones(len(kept), dtype=np.int64)],
        positions=np.concatenate((atoms.positions[~gone], hydrogens)),
        cell=atoms.cell,
        pbc=atoms.pbc,
    )


def _gone(atoms: Atoms, blocks: Blocks, removed: BoolArray) -> BoolArray:
    """(n,) atoms that go: those of removed blocks, but for carboxylates that a metal which stays still holds.

    These belong to the node and not to the linker, except where nodes are the single metals of a rod.
    """
    gone: BoolArray = removed[blocks.labels]
    group, graph = _group(atoms, blocks), blocks.graph
    staying = is_metal(np.asarray(atoms.numbers, dtype=np.int64)) & ~gone
    holding = staying[graph.i] & (group[graph.j] >= 0)
    held = np.unique(group[graph.j[holding]])
    return gone & ~np.isin(group, held)


def _group(atoms: Atoms, blocks: Blocks) -> IntArray:
    """(n,) number of the anchoring group that each atom is part of, or −1."""
    numbers = np.asarray(atoms.numbers, dtype=np.int64)
    return find_anchors(numbers, is_metal(numbers), blocks.graph)[0]
