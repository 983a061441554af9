"""Sites of a frame: which atoms they are, in which images they lie together, and which of them can share a core."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import numpy as np
from ase import Atoms
from ase.geometry import find_mic

from clusterflow.core.data import FloatArray, IntArray, Site
from clusterflow.core.frames import formula
from clusterflow.errors import ExtractionError, InputError
from clusterflow.extract.cut import HOME, Frame, Image


def site_indices(atoms: Atoms, sites: Sequence[Site]) -> list[int]:
    """The atoms of the sites, ascending, each once.

    Raises
    ------
    ExtractionError
        There are none, or they are of several frames, or not in this one.
    """
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


def nearest_images(atoms: Atoms, positions: FloatArray) -> list[Image]:
    """Cells to add to points (k, 3) Å so that each is as close as can be to the first, which stays."""
    images: list[Image] = [HOME]
    near = [range(-1, 2) if periodic else range(1) for periodic in atoms.pbc]
    for vector in positions[1:] - positions[0]:
        base = np.zeros(3, dtype=np.int64)
        if atoms.pbc.any():
            base = np.where(atoms.pbc, -np.rint(atoms.cell.scaled_positions(vector)), 0).astype(np.int64)
        trials = [base + trial for trial in product(*near)]
        # Rounded, so that equally close images are told apart by their numbers and not by the last bit.
        best = min(
            trials, key=lambda im: (round(float(np.linalg.norm(vector + im @ atoms.cell.array)), 6), im.tolist())
        )
        images.append((int(best[0]), int(best[1]), int(best[2])))
    return images


def image_range(atoms: Atoms, centre: FloatArray, reach: float) -> tuple[IntArray, list[range]]:
    """Cells (n, 3) that bring every atom next to a point (3,) Å, and along each axis the further cells that hold
    whatever lies within ``reach`` (Å) of it."""
    cells = np.zeros((len(atoms), 3), dtype=np.int64)
    if not atoms.pbc.any():
        return cells, [range(1)] * 3
    full = atoms.cell.complete()
    scaled = full.scaled_positions(atoms.positions - centre)
    cells = np.where(atoms.pbc, -np.rint(scaled), 0).astype(np.int64)
    heights = 1.0 / np.linalg.norm(np.linalg.inv(full.array), axis=0)
    most = np.where(atoms.pbc, np.floor(reach / heights + 0.5), 0).astype(int).tolist()
    return cells, [range(-m, m + 1) for m in most]


def group_sites(frame: Frame, sites: Sequence[Site], max_distance: float) -> list[list[Site]]:
    """Sites that may share one core: in the same block or in bonded ones, and no two farther apart than
    ``max_distance`` (Å, nearest images).

    In the given order (most uncertain first, say), each site joins the first group that takes it, or starts its own.

    Raises
    ------
    InputError
        A distance that is not positive.
    ExtractionError
        As `site_indices`.
    """
    if not max_distance > 0.0:
        raise InputError(f"Sites at most {max_distance} Å apart cannot share a core.", todo="4 Å is a good distance.")
    if not sites:
        return []
    site_indices(frame.atoms, sites)
    blocks, positions = frame.blocks, frame.atoms.positions
    groups: list[list[Site]] = []
    for site in dict.fromkeys(sites):
        own = int(blocks.labels[site.index])
        beside = {own, *(link[2] for link in blocks.links[own])}
        for group in groups:
            members = [other.index for other in group]
            if not beside & set(blocks.labels[members].tolist()):
                continue
            _, distance = find_mic(positions[members] - positions[site.index], frame.cell, frame.atoms.pbc)
            if (distance <= max_distance).all():
                group.append(site)
                break
        else:
            groups.append([site])
    return groups
