"""Bonds outside rings that may be cut inside linkers, molecules and organic nets, by the table of costs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from clusterflow.core.data import BoolArray, FloatArray, IntArray
from clusterflow.physics.bond_orders import bond_orders
from clusterflow.physics.bonds import BondGraph
from clusterflow.physics.cut_table import Cut, match
from clusterflow.physics.rings import ring_bonds


@dataclass(frozen=True)
class Perception:
    """What the graph says: ``tags`` (n,) bool of the cut table, but those of metals; ``order`` (m,), 0 in rings."""

    tags: Mapping[str, BoolArray]
    order: IntArray


def perceive(numbers: IntArray, graph: BondGraph, *, metal: BoolArray, tetrahedral: BoolArray) -> Perception:
    """Tags and bond orders, given which atoms (n,) are metals and T atoms."""
    i, j, n = graph.i, graph.j, graph.n_atoms
    outside = metal | tetrahedral
    covalent = ~outside[i] & ~outside[j]
    ring = ring_bonds(graph, covalent & (numbers[i] != 1) & (numbers[j] != 1))
    found = bond_orders(numbers, graph, metal, ring)
    neighbours = np.bincount(i[~metal[j]], minlength=n)
    carbon = numbers == 6
    in_ring = np.zeros(n, dtype=bool)
    in_ring[i[ring]] = True
    oxo = np.isin(numbers, (8, 16)) & (neighbours == 1)
    acyl = np.zeros(n, dtype=bool)
    acyl[i[(found.order == 2) & carbon[i] & oxo[j]]] = True
    donor = (np.bincount(i[metal[j]], minlength=n) > 0) & ~metal
    anion = donor & ((found.free > 0) | found.odd_ring)
    # The charge of a conjugated ligand is on all of its donors: the other oxygen of a carboxylate, of acetylacetonate.
    piece = graph.components(covalent)
    charged = np.zeros(n, dtype=bool)
    charged[piece[anion]] = True
    doubled = np.bincount(i[covalent & (found.order > 1)], minlength=n) > 0
    anion |= donor & doubled & charged[piece]
    return Perception(
        {
            "anion": anion,
            "neutral": donor & ~anion,
            "ring": in_ring,
            "chain": ~in_ring,
            "sp": carbon & (neighbours == 2),
            "sp2": carbon & (neighbours == 3),
            "sp3": carbon & (neighbours == 4),
            "acyl": acyl,
        },
        found.order,
    )


def cuttable(
    numbers: IntArray,
    graph: BondGraph,
    perception: Perception,
    tag: Callable[[str], BoolArray],
    cuts: Sequence[Cut],
    group: IntArray,
) -> tuple[IntArray, IntArray]:
    """Bonds that may be cut inside organic parts: places (k,), seen from the atom that is the first of the row, and
    rows (k,) of the table. Never in rings, to hydrogen or a metal, of a T atom, of a terminal donor of a metal, or
    inside an anchoring ``group`` (n,)."""
    i, j = graph.i, graph.j
    heavy = ~tag("metal") & (numbers != 1)
    backbone = np.bincount(i[heavy[j]], minlength=graph.n_atoms)
    donor = np.bincount(i[tag("metal")[j]], minlength=graph.n_atoms) > 0
    inert = ~heavy | tag("tetrahedral") | (donor & (backbone == 1))
    bonds = np.flatnonzero(
        graph.once & (perception.order > 0) & ~inert[i] & ~inert[j] & ((group[i] < 0) | (group[i] != group[j]))
    )
    organic = [k for k, cut in enumerate(cuts) if cut.organic]
    table, last = [cuts[k] for k in organic], len(organic)
    back = graph.reverse[bonds]
    forward, backward = (match(table, numbers, tag, graph.i[b], graph.j[b], perception.order[b]) for b in (bonds, back))
    forward, backward = (np.where(row < 0, last, row) for row in (forward, backward))
    place, row = np.where(backward < forward, back, bonds), np.minimum(forward, backward)
    allowed = np.append(np.isfinite([cut.rule.cost for cut in table]), False)[row]
    return place[allowed], np.array(organic, dtype=np.int64)[row[allowed]]


def cut_until_finite(graph: BondGraph, cut: BoolArray, bonds: IntArray, cost: FloatArray) -> IntArray:
    """Places (k,) of the ``bonds`` to cut besides those ``cut`` (m,), so that no block is endless if possible.

    Every endless block is cut at all its bonds of the lowest costs that make it finite; a group that would then hang on
    one such bond only (methyl) stays where it is.
    """
    chosen = np.zeros(len(bonds), dtype=bool)
    now = cut.copy()
    for level in np.unique(cost):
        labels, _, infinite = graph.unwrap(~now)
        if not infinite.any():
            break
        more = (cost == level) & infinite[labels[graph.i[bonds]]]
        chosen |= more
        now[bonds[more]] = now[graph.reverse[bonds[more]]] = True
    while chosen.any():
        labels = graph.components(~now)
        links = np.bincount(labels[graph.i[now]], minlength=int(labels.max()) + 1)
        places = np.flatnonzero(chosen)
        ends = bonds[places]
        pendant = (links[labels[graph.i[ends]]] == 1) | (links[labels[graph.j[ends]]] == 1)
        if not pendant.any():
            break
        now[ends[pendant]] = now[graph.reverse[ends[pendant]]] = False
        chosen[places[pendant]] = False
    return np.flatnonzero(chosen)
