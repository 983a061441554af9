"""Finite pieces divided into groups of atoms that no fragment cuts.

Finer than building blocks: an inorganic cluster, each of its carboxylates and each ring are groups of their own
(Herbold and Behler 2021, doi:10.1063/5.0082952, SI S-II). A metal is never left bare: where it is in a fragment, so are
the groups it is bonded to.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from ase import Atoms

from clusterflow.core.data import FloatArray, IntArray
from clusterflow.core.frames import formula
from clusterflow.errors import InputError
from clusterflow.extract.electrons import count_electrons
from clusterflow.extract.piece import Donor
from clusterflow.physics.bonds import BondGraph, bond_graph
from clusterflow.physics.building_blocks import Blocks, find_blocks
from clusterflow.physics.elements import is_metal

GROUP_COST = 2.0
"""Cuts between rings, between the C=C units of a polyene and between CH2, as the paper does for its molecules."""


def _none() -> IntArray:
    return np.zeros(0, dtype=np.int64)


@dataclass(frozen=True)
class GroupedPiece:
    """A finite, saturated structure and its groups.

    ``groups``: disjoint index arrays that hold every atom once. ``parent`` (n,): index of each atom in the frame it was
    cut from, −1 for hydrogens added there. ``charge`` in e, ``spin`` = number of unpaired electrons. ``donors`` have
    lost a metal and stay bare; ``protons``: hydrogens (indices) on others that have; ``tetrahedral``: atoms (indices)
    that like metals keep all their bonds.
    """

    atoms: Atoms
    graph: BondGraph
    groups: tuple[IntArray, ...]
    parent: IntArray
    charge: int
    spin: int
    donors: tuple[Donor, ...] = ()
    protons: IntArray = field(default_factory=_none)
    tetrahedral: IntArray = field(default_factory=_none)

    @cached_property
    def labels(self) -> IntArray:
        """(n,) group of each atom."""
        labels = np.full(len(self.atoms), -1, dtype=np.int64)
        for number, members in enumerate(self.groups):
            labels[members] = number
        return labels

    @cached_property
    def bonded(self) -> tuple[frozenset[int], ...]:
        """Per group the groups it has bonds to."""
        found: list[set[int]] = [set() for _ in self.groups]
        for a, b in zip(self.labels[self.graph.i].tolist(), self.labels[self.graph.j].tolist(), strict=True):
            if a != b:
                found[a].add(b)
        return tuple(frozenset(s) for s in found)

    def name(self, group: int) -> str:
        """Formula and lowest atom, e.g. "CO2@3"."""
        members = self.groups[group]
        return f"{formula(self.atoms[members])}@{int(members.min())}"

    def distances(self, site: int) -> FloatArray:
        """(n,) Å from one atom."""
        return np.asarray(np.linalg.norm(self.atoms.positions - self.atoms.positions[site], axis=1))


def grouped(
    atoms: Atoms,
    groups: Sequence[Collection[int]] | None = None,
    *,
    graph: BondGraph | None = None,
    parent: IntArray | None = None,
    donors: tuple[Donor, ...] = (),
    protons: IntArray | None = None,
    tetrahedral: IntArray | None = None,
    max_cost: float = GROUP_COST,
) -> GroupedPiece:
    """A finite structure with its groups: those given, or else those of `functional_groups`, cut at bonds that cost at
    most ``max_cost`` (`clusterflow.physics.cut_table`). The other arguments are fields of `GroupedPiece`.

    Raises
    ------
    InputError
        The structure is periodic, or the groups do not hold every atom once.
    ExtractionError
        An atom has a dangling valence, or the oxidation state of a metal is not known.
    """
    if atoms.pbc.any():
        raise InputError(
            "Groups are kept or removed in a finite structure; this one is periodic.",
            where=f"{formula(atoms)}, {len(atoms)} atoms",
            todo="Cut a reference piece around the site first (`reference_piece`), or set pbc to false.",
        )
    graph = bond_graph(atoms) if graph is None else graph
    if groups is None:
        blocks = find_blocks(atoms, graph, max_cost=max_cost)
        arrays = functional_groups(atoms, blocks)
        tetrahedral = keepers(atoms, blocks) if tetrahedral is None else tetrahedral
    else:
        arrays = tuple(np.array(sorted(int(a) for a in g), dtype=np.int64) for g in groups)
    counts = np.bincount(np.concatenate(arrays), minlength=len(atoms)) if arrays else np.zeros(0, dtype=np.int64)
    if len(counts) != len(atoms) or (counts != 1).any():
        wrong = np.flatnonzero(counts[: len(atoms)] != 1)[:8].tolist()
        raise InputError(
            f"The groups must hold each of the {len(atoms)} atoms once; atoms {wrong} are in none or in several.",
            todo="Give disjoint groups that cover the structure.",
        )
    charge, spin = count_electrons(atoms, graph, [d.atom for d in donors])
    bare = Atoms(numbers=atoms.numbers, positions=atoms.positions, pbc=False)
    parent = np.arange(len(atoms), dtype=np.int64) if parent is None else parent
    protons = _none() if protons is None else protons
    tetrahedral = _none() if tetrahedral is None else tetrahedral
    return GroupedPiece(bare, graph, arrays, parent, charge, spin, donors, protons, tetrahedral)


def functional_groups(atoms: Atoms, blocks: Blocks) -> tuple[IntArray, ...]:
    """Building blocks, with every anchoring group (and the hydrogen of a formate) split off its node."""
    anchor = blocks.anchor.copy()
    graph = blocks.graph
    formate = (atoms.numbers[graph.j] == 1) & (anchor[graph.i] >= 0) & (anchor[graph.j] < 0)
    anchor[graph.j[formate]] = anchor[graph.i[formate]]
    _, labels = np.unique(np.stack((blocks.labels, anchor), axis=1), axis=0, return_inverse=True)
    labels = labels.reshape(-1)
    return tuple(np.flatnonzero(labels == k) for k in range(int(labels.max(initial=-1)) + 1))


def keepers(atoms: Atoms, blocks: Blocks) -> IntArray:
    """Atoms other than metals that no cut may leave bare (T atoms of a zeolite)."""
    first = np.array([rule.first == "keep" for rule in blocks.cut_rules], dtype=bool)
    second = np.array([rule.second == "keep" for rule in blocks.cut_rules], dtype=bool)
    found = np.unique(np.concatenate((blocks.cut_atoms[first, 0], blocks.cut_atoms[second, 1]))).astype(np.int64)
    return found[~is_metal(np.asarray(atoms.numbers[found], dtype=np.int64))]


def check_site(atoms: Atoms, site: int) -> None:
    """Refuses an atom that is not there.

    Raises
    ------
    InputError
        Says which atoms there are.
    """
    if not 0 <= site < len(atoms):
        raise InputError(
            f"There is no atom {site}: the structure has {len(atoms)} atoms, counted from 0.",
            where=formula(atoms),
            todo=f"Give a site from 0 to {len(atoms) - 1}.",
        )


def completed(piece: GroupedPiece, kept: Collection[int]) -> frozenset[int]:
    """The groups with all those that a metal or T atom in them is bonded to, so that none is left bare."""
    numbers, graph, labels = piece.atoms.numbers, piece.graph, piece.labels
    keeps = is_metal(np.asarray(numbers, dtype=np.int64))
    keeps[piece.tetrahedral] = True
    holds = keeps[graph.i]
    needs = np.stack((labels[graph.i[holds]], labels[graph.j[holds]]), axis=1)
    out = set(kept)
    while True:
        more = {b for a, b in needs.tolist() if a in out} - out
        if not more:
            return frozenset(out)
        out |= more


def entities(piece: GroupedPiece, groups: Collection[int]) -> list[tuple[int, ...]]:
    """The groups, those that a metal ties together as one: a cluster with its carboxylates (paper, SI S-II).

    Ligands with rings are groups of their own: through imidazolates a whole ZIF would be one.
    """
    graph, labels = piece.graph, piece.labels
    metal = is_metal(np.asarray(piece.atoms.numbers, dtype=np.int64))
    within = labels[graph.i[labels[graph.i] == labels[graph.j]]]  # each bond twice
    sizes = np.array([len(members) for members in piece.groups])
    ring = np.bincount(within, minlength=len(sizes)) >= 2 * sizes
    ring[labels[metal]] = False
    bond = metal[graph.i] & ~ring[labels[graph.j]]
    tied: dict[int, set[int]] = {g: {g} for g in sorted(groups)}
    for a, b in np.stack((labels[graph.i[bond]], labels[graph.j[bond]]), axis=1).tolist():
        if a in tied and b in tied and tied[a] is not tied[b]:
            tied[a] |= tied[b]
            for g in tied[b]:
                tied[g] = tied[a]
    return sorted({tuple(sorted(members)) for members in tied.values()})


def growth(piece: GroupedPiece, site: int, *, shell: float = 0.3) -> list[frozenset[int]]:
    """Nested sets of groups around a site, from the smallest fragment to the whole piece.

    Each step adds, of the groups bonded to what is there, the nearest one (by its closest atom) and those no more than
    ``shell`` (Å) farther, so that symmetric neighbours come together; groups that nothing connects come last.
    """
    distance = piece.distances(site)
    nearest = np.array([distance[members].min() for members in piece.groups])
    steps = [completed(piece, {int(piece.labels[site])})]
    while len(steps[-1]) < len(piece.groups):
        here = steps[-1]
        rim = sorted({b for a in here for b in piece.bonded[a]} - here) or sorted(set(range(len(piece.groups))) - here)
        limit = nearest[rim].min() + shell
        steps.append(completed(piece, here | {g for g in rim if nearest[g] <= limit}))
    return steps
