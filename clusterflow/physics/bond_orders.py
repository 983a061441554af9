"""Single, double and triple bonds outside rings, by counting valences, with bond lengths where that leaves a choice.

Every non-metal atom has the free valence that its sigma bonds leave; free valences of neighbours pair up. What can pair
in one way only does so first (chain ends, C=O, C#N), a ring system takes what its own atoms pair among themselves, and
of what is left (endless polyenes, large annulenes) the shortest bonds come first. Orders inside rings stay open, since
no ring is ever cut. What stays unpaired is a negative charge on a donor of a metal and a dangling bond elsewhere.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from ase.data import atomic_numbers, chemical_symbols

from clusterflow.core.data import BoolArray, FloatArray, IntArray
from clusterflow.physics.bonds import BondGraph
from clusterflow.physics.elements import VALENCES

_LOWEST: Final = np.array([VALENCES.get(s, (0,))[0] for s in chemical_symbols], dtype=np.int64)
_HYPERVALENT: Final = {atomic_numbers[s]: v for s, v in VALENCES.items() if len(v) > 1}
_N: Final = 7
_OXO: Final = (8, 16)


@dataclass(frozen=True)
class BondOrders:
    """``order`` (m,): 1, 2 or 3 for bonds outside rings, 0 in rings, 1 to metals. ``free`` (n,): valence that nothing
    pairs. ``odd_ring`` (n,) bool: atom of a ring system with an odd number of free valences of its own
    (cyclopentadienyl, imidazolate, pyridinium), so that one of its atoms carries a charge."""

    order: IntArray
    free: IntArray
    odd_ring: BoolArray


def bond_orders(numbers: IntArray, graph: BondGraph, metal: BoolArray, ring: BoolArray) -> BondOrders:
    """Orders of the bonds between atoms that are not ``metal`` (n,); ``ring`` (m,): the bonds in rings."""
    covalent = ~metal[graph.i] & ~metal[graph.j]
    free = free_valences(numbers, graph, metal)
    order = np.where(ring, 0, 1).astype(np.int64)
    donor = np.bincount(graph.i[~metal[graph.i] & metal[graph.j]], minlength=graph.n_atoms) > 0
    chain = covalent & ~ring & (graph.i != graph.j)

    _pair_oxo_centres(numbers, graph, chain, donor, free, order)
    _peel(graph, chain, donor, free, order)
    odd = _close_rings(graph, ring, chain, donor, free, order)
    _peel(graph, chain, donor, free, order)
    while True:  # nothing has a single choice: the shortest bond decides, and its neighbours follow
        open_ = np.flatnonzero(chain & graph.once & (free[graph.i] > 0) & (free[graph.j] > 0))
        open_ = open_[~(donor[graph.i[open_]] & donor[graph.j[open_]])]
        if len(open_) == 0:
            break
        _pair(graph, _shortest_first(graph, open_), free, order)
        _peel(graph, chain, donor, free, order)
    return BondOrders(order, free, odd)


def free_valences(numbers: IntArray, graph: BondGraph, metal: BoolArray) -> IntArray:
    """(n,) lowest common valence of each non-metal that its sigma bonds do not use; hypervalent S, P, Cl, … have room
    for a double bond to every terminal oxygen."""
    i, j, n = graph.i, graph.j, graph.n_atoms
    sigma = np.bincount(i[~metal[j]], minlength=n)
    valence = _LOWEST[numbers]
    oxo = (numbers == 8) & (sigma == 1)
    wanted = sigma + np.bincount(i[oxo[j]], minlength=n)
    for number, choices in _HYPERVALENT.items():
        own = numbers == number
        for choice in reversed(choices):
            valence[own & (wanted <= choice)] = choice
        valence[own & (wanted > choices[-1])] = choices[-1]
    valence[(numbers == _N) & (sigma >= 3) & (wanted > sigma)] = 5  # nitro, N-oxide
    return np.asarray(np.where(metal, 0, np.maximum(valence - sigma, 0)), dtype=np.int64)


def _pair(graph: BondGraph, bonds: IntArray, free: IntArray, order: IntArray) -> None:
    """Makes disjoint bonds as multiple as both ends allow, in place."""
    a, b = graph.i[bonds], graph.j[bonds]
    extra = np.minimum(free[a], free[b])
    free[a] -= extra
    free[b] -= extra
    order[bonds] += extra
    order[graph.reverse[bonds]] += extra


def _pair_oxo_centres(
    numbers: IntArray, graph: BondGraph, chain: BoolArray, donor: BoolArray, free: IntArray, order: IntArray
) -> None:
    """Centres of two or more terminal oxygens (carboxylate, nitro, sulfonate) pair with those, first with the ones that
    no metal holds."""
    terminal = np.isin(numbers, _OXO) & (free == 1)
    arms = chain & terminal[graph.j] & ~terminal[graph.i] & (free[graph.i] > 0)
    centre = np.bincount(graph.i[arms], minlength=graph.n_atoms) >= 2
    while True:
        open_ = np.flatnonzero(arms & centre[graph.i] & (free[graph.i] > 0) & (free[graph.j] > 0))
        if len(open_) == 0:
            return
        best = _best_per(graph.i[open_], donor[graph.j[open_]] * 10.0 + graph.distance[open_])
        a, b = graph.i[open_[best]], graph.j[open_[best]]
        free[a] -= 1
        free[b] -= 1
        order[open_[best]] += 1
        order[graph.reverse[open_[best]]] += 1


def _peel(graph: BondGraph, chain: BoolArray, donor: BoolArray, free: IntArray, order: IntArray) -> None:
    """Pairs atoms with one open partner, and so on, in place. Donors of metals may stay open (phenolate): they wait
    until their partner has no other choice."""
    while True:
        open_ = chain & (free[graph.i] > 0) & (free[graph.j] > 0)
        choices = np.bincount(graph.i[open_ & ~(donor[graph.i] & donor[graph.j])], minlength=graph.n_atoms)
        # Open partners inside the same ring are choices as well.
        inside = ~chain & (graph.i != graph.j) & (free[graph.i] > 0) & (free[graph.j] > 0)
        choices += np.bincount(graph.i[inside], minlength=graph.n_atoms)
        ends = np.flatnonzero(open_ & (choices[graph.i] == 1) & ~donor[graph.i])
        if len(ends) == 0:
            return
        ends = ends[_best_per(graph.j[ends], graph.distance[ends])]
        mutual = (choices[graph.j[ends]] == 1) & ~donor[graph.j[ends]] & (graph.i[ends] > graph.j[ends])
        _pair(graph, ends[~mutual], free, order)


def _close_rings(
    graph: BondGraph, ring: BoolArray, chain: BoolArray, donor: BoolArray, free: IntArray, order: IntArray
) -> BoolArray:
    """Ring systems pair inside; an odd one takes its shortest open bond to the outside, or a donor stays charged."""
    system = graph.components(ring)
    in_ring = np.zeros(graph.n_atoms, dtype=bool)
    in_ring[graph.i[ring]] = True
    total = np.bincount(system, weights=free * in_ring).astype(np.int64)
    has_donor = np.bincount(system, weights=(donor & in_ring & (free > 0)).astype(np.float64)) > 0
    odd = (total % 2 == 1) & ~has_donor
    out = np.flatnonzero(chain & in_ring[graph.i] & odd[system[graph.i]] & (free[graph.i] > 0) & (free[graph.j] > 0))
    out = out[_best_per(system[graph.i[out]], graph.distance[out])]
    paired = _shortest_first(graph, out)
    _pair(graph, paired, free, order)
    odd[system[graph.i[paired]]] = False
    odd[system[graph.j[paired[in_ring[graph.j[paired]]]]]] = False
    odd |= (total % 2 == 1) & has_donor
    free[in_ring & ~odd[system]] = 0
    charged = in_ring & odd[system]
    free[charged] = 0
    return np.asarray(charged)


def _best_per(group: IntArray, value: FloatArray) -> IntArray:
    """Place of the lowest value of each group."""
    order = np.lexsort((value, group))
    return order[np.r_[True, group[order][1:] != group[order][:-1]]] if len(order) else order


def _shortest_first(graph: BondGraph, bonds: IntArray) -> IntArray:
    """Those of the bonds that are shorter than every other one they share an atom with: a disjoint set."""
    rank = np.empty(len(bonds), dtype=np.int64)
    rank[np.argsort(graph.distance[bonds], kind="stable")] = np.arange(len(bonds))
    lowest = np.full(graph.n_atoms, len(bonds), dtype=np.int64)
    np.minimum.at(lowest, graph.i[bonds], rank)
    np.minimum.at(lowest, graph.j[bonds], rank)
    first = (lowest[graph.i[bonds]] == rank) & (lowest[graph.j[bonds]] == rank)
    return np.asarray(bonds[first], dtype=np.int64)
