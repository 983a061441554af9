"""Dividing things: labels into training and validation, walkers among systems. Pure functions."""

from __future__ import annotations

from collections.abc import Sequence

from clusterflow.core.frames import digest


def split_validation(
    keys: Sequence[str], *, fraction: float, seed: int, already: tuple[int, int] = (0, 0)
) -> tuple[list[str], list[str]]:
    """Splits new labels so that the whole set comes as close to ``fraction`` as whole labels allow.

    Random by key and seed, so that it does not depend on the order in which labels arrive (Dobbelaere 2025, SI 4: new
    structures are randomly distributed over the two subsets, following a fixed fraction).

    Parameters
    ----------
    keys
        The new labels.
    fraction
        Share of validation in the whole set.
    already
        How many are in training and validation so far.

    Returns
    -------
    training, validation
        Each in the order given.
    """
    train_before, validation_before = already
    total = train_before + validation_before + len(keys)
    want = round(fraction * total) - validation_before
    if total >= 2 and validation_before == 0:
        want = max(want, 1)
    most = len(keys) - 1 if train_before == 0 else len(keys)
    want = max(0, min(want, most))
    chosen = set(sorted(keys, key=lambda k: digest(str(seed), k))[:want])
    return [k for k in keys if k not in chosen], [k for k in keys if k in chosen]


def shares(weights: Sequence[float], total: int) -> list[int]:
    """Splits ``total`` by weight (largest remainder), at least one each."""
    total = max(total, len(weights))
    exact = [w / sum(weights) * total for w in weights]
    counts = [max(1, int(x)) for x in exact]
    order = sorted(range(len(weights)), key=lambda i: (counts[i] - exact[i], i))
    for i in order:
        if sum(counts) >= total:
            break
        counts[i] += 1
    while sum(counts) > total:
        counts[counts.index(max(counts))] -= 1
    return counts
