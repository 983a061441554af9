"""What a structure is made of, in counts: nodes, linkers, coordination, loose pieces."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from ase import Atoms
from ase.data import chemical_symbols

from clusterflow.core.frames import formula
from clusterflow.physics.elements import is_metal
from clusterflow.structures.net import find_net


@dataclass(frozen=True, slots=True)
class Summary:
    """Counts of a framework.

    ``node_coordination``: linkers held → how many nodes. ``metal_coordination``: (element, bonds) → how many atoms.
    ``loose``: formulas of finite pieces with metals, such as a node whose linkers are all missing; such a node has no
    bond left to cut and is not counted in ``nodes``.
    """

    formula: str
    atoms: int
    nodes: int
    linkers: int
    node_coordination: Mapping[int, int]
    metal_coordination: Mapping[tuple[str, int], int]
    loose: tuple[str, ...]


def summarise(atoms: Atoms) -> Summary:
    """Counts nodes, linkers and bonds of a structure.

    Raises
    ------
    StructureError
        The structure has no building blocks that are known.
    """
    net = find_net(atoms)
    blocks = net.blocks
    numbers = np.asarray(atoms.numbers, dtype=np.int64)
    metals = np.flatnonzero(is_metal(numbers))
    bonds = np.diff(blocks.graph.first)[metals]
    piece, _, endless = blocks.graph.unwrap()
    loose = [formula(atoms[piece == k]) for k in np.unique(piece[metals]).tolist() if not endless[k]]
    return Summary(
        formula=formula(atoms),
        atoms=len(atoms),
        nodes=len(net.nodes),
        linkers=len(net.linkers),
        node_coordination=dict(sorted(Counter(net.coordination.tolist()).items())),
        metal_coordination=dict(
            sorted(Counter(zip((chemical_symbols[z] for z in numbers[metals]), bonds.tolist(), strict=True)).items())
        ),
        loose=tuple(sorted(loose)),
    )
