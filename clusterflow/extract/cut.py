"""Assembles images of building blocks into one finite piece, unwrapped, with hydrogen on every bond it cuts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from ase import Atoms

from clusterflow.core.data import BoolArray, FloatArray, IntArray
from clusterflow.errors import ExtractionError
from clusterflow.extract.termination import cap
from clusterflow.physics.bonds import BondGraph
from clusterflow.physics.building_blocks import Blocks, find_blocks
from clusterflow.physics.elements import is_metal

Image = tuple[int, int, int]
BlockImage = tuple[int, Image]
"""A block, and the cell that its whole copy is moved to."""
GroupImage = tuple[int, Image]
"""An anchoring group, and the cell that the whole copy of its block is moved to."""
Place = Callable[[int, Image], int]
"""From an atom of the parent and the image of its block to the atom's index in the piece, −1 if it is not there."""

HOME: Image = (0, 0, 0)


@dataclass(frozen=True, slots=True)
class Part:
    """Some atoms of one block: indices (ascending), positions in its whole copy (Å), bonds by place in ``atoms``."""

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
    cell: FloatArray
    _parts: dict[tuple[str, int], Part] = field(default_factory=dict, repr=False)

    @classmethod
    def of(cls, atoms: Atoms, blocks: Blocks | None = None) -> Frame:
        """Partitions the atoms, unless the blocks are known.

        Raises
        ------
        StructureError
            As `find_blocks`.
        """
        blocks = find_blocks(atoms) if blocks is None else blocks
        return cls(atoms, blocks, np.asarray(atoms.numbers, dtype=np.int64), np.array(atoms.cell.array))

    def bond_vector(self, bond: int) -> FloatArray:
        """(3,) Å, from atom i to atom j of a bond of the parent's graph."""
        graph = self.blocks.graph
        i, j = graph.i[bond], graph.j[bond]
        return np.asarray(self.atoms.positions[j] + graph.shift[bond] @ self.cell - self.atoms.positions[i])

    def block(self, block: int) -> Part:
        """A whole block."""
        key = ("block", block)
        if key not in self._parts:
            atoms = self.blocks.members(block)
            self._parts[key] = self._part(atoms, self.blocks.offsets[atoms])
        return self._parts[key]

    def group(self, group: int) -> Part:
        """An anchoring group, joined around its atom that carries the link (its node may be an endless rod)."""
        key = ("group", group)
        if key not in self._parts:
            blocks, graph = self.blocks, self.blocks.graph
            atoms = np.flatnonzero(blocks.anchor == group)
            links = blocks.links[blocks.labels[atoms[0]]]
            seed = next((own for own, *_ in links if blocks.anchor[own] == group), int(atoms[0]))
            offsets = {seed: blocks.offsets[seed]}
            todo = [seed]
            for atom in todo:
                here = graph.bonds_of(atom)
                for other, shift in zip(graph.j[here].tolist(), graph.shift[here], strict=True):
                    if blocks.anchor[other] == group and other not in offsets:
                        offsets[other] = offsets[atom] + shift
                        todo.append(other)
            self._parts[key] = self._part(atoms, np.array([offsets[a] for a in atoms.tolist()]))
        return self._parts[key]

    def _part(self, atoms: IntArray, offsets: IntArray) -> Part:
        graph = self.blocks.graph
        place = {atom: k for k, atom in enumerate(atoms.tolist())}
        bonds = []
        for atom, k in place.items():
            here = graph.bonds_of(atom)
            for other, shift in zip(graph.j[here].tolist(), graph.shift[here], strict=True):
                m = place.get(other, -1)
                # A bond to another image of the same part is not inside it.
                if m > k and (offsets[k] + shift == offsets[m]).all():
                    bonds.append((k, m))
        positions = self.atoms.positions[atoms] + offsets @ self.cell
        return Part(atoms, self.numbers[atoms], positions, np.array(bonds, dtype=np.int64).reshape(-1, 2))


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
    parts: list[tuple[Part, Image]] = []
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
        block, group = int(blocks.labels[atom]), int(blocks.anchor[atom])
        first = where.get(("block", block, image))
        if first is not None:
            return first + int(np.searchsorted(frame.block(block).atoms, atom))
        first = where.get(("group", group, image))
        return -1 if first is None else first + int(np.searchsorted(frame.group(group).atoms, atom))

    numbers = np.concatenate([part.numbers for part, _ in parts])
    positions = np.concatenate([part.positions + image @ frame.cell for part, image in parts])
    parent = np.concatenate([part.atoms for part, _ in parts])
    starts = np.cumsum([0] + [len(part.atoms) for part, _ in parts[:-1]]).tolist()
    inner = [part.bonds + first for (part, _), first in zip(parts, starts, strict=True)]
    links, caps = _join(frame, [*core, *mantle], groups, place, positions)
    for group, image in groups:
        caps += _protons(frame, group, image, place, positions)
    n, h = len(numbers), len(caps)
    bonds = [*inner, np.array(links, dtype=np.int64).reshape(-1, 2)]
    bonds.append(np.array([(atom, n + k) for k, (atom, _) in enumerate(caps)], dtype=np.int64).reshape(-1, 2))
    positions = np.concatenate([positions, np.array([p for _, p in caps]).reshape(-1, 3)])
    is_core = np.zeros(n + h, dtype=bool)
    is_core[: sum(len(frame.block(block).atoms) for block, _ in core)] = True
    return Piece(
        atoms=Atoms(numbers=np.r_[numbers, np.ones(h, dtype=np.int64)], positions=positions, pbc=False),
        core=is_core,
        parent=np.r_[parent, np.full(h, -1, dtype=np.int64)],
        graph=_finite_graph(np.concatenate(bonds), positions),
    )


def _finite_graph(bonds: IntArray, positions: FloatArray) -> BondGraph:
    """The bond graph of a finite piece from its bonds (m, 2), each given once."""
    i, j = np.concatenate((bonds, bonds[:, ::-1])).T
    order = np.lexsort((j, i))
    i, j = i[order], j[order]
    distance = np.sqrt(((positions[j] - positions[i]) ** 2).sum(axis=1))
    return BondGraph(len(positions), i, j, np.zeros((len(i), 3), dtype=np.int64), distance)


def _check_finite(blocks: Blocks, block: int) -> None:
    if blocks.infinite[block]:
        raise ExtractionError(
            f"The {blocks.kinds[block]} {blocks.formulas[block]} (atoms {blocks.members(block)[:4].tolist()}, …) is an "
            "endless rod or layer: no finite fragment can hold it whole.",
            todo='Use the mantle "anchors" or "none" for linkers, or keep the whole periodic structure as one label.',
        )


def _join(
    frame: Frame,
    whole: Sequence[BlockImage],
    groups: Sequence[GroupImage],
    place: Place,
    positions: FloatArray,
) -> tuple[list[tuple[int, int]], list[tuple[int, FloatArray]]]:
    """Bonds between the parts, and a hydrogen (atom it sits on, position) for every cut bond that leads out of them."""
    blocks, raw, cell = frame.blocks, frame.atoms.positions, frame.cell
    bonds: list[tuple[int, int]] = []
    caps: list[tuple[int, FloatArray]] = []
    seekers = [(block, image, -1) for block, image in whole]
    seekers += [(int(blocks.labels[frame.group(group).atoms[0]]), image, group) for group, image in groups]
    for block, (x, y, z), group in seekers:
        for own, other, _, (u, v, w) in blocks.links[block]:
            if group >= 0 and blocks.anchor[own] != group:
                continue
            here, there = place(own, (x, y, z)), place(other, (x + u, y + v, z + w))
            if there > here:
                bonds.append((here, there))
            elif there < 0:
                cells = blocks.offsets[other] + (u, v, w) - blocks.offsets[own]
                towards = positions[here] + raw[other] + cells @ cell - raw[own]
                caps.append((here, cap(int(frame.numbers[own]), positions[here], towards)))
    return bonds, caps


def _protons(
    frame: Frame, group: int, image: Image, place: Place, positions: FloatArray
) -> list[tuple[int, FloatArray]]:
    """Hydrogens that make an anchoring group without its metals neutral."""
    graph = frame.blocks.graph
    members = frame.group(group).atoms
    missing = -frame.blocks.anchor_rules[group].charge - int((frame.numbers[members] == 1).sum())
    donors = []
    for atom in members.tolist():
        here = graph.bonds_of(atom)
        to_metal = here.start + np.flatnonzero(is_metal(frame.numbers[graph.j[here]]))
        if len(to_metal):
            nearest = min(to_metal.tolist(), key=lambda k: (graph.distance[k], k))
            donors.append((float(graph.distance[nearest]), atom, nearest))
    protons = []
    for _, atom, bond in sorted(donors)[: max(missing, 0)]:
        index = place(atom, image)
        towards = positions[index] + frame.bond_vector(bond)
        protons.append((index, cap(int(frame.numbers[atom]), positions[index], towards)))
    return protons
