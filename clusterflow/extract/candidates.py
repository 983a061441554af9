"""Candidate surroundings of a core, from the smallest up: what a certificate may choose from.

A candidate is a set of whole building blocks (in chosen images), and of single anchoring groups that close the outer
linkers as acids. The nearest blocks come first: a block enters with its distance from the nearest core atom, so that
the candidates are nested. Distance, not the number of bonds, is what orders them, because it works for frameworks,
molecular liquids and mixtures of both, and because a site at one end of a large block then need not drag along what
surrounds the other end.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
from scipy.spatial import cKDTree

from clusterflow.core.data import FloatArray, IntArray
from clusterflow.extract.cut import BlockImage, Frame, GroupImage
from clusterflow.extract.sites import image_range

SAME_STEP = 0.35
"""Å: blocks whose distances differ by less enter together, as symmetry-equivalent ones should in a warm crystal."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """``images`` whole blocks, those of the core first; ``groups`` anchoring groups that close outer linkers;
    ``radius`` in Å: every block with an atom that close to the core is in it."""

    images: tuple[BlockImage, ...]
    groups: tuple[GroupImage, ...]
    radius: float

    @property
    def name(self) -> str:
        """Short and readable."""
        return f"{self.radius:.1f} Å{' + acids' if self.groups else ''}"


@dataclass(frozen=True)
class Surroundings:
    """The atoms of the parent, in all images, within ``radius`` (Å) of some ``core`` atoms (k, 3).

    ``atoms`` (m,) indices in the parent, ``cells`` (m, 3) where each is, ``positions`` (m, 3) in Å, ``distance`` (m,)
    to the nearest core atom.
    """

    frame: Frame
    core: FloatArray
    radius: float
    atoms: IntArray
    cells: IntArray
    positions: FloatArray
    distance: FloatArray

    @classmethod
    def of(cls, frame: Frame, core: FloatArray, radius: float) -> Surroundings:
        """Around the core positions (k, 3) in Å."""
        atoms = frame.atoms
        centre = core.mean(axis=0)
        reach = float(np.linalg.norm(core - centre, axis=1).max()) + radius
        cells, trials = image_range(atoms, centre, reach)
        tree = cKDTree(core)
        found: list[tuple[IntArray, IntArray, FloatArray, FloatArray]] = []
        for trial in product(*trials):
            moved = cells + np.array(trial)
            positions = atoms.positions + moved @ frame.cell
            near = np.flatnonzero(((positions - centre) ** 2).sum(axis=1) <= reach**2)
            distance, _ = tree.query(positions[near], distance_upper_bound=radius)
            inside = np.isfinite(distance)
            near = near[inside]
            found.append((near.astype(np.int64), moved[near], positions[near], distance[inside]))
        index, where, positions, distance = (np.concatenate(part) for part in zip(*found, strict=True))
        return cls(frame, core, radius, index, where, positions, distance)

    def blocks(self) -> dict[BlockImage, float]:
        """Block images with an atom in the surroundings, and their smallest distances, rounded to 1e-6 Å."""
        blocks = self.frame.blocks
        whole = self.cells - blocks.offsets[self.atoms]
        keys = np.column_stack((blocks.labels[self.atoms], whole))
        distinct, inverse = np.unique(keys, axis=0, return_inverse=True)
        nearest = np.full(len(distinct), np.inf)
        np.minimum.at(nearest, inverse.reshape(-1), self.distance)
        return {
            (b, (x, y, z)): round(d, 6) for (b, x, y, z), d in zip(distinct.tolist(), nearest.tolist(), strict=True)
        }


def candidates(
    surroundings: Surroundings, core: Sequence[BlockImage], *, max_radius: float, max_atoms: int
) -> list[Candidate]:
    """Nested candidates around a core, smallest first, each with and without acid ends.

    ``core`` are the block images that hold the core atoms. Candidates end at ``max_radius`` (Å) or with the last that
    has at most ``max_atoms`` atoms of the parent; the first, the core blocks alone, is always there.
    """
    frame = surroundings.frame
    inside = set(core)
    outside = sorted((d, key) for key, d in surroundings.blocks().items() if key not in inside and d <= max_radius)
    images = list(core)
    found = [Candidate(tuple(images), (), 0.0)]
    size = sum(len(frame.blocks.members(block)) for block, _ in core)
    place = 0
    while place < len(outside):
        first = outside[place][0]
        step = [key for d, key in outside[place:] if d <= first + SAME_STEP]
        place += len(step)
        images += step
        size += sum(len(frame.blocks.members(block)) for block, _ in step)
        if size > max_atoms:
            break
        found.append(Candidate(tuple(images), (), first))
    result = []
    for candidate in found:
        result.append(candidate)
        groups = acid_ends(frame, candidate.images)
        if groups:
            result.append(Candidate(candidate.images, groups, candidate.radius))
    return result


def acid_ends(frame: Frame, images: Iterable[BlockImage]) -> tuple[GroupImage, ...]:
    """The anchoring groups on the other side of every cut bond between a linker in the fragment and a node outside."""
    blocks = frame.blocks
    images = tuple(images)
    inside = set(images)
    groups: dict[GroupImage, None] = {}
    for block, (x, y, z) in images:
        if blocks.kinds[block] != "linker":
            continue
        for _, other, neighbour, (u, v, w) in blocks.links[block]:
            image = (x + u, y + v, z + w)
            if (neighbour, image) not in inside and blocks.anchor[other] >= 0:
                groups[(int(blocks.anchor[other]), image)] = None
    return tuple(groups)
