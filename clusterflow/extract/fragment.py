"""Builds one fragment from chosen images of building blocks: closure, termination, protons, charge and spin."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from ase import Atoms
from ase.data import chemical_symbols
from scipy.spatial.distance import pdist

from clusterflow.core.data import FloatArray, Fragment, Site
from clusterflow.core.frames import formula
from clusterflow.errors import ExtractionError
from clusterflow.extract.cut import DEFAULT_CAPS, BlockImage, Frame, GroupImage, Image, assemble
from clusterflow.extract.electrons import Electrons, electrons, open_shell_metals
from clusterflow.extract.piece import Piece, add_caps
from clusterflow.extract.protonation import choose_protons
from clusterflow.extract.termination import Caps
from clusterflow.physics.elements import COVALENT_RADII

BLOCK_KINDS = ("node", "linker", "molecule")


def build_fragment(
    frame: Frame,
    core_atoms: Sequence[int],
    images: Sequence[BlockImage],
    *,
    sites: Sequence[Site],
    rule: str,
    groups: Sequence[GroupImage] = (),
    caps: Caps = DEFAULT_CAPS,
    min_distance_factor: float = 0.55,
    max_atoms: int | None = None,
    open_shell: str = "refuse",
) -> Fragment:
    """The fragment made of these block images and single anchoring groups, terminated, with its charge and spin.

    Blocks without which a metal (or a T-atom of a zeolite) would be bare are added. Of ``core_atoms`` (indices of the
    parent) the first image in the list that holds each is core; atoms come in the order core, mantle, termination.
    Donors that lost their metal are protonated until the fragment is neutral. ``open_shell``: "refuse", or "flag" for
    a fragment with the high-spin state and the spins to try. ``rule`` is only recorded.

    Raises
    ------
    ExtractionError
        An endless fragment, a cap that makes no sense, atoms closer than ``min_distance_factor`` × the sum of their
        covalent radii, a dangling valence, an open shell (unless flagged), or more than ``max_atoms`` atoms.
    """
    core = np.unique(np.asarray(core_atoms, dtype=np.int64))
    labels = set(frame.blocks.labels[core].tolist())
    core_blocks = list(dict.fromkeys(block for block, _ in images if block in labels))
    try:
        chosen, formates = close(frame, images, caps)
        whole = set(chosen)
        loose = [(g, image) for g, image in groups if (frame.group(g).block, image) not in whole]
        piece = assemble(frame, chosen, (), loose, formates=formates, core_atoms=core.tolist(), caps=caps)
        lengths = np.array([frame.length(int(piece.parent[d.atom]), caps) for d in piece.donors])
        protons = choose_protons(piece, lengths)
        new = [(d.atom, frame.hydrogen(int(piece.parent[d.atom]), d.bond, caps)) for d in protons]
        piece = add_caps(piece, new)
        check_size(piece, max_atoms)
        check_contacts(piece, min_distance_factor)
        state = shells(piece, open_shell)
    except ExtractionError as error:
        where = "; ".join(part for part in (_describe(frame, core_blocks), error.where) if part)
        raise ExtractionError(error.what, where=where, todo=error.todo) from error
    kinds = [frame.blocks.kinds[block] for block in core_blocks]
    return Fragment(
        atoms=piece.atoms,
        core=piece.core,
        parent=piece.parent,
        sites=tuple(sites),
        rule=rule,
        charge=state.charge,
        spin=state.spin,
        kind=f"{'+'.join(sorted(kinds, key=BLOCK_KINDS.index))}:{_core_formula(frame, core_blocks)}",
        spins_to_try=state.to_try,
    )


def close(
    frame: Frame, images: Sequence[BlockImage], caps: Caps = DEFAULT_CAPS
) -> tuple[list[BlockImage], list[GroupImage]]:
    """The block images in the given order, then those without which an atom that must keep its bonds would lose one;
    and the carboxylates (carbon atom, image) that stand for a linker where the user wants formate.

    Raises
    ------
    ExtractionError
        The closure has no end: a chain, layer or network of atoms none of which may be cut off. Or formate is to take
        the place of something else than a carboxylate.
    """
    came_from: dict[BlockImage, BlockImage | None] = dict.fromkeys(images)
    todo = list(came_from)
    formates: dict[GroupImage, BlockImage] = {}
    waters: dict[tuple[int, Image], tuple[int, BlockImage]] = {}
    for here in todo:
        block, (x, y, z) = here
        for link in frame.links(frame.block(block)):
            choice = caps.of(link.rule)
            if link.end != "keep" or choice == "none":
                continue
            u, v, w = link.image
            there = (link.neighbour, (x + u, y + v, z + w))
            if choice == "OH2" and waters.setdefault((link.other, there[1]), (link.own, here)) == (link.own, here):
                continue  # a donor that bridges two metals of the fragment stays, as two waters could not
            centre = frame.carboxylate_of(link.other) if choice == "formate" else -1
            if centre >= 0:
                formates[(centre, there[1])] = there
            elif there not in came_from:
                came_from[there] = here
                _check_end(frame, there, came_from)
                todo.append(there)
    return todo, [formate for formate, whole in formates.items() if whole not in came_from]


def _check_end(frame: Frame, start: BlockImage, came_from: dict[BlockImage, BlockImage | None]) -> None:
    """A block that must keep another image of itself must keep them all."""
    step = came_from[start]
    while step is not None:
        if step[0] == start[0]:
            names = sorted({frame.blocks.formulas[start[0]]})
            raise ExtractionError(
                f"Bonds that may not be cut lead from {', '.join(names)} (atoms "
                f"{frame.blocks.members(start[0])[:4].tolist()}, …) to its own images: no finite fragment can hold it.",
                todo="Keep the whole periodic structure as one label (extract: {kind: whole}), or let the metal be "
                'closed by water (caps: {"name of the cut": OH2}).',
            )
        step = came_from[step]


def shells(piece: Piece, open_shell: str = "refuse") -> Electrons:
    """Charge and spin of a piece.

    Raises
    ------
    ExtractionError
        A dangling valence; a partly filled metal shell, unless ``open_shell`` is "flag"; unpaired electrons otherwise.
    """
    if open_shell != "flag":
        check_shells(piece.atoms)
    state = electrons(piece.atoms, piece.graph, [d.atom for d in piece.donors])
    if state.spin and not open_shell_metals(piece.atoms):
        raise ExtractionError(
            f"The fragment {formula(piece.atoms)} with charge {state.charge:+d} has {state.spin} unpaired electron(s).",
            todo="Look for a missing or extra hydrogen in the parent frame.",
        )
    return state


def check_shells(atoms: Atoms) -> None:
    """Refuses metals with a partly filled shell.

    Raises
    ------
    ExtractionError
        Names them.
    """
    found = open_shell_metals(atoms)
    if found:
        raise ExtractionError(
            f"The spin state of {', '.join(found)} cannot be told from the structure: partly filled shell.",
            where=f"{formula(atoms)}, {len(atoms)} atoms",
            todo="With open_shell: flag the fragment gets its high-spin state, and the spins to try.",
        )


def _core_formula(frame: Frame, core: Sequence[int]) -> str:
    if len(core) == 1:
        return frame.blocks.formulas[core[0]]
    return formula(frame.atoms[np.concatenate([frame.blocks.members(block) for block in core])])


def _describe(frame: Frame, core: Sequence[int]) -> str:
    """Where an error happened: the core and the frame."""
    names = ", ".join(
        f"{frame.blocks.kinds[b]} {frame.blocks.formulas[b]} (atoms {frame.blocks.members(b)[:4].tolist()}, …)"
        for b in core
    )
    return f"core {names} of {formula(frame.atoms)}, {len(frame.atoms)} atoms"


def check_size(piece: Piece, max_atoms: int | None) -> None:
    """Refuses a piece with more than ``max_atoms`` atoms.

    Raises
    ------
    ExtractionError
        It has more.
    """
    if max_atoms is not None and len(piece.atoms) > max_atoms:
        raise ExtractionError(
            f"The fragment has {len(piece.atoms)} atoms, more than max_atoms = {max_atoms}.",
            todo="Raise max_atoms or choose a smaller mantle.",
        )


def check_contacts(piece: Piece, factor: float) -> None:
    """Refuses atoms closer than ``factor`` × the sum of covalent radii.

    Raises
    ------
    ExtractionError
        Names the pairs.
    """
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
