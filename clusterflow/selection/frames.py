"""Selection of whole frames, where nothing is cut: molecules, and periodic cells small enough to be labelled."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from ase import Atoms

from clusterflow.core.data import FloatArray, Site
from clusterflow.core.frames import content_hash


@dataclass(frozen=True, slots=True)
class FrameSelector:
    """Ranks frames by their most novel atom; implements `core.protocols.Selector`."""

    def select(
        self,
        frames: Sequence[Atoms],
        scores: Sequence[FloatArray],
        *,
        budget: int,
        rng: np.random.Generator,  # noqa: ARG002 - nothing is random here
    ) -> list[Site]:
        """The most novel atom of each of the ``budget`` most novel frames, most novel first; ties in their order."""
        order = sorted(range(len(frames)), key=lambda i: -float(np.max(scores[i])))
        return [Site(content_hash(frames[i]), int(np.argmax(scores[i]))) for i in order[:budget]]
