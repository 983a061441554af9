"""Structures without finite building blocks: what is said about them."""

from __future__ import annotations

import numpy as np
from ase import Atoms

from clusterflow.core.data import BoolArray, IntArray
from clusterflow.core.frames import formula
from clusterflow.errors import StructureError
from clusterflow.physics.bonds import BondGraph
from clusterflow.physics.coordination import net_rank
from clusterflow.physics.elements import is_metal
from clusterflow.physics.structure_checks import named, torn_carbons

_KEEP = "Label the whole periodic cell (`extract: {kind: whole}`)."
_SPHERE = (
    "Label the whole periodic cell (`extract: {kind: whole}`), or cut spheres out of it (`extract: {kind: sphere}`)."
)


def check_across_cell(atoms: Atoms, graph: BondGraph, component: IntArray, endless: BoolArray) -> None:
    """Refuses elemental metals and alloys, and a periodic cell with metals that nothing crosses, while bonds
    are torn: the cell is wrong, or a framework came apart. Crystals of whole metal complexes pass.

    Raises
    ------
    StructureError
        As above.
    """
    metal = is_metal(np.asarray(atoms.numbers, dtype=np.int64))
    if not atoms.pbc.any() or not metal.any() or endless.any():
        return
    if metal.all():
        raise StructureError(
            f"{formula(atoms)} is metallic: its electrons are shared by the whole solid, so it has no finite blocks.",
            where=_where(atoms),
            todo=_KEEP,
        )
    torn = np.union1d(np.flatnonzero(metal & (np.diff(graph.first) == 0)), torn_carbons(atoms, graph))
    if len(torn):
        parts = len(np.unique(component[metal]))
        raise StructureError(
            f"There are no bonds across the cell: the {parts} part(s) that hold metals are all finite, and bonds are "
            f"missing at {named(atoms, torn)}.",
            where=_where(atoms),
            todo="Check the cell and its units (Å, not nm or bohr) and that the file keeps it; for a molecule or "
            "cluster in a box, set pbc to false.",
        )


def check_dense(atoms: Atoms, graph: BondGraph, metal: BoolArray, heavy: BoolArray) -> None:
    """Refuses metals (n,) that single atoms (oxide, hydroxide, halide) join to a layer or in three directions.

    Raises
    ------
    StructureError
        Names the net.
    """
    i, j = graph.i, graph.j
    single = heavy & (np.bincount(i[heavy[j]], minlength=graph.n_atoms) == 0)
    labels, rank = net_rank(graph, (metal[i] & single[j]) | (single[i] & metal[j]))
    dense = np.flatnonzero(rank >= 2)
    if len(dense) == 0:
        return
    members = np.flatnonzero(labels == dense[np.argmax(rank[dense])])
    layer = rank[dense].max() == 2
    raise StructureError(
        f"The metals and {'/'.join(sorted(set(atoms.symbols[members[~metal[members]]])))} of "
        f"{formula(atoms[members])} ({named(atoms, members)}) are an endless {'layer' if layer else 'ionic solid'}: "
        "it has no finite blocks.",
        where=_where(atoms),
        todo=_KEEP,
    )


def endless_error(atoms: Atoms, labels: IntArray, infinite: BoolArray, metal: BoolArray) -> StructureError:
    """The error for blocks that stay endless after all cuts; ``metal`` (n,): centres of nodes."""
    members = np.flatnonzero(labels == np.flatnonzero(infinite)[0])
    reason = (
        "its metals are joined by ligands that hold them without end"
        if metal[members].any()
        else "every bond that holds it together lies in a ring or may never be cut"
    )
    return StructureError(
        f"{formula(atoms[members])} ({named(atoms, members)}) is endless and has no finite blocks: {reason}.",
        where=_where(atoms),
        todo=_KEEP if metal[members].any() else _SPHERE,
    )


def _where(atoms: Atoms) -> str:
    return f"{formula(atoms)}, {len(atoms)} atoms, cell lengths {np.round(atoms.cell.lengths(), 3).tolist()} Å"
