"""Assembles images of building blocks into one finite piece, unwrapped, with hydrogen on every bond it cuts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from ase import Atoms

from clusterflow.core.data import BoolArray, FloatArray, IntArray
from clusterflow.errors import ExtractionError
from clusterflow.extract.termination import cap
from clusterflow.physics.bonds import BondGraph
from clusterflow.physics.building_blocks import Blocks, find_blocks

Image = tuple[int, int, int]
BlockImage = tuple[int, Image]
"""A block, and the cell that its whole copy is moved to."""
GroupImage = tuple[int, Image]
"""An anchoring group, and the cell that the whole copy of its block is moved to."""

HOME: Image = (0, 0, 0)


@dataclass(frozen=True, slots=True)
class _Part:
    """Some atoms of one block: indices (ascending), positions in the block's whole copy, bonds by place in ``atoms``."""

    atoms: IntArray
    numbers: IntArray
    positions: FloatArray
    bonds: IntArray


@dataclass(frozen=True)
class Frame:
    """One parent frame with its blocks, and the parts of it that have been cut before."""

    atoms: Atoms
    blocks: Blocks
    numbers: IntArray
    positions: FloatArray
    """(n, 3) Å, every block whole."""
    cell: FloatArray
    _parts: dict[tuple[str, int], _Part] = field(default_factory=dict, repr=False)

    @classmethod
    def of(cls, atoms: Atoms, blocks: Blocks | None = None) -> Frame:
        """Partitions the atoms, unless the blocks are known.

        Raises
        ------
        StructureError
            As `find_blocks`.
        """
        blocks = find_blocks(atoms) if blocks is None else blocks
        cell = np.array(atoms.cell.array)
        positions = atoms.get_positions() + blocks.offsets @ cell
        return cls(atoms, blocks, np.asarray(atoms.numbers, dtype=np.int64), positions, cell)

    def block(self, block: int) -> _Part:
        key = ("block", block)
        if key not in self._parts:
            self._parts[key] = self._part(self.blocks.members(block))
        return self._parts[key]

    def group(self, group: int) -> _Part:
        key = ("group", group)
        if key not in self._parts:
            self._parts[key] = self._part(np.flatnonzero(self.blocks.anchor == group))
        return self._parts[key]

    def _part(self, atoms: IntArray) -> _Part:
        graph, blocks = self.blocks.graph, self.blocks
        place = {atom: k for k, atom in enumerate(atoms.tolist())}
        bonds = []
        for atom, k in place.items():
            here = graph.bonds_of(atom)
            images = blocks.offsets[atom] + graph.shift[here] - blocks.offsets[graph.j[here]]
            for other, image in zip(graph.j[here].tolist(), images.tolist(), strict=True):
                # A bond of a block to another image of itself is a cut bond.
                if place.get(other, -1) > k and not any(image):
                    bonds.append((k, place[other]))
        return _Part(
            atoms, self.numbers[atoms], self.positions[atoms], np.array(bonds, dtype=np.int64).reshape(-1, 2)
        )


@dataclass(frozen=True, slots=True)
class Piece:
    """A terminated piece: atoms in the order core, mantle, termination; ``parent`` −1 for termination atoms."""

    atoms: Atoms
    core: BoolArray
    parent: IntArray
    graph: BondGraph


def assemble(
    frame: Frame, core: Sequence[BlockImage], mantle: Sequence[BlockImage], groups: Sequence[GroupImage]
) -> Piece:
    """Joins core and mantle blocks and single anchoring groups, in the given order, and caps what is cut.

    Cut bonds between blocks get a hydrogen along the old bond. An anchoring group without its node gets as many protons
    as its charge asks for, on the donors closest to a metal, along the old bond to it.

    Raises
    ------
    ExtractionError
        A block has no end (rod, layer); or a cut bond cannot be closed by hydrogen.
    """
    blocks = frame.blocks
    where: dict[tuple[str, int, Image], int] = {}
    parts: list[tuple[_Part, Image]] = []
    start = 0
    for name, images in (("block", [*core, *mantle]), ("group", groups)):
        for number, image in images:
            if name == "block":
                _check_finite(blocks, number)
            part = frame.block(number) if name == "block" else frame.group(number)
            where[(name, number, image)] = start
            parts.append((part, image))
            start += len(part.atoms)

    def place(atom: int, image: Image) -> int:
        """Index in the piece of an atom of the parent, its block being at an image; −1 if it is not in the piece."""
        block, group = int(blocks.labels[atom]), int(blocks.anchor[atom])
        first = where.get(("block", block, image))
        if first is not None:
            return first + int(np.searchsorted(frame.block(block).atoms, atom))
        first = where.get(("group", group, image))
        return -1 if first is None else first + int(np.searchsorted(frame.group(group).atoms, atom))

    bonds, caps = _join(frame, [*core, *mantle], groups, place)
    caps += [proton for group, image in groups for proton in _protons(frame, group, image, place)]
    n_core = sum(len(frame.block(b).atoms) for b, _ in core)
    return _finish(frame, parts, n_core, bonds, caps)


def _check_finite(blocks: Blocks, block: int) -> None:
    if blocks.infinite[block]:
        raise ExtractionError(
            f"The {blocks.kinds[block]} {blocks.formulas[block]} (atoms {blocks.members(block)[:4].tolist()}, …) is an "
            "endless rod or layer: no finite fragment can hold it whole.",
            todo='Use the mantle "anchors" or "none" for linkers, or keep the whole periodic structure as one label.',
        )


def _join(
    frame: Frame, whole: Sequence[BlockImage], groups: Sequence[GroupImage], place: _Place
) -> tuple[list[tuple[int, int]], list[tuple[int, FloatArray]]]:
    """Bonds between the parts, and a hydrogen (atom it sits on, position) for every cut bond that leads out of them."""
    blocks = frame.blocks
    bonds: list[tuple[int, int]] = []
    caps: list[tuple[int, FloatArray]] = []
    seekers = [(b, image, -1) for b, image in whole] + [
        (int(blocks.labels[frame.group(g).atoms[0]]), image, g) for g, image in groups
    ]
    for block, (x, y, z), group in seekers:
        for own, other, _, (u, v, w) in blocks.links[block]:
            if group >= 0 and blocks.anchor[own] != group:
                continue
            here, there = place(own, (x, y, z)), place(other, (x + u, y + v, z + w))
            if there > here:
                bonds.append((here, there))
            elif there < 0:
                position = frame.positions[own] + (x, y, z) @ frame.cell
                towards = frame.positions[other] + (x + u, y + v, z + w) @ frame.cell
                caps.append((here, cap(int(frame.numbers[own]), position, towards)))
    return bonds, caps


def _protons(frame: Frame, group: int, image: Image, place: _Place) -> list[tuple[int, FloatArray]]:
    """Hydrogens that make an anchoring group without its metals neutral."""
    graph, blocks = frame.blocks.graph, frame.blocks
    members = frame.group(group).atoms
    donors = []
    missing = -blocks.anchor_rules[group].charge - int((frame.numbers[members] == 1).sum())
    for atom in members.tolist():
        here = graph.bonds_of(atom)
        to_metal = [k for k in range(here.start, here.stop) if blocks.anchor[graph.j[k]] != group]
        to_metal = [k for k in to_metal if frame.numbers[graph.j[k]] != 1 and not _is_link(blocks, atom, k)]
        if to_metal:
            nearest = min(to_metal, key=lambda k: (graph.distance[k], k))
            donors.append((float(graph.distance[nearest]), atom, nearest))
    shift = np.array(image) @ frame.cell
    protons = []
    for _, atom, bond in sorted(donors)[: max(missing, 0)]:
        metal = int(graph.j[bond])
        cells = blocks.offsets[atom] + graph.shift[bond] - blocks.offsets[metal]
        towards = frame.positions[metal] + cells @ frame.cell + shift
        hydrogen = cap(int(frame.numbers[atom]), frame.positions[atom] + shift, towards)
        protons.append((place(atom, image), hydrogen))
    return protons


def _is_link(blocks: Blocks, atom: int, bond: int) -> bool:
    """Whether a bond of the graph is one of the cut bonds between blocks."""
    other = int(blocks.graph.j[bond])
    cells = blocks.offsets[atom] + blocks.graph.shift[bond] - blocks.offsets[other]
    image = (int(cells[0]), int(cells[1]), int(cells[2]))
    return any(link[0] == atom and link[1] == other and link[3] == image for link in blocks.links[blocks.labels[atom]])
