"""How long walkers run: short walks while the potential is still poor."""

from __future__ import annotations

from collections.abc import Sequence

from clusterflow.errors import InputError


def steps_for(iteration: int, *, first: int = 200, growth: float = 2.0, maximum: int = 1000) -> int:
    """Steps of a walk in iteration 0, 1, 2, ...: ``first``, then ``growth`` times longer each time, up to ``maximum``.

    The maximum of 1000 steps of 0.5 fs is the 500 fs of Dobbelaere et al. 2025 (arXiv:2504.03881), section 3; their SI,
    section 4, shortens the first walks without numbers, so ``first`` and ``growth`` are this program's own.

    Raises
    ------
    InputError
        A negative iteration, first < 1, growth < 1 or maximum < first.
    """
    if iteration < 0 or first < 1 or not growth >= 1.0 or maximum < first:
        raise InputError(
            f"The schedule first = {first}, growth = {growth}, maximum = {maximum} (iteration {iteration}) makes no "
            "sense.",
            todo="Allowed: first 1 or more, growth 1 or more, maximum not below first.",
        )
    steps = float(first)
    for _ in range(iteration):
        if steps >= maximum:
            break
        steps *= growth
        if growth == 1.0:
            break
    return min(maximum, round(steps))


def steps_from_list(iteration: int, lengths: Sequence[int]) -> int:
    """The given number of steps for this iteration; the last one counts for all later iterations.

    Raises
    ------
    InputError
        An empty list, a length below 1 or a negative iteration.
    """
    if iteration < 0 or not lengths or min(lengths) < 1:
        raise InputError(
            f"The list of walk lengths {list(lengths)} makes no sense (iteration {iteration}).",
            todo="Give at least one length, each 1 step or more.",
        )
    return int(lengths[min(iteration, len(lengths) - 1)])
