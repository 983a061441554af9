"""Selection of single atoms, for materials without building blocks: dense covalent solids cut by spheres."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from ase import Atoms
from ase.geometry import find_mic

from clusterflow.core.data import FloatArray, Site
from clusterflow.core.frames import content_hash


@dataclass(frozen=True, slots=True)
class AtomSelector:
    """Ranks atoms by their novelty; implements `core.protocols.Selector`.

    Two atoms of one frame are not both chosen if they are closer than ``apart`` (Å): one sphere holds both.
    ``per_frame``: at most so many of one frame; None: no limit.
    """

    apart: float = 4.0
    per_frame: int | None = None

    def select(
        self,
        frames: Sequence[Atoms],
        scores: Sequence[FloatArray],
        *,
        budget: int,
        rng: np.random.Generator,  # noqa: ARG002 - nothing is random here
    ) -> list[Site]:
        """Up to ``budget`` sites, most novel first (NaN counts as unknown); ties in the order of frames and atoms."""
        novelty = [np.where(np.isnan(s), np.inf, s) for s in scores]
        ranked = sorted((-float(v), f, k) for f, own in enumerate(novelty) for k, v in enumerate(own))
        chosen: dict[int, list[int]] = {}
        sites: list[Site] = []
        for _, f, k in ranked:
            if len(sites) >= budget:
                break
            own = chosen.setdefault(f, [])
            if self.per_frame is not None and len(own) >= self.per_frame:
                continue
            atoms = frames[f]
            if own:
                _, distance = find_mic(atoms.positions[own] - atoms.positions[k], atoms.cell, atoms.pbc)
                if (distance < self.apart).any():
                    continue
            own.append(k)
            sites.append(Site(content_hash(atoms), k))
        return sites
