"""Assembles images of building blocks into one finite piece, unwrapped, with hydrogen on every bond it cuts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

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
HOME: Image = (0, 0, 0)


@dataclass(frozen=True, slots=True)
class Part:
    """Some atoms of one block: indices (ascending), positions in its whole copy (Å), bonds by place in ``atoms``."""

    atoms: IntArray
    numbers: IntArray
    positions: FloatArray
    bonds: IntArray


@dataclass(frozen=True, slots=True)
class Link:
    """A cut bond seen from one side: ``slot`` is the place of atom ``own`` in its part, ``other_slot`` that of atom
    ``other`` in its block ``neighbour``, which is whole at ``image`` when the own block is at home."""

    slot: int
    own: int
    other: int
    other_slot: int
    neighbour: int
    image: Image


@dataclass(frozen=True)
class Frame:
    """One parent frame with its blocks, and the parts of it that have been cut before."""

    atoms: Atoms
    blocks: Blocks
    numbers: IntArray
    cell: FloatArray
    _parts: dict[tuple[str, int], Part] = field(default_factory=dict, repr=False)
    _links: dict[tuple[str, int], list[Link]] = field(default_factory=dict, repr=False)
    _caps: dict[tuple[int, int, Image], FloatArray] = field(default_factory=dict, repr=False)

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

    def links(self, block: int, group: int = -1) -> list[Link]:
        """The cut bonds of a block, or only those of one of its anchoring groups, with places in the part."""
        key = ("block", block) if group < 0 else ("group", group)
        if key not in self._links:
            part = self.block(block) if group < 0 else self.group(group)
            self._links[key] = [
                Link(int(np.searchsorted(part.atoms, own)), own, other, self._slots[other], neighbour, image)
                for own, other, neighbour, image in self.blocks.links[block]
                if group < 0 or self.blocks.anchor[own] == group
            ]
        return self._links[key]

    def cap_vector(self, link: Link) -> FloatArray:
        """(3,) Å, from the atom of a link to the hydrogen that replaces it.

        Raises
        ------
        ExtractionError
            As `cap`.
        """
        key = (link.own, link.other, link.image)
        if key not in self._caps:
            blocks, raw = self.blocks, self.atoms.positions
            cells = blocks.offsets[link.other] + link.image - blocks.offsets[link.own]
            bond = raw[link.other] + cells @ self.cell - raw[link.own]
            self._caps[key] = cap(int(self.numbers[link.own]), np.zeros(3), bond)
        return self._caps[key]

    @cached_property
    def _slots(self) -> list[int]:
        """Place of every atom in its block."""
        slots = np.empty(len(self.atoms), dtype=np.int64)
        for block in range(len(self.blocks.kinds)):
            members = self.blocks.members(block)
            slots[members] = np.arange(len(members))
        return [int(s) for s in slots]

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
    for block, _ in (*core, *mantle):
        _check_finite(frame.blocks, block)
    parts = [frame.block(b) for b, _ in (*core, *mantle)] + [frame.group(g) for g, _ in groups]
    images = [image for _, image in (*core, *mantle, *groups)]
    starts = np.cumsum([0] + [len(part.atoms) for part in parts]).tolist()
    n_whole, n = len(core) + len(mantle), starts[-1]

    sizes = [len(part.atoms) for part in parts]
    moved = np.repeat(np.array(images) @ frame.cell, sizes, axis=0)
    positions = np.concatenate([part.positions for part in parts]) + moved
    bonds = [part.bonds + start for part, start in zip(parts, starts[:-1], strict=True)]
    links, caps = _join(frame, [*core, *mantle], starts[:n_whole], groups, starts[n_whole:-1])
    for (group, _), start in zip(groups, starts[n_whole:-1], strict=True):
        caps += _protons(frame, group, start)
    h = len(caps)
    holders = np.array([atom for atom, _ in caps], dtype=np.int64)
    bonds.append(np.array(links, dtype=np.int64).reshape(-1, 2))
    bonds.append(np.stack((holders, n + np.arange(h)), axis=1))
    positions = np.concatenate((positions, positions[holders] + np.array([v for _, v in caps]).reshape(-1, 3)))
    is_core = np.zeros(n + h, dtype=bool)
    is_core[: starts[len(core)]] = True
    return Piece(
        atoms=Atoms(
            numbers=np.concatenate([part.numbers for part in parts] + [np.ones(h, dtype=np.int64)]),
            positions=positions,
            pbc=False,
        ),
        core=is_core,
        parent=np.concatenate([part.atoms for part in parts] + [np.full(h, -1, dtype=np.int64)]),
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
    whole_starts: Sequence[int],
    groups: Sequence[GroupImage],
    group_starts: Sequence[int],
) -> tuple[list[tuple[int, int]], list[tuple[int, FloatArray]]]:
    """Bonds between the parts, and for every cut bond that leads out of them the atom that gets a hydrogen, and where
    relative to it (Å)."""
    blocks = frame.blocks
    start_of = dict(zip(whole, whole_starts, strict=True))
    group_start = dict(zip(groups, group_starts, strict=True))
    seekers = [(image, start, frame.links(block)) for (block, image), start in start_of.items()]
    for (group, image), start in group_start.items():
        block = int(blocks.labels[frame.group(group).atoms[0]])
        seekers.append((image, start, frame.links(block, group)))
    bonds: list[tuple[int, int]] = []
    caps: list[tuple[int, FloatArray]] = []
    for (x, y, z), start, links in seekers:
        for link in links:
            u, v, w = link.image
            image = (x + u, y + v, z + w)
            here = start + link.slot
            there = start_of.get((link.neighbour, image), -1)
            if there >= 0:
                there += link.other_slot
            elif group_start:
                group = int(blocks.anchor[link.other])
                there = group_start.get((group, image), -1)
                if there >= 0:
                    there += int(np.searchsorted(frame.group(group).atoms, link.other))
            if there > here:
                bonds.append((here, there))
            elif there < 0:
                caps.append((here, frame.cap_vector(link)))
    return bonds, caps


def _protons(frame: Frame, group: int, start: int) -> list[tuple[int, FloatArray]]:
    """Hydrogens that make an anchoring group without its metals neutral: the atom that gets one, and where from it."""
    graph = frame.blocks.graph
    members = frame.group(group).atoms
    missing = -frame.blocks.anchor_rules[group].charge - int((frame.numbers[members] == 1).sum())
    donors = []
    for slot, atom in enumerate(members.tolist()):
        here = graph.bonds_of(atom)
        to_metal = here.start + np.flatnonzero(is_metal(frame.numbers[graph.j[here]]))
        if len(to_metal):
            nearest = min(to_metal.tolist(), key=lambda k: (graph.distance[k], k))
            donors.append((float(graph.distance[nearest]), slot, nearest))
    return [
        (start + slot, cap(int(frame.numbers[members[slot]]), np.zeros(3), frame.bond_vector(bond)))
        for _, slot, bond in sorted(donors)[: max(missing, 0)]
    ]
