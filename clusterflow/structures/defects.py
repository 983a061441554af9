"""Point defects of frameworks, found by their building blocks: missing linkers, pairs of them, missing nodes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from ase import Atoms

from clusterflow.core.frames import formula
from clusterflow.errors import StructureError
from clusterflow.structures.capping import without_blocks
from clusterflow.structures.choice import choose
from clusterflow.structures.net import Net, centres, find_net
from clusterflow.structures.symmetry import linker_permutations, pair_orbits


def missing_linker(
    atoms: Atoms,
    *,
    count: int = 1,
    which: int | Sequence[int] | None = None,
    rng: np.random.Generator | None = None,
) -> Atoms:
    """Copy without some linkers, each carboxylate they leave behind closed by H to a formate (`without_blocks`).

    The defect "ld" of Dobbelaere et al. 2025 (arXiv:2504.03881), section 4.2: conventional UiO-66 goes from 456 to 448
    atoms.

    Parameters
    ----------
    count
        How many linkers to remove.
    which
        Which ones, as places among the linkers of the net in the order of their lowest atom index; overrides ``count``.
    rng
        Chooses at random; without it (and without ``which``) the first linkers go.

    Raises
    ------
    StructureError
        The structure has no building blocks, not that many linkers between two anchors, or as of `without_blocks`.
    """
    net = find_net(atoms)
    chosen = choose(len(net.linkers), count=count, which=which, rng=rng, what="linkers", where=_where(atoms, net))
    return without_blocks(atoms, net.blocks, net.mask(linkers=chosen))


def missing_node(
    atoms: Atoms,
    *,
    count: int = 1,
    which: int | Sequence[int] | None = None,
    rng: np.random.Generator | None = None,
) -> Atoms:
    """Copy without some nodes and without every linker that held on to them; their other ends become formates.

    The node defect of Dobbelaere et al. 2025, section 4.2. One of the four nodes of conventional UiO-66 takes 12
    linkers along and leaves 294 atoms, three 8-connected nodes: the net reo. Caps and orders as `without_blocks`.

    Parameters
    ----------
    count, which, rng
        As of `missing_linker`, for nodes.

    Raises
    ------
    StructureError
        Not that many nodes; or as of `without_blocks`, such as for a node that is one metal of an endless rod.
    """
    net = find_net(atoms)
    where = _where(atoms, net)
    chosen = choose(len(net.nodes), count=count, which=which, rng=rng, what="nodes", where=where)
    return without_blocks(atoms, net.blocks, net.mask(nodes=chosen, linkers=net.linkers_of(chosen)))


@dataclass(frozen=True, slots=True)
class LinkerPair:
    """Symmetry-equivalent ways to miss two linkers.

    ``pairs``: all of them, as places of the two linkers. ``coordination``: how many ends of linkers each node keeps,
    ascending. ``distance`` in Å between the centres of the two linkers, by the nearest images, averaged over ``pairs``.
    """

    pairs: tuple[tuple[int, int], ...]
    coordination: tuple[int, ...]
    distance: float


def linker_pairs(atoms: Atoms) -> tuple[LinkerPair, ...]:
    """The symmetry-distinct pairs of linkers in a cell: seven in conventional UiO-66 (Rogge et al. 2016).

    Equivalent are pairs that an operation of the net maps on each other (`linker_permutations`). Order: by the
    coordination that the nodes keep, lowest first, then by distance (equal within 2 %), then by how many there are;
    the numbers are not those of the figure there (Chem. Mater. 2016, 28, 5721).

    Raises
    ------
    StructureError
        As of `linker_permutations`, or fewer than two linkers.
    """
    net = find_net(atoms)
    orbits = pair_orbits(linker_permutations(atoms, net))
    _, middle = centres(atoms, net)
    found = []
    for orbit in orbits:
        i, j = np.array(orbit).T
        delta = middle[i] - middle[j]
        delta -= np.rint(delta)
        distance = float(np.linalg.norm(delta @ atoms.cell.array, axis=1).mean())
        left = net.coordination - np.bincount(net.ends[np.isin(net.ends[:, 0], orbit[0]), 1], minlength=len(net.nodes))
        found.append(LinkerPair(tuple(orbit), tuple(sorted(left.tolist())), distance))
    found.sort(key=lambda pair: pair.distance)
    level = np.cumsum([0] + [b.distance > 1.02 * a.distance for a, b in pairwise(found)])
    ranked = sorted(
        zip(found, level.tolist(), strict=False),
        key=lambda item: (item[0].coordination, item[1], len(item[0].pairs), item[0].pairs),
    )
    return tuple(pair for pair, _ in ranked)


def missing_linker_pair(atoms: Atoms, pair: int, *, rng: np.random.Generator | None = None) -> Atoms:
    """Copy without two linkers: number ``pair``, from 1, of the symmetry-distinct pairs (`linker_pairs`).

    The systems "ld-2" of Dobbelaere et al. 2025, section 4.4. Of the equivalent pairs the first is taken, or one that
    ``rng`` draws. Caps and orders as `without_blocks`.

    Raises
    ------
    StructureError
        There is no such pair, or as of `linker_pairs`.
    """
    pairs = linker_pairs(atoms)
    if not 1 <= pair <= len(pairs):
        raise StructureError(
            f"There is no pair {pair}: this cell has {len(pairs)} symmetry-distinct pairs of linkers.",
            where=f"{formula(atoms)}, {len(atoms)} atoms",
            todo=f"Give a number from 1 to {len(pairs)}." if pairs else "A pair needs two linkers.",
        )
    options = pairs[pair - 1].pairs
    return missing_linker(atoms, which=options[0 if rng is None else int(rng.integers(len(options)))])


def _where(atoms: Atoms, net: Net) -> str:
    return f"{formula(atoms)}, {len(atoms)} atoms, {len(net.nodes)} nodes, {len(net.linkers)} linkers"
