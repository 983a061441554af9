"""Which bonds lie in rings, in molecules and in periodic nets.

In a molecule a bond lies in a ring unless it is a bridge. In an infinite net nearly every bond lies in a cycle, around
a pore or through the boundary; there only small cycles count, followed image by image.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from clusterflow.core.data import BoolArray, IntArray
from clusterflow.physics.bonds import BondGraph

MACROCYCLE: Final = 16
"""Largest cycle that counts as a ring in an infinite net: the inner ring of a porphyrin. Pores are larger."""

_IMAGES = 2 * MACROCYCLE + 1


def ring_bonds(graph: BondGraph, keep: BoolArray, *, max_size: int = MACROCYCLE) -> BoolArray:
    """(m,) bool: bonds of ``keep`` (m,) in a ring made of such bonds.

    Finite components: every bond that is not a bridge. Infinite ones: bonds in a cycle of at most ``max_size`` atoms.
    """
    cyclic = keep & ~bridges(graph, keep)
    labels, _, infinite = graph.unwrap(keep)
    unsure = np.flatnonzero(cyclic & infinite[labels[graph.i]] & graph.once)
    if len(unsure):
        large = unsure[smallest_rings(graph, unsure, keep, max_size=max_size) == 0]
        cyclic[large] = cyclic[graph.reverse[large]] = False
    return cyclic


def bridges(graph: BondGraph, keep: BoolArray) -> BoolArray:
    """(m,) bool: bonds of ``keep`` (m,) without which their component falls apart.

    A periodic structure counts as the finite graph of its atoms, so a bond that closes a cycle only through the
    boundary is no bridge. Cycle space sampling (Pritchard and Thurimella 2011, arXiv:cs/0702113): every bond
    outside a spanning tree has a random 64-bit label, a tree bond the exclusive or of those that cross it; it is a
    bridge if that is zero.
    """
    parent, levels = graph.spanning_tree(keep)
    found = np.zeros(len(graph.i), dtype=bool)
    in_tree = np.zeros(len(graph.i), dtype=bool)
    up = parent[parent >= 0]
    in_tree[up] = in_tree[graph.reverse[up]] = True
    chords = np.flatnonzero(keep & graph.once & ~in_tree)
    labels = np.random.default_rng(0).integers(1, 2**63, size=len(chords), dtype=np.int64)
    crossing = np.zeros(graph.n_atoms, dtype=np.int64)
    np.bitwise_xor.at(crossing, graph.i[chords], labels)
    np.bitwise_xor.at(crossing, graph.j[chords], labels)
    for level in reversed(levels[1:]):
        bonds = parent[level]
        is_bridge = bonds[crossing[level] == 0]
        found[is_bridge] = found[graph.reverse[is_bridge]] = True
        np.bitwise_xor.at(crossing, graph.i[bonds], crossing[level])
    return found


def smallest_rings(graph: BondGraph, bonds: IntArray, keep: BoolArray, *, max_size: int) -> IntArray:
    """(k,) size of the smallest cycle through each of the ``bonds`` (k,) made of bonds of ``keep`` (m,); 0: none.

    Breadth first from both ends of all bonds at once, until the two fronts meet in the same atom of the same image.
    """
    size = np.zeros(len(bonds), dtype=np.int64)
    alive = np.flatnonzero(graph.i[bonds] != graph.j[bonds])
    usable = np.flatnonzero(keep)
    first = np.searchsorted(graph.i[usable], np.arange(graph.n_atoms + 1))
    step = (graph.shift * [_IMAGES**2, _IMAGES, 1]).sum(axis=1)
    images, centre = _IMAGES**3, _IMAGES**3 // 2
    # One number per (bond, atom, image); sums of images stay unique as no front is more than max_size / 2 bonds away.
    own = np.stack((bonds, graph.reverse[bonds]))
    homes = np.stack((graph.i[bonds] * images + centre, graph.j[bonds] * images + centre + step[bonds]))
    stride = graph.n_atoms * images
    fronts = [alive * stride + homes[side, alive] for side in (0, 1)]
    before = [front[:0] for front in fronts]
    for length in range(1, max_size):  # bonds on the way around, without the bond itself
        side = length % 2
        which, node = np.divmod(fronts[side], stride)
        atom, image = np.divmod(node, images)
        counts = first[atom + 1] - first[atom]
        rows = np.repeat(np.arange(len(atom)), counts)
        bond = usable[np.arange(len(rows)) + np.repeat(first[atom] - np.r_[0, np.cumsum(counts)[:-1]], counts)]
        rows, bond = _without(rows, bond, (node == homes[side, which])[rows] & (bond == own[side, which[rows]]))
        grown = np.sort(which[rows] * stride + graph.j[bond] * images + image[rows] + step[bond])
        grown = grown[np.r_[True, grown[1:] != grown[:-1]]] if len(grown) else grown
        grown = grown[~_among(grown, fronts[side]) & ~_among(grown, before[side])]
        before[side], fronts[side] = fronts[side], grown
        size[grown[_among(grown, fronts[1 - side])] // stride] = length + 1
        for k in (0, 1):
            fronts[k] = fronts[k][size[fronts[k] // stride] == 0]
            before[k] = before[k][size[before[k] // stride] == 0]
    return size


def _without(rows: IntArray, bonds: IntArray, drop: BoolArray) -> tuple[IntArray, IntArray]:
    return rows[~drop], bonds[~drop]


def _among(values: IntArray, ordered: IntArray) -> BoolArray:
    """Which values are in an ascending array."""
    if len(ordered) == 0:
        return np.zeros(len(values), dtype=bool)
    place = np.minimum(np.searchsorted(ordered, values), len(ordered) - 1)
    return np.asarray(ordered[place] == values)
