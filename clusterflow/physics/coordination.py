"""What metals are in a structure: centres of nodes, metals in the pocket of a macrocycle, atoms of a zeolite net; and
which ligands join them."""

from __future__ import annotations

from typing import Final

import numpy as np
from ase.data import atomic_numbers

from clusterflow.core.data import BoolArray, IntArray
from clusterflow.physics.bonds import BondGraph

_OXYGEN: Final = 8
_POCKET_DONORS: Final = (7, 8, 16)
_T_NONMETALS: Final = tuple(atomic_numbers[s] for s in ("Si", "Ge", "P", "As", "B"))
_T_METALS: Final = tuple(atomic_numbers[s] for s in ("Be", "Al", "Ga", "Ti", "Fe", "Co", "Zn", "Sn"))
_CHELATE: Final = 4
"""Bonds between two donors of one chelate ring (5 or 6 atoms with the metal), at most."""


def net_rank(graph: BondGraph, keep: BoolArray) -> tuple[IntArray, IntArray]:
    """Component of each atom, and in how many directions (0 to 3) each component of the bonds ``keep`` is endless."""
    labels, offsets, infinite = graph.unwrap(keep)
    rank = np.zeros(len(infinite), dtype=np.int64)
    i, j, shift = graph.i[keep], graph.j[keep], graph.shift[keep]
    loops = offsets[i] + shift - offsets[j]
    moved = loops.any(axis=1)
    rows = np.unique(np.column_stack((labels[i[moved]], loops[moved])), axis=0)
    for component in np.flatnonzero(infinite).tolist():
        rank[component] = np.linalg.matrix_rank(rows[rows[:, 0] == component, 1:])
    return labels, rank


def pocket_metals(numbers: IntArray, metal: BoolArray, graph: BondGraph) -> tuple[BoolArray, BoolArray]:
    """(n,) bool: metals that one ligand holds by four or more donors, two of them nitrogen: porphyrin, phthalocyanine,
    salen, cyclam; and (m,) bool: their bonds to these donors, from the metal. Carboxylates do not count."""
    i, j, n = graph.i, graph.j, graph.n_atoms
    found, held = np.zeros(n, dtype=bool), np.zeros(len(i), dtype=bool)
    covalent = ~metal[i] & ~metal[j]
    backbone = np.bincount(i[covalent & (numbers[j] != 1)], minlength=n)
    terminal = (numbers == _OXYGEN) & (backbone == 1)
    arms = np.bincount(i[covalent & terminal[j]], minlength=n)
    in_group = np.zeros(n, dtype=bool)
    in_group[j[covalent & terminal[j] & (arms[i] >= 2)]] = True
    bonds = np.flatnonzero(metal[i] & np.isin(numbers[j], _POCKET_DONORS) & (backbone[j] > 0) & ~in_group[j])
    nitrogen = np.bincount(i[bonds], weights=numbers[j[bonds]] == 7, minlength=n)
    bonds = bonds[nitrogen[i[bonds]] >= 2]
    if len(bonds) == 0:
        return found, held
    piece, offsets, infinite = graph.unwrap(covalent)
    image = graph.shift[bonds] - offsets[j[bonds]]
    image[infinite[piece[j[bonds]]]] = 0  # no image is whole: the bonds between the donors decide
    keys, which = np.unique(np.column_stack((i[bonds], piece[j[bonds]], image)), axis=0, return_inverse=True)
    which = which.reshape(-1)
    donors = np.bincount(which)
    for key in np.flatnonzero((donors >= 4) & (np.bincount(which, weights=numbers[j[bonds]] == 7) >= 2)).tolist():
        if not infinite[keys[key, 1]] or _chelated(numbers, covalent, graph, bonds[which == key]):
            found[keys[key, 0]] = True
            held[bonds[which == key]] = True
    return found, held


def _chelated(numbers: IntArray, covalent: BoolArray, graph: BondGraph, bonds: IntArray) -> bool:
    """Whether four donors of one metal are joined to each other by chelate rings through carbon and nitrogen."""
    place = {(int(graph.j[b]), *graph.shift[b].tolist()): k for k, b in enumerate(bonds.tolist())}
    group = list(range(len(bonds)))
    for home, k in place.items():
        seen = {home}
        front = [home]
        for _ in range(_CHELATE):
            grown = []
            for atom, x, y, z in front:
                here = graph.bonds_of(atom)
                for b in range(here.start, here.stop):
                    u, v, w = graph.shift[b].tolist()
                    node = (int(graph.j[b]), x + u, y + v, z + w)
                    if not covalent[b] or node in seen:
                        continue
                    seen.add(node)
                    if node in place:
                        old, new = group[k], group[place[node]]
                        group = [new if g == old else g for g in group]
                    elif numbers[node[0]] in (6, 7):
                        grown.append(node)
            front = grown
    return max(group.count(g) for g in group) >= 4


def tetrahedral_atoms(numbers: IntArray, metal: BoolArray, graph: BondGraph) -> BoolArray:
    """(n,) bool: T atoms of an endless tetrahedral net (zeolites, quartz, AlPO): Si, Ge, P, … with three to five oxygen
    neighbours, and metals such as Al whose oxygens are bonded to those."""
    i, j, n = graph.i, graph.j, graph.n_atoms
    oxygen = numbers == _OXYGEN
    to_oxygen = np.bincount(i[oxygen[j]], minlength=n)
    degree = np.bincount(i, minlength=n)
    tetra = np.isin(numbers, _T_NONMETALS) & (to_oxygen >= 3) & (to_oxygen <= 5) & (degree == to_oxygen)
    if not tetra.any():
        return np.asarray(tetra)
    on_tetra = oxygen & (np.bincount(i[tetra[j]], minlength=n) > 0)
    shared = np.bincount(i[on_tetra[j]], minlength=n)
    alone = oxygen & (np.bincount(i[numbers[j] != 1], minlength=n) <= 1)
    others = np.bincount(i[~on_tetra[j] & ~alone[j]], minlength=n)
    tetra |= np.isin(numbers, _T_METALS) & metal & (shared >= 3) & (shared <= 5) & (others == 0)
    bridge = oxygen & (np.bincount(i[tetra[j]], minlength=n) >= 2)
    net = (tetra[i] & bridge[j]) | (bridge[i] & tetra[j])
    labels, _, infinite = graph.unwrap(net)
    return np.asarray(tetra & infinite[labels])


def bridging_ligands(graph: BondGraph, joined: BoolArray, dative: BoolArray, cut: BoolArray) -> BoolArray:
    """(m,) bool: those of the ``dative`` bonds (m,; from a metal to a donor) whose ligand holds on to more than one
    node, or is cut elsewhere; a ligand that hangs on one node only stays with it.

    ``joined`` (m,): the bonds that hold nodes and ligands together once the dative ones, in both directions, are out;
    ``cut`` (m,): bonds between blocks.
    """
    i, j = graph.i, graph.j
    piece, offsets, infinite = graph.unwrap(joined)
    elsewhere = np.zeros(len(infinite), dtype=bool)
    elsewhere[piece[i[cut]]] = elsewhere[piece[j[cut]]] = True
    bonds = np.flatnonzero(dative)
    image = offsets[i[bonds]] + graph.shift[bonds] - offsets[j[bonds]]
    pairs = np.unique(np.column_stack((piece[j[bonds]], piece[i[bonds]], image)), axis=0)
    bridging = (np.bincount(pairs[:, 0], minlength=len(infinite)) > 1) | elsewhere | infinite
    bridging_bonds = np.zeros(len(i), dtype=bool)
    bridging_bonds[bonds[bridging[piece[j[bonds]]]]] = True
    return bridging_bonds
