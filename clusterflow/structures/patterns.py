"""Ordered patterns of missing linkers and nodes that turn the net fcu into bcu, reo or scu.

The nodes of fcu fall into four classes, each a simple cubic lattice; a node has four linkers to each of the three
other classes and none to its own. Splitting the classes into two pairs can be done in three ways: the linkers within
the pairs lie in the planes perpendicular to one of the three cubic axes. From this follow, for any framework with the
net fcu (Dobbelaere et al. 2025, arXiv:2504.03881, section 4.4):

- bcu: without the linkers of these planes; every node keeps 8 linkers;
- reo: without one class of nodes and their linkers; every node left keeps 8;
- scu: both; of the three classes left one keeps 8, two keep 4.
"""

from __future__ import annotations

from collections import Counter
from typing import Final, Literal

import numpy as np
from ase import Atoms

from clusterflow.core.data import IntArray
from clusterflow.core.frames import formula
from clusterflow.errors import StructureError
from clusterflow.structures.capping import without_blocks
from clusterflow.structures.net import Net, centres, find_net

Topology = Literal["bcu", "reo", "scu"]
TOPOLOGIES: Final[tuple[Topology, ...]] = ("bcu", "reo", "scu")

_FCU_SHELL: Final = {4: 6, 2: 24, 1: 12}
"""Nodes of fcu two linkers away and no neighbours: number of shortest paths → how many such nodes."""

_PAIRINGS: Final = (((0, 1), (2, 3)), ((0, 2), (1, 3)), ((0, 3), (1, 2)))


def topology(atoms: Atoms, name: Topology, *, axis: int = 2) -> Atoms:
    """Copy of a framework with the net fcu, without the linkers and nodes that make it bcu, reo or scu.

    Conventional UiO-66 (456 atoms, 4 nodes, 24 linkers) becomes bcu with 392 atoms (4, 16), reo with 294 (3, 12) or
    scu with 262 (3, 8). Caps and orders as `without_blocks`; the nodes that reo and scu lose are the class of node 0.

    Parameters
    ----------
    axis
        Cell vector 0, 1 or 2 whose perpendicular planes lose their linkers (bcu, scu): the weak axis. In a cell whose
        vectors are no cubic axes, the pairing of classes that comes closest.

    Raises
    ------
    StructureError
        The net is not fcu, or its cell is too small to tell the four classes of nodes apart.
    """
    if name not in TOPOLOGIES:
        raise StructureError(f"The topology '{name}' is not known.", todo="Known: " + ", ".join(TOPOLOGIES) + ".")
    if axis not in (0, 1, 2):
        raise StructureError(f"There is no cell vector {axis}.", todo="Give 0, 1 or 2 for a, b or c.")
    net = find_net(atoms)
    where = f"{formula(atoms)}, {len(atoms)} atoms, {len(net.nodes)} nodes, {len(net.linkers)} linkers"
    classes = _classes(net, where)
    nodes = np.zeros(0, dtype=np.int64)
    linkers = np.zeros(0, dtype=np.int64)
    if name in ("reo", "scu"):
        nodes = np.flatnonzero(classes == classes[0])
        linkers = net.linkers_of(nodes)
    if name in ("bcu", "scu"):
        linkers = np.union1d(linkers, _planes(atoms, net, classes, axis))
    return without_blocks(atoms, net.blocks, net.mask(nodes=nodes, linkers=linkers))


def _classes(net: Net, where: str) -> IntArray:
    """(N,) class 0 to 3 of each node of fcu; class 0 holds node 0. Refuses other nets.

    In fcu two nodes that are not neighbours share four of them only at the distance of a cubic cell vector, so these
    pairs join each simple cubic class. Two shells decide whether it is fcu at all: hcp, the other densest packing, has
    pairs with three shared neighbours.
    """
    coordination = sorted(Counter(net.coordination.tolist()).items())
    fault = _fault(net)
    parent = list(range(len(net.nodes)))

    def root(node: int) -> int:
        while parent[node] != node:
            node = parent[node]
        return node

    for node, others in enumerate(net.neighbours):
        if fault:
            break
        adjacent = {(b, image) for b, image, _ in others}
        paths: Counter[tuple[int, tuple[int, int, int]]] = Counter()
        for b, (x, y, z), _ in others:
            paths.update((c, (x + u, y + v, z + w)) for c, (u, v, w), _ in net.neighbours[b])
        shared = {paths.pop(place, 0) for place in adjacent}
        paths.pop((node, (0, 0, 0)))
        if shared != {4} or Counter(paths.values()) != _FCU_SHELL:
            fault = f"the surroundings of node {node} are not those of fcu"
            break
        for (other, _), count in paths.items():
            if count == 4:
                parent[max(root(node), root(other))] = min(root(node), root(other))
    if fault:
        raise StructureError(
            "bcu, reo and scu are made from the net fcu, which this framework does not have: "
            f"{fault}; linkers per node: {', '.join(f'{c} (×{n})' for c, n in coordination) or 'none'}.",
            where=where,
            todo="Start from a perfect framework with 12-connected nodes such as UiO-66 or UiO-67; for others remove "
            "linkers or nodes by number.",
        )
    roots = sorted({root(node) for node in range(len(net.nodes))})
    classes = np.array([roots.index(root(node)) for node in range(len(net.nodes))], dtype=np.int64)
    if len(roots) != 4:
        raise StructureError(
            f"The cell is too small for bcu, reo or scu: its {len(net.nodes)} node(s) are {len(roots)} class(es) of "
            "nodes by translation, and fcu needs four.",
            where=where,
            todo="Take the conventional cubic cell, or repeat a primitive one an even number of times along each "
            "vector.",
        )
    return classes


def _fault(net: Net) -> str:
    """Why the linkers cannot be the edges of fcu, or an empty text."""
    if len(net.nodes) == 0:
        return "it has no nodes"
    ends = {len(e) for e in net.linker_ends}
    if ends != {2}:
        return f"linkers join {' or '.join(str(e) for e in sorted(ends)) or 'no'} nodes, not 2"
    distinct = {len({(b, image) for b, image, _ in others}) for others in net.neighbours}
    if set(net.coordination.tolist()) != {12} or distinct != {12}:
        return "not every node has 12 different neighbours"
    return ""


def _planes(atoms: Atoms, net: Net, classes: IntArray, axis: int) -> IntArray:
    """Linkers in the planes perpendicular to a cell vector: within the pairs of classes that fit this best."""
    nodes, _ = centres(atoms, net)
    (a, i), (b, j) = (
        (np.array([e[k][0] for e in net.linker_ends]), np.array([e[k][1] for e in net.linker_ends])) for k in (0, 1)
    )
    vectors = (nodes[b] + j - nodes[a] - i) @ atoms.cell.array
    direction = atoms.cell.array[axis] / np.linalg.norm(atoms.cell.array[axis])
    along = np.abs(vectors @ direction)
    options = []
    for pairing in _PAIRINGS:
        partner = np.empty(4, dtype=np.int64)
        for first, second in pairing:
            partner[first], partner[second] = second, first
        options.append(np.flatnonzero(partner[classes[a]] == classes[b]))
    # Rounded, so that the noise of positions does not decide between pairings that fit equally well.
    return min(options, key=lambda linkers: round(float(along[linkers].mean()), 2))
