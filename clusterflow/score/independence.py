"""Which labelled structures tell something of their own: those of one walk or one frame go wrong together."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from ase import Atoms

from clusterflow.core import keys
from clusterflow.core.data import IntArray


def independent_groups(frames: Sequence[Atoms]) -> IntArray:
    """(k,) a number for each structure, equal for those that depend on each other.

    Frames and fragments of one walk (`keys.WALK`) do; of what was not walked to, fragments of one frame
    (`keys.FRAME`); a structure that says nothing of where it comes from stands for itself.
    """
    known: dict[tuple[str, str], int] = {}
    return np.array([known.setdefault(_origin(a, k), len(known)) for k, a in enumerate(frames)], dtype=np.int64)


def _origin(atoms: Atoms, place: int) -> tuple[str, str]:
    for key in (keys.WALK, keys.FRAME):
        if atoms.info.get(key):
            return key, str(atoms.info[key])
    return "", str(place)
