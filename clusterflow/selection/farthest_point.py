"""Farthest-point sampling of atoms in feature space: a control that spreads out, whatever the model knows.

The greedy choice is within a factor of two of the smallest possible covering radius: T. F. Gonzalez, Theor. Comput.
Sci. 38, 293 (1985), doi:10.1016/0304-3975(85)90224-5.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from ase import Atoms
from scipy.spatial import cKDTree

from clusterflow.core.data import FloatArray, IntArray, Site
from clusterflow.core.frames import content_hash


@dataclass(frozen=True)
class FarthestPointSelector:
    """Atoms far from all that is known and from each other; implements `core.protocols.Selector`.

    Parameters
    ----------
    features
        (n, d) of every frame.
    known_features, known_numbers
        (m, d) and (m,): atoms of the training set. Distances are taken among atoms of one element, each feature in
        units of its standard deviation over the known atoms of that element (over the frames, if none is known).
    groups
        Of every frame (n,): atoms that one fragment covers together (a building block); −1: none covers them.
    """

    features: Sequence[FloatArray]
    known_features: FloatArray
    known_numbers: IntArray
    groups: Sequence[IntArray]

    def select(
        self,
        frames: Sequence[Atoms],
        scores: Sequence[FloatArray],  # noqa: ARG002 - that is the point
        *,
        budget: int,
        rng: np.random.Generator,  # noqa: ARG002 - nothing is random here
    ) -> list[Site]:
        """Up to ``budget`` sites, the farthest first, each in a group of its own; atoms of an element that is not known
        are infinitely far. Ties fall to the frame of lower content hash and the lower index."""
        ids = [content_hash(a) for a in frames]
        order = sorted(range(len(frames)), key=lambda f: ids[f])
        if not order:
            return []
        numbers = np.concatenate([frames[f].numbers for f in order])
        points = np.concatenate([self.features[f] for f in order])
        first = np.concatenate([[0], np.cumsum([len(frames[f]) for f in order])])
        # One number per group of one frame, over all frames.
        own = [self.groups[f] for f in order]
        groups = np.concatenate([np.where(g >= 0, g + first[k], -1) for k, g in enumerate(own)])
        scaled, distance = self._from_known(points, numbers)
        distance[groups < 0] = -1.0
        sites: list[Site] = []
        while len(sites) < budget and distance.max() >= 0.0:
            best = int(np.argmax(distance))
            place = int(np.searchsorted(first, best, side="right")) - 1
            sites.append(Site(ids[order[place]], best - int(first[place])))
            members = np.flatnonzero(groups == groups[best])
            for z in np.unique(numbers[members]):
                tree = cKDTree(scaled[members[numbers[members] == z]])
                same = np.flatnonzero((numbers == z) & (distance >= 0.0))
                distance[same] = np.minimum(distance[same], tree.query(scaled[same])[0])
            distance[members] = -1.0
        return sites

    def _from_known(self, points: FloatArray, numbers: IntArray) -> tuple[FloatArray, FloatArray]:
        """Scaled features (n, d), and the distance (n,) of each to the nearest known atom of its element."""
        scaled = np.asarray(points, dtype=np.float64).copy()
        distance = np.full(len(points), np.inf)
        for z in np.unique(numbers):
            own, known = numbers == z, self.known_features[self.known_numbers == z]
            spread = (known if len(known) > 1 else points[own]).std(axis=0)
            scale = np.where(spread > 0, spread, 1.0)
            scaled[own] = points[own] / scale
            if len(known):
                distance[own] = cKDTree(known / scale).query(scaled[own])[0]
        return scaled, distance
