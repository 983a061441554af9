"""The net of a framework: nodes joined by linkers, with images, from its building blocks.

Everything that removes blocks works on this net, so that it knows neither zirconium nor terephthalate.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from ase import Atoms

from clusterflow.core.data import BoolArray, FloatArray, IntArray
from clusterflow.physics.anchors import find_anchors
from clusterflow.physics.bonds import BondGraph
from clusterflow.physics.building_blocks import Blocks, find_blocks
from clusterflow.physics.elements import is_metal

Image = tuple[int, int, int]


@dataclass(frozen=True)
class Net:
    """Nodes and linkers of a framework.

    ``nodes`` (N,) and ``linkers`` (L,): their numbers among the ``blocks``, ascending, which is the order of their
    lowest atoms; everything else counts nodes from 0 to N − 1 and linkers from 0 to L − 1. A linker of the net is
    organic and holds metals by at least two groups (carboxylates, or other donor atoms): an acetate or a bridging
    hydroxide is none. ``ends`` (e, 2): (linker, node) for each group of a linker and each node that it holds;
    ``images`` (e, 3): the cell in which the node is whole where the linker is in its own.
    """

    blocks: Blocks
    nodes: IntArray
    linkers: IntArray
    ends: IntArray
    images: IntArray

    @property
    def coordination(self) -> IntArray:
        """(N,) how many ends of linkers each node holds."""
        return np.bincount(self.ends[:, 1], minlength=len(self.nodes)).astype(np.int64)

    @cached_property
    def linker_ends(self) -> tuple[tuple[tuple[int, Image], ...], ...]:
        """Per linker its nodes with their images."""
        found: list[list[tuple[int, Image]]] = [[] for _ in self.linkers]
        for (linker, node), (x, y, z) in zip(self.ends.tolist(), self.images.tolist(), strict=True):
            found[linker].append((node, (x, y, z)))
        return tuple(tuple(sorted(ends)) for ends in found)

    @cached_property
    def neighbours(self) -> tuple[tuple[tuple[int, Image, int], ...], ...]:
        """Per node the others as (node, image, linker between them), one entry per linker and other end of it."""
        found: defaultdict[int, list[tuple[int, Image, int]]] = defaultdict(list)
        for linker, ends in enumerate(self.linker_ends):
            for k, (a, i) in enumerate(ends):
                for m, (b, j) in enumerate(ends):
                    if k != m:
                        found[a].append((b, (j[0] - i[0], j[1] - i[1], j[2] - i[2]), linker))
        return tuple(tuple(sorted(found[node])) for node in range(len(self.nodes)))

    def linkers_of(self, nodes: IntArray) -> IntArray:
        """Linkers that hold on to any of these nodes, ascending."""
        return np.unique(self.ends[np.isin(self.ends[:, 1], nodes), 0])

    def mask(self, *, nodes: IntArray | None = None, linkers: IntArray | None = None) -> BoolArray:
        """(b,) bool over the blocks, true for these nodes and linkers, and for whatever else hangs on no other node."""
        out = np.zeros(len(self.blocks.kinds), dtype=bool)
        if linkers is not None:
            out[self.linkers[linkers]] = True
        if nodes is not None:
            out[self.nodes[nodes]] = True
            hanging = {int(b) for node in self.nodes[nodes].tolist() for b in self.blocks.neighbours(node)}
            hanging -= {*self.nodes.tolist(), *self.linkers.tolist()}
            out[[b for b in hanging if np.isin(self.blocks.neighbours(b), self.nodes[nodes]).all()]] = True
        return out


def find_net(atoms: Atoms, blocks: Blocks | None = None) -> Net:
    """The net of a structure; free molecules are no part of it.

    Raises
    ------
    StructureError
        The structure has no building blocks that are known (`find_blocks`).
    """
    blocks = find_blocks(atoms) if blocks is None else blocks
    numbers = np.asarray(atoms.numbers, dtype=np.int64)
    group, _, _ = find_anchors(numbers, is_metal(numbers), blocks.graph)
    organic = np.zeros(len(blocks.kinds), dtype=bool)
    organic[blocks.labels[numbers == 6]] = True
    nodes = [b for b, kind in enumerate(blocks.kinds) if kind == "node"]
    place = {block: k for k, block in enumerate(nodes)}
    linkers: list[int] = []
    ends: list[tuple[int, int, Image]] = []
    for block, kind in enumerate(blocks.kinds):
        if kind != "linker" or not organic[block]:
            continue
        # What holds on: an anchoring group, on either side of the cut, or a donor atom (a number below −1).
        held = {
            (next((int(group[k]) for k in (own, other) if group[k] >= 0), -2 - own), place[to], image)
            for own, other, to, image in blocks.links[block]
            if to in place
        }
        if len({by for by, _, _ in held}) >= 2:
            ends += [(len(linkers), node, image) for _, node, image in sorted(held)]
            linkers.append(block)
    return Net(
        blocks=blocks,
        nodes=np.array(nodes, dtype=np.int64),
        linkers=np.array(linkers, dtype=np.int64),
        ends=np.array([end[:2] for end in ends], dtype=np.int64).reshape(-1, 2),
        images=np.array([end[2] for end in ends], dtype=np.int64).reshape(-1, 3),
    )


def centres(atoms: Atoms, net: Net) -> tuple[FloatArray, FloatArray]:
    """Fractional centres of nodes (N, 3), the mean of their metals, and of linkers (L, 3), the mean of their atoms.

    Of whole blocks, unwrapped: images refer to them.
    """
    blocks = net.blocks
    whole = atoms.cell.scaled_positions(atoms.positions) + blocks.offsets
    metal = is_metal(np.asarray(atoms.numbers, dtype=np.int64))
    has_metal = np.isin(blocks.labels, blocks.labels[metal])
    weight = np.where(metal | ~has_metal, 1.0, 0.0)
    count = len(blocks.kinds)
    total = np.bincount(blocks.labels, weights=weight, minlength=count)
    mean = np.stack(
        [np.bincount(blocks.labels, weights=weight * whole[:, k], minlength=count) / total for k in range(3)], axis=1
    )
    return mean[net.nodes], mean[net.linkers]


def block_graph(blocks: Blocks) -> BondGraph:
    """The cut bonds as a graph whose "atoms" are the blocks; shifts are images of whole blocks, distances are zero."""
    rows = np.array(
        [(b, other, *image) for b, links in enumerate(blocks.links) for _, _, other, image in links], dtype=np.int64
    ).reshape(-1, 5)
    rows = np.unique(rows, axis=0)
    return BondGraph(len(blocks.kinds), rows[:, 0], rows[:, 1], rows[:, 2:], np.zeros(len(rows)))


def finite_pieces(blocks: Blocks, removed: BoolArray | None = None) -> IntArray:
    """(b,) number from 0 of the finite piece of the framework that each block belongs to, −1 for all others.

    A piece is finite if following its bonds never leads to an image of itself. Removed blocks (b,) count as absent,
    free molecules as no framework.
    """
    removed = np.zeros(len(blocks.kinds), dtype=bool) if removed is None else removed
    graph = block_graph(blocks)
    labels, _, infinite = graph.unwrap(~(removed[graph.i] | removed[graph.j]))
    molecule = np.array([kind == "molecule" for kind in blocks.kinds], dtype=bool)
    finite = ~infinite[labels] & ~removed & ~molecule
    pieces = np.full(len(labels), -1, dtype=np.int64)
    _, pieces[finite] = np.unique(labels[finite], return_inverse=True)
    return pieces
