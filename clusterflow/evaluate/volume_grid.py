"""Whether a grid of volumes brackets the minimum of the energy, and if not, which `range:` probably does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

import numpy as np

from clusterflow.errors import ScienceError
from clusterflow.physics.eos import MIN_POINTS

_LOWEST, _HIGHEST = 0.2, 3.0
"""What `range:` allows."""
_NEAR = 5
"""Points of the parabola that tells where the minimum is."""
_FARTHEST = 2.0
"""Widths of the grid; farther away a parabola is no guess."""


def require_bracketed(
    ratios: Sequence[float], volumes: Sequence[float], energies: Sequence[float], failed: Mapping[float, str]
) -> None:
    """Returns if the lowest energy has two relaxed volumes or more on either side, and there are seven or more.

    ``ratios`` (to the input's volume, rising), ``volumes`` Å³ and ``energies`` eV of what could be relaxed; ``failed``:
    ratio → reason of the rest.

    Raises
    ------
    ScienceError
        Which volumes there are, where the minimum seems to be, and a range to try.
    """
    count = len(ratios)
    if count < MIN_POINTS:
        raise ScienceError(
            f"An equation of state needs energies at {MIN_POINTS} volumes or more; there are {count}"
            + (f": {_listed(ratios)} × the input's. {_lost(failed)}" if ratios else f". {_lost(failed)}").rstrip()
            + f" {_fewer(ratios, volumes, energies, failed)}",
            todo="Look at why relaxations failed: more `max_steps:`, another `optimiser:`, a larger `fmax:`, or a "
            "potential that holds the structure there; more `points:` if there are few. Volumes that stay are kept.",
        )
    lowest = int(np.argmin(energies))
    if 2 <= lowest <= count - 3:
        return
    end = "smallest" if lowest < 2 else "largest"
    place = "the" if lowest in (0, count - 1) else "next to the"
    beyond = {r: why for r, why in failed.items() if (r < ratios[0] if lowest < 2 else r > ratios[-1])}
    raise ScienceError(
        f"Volume grid outside the stable range: of {count} volumes from {ratios[0]:g} to {ratios[-1]:g} × the input's "
        f"the lowest energy is at {ratios[lowest]:g} × ({volumes[lowest]:.6g} Å³), {place} {end}. "
        + (f"{_lost(beyond)} " if beyond else "")
        + _moved(ratios, volumes, energies, failed, lowest),
        todo="Write that range into the property and run again: volumes that both grids have are kept.",
    )


def _moved(
    ratios: Sequence[float],
    volumes: Sequence[float],
    energies: Sequence[float],
    failed: Mapping[float, str],
    lowest: int,
) -> str:
    """Where the minimum seems to be, and the same grid moved there by whole steps."""
    near = slice(0, _NEAR) if lowest < 2 else slice(-_NEAR, None)
    guess = _parabola(ratios[near], energies[near])
    grid = sorted([*ratios, *failed])
    step, width = _step(grid), grid[-1] - grid[0]
    sign = -1.0 if lowest < 2 else 1.0
    outwards = sign * ((guess or 0.0) - ratios[lowest])
    if guess is None or outwards < -2.0 * step or outwards > _FARTHEST * width:
        side = "smaller" if lowest < 2 else "larger"
        told, centre = f"It lies at {side} volumes, how far cannot be told from these", ratios[lowest]
    else:
        size = guess * volumes[lowest] / ratios[lowest]
        told, centre = f"A parabola through the {_NEAR} there has its minimum near {guess:.3g} × ({size:.5g} Å³)", guess
    steps = round(sign * (centre - (grid[0] + grid[-1]) / 2.0) / step)
    if steps < 1 and failed:  # the grid covers that side already
        return (
            f"{told}, beside volumes that could not be relaxed: mend these first (more `max_steps:`, a larger "
            f"`fmax:`), or lay the grid closer: try `range: [{centre - 2 * step:.6g}, {centre + 2 * step:.6g}]`."
        )
    steps = max(1, steps)
    low, high = grid[0] + sign * steps * step, grid[-1] + sign * steps * step
    if low < _LOWEST or high > _HIGHEST:
        return f"{told}, outside of what `range:` allows: does the potential hold this structure together at all?"
    return f"{told}: try `range: [{low:.6g}, {high:.6g}]`."


def _fewer(
    ratios: Sequence[float], volumes: Sequence[float], energies: Sequence[float], failed: Mapping[float, str]
) -> str:
    """The same where too few volumes could be relaxed: a range among those."""
    if len(ratios) < 3:
        return "Where the minimum is cannot be told from so few; try `range: [0.98, 1.02]`."
    guess = _parabola(ratios, energies)
    lowest = int(np.argmin(energies))
    step = _step(sorted([*ratios, *failed]))
    if guess is None or not ratios[0] - step <= guess <= ratios[-1] + step:
        guess = ratios[lowest]
    half = max(min(guess - ratios[0], ratios[-1] - guess), step)
    size = guess * volumes[lowest] / ratios[lowest]
    return (
        f"The minimum seems to be near {guess:.3g} × ({size:.5g} Å³): try `range: [{guess - half:.3f}, "
        f"{guess + half:.3f}]` with `points: 9`."
    )


def _parabola(x: Sequence[float], y: Sequence[float]) -> float | None:
    """Abscissa of the minimum of the parabola through points, None if it has none."""
    middle = float(np.mean(x))
    c2, c1, _ = np.polyfit(np.asarray(x) - middle, np.asarray(y) - min(y), 2)
    return float(middle - c1 / (2.0 * c2)) if c2 > 0.0 else None


def _step(grid: Sequence[float]) -> float:
    return float(np.median([b - a for a, b in pairwise(grid)]))


def _lost(failed: Mapping[float, str]) -> str:
    """Which volumes could not be relaxed, and why the first of them."""
    if not failed:
        return ""
    return f"Not relaxed: {_listed(sorted(failed))} × the input's ({failed[min(failed)].rstrip('.')})."


def _listed(ratios: Sequence[float], most: int = 12) -> str:
    shown = [f"{r:.4g}" for r in ratios]
    return ", ".join(shown) if len(shown) <= most else f"{', '.join(shown[:most])} and {len(shown) - most} more"
