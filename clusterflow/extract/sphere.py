"""Fragments of dense covalent solids (silicon, diamond, quartz): all atoms in a sphere, closed by hydrogen."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations, product

import numpy as np
from ase import Atoms
from ase.data import chemical_symbols

from clusterflow.core.data import FloatArray, Fragment, IntArray, Site
from clusterflow.core.frames import formula
from clusterflow.errors import ExtractionError, InputError, StructureError
from clusterflow.extract.cut import DEFAULT_CAPS, Image
from clusterflow.extract.fragment import check_contacts, check_size, shells
from clusterflow.extract.piece import Piece, make_piece
from clusterflow.extract.sites import image_range, nearest_images, site_indices
from clusterflow.extract.termination import LENGTHS, Cap, Caps, cap_kind, hydrogen
from clusterflow.physics.bonds import BondGraph, bond_graph
from clusterflow.physics.building_blocks import Blocks
from clusterflow.physics.elements import is_metal

AtomImage = tuple[int, Image]
_CLASH = 0.9
"""Å: two hydrogens that replace the same atom may not come closer (diamond 0.73, quartz 1.06, silicon 1.42); else that
atom is kept."""
_CENTRES = frozenset({5, 14, 15, 32, 33})  # B, Si, P, Ge, As keep all their oxygens
_GROWTH = 10
"""A sphere may grow by so much when gaps are filled; beyond it something else is wrong."""


@dataclass(frozen=True)
class SphericalCut:
    """Core = the sites, and what is within ``core_radius`` (Å) of them; mantle = the atoms within ``radius`` (Å).

    For networks of covalent bonds, which have no building blocks. Atoms that hang on the rest by one bond only are left
    out where what holds them is then still in the network (oxygen stays, as OH); terminal atoms stay with the one that
    holds them; silicon keeps all its oxygens; an atom that two hydrogens too close to each other would replace is kept.
    Hydrogen closes what is cut.

    Raises
    ------
    InputError
        A setting that makes no sense.
    """

    radius: float
    core_radius: float = 0.0
    min_distance_factor: float = 0.55
    max_atoms: int | None = None
    caps: Caps = DEFAULT_CAPS

    def __post_init__(self) -> None:
        if not (0.0 < self.radius < 50.0 and 0.0 <= self.core_radius <= self.radius):
            raise InputError(
                f"A sphere of radius {self.radius} Å with a core of {self.core_radius} Å makes no sense.",
                todo="Give 0 ≤ core_radius ≤ radius; 5 Å is a good radius to start with.",
            )

    @property
    def name(self) -> str:
        """All settings in one canonical line."""
        limit = "none" if self.max_atoms is None else str(self.max_atoms)
        more = f";caps:{self.caps.name}" if self.caps.name else ""
        return (
            f"sphere(radius={float(self.radius)!r}A;core_radius={float(self.core_radius)!r}A;"
            f"min_distance_factor={self.min_distance_factor!r};max_atoms={limit}{more})"
        )

    def extract(self, atoms: Atoms, sites: Sequence[Site], *, blocks: Blocks | None = None) -> Fragment:
        """One fragment around all the sites, which must belong to this frame; of ``blocks`` only the bonds are used.

        Raises
        ------
        ExtractionError
            Sites that are not in the frame; a metal in the sphere, as in an ionic solid; a bond that hydrogen cannot
            close; atoms too close; a dangling valence (a cut double bond); or too many atoms.
        """
        return self._extract(atoms, _bonds(atoms, blocks), sites)

    def extract_many(
        self, atoms: Atoms, site_groups: Iterable[Sequence[Site]], *, blocks: Blocks | None = None
    ) -> list[Fragment | ExtractionError]:
        """As `extract` for many groups of sites of one frame: bonds are found once, errors returned in place.

        Raises
        ------
        ExtractionError
            The bonds of the frame cannot be found.
        """
        graph = _bonds(atoms, blocks)
        results: list[Fragment | ExtractionError] = []
        for sites in site_groups:
            try:
                results.append(self._extract(atoms, graph, sites))
            except ExtractionError as error:
                results.append(error)
        return results

    def _extract(self, atoms: Atoms, graph: BondGraph, sites: Sequence[Site]) -> Fragment:
        indices = site_indices(atoms, sites)
        images = nearest_images(atoms, atoms.positions[indices])
        centres = list(zip(indices, images, strict=True))
        sphere = _Sphere(atoms, graph, centres)
        core = [*centres, *(a for a in sphere.within(self.core_radius) if a not in set(centres))]
        try:
            chosen = sphere.close([*core, *(a for a in sphere.within(self.radius) if a not in set(core))], set(core))
            piece = sphere.piece(chosen, set(core), self.caps)
            check_size(piece, self.max_atoms)
            check_contacts(piece, self.min_distance_factor)
            state = shells(piece)
        except ExtractionError as error:
            names = ", ".join(f"{atoms.symbols[k]}{k}" for k in indices[:4])
            where = "; ".join(part for part in (f"sphere around {names} of {formula(atoms)}", error.where) if part)
            raise ExtractionError(error.what, where=where, todo=error.todo) from error
        return Fragment(
            atoms=piece.atoms,
            core=piece.core,
            parent=piece.parent,
            sites=tuple(sites),
            rule=self.name,
            charge=state.charge,
            spin=state.spin,
            kind=f"sphere:{formula([chemical_symbols[atoms.numbers[k]] for k in indices])}",
            spins_to_try=state.to_try,
        )


def _bonds(atoms: Atoms, blocks: Blocks | None) -> BondGraph:
    try:
        return bond_graph(atoms) if blocks is None else blocks.graph
    except StructureError as error:
        raise ExtractionError(error.what, where=error.where, todo=error.todo) from error


class _Sphere:
    """Images of atoms around some centres, and their bonds."""

    def __init__(self, atoms: Atoms, graph: BondGraph, centres: Sequence[AtomImage]) -> None:
        self.atoms, self.graph = atoms, graph
        self.numbers: IntArray = np.asarray(atoms.numbers, dtype=np.int64)
        self.cell: FloatArray = np.asarray(atoms.cell.array)
        self.centres = np.array([self.position(a) for a in centres])
        self.degree = np.diff(graph.first)
        terminal = self.degree == 1
        self.inner: IntArray = np.bincount(graph.i[~terminal[graph.j]], minlength=len(self.numbers))

    def position(self, atom: AtomImage) -> FloatArray:
        """(3,) Å."""
        return np.asarray(self.atoms.positions[atom[0]] + np.array(atom[1]) @ self.cell)

    def neighbours(self, atom: AtomImage) -> list[AtomImage]:
        """Bonded images."""
        index, (x, y, z) = atom
        here = self.graph.bonds_of(index)
        return [
            (j, (x + u, y + v, z + w))
            for j, (u, v, w) in zip(self.graph.j[here].tolist(), self.graph.shift[here].tolist(), strict=True)
        ]

    def within(self, radius: float) -> list[AtomImage]:
        """Images at most so far (Å) from any centre, nearest first."""
        found: dict[AtomImage, float] = {}
        for centre in self.centres:
            cells, trials = image_range(self.atoms, centre, radius)
            for trial in product(*trials):
                moved = cells + np.array(trial)
                distance = np.linalg.norm(self.atoms.positions + moved @ self.cell - centre, axis=1)
                for k in np.flatnonzero(distance <= radius).tolist():
                    x, y, z = moved[k].tolist()
                    key = (k, (x, y, z))
                    found[key] = min(found.get(key, np.inf), round(float(distance[k]), 6))
        return sorted(found, key=lambda a: (found[a], a))

    def close(self, start: Sequence[AtomImage], core: set[AtomImage]) -> list[AtomImage]:
        """Leaves out what hangs by one bond, then adds terminal atoms, oxygens of silicon, and atoms whose two or more
        replacements would clash; in the given order, additions last.

        Raises
        ------
        ExtractionError
            A metal is among them, or gaps have no end.
        """
        chosen = dict.fromkeys(start)
        for a in self._dropped(chosen, core):
            del chosen[a]
        limit = _GROWTH * len(chosen) + 100
        while added := self._missing(chosen):
            chosen.update(dict.fromkeys(added))
            if len(chosen) > limit:
                raise ExtractionError(
                    f"Closing the sphere has grown it beyond {limit} atoms.",
                    todo="This solid does not suit a spherical cut; keep the periodic cell (extract: {kind: whole}).",
                )
        metals = [a for a, _ in chosen if is_metal(self.numbers[a : a + 1])[0]]
        if metals:
            raise ExtractionError(
                f"The sphere holds {len(metals)} metal atom(s) (first: {chemical_symbols[self.numbers[metals[0]]]}"
                f"{metals[0]}), and hydrogen cannot close ionic or metallic bonds.",
                todo="For ionic solids and metals keep the periodic cell (extract: {kind: whole}); for frameworks use "
                "extract: {kind: building_blocks}.",
            )
        return list(chosen)

    def piece(self, chosen: Sequence[AtomImage], core: set[AtomImage], caps: Caps) -> Piece:
        """Atoms in the order core, mantle, termination, with hydrogen along every cut bond.

        Raises
        ------
        ExtractionError
            Hydrogen cannot close a bond of this element.
        """
        order = sorted(chosen, key=lambda a: a not in core)
        place = {a: k for k, a in enumerate(order)}
        positions = np.array([self.position(a) for a in order])
        bonds, closed = [], []
        for a, k in place.items():
            for b in self.neighbours(a):
                if b not in place:
                    closed.append((k, self._cap(a, b, caps)))
                elif place[b] > k:
                    bonds.append((k, place[b]))
        indices = np.array([index for index, _ in order], dtype=np.int64)
        return make_piece(
            self.numbers[indices],
            positions,
            np.array([a in core for a in order]),
            indices,
            np.array(bonds, dtype=np.int64).reshape(-1, 2),
            closed,
        )

    def _cap(self, inside: AtomImage, outside: AtomImage, caps: Caps) -> Cap:
        kind = cap_kind(self.numbers, self.graph, inside[0])
        return hydrogen(self.position(outside) - self.position(inside), caps.lengths.get(kind, LENGTHS[kind]))

    def _dropped(self, chosen: dict[AtomImage, None], core: set[AtomImage]) -> list[AtomImage]:
        """Atoms that nothing in the fragment needs: loose terminal atoms and oxygens, and atoms of the network that
        hang by one bond on an atom that keeps two others."""
        inside = {a: [b for b in self.neighbours(a) if b in chosen] for a in chosen if a not in core}
        loose = [a for a, bonds in inside.items() if not bonds and self._bridges(a)]
        hanging = {a: bonds[0] for a, bonds in inside.items() if len(bonds) == 1 and self.inner[a[0]] >= 3}
        kept = {b: sum(c in chosen and c not in hanging for c in self.neighbours(b)) for b in hanging.values()}
        return loose + [a for a, b in hanging.items() if kept[b] >= 2]

    def _bridges(self, atom: AtomImage) -> bool:
        """Whether an atom is no molecule of its own, once those that it is bonded to are gone."""
        return bool(self.degree[atom[0]] == 1 or self.inner[atom[0]] >= 2)

    def _missing(self, chosen: dict[AtomImage, None]) -> list[AtomImage]:
        """Atoms outside that must come in."""
        holders: dict[AtomImage, list[AtomImage]] = {}
        for a in chosen:
            for b in self.neighbours(a):
                if b not in chosen:
                    holders.setdefault(b, []).append(a)
        missing = []
        for b, inside in holders.items():
            number = int(self.numbers[b[0]])
            oxygen = number == 8 and any(int(self.numbers[a[0]]) in _CENTRES for a in inside)
            if self.degree[b[0]] == 1 or oxygen or self._clash(b, inside):
                missing.append(b)
        return missing

    def _clash(self, lost: AtomImage, holders: Sequence[AtomImage]) -> bool:
        """Whether hydrogens that replace one atom would come too close to each other."""
        if len(holders) < 2 or any(is_metal(self.numbers[[a for a, _ in holders]])):
            return False
        ends = [self.position(a) + self._cap(a, lost, DEFAULT_CAPS).vectors[0] for a in holders]
        return any(np.linalg.norm(p - q) < _CLASH for p, q in combinations(ends, 2))
