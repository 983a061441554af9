"""Assembles images of building blocks into one finite piece, unwrapped, with a cap on every bond it cuts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from ase import Atoms
from ase.data import chemical_symbols

from clusterflow.core.data import BoolArray, FloatArray, IntArray
from clusterflow.errors import ExtractionError
from clusterflow.extract.piece import Donor, Piece, make_piece
from clusterflow.extract.termination import LENGTHS, Cap, Caps, cap_kind, hydrogen, methyl, water
from clusterflow.physics.building_blocks import Blocks, find_blocks
from clusterflow.physics.elements import is_metal

Image = tuple[int, int, int]
BlockImage = tuple[int, Image]
"""A block, and the cell that its whole copy is moved to."""
GroupImage = tuple[int, Image]
"""An anchoring group (or the carbon atom of a carboxylate), and the cell that its whole block is moved to."""
HOME: Image = (0, 0, 0)
DEFAULT_CAPS = Caps()


@dataclass(frozen=True, slots=True)
class Part:
    """Atoms of one block: indices (ascending), positions in its whole copy (Å), bonds by place in ``atoms``; ``slots``
    gives the place of each atom, or is None for all atoms of the block."""

    block: int
    atoms: IntArray
    numbers: IntArray
    positions: FloatArray
    bonds: IntArray
    slots: dict[int, int] | None


@dataclass(frozen=True, slots=True)
class Link:
    """A cut bond seen from one side: ``slot`` is the place of atom ``own`` in its part, ``other_slot`` that of atom
    ``other`` in its block ``neighbour``, which is whole at ``image`` when the own block is at home. ``end`` says what
    becomes of ``own`` without ``other`` (as in `CutRule`), ``rule`` is the name of the cut."""

    slot: int
    own: int
    other: int
    other_slot: int
    neighbour: int
    image: Image
    end: str
    rule: str


@dataclass(frozen=True)
class Frame:
    """One parent frame with its blocks, and the parts of it that have been cut before."""

    atoms: Atoms
    blocks: Blocks
    numbers: IntArray
    cell: FloatArray
    _parts: dict[tuple[str, int], Part] = field(default_factory=dict, repr=False)
    _links: dict[tuple[int, int], list[Link]] = field(default_factory=dict, repr=False)
    _caps: dict[tuple[int, int, Image, str, float | None], Cap] = field(default_factory=dict, repr=False)
    _kinds: dict[int, str] = field(default_factory=dict, repr=False)

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
            self._parts[key] = self._part(block, self.blocks.members(block), whole=True)
        return self._parts[key]

    def group(self, group: int) -> Part:
        """An anchoring group of a node."""
        key = ("group", group)
        if key not in self._parts:
            atoms = np.flatnonzero(self.blocks.anchor == group)
            self._parts[key] = self._part(int(self.blocks.labels[atoms[0]]), atoms)
        return self._parts[key]

    def carboxylate(self, centre: int) -> Part:
        """The carboxylate of a linker with this carbon atom: what a formate keeps of the linker."""
        key = ("carboxylate", centre)
        if key not in self._parts:
            atoms = np.array(sorted([centre, *self._oxygens(centre)]), dtype=np.int64)
            self._parts[key] = self._part(int(self.blocks.labels[centre]), atoms)
        return self._parts[key]

    def carboxylate_of(self, donor: int) -> int:
        """The carbon atom of the carboxylate that a donor is part of; −1 for an oxygen atom of something else.

        Raises
        ------
        ExtractionError
            The donor is not oxygen.
        """
        if self.numbers[donor] != 8:
            raise ExtractionError(
                f"The cap formate takes the place of carboxylates; {chemical_symbols[self.numbers[donor]]}{donor} is "
                "in none.",
                todo='Use the cap "OH2" or "H" for this cut.',
            )
        around = self.blocks.graph.neighbours(donor).tolist()
        return next((c for c in around if self.numbers[c] == 6 and len(self._oxygens(c)) == 2), -1)

    def _oxygens(self, centre: int) -> list[int]:
        return [k for k in self.blocks.graph.neighbours(centre).tolist() if self.numbers[k] == 8]

    def links(self, part: Part) -> list[Link]:
        """The cut bonds of a block, or of a part of it, with places in the part."""
        key = (part.block, -1 if part.slots is None else int(part.atoms[0]))
        if key not in self._links:
            self._links[key] = [
                Link(
                    int(np.searchsorted(part.atoms, own)), own, other, self._slots[other], neighbour, image,
                    *self._ends[(own, other, image)],
                )
                for own, other, neighbour, image in self.blocks.links[part.block]
                if part.slots is None or own in part.slots
            ]  # fmt: skip
        return self._links[key]

    def inner_cuts(self, part: Part) -> list[tuple[int, FloatArray]]:
        """(place, bond in Å) of every bond, to non-metals, that leads from a part to the rest of its block."""
        graph, found = self.blocks.graph, []
        for atom, slot in (part.slots or {}).items():
            here = graph.bonds_of(atom)
            for k in range(here.start, here.stop):
                other = int(graph.j[k])
                rest = self.blocks.labels[other] == part.block and other not in (part.slots or {})
                if rest and not is_metal(self.numbers[other : other + 1])[0]:
                    found.append((slot, self.bond_vector(k)))
        return found

    def old_bond(self, link: Link) -> FloatArray:
        """(3,) Å, from the atom of a link to the one that it was bonded to."""
        raw, offsets = self.atoms.positions, self.blocks.offsets
        cells = offsets[link.other] + link.image - offsets[link.own]
        return np.asarray(raw[link.other] + cells @ self.cell - raw[link.own])

    def cap_kind(self, atom: int) -> str:
        """Kind of the cap that a cut bond of a parent atom gets.

        Raises
        ------
        ExtractionError
            Hydrogen cannot close a bond of this element.
        """
        if atom not in self._kinds:
            self._kinds[atom] = cap_kind(self.numbers, self.blocks.graph, atom)
        return self._kinds[atom]

    def length(self, atom: int, caps: Caps = DEFAULT_CAPS) -> float:
        """Length in Å of a bond from a parent atom to the hydrogen that caps it.

        Raises
        ------
        ExtractionError
            Hydrogen cannot close a bond of this element.
        """
        kind = self.cap_kind(atom)
        return caps.lengths.get(kind, LENGTHS[kind])

    def hydrogen(self, atom: int, bond: FloatArray, caps: Caps = DEFAULT_CAPS) -> Cap:
        """Hydrogen on a parent atom along an old bond (3,), at the length of its kind.

        Raises
        ------
        ExtractionError
            Hydrogen cannot close a bond of this element.
        """
        return hydrogen(bond, self.length(atom, caps))

    def cap(self, link: Link, caps: Caps = DEFAULT_CAPS) -> Cap:
        """What replaces the other side of a cut bond whose end rule is "cap" (hydrogen, methyl) or that of a metal
        whose donor becomes water.

        Raises
        ------
        ExtractionError
            The element cannot carry the cap, or its orientation is not defined.
        """
        choice = caps.of(link.rule)
        kind = "" if choice == "OH2" else self.cap_kind(link.own)
        key = (link.own, link.other, link.image, choice, caps.lengths.get(kind))
        if key not in self._caps:
            bond = self.old_bond(link)
            if choice == "CH3":
                self._caps[key] = methyl(bond, self._beside(link))
            elif choice == "OH2":
                self._caps[key] = water(bond, self._beside(link))
            else:
                self._caps[key] = self.hydrogen(link.own, bond, caps)
        return self._caps[key]

    def _beside(self, link: Link) -> FloatArray:
        """(3,) Å, from the atom of a link to the nearest of its other neighbours off the axis of the bond."""
        graph = self.blocks.graph
        here = graph.bonds_of(link.own)
        lost = self.old_bond(link)
        for k in sorted(range(here.start, here.stop), key=lambda k: (graph.distance[k], k)):
            vector = self.bond_vector(k)
            if np.linalg.norm(np.cross(vector, lost)) > 0.3 * np.linalg.norm(vector) * np.linalg.norm(lost):
                return vector
        return lost

    @cached_property
    def _ends(self) -> dict[tuple[int, int, Image], tuple[str, str]]:
        """End rule and name of every cut bond, from both sides."""
        blocks = self.blocks
        found: dict[tuple[int, int, Image], tuple[str, str]] = {}
        a, b = blocks.cut_atoms.T
        images = blocks.offsets[a] + blocks.cut_shifts - blocks.offsets[b]
        for i, j, (x, y, z), rule in zip(a.tolist(), b.tolist(), images.tolist(), blocks.cut_rules, strict=True):
            found[(i, j, (x, y, z))] = (rule.first, rule.name)
            found[(j, i, (-x, -y, -z))] = (rule.second, rule.name)
        return found

    @cached_property
    def _slots(self) -> list[int]:
        """Place of every atom in its block."""
        slots = np.empty(len(self.atoms), dtype=np.int64)
        for block in range(len(self.blocks.kinds)):
            members = self.blocks.members(block)
            slots[members] = np.arange(len(members))
        return [int(s) for s in slots]

    def _part(self, block: int, atoms: IntArray, *, whole: bool = False) -> Part:
        graph, offsets = self.blocks.graph, self.blocks.offsets[atoms]
        counts = graph.first[atoms + 1] - graph.first[atoms]
        k = np.repeat(np.arange(len(atoms)), counts)
        here = np.arange(len(k)) + np.repeat(graph.first[atoms] - np.cumsum(counts) + counts, counts)
        m = np.minimum(np.searchsorted(atoms, graph.j[here]), len(atoms) - 1)
        inside = (atoms[m] == graph.j[here]) & (m > k)
        # A bond to another image of the same part is not inside it.
        inside &= (offsets[k] + graph.shift[here] == offsets[m]).all(axis=1)
        slots = None if whole else {atom: slot for slot, atom in enumerate(atoms.tolist())}
        positions = self.atoms.positions[atoms] + offsets @ self.cell
        return Part(block, atoms, self.numbers[atoms], positions, np.stack((k[inside], m[inside]), axis=1), slots)


def assemble(
    frame: Frame,
    core: Sequence[BlockImage],
    mantle: Sequence[BlockImage],
    groups: Sequence[GroupImage],
    *,
    formates: Sequence[GroupImage] = (),
    core_atoms: Sequence[int] | None = None,
    caps: Caps = DEFAULT_CAPS,
) -> Piece:
    """Joins core and mantle blocks and single anchoring groups, in the given order, and caps what is cut.

    Cut bonds between blocks get a cap along the old bond, or leave a donor, as their rules say. An anchoring group
    without its node gets as many protons as its charge asks for, on the donors closest to a metal, along the old bond
    to it. ``formates``: of the linkers that hold these carbon atoms only the carboxylate, closed by hydrogen. With
    ``core_atoms`` (parent indices) only these are core, in the first of the images that holds them; they come first.

    Raises
    ------
    ExtractionError
        A cut bond cannot be closed by its cap; or a core atom is in no block.
    """
    n_whole, n_groups = len(core) + len(mantle), len(groups)
    parts = [frame.block(b) for b, _ in (*core, *mantle)]
    parts += [frame.group(g) for g, _ in groups] + [frame.carboxylate(c) for c, _ in formates]
    images = [image for _, image in (*core, *mantle, *groups, *formates)]
    sizes = [len(part.atoms) for part in parts]
    starts = np.cumsum([0, *sizes]).tolist()
    n = starts[-1]

    moved = np.repeat(np.array(images) @ frame.cell, sizes, axis=0)
    positions = np.concatenate([part.positions for part in parts]) + moved
    numbers = np.concatenate([part.numbers for part in parts])
    parent = np.concatenate([part.atoms for part in parts])
    links, closed, donors = _join(frame, list(zip(parts, images, starts[:-1], strict=True)), caps)
    for (group, _), start in zip(groups, starts[n_whole:], strict=False):
        closed += _protons(frame, group, start, caps)
    for part, start in zip(parts[n_whole + n_groups :], starts[n_whole + n_groups :], strict=False):
        for slot, bond in frame.inner_cuts(part):
            closed.append((start + slot, frame.hydrogen(int(part.atoms[slot]), bond, caps)))
    bonds = np.concatenate(
        [part.bonds + start for part, start in zip(parts, starts, strict=False)]
        + [np.array(links, dtype=np.int64).reshape(-1, 2)]
    )
    is_core = np.arange(n) < starts[len(core)] if core_atoms is None else _first_of(parent, core_atoms)
    if is_core[: int(is_core.sum())].all():
        return make_piece(numbers, positions, is_core, parent, bonds, closed, tuple(donors))
    order = np.argsort(~is_core, kind="stable")
    place = np.argsort(order)  # inverse permutation
    return make_piece(
        numbers[order],
        positions[order],
        is_core[order],
        parent[order],
        place[bonds],
        [(int(place[atom]), cap) for atom, cap in closed],
        tuple(Donor(int(place[donor.atom]), donor.bond, donor.neutralise) for donor in donors),
    )


def _first_of(parent: IntArray, chosen: Sequence[int]) -> BoolArray:
    """Mask of the first place in ``parent`` of each chosen atom."""
    mask = np.zeros(len(parent), dtype=bool)
    if np.array_equal(parent[: len(chosen)], chosen):  # the core is the first block
        mask[: len(chosen)] = True
        return mask
    distinct, first = np.unique(parent, return_index=True)
    place = np.searchsorted(distinct, chosen)
    missing = np.flatnonzero((place == len(distinct)) | (distinct[np.minimum(place, len(distinct) - 1)] != chosen))
    if len(missing):
        raise ExtractionError(
            f"Core atom {chosen[missing[0]]} is in none of the chosen blocks.",
            todo="Add the block that holds it to the fragment.",
        )
    mask[first[place]] = True
    return mask


def _join(
    frame: Frame, parts: Sequence[tuple[Part, Image, int]], caps: Caps
) -> tuple[list[tuple[int, int]], list[tuple[int, Cap]], list[Donor]]:
    """Bonds between parts (with image and first place); for every cut bond that leads out of them the atom and its cap,
    or the donor."""
    present: dict[BlockImage, list[tuple[Part, int]]] = {}
    for part, image, start in parts:
        present.setdefault((part.block, image), []).append((part, start))
    bonds: list[tuple[int, int]] = []
    closed: list[tuple[int, Cap]] = []
    donors: list[Donor] = []
    for own, (x, y, z), start in parts:
        for link in frame.links(own):
            u, v, w = link.image
            here, there = start + link.slot, -1
            for part, first in present.get((link.neighbour, (x + u, y + v, z + w)), ()):
                slot = link.other_slot if part.slots is None else part.slots.get(link.other, -1)
                there = first + slot if slot >= 0 else there
            if there > here:
                bonds.append((here, there))
            elif there >= 0:
                continue
            elif link.end == "cap" or (link.end == "keep" and caps.of(link.rule) == "OH2"):
                closed.append((here, frame.cap(link, caps)))
            elif link.end in ("protonate", "neutralise", "bare"):
                donors.append(Donor(here, frame.old_bond(link), link.end == "neutralise"))
    return bonds, closed, donors


def _protons(frame: Frame, group: int, start: int, caps: Caps) -> list[tuple[int, Cap]]:
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
        (start + slot, frame.hydrogen(int(members[slot]), frame.bond_vector(bond), caps))
        for _, slot, bond in sorted(donors)[: max(missing, 0)]
    ]
