"""Rules that turn sites of a frame into one fragment: core, mantle, termination, charge and spin."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product

import numpy as np
from ase import Atoms
from scipy.spatial import cKDTree

from clusterflow.core.data import Fragment, Site
from clusterflow.core.frames import digest, formula
from clusterflow.errors import ExtractionError, InputError, StructureError
from clusterflow.extract.candidates import acid_ends
from clusterflow.extract.cut import DEFAULT_CAPS, BlockImage, Frame, GroupImage
from clusterflow.extract.electrons import electrons, open_shell_metals, unsaturated, unsaturated_error
from clusterflow.extract.fragment import BLOCK_KINDS, build_fragment, check_shells
from clusterflow.extract.sites import image_range, nearest_images, site_indices
from clusterflow.extract.termination import Caps
from clusterflow.physics.bonds import bond_graph, check_distances
from clusterflow.physics.building_blocks import CUTS, DEFAULT_MAX_COST, Blocks, Cut, find_blocks
from clusterflow.physics.elements import is_metal

MANTLES = ("none", "neighbours", "linkers", "anchors")
CORES = ("block", "sites")
OPEN_SHELLS = ("refuse", "flag")
_FERROMAGNETS = frozenset({"Cr", "Mn", "Fe", "Co", "Ni", "Gd", "Tb", "Dy", "Ho", "Er", "Tm"})
"""Metals whose elements order magnetically: their spin is not that of a closed shell even in the metal."""
Mantle = str | int | float


@dataclass(frozen=True)
class BuildingBlockRule:
    """Core = the building blocks that hold the sites, mantle = blocks around them, H on every bond that is cut.

    The recipe of Dobbelaere et al. 2025 (arXiv:2504.03881), section 2.4 and SI 5–6; their choice for UiO-66 is the
    first neighbours, the default here.

    Parameters
    ----------
    mantle
        For every core block, or one per kind of core block ("node", "linker", "molecule"; a kind left out has
        "neighbours"): "none"; "neighbours" (blocks bonded to it); a whole number of shells of such neighbours; a radius
        in Å as a float (every block with an atom that close to the core); "linkers" (neighbours, and the anchoring
        groups at the far ends of those that are linkers, each protonated to be neutral); or "anchors" (of neighbouring
        nodes only the anchoring groups, protonated likewise: terephthalate becomes terephthalic acid).
    core
        "block": the whole blocks that hold the sites; "sites": the given sites alone, with the rest of their blocks in
        the mantle.
    caps
        What closes cut bonds other than hydrogen, and lengths of X–H bonds.
    open_shell
        "refuse" metals with a partly filled shell, or "flag": take the high-spin state, all ions parallel, and list the
        numbers of unpaired electrons to try.
    cuts, max_cost
        Which bonds inside linkers and molecules are cut too, as of `find_blocks`: none by default.
    min_distance_factor
        No two atoms may be closer than this times the sum of their covalent radii.
    max_atoms
        Refuse a larger fragment; None: no limit.

    Raises
    ------
    InputError
        A setting that makes no sense.
    """

    mantle: Mapping[str, Mantle] | Mantle = field(default="neighbours", hash=False)
    min_distance_factor: float = 0.55
    max_atoms: int | None = None
    core: str = "block"
    caps: Caps = DEFAULT_CAPS
    open_shell: str = "refuse"
    cuts: tuple[Cut, ...] = CUTS
    max_cost: float = DEFAULT_MAX_COST

    def __post_init__(self) -> None:
        _check_choice(self.core, CORES, "choice of core")
        _check_choice(self.open_shell, OPEN_SHELLS, "treatment of open shells")
        given = self.mantle if isinstance(self.mantle, Mapping) else dict.fromkeys(BLOCK_KINDS, self.mantle)
        for kind, value in given.items():
            _check_choice(kind, BLOCK_KINDS, "kind of building block")
            _check_mantle(value)
        if not 0.0 < self.min_distance_factor < 1.0:
            raise InputError(
                f"min_distance_factor = {self.min_distance_factor} is not between 0 and 1.",
                todo="0.55 is a good value.",
            )
        if self.max_atoms is not None and self.max_atoms < 1:
            raise InputError(
                f"max_atoms = {self.max_atoms} allows no fragment.", todo="Give a number of atoms, or none."
            )
        object.__setattr__(self, "mantle", {kind: given.get(kind, "neighbours") for kind in BLOCK_KINDS})

    @property
    def name(self) -> str:
        """All settings in one canonical line."""
        mantles = ",".join(f"{kind}={_spell(value)}" for kind, value in self._mantles.items())
        limit = "none" if self.max_atoms is None else str(self.max_atoms)
        more = "" if self.core == "block" else f";core={self.core}"
        more += f";caps:{self.caps.name}" if self.caps.name else ""
        more += "" if self.open_shell == "refuse" else f";open_shell={self.open_shell}"
        more += "" if self.max_cost == DEFAULT_MAX_COST else f";max_cost={float(self.max_cost)!r}"
        more += "" if self.cuts == CUTS else f";cuts={digest(*map(repr, self.cuts))[:12]}"
        return f"blocks(mantle:{mantles};min_distance_factor={self.min_distance_factor!r};max_atoms={limit}{more})"

    @property
    def _mantles(self) -> Mapping[str, Mantle]:
        assert isinstance(self.mantle, Mapping)
        return self.mantle

    def extract(self, atoms: Atoms, sites: Sequence[Site], *, blocks: Blocks | None = None) -> Fragment:
        """One fragment around all the sites, which must belong to this frame; ``blocks`` of the frame if known.

        The fragment is finite and whole, atoms in the order core, mantle, termination.

        Raises
        ------
        ExtractionError
            Sites that are not in the frame, a frame without building blocks, an endless block, atoms too close, a
            dangling valence, an open shell, or too many atoms.
        """
        return self._extract(frame_of(atoms, blocks, self.blocks_of), sites)

    def extract_many(
        self, atoms: Atoms, site_groups: Iterable[Sequence[Site]], *, blocks: Blocks | None = None
    ) -> list[Fragment | ExtractionError]:
        """As `extract` for many groups of sites of one frame: blocks are found once, errors returned in place.

        Raises
        ------
        ExtractionError
            The frame itself has no building blocks.
        """
        frame = frame_of(atoms, blocks, self.blocks_of)
        results: list[Fragment | ExtractionError] = []
        for sites in site_groups:
            try:
                results.append(self._extract(frame, sites))
            except ExtractionError as error:
                results.append(error)
        return results

    def blocks_of(self, atoms: Atoms) -> Blocks:
        """The building blocks that this rule knows in a frame.

        Raises
        ------
        StructureError
            As `find_blocks`.
        """
        return find_blocks(atoms, cuts=self.cuts, max_cost=self.max_cost)

    def _extract(self, frame: Frame, sites: Sequence[Site]) -> Fragment:
        indices = site_indices(frame.atoms, sites)
        core = core_images(frame, indices)
        mantle, groups = self._surround(frame, core)
        whole = np.concatenate([frame.blocks.members(block) for block, _ in core]).tolist()
        return build_fragment(
            frame,
            indices if self.core == "sites" else whole,
            [*core, *mantle],
            sites=sites,
            rule=self.name,
            groups=groups,
            caps=self.caps,
            min_distance_factor=self.min_distance_factor,
            max_atoms=self.max_atoms,
            open_shell=self.open_shell,
        )

    def _surround(self, frame: Frame, core: Sequence[BlockImage]) -> tuple[list[BlockImage], list[GroupImage]]:
        """Mantle blocks, in the order they are met, and single anchoring groups whose node is not in the fragment."""
        blocks = frame.blocks
        mantle: dict[BlockImage, None] = {}
        for start in core:
            setting = self._mantles[blocks.kinds[start[0]]]
            if isinstance(setting, float):
                mantle.update(dict.fromkeys(_within(frame, start, setting)))
            elif setting != "anchors":
                shells = {"none": 0, "neighbours": 1, "linkers": 1}[setting] if isinstance(setting, str) else setting
                mantle.update(dict.fromkeys(_shells(blocks, start, shells)))
        for start in core:
            mantle.pop(start, None)
        groups: dict[GroupImage, None] = {}
        if any(self._mantles[blocks.kinds[block]] == "linkers" for block, _ in core):
            groups.update(dict.fromkeys(acid_ends(frame, (*core, *mantle))))
        for block, (x, y, z) in core:
            if self._mantles[blocks.kinds[block]] != "anchors":
                continue
            for _, other, neighbour, (u, v, w) in blocks.links[block]:
                image = (x + u, y + v, z + w)
                present = (neighbour, image) in mantle or (neighbour, image) in core
                if blocks.kinds[neighbour] == "node" and blocks.anchor[other] >= 0 and not present:
                    groups[(int(blocks.anchor[other]), image)] = None
        return list(mantle), list(groups)


@dataclass(frozen=True)
class WholeStructure:
    """Keeps the frame as it is, as one label: a periodic parent, or a whole molecule. All atoms are core.

    ``open_shell`` as in `BuildingBlockRule`.
    """

    min_distance_factor: float = 0.55
    open_shell: str = "refuse"

    def __post_init__(self) -> None:
        _check_choice(self.open_shell, OPEN_SHELLS, "treatment of open shells")

    @property
    def name(self) -> str:
        """All settings in one canonical line."""
        more = "" if self.open_shell == "refuse" else f";open_shell={self.open_shell}"
        return f"whole(min_distance_factor={self.min_distance_factor!r}{more})"

    def extract(self, atoms: Atoms, sites: Sequence[Site]) -> Fragment:
        """The frame with its cell and boundary conditions; a periodic cell is taken to be neutral.

        Raises
        ------
        ExtractionError
            Atoms too close, a dangling valence, or metals with an open shell.
        """
        site_indices(atoms, sites)
        try:
            check_distances(atoms, factor=self.min_distance_factor)
            graph = bond_graph(atoms)
        except StructureError as error:
            raise ExtractionError(error.what, where=error.where, todo=error.todo) from error
        metallic = bool(is_metal(np.asarray(atoms.numbers, dtype=np.int64)).all())
        if self.open_shell != "flag" and not (metallic and not set(atoms.symbols) & _FERROMAGNETS):
            check_shells(atoms)
        if atoms.pbc.any() and (metallic or not open_shell_metals(atoms)):
            dangling = unsaturated(atoms, graph)
            if dangling:
                raise unsaturated_error(atoms, dangling)
            charge, spin = 0, int(atoms.numbers.sum()) % 2
            spins: tuple[int, ...] = (spin,)
        else:
            state = electrons(atoms, graph)
            charge, spin, spins = (0 if atoms.pbc.any() else state.charge), state.spin, state.to_try
        return Fragment(
            atoms=Atoms(numbers=atoms.numbers, positions=atoms.positions, cell=atoms.cell, pbc=atoms.pbc),
            core=np.ones(len(atoms), dtype=bool),
            parent=np.arange(len(atoms), dtype=np.int64),
            sites=tuple(sites),
            rule=self.name,
            charge=charge,
            spin=spin,
            kind=f"{'periodic' if atoms.pbc.any() else 'molecule'}:{formula(atoms)}",
            spins_to_try=spins,
        )


def _check_choice(value: str, allowed: Sequence[str], what: str) -> None:
    if value in allowed:
        return
    near = difflib.get_close_matches(str(value), allowed, n=1)
    raise InputError(
        f"'{value}' is not a {what}; allowed: {', '.join(allowed)}.",
        todo=f"Did you mean '{near[0]}'?" if near else "Take one of these.",
    )


def _check_mantle(value: Mantle) -> None:
    if isinstance(value, str):
        _check_choice(value, MANTLES, "mantle (nor is it a number of shells or a radius in Å)")
    elif isinstance(value, bool) or not value >= 0 or not np.isfinite(value):
        raise InputError(
            f"A mantle of {value!r} makes no sense.", todo="Give a number of shells (0, 1, 2, …) or a radius in Å."
        )


def _spell(value: Mantle) -> str:
    if isinstance(value, float):
        return f"{value!r}A"
    return str({"none": 0, "neighbours": 1}.get(value, value) if isinstance(value, str) else value)


def frame_of(atoms: Atoms, blocks: Blocks | None, find: Callable[[Atoms], Blocks] = find_blocks) -> Frame:
    """The frame with its blocks, found by ``find`` unless they are known.

    Raises
    ------
    ExtractionError
        It has none.
    """
    try:
        return Frame.of(atoms, find(atoms) if blocks is None else blocks)
    except StructureError as error:  # one bad frame of a trajectory is no reason to end a campaign
        raise ExtractionError(error.what, where=error.where, todo=error.todo) from error


def core_images(frame: Frame, indices: Sequence[int]) -> list[BlockImage]:
    """Blocks that hold the atoms, the first where it is whole, every other in its image closest to the first."""
    blocks = frame.blocks
    sites: dict[int, int] = {}
    for index in indices:
        sites.setdefault(int(blocks.labels[index]), index)
    chosen = sorted(sites)
    whole = np.array([frame.atoms.positions[sites[b]] + blocks.offsets[sites[b]] @ frame.cell for b in chosen])
    return list(zip(chosen, nearest_images(frame.atoms, whole), strict=True))


def _shells(blocks: Blocks, start: BlockImage, shells: int) -> list[BlockImage]:
    """Block images within a number of links of one, breadth first, without itself."""
    seen = {start: None}
    frontier = [start]
    for _ in range(shells):
        found = []
        for block, (x, y, z) in frontier:
            for _own, _other, neighbour, (u, v, w) in blocks.links[block]:
                candidate = (neighbour, (x + u, y + v, z + w))
                if candidate not in seen:
                    seen[candidate] = None
                    found.append(candidate)
        frontier = found
    return list(seen)[1:]


def _within(frame: Frame, start: BlockImage, radius: float) -> list[BlockImage]:
    """Block images with an atom within a radius (Å) of one block image, nearest first."""
    block, image = start
    part = frame.block(block)
    core = part.positions + image @ frame.cell
    atoms, blocks = frame.atoms, frame.blocks
    centre = core.mean(axis=0)
    reach = float(np.linalg.norm(core - centre, axis=1).max()) + radius
    cells, trials = image_range(atoms, centre, reach)
    tree = cKDTree(core)
    nearest: dict[BlockImage, float] = {}
    for trial in product(*trials):
        moved = cells + np.array(trial)
        distance, _ = tree.query(atoms.positions + moved @ frame.cell, distance_upper_bound=radius)
        for atom in np.flatnonzero(np.isfinite(distance)).tolist():
            x, y, z = (moved[atom] - blocks.offsets[atom]).tolist()
            key = (int(blocks.labels[atom]), (x, y, z))
            nearest[key] = min(nearest.get(key, np.inf), round(float(distance[atom]), 6))
    nearest.pop(start, None)
    return sorted(nearest, key=lambda key: (nearest[key], key))
