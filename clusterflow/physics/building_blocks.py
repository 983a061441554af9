"""Building blocks of a framework: nodes, linkers and free molecules, found from the periodic bond graph.

For carboxylate frameworks the cut is the C–C bond between a carboxylate and the rest of its linker, so that a node
carries its carboxylates (Dobbelaere et al. 2025, arXiv:2504.03881, SI 6). What anchors a linker to a metal is a row of
`ANCHORS`; nothing else here knows about carboxylates.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from ase import Atoms
from ase.data import atomic_numbers, chemical_symbols

from clusterflow.core.data import BoolArray, IntArray
from clusterflow.core.frames import formula
from clusterflow.errors import StructureError
from clusterflow.physics.bonds import BondGraph, bond_graph
from clusterflow.physics.elements import is_metal


@dataclass(frozen=True, slots=True)
class Anchor:
    """A functional group that ties a linker to metals and stays with the node: ``count`` terminal ``donor`` atoms on
    one ``centre``, at least one of them on a metal; ``charge`` of the bare group bound to an organic rest."""

    name: str
    centre: str
    donor: str
    count: int
    charge: int


ANCHORS = (Anchor("carboxylate", "C", "O", 2, -1),)


@dataclass(frozen=True)
class Blocks:
    """A partition of all atoms into building blocks; blocks are numbered by their lowest atom index.

    ``labels`` (n,) block of each atom; per block ``kinds`` ("node", "linker" or "molecule"), ``formulas`` (Hill) and
    ``infinite`` (b,) bool (a rod or layer that no choice of images makes whole). ``cut_atoms`` (k, 2) and
    ``cut_shifts`` (k, 3): the bonds between blocks, each once, anchor atom first; the shift belongs to the second atom.
    ``offsets`` (n, 3): cells to add to each atom so that its block is whole. ``anchor`` (n,): number of the anchoring
    group that an atom is part of, or −1; ``anchor_rules``: one row of `ANCHORS` per group. ``graph``: all bonds.
    """

    labels: IntArray
    kinds: tuple[str, ...]
    formulas: tuple[str, ...]
    infinite: BoolArray
    cut_atoms: IntArray
    cut_shifts: IntArray
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


def find_blocks(atoms: Atoms, graph: BondGraph | None = None) -> Blocks:
    """Partitions a structure into nodes, linkers and free molecules.

    A node is metals with everything that only they hold (O, OH, OH2, halides, terminal ligands) and the anchoring
    groups bound to them, with the hydrogen of formates; linkers are what remains between anchors; a component with
    nothing to cut is one molecule.

    Raises
    ------
    StructureError
        A periodic cell with metals in which nothing is bonded across the boundary; an infinite framework without
        metals; or a ligand that bridges metals by a group that is not in `ANCHORS`.
    """
    graph = bond_graph(atoms) if graph is None else graph
    numbers = np.asarray(atoms.numbers, dtype=np.int64)
    metal = is_metal(numbers)
    component, _, endless = graph.unwrap()
    _check_framework(atoms, metal, component, endless)

    anchor, rules, centre = _find_anchors(numbers, metal, graph)
    in_cut = centre[graph.i] & ~metal[graph.j] & (numbers[graph.j] != 1) & (anchor[graph.i] != anchor[graph.j])
    # The same bond is met from its other end only if both ends are centres (oxalate): keep it once.
    once = in_cut & (~centre[graph.j] | (graph.i < graph.j) | ((graph.i == graph.j) & (graph.shift @ [9, 3, 1] > 0)))
    either = in_cut | (
        centre[graph.j] & ~metal[graph.i] & (numbers[graph.i] != 1) & (anchor[graph.i] != anchor[graph.j])
    )
    labels, offsets, infinite = graph.unwrap(~either)
    _check_ligands(atoms, numbers, metal, anchor, graph, ~either, endless[component])

    n_blocks = int(labels.max(initial=-1)) + 1
    has_metal = np.zeros(n_blocks, dtype=bool)
    has_metal[labels[metal]] = True
    alone = np.ones(n_blocks, dtype=bool)
    alone[labels[graph.i[either]]] = False
    kinds = tuple(
        "molecule" if single else "node" if metallic else "linker"
        for single, metallic in zip(alone & ~infinite, has_metal, strict=True)
    )
    return Blocks(
        labels=labels,
        kinds=kinds,
        formulas=_formulas(numbers, labels, n_blocks),
        infinite=infinite,
        cut_atoms=np.stack((graph.i[once], graph.j[once]), axis=1),
        cut_shifts=graph.shift[once],
        offsets=offsets,
        anchor=anchor,
        anchor_rules=rules,
        graph=graph,
    )


def _check_framework(atoms: Atoms, metal: BoolArray, component: IntArray, endless: BoolArray) -> None:
    """Refuses a periodic cell whose metals belong to nothing that crosses it, and frameworks without metals."""
    if not atoms.pbc.any():
        return
    has_metal = np.zeros(len(endless), dtype=bool)
    has_metal[component[metal]] = True
    where = f"{formula(atoms)}, {len(atoms)} atoms, cell lengths {np.round(atoms.cell.lengths(), 3).tolist()} Å"
    if metal.any() and not endless[has_metal].any():
        raise StructureError(
            f"There are no bonds across the cell: the {int(has_metal.sum())} part(s) that hold metals are all finite.",
            where=where,
            todo="Check the cell and its units (Å, not nm or bohr) and that the file keeps it; for a molecule or "
            "cluster in a box, set pbc to false.",
        )
    bare = np.flatnonzero(endless & ~has_metal)
    if len(bare):
        first = np.flatnonzero(component == bare[0])
        raise StructureError(
            f"An infinite part without metals ({formula(atoms[first])}, from atom {first[0]}) has no building blocks "
            "that this version knows.",
            where=where,
            todo="Keep the whole periodic structure as one label instead of cutting it.",
        )


def _find_anchors(
    numbers: IntArray, metal: BoolArray, graph: BondGraph
) -> tuple[IntArray, tuple[Anchor, ...], BoolArray]:
    """Anchoring groups bound to metals: group number per atom (−1: none), their rules, and which atoms are centres."""
    n, i, j = graph.n_atoms, graph.i, graph.j
    heavy = ~metal & (numbers != 1)
    backbone = np.bincount(i[heavy[j]], minlength=n)  # heavy non-metal neighbours
    on_metal = np.bincount(i[metal[j]], minlength=n) > 0
    group = np.full(n, -1, dtype=np.int64)
    rules: list[Anchor] = []
    is_centre = np.zeros(n, dtype=bool)
    for rule in ANCHORS:
        donor = (numbers == atomic_numbers[rule.donor]) & (backbone == 1)
        donors = np.bincount(i[donor[j]], minlength=n)
        bound = np.bincount(i[donor[j] & on_metal[j]], minlength=n)
        found = (numbers == atomic_numbers[rule.centre]) & (donors == rule.count) & (bound > 0) & (group < 0)
        group[found] = len(rules) + np.arange(int(found.sum()))
        rules += [rule] * int(found.sum())
        is_centre |= found
        arms = found[i] & donor[j]
        group[j[arms]] = group[i[arms]]
        protons = (numbers[j] == 1) & donor[i] & (group[i] >= 0)
        group[j[protons]] = group[i[protons]]
    return group, tuple(rules), is_centre


def _check_ligands(
    atoms: Atoms,
    numbers: IntArray,
    metal: BoolArray,
    anchor: IntArray,
    graph: BondGraph,
    uncut: BoolArray,
    endless: BoolArray,
) -> None:
    """Refuses organic ligands of a framework that bridge nodes by a donor which is no known anchor.

    A ligand that hangs on one node only (dimethylformamide, methanol) is simply part of it.
    """
    n, i, j = graph.n_atoms, graph.i, graph.j
    heavy = ~metal & (numbers != 1)
    backbone = np.bincount(i[heavy[j]], minlength=n)
    dative = metal[i] & heavy[j] & (anchor[j] < 0) & (backbone[j] > 0) & endless[i]
    if not dative.any():
        return
    from_ligand = metal[j] & heavy[i] & (anchor[i] < 0) & (backbone[i] > 0)
    piece, offsets, _ = graph.unwrap(uncut & ~dative & ~from_ligand)
    cut_pieces = set(piece[i[~uncut]].tolist()) | set(piece[j[~uncut]].tolist())
    images = offsets[i] + graph.shift - offsets[j]
    holders: dict[int, set[tuple[int, ...]]] = {}
    bad: dict[int, int] = {}
    for bond in np.flatnonzero(dative).tolist():
        ligand = int(piece[j[bond]])
        holder = (int(piece[i[bond]]), *(-images[bond]).tolist())
        holders.setdefault(ligand, set()).add(holder)
        if ligand in cut_pieces or len(holders[ligand]) > 1:
            bad.setdefault(ligand, int(j[bond]))
    if bad:
        ligand, donor = next(iter(bad.items()))
        raise StructureError(
            f"{len(bad)} ligand(s) bridge metals by a group that is not {' or '.join(a.name for a in ANCHORS)}: the "
            f"first is {formula(atoms[np.flatnonzero(piece == ligand)])}, by atom "
            f"{chemical_symbols[numbers[donor]]}{donor}.",
            where=f"{formula(atoms)}, {len(atoms)} atoms, indices from 0",
            todo="This version cuts carboxylate frameworks only; keep the whole periodic structure as one label.",
        )


def _formulas(numbers: IntArray, labels: IntArray, n_blocks: int) -> tuple[str, ...]:
    """Hill formula of each block, each distinct composition spelt once."""
    elements, column = np.unique(numbers, return_inverse=True)
    counts = np.zeros((n_blocks, len(elements)), dtype=np.int64)
    np.add.at(counts, (labels, column), 1)
    distinct, which = np.unique(counts, axis=0, return_inverse=True)
    names = [formula(Atoms(np.repeat(elements, row))) for row in distinct]
    return tuple(names[k] for k in which.reshape(-1).tolist())
