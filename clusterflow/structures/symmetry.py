"""Symmetry of a net: which linkers, and which pairs of linkers, are equivalent."""

from __future__ import annotations

from collections import defaultdict
from itertools import combinations, product

import numpy as np
from ase import Atoms
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from clusterflow.core.data import FloatArray, IntArray
from clusterflow.core.frames import formula
from clusterflow.errors import StructureError
from clusterflow.structures.net import Image, Net, centres

MAX_LINKERS = 200
"""Largest net whose symmetry is searched: pairs and operations grow with the cube of the cell."""

_CELL_TOLERANCE = 0.05  # relative error of a squared length or a scalar product of cell vectors
_NODE_TOLERANCE = 0.2  # of the shortest distance between joined nodes


def linker_permutations(atoms: Atoms, net: Net) -> IntArray:
    """(g, L): what each symmetry operation of the net in this cell does to its linkers; the identity is among them.

    An operation maps the cell onto itself, every node on a node of the same formula, and every linker on one of the
    same formula between the images of its nodes. Positions only propose it (within a fifth of the distance between
    nodes, so a moderately distorted structure does); the graph decides. Orientations of rings and of hydroxyl groups
    do not count. Operations whose matrix has an entry beyond ±1 are not tried: give a reduced cell.

    Raises
    ------
    StructureError
        Not periodic in three directions; no linkers, or more of them than `MAX_LINKERS`.
    """
    where = f"{formula(atoms)}, {len(atoms)} atoms, {len(net.linkers)} linkers"
    if not atoms.pbc.all():
        raise StructureError(
            "Symmetry of a net needs a structure that is periodic in three directions.",
            where=where,
            todo="Give the cell and pbc, or choose linkers by number or at random.",
        )
    if not 0 < len(net.linkers) <= MAX_LINKERS:
        raise StructureError(
            f"Symmetry is searched in nets of 1 to {MAX_LINKERS} linkers; this one has {len(net.linkers)}.",
            where=where,
            todo="Choose the pair in the smallest cell that holds it, then repeat that cell."
            if len(net.linkers)
            else "Give a framework whose linkers hold on to metals.",
        )
    nodes, _ = centres(atoms, net)
    names = [net.blocks.formulas[b] for b in net.nodes.tolist()]
    tolerance = _NODE_TOLERANCE * _shortest(nodes, net, atoms.cell.array)
    known: defaultdict[tuple[object, ...], list[int]] = defaultdict(list)
    for linker, ends in enumerate(net.linker_ends):
        known[_key(net, linker, ends)].append(linker)
    found = []
    for turn in _turns(atoms.cell.array):
        for moved, images in _node_maps(nodes, names, turn, atoms.cell.array, tolerance):
            taken: defaultdict[tuple[object, ...], int] = defaultdict(int)
            permutation = []
            for linker, ends in enumerate(net.linker_ends):
                turned = [(int(moved[n]), _image(images[n] + np.array(i) @ turn)) for n, i in ends]
                key = _key(net, linker, turned)
                targets = known.get(key, [])
                if taken[key] == len(targets):
                    break
                permutation.append(targets[taken[key]])
                taken[key] += 1
            else:
                found.append(permutation)
    return np.unique(np.array(found, dtype=np.int64), axis=0)


def pair_orbits(permutations: IntArray) -> list[list[tuple[int, int]]]:
    """Pairs of different linkers, sorted into orbits of the given permutations (g, L); each orbit ascending."""
    count = permutations.shape[1]
    pairs = np.array(list(combinations(range(count), 2)), dtype=np.int64).reshape(-1, 2)
    number = np.zeros((count, count), dtype=np.int64)
    number[pairs[:, 0], pairs[:, 1]] = number[pairs[:, 1], pairs[:, 0]] = np.arange(len(pairs))
    rows = np.tile(np.arange(len(pairs)), len(permutations))
    columns = number[permutations[:, pairs[:, 0]], permutations[:, pairs[:, 1]]].reshape(-1)
    matrix = coo_array((np.ones(len(rows), dtype=np.int8), (rows, columns)), shape=(len(pairs), len(pairs)))
    _, labels = connected_components(matrix, directed=False)
    orbits: defaultdict[int, list[tuple[int, int]]] = defaultdict(list)
    for label, (a, b) in zip(labels.tolist(), pairs.tolist(), strict=True):
        orbits[label].append((a, b))
    return list(orbits.values())


def _turns(cell: FloatArray) -> list[IntArray]:
    """Integer matrices W (row vectors: x → x W) with entries −1, 0, 1 that keep lengths and angles of the cell."""
    rows = np.array(list(product((-1, 0, 1), repeat=3)), dtype=np.int64)
    metric = cell @ cell.T
    scale = np.sqrt(np.outer(np.diag(metric), np.diag(metric)))
    squares = np.einsum("ri,ij,rj->r", rows, metric, rows)
    options = [rows[np.abs(squares - metric[k, k]) <= _CELL_TOLERANCE * scale[k, k]] for k in range(3)]
    turns = []
    for chosen in product(*options):
        turn = np.array(chosen, dtype=np.int64)
        kept = np.abs(turn @ metric @ turn.T - metric) <= _CELL_TOLERANCE * scale
        if kept.all() and abs(round(float(np.linalg.det(turn)))) == 1:
            turns.append(turn)
    return turns


def _node_maps(
    nodes: FloatArray, names: list[str], turn: IntArray, cell: FloatArray, tolerance: float
) -> list[tuple[IntArray, IntArray]]:
    """All maps (node → node, image) of one turn with any translation that puts node 0 on a node of its kind."""
    maps = []
    turned = nodes @ turn
    kinds = np.array(names)
    for target in range(len(nodes)):
        delta = (turned + nodes[target] - turned[0])[:, None] - nodes[None]
        images = np.rint(delta)
        distance = np.linalg.norm((delta - images) @ cell, axis=2)
        moved = distance.argmin(axis=1)
        here = np.arange(len(nodes))
        if (
            distance[here, moved].max() <= tolerance
            and len(set(moved.tolist())) == len(nodes)
            and (kinds[moved] == kinds).all()
        ):
            maps.append((moved.astype(np.int64), images[here, moved].astype(np.int64)))
    return maps


def _shortest(nodes: FloatArray, net: Net, cell: FloatArray) -> float:
    """Shortest distance in Å between two nodes that a linker joins; the shortest cell vector if none does."""
    lengths = [
        float(np.linalg.norm((nodes[b] + np.array(image) - nodes[a]) @ cell))
        for a, others in enumerate(net.neighbours)
        for b, image, _ in others
    ]
    shortest_vector = float(np.linalg.norm(cell, axis=1).min())
    return min([length for length in lengths if length > 0.0], default=shortest_vector)


def _key(net: Net, linker: int, ends: list[tuple[int, Image]] | tuple[tuple[int, Image], ...]) -> tuple[object, ...]:
    """The same for two linkers of one formula between the same nodes, wherever they are counted from."""
    options = (tuple(sorted((n, (i[0] - x, i[1] - y, i[2] - z)) for n, i in ends)) for _, (x, y, z) in ends)
    return net.blocks.formulas[net.linkers[linker]], min(options, default=())


def _image(values: IntArray) -> Image:
    x, y, z = values.tolist()
    return x, y, z
