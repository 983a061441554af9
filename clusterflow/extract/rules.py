"""Rules that turn sites of a frame into one fragment: core, mantle, termination, charge and spin."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product

import numpy as np
from ase import Atoms
from ase.data import chemical_symbols
from scipy.spatial import cKDTree
from scipy.spatial.distance import pdist

from clusterflow.core.data import FloatArray, Fragment, Site
from clusterflow.core.frames import formula
from clusterflow.errors import ExtractionError, InputError, StructureError
from clusterflow.extract.cut import HOME, BlockImage, Frame, GroupImage, Piece, assemble
from clusterflow.extract.electrons import count_electrons, open_shell_metals, unsaturated, unsaturated_error
from clusterflow.physics.bonds import BondGraph, bond_graph, check_distances
from clusterflow.physics.building_blocks import Blocks
from clusterflow.physics.elements import COVALENT_RADII

BLOCK_KINDS = ("node", "linker", "molecule")
MANTLES = ("none", "neighbours", "anchors")
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
        in Å as a float (every block with an atom that close to the core); or "anchors" (of neighbouring nodes only the
        anchoring groups, each protonated to be neutral: terephthalate becomes terephthalic acid).
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

    def __post_init__(self) -> None:
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
        return f"blocks(mantle:{mantles};min_distance_factor={self.min_distance_factor!r};max_atoms={limit})"

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
        return self._extract(_frame(atoms, blocks), sites)

    def extract_many(
        self, atoms: Atoms, site_groups: Iterable[Sequence[Site]], *, blocks: Blocks | None = None
    ) -> list[Fragment | ExtractionError]:
        """As `extract` for many groups of sites of one frame: blocks are found once, errors returned in place.

        Raises
        ------
        ExtractionError
            The frame itself has no building blocks.
        """
        frame = _frame(atoms, blocks)
        results: list[Fragment | ExtractionError] = []
        for sites in site_groups:
            try:
                results.append(self._extract(frame, sites))
            except ExtractionError as error:
                results.append(error)
        return results

    def _extract(self, frame: Frame, sites: Sequence[Site]) -> Fragment:
        core = _core(frame, _site_indices(frame.atoms, sites))
        try:
            mantle, groups = self._surround(frame, core)
            piece = assemble(frame, core, mantle, groups)
            if self.max_atoms is not None and len(piece.atoms) > self.max_atoms:
                raise ExtractionError(
                    f"The fragment has {len(piece.atoms)} atoms, more than max_atoms = {self.max_atoms}.",
                    todo="Raise max_atoms or choose a smaller mantle.",
                )
            _check_contacts(piece, self.min_distance_factor)
            charge, spin = _closed_shell(piece.atoms, piece.graph)
        except ExtractionError as error:
            where = "; ".join(part for part in (_describe(frame, core), error.where) if part)
            raise ExtractionError(error.what, where=where, todo=error.todo) from error
        kinds = [frame.blocks.kinds[block] for block, _ in core]
        return Fragment(
            atoms=piece.atoms,
            core=piece.core,
            parent=piece.parent,
            sites=tuple(sites),
            rule=self.name,
            charge=charge,
            spin=spin,
            kind=f"{'+'.join(sorted(kinds, key=BLOCK_KINDS.index))}:{_core_formula(frame, core)}",
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
                shells = {"none": 0, "neighbours": 1}[setting] if isinstance(setting, str) else setting
                mantle.update(dict.fromkeys(_shells(blocks, start, shells)))
        for start in core:
            mantle.pop(start, None)
        groups: dict[GroupImage, None] = {}
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
    """Keeps the frame as it is, as one label: a periodic parent, or a whole molecule. All atoms are core."""

    min_distance_factor: float = 0.55

    @property
    def name(self) -> str:
        """All settings in one canonical line."""
        return f"whole(min_distance_factor={self.min_distance_factor!r})"

    def extract(self, atoms: Atoms, sites: Sequence[Site]) -> Fragment:
        """The frame with its cell and boundary conditions; a periodic cell is taken to be neutral.

        Raises
        ------
        ExtractionError
            Atoms too close, a dangling valence, or metals with an open shell.
        """
        _site_indices(atoms, sites)
        try:
            check_distances(atoms, factor=self.min_distance_factor)
            graph = bond_graph(atoms)
        except StructureError as error:
            raise ExtractionError(error.what, where=error.where, todo=error.todo) from error
        _check_shells(atoms)
        if atoms.pbc.any():
            dangling = unsaturated(atoms, graph)
            if dangling:
                raise unsaturated_error(atoms, dangling)
            charge, spin = 0, int(atoms.numbers.sum()) % 2
        else:
            charge, spin = count_electrons(atoms, graph)
        return Fragment(
            atoms=Atoms(numbers=atoms.numbers, positions=atoms.positions, cell=atoms.cell, pbc=atoms.pbc),
            core=np.ones(len(atoms), dtype=bool),
            parent=np.arange(len(atoms), dtype=np.int64),
            sites=tuple(sites),
            rule=self.name,
            charge=charge,
            spin=spin,
            kind=f"{'periodic' if atoms.pbc.any() else 'molecule'}:{formula(atoms)}",
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


def _frame(atoms: Atoms, blocks: Blocks | None) -> Frame:
    try:
        return Frame.of(atoms, blocks)
    except StructureError as error:  # one bad frame of a trajectory is no reason to end a campaign
        raise ExtractionError(error.what, where=error.where, todo=error.todo) from error


def _site_indices(atoms: Atoms, sites: Sequence[Site]) -> list[int]:
    """The atoms of the sites, ascending, each once."""
    indices = sorted({site.index for site in sites})
    frames = {site.frame_id for site in sites}
    if len(frames) != 1 or indices[0] < 0 or indices[-1] >= len(atoms):
        raise ExtractionError(
            f"A fragment needs sites of one frame with indices from 0 to {len(atoms) - 1}; these are "
            f"{len(sites)} sites of {len(frames)} frames with indices {indices[:8]}.",
            where=f"{formula(atoms)}, {len(atoms)} atoms",
            todo="Pass sites that were selected in this very frame.",
        )
    return indices


def _core(frame: Frame, indices: Sequence[int]) -> list[BlockImage]:
    """Blocks that hold the atoms, the first where it is whole, every other in its image closest to the first."""
    blocks = frame.blocks
    sites: dict[int, int] = {}
    for index in indices:
        sites.setdefault(int(blocks.labels[index]), index)
    chosen = sorted(sites)
    whole = {b: frame.atoms.positions[sites[b]] + blocks.offsets[sites[b]] @ frame.cell for b in chosen}
    near = [range(-1, 2) if periodic else range(1) for periodic in frame.atoms.pbc]
    core: list[BlockImage] = [(chosen[0], HOME)]
    for block in chosen[1:]:
        vector = whole[block] - whole[chosen[0]]
        base = np.zeros(3, dtype=np.int64)
        if frame.atoms.pbc.any():
            base = np.where(frame.atoms.pbc, -np.rint(frame.atoms.cell.scaled_positions(vector)), 0).astype(np.int64)
        images = [base + trial for trial in product(*near)]
        # Rounded, so that equally close images are told apart by their numbers and not by the last bit.
        best = min(images, key=lambda im: (round(float(np.linalg.norm(vector + im @ frame.cell)), 6), im.tolist()))
        core.append((block, (int(best[0]), int(best[1]), int(best[2]))))
    return core


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
    cells = np.zeros((len(atoms), 3), dtype=np.int64)
    trials = [range(1)] * 3
    if atoms.pbc.any():
        full = atoms.cell.complete()
        scaled = full.scaled_positions(atoms.positions - centre)
        cells = np.where(atoms.pbc, -np.rint(scaled), 0).astype(np.int64)
        heights = 1.0 / np.linalg.norm(np.linalg.inv(full.array), axis=0)
        most = np.where(atoms.pbc, np.floor(reach / heights + 0.5), 0).astype(int).tolist()
        trials = [range(-m, m + 1) for m in most]
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


def _core_formula(frame: Frame, core: Sequence[BlockImage]) -> str:
    if len(core) == 1:
        return frame.blocks.formulas[core[0][0]]
    return formula(frame.atoms[np.concatenate([frame.blocks.members(block) for block, _ in core])])


def _describe(frame: Frame, core: Sequence[BlockImage]) -> str:
    """Where an error happened: the core and the frame."""
    names = ", ".join(
        f"{frame.blocks.kinds[b]} {frame.blocks.formulas[b]} (atoms {frame.blocks.members(b)[:4].tolist()}, …)"
        for b, _ in core
    )
    return f"core {names} of {formula(frame.atoms)}, {len(frame.atoms)} atoms"


def _check_contacts(piece: Piece, factor: float) -> None:
    """Refuses atoms closer than ``factor`` × the sum of covalent radii."""
    radii: FloatArray = COVALENT_RADII[piece.atoms.numbers]
    distance = pdist(piece.atoms.positions)
    close = np.flatnonzero(distance < 2.0 * factor * radii.max())
    n = len(radii)
    # Row and column of the condensed distances: row i starts at i·n − i(i + 1)/2 − i − 1 + (i + 1).
    starts = np.cumsum(np.arange(n - 1, 0, -1)) if n > 1 else np.zeros(0, dtype=np.int64)
    rows = np.searchsorted(starts, close, side="right")
    columns = close - np.r_[0, starts][rows] + rows + 1
    limit = factor * (radii[rows] + radii[columns])
    bad = np.flatnonzero(distance[close] < limit)
    if len(bad) == 0:
        return
    pairs = "; ".join(
        f"{_name(piece, int(rows[k]))}–{_name(piece, int(columns[k]))} {distance[close[k]]:.3f} Å "
        f"(limit {limit[k]:.3f} Å)"
        for k in bad[:5].tolist()
    )
    raise ExtractionError(
        f"{len(bad)} pair(s) of atoms would be too close: {pairs}.",
        todo="Two cuts that point at each other need a mantle that keeps what lies between them; for atoms of the "
        "parent, the frame itself is out of order.",
    )


def _name(piece: Piece, k: int) -> str:
    parent = int(piece.parent[k])
    return f"{chemical_symbols[piece.atoms.numbers[k]]}{parent if parent >= 0 else ' (termination)'}"


def _closed_shell(atoms: Atoms, graph: BondGraph) -> tuple[int, int]:
    """Charge and spin of a fragment that must have a closed shell."""
    _check_shells(atoms)
    charge, spin = count_electrons(atoms, graph)
    if spin:
        raise ExtractionError(
            f"The fragment {formula(atoms)} with charge {charge:+d} has {spin} unpaired electron(s).",
            todo="Look for a missing or extra hydrogen in the parent frame.",
        )
    return charge, spin


def _check_shells(atoms: Atoms) -> None:
    open_shells = open_shell_metals(atoms)
    if open_shells:
        raise ExtractionError(
            f"The spin state of {', '.join(open_shells)} cannot be told from the structure: partly filled shell.",
            where=f"{formula(atoms)}, {len(atoms)} atoms",
            todo="This version labels closed-shell structures only.",
        )
