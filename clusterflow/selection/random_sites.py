"""The control that every choice must beat: atoms and frames at random."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from ase import Atoms

from clusterflow.core.data import FloatArray, Site
from clusterflow.core.frames import content_hash


@dataclass(frozen=True, slots=True)
class RandomSelector:
    """Random atoms of all frames, each atom as likely as any other; implements `core.protocols.Selector`.

    ``one_per_frame``: random frames instead, each once, for labels of whole frames.
    """

    one_per_frame: bool = False

    def select(
        self,
        frames: Sequence[Atoms],
        scores: Sequence[FloatArray],  # noqa: ARG002 - that is the point
        *,
        budget: int,
        rng: np.random.Generator,
    ) -> list[Site]:
        """``budget`` sites, or as many as there are. What is drawn depends on the frames, not on their order."""
        ordered = sorted((content_hash(a), len(a)) for a in frames)
        if self.one_per_frame:
            return [Site(ordered[i][0], 0) for i in rng.permutation(len(ordered))[:budget]]
        ends = np.cumsum([n for _, n in ordered], dtype=np.int64)
        total = int(ends[-1]) if len(ends) else 0
        drawn = rng.choice(total, size=min(budget, total), replace=False)
        places = np.searchsorted(ends, drawn, side="right")
        return [Site(ordered[f][0], int(k - (ends[f] - ordered[f][1]))) for f, k in zip(places, drawn, strict=True)]
