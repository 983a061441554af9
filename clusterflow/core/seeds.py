"""Random seeds that follow from the campaign's seed and the name of what is random, never from time."""

from __future__ import annotations

from clusterflow.core.frames import digest


def derive_seed(seed: int, *parts: str | int) -> int:
    """A seed in [1, 2³¹ − 1] (zero means "from the clock" to some programs), equal for equal arguments."""
    value = int(digest(str(seed), *(str(p) for p in parts))[:12], 16)
    return value % (2**31 - 1) + 1
