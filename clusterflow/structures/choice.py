"""Choosing some of many: by number, the first ones, or at random."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from clusterflow.core.data import IntArray
from clusterflow.errors import StructureError


def choose(
    available: int,
    *,
    count: int,
    which: int | Sequence[int] | None = None,
    rng: np.random.Generator | None = None,
    what: str,
    where: str,
) -> IntArray:
    """Places from 0 to ``available`` − 1: those given by ``which``, else ``count`` of them, the first or random ones.

    Raises
    ------
    StructureError
        Places that do not exist or are repeated, or more than there are; ``what`` (plural) and ``where`` name them.
    """
    if which is not None:
        chosen = [which] if isinstance(which, int) else list(which)
        if len(set(chosen)) != len(chosen) or not all(0 <= k < available for k in chosen):
            raise StructureError(
                f"There are no {what} {chosen} to choose from {available} {what}.",
                where=where,
                todo=f"Give different places from 0 to {available - 1}." if available else f"There are no {what} here.",
            )
        return np.sort(np.array(chosen, dtype=np.int64))
    if not 0 <= count <= available:
        raise StructureError(
            f"{count} {what} cannot be chosen from a structure with {available}.",
            where=where,
            todo="Ask for fewer, or take a larger cell.",
        )
    if rng is None:
        return np.arange(count)
    return np.sort(rng.choice(available, size=count, replace=False)).astype(np.int64)


def share(fraction: float, available: int, *, what: str, where: str) -> int:
    """``fraction`` of ``available`` as the nearest whole number.

    Raises
    ------
    StructureError
        The fraction is not between 0 and 1.
    """
    if not 0.0 <= fraction <= 1.0:
        raise StructureError(
            f"{fraction:g} is no fraction of {what}.", where=where, todo="Give a number from 0 to 1, such as 0.2."
        )
    return int(np.floor(fraction * available + 0.5))
