"""Random defects at given fractions: the disordered supercells of Dobbelaere et al. 2025, section 4.3."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from ase import Atoms

from clusterflow.core.data import BoolArray
from clusterflow.core.frames import formula
from clusterflow.errors import StructureError
from clusterflow.physics.building_blocks import Blocks
from clusterflow.structures.capping import without_blocks
from clusterflow.structures.choice import choose, share
from clusterflow.structures.net import find_net, finite_pieces
from clusterflow.structures.substitution import substitute


@dataclass(frozen=True, slots=True)
class RandomDefects:
    """A disordered structure and what was done to it.

    ``linkers_drawn`` and ``nodes_drawn`` were chosen; ``linkers_with_nodes`` had not been drawn, but a node of theirs
    was; ``nodes_discarded`` and ``linkers_discarded`` were cut off from the framework. ``c_metal``, ``c_node`` and
    ``c_linker`` are the fractions in the result, as (c_hf, c_brick, c_linker) in section 4.4: of metal atoms that are
    the new metal, and of nodes and linkers missing from the structure that came in.
    """

    atoms: Atoms
    nodes_before: int
    linkers_before: int
    nodes_drawn: int
    linkers_drawn: int
    linkers_with_nodes: int
    nodes_discarded: int
    linkers_discarded: int
    c_metal: float
    c_node: float
    c_linker: float


def random_defects(
    atoms: Atoms,
    *,
    linkers: float = 0.0,
    nodes: float = 0.0,
    metal: tuple[str, str, float] | None = None,
    fractions: Literal["drawn", "final"] = "drawn",
    rng: np.random.Generator,
) -> RandomDefects:
    """Removes random linkers and nodes and exchanges random metal atoms, then drops what is no longer connected.

    Every choice is uniform, so defects are not correlated. Open carboxylates become formates (`without_blocks`). With
    "drawn" the steps and fractions are those of Dobbelaere et al. 2025 (arXiv:2504.03881), section 4.3: ``linkers`` of
    all linkers are removed, ``metal`` atoms exchanged, and ``nodes`` of all nodes removed with all their linkers,
    drawn before or not; so more linkers than drawn are missing in the end. With "final" the fractions are those of
    section 4.4, of what is missing at last: nodes first, then as many linkers as are still to go, then metals among
    the atoms that are left; what is discarded comes on top.

    Parameters
    ----------
    linkers, nodes
        Fractions from 0 to 1, to the nearest whole number.
    metal
        (element, by, fraction of its atoms).

    Raises
    ------
    StructureError
        A fraction out of range; missing nodes alone take more linkers than "final" allows; or as of `substitute` and
        `without_blocks`.
    """
    net = find_net(atoms)
    where = f"{formula(atoms)}, {len(atoms)} atoms, {len(net.nodes)} nodes, {len(net.linkers)} linkers"
    n_linkers = share(linkers, len(net.linkers), what="linkers", where=where)
    n_nodes = share(nodes, len(net.nodes), what="nodes", where=where)
    changed = atoms
    if fractions == "drawn":
        drawn = choose(len(net.linkers), count=n_linkers, rng=rng, what="linkers", where=where)
        if metal is not None:
            changed = substitute(atoms, metal[0], metal[1], fraction=metal[2], rng=rng)
        gone = choose(len(net.nodes), count=n_nodes, rng=rng, what="nodes", where=where)
        lost = net.linkers_of(gone)
    else:
        gone = choose(len(net.nodes), count=n_nodes, rng=rng, what="nodes", where=where)
        lost = net.linkers_of(gone)
        if len(lost) > n_linkers:
            raise StructureError(
                f"The {n_nodes} missing nodes take {len(lost)} linkers along, more than the {n_linkers} that are to "
                "be missing in all.",
                where=where,
                todo=f"Raise the final fraction of missing linkers to {len(lost) / len(net.linkers):.3f} or more, or "
                "remove fewer nodes.",
            )
        rest = np.setdiff1d(np.arange(len(net.linkers)), lost)
        drawn = rest[choose(len(rest), count=n_linkers - len(lost), rng=rng, what="linkers", where=where)]
    removed = net.mask(nodes=gone, linkers=np.union1d(drawn, lost))
    loose = _loose(net.blocks, removed)
    gone_in_all = removed | loose
    built = without_blocks(changed, net.blocks, gone_in_all)
    if metal is not None and fractions == "final":
        built = substitute(built, metal[0], metal[1], fraction=metal[2], rng=rng)
    return RandomDefects(
        atoms=built,
        nodes_before=len(net.nodes),
        linkers_before=len(net.linkers),
        nodes_drawn=n_nodes,
        linkers_drawn=len(drawn),
        linkers_with_nodes=len(np.setdiff1d(lost, drawn)),
        nodes_discarded=int(loose[net.nodes].sum()),
        linkers_discarded=int(loose[net.linkers].sum()),
        c_metal=_share_of(built, metal),
        c_node=_mean(gone_in_all[net.nodes]),
        c_linker=_mean(gone_in_all[net.linkers]),
    )


def _loose(blocks: Blocks, removed: BoolArray) -> BoolArray:
    """(b,) blocks that a removal cuts off from the framework they were part of."""
    loose: BoolArray = (finite_pieces(blocks, removed) >= 0) & (finite_pieces(blocks) < 0)
    return loose


def _share_of(atoms: Atoms, metal: tuple[str, str, float] | None) -> float:
    if metal is None:
        return 0.0
    symbols = np.array(atoms.get_chemical_symbols())
    return float((symbols == metal[1]).sum() / max(1, np.isin(symbols, metal[:2]).sum()))


def _mean(mask: BoolArray) -> float:
    return float(mask.mean()) if len(mask) else 0.0
