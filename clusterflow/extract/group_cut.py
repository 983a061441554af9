"""Finite reference pieces of a frame in groups, and the fragments that whole groups of them make.

Both are closed alike: a metal keeps all that it is bonded to, cut bonds get hydrogen, and donors that lost their metal
are protonated until the piece is neutral, azolates always, as in `clusterflow.extract.fragment`.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

import numpy as np
from ase import Atoms
from ase.data import chemical_symbols
from matscipy.neighbours import neighbour_list

from clusterflow.core.data import BoolArray, Fragment, IntArray, Site
from clusterflow.core.frames import content_hash, formula
from clusterflow.errors import ExtractionError, InputError, StructureError
from clusterflow.extract.cut import HOME, BlockImage, Frame, assemble
from clusterflow.extract.electrons import count_electrons, unsaturated, unsaturated_error
from clusterflow.extract.fragment import close
from clusterflow.extract.functional_groups import (
    GROUP_COST,
    GroupedPiece,
    check_site,
    completed,
    functional_groups,
    grouped,
    keepers,
)
from clusterflow.extract.piece import Donor, Piece, add_caps, make_piece
from clusterflow.extract.protonation import choose_protons
from clusterflow.extract.termination import LENGTHS, Caps, cap_kind, hydrogen
from clusterflow.physics.bonds import BondGraph, check_distances
from clusterflow.physics.building_blocks import Blocks, find_blocks
from clusterflow.physics.elements import is_metal

_DEFAULT_CAPS = Caps()
_TOO_CLOSE = 0.5
"""Two atoms of a fragment closer than this times the sum of their covalent radii are refused."""


def reference_piece(
    atoms: Atoms, site: int, radius: float, *, blocks: Blocks | None = None, max_cost: float = GROUP_COST
) -> tuple[GroupedPiece, int]:
    """All groups of a frame with an atom within ``radius`` (Å) of one atom, as a finite, saturated piece.

    Groups end at the bonds between the blocks of the frame (``blocks``, where they are known), too: each metal of a
    rod or of a ZIF is one. ``max_cost`` as in `grouped`. What a metal or T atom is bonded to is added; donors that lost
    their metal are protonated as in `cut_groups`. Returns the piece and the place of the site in it. A finite frame is
    its own reference, whatever the radius.

    Raises
    ------
    InputError
        There is no such atom, or the radius is not positive.
    StructureError
        The frame has no building blocks.
    ExtractionError
        What is cut cannot be saturated (an endless rod, a bond that hydrogen cannot close).
    """
    check_site(atoms, site)
    if not (np.isfinite(radius) and radius > 0.0):
        raise InputError(f"A radius of {radius} Å holds no atoms.", todo="Give a radius such as 10 Å.")
    if not atoms.pbc.any():
        return grouped(atoms, max_cost=max_cost), site
    frame = Frame.of(atoms, blocks)
    start: BlockImage = (int(frame.blocks.labels[site]), HOME)
    near = [image for image in _blocks_within(frame, site, radius) if image != start]
    images, _ = close(frame, [start, *near])
    piece = assemble(frame, images[:1], images[1:], [])
    owner = np.repeat(np.arange(len(images)), [len(frame.blocks.members(block)) for block, _ in images])
    owner = _with_caps(piece, owner)
    groups = []
    for members in functional_groups(piece.atoms, find_blocks(piece.atoms, piece.graph, max_cost=max_cost)):
        groups += [members[owner[members] == k] for k in np.unique(owner[members])]
    tetrahedral = np.flatnonzero(np.isin(piece.parent, keepers(atoms, frame.blocks)))
    charge, spin = count_electrons(piece.atoms, piece.graph, [d.atom for d in piece.donors])
    whole = GroupedPiece(
        piece.atoms, piece.graph, tuple(groups), piece.parent, charge, spin, piece.donors, tetrahedral=tetrahedral
    )
    # The start block comes first and whole, its atoms ascending.
    place = int(np.flatnonzero(piece.core & (piece.parent == site))[0])
    kept = completed(whole, np.unique(whole.labels[whole.distances(place) <= radius]).tolist())
    cut, protons = _cut(whole, kept, place, _DEFAULT_CAPS)
    owner = _with_caps(cut, whole.labels[cut.parent[cut.parent >= 0]])
    reference = grouped(
        cut.atoms,
        [np.flatnonzero(owner == g) for g in sorted(kept)],
        graph=cut.graph,
        parent=np.where(cut.parent >= 0, whole.parent[cut.parent], -1),
        donors=cut.donors,
        protons=protons,
        tetrahedral=np.flatnonzero(np.isin(cut.parent, tetrahedral)),
    )
    return reference, int(np.flatnonzero(cut.parent == place)[0])


def _with_caps(piece: Piece, owner: IntArray) -> IntArray:
    """Owners (n,) of all atoms of a piece from those of the atoms before its caps: a cap goes with what holds it."""
    out = np.full(len(piece.atoms), -1, dtype=np.int64)
    out[: len(owner)] = owner
    for cap in range(len(owner), len(out)):
        out[cap] = out[piece.graph.neighbours(cap)[0]]
    return out


def cut_groups(
    piece: GroupedPiece, kept: Collection[int], site: int, *, caps: Caps = _DEFAULT_CAPS
) -> tuple[Fragment, BondGraph]:
    """The fragment of the given groups, and its bonds. Its ``parent`` indices and its site refer to the piece.

    Every cut bond to a non-metal gets a hydrogen along it, at a length by kind of cap (``caps``). A ligand without any
    metal gets one where valences ask for it, along the shortest of its old bonds (carboxylate: one of two oxygens).
    Further donors are protonated by `choose_protons` until the fragment is neutral, azolates whatever its charge; where
    it would be positive without need, protons of the piece are left out, those closest to the site first. The geometry
    is not relaxed.

    Raises
    ------
    ExtractionError
        An atom that hydrogen cannot close would be left with a cut bond, a valence stays open, or atoms overlap.
    """
    cut, _ = _cut(piece, kept, site, caps)
    charge, spin = count_electrons(cut.atoms, cut.graph, [d.atom for d in cut.donors])
    sites = (Site(content_hash(piece.atoms), site),)
    return Fragment(cut.atoms, cut.core, cut.parent, sites, "groups", charge, spin, formula(cut.atoms)), cut.graph


def in_frame(piece: GroupedPiece, fragment: Fragment, frame: Atoms) -> Fragment:
    """A fragment of `cut_groups` with parent indices and sites of the frame that its piece was cut from."""
    parent = np.where(fragment.parent >= 0, piece.parent[fragment.parent], -1)
    sites = tuple(Site(content_hash(frame), int(piece.parent[s.index])) for s in fragment.sites)
    return replace(fragment, parent=parent, sites=sites)


def _cut(piece: GroupedPiece, kept: Collection[int], site: int, caps: Caps) -> tuple[Piece, IntArray]:
    """The piece of the given groups, with the donors that stay bare, and its protons on others."""
    inside = np.isin(piece.labels, sorted(kept))
    if not inside[site]:
        raise ExtractionError(f"The groups do not hold the site, atom {site}.", todo="Keep the group of the site.")
    loose = piece.protons[inside[piece.protons]]
    loose = loose[np.argsort(piece.distances(site)[loose].round(4), kind="stable")]
    found, protons, charge = _saturated(piece, inside, site, caps)
    for proton in loose.tolist():
        if charge <= 0:
            break
        inside[proton] = False
        other = _saturated(piece, inside, site, caps)
        if other[2] < charge:
            found, protons, charge = other
        else:
            inside[proton] = True
    try:
        check_distances(found.atoms, factor=_TOO_CLOSE)
    except StructureError as error:
        raise ExtractionError(error.what, where=error.where, todo="Keep what lies between the two cuts.") from error
    return found, protons


def _saturated(piece: GroupedPiece, inside: BoolArray, site: int, caps: Caps) -> tuple[Piece, IntArray, int]:
    """The atoms ``inside`` (n,) and the hydrogens that they need; which of its hydrogens sit on donors; its charge."""
    graph, numbers, positions = piece.graph, np.asarray(piece.atoms.numbers, dtype=np.int64), piece.atoms.positions
    members = np.flatnonzero(inside)
    place = np.full(len(numbers), -1, dtype=np.int64)
    place[members] = np.arange(len(members))
    cut = np.flatnonzero(inside[graph.i] & ~inside[graph.j])
    reach = {int(graph.i[k]): _cap_length(piece, k, caps) for k in cut.tolist()}
    # A proton that is left out leaves a donor, as a lost metal does.
    given_up = is_metal(numbers)
    given_up[piece.protons] = True
    to_metal = given_up[graph.j[cut]]
    azolate = numbers[graph.i[cut]] == 7  # a neutral nitrogen takes no proton in `choose_protons`
    lost = [
        Donor(int(graph.i[k]), positions[graph.j[k]] - positions[graph.i[k]], bool(n))
        for k, n in zip(cut.tolist(), (azolate & to_metal).tolist(), strict=True)
    ]
    closed = [d for d, metal in zip(lost, to_metal.tolist(), strict=True) if not metal]
    donors = [d for d, metal in zip(lost, to_metal.tolist(), strict=True) if metal]
    for donor in piece.donors:
        if inside[donor.atom]:
            donors.append(donor)
            reach.setdefault(donor.atom, _length(numbers, graph, donor.atom, caps))
    donors.sort(key=lambda d: (round(float(np.linalg.norm(d.bond)), 6), d.atom))
    n_cut = len(closed)
    core = piece.labels[members] == piece.labels[site]
    bonds = np.stack((place[graph.i], place[graph.j]), axis=1)
    bonds = bonds[(bonds >= 0).all(axis=1) & (bonds[:, 0] < bonds[:, 1])]
    while True:
        hydrogens = [(int(place[d.atom]), hydrogen(d.bond, reach[d.atom])) for d in closed]
        found = make_piece(numbers[members], positions[members], core, members, bonds, hydrogens)
        dangling = unsaturated(found.atoms, found.graph)
        if not dangling:
            break
        # Where in a conjugated group the open valence is counted is arbitrary: any donor of that group may take it.
        open_groups = {int(piece.labels[members[d]]) for d in dangling if d < len(members)}
        closing = next((d for d in donors if int(piece.labels[d.atom]) in open_groups), None)
        if closing is None:
            raise unsaturated_error(found.atoms, dangling)
        closed.append(closing)
        donors = [d for d in donors if d.atom != closing.atom]
    bare = tuple(replace(d, atom=int(place[d.atom])) for d in donors)
    found = replace(found, donors=bare)
    chosen = choose_protons(found, np.array([reach[d.atom] for d in donors]))
    new = [(d.atom, hydrogen(d.bond, reach[int(members[d.atom])])) for d in chosen]
    taken = {d.atom for d in chosen}
    first = len(members) + n_cut
    found = replace(add_caps(found, new), donors=tuple(d for d in bare if d.atom not in taken))
    charge, _ = count_electrons(found.atoms, found.graph, [d.atom for d in found.donors])
    old = place[piece.protons[inside[piece.protons]]]
    return found, np.concatenate((old, np.arange(first, len(found.atoms)))).astype(np.int64), charge


def _cap_length(piece: GroupedPiece, bond: int, caps: Caps) -> float:
    """Å from the atom that stays to the hydrogen on a cut bond."""
    graph, numbers = piece.graph, np.asarray(piece.atoms.numbers, dtype=np.int64)
    a, b = int(graph.i[bond]), int(graph.j[bond])
    try:
        return _length(numbers, graph, a, caps)
    except ExtractionError as error:
        raise ExtractionError(
            f"The bond {chemical_symbols[numbers[a]]}{a}–{chemical_symbols[numbers[b]]}{b} would be cut, but "
            f"{chemical_symbols[numbers[a]]} cannot be closed by hydrogen.",
            where=f"{formula(piece.atoms)}, {len(piece.atoms)} atoms",
            todo="Keep the group on the other side (`completed` does for metals), or merge the two groups.",
        ) from error


def _length(numbers: IntArray, graph: BondGraph, atom: int, caps: Caps) -> float:
    kind = cap_kind(numbers, graph, atom)
    return float(caps.lengths.get(kind, LENGTHS[kind]))


def _blocks_within(frame: Frame, site: int, radius: float) -> list[BlockImage]:
    """Block images with an atom within a radius (Å) of one atom in its whole block, nearest first."""
    atoms, blocks = frame.atoms, frame.blocks
    i, j, d, s = neighbour_list("ijdS", atoms, float(radius))
    here = np.flatnonzero(i == site)
    nearest: dict[BlockImage, float] = {}
    images = blocks.offsets[site] + s[here] - blocks.offsets[j[here]]
    for other, distance, image in zip(j[here].tolist(), d[here].tolist(), images.tolist(), strict=True):
        key = (int(blocks.labels[other]), (image[0], image[1], image[2]))
        nearest[key] = min(nearest.get(key, np.inf), round(distance, 6))
    return sorted(nearest, key=lambda key: (nearest[key], key))
