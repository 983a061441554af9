"""Building blocks along a trajectory: found once, taken over by every frame in which the same bonds hold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from ase import Atoms

from clusterflow.core.data import FloatArray, IntArray
from clusterflow.physics.bonds import HOLD, BondGraph, bond_graph, bond_limits
from clusterflow.physics.building_blocks import CUTS, DEFAULT_MAX_COST, Blocks, Cut, find_blocks, formulas
from clusterflow.physics.elements import COVALENT_RADII
from clusterflow.physics.structure_checks import named

HYDROGEN_HOLD = 1.3
"""X–H bonds hold up to this many sums of covalent radii (O–H: 1.26 Å); beyond, the proton may have another partner."""


def blocks_like(
    atoms: Atoms, blocks: Blocks, *, cuts: Sequence[Cut] = CUTS, max_cost: float = DEFAULT_MAX_COST
) -> tuple[Blocks, str]:
    """The blocks of another frame of the same atoms, and a remark where they had to be found anew.

    If every bond holds (up to `HOLD` × its limit), labels, kinds and rules are taken over, and images and distances
    brought up to date, whatever atoms were wrapped since. New bonds are not looked for: that costs a neighbour search,
    and a reaction that breaks no bond is rare. Otherwise blocks are found anew, with hysteresis of the bonds.

    Raises
    ------
    StructureError
        As `find_blocks`.
    """
    numbers = np.asarray(atoms.numbers, dtype=np.int64)
    if len(atoms) != blocks.graph.n_atoms or formulas(numbers, blocks.labels, len(blocks.kinds)) != blocks.formulas:
        return find_blocks(atoms, cuts=cuts, max_cost=max_cost), "other atoms: blocks found anew"
    shift, distance = _followed(atoms, blocks.graph)
    torn = np.flatnonzero(blocks.graph.once & (distance > _hold_limits(numbers, blocks.graph)))
    if len(torn):
        graph = bond_graph(atoms, blocks.graph)
        pairs = zip(blocks.graph.i[torn[:3]].tolist(), blocks.graph.j[torn[:3]].tolist(), strict=True)
        told = ", ".join("–".join(named(atoms, [a]) for a in pair) for pair in pairs)
        return (
            find_blocks(atoms, graph, cuts=cuts, max_cost=max_cost),
            f"{len(torn)} bonds do not hold ({told}{', …' if len(torn) > 3 else ''}): blocks found anew",
        )
    return _taken_over(blocks, shift, distance), ""


class BlocksAlong:
    """Building blocks of frame after frame, of one material or several: found for the first frame of each, then reused.

    ``remarks`` collects why blocks had to be found anew. All frames are compared with the first one, so that the result
    for a frame does not depend on those in between.
    """

    def __init__(self, *, cuts: Sequence[Cut] = CUTS, max_cost: float = DEFAULT_MAX_COST) -> None:
        self.remarks: list[str] = []
        self._cuts, self._max_cost = cuts, max_cost
        self._known: dict[bytes, Blocks] = {}

    def of(self, atoms: Atoms) -> Blocks:
        """Blocks of one frame.

        Raises
        ------
        StructureError
            As `find_blocks`.
        """
        key = np.asarray(atoms.numbers, dtype=np.int64).tobytes()
        if key not in self._known:
            self._known[key] = find_blocks(atoms, cuts=self._cuts, max_cost=self._max_cost)
            return self._known[key]
        blocks, remark = blocks_like(atoms, self._known[key], cuts=self._cuts, max_cost=self._max_cost)
        if remark:
            self.remarks.append(remark)
        return blocks


def _hold_limits(numbers: IntArray, graph: BondGraph) -> FloatArray:
    a, b = numbers[graph.i], numbers[graph.j]
    of_hydrogen = HYDROGEN_HOLD * (COVALENT_RADII[a] + COVALENT_RADII[b])
    return np.where((a == 1) | (b == 1), of_hydrogen, HOLD * bond_limits(a, b))


def _followed(atoms: Atoms, graph: BondGraph) -> tuple[IntArray, FloatArray]:
    """Shifts (m, 3) and lengths (m,) Å of the same bonds in another frame, in which atoms may have been wrapped.

    A bond shorter than half the smallest height of the cell has one image only: the nearest. In smaller cells the
    shifts are kept, so that wrapped atoms show as torn bonds.
    """
    half = np.flatnonzero(graph.once)
    other = graph.reverse[half]
    cell = atoms.cell.complete().array
    inverse = np.linalg.inv(cell)
    fractional = atoms.positions @ inverse
    vectors = fractional[graph.j[half]] - fractional[graph.i[half]] + graph.shift[half]
    shift = graph.shift
    heights = 1.0 / np.linalg.norm(inverse, axis=0)
    if atoms.pbc.any() and heights[atoms.pbc].min() > 2.0 * HOLD * graph.distance.max(initial=0.0):
        crossed = np.where(atoms.pbc, np.rint(vectors), 0.0)
        if crossed.any():
            vectors -= crossed
            shift = shift.copy()
            shift[half] -= crossed.astype(np.int64)
            shift[other] = -shift[half]
    distance = np.empty(len(graph.i))
    distance[half] = distance[other] = np.linalg.norm(vectors @ cell, axis=1)
    return shift, distance


def _taken_over(blocks: Blocks, shift: IntArray, distance: FloatArray) -> Blocks:
    """The same blocks with new images and lengths of all bonds."""
    old = blocks.graph
    graph = replace(old, shift=shift, distance=distance)
    for name in ("first", "reverse", "once"):  # they depend on i, j and the order only
        if name in old.__dict__:
            graph.__dict__[name] = old.__dict__[name]
    moved = shift is not old.shift
    if moved:
        cut = blocks.cut_bonds
        uncut = np.ones(len(old.i), dtype=bool)
        uncut[cut] = uncut[graph.reverse[cut]] = False
        new = replace(blocks, graph=graph, offsets=graph.unwrap(uncut)[1], cut_shifts=shift[cut])
    else:
        new = replace(blocks, graph=graph)
    for name in ("_by_block", "cut_bonds", *(() if moved else ("links",))):
        if name in blocks.__dict__:
            new.__dict__[name] = blocks.__dict__[name]
    return new
