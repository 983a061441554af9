"""Building blocks: nodes, linkers and molecules, found from the periodic bond graph.

A framework is cut where its linkers hold on to its metals. Carboxylates stay with the node, cut off at their C–C bond
(Dobbelaere et al. 2025, arXiv:2504.03881, SI 6); from other donors (azolate, phenolate, pyridine) the metal is cut off.
Where that leaves a rod without end, every metal of the rod is a node of its own and every ligand a block. Zeolites come
apart at T–O bonds, organic nets at the cheapest bonds that make finite blocks. What has no finite block is refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from ase import Atoms

from clusterflow.core.data import BoolArray, FloatArray, IntArray
from clusterflow.core.frames import formula
from clusterflow.physics.anchors import ANCHORS, Anchor, find_anchors, without_groups
from clusterflow.physics.blocks_refused import check_across_cell, check_dense, endless_error
from clusterflow.physics.bonds import BondGraph, bond_graph
from clusterflow.physics.coordination import bridging_ligands, pocket_metals, tetrahedral_atoms
from clusterflow.physics.cut_table import CUTS, DEFAULT_MAX_COST, Cut, CutRule, match
from clusterflow.physics.elements import is_metal
from clusterflow.physics.organic_cuts import Perception, cut_until_finite, cuttable, perceive

__all__ = ["ANCHORS", "CUTS", "DEFAULT_MAX_COST", "Anchor", "Blocks", "Cut", "CutRule", "find_blocks", "formulas"]


@dataclass(frozen=True)
class Blocks:
    """A partition of all atoms into building blocks; blocks are numbered by their lowest atom index.

    ``labels`` (n,) block of each atom; per block ``kinds`` ("node", "linker" or "molecule"), ``formulas`` (Hill) and
    ``infinite`` (b,) bool (a part that no choice of images makes whole; `find_blocks` leaves none). ``cut_atoms``
    (k, 2) and ``cut_shifts`` (k, 3): the bonds between blocks, each once, anchor, metal or T atom first; the shift
    belongs to the second atom; ``cut_rules`` (k,): how each of them is closed where a fragment ends. ``offsets``
    (n, 3): cells to add to each atom so that its block is whole. ``anchor`` (n,): number of the anchoring group that an
    atom is part of, or −1; ``anchor_rules``: one row of `ANCHORS` per group. ``graph``: all bonds.
    """

    labels: IntArray
    kinds: tuple[str, ...]
    formulas: tuple[str, ...]
    infinite: BoolArray
    cut_atoms: IntArray
    cut_shifts: IntArray
    cut_rules: tuple[CutRule, ...]
    offsets: IntArray
    anchor: IntArray
    anchor_rules: tuple[Anchor, ...]
    graph: BondGraph

    @cached_property
    def _by_block(self) -> tuple[IntArray, ...]:
        order = np.argsort(self.labels, kind="stable")
        ends = np.cumsum(np.bincount(self.labels, minlength=len(self.kinds)))[:-1]
        return tuple(np.split(order, ends))

    @cached_property
    def cut_bonds(self) -> IntArray:
        """(k,) places of the cut bonds in ``graph``, from their first atom."""
        g = self.graph
        low = g.shift.min(initial=0)
        width = int(g.shift.max(initial=0) - low) + 1
        weights = np.array([width**2, width, 1])
        # Bonds are sorted by i, j and shift, hence by this number.
        keys = (g.i * g.n_atoms + g.j) * width**3 + (g.shift - low) @ weights
        wanted = (self.cut_atoms @ [g.n_atoms, 1]) * width**3 + (self.cut_shifts - low) @ weights
        return np.asarray(np.searchsorted(keys, wanted), dtype=np.int64)

    @cached_property
    def links(self) -> tuple[tuple[tuple[int, int, int, tuple[int, int, int]], ...], ...]:
        """Per block its cut bonds as (own atom, other atom, other block, image): with this block whole in its own
        position, the other one is whole at this image of the cell."""
        found: list[list[tuple[int, int, int, tuple[int, int, int]]]] = [[] for _ in self.kinds]
        a, b = self.cut_atoms.T
        images = self.offsets[a] + self.cut_shifts - self.offsets[b]
        for i, j, image in zip(a.tolist(), b.tolist(), images.tolist(), strict=True):
            x, y, z = image
            found[self.labels[i]].append((i, j, int(self.labels[j]), (x, y, z)))
            found[self.labels[j]].append((j, i, int(self.labels[i]), (-x, -y, -z)))
        return tuple(tuple(sorted(block)) for block in found)

    def members(self, block: int) -> IntArray:
        """Atoms of a block, ascending."""
        return self._by_block[block]

    def neighbours(self, block: int) -> IntArray:
        """Blocks that share a cut bond with this one, ascending, each once (whatever the images)."""
        return np.unique(np.array([link[2] for link in self.links[block]], dtype=np.int64))


def find_blocks(
    atoms: Atoms,
    graph: BondGraph | None = None,
    *,
    cuts: Sequence[Cut] = CUTS,
    max_cost: float = DEFAULT_MAX_COST,
) -> Blocks:
    """Partitions a structure into nodes, linkers and molecules.

    A node is metals with everything that only they hold (O, OH, OH2, halides, terminal ligands) and the anchoring
    groups bound to them, with the hydrogen of formates; or a T atom of a zeolite. A metal in the pocket of a macrocycle
    is part of that linker. Linkers are what remains; a finite component with nothing to cut is one molecule.

    Frameworks are always cut where nodes end, and organic nets as far as it takes to make their blocks finite. Beyond
    that, linkers and molecules are cut at bonds whose cost in the table ``cuts`` is at most ``max_cost``.

    Raises
    ------
    StructureError
        A periodic cell with metals in which nothing is bonded across the boundary, or a solid without finite blocks:
        metallic, ionic, an oxide layer, a covalent net of rings.
    """
    graph = bond_graph(atoms) if graph is None else graph
    search = _Search(atoms, graph, tuple(cuts))
    search.cut_frameworks()
    search.cut_rods()
    return search.finish(max_cost)


class _Search:
    """The bonds cut so far, while blocks are being found."""

    def __init__(self, atoms: Atoms, graph: BondGraph, cuts: tuple[Cut, ...]) -> None:
        self.atoms, self.graph, self.cuts = atoms, graph, cuts
        self.numbers: IntArray = np.asarray(atoms.numbers, dtype=np.int64)
        metal = is_metal(self.numbers)
        component, _, endless = graph.unwrap()
        check_across_cell(atoms, graph, component, endless)
        self.in_net: BoolArray = endless[component]
        self.tetra = tetrahedral_atoms(self.numbers, metal, graph)
        self.metal = metal & ~self.tetra
        self.pocket, self.in_pocket = pocket_metals(self.numbers, self.metal, graph)
        self.node_metal = self.metal & ~self.pocket
        self.heavy = ~self.metal & (self.numbers != 1)
        self.anchor, self.anchor_rules, self.centre = find_anchors(self.numbers, self.node_metal, graph)
        self.first: BoolArray = np.zeros(len(graph.i), dtype=bool)  # bonds cut, in the direction of their rule
        self.cut: BoolArray = np.zeros(len(graph.i), dtype=bool)  # in both directions
        self.row: IntArray = np.full(len(graph.i), -1, dtype=np.int64)

    @cached_property
    def perception(self) -> Perception:
        """Rings and bond orders: not needed, so not paid for, where only carboxylates are cut."""
        return perceive(self.numbers, self.graph, metal=self.metal, tetrahedral=self.tetra)

    def tag(self, word: str) -> BoolArray:
        """(n,) bool: atoms that a word of the cut table fits."""
        known = {"metal": self.metal, "tetrahedral": self.tetra, "anchor": self.centre}
        return known[word] if word in known else self.perception.tags[word]

    def cut_frameworks(self) -> None:
        """Cuts anchoring groups off their linkers, T atoms off their oxygens, metals off other ligands that bridge."""
        g, i, j = self.graph, self.graph.i, self.graph.j
        off_anchor = self.centre[i] & self.heavy[j] & (self.anchor[i] != self.anchor[j])
        # The same bond is met from its other end only if both ends are centres (oxalate): keep it once.
        self._cut(off_anchor & (~self.centre[j] | g.once), "anchor")
        bridge = np.bincount(i[self.tetra[j]], minlength=g.n_atoms) >= 2
        self._cut(self.tetra[i] & bridge[j] & ~self.tetra[j], "tetrahedral")
        backbone = np.bincount(i[self.heavy[j]], minlength=g.n_atoms)
        donor = self.heavy & (self.anchor < 0) & (backbone > 0)
        self._cut_bridging(self.metal[i] & donor[j] & self.in_net[i] & ~self.in_pocket)

    def cut_rods(self) -> None:
        """Takes endless nodes apart: every metal is a node, every ligand that several of them hold a block."""
        g = self.graph
        labels, _, infinite = g.unwrap(~self.cut)
        rod = np.zeros(len(infinite), dtype=bool)
        rod[labels[self.node_metal]] = True
        in_rod = self.node_metal & (rod & infinite)[labels]
        if not in_rod.any():
            return
        check_dense(self.atoms, g, in_rod, self.heavy)
        # Linkers stay whole here: the cuts at their carboxylates are taken back.
        grouped = self.anchor >= 0
        dropped = np.zeros(len(self.anchor_rules), dtype=bool)
        dropped[self.anchor[g.j[in_rod[g.i] & grouped[g.j]]]] = True
        freed = np.zeros(g.n_atoms, dtype=bool)
        freed[grouped] = dropped[self.anchor[grouped]]
        self._uncut(self.first & freed[g.i] & self.centre[g.i])
        self.centre = self.centre & ~freed
        self.anchor, self.anchor_rules = without_groups(self.anchor, self.anchor_rules, dropped)
        dative = in_rod[g.i] & self.heavy[g.j]
        self._uncut(self.first & dative)
        self._cut_bridging(dative)

    def finish(self, max_cost: float) -> Blocks:
        """Cuts organic parts and numbers the blocks."""
        g = self.graph
        labels, offsets, infinite = g.unwrap(~self.cut)
        cheapest = min((cut.rule.cost for cut in self.cuts if cut.organic), default=np.inf)
        if infinite.any() or max_cost >= cheapest:
            place, row = cuttable(self.numbers, g, self.perception, self.tag, self.cuts, self.anchor)
            cost: FloatArray = np.array([self.cuts[k].rule.cost for k in row.tolist()], dtype=np.float64)
            cheap = (cost <= max_cost) & ~self.cut[place]
            self._mark(place[cheap], row[cheap])
            left = np.flatnonzero(~self.cut[place])
            more = left[cut_until_finite(g, self.cut, place[left], cost[left])]
            self._mark(place[more], row[more])
            labels, offsets, infinite = g.unwrap(~self.cut)
        if infinite.any():
            raise endless_error(self.atoms, labels, infinite, self.node_metal)
        n_blocks = len(infinite)
        has_metal = np.zeros(n_blocks, dtype=bool)
        has_metal[labels[self.node_metal | self.tetra]] = True
        alone = np.ones(n_blocks, dtype=bool)
        alone[labels[g.i[self.cut]]] = False
        kinds = tuple(
            "molecule" if single else "node" if metallic else "linker"
            for single, metallic in zip(alone.tolist(), has_metal.tolist(), strict=True)
        )
        return Blocks(
            labels=labels,
            kinds=kinds,
            formulas=formulas(self.numbers, labels, n_blocks),
            infinite=infinite,
            cut_atoms=np.stack((g.i[self.first], g.j[self.first]), axis=1),
            cut_shifts=g.shift[self.first],
            cut_rules=tuple(self.cuts[k].rule for k in self.row[self.first].tolist()),
            offsets=offsets,
            anchor=self.anchor,
            anchor_rules=self.anchor_rules,
            graph=g,
        )

    def _cut_bridging(self, dative: BoolArray) -> None:
        """Of the ``dative`` bonds, metal first, cuts those of ligands that several nodes hold."""
        joined = ~self.cut & ~dative & ~dative[self.graph.reverse]
        self._cut(bridging_ligands(self.graph, joined, dative, self.cut), "metal")

    def _cut(self, chosen: BoolArray, first: str) -> None:
        """Cuts bonds (m,), seen from their first atom, by the rows of the table for such a first atom."""
        bonds = np.flatnonzero(chosen)
        rows = [k for k, cut in enumerate(self.cuts) if first in cut.between[0].split()]
        if len(bonds) == 0 or not rows:
            return
        table = [self.cuts[k] for k in rows]
        found = match(table, self.numbers, self.tag, self.graph.i[bonds], self.graph.j[bonds], 1)
        allowed = (found >= 0) & np.isfinite([cut.rule.cost for cut in table])[found]
        self._mark(bonds[allowed], np.array(rows)[found[allowed]])

    def _mark(self, bonds: IntArray, row: IntArray) -> None:
        self.first[bonds] = True
        self.row[bonds] = row
        self.cut[bonds] = self.cut[self.graph.reverse[bonds]] = True

    def _uncut(self, chosen: BoolArray) -> None:
        bonds = np.flatnonzero(chosen)
        self.first[bonds] = self.cut[bonds] = self.cut[self.graph.reverse[bonds]] = False


def formulas(numbers: IntArray, labels: IntArray, n_blocks: int) -> tuple[str, ...]:
    """Hill formula of each block, each distinct composition spelt once."""
    elements, column = np.unique(numbers, return_inverse=True)
    counts = np.zeros((n_blocks, len(elements)), dtype=np.int64)
    np.add.at(counts, (labels, column), 1)
    distinct, which = np.unique(counts, axis=0, return_inverse=True)
    names = [formula(Atoms(np.repeat(elements, row))) for row in distinct]
    return tuple(names[k] for k in which.reshape(-1).tolist())
